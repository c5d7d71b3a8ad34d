//! What happened on a node, as it is told to others: bytes and bounds. What an event means is the agent's business.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::v2;
use super::wire::Question;

/// Asked: a [`v2::EventsWish`]; answered: a [`v2::EventsTold`].
const EVENTS: u16 = 10;
/// The most events of one answer: with the longest messages they fit it.
const TOLD_MAX: u32 = 512;
/// The longest texts that are taken of another node, in bytes.
const WORD_MAX: usize = 64;
const MESSAGE_MAX: usize = 2100;

/// An event as nodes tell it each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldEvent {
    /// Its number on its node: grows with every event there.
    pub seq: u64,
    /// When, in milliseconds since 1970, by the node's clock.
    pub time_ms: u64,
    /// What, in one word.
    pub kind: String,
    /// The node that it is about.
    pub node: Option<String>,
    /// The network.
    pub network: Option<String>,
    /// The endpoint.
    pub endpoint: Option<String>,
    /// The same for people.
    pub message: String,
}

/// What a node tells of what happened there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Some that were to be here are not kept any more.
    pub missed: bool,
    /// There are more.
    pub more: bool,
    /// The oldest first.
    pub events: Vec<ToldEvent>,
}

/// Tells what happened on this node.
pub trait Tell: Send + Sync {
    /// The events after number `after`, no older than `since_ms`, `most` at most. Waits for nobody.
    fn tell(&self, after: u64, since_ms: u64, most: usize) -> Told;
}

/// Why a node does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untold {
    /// It is of a release that cannot.
    Older,
    /// It does not answer.
    Silent(String),
}

/// Who tells of this node, once there is somebody.
#[derive(Default)]
pub(super) struct Teller(pub OnceLock<Arc<dyn Tell>>);

impl Teller {
    /// What is answered to a question; `None` where it is another one.
    pub fn answer(&self, question: &Question) -> Option<Bytes> {
        if question.number != EVENTS {
            return None;
        }
        let v2::EventsWish { after, since_ms, most } = v2::unpack(&question.body)?;
        let most = most.min(TOLD_MAX) as usize;
        let told = self.0.get().map(|teller| teller.tell(after, since_ms, most)).unwrap_or_default();
        let Told { missed, more, events } = told;
        let events = events.into_iter().map(|event| {
            let ToldEvent { seq, time_ms, kind, node, network, endpoint, message } = event;
            v2::Event { seq, time_ms, kind, node, network, endpoint, message }
        });
        Some(v2::pack(&v2::EventsTold { missed, more, events: events.collect() }))
    }
}

/// What another node answered; what is longer than it may be is cut, and control characters go: it is for people.
pub(super) fn read(answer: &[u8]) -> Option<Told> {
    let v2::EventsTold { missed, more, events } = v2::unpack(answer)?;
    let plain = |text: String, most: usize| -> String {
        let mut left = most;
        let fits = |letter: &char| {
            let fits = letter.len_utf8() <= left;
            left = left.saturating_sub(letter.len_utf8());
            fits
        };
        text.chars().filter(|letter| !letter.is_control()).take_while(fits).collect()
    };
    let word = |text: Option<String>| text.map(|text| plain(text, WORD_MAX));
    let event = |event: v2::Event| {
        let v2::Event { seq, time_ms, kind, node, network, endpoint, message } = event;
        let (node, network, endpoint) = (word(node), word(network), word(endpoint));
        let (kind, message) = (plain(kind, WORD_MAX), plain(message, MESSAGE_MAX));
        ToldEvent { seq, time_ms, kind, node, network, endpoint, message }
    };
    Some(Told { missed, more, events: events.into_iter().take(TOLD_MAX as usize).map(event).collect() })
}

/// What a node is asked.
pub(super) fn question(after: u64, since_ms: u64) -> Question {
    Question { number: EVENTS, body: v2::pack(&v2::EventsWish { after, since_ms, most: TOLD_MAX }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has so many events, numbered from 1.
    struct Many(u64);

    impl Tell for Many {
        fn tell(&self, after: u64, _: u64, most: usize) -> Told {
            let events = (after + 1..=self.0).take(most).map(|seq| ToldEvent {
                seq,
                time_ms: seq,
                kind: "alarm".to_owned(),
                node: Some("n\u{1b}[1m".to_owned()),
                network: None,
                endpoint: None,
                message: "\u{e9}".repeat(2000) + "\n",
            });
            Told { missed: false, more: self.0 > after + most as u64, events: events.collect() }
        }
    }

    fn ask(teller: &Teller, number: u16, after: u64, most: u32) -> Option<Bytes> {
        let body = v2::pack(&v2::EventsWish { after, since_ms: 0, most });
        teller.answer(&Question { number, body })
    }

    #[test]
    fn an_answer_is_bounded_on_both_sides_and_has_nothing_that_is_not_for_people() {
        let teller = Teller::default();
        assert_eq!(read(&ask(&teller, EVENTS, 0, 9).expect("is answered")), Some(Told::default()));
        assert!(teller.0.set(Arc::new(Many(10_000))).is_ok());
        let answer = ask(&teller, EVENTS, 5, u32::MAX).expect("is answered");
        assert!(answer.len() < super::super::wire::MAX_FRAME / 2, "{}", answer.len());
        let told = read(&answer).expect("reads back");
        assert!(told.more && !told.missed);
        assert_eq!((told.events.len(), told.events[0].seq), (TOLD_MAX as usize, 6));
        assert_eq!(told.events[0].node.as_deref(), Some("n[1m"));
        assert_eq!(told.events[0].message.len(), MESSAGE_MAX);
        assert_eq!(ask(&teller, EVENTS - 1, 0, 9), None);
        assert_eq!(teller.answer(&Question { number: EVENTS, body: Bytes::new() }), None);
        for end in 0..200 {
            read(&answer[..end]);
        }
    }
}
