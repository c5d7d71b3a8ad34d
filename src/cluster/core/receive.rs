//! What becomes of what others send: datagrams, documents, entries of the ledger.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Core, Output, Persist, trust};
use crate::cluster::ClusterEvent;
use crate::cluster::facts::{Applied, Delta, Scope};
use crate::cluster::ledger::Claim;
use crate::cluster::seal::replays::Judged;
use crate::cluster::seal::{OpenError, Opened};
use crate::cluster::version::Protocols;
use crate::cluster::wire::{self, Datagram};
use crate::model::NodeId;

/// How many addresses are remembered at which somebody speaks no version of ours.
const MAX_APART: usize = 256;

impl Core {
    /// Takes a datagram from the network.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: Duration) {
        self.stats.datagrams_in += 1;
        self.stats.bytes_in += datagram.len() as u64;
        let opened = match self.keyring.open(datagram) {
            Ok(opened) => opened,
            Err(error) => {
                let counter = match error {
                    OpenError::Malformed => &mut self.stats.dropped_malformed,
                    OpenError::Version(_) => &mut self.stats.dropped_version,
                    OpenError::UnknownKey => &mut self.stats.dropped_unknown_key,
                    OpenError::Tampered => &mut self.stats.dropped_tampered,
                };
                *counter += 1;
                match error {
                    OpenError::UnknownKey => self.maybe_rotated(from, now),
                    OpenError::Version(theirs) => self.speaks_otherwise(from, theirs),
                    OpenError::Malformed | OpenError::Tampered => {}
                }
                return;
            }
        };
        if !self.ledger.is_member(opened.sender) || opened.sender == self.me {
            self.stats.dropped_refused += 1;
            // It may have been let in a moment ago: somebody knows.
            if self.ledger.node(opened.sender).is_none() && !self.ledger.is_removed(opened.sender) {
                self.ask_anybody(now);
            }
            return;
        }
        let message = wire::decode_datagram(&opened.body);
        if self.is_said_now(from, &opened, message.as_ref(), now) {
            self.spoken.insert(opened.sender, opened.protocols);
            self.heard.insert(opened.sender, now);
            match message {
                Some(message) => self.handle(opened.sender, message, now),
                None => self.stats.dropped_refused += 1,
            }
        }
        self.follow_membership(now);
        self.refresh_states(now);
    }

    /// Whether a datagram is new. Of a sender that was not heard since this node started, nothing is believed before it
    /// has shown that it speaks now: all that it said before may be played again to somebody who cannot know.
    fn is_said_now(
        &mut self,
        from: SocketAddr,
        opened: &Opened,
        message: Option<&Datagram>,
        now: Duration,
    ) -> bool {
        match (self.replays.judge(opened), message) {
            (Judged::New, Some(Datagram::Proof(_))) => {
                // It was somebody else who said something again: the number is of no use to him later.
                self.replays.answered(opened.sender);
                true
            }
            (Judged::New, _) => true,
            (Judged::Seen, Some(Datagram::Proof(number))) if self.replays.is_set_back(opened, *number) => {
                self.was_set_back(opened.sender, from, now);
                false
            }
            (Judged::Seen, _) => {
                self.stats.dropped_replayed += 1;
                self.doubt(opened.sender, from, now);
                false
            }
            // Whoever answers says nothing by it, so it may be asked by somebody unknown.
            (Judged::Unknown, Some(Datagram::Challenge(number))) => {
                self.send(from, &Datagram::Proof(*number), now);
                self.challenge(opened.sender, now);
                false
            }
            (Judged::Unknown, Some(Datagram::Proof(number))) => {
                let proven = self.replays.prove(opened, *number);
                if proven {
                    self.greet_again(opened.sender, now);
                }
                proven
            }
            (Judged::Unknown, _) => {
                self.challenge(opened.sender, now);
                false
            }
        }
    }

    /// As if a node had shown that it speaks now.
    #[cfg(feature = "fuzzing")]
    pub fn believe(&mut self, node: NodeId) {
        self.replays.open(node, 0, 0);
    }

    /// Asks a node to show that it speaks now, where that was not asked a moment ago.
    pub(super) fn challenge(&mut self, node: NodeId, now: Duration) {
        let Some(address) = self.address(node) else { return };
        let pause = self.membership.intervals().gossip;
        if let Some(number) = self.replays.challenge(node, now, pause) {
            self.send(address, &Datagram::Challenge(number), now);
        }
    }

    fn handle(&mut self, sender: NodeId, message: Datagram, now: Duration) {
        match message {
            Datagram::Swim(message) => {
                if !self.membership.receive(&message, now) {
                    self.stats.dropped_refused += 1;
                }
            }
            Datagram::Remind { suspected, incarnation, asker } => {
                if asker.node == sender {
                    self.membership.refute(suspected, incarnation, asker, now);
                }
            }
            Datagram::Facts(deltas) => {
                if !self.take_deltas(&deltas, now) {
                    self.request_sync(sender, self.timing.sync / 10, now);
                }
            }
            Datagram::Claims(claims) => {
                let claims = claims.into_iter().map(wire::Claim::present);
                for claim in claims.filter(|claim| !matches!(claim, Claim::Authority { .. })) {
                    self.take_claim(claim, now);
                }
            }
            Datagram::Records(records) => self.take_records(records, now),
            Datagram::Summary(summary) => {
                if self.differs(&summary) {
                    self.request_sync(sender, self.timing.sync / 4, now);
                }
            }
            Datagram::Challenge(number) => {
                if let Some(address) = self.address(sender) {
                    self.send(address, &Datagram::Proof(number), now);
                }
            }
            Datagram::Proof(_) => {}
        }
    }

    /// Somebody speaks no version of ours; told once for each range.
    fn speaks_otherwise(&mut self, from: SocketAddr, theirs: Protocols) {
        // Who speaks a version of ours and used another one makes no sense.
        let Err(apart) = self.protocols.with(theirs) else { return };
        let known = self.apart.get(&from) == Some(&apart);
        if known || (self.apart.len() >= MAX_APART && !self.apart.contains_key(&from)) {
            return;
        }
        self.apart.insert(from, apart);
        self.event(ClusterEvent::SpeaksOtherwise { from, apart });
    }

    /// Takes a cluster-wide fact; `true` where it is new.
    pub(super) fn take_claim(&mut self, claim: Claim, now: Duration) -> bool {
        let deleted = match &claim {
            Claim::NetworkDeleted(id) => self.ledger.network(*id).cloned(),
            _ => None,
        };
        let removed = match &claim {
            Claim::Removed(node) => self.ledger.node(*node).cloned(),
            _ => None,
        };
        let managed = self.is_manager();
        self.tell_of_twice(&claim);
        if !self.ledger.merge(claim.clone()) {
            return false;
        }
        self.out.push_back(Output::Persist(Persist::Claim(claim.clone())));
        self.view_changed = true;
        self.nodes = None;
        match claim {
            Claim::Network(spec) if self.ledger.network(spec.id).is_some() => {
                self.refresh_specs();
                self.event(ClusterEvent::NetworkCreated { network: spec.id, name: spec.name });
            }
            Claim::NetworkDeleted(network) => {
                self.refresh_specs();
                if let Some(spec) = deleted {
                    self.event(ClusterEvent::NetworkDeleted { network, name: spec.name.clone() });
                }
                self.give_up(network, now);
            }
            Claim::Admitted(admission) if self.ledger.node(admission.node).is_some() => {
                self.known_since.insert(admission.node, now);
                self.event(ClusterEvent::NodeJoined { node: admission.node, name: admission.name });
            }
            Claim::Left(node) => {
                self.membership.expel(node, now);
                // It has the keys: whoever finds its disk must not have the next ones. Noted with the claim, since the
                // manager may stop before it has made them, or this node become the manager.
                if node != self.me {
                    self.out.push_back(Output::Persist(Persist::Owed(node)));
                    self.out.push_back(Output::Left);
                }
            }
            Claim::Removed(node) => {
                if let Some(admission) = removed {
                    self.event(ClusterEvent::NodeRemoved { node, name: admission.name });
                }
                self.membership.expel(node, now);
                self.states.remove(&node);
                self.doubted.remove(&node);
                self.known_since.remove(&node);
                self.peers.remove(&node);
                self.heard.remove(&node);
            }
            Claim::Manager { node, .. } => {
                if managed && !self.is_manager() {
                    self.out.push_back(Output::Persist(Persist::SteppedDown));
                }
                let name = self.ledger.node(node).map(|admission| admission.name.clone());
                self.event(ClusterEvent::ManagerChanged { node, name });
            }
            Claim::Authority { certificate, .. } => {
                trust(&mut self.keyring, &certificate);
                let all = self.ledger.authorities().map(<[u8]>::to_vec).collect();
                self.out.push_back(Output::Trust(all));
            }
            Claim::Network(_) | Claim::Admitted(_) | Claim::Foreign(_) => {}
        }
        self.purge();
        self.states_due = Some(now);
        true
    }

    /// Nobody is let in twice: whoever has two admissions came in under somebody's id, or two managers gave it one.
    fn tell_of_twice(&mut self, claim: &Claim) {
        let Claim::Admitted(admission) = claim else { return };
        let known = self.ledger.admission(admission.node);
        let Some(known) = known.filter(|known| *known != admission) else { return };
        if self.twice.insert(admission.node) {
            let (node, name, other) = (admission.node, known.name.clone(), admission.name.clone());
            self.event(ClusterEvent::NodeAdmittedTwice { node, name, other });
        }
    }

    /// Takes what is new and wanted; `false` where something before it is missing.
    pub(super) fn take_deltas(&mut self, deltas: &[Delta], now: Duration) -> bool {
        let mut complete = true;
        // What nodes say of themselves first: it decides what else is wanted.
        let (nodes, others): (Vec<_>, Vec<_>) = deltas.iter().partition(|delta| delta.scope == Scope::Node);
        for delta in nodes.into_iter().chain(others) {
            if !delta.is_sound() {
                self.stats.dropped_refused += 1;
                continue;
            }
            let place = (delta.incarnation, delta.version);
            if delta.writer == self.me {
                self.hear_of_itself(delta.scope, delta.incarnation, delta.version, now);
            }
            if delta.writer == self.me || !self.keeps(delta.scope, delta.writer, place) {
                continue;
            }
            let about = self.about(delta.scope, delta.writer);
            let (applied, changes) = self.facts.apply(delta, &about);
            complete &= !matches!(applied, Applied::Gap | Applied::Refused(_));
            if matches!(applied, Applied::Refused(_)) {
                self.refused(delta.writer);
            }
            self.changed(changes);
        }
        self.purge();
        self.states_due = self.states_due.or(Some(now));
        complete
    }

    /// A node publishes more than it may.
    fn refused(&mut self, node: NodeId) {
        self.stats.dropped_excess += 1;
        if self.excessive.insert(node) {
            let name = self.ledger.node(node).map(|admission| admission.name.clone());
            self.event(ClusterEvent::NodeSaysTooMuch { node, name });
        }
    }
}
