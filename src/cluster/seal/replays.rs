//! Which datagrams were seen, and who has shown that it speaks now.
//!
//! Owns: a window of sequence numbers for each sender (RFC 4303 section 3.4.3), and the numbers by which a window is
//! opened. Nothing depends on clocks: they are wrong exactly when a cluster is in trouble.
//!
//! A node that starts has no windows, and cannot tell what is said now from what was recorded before. So it takes nothing
//! from a sender that has not answered a number that it drew since.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Opened;
use crate::cluster::facts::Incarnation;
use crate::model::NodeId;

/// What is known of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Judged {
    /// It was not seen before.
    New,
    /// It was seen, or is older than what can be told.
    Seen,
    /// Its sender has not shown since this node started that it speaks now.
    Unknown,
}

/// The windows of all senders.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Replays {
    windows: BTreeMap<NodeId, Window>,
    asked: BTreeMap<NodeId, Asked>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    incarnation: Incarnation,
    highest: u64,
    seen: u64,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    at: Duration,
}

impl Replays {
    /// Whether this datagram is new; from now on it is not. To be asked about members only.
    pub fn judge(&mut self, opened: &Opened) -> Judged {
        let (incarnation, sequence) = (opened.incarnation, opened.sequence);
        let Some(window) = self.windows.get_mut(&opened.sender) else { return Judged::Unknown };
        if incarnation < window.incarnation {
            return Judged::Seen;
        }
        if incarnation > window.incarnation {
            *window = Window { incarnation, highest: 0, seen: 0 };
        }
        if sequence > window.highest {
            let shift = sequence - window.highest;
            window.seen = if shift < 64 { window.seen << shift | 1 } else { 1 };
            window.highest = sequence;
            return Judged::New;
        }
        let age = window.highest - sequence;
        if age >= 64 || window.seen >> age & 1 == 1 {
            return Judged::Seen;
        }
        window.seen |= 1 << age;
        Judged::New
    }

    /// The number that a sender which is not known is to be asked for; `None` where it is known, or was asked less than
    /// `pause` ago. The number stays until it is answered.
    pub fn challenge(&mut self, node: NodeId, now: Duration, pause: Duration) -> Option<u64> {
        if self.windows.contains_key(&node) {
            return None;
        }
        self.ask(node, now, pause)
    }

    /// The number that a sender is to be asked for of which something was seen before, or is older than what was: it may be
    /// somebody who plays it again, or a sender that was set back. As [`Replays::challenge`] otherwise.
    pub fn doubt(&mut self, node: NodeId, now: Duration, pause: Duration) -> Option<u64> {
        self.windows.contains_key(&node).then(|| self.ask(node, now, pause)).flatten()
    }

    /// Whether a datagram that was not new says the number which its sender was asked for: then that lives, and was set
    /// back. Its window stays where it is: what was said behind that may have been recorded.
    pub fn is_set_back(&mut self, opened: &Opened, number: u64) -> bool {
        let right = self.asked.get(&opened.sender).is_some_and(|asked| asked.number == number);
        if right {
            self.asked.remove(&opened.sender);
        }
        right
    }

    /// A sender that is where it was thought to be has answered: what it was asked for is asked no more.
    pub fn answered(&mut self, node: NodeId) {
        self.asked.remove(&node);
    }

    fn ask(&mut self, node: NodeId, now: Duration, pause: Duration) -> Option<u64> {
        match self.asked.get_mut(&node) {
            Some(asked) if now < asked.at + pause => None,
            Some(asked) => {
                asked.at = now;
                Some(asked.number)
            }
            None => {
                // Nobody who recorded anything before can know it.
                let number = rand::random();
                self.asked.insert(node, Asked { number, at: now });
                Some(number)
            }
        }
    }

    /// Opens the window of a sender that says the number which it was asked for; `false` where it says another.
    pub fn prove(&mut self, opened: &Opened, number: u64) -> bool {
        let right = self.asked.get(&opened.sender).is_some_and(|asked| asked.number == number);
        if right {
            self.open(opened.sender, opened.incarnation, opened.sequence);
        }
        right
    }

