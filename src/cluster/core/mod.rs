//! The cluster as one node knows it: ledger, facts, membership and keys, put together without any I/O.
//!
//! Owns: what is sent to whom and when. Takes `now` (time since any fixed moment) and what arrives; gives out
//! [`Output`]s and a view. Does not own: sockets, streams, disks, clocks (`driver`, `streams`, `store`).

mod commands;
mod push;
mod sync;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::facts::{Applied, Change, Delta, FactStore, Incarnation, NodeFact, Scope};
use super::gossip_key::GossipKey;
use super::ledger::{Claim, Ledger};
use super::membership::{Identity, Membership, Step};
use super::pki;
use super::seal::{Keyring, OpenError, Replays};
use super::wire::{self, Datagram};
use super::{ClusterEvent, Stats, Timing};
use crate::mesh::MeshSecret;
use crate::model::{Endpoint, Group, NetworkId, Node, NodeId, NodeState, ZeroconfFact, ZeroconfKey};

/// How many nodes are greeted, or asked to compare, at once.
const FAN_OUT: usize = 3;

/// Every so many rounds of anti-entropy go over a stream to any node, also one that was given up.
const STREAM_ROUND: u32 = 8;

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// Send a sealed datagram.
    Datagram(SocketAddr, Vec<u8>),
    /// Compare over a stream with this node, and say how it went to [`Core::sync_done`].
    Sync(NodeId, SocketAddr),
    /// Remember durably.
    Persist(Persist),
    /// Tell whoever listens.
    Event(ClusterEvent),
    /// These are the CAs of the cluster now, in DER.
    Trust(Vec<Vec<u8>>),
}

/// Something to be remembered durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Persist {
    /// A cluster-wide fact.
    Claim(Claim),
    /// All gossip keys.
    Keys(Vec<GossipKey>),
    /// What another node says of itself.
    Peer(NodeId, NodeFact),
    /// The incarnation, after this node found that it had lost count.
    Incarnation(Incarnation),
    /// Another node is the manager now: its secrets are to be forgotten here.
    SteppedDown,
}

/// What a node starts with.
pub(super) struct Boot {
    /// Who it is.
    pub me: NodeId,
    /// What it says of itself; the networks are those of `initial`.
    pub fact: NodeFact,
    /// Which start this is; higher than any before.
    pub incarnation: Incarnation,
    /// The cluster-wide facts it remembers or was given.
    pub ledger: Ledger,
    /// The CA's public key, which signs gossip keys.
    pub ca: Vec<u8>,
    /// The gossip keys.
    pub keys: Vec<GossipKey>,
    /// What others said of themselves when it last heard of them.
    pub peers: BTreeMap<NodeId, NodeFact>,
    /// The endpoints it has.
    pub initial: BTreeMap<NetworkId, Vec<Endpoint>>,
    /// The groups that are joined on it, in the networks of `initial`.
    pub groups: BTreeMap<NetworkId, BTreeSet<Group>>,
    /// What mDNS brought to light on it, likewise.
    pub zeroconf: BTreeMap<NetworkId, BTreeMap<ZeroconfKey, ZeroconfFact>>,
    /// How fast things are noticed.
    pub timing: Timing,
    /// Decides every random choice but nonces.
    pub seed: u64,
}

/// The cluster as one node knows it.
pub(super) struct Core {
    me: NodeId,
    timing: Timing,
    ledger: Ledger,
    facts: FactStore,
    /// What others said of themselves before this start, until they say it again.
    peers: BTreeMap<NodeId, NodeFact>,
    membership: Membership,
    keyring: Keyring,
    replays: Replays,
    random: SmallRng,
    out: VecDeque<Output>,
    /// Counters; the driver adds what only it sees.
    pub stats: Stats,
    /// The states that were last told.
    states: BTreeMap<NodeId, NodeState>,
    /// Since when each node is known to belong to the cluster.
    known_since: BTreeMap<NodeId, Duration>,
    states_due: Option<Duration>,
    /// When each node was last heard, whatever it said.
    heard: BTreeMap<NodeId, Duration>,
    /// Nodes that were given up although they had been heard a moment before: until when that is not believed.
    doubted: BTreeMap<NodeId, Duration>,
    view_changed: bool,
    /// The nodes of the last view, until something about a node changes: most changes are not about nodes.
    nodes: Option<Arc<BTreeMap<NodeId, Node>>>,
    next_tick: Duration,
    next_round: Duration,
    next_reach: Duration,
    rounds: u32,
    /// Whom the next rounds go to: everybody once, in random order.
    turns: Vec<NodeId>,
    /// Who gets a summary soon because it was sent a change, and when.
    echo: Option<(Duration, BTreeSet<NodeId>)>,
    /// When a stream to each node was last begun.
    synced: BTreeMap<NodeId, Duration>,
    syncing: BTreeSet<NodeId>,
    /// The networks that were not yet compared with anybody since this start; `None` once settled.
    unsettled: Option<BTreeSet<NetworkId>>,
    started: Duration,
}

