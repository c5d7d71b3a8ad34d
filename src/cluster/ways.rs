//! How the ways from a node to the others are, as it is told to others: bytes and bounds. What a way is, and what is tried, is the
//! agent's business.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use super::plain::plain;
use super::v2;
use super::wire::Question;
use crate::clock::millis;
use crate::model::{NetworkId, NodeId};

/// Asked: nothing; answered: a [`v2::WaysTold`].
const WAYS: u16 = 13;
/// The most ways of one answer, and the longest sentence about one, in characters: with these it fits.
const WAYS_MAX: usize = 4096;
const TEXT_MAX: usize = 400;
/// How many ways of one answer have sentences: where so many are not well, it is one fault.
const SAID_MAX: usize = 512;

/// What is known of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayState {
    /// Nothing yet.
    Untried,
    /// Packets of full size pass both ways.
    Whole,
    /// Smaller ones only, up to so many bytes.
    Small(u16),
    /// What the node sends does not arrive.
    Unheard,
    /// Nothing comes from the other one.
    Silent,
}

/// A way from a node to another one, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldWay {
    /// To which node.
    pub peer: NodeId,
    /// In which network.
    pub network: NetworkId,
    /// How it is.
    pub state: WayState,
    /// Whether it leads through the WireGuard mesh.
    pub encrypted: bool,
    /// The largest packet that should pass, in bytes.
    pub size: u16,
    /// For how long it is so.
    pub since: Duration,
    /// How long ago something came from the other node.
    pub heard: Option<Duration>,
    /// How many probes were sent lately.
    pub sent: u32,
    /// How many of them were not answered.
    pub lost: u32,
    /// What is wrong; empty where nothing is.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// Tells how the ways from this node are.
pub trait TellWays: Send + Sync {
    /// All of them. Waits for nobody.
    fn tell(&self) -> Vec<ToldWay>;
}

/// Who tells of this node, once there is somebody.
#[derive(Default)]
pub(super) struct WaysTeller(pub OnceLock<Arc<dyn TellWays>>);

impl WaysTeller {
    /// What is answered to a question; `None` where it is another one.
    pub fn answer(&self, question: &Question) -> Option<Bytes> {
        if question.number != WAYS {
            return None;
        }
        let ways = self.0.get().map(|teller| teller.tell()).unwrap_or_default();
        let mut said = 0;
        let ways = ways.into_iter().take(WAYS_MAX).map(|mut way| {
            said += usize::from(!way.what.is_empty());
            if said > SAID_MAX {
                (way.what, way.hint) = Default::default();
            }
            on_wire(way)
        });
        Some(v2::pack(&v2::WaysTold { ways: ways.collect() }))
    }
}

fn on_wire(way: ToldWay) -> v2::WayTold {
    let (verdict, carries) = match way.state {
        WayState::Untried => (0, way.size),
        WayState::Whole => (1, way.size),
        WayState::Small(carries) => (2, carries),
        WayState::Unheard => (3, 0),
        WayState::Silent => (4, 0),
    };
    v2::WayTold {
        peer: *way.peer.as_bytes(),
        network: *way.network.as_bytes(),
        verdict,
        encrypted: way.encrypted,
        size: way.size,
        carries,
        since_ms: millis(way.since),
        heard_ms: way.heard.map(millis),
        sent: way.sent,
        lost: way.lost,
        what: plain(&way.what, TEXT_MAX),
        hint: plain(&way.hint, TEXT_MAX),
    }
}

/// What another node answered. A verdict of a later release is as none.
pub(super) fn read(answer: &[u8]) -> Option<Vec<ToldWay>> {
    let v2::WaysTold { ways } = v2::unpack(answer)?;
    let way = |way: v2::WayTold| ToldWay {
        peer: NodeId::from_bytes(way.peer),
        network: NetworkId::from_bytes(way.network),
        state: match way.verdict {
            1 => WayState::Whole,
            2 => WayState::Small(way.carries),
            3 => WayState::Unheard,
            4 => WayState::Silent,
            _ => WayState::Untried,
        },
        encrypted: way.encrypted,
        size: way.size,
        since: Duration::from_millis(way.since_ms),
        heard: way.heard_ms.map(Duration::from_millis),
        sent: way.sent,
        lost: way.lost.min(way.sent),
        what: plain(&way.what, TEXT_MAX),
        hint: plain(&way.hint, TEXT_MAX),
    };
    Some(ways.into_iter().take(WAYS_MAX).map(way).collect())
}

/// What a node is asked.
pub(super) fn question() -> Question {
    Question { number: WAYS, body: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has so many ways, all of which are ill.
    struct Many(usize);

    fn way(n: usize) -> ToldWay {
        ToldWay {
            peer: NodeId::from_bytes([2; 16]),
            network: NetworkId::from_bytes([7; 8]),
            state: if n.is_multiple_of(2) { WayState::Small(1400) } else { WayState::Silent },
            encrypted: true,
            size: 1450,
            since: Duration::from_secs(3),
            heard: Some(Duration::from_millis(70)),
            sent: 64,
            lost: 64,
            what: "\u{e9}\u{1b}[1m".repeat(400),
            hint: "h".to_owned(),
        }
    }

    impl TellWays for Many {
        fn tell(&self) -> Vec<ToldWay> {
            (0..self.0).map(way).collect()
        }
    }

    #[test]
    fn an_answer_is_bounded_on_both_sides_and_has_nothing_that_is_not_for_people() {
        let teller = WaysTeller::default();
        let ask = |number| teller.answer(&Question { number, body: Bytes::new() });
        assert_eq!(read(&ask(WAYS).expect("is answered")), Some(Vec::new()));
        assert!(teller.0.set(Arc::new(Many(10_000))).is_ok());
        let answer = ask(WAYS).expect("is answered");
        assert!(answer.len() < super::super::wire::MAX_FRAME / 2, "{}", answer.len());
        let told = read(&answer).expect("reads back");
        assert_eq!(told.len(), WAYS_MAX);
        assert_eq!(told[0].what.chars().count(), TEXT_MAX);
        assert!(!told[0].what.contains('\u{1b}') && told[SAID_MAX].what.is_empty());
        assert_eq!((told[0].state, told[1].state), (WayState::Small(1400), WayState::Silent));
        assert_eq!((told[0].since, told[0].heard), (way(0).since, way(0).heard));
        assert_eq!(ask(WAYS - 1), None);
        for end in 0..200 {
            read(&answer[..end]);
        }
    }
}
