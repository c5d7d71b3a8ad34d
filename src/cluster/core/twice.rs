//! What others know of this node that it did not say: its state was set back, or the same node runs twice.
//!
//! Whoever starts from an older state finds that the others know a later incarnation of it, and goes above. Where that was
//! said by a run which has ended, that is all. A run that lives hears of it, and goes above in turn: so a run that comes
//! back above what was said against it is another one of the same node, alive. Both find that, and exactly one goes on
//! ([`Run::goes_on_before`]).

use std::time::Duration;

use rand::RngExt;

use super::{Core, Output, Persist, about};
use crate::cluster::facts::{Incarnation, Scope};
use crate::cluster::membership::{Identity, Membership};
use crate::cluster::run::Run;
use crate::cluster::{ClusterEvent, Refusal};
use crate::model::NodeId;

/// How many other runs are remembered: more than a node can have by mistake.
const RIVALS: usize = 64;
/// How often the same may be told.
const AGAIN: Duration = Duration::from_secs(60);

impl Core {
    /// Others know an incarnation of this node that is later than its own, or more of the same one than it has said.
    pub(super) fn overtake(&mut self, seen: Incarnation, now: Duration) {
        let rival = Run::of(seen);
        if self.told_out.is_some() {
            return;
        }
        if rival != self.run {
            if self.rivals.get(&rival).is_some_and(|above| seen > *above) {
                self.meet(rival, now);
            }
            if self.told_out.is_some() {
                return;
            }
        }
        let incarnation = self.run.above(seen.max(self.facts.incarnation()));
        if rival != self.run && (self.rivals.len() < RIVALS || self.rivals.contains_key(&rival)) {
            self.rivals.insert(rival, incarnation);
        }
        let (specs, me) = (&self.specs, self.me);
        self.facts.overtake(incarnation, |scope| about(specs, scope, me));
        self.out.push_back(Output::Persist(Persist::Incarnation(incarnation)));
        let members: Vec<Identity> = self.membership.alive().collect();
        let identity = Identity { incarnation, renewals: 0, ..self.membership.identity() };
        self.membership = Membership::new(identity, self.timing, self.random.random());
        self.membership.learn(members, now);
        // Until they know, the others take nothing that this node says.
        self.compare_with_some(now);
    }

    /// Another run of this node lives.
    fn meet(&mut self, rival: Run, now: Duration) {
        let goes_on = self.run.goes_on_before(rival);
        let because = match (self.run.is_away(), rival.is_away()) {
            (false, true) => "this is the machine that its identity was made on",
            (true, false) => "its identity was made on the other machine",
            _ if goes_on => "this one was there first",
            _ => "the other one was there first",
        };
        let here = self.membership.identity().address;
        let there = self.elsewhere.get(&rival).copied().filter(|there| *there != here);
        if self.twice_at.is_none_or(|at| at + AGAIN <= now) || !goes_on {
            self.event(ClusterEvent::RunsTwice {
                here,
                there,
                since_ms: rival.started_ms(),
                goes_on,
                because,
            });
        }
        self.twice_at = Some(now);
        if !goes_on {
            self.told_out = Some(Refusal::RunsTwice { there, because });
            (self.view_changed, self.nodes) = (true, None);
        }
    }

    /// Takes note of where others say that this node is.
    pub(super) fn note_elsewhere(&mut self, identity: &Identity) {
        let run = Run::of(identity.incarnation);
        if run != self.run && (self.elsewhere.len() < RIVALS || self.elsewhere.contains_key(&run)) {
            self.elsewhere.insert(run, identity.address);
        }
    }

    /// A sender that says what is older than what was heard of it has shown that it lives: it is told what it is said to
    /// have said, whereupon it goes above that.
    pub(super) fn was_set_back(&mut self, node: NodeId, from: std::net::SocketAddr, now: Duration) {
        let recent = self.synced.get(&node).is_some_and(|last| now < *last + self.timing.sync / 4);
        if self.ledger.is_member(node) && !recent {
            self.synced.insert(node, now);
            self.syncing.insert(node);
            self.out.push_back(Output::Sync(node, from));
        }
    }

    /// Asks whoever sent something that is older than what was heard of its sender whether it lives, where that was not
    /// asked a moment ago. It is asked where it sent from: it may be somewhere else than it is known to be.
    pub(super) fn doubt(&mut self, node: NodeId, from: std::net::SocketAddr, now: Duration) {
        if let Some(number) = self.replays.doubt(node, now, self.timing.detect / 4) {
            self.send(from, &super::Datagram::Challenge(number), now);
        }
    }

    /// What others know of this node's own documents, in a delta of theirs.
    pub(super) fn hear_of_itself(
        &mut self,
        scope: Scope,
        incarnation: Incarnation,
        version: u64,
        now: Duration,
    ) {
        // Of a network that this node has given up meanwhile only another start is news.
        let own = self.facts.place(scope, self.me).unwrap_or((self.facts.incarnation(), u64::MAX));
        if (incarnation, version) > own {
            self.overtake(incarnation, now);
        }
    }
}