impl Core {
    /// A node that starts at `now`, and greets those it knows.
    pub fn start(boot: Boot, now: Duration) -> Self {
        let Boot { me, mut fact, incarnation, ledger, ca, keys, .. } = boot;
        let Boot { mut peers, mut initial, groups, zeroconf, timing, seed, .. } = boot;
        initial.retain(|network, _| ledger.network(*network).is_some());
        fact.networks = initial.keys().copied().collect();
        let unsettled = fact.networks.clone();
        let mut facts = FactStore::new(incarnation, me, fact.clone(), initial);
        for (network, groups) in groups.iter().filter(|(network, _)| unsettled.contains(network)) {
            facts.set_groups(*network, groups);
        }
        for (network, found) in zeroconf.into_iter().filter(|(network, _)| unsettled.contains(network)) {
            facts.set_zeroconf(network, found);
        }
        let identity = Identity { node: me, incarnation, renewals: 0, address: fact.address };
        peers.retain(|node, _| *node != me && ledger.is_member(*node));
        let known_since = ledger.nodes().map(|admission| (admission.node, now)).collect();
        let mut core = Self {
            me,
            timing,
            facts,
            membership: Membership::new(identity, timing, seed),
            keyring: {
                let mut keyring = Keyring::new(me, ca, keys, timing.detect);
                ledger.authorities().for_each(|authority| trust(&mut keyring, authority));
                keyring
            },
            replays: Replays::default(),
            random: SmallRng::seed_from_u64(seed.rotate_left(17)),
            out: VecDeque::new(),
            stats: Stats::default(),
            states: BTreeMap::new(),
            known_since,
            states_due: Some(now),
            heard: BTreeMap::new(),
            doubted: BTreeMap::new(),
            view_changed: true,
            nodes: None,
            next_tick: now,
            next_round: now + timing.sync,
            next_reach: now + timing.sync,
            rounds: 0,
            turns: Vec::new(),
            echo: None,
            synced: BTreeMap::new(),
            syncing: BTreeSet::new(),
            unsettled: Some(unsettled),
            started: now,
            ledger,
            peers,
        };
        for (node, state) in core.observe(now) {
            core.states.insert(node, state);
        }
        core.greet(now);
        core
    }

    /// The cluster-wide facts.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The gossip keys, for a node that is let in.
    pub fn keys(&self) -> Vec<GossipKey> {
        self.keyring.keys()
    }

    /// The epoch and the floor of the gossip keys, for the manager that makes the next one.
    pub fn key_epoch(&self) -> (u32, u32) {
        (self.keyring.newest(), self.keyring.floor())
    }

    /// The newest secret of the mesh.
    pub fn mesh_secret(&self) -> Option<MeshSecret> {
        self.keyring.mesh()
    }

    /// A number that is equal where the newest gossip key is.
    pub fn key_fingerprint(&self) -> u64 {
        self.keyring.fingerprint()
    }

    /// What all nodes say of themselves, for a node that is let in.
    pub fn node_documents(&self) -> Vec<Delta> {
        self.facts.compare(Scope::Node, &[]).0
    }

    /// What is to be done now.
    pub fn take_outputs(&mut self) -> VecDeque<Output> {
        std::mem::take(&mut self.out)
    }

