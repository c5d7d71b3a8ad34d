//! What a node dropped, as it is told to others: bytes and bounds. What counts as dropped, and what to do about it, is the agent's
//! business.

use std::time::Duration;

use bytes::Bytes;

use super::plain::plain;
use super::v2;
use super::wire::Question;
use crate::clock::millis;
use crate::model::{EndpointName, NetworkId};

/// Asked: nothing; answered: a [`v2::DropsTold`].
const DROPS: u16 = 11;
/// The most counts of one answer, and the longest name of a reason, in characters.
const DROPS_MAX: usize = 8192;
const REASON_MAX: usize = 64;

/// What a node dropped since its agent began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToldDrops {
    /// How old what its kernel counted is.
    pub age: Duration,
    /// The counts, sums first.
    pub drops: Vec<ToldDrop>,
}

/// How often a node dropped something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldDrop {
    /// Why, in one word.
    pub reason: String,
    /// In which network; `None` where it is of the node.
    pub network: Option<NetworkId>,
    /// What came from which endpoint; `None`: a sum.
    pub endpoint: Option<EndpointName>,
    /// How often.
    pub count: u64,
}

/// Whether this is what is asked.
pub(super) fn is_asked(question: &Question) -> bool {
    question.number == DROPS
}

/// What is answered.
pub(super) fn on_wire(told: ToldDrops) -> Bytes {
    let drops = told.drops.into_iter().take(DROPS_MAX).map(|drop| v2::DropTold {
        reason: plain(&drop.reason, REASON_MAX),
        network: drop.network.map(|network| *network.as_bytes()),
        endpoint: drop.endpoint.map(|name| name.to_string()),
        count: drop.count,
    });
    v2::pack(&v2::DropsTold { age_ms: millis(told.age), drops: drops.collect() })
}

/// What another node answered. What is of an endpoint with a name that none can have is left out.
pub(super) fn read(answer: &[u8]) -> Option<ToldDrops> {
    let v2::DropsTold { age_ms, drops } = v2::unpack(answer)?;
    let drop = |drop: v2::DropTold| {
        Some(ToldDrop {
            reason: plain(&drop.reason, REASON_MAX),
            network: drop.network.map(NetworkId::from_bytes),
            endpoint: drop.endpoint.map(|name| name.parse()).transpose().ok()?,
            count: drop.count,
        })
    };
    let drops = drops.into_iter().take(DROPS_MAX).filter_map(drop).collect();
    Some(ToldDrops { age: Duration::from_millis(age_ms), drops })
}

/// What a node is asked.
pub(super) fn question() -> Question {
    Question { number: DROPS, body: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_on_both_sides_and_has_nothing_that_is_not_for_people() {
        let drop = ToldDrop {
            reason: "\u{e9}\u{1b}[1m".repeat(40),
            network: Some(NetworkId::from_bytes([7; 8])),
            endpoint: Some("web".parse().unwrap()),
            count: u64::MAX,
        };
        let told = ToldDrops { age: Duration::from_millis(70), drops: vec![drop.clone(); 20_000] };
        let answer = on_wire(told);
        assert!(answer.len() < super::super::wire::MAX_FRAME / 2, "{}", answer.len());
        let told = read(&answer).expect("reads back");
        assert_eq!((told.age, told.drops.len()), (Duration::from_millis(70), DROPS_MAX));
        let first = &told.drops[0];
        assert_eq!((first.reason.chars().count(), first.reason.contains('\u{1b}')), (REASON_MAX, false));
        assert_eq!((first.network, &first.endpoint, first.count), (drop.network, &drop.endpoint, drop.count));
        for end in 0..200 {
            read(&answer[..end]);
        }
    }

    #[test]
    fn what_is_of_no_endpoint_that_there_can_be_is_left_out() {
        let drop = |endpoint: Option<&str>| v2::DropTold {
            reason: "r".to_owned(),
            network: None,
            endpoint: endpoint.map(str::to_owned),
            count: 1,
        };
        let drops = vec![drop(Some("a b")), drop(None), drop(Some("web"))];
        let told = read(&v2::pack(&v2::DropsTold { age_ms: 0, drops })).unwrap();
        let names: Vec<_> =
            told.drops.into_iter().map(|drop| drop.endpoint.map(|name| name.to_string())).collect();
        assert_eq!(names, [None, Some("web".to_owned())]);
    }
}
