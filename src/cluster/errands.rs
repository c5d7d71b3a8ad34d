//! Asking a node to look at its part of a path, and handing to the agent what others ask.
//!
//! Owns: the question and its bounds, on both sides. Does not own what is looked at, and what follows from it (the agent).

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::desk::TraceRequest;
use super::handle::Cluster;
use super::plain::plain;
use super::streams::Streams;
use super::v2;
use super::wire::Question;
use crate::model::{Cast, Errand, GroupAddr, Hop, NetworkId, NodeId, Weight, Wrong};

/// Asked: a [`v2::TraceErrand`]; answered: a [`v2::Traced`].
const TRACE: u16 = 8;
/// What is believed of an answer: so many parts, so many faults in one, and texts of so many characters.
const HOPS_MAX: usize = 64;
const WRONG_MAX: usize = 16;
const TEXT_MAX: usize = 600;

impl Streams {
    /// The answer to a question about a path; `None` where it is none, makes no sense, or the agent is busy.
    pub(super) async fn answer_of_traces(&self, question: &Question) -> Option<Bytes> {
        if question.number != TRACE {
            return None;
        }
        let errand = present(v2::unpack(&question.body)?)?;
        let hops = self.traces.ask(|answer| TraceRequest { errand, answer }).await;
        // One that is busy says so: a refusal would say that it does not know the question.
        let hops = hops.unwrap_or_else(|| {
            let mut hop = Hop::new("node", "busy");
            hop.wrong(Weight::Aside, "it is busy with other traces", "try again");
            vec![hop]
        });
        Some(v2::pack(&v2::Traced { hops: hops.iter().map(frozen_hop).collect() }))
    }
}

impl Cluster {
    /// What others ask of this node's agent about paths; there is one who takes it.
    pub fn trace_requests(&self) -> Option<mpsc::Receiver<TraceRequest>> {
        self.0.streams.traces.requests()
    }

    /// Asks a node to look at its part of a path. Waits for as long as it takes: the caller has a deadline.
    ///
    /// # Errors
    /// It does not answer, or is of a release that knows no such question.
    pub async fn ask_trace(&self, node: NodeId, errand: &Errand) -> io::Result<Vec<Hop>> {
        let question = Question { number: TRACE, body: v2::pack(&frozen(errand)) };
        let found: v2::Traced = self.question(node, question).await?;
        Ok(found.hops.into_iter().take(HOPS_MAX).map(present_hop).collect())
    }
}

fn frozen(errand: &Errand) -> v2::TraceErrand {
    let Errand { network, here, node, there, cast, inward, port } = errand;
    let (cast, group) = match cast {
        Cast::One => (0, None),
        Cast::Service => (1, None),
        Cast::Group(group) => (2, Some(group.ip())),
        Cast::All => (3, None),
        Cast::Published => (4, None),
    };
    v2::TraceErrand {
        network: *network.as_bytes(),
        here: here.as_ref().map(ToString::to_string),
        node: *node.as_bytes(),
        there: there.as_ref().map(ToString::to_string),
        cast,
        group,
        inward: *inward,
        port: *port,
    }
}

fn present(errand: v2::TraceErrand) -> Option<Errand> {
    let cast = match (errand.cast, errand.group) {
        (0, None) => Cast::One,
        (1, None) => Cast::Service,
        (2, Some(group)) => Cast::Group(GroupAddr::try_from(group).ok()?),
        (3, None) => Cast::All,
        (4, None) => Cast::Published,
        _ => return None,
    };
    let name =
        |name: Option<String>| name.map(|name| name.parse().ok()).map_or(Some(None), |name| name.map(Some));
    Some(Errand {
        network: NetworkId::from_bytes(errand.network),
        here: name(errand.here)?,
        node: NodeId::from_bytes(errand.node),
        there: name(errand.there)?,
        cast,
        inward: errand.inward,
        port: errand.port,
    })
}

fn frozen_hop(hop: &Hop) -> v2::TracedHop {
    let weight = |weight: Weight| match weight {
        Weight::Cause => 0,
        Weight::Symptom => 1,
        Weight::Vague => 2,
        Weight::Aside => 3,
    };
    let wrong = |wrong: &Wrong| (text(&wrong.what), text(&wrong.hint), weight(wrong.weight));
    v2::TracedHop {
        part: text(&hop.part),
        found: text(&hop.found),
        wrong: hop.wrong.iter().map(wrong).collect(),
    }
}

fn present_hop(hop: v2::TracedHop) -> Hop {
    let weight = |weight: u8| match weight {
        0 => Weight::Cause,
        1 => Weight::Symptom,
        2 => Weight::Vague,
        _ => Weight::Aside,
    };
    let wrong = hop.wrong.into_iter().take(WRONG_MAX).map(|(what, hint, of)| Wrong {
        what: text(&what),
        hint: text(&hint),
        weight: weight(of),
    });
    Hop { part: text(&hop.part), found: text(&hop.found), wrong: wrong.collect() }
}

fn text(text: &str) -> String {
    plain(text, TEXT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errand(cast: Cast) -> Errand {
        Errand {
            network: NetworkId::from_bytes([7; 8]),
            here: Some("c1".parse().unwrap()),
            node: NodeId::from_bytes([2; 16]),
            there: None,
            cast,
            inward: true,
            port: Some(80),
        }
    }

    #[test]
    fn an_errand_comes_as_it_went_and_one_without_sense_does_not() {
        let group = Cast::Group("239.1.1.1".parse().unwrap());
        for cast in [Cast::One, Cast::Service, group, Cast::All, Cast::Published] {
            assert_eq!(present(frozen(&errand(cast))), Some(errand(cast)));
        }
        let sound = frozen(&errand(Cast::One));
        assert_eq!(present(v2::TraceErrand { cast: 2, ..sound.clone() }), None);
        assert_eq!(present(v2::TraceErrand { cast: 9, ..sound.clone() }), None);
        assert_eq!(present(v2::TraceErrand { here: Some("a b".into()), ..sound }), None);
    }

    #[test]
    fn what_another_node_says_is_one_line_and_bounded() {
        let mut hop = Hop::new("fdb\n", "x".repeat(10_000));
        (0..40).for_each(|_| hop.wrong(Weight::Vague, "a\u{1b}[2J", "b"));
        let told = present_hop(v2::TracedHop {
            part: hop.part.clone(),
            found: hop.found.clone(),
            wrong: hop.wrong.iter().map(|wrong| (wrong.what.clone(), wrong.hint.clone(), 2)).collect(),
        });
        assert_eq!((told.part.as_str(), told.found.len(), told.wrong.len()), ("fdb", TEXT_MAX, WRONG_MAX));
        assert_eq!(told.wrong[0], Wrong { what: "a[2J".into(), hint: "b".into(), weight: Weight::Vague });
        assert_eq!(present_hop(frozen_hop(&told)), told);
    }
}