    /// When [`Core::tick`] is wanted at the latest.
    pub fn deadline(&self) -> Duration {
        self.membership.deadline().map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    /// Runs what is due.
    pub fn tick(&mut self, now: Duration) {
        self.membership.tick(now);
        self.follow_membership(now);
        if now >= self.next_tick {
            self.next_tick = now + self.membership.intervals().gossip;
            if self.keyring.expire(now) {
                self.persist_keys();
            }
            if self.unsettled.is_some() {
                self.settle(now);
            }
            self.send_echo(now);
        }
        if now >= self.next_reach {
            self.next_reach = now + self.membership.intervals().reach;
            self.reach(now);
        }
        if now >= self.next_round {
            // Not all in step, so that rounds of many nodes do not fall together.
            self.next_round = now + self.timing.sync.mul_f64(self.random.random_range(0.75..1.25));
            self.round(now);
        }
        self.refresh_states(now);
    }

    /// Takes a datagram from the network.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: Duration) {
        self.stats.datagrams_in += 1;
        self.stats.bytes_in += datagram.len() as u64;
        let opened = match self.keyring.open(datagram) {
            Ok(opened) => opened,
            Err(error) => {
                let counter = match error {
                    OpenError::Malformed => &mut self.stats.dropped_malformed,
                    OpenError::UnknownKey => &mut self.stats.dropped_unknown_key,
                    OpenError::Tampered => &mut self.stats.dropped_tampered,
                };
                *counter += 1;
                if error == OpenError::UnknownKey {
                    self.maybe_rotated(from, now);
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
        if !self.replays.is_new(&opened) {
            self.stats.dropped_replayed += 1;
            return;
        }
        self.heard.insert(opened.sender, now);
        match wire::decode_datagram(&opened.body) {
            Some(message) => self.handle(opened.sender, message, now),
            None => self.stats.dropped_refused += 1,
        }
        self.follow_membership(now);
        self.refresh_states(now);
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
                for claim in claims.into_iter().filter(|claim| !matches!(claim, Claim::Authority { .. })) {
                    self.take_claim(claim, now);
                }
            }
            Datagram::Summary(summary) => {
                if self.differs(&summary) {
                    self.request_sync(sender, self.timing.sync / 4, now);
                }
            }
        }
    }

    /// Takes a cluster-wide fact; `true` where it is new.
    fn take_claim(&mut self, claim: Claim, now: Duration) -> bool {
        let deleted = match &claim {
            Claim::NetworkDeleted(id) => self.ledger.network(*id).cloned(),
            _ => None,
        };
        let removed = match &claim {
            Claim::Removed(node) => self.ledger.node(*node).cloned(),
            _ => None,
        };
        let managed = self.is_manager();
        if !claim.is_sound() || !self.ledger.merge(claim.clone()) {
            return false;
        }
        self.out.push_back(Output::Persist(Persist::Claim(claim.clone())));
        self.view_changed = true;
        self.nodes = None;
        match claim {
            Claim::Network(spec) if self.ledger.network(spec.id).is_some() => {
                self.event(ClusterEvent::NetworkCreated { network: spec.id, name: spec.name });
            }
            Claim::NetworkDeleted(network) => {
                if let Some(spec) = deleted {
                    self.event(ClusterEvent::NetworkDeleted { network, name: spec.name.clone() });
                }
                self.give_up(network, now);
            }
            Claim::Admitted(admission) if self.ledger.node(admission.node).is_some() => {
                self.known_since.insert(admission.node, now);
                self.event(ClusterEvent::NodeJoined { node: admission.node, name: admission.name });
            }
            Claim::Left(node) => self.membership.expel(node, now),
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
            Claim::Manager { .. } if managed && !self.is_manager() => {
                self.out.push_back(Output::Persist(Persist::SteppedDown));
            }
            Claim::Authority { certificate, .. } => {
                trust(&mut self.keyring, &certificate);
                let all = self.ledger.authorities().map(<[u8]>::to_vec).collect();
                self.out.push_back(Output::Trust(all));
            }
            Claim::Network(_) | Claim::Admitted(_) | Claim::Manager { .. } => {}
        }
        self.purge();
        self.states_due = Some(now);
        true
    }

    /// Takes what is new and wanted; `false` where something before it is missing.
    fn take_deltas(&mut self, deltas: &[Delta], now: Duration) -> bool {
        let mut complete = true;
        // What nodes say of themselves first: it decides what else is wanted.
        let (nodes, others): (Vec<_>, Vec<_>) = deltas.iter().partition(|delta| delta.scope == Scope::Node);
        for delta in nodes.into_iter().chain(others) {
            if !delta.is_sound() {
                self.stats.dropped_refused += 1;
                continue;
            }
            if !self.wants(delta) {
                continue;
            }
            let (applied, changes) = self.facts.apply(delta);
            complete &= applied != Applied::Gap;
            self.changed(changes);
        }
        self.purge();
        self.states_due = self.states_due.or(Some(now));
        complete
    }

    fn wants(&self, delta: &Delta) -> bool {
        delta.writer != self.me
            && keeps(&self.ledger, self.own(), delta.scope, delta.writer)
            && match delta.scope {
                Scope::Node => true,
                Scope::Network(network) => {
                    !self.facts.gave_up(delta.writer, network, (delta.incarnation, delta.version))
                }
            }
    }

    /// Forgets the documents that nobody wants any more.
    fn purge(&mut self) {
        let Some(own) = self.own().cloned() else { return };
        let ledger = &self.ledger;
        let changes = self.facts.purge(|scope, writer| keeps(ledger, Some(&own), scope, writer));
        self.replays.retain(|node| ledger.is_member(node));
        self.changed(changes);
    }

    fn changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.view_changed = true;
            match change {
                Change::Node(node) => {
                    self.nodes = None;
                    if let Some(fact) =
                        self.facts.node(node).filter(|fact| self.peers.get(&node) != Some(fact))
                    {
                        let fact = fact.clone();
                        self.peers.insert(node, fact.clone());
                        self.out.push_back(Output::Persist(Persist::Peer(node, fact)));
                    }
                }
                // What is joined and announced changes often, and whoever wants to know looks at the view.
                Change::Groups | Change::Zeroconf => {}
                Change::Endpoint { network, node, name, had, has } => match (had, has) {
                    (false, true) => self.event(ClusterEvent::EndpointAdded { network, node, name }),
                    (true, true) => self.event(ClusterEvent::EndpointChanged { network, node, name }),
                    (true, false) => self.event(ClusterEvent::EndpointRemoved { network, node, name }),
                    (false, false) => {}
                },
            }
        }
    }

    fn follow_membership(&mut self, now: Duration) {
        loop {
            let steps = self.membership.take_steps();
            if steps.is_empty() {
                return;
            }
            for step in steps {
                match step {
                    // Given up for good: not to be looked for as the dead are, nor could it read what it is sent.
                    Step::Send(Identity { node, .. }, _) | Step::Remind(Identity { node, .. }, _)
                        if self.ledger.is_removed(node) => {}
                    Step::Send(to, message) => self.send(to.address, &Datagram::Swim(message), now),
                    Step::Remind(suspected, incarnation) => {
                        let asker = self.membership.identity();
                        let remind = Datagram::Remind { suspected, incarnation, asker };
                        self.send(suspected.address, &remind, now);
                    }
                    Step::Changed(_) => self.states_due = Some(now),
                    Step::Up(node) => self.came_up(node, now),
                    Step::Rejoined => {
                        self.stats.rejoins += 1;
                        self.offer(FAN_OUT, now);
                    }
                }
            }
        }
    }

    /// A member is there (again): compare at once. Where there are many, a few of them do.
    fn came_up(&mut self, node: NodeId, now: Duration) {
        if !self.ledger.is_member(node) {
            if self.ledger.node(node).is_none() && !self.ledger.is_removed(node) {
                self.ask_anybody(now);
            } else {
                self.membership.expel(node, now);
            }
            return;
        }
        // A stream that was begun while it could not be reached hangs, and is nothing to wait for.
        self.syncing.remove(&node);
        self.synced.remove(&node);
        let among = self.membership.count().max(1);
        if self.random.random_range(0..among) < 2 * FAN_OUT
            && let Some(address) = self.address(node)
        {
            let summary = Datagram::Summary(self.summary_for_datagram());
            self.send(address, &summary, now);
        }
    }

    /// Whether the documents hold together, each by itself.
    #[cfg(feature = "fuzzing")]
    pub fn is_consistent(&self) -> bool {
        self.facts.is_consistent()
    }

    fn persist_keys(&mut self) {
        self.out.push_back(Output::Persist(Persist::Keys(self.keyring.keys())));
    }

    fn event(&mut self, event: ClusterEvent) {
        self.out.push_back(Output::Event(event));
    }

    /// What this node says of itself.
    fn own(&self) -> Option<&NodeFact> {
        self.facts.node(self.me)
    }

    /// The members that are not given up, as far as they belong to the cluster.
    fn up(&self) -> Vec<NodeId> {
        self.membership.alive().map(|id| id.node).filter(|node| self.ledger.is_member(*node)).collect()
    }

    /// Where a node listens, by the newest word about it.
    fn address(&self, node: NodeId) -> Option<SocketAddr> {
        let fact = self.facts.node(node).or_else(|| self.peers.get(&node)).map(|fact| fact.address);
        fact.or_else(|| self.ledger.node(node).map(|admission| admission.address))
    }
}

/// Takes gossip keys that this CA signed from now on. What is no certificate signs nothing.
fn trust(keyring: &mut Keyring, authority: &[u8]) {
    if let Ok(key) = pki::public_key(authority) {
        keyring.trust(key);
    }
}

/// Whether a node that says `own` of itself has a use for a document.
fn keeps(ledger: &Ledger, own: Option<&NodeFact>, scope: Scope, writer: NodeId) -> bool {
    match scope {
        Scope::Node => ledger.node(writer).is_some(),
        Scope::Network(network) => {
            ledger.network(network).is_some()
                && ledger.is_member(writer)
                && own.is_some_and(|own| own.networks.contains(&network))
        }
    }
}