    /// Takes what a sender says after this from now on.
    pub fn open(&mut self, sender: NodeId, incarnation: Incarnation, sequence: u64) {
        self.asked.remove(&sender);
        // What it said before that may have been recorded: as if all of it had been seen.
        self.windows.insert(sender, Window { incarnation, highest: sequence, seen: u64::MAX });
    }

    /// Forgets the senders that are not wanted.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.windows.retain(|node, _| keep(*node));
        self.asked.retain(|node, _| keep(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::version::Protocols;

    const A: NodeId = NodeId::from_bytes([1; 16]);

    fn said(incarnation: Incarnation, sequence: u64) -> Opened {
        Opened { sender: A, protocols: Protocols::SPOKEN, incarnation, sequence, body: Vec::new() }
    }

    #[test]
    fn a_repeated_datagram_is_seen_and_a_reordered_one_is_taken_once() {
        let mut replays = Replays::default();
        replays.open(A, 1, 0);
        let mut is_new = |incarnation, sequence| replays.judge(&said(incarnation, sequence)) == Judged::New;
        assert!(is_new(1, 1) && is_new(1, 3) && is_new(1, 2));
        assert!(!is_new(1, 1) && !is_new(1, 2) && !is_new(1, 3));
        assert!(is_new(1, 100) && is_new(1, 37) && !is_new(1, 36), "the window is 64 wide");
        assert!(is_new(2, 1), "a restart begins anew");
        assert!(!is_new(1, 101), "nothing of an older start is taken");
        assert!(is_new(2, u64::MAX) && !is_new(2, u64::MAX));
    }

    #[test]
    fn a_sender_is_believed_from_its_answer_on_and_nothing_that_it_said_before() {
        let mut replays = Replays::default();
        let pause = Duration::from_millis(100);
        assert_eq!(replays.judge(&said(1, 5)), Judged::Unknown);
        let number = replays.challenge(A, Duration::ZERO, pause).unwrap();
        assert_eq!(replays.challenge(A, pause / 2, pause), None, "not for each datagram");
        assert_eq!(replays.challenge(A, pause, pause), Some(number), "a late answer is good");
        assert!(!replays.prove(&said(1, 6), number.wrapping_add(1)));
        assert_eq!(replays.judge(&said(1, 6)), Judged::Unknown);
        assert!(replays.prove(&said(1, 7), number));
        assert_eq!(replays.judge(&said(1, 6)), Judged::Seen, "it may have been recorded");
        assert_eq!(replays.judge(&said(1, 8)), Judged::New);
        assert!(!replays.prove(&said(1, 9), number), "an answer is good once");
    }

    #[test]
    fn a_sender_that_was_set_back_shows_that_it_lives_and_nothing_that_was_recorded_counts_by_that() {
        let mut replays = Replays::default();
        let pause = Duration::from_millis(500);
        replays.open(A, 3, 1000);
        assert_eq!(replays.judge(&said(3, 50)), Judged::Seen);
        let number = replays.doubt(A, Duration::ZERO, pause).unwrap();
        assert_eq!(replays.doubt(A, pause / 2, pause), None, "not for each datagram");
        assert!(!replays.is_set_back(&said(3, 51), number.wrapping_add(1)));
        assert!(replays.is_set_back(&said(3, 51), number));
        assert!(!replays.is_set_back(&said(3, 52), number), "an answer is good once");
        assert_eq!(replays.judge(&said(3, 53)), Judged::Seen);
        assert_eq!(replays.judge(&said(4, 1)), Judged::New, "it goes on in another incarnation");
        let number = replays.doubt(A, pause, pause).unwrap();
        replays.answered(A);
        assert!(!replays.is_set_back(&said(4, 1), number), "an answer that was recorded is good for nothing");
    }
}
