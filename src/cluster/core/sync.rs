//! Anti-entropy: with whom and when, and what is exchanged.
//!
//! A round sends a summary in one datagram to a random member; whoever sees that it knows something else opens
//! a stream. Some rounds open one at once, to any node, so that cuts heal and a lost key is found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lanmesh_ipam::stable_hash;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Core, FAN_OUT, Output, Persist, STREAM_ROUND};
use crate::cluster::facts::{Delta, Line, Scope};
use crate::cluster::kinds::NodeFact;
use crate::cluster::membership::{Identity, Membership};
use crate::cluster::wire::{Claim, Compare, Datagram, Part, Shared, Summary};
use crate::model::{NetworkId, NodeId};

/// How many networks a summary in a datagram names.
const SUMMARY_NETWORKS: usize = 48;

impl Core {
    /// What this node knows, in numbers.
    pub fn summary(&self) -> Summary {
        let networks = self.own().map(|own| own.networks.iter().copied()).into_iter().flatten();
        Summary {
            ledger: self.ledger.hash(),
            keys: self.keyring.fingerprint(),
            members: self.members().iter().fold(0, |sum, identity| sum ^ identity_hash(identity)),
            nodes: self.facts.hash(Scope::Node),
            records: self.agreed.hash(),
            networks: networks.map(|id| (id, self.facts.hash(Scope::Network(id)))).collect(),
        }
    }

    /// First answer: the parts in which the other knows something else. Asked by `peer`, a member.
    pub fn compare(&mut self, theirs: &Summary) -> Compare {
        let mine = self.summary();
        let mut scopes: Vec<Scope> = shared_networks(&mine, theirs)
            .filter(|(_, mine, theirs)| mine != theirs)
            .map(|(id, ..)| Scope::Network(id))
            .collect();
        if mine.nodes != theirs.nodes {
            scopes.push(Scope::Node);
        }
        Compare {
            lines: scopes.into_iter().map(|scope| (scope, self.facts.lines(scope))).collect(),
            sums: (mine.records != theirs.records).then(|| self.agreed.sums()),
            shared: self.shared(
                mine.ledger != theirs.ledger,
                mine.keys != theirs.keys,
                mine.members != theirs.members,
            ),
        }
    }

    /// Second step: takes what came whole, and says what each side lacks of the rest.
    pub fn answer(&mut self, compare: Compare, now: Duration) -> Part {
        let Shared { claims, keys, members } = &compare.shared;
        let mut shared = self.shared(claims.is_some(), keys.is_some(), members.is_some());
        self.take_shared(compare.shared, now);
        if shared.claims.is_some() {
            // With what was just taken, so that the other ends up with the union too.
            shared = Shared { claims: Some(self.ledger.to_wire()), ..shared };
        }
        let mut part = Part { shared, ..Part::default() };
        if let Some(sums) = &compare.sums {
            part.buckets = self.agreed.differing(sums);
            part.records = self.agreed.in_buckets(&part.buckets, &[]);
        }
        for (scope, lines) in compare.lines {
            let (lacks, wants) = self.facts.compare(scope, &lines);
            part.deltas.extend(lacks);
            for line in wants {
                if line.writer == self.me {
                    let seen =
                        lines.iter().filter(|line| line.writer == self.me).map(|line| line.incarnation);
                    if let Some(seen) = seen.max() {
                        self.overtake(seen, now);
                    }
                } else {
                    part.wants.push((scope, line));
                }
            }
        }
        self.follow_membership(now);
        part
    }

    /// Third step: takes a part, and gives what was wanted.
    pub fn finish(&mut self, part: Part, now: Duration) -> Part {
        self.take_shared(part.shared, now);
        self.take_deltas(&part.deltas, now);
        self.take_records(part.records.clone(), now);
        let records = self.agreed.in_buckets(&part.buckets, &part.records);
        let give = |(scope, line): (Scope, Line)| self.facts.since(scope, line);
        let deltas = part.wants.into_iter().filter_map(give).collect();
        self.follow_membership(now);
        self.refresh_states(now);
        Part { deltas, records, ..Part::default() }
    }

    /// Last step: takes a part that answers one's own wants.
    pub fn absorb(&mut self, part: Part, now: Duration) {
        self.finish(Part { wants: Vec::new(), buckets: Vec::new(), ..part }, now);
    }

    /// A stream that [`Output::Sync`] asked for has ended.
    pub fn sync_done(&mut self, peer: NodeId, worked: bool, now: Duration) {
        self.syncing.remove(&peer);
        if worked {
            self.stats.syncs += 1;
            self.compared_with(peer, now);
        } else {
            self.stats.syncs_failed += 1;
        }
        self.refresh_states(now);
    }

    /// The documents of a network that this node has, for a node that does not take part in it.
    pub fn network_documents(&self, network: NetworkId) -> Option<Vec<Delta>> {
        let takes_part = self.own().is_some_and(|own| own.networks.contains(&network));
        takes_part.then(|| self.facts.compare(Scope::Network(network), &[]).0)
    }

    /// Live nodes that take part in a network, in random order.
    pub fn holders(&mut self, network: NetworkId) -> Vec<(NodeId, SocketAddr)> {
        let up = self.up();
        let mut holders: Vec<(NodeId, SocketAddr)> = up
            .into_iter()
            .filter(|node| self.node_fact(*node).is_some_and(|fact| fact.networks.contains(&network)))
            .filter_map(|node| Some((node, self.address(node)?)))
            .collect();
        holders.shuffle(&mut self.random);
        holders
    }

    /// Whether this node has compared each of its networks with somebody since it started, or has waited long
    /// enough for that.
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_none()
    }

    pub(super) fn differs(&self, theirs: &Summary) -> bool {
        let mine = self.summary();
        (mine.ledger, mine.keys, mine.members, mine.nodes, mine.records)
            != (theirs.ledger, theirs.keys, theirs.members, theirs.nodes, theirs.records)
            || shared_networks(&mine, theirs).any(|(_, mine, theirs)| mine != theirs)
    }

    /// One round of anti-entropy.
    pub(super) fn round(&mut self, now: Duration) {
        self.rounds = self.rounds.wrapping_add(1);
        if self.membership.count() == 0 || self.rounds.is_multiple_of(STREAM_ROUND) {
            self.ask_anybody(now);
        } else {
            self.offer(1, now);
        }
    }

    /// Says hello to those who were given up, so that cuts heal.
    ///
    /// Whoever hears nobody at all is itself the one that was cut off: what it believes of the others is worth nothing,
    /// and must not spread when they hear it again. It begins anew.
    pub(super) fn reach(&mut self, now: Duration) {
        if self.membership.count() > 0 {
            self.membership.announce_to_dead(now);
        } else {
            if self.membership.has_dead() {
                let identity = self.membership.identity();
                let identity = Identity { renewals: identity.renewals.saturating_add(1), ..identity };
                self.membership = Membership::new(identity, self.timing, self.random.random());
            }
            let mut others = self.others();
            others.shuffle(&mut self.random);
            others.truncate(2 * FAN_OUT);
            self.say_hello(&others, now);
        }
        self.follow_membership(now);
    }

    /// Announces this node to others, whatever is known of them: an announcement is taken whatever identity it is
    /// addressed to, as long as the node is right.
    fn say_hello(&mut self, others: &[NodeId], now: Duration) {
        for node in others {
            if let Some(address) = self.address(*node) {
                let identity = Identity { node: *node, incarnation: 0, renewals: 0, address };
                self.membership.announce(identity, now);
            }
        }
    }

    /// A node was heard for the first time since this one started: what was said to it before it did not believe, nor
    /// this node what it answered.
    pub(super) fn greet_again(&mut self, node: NodeId, now: Duration) {
        self.say_hello(&[node], now);
        self.came_up(node, now);
    }

    /// Sends a summary to the next `count` members.
    pub(super) fn offer(&mut self, count: usize, now: Duration) {
        let up: BTreeSet<NodeId> = self.up().into_iter().collect();
        let message = Datagram::Summary(self.summary_for_datagram());
        for _ in 0..count.min(up.len()) {
            while self.turns.pop_if(|node| !up.contains(node)).is_some() {}
            if self.turns.is_empty() {
                self.turns = up.iter().copied().collect();
                self.turns.shuffle(&mut self.random);
            }
            let Some(node) = self.turns.pop() else { return };
            if let Some(address) = self.address(node) {
                self.send(address, &message, now);
            }
        }
    }

    /// Opens a stream to any node of the cluster, also one that was given up.
    pub(super) fn ask_anybody(&mut self, now: Duration) {
        let others = self.others();
        if !others.is_empty() {
            let node = others[self.random.random_range(0..others.len())];
            self.request_sync(node, self.timing.sync / 4, now);
        }
    }

    /// Opens a stream to `peer`. Where one is open, or was opened less than `pause` ago, the peer gets a summary a
    /// little later instead: if the two still differ then, it opens a stream itself.
    pub(super) fn request_sync(&mut self, peer: NodeId, pause: Duration, now: Duration) {
        if !self.ledger.is_member(peer) {
            return;
        }
        let recent = self.synced.get(&peer).is_some_and(|last| now < *last + pause);
        if recent || self.syncing.contains(&peer) {
            self.echo_to(peer, now);
            return;
        }
        if let Some(address) = self.address(peer) {
            self.synced.insert(peer, now);
            self.syncing.insert(peer);
            self.out.push_back(Output::Sync(peer, address));
        }
    }

    /// A datagram under an unknown key came from where a node listens: one of the two missed a rotation.
    pub(super) fn maybe_rotated(&mut self, from: SocketAddr, now: Duration) {
        let peer = self.others().into_iter().find(|node| self.address(*node) == Some(from));
        if let Some(peer) = peer {
            self.request_sync(peer, self.timing.detect / 4, now);
        }
    }

    /// Begins streams to some of the nodes that are known, whatever was begun before.
    pub(super) fn compare_with_some(&mut self, now: Duration) {
        let mut others = self.others();
        others.shuffle(&mut self.random);
        // Those that answer first.
        let up = self.up();
        others.sort_by_key(|node| !up.contains(node));
        for node in others.into_iter().take(2 * FAN_OUT) {
            self.synced.remove(&node);
            self.syncing.remove(&node);
            self.request_sync(node, Duration::ZERO, now);
        }
    }

    /// Greets some of the nodes that are known from before, those with networks in common first.
    pub(super) fn greet(&mut self, now: Duration) {
        let mut others = self.others();
        others.shuffle(&mut self.random);
        let wanted = self.unsettled.clone().unwrap_or_default();
        let shares = |core: &Self, node| {
            core.said(node).is_some_and(|fact| fact.networks.iter().any(|id| wanted.contains(id)))
        };
        others.sort_by_key(|node| !shares(self, *node));
        others.truncate(2 * FAN_OUT);
        self.say_hello(&others, now);
        for node in others.into_iter().take(FAN_OUT) {
            self.request_sync(node, self.timing.sync / 4, now);
        }
        self.follow_membership(now);
    }

    /// Until it has compared with others, a node that starts keeps trying.
    pub(super) fn settle(&mut self, now: Duration) {
        let waited = now >= self.started + self.timing.detect;
        if waited || self.others().is_empty() {
            self.unsettled = None;
        } else {
            self.greet(now);
        }
    }

    /// What a node says of itself, or said when it was last heard.
    pub(super) fn said(&self, node: NodeId) -> Option<&NodeFact> {
        self.node_fact(node).or_else(|| self.peers.get(&node))
    }

    pub(super) fn summary_for_datagram(&mut self) -> Summary {
        let mut summary = self.summary();
        while summary.networks.len() > SUMMARY_NETWORKS {
            let drop = self.random.random_range(0..summary.networks.len());
            summary.networks.swap_remove(drop);
        }
        summary
    }

    fn compared_with(&mut self, peer: NodeId, now: Duration) {
        let Some(mut unsettled) = self.unsettled.take() else { return };
        let shared: BTreeSet<NetworkId> =
            self.node_fact(peer).map(|fact| fact.networks.clone()).unwrap_or_default();
        unsettled.retain(|network| {
            let elsewhere = self.others().into_iter().filter(|node| *node != peer);
            let mut elsewhere = elsewhere.filter_map(|node| self.node_fact(node));
            !shared.contains(network) && elsewhere.any(|fact| fact.networks.contains(network))
        });
        if !unsettled.is_empty() {
            self.unsettled = Some(unsettled);
            self.greet(now);
        }
    }

    /// Every other node of the cluster.
    fn others(&self) -> Vec<NodeId> {
        let nodes = self.ledger.nodes().map(|admission| admission.node);
        nodes.filter(|node| *node != self.me && self.ledger.is_member(*node)).collect()
    }

    /// The members that are not given up, and this node.
    fn members(&self) -> Vec<Identity> {
        let alive = self.membership.alive().filter(|id| self.ledger.is_member(id.node));
        alive.chain([self.membership.identity()]).collect()
    }

    fn shared(&self, claims: bool, keys: bool, members: bool) -> Shared {
        Shared {
            claims: claims.then(|| self.ledger.to_wire()),
            keys: keys.then(|| self.keyring.keys()),
            members: members.then(|| self.members()),
        }
    }

    fn take_shared(&mut self, shared: Shared, now: Duration) {
        for claim in shared.claims.into_iter().flatten() {
            self.take_claim(Claim::present(claim), now);
        }
        let (mut learned, floor) = (false, self.keyring.floor());
        for key in shared.keys.into_iter().flatten() {
            learned |= self.keyring.learn(key, now);
        }
        if learned {
            self.persist_keys();
            if self.keyring.floor() > floor {
                self.out.push_back(Output::Persist(Persist::Paid));
            }
            // Everybody should have it before anybody sends with it.
            for _ in 0..FAN_OUT {
                self.ask_anybody(now);
            }
        }
        if let Some(members) = shared.members {
            let me = self.me;
            members.iter().filter(|identity| identity.node == me).for_each(|its| self.note_elsewhere(its));
            let known = members.into_iter().filter(|identity| self.ledger.is_member(identity.node));
            let known: Vec<Identity> = known.collect();
            self.membership.learn(known, now);
        }
    }
}

fn identity_hash(identity: &Identity) -> u64 {
    stable_hash(&postcard::to_stdvec(identity).unwrap_or_default())
}

fn shared_networks(mine: &Summary, theirs: &Summary) -> impl Iterator<Item = (NetworkId, u64, u64)> {
    let mine: BTreeMap<NetworkId, u64> = mine.networks.iter().copied().collect();
    theirs.networks.iter().filter_map(move |(id, theirs)| mine.get(id).map(|mine| (*id, *mine, *theirs)))
}
