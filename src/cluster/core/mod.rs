//! The cluster as one node knows it: ledger, facts, membership and keys, put together without any I/O.
//!
//! Owns: what is sent to whom and when. Takes `now` (time since any fixed moment) and what arrives; gives out
//! [`Output`]s and a view. Does not own: sockets, streams, disks, clocks (`driver`, `streams`, `store`).

mod agreed;
mod begin;
mod commands;
mod lending;
mod push;
mod receive;
mod sync;
mod twice;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub(super) use lending::{Cleared, ToClear};

use super::authority::StoredAuthority;
use super::config::Initial;
use super::facts::{Change, Delta, FactKey, Incarnation, Outcome, Record, Scope, Version};
use super::gossip_key::{GossipKey, ProbeKey};
use super::kinds::{About, Agreements, EndpointKind, FactKind, Facts, NodeFact, NodeKind};
use super::ledger::{Claim, Ledger};
use super::membership::{Identity, Membership, Step};
use super::pki;
use super::run::Run;
use super::seal::Keyring;
use super::seal::replays::Replays;
use super::version::{Apart, Protocols};
use super::wire::{Claim as WireClaim, Datagram};
use super::{ClusterEvent, Refusal, Stats, Timing, kinds};
use crate::mesh::MeshSecret;
use crate::model::{EndpointName, Loan, LoanNumber, NetworkId, NetworkSpec, Node, NodeId, NodeState};

/// How many nodes are greeted, or asked to compare, at once.
const FAN_OUT: usize = 3;

/// Every so many rounds of anti-entropy go over a stream to any node, also one that was given up.
const STREAM_ROUND: u32 = 8;

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few of them wait, for whoever asked")]
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
    /// A node left: where this one is the manager, it makes a gossip key that the other does not have.
    Left,
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
    /// This node is the manager, with these secrets.
    Authority(StoredAuthority),
    /// Another node is the manager now: its secrets are to be forgotten here.
    SteppedDown,
    /// When the manager last made a gossip key on its own account, in milliseconds since 1970.
    Rotated(u64),
    /// A record of the whole cluster.
    Record(Record),
    /// A record's tombstone has had its time.
    Forget(FactKey),
    /// A node left with the keys that are good now: others are to be made, by whoever is the manager then.
    Owed(NodeId),
    /// Keys were made that make all before them void: nothing is owed any more.
    Paid,
    /// This node lent a part of a network's addresses.
    Lent(LoanNumber, Loan),
    /// It has that back.
    TakenBack(LoanNumber),
    /// Of whom the manager knows what they lent.
    Cleared(Cleared),
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
    /// What it has in its networks.
    pub initial: Initial,
    /// What it has lent of networks' addresses.
    pub lent: BTreeMap<LoanNumber, Loan>,
    /// Of whom it, as the manager, knows what they lent.
    pub cleared: Cleared,
    /// The records of the whole cluster that it remembers or was given.
    pub records: Vec<Record>,
    /// Which versions of the protocol it speaks.
    pub protocols: Protocols,
    /// The wall clock when it starts, in milliseconds since 1970.
    pub wall_ms: u64,
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
    facts: Facts,
    /// What all nodes write together.
    agreed: Agreements,
    /// The networks as they are now: as they were created, with the settings that were changed since.
    specs: BTreeMap<NetworkId, Arc<NetworkSpec>>,
    protocols: Protocols,
    /// What each node was last heard to speak.
    spoken: BTreeMap<NodeId, Protocols>,
    /// Nodes that speak no version that this one does.
    apart: BTreeMap<SocketAddr, Apart>,
    /// The wall clock when `now` was 0, in milliseconds since 1970.
    wall_ms: u64,
    /// Nodes that were let in twice, of which was told.
    twice: BTreeSet<NodeId>,
    /// Nodes that publish more than they may, of which was told.
    excessive: BTreeSet<NodeId>,
    next_expiry: Duration,
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
    /// Another node said that this one is out, and why; or this run steps aside for another one of the same node.
    told_out: Option<Refusal>,
    /// Which run this is.
    run: Run,
    /// Other runs of this node that were heard of, and the incarnation in which this one went above each last.
    rivals: BTreeMap<Run, Incarnation>,
    /// Where others say that this node is, by the run that said so.
    elsewhere: BTreeMap<Run, SocketAddr>,
    /// When another run of this node was last seen to live.
    twice_at: Option<Duration>,
    /// Of whom this node, as the manager, knows what they lent.
    cleared: Cleared,
}

impl Core {
    /// A node that starts at `now`, and greets those it knows.
    pub fn start(boot: Boot, now: Duration) -> Self {
        let Boot { me, mut fact, incarnation, ledger, ca, keys, .. } = boot;
        let Boot { mut peers, mut initial, timing, seed, .. } = boot;
        let Boot { lent, cleared, records, protocols, wall_ms, .. } = boot;
        initial.networks.retain(|network, _| ledger.network(*network).is_some());
        fact.protocols = (protocols.lowest, protocols.highest);
        let wall_ms = wall_ms.saturating_sub(millis(now));
        let mut agreed = Agreements::new(());
        for record in records {
            agreed.restore(record);
        }
        let identity = Identity { node: me, incarnation, renewals: 0, address: fact.address };
        peers.retain(|node, _| *node != me && ledger.is_member(*node));
        let known_since = ledger.nodes().map(|admission| (admission.node, now)).collect();
        let mut core = Self {
            me,
            timing,
            facts: Facts::new(incarnation, me),
            agreed,
            specs: BTreeMap::new(),
            protocols,
            spoken: BTreeMap::new(),
            apart: BTreeMap::new(),
            wall_ms,
            twice: BTreeSet::new(),
            excessive: BTreeSet::new(),
            next_expiry: now,
            membership: Membership::new(identity, timing, seed),
            keyring: {
                let mut keyring = Keyring::new(me, ca, keys, timing.detect).speaking(protocols);
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
            unsettled: None,
            started: now,
            told_out: None,
            run: Run::of(incarnation),
            rivals: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            twice_at: None,
            cleared,
            ledger,
            peers,
        };
        core.refresh_specs();
        // Where every node takes part this one does from its first word: else the others would take away for a moment what leads
        // here.
        let before =
            initial.everywhere.iter().filter(|network| core.ledger.network(**network).is_some()).copied();
        let everywhere: Vec<NetworkId> = core.view().everywhere().into_iter().chain(before).collect();
        for network in everywhere {
            initial.networks.entry(network).or_default();
        }
        fact.networks = initial.networks.keys().copied().collect();
        core.unsettled = Some(fact.networks.clone());
        core.begin(fact, initial);
        core.begin_lending(lent);
        for (node, state) in core.observe(now) {
            core.states.insert(node, state);
        }
        core.greet(now);
        core
    }

    /// Whether this node publishes an endpoint of this name.
    fn has_endpoint(&self, scope: Scope, name: &EndpointName) -> bool {
        self.facts.known(scope, self.me).is_some_and(|known| known.endpoints.contains_key(name))
    }

    /// Writes a fact of this node's own, or takes it back. `None` where that was said before.
    fn put<K>(&mut self, scope: Scope, key: &K::Key, value: Option<&K::Value>) -> Option<(Delta, Change)>
    where
        K: FactKind<About = About>,
    {
        let about = self.about(scope, self.me);
        self.facts.put(scope, &about, kinds::key::<K>(key), value.map(kinds::value::<K>))
    }

    /// What the soundness of a document's facts depends on.
    fn about(&self, scope: Scope, writer: NodeId) -> About {
        about(&self.specs, scope, writer)
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

    /// The keys of probes, the newest first.
    pub fn probe_keys(&self) -> Vec<ProbeKey> {
        self.keyring.keys().iter().rev().map(GossipKey::probes).collect()
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

    /// The ledger, for a node that is let in.
    pub fn claims(&self) -> Vec<WireClaim> {
        self.ledger.to_wire()
    }

    /// The records of the whole cluster, for a node that is let in.
    pub fn records(&self) -> Vec<Record> {
        self.agreed.all().collect()
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
            self.expire_records(now);
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

    /// Forgets the documents that nobody wants any more.
    fn purge(&mut self) {
        let unwanted = |(scope, writer, place): &(Scope, NodeId, _)| !self.keeps(*scope, *writer, *place);
        let gone: Vec<(Scope, NodeId)> =
            self.facts.places().filter(unwanted).map(|(scope, writer, _)| (scope, writer)).collect();
        let ledger = &self.ledger;
        self.replays.retain(|node| ledger.is_member(node));
        self.spoken.retain(|node, _| ledger.is_member(*node));
        let changes = self.facts.forget(gone);
        self.changed(changes);
    }

    /// Whether this node has a use for a document that is at `place`.
    fn keeps(&self, scope: Scope, writer: NodeId, place: (Incarnation, Version)) -> bool {
        match scope {
            Scope::Node => self.ledger.node(writer).is_some(),
            Scope::Network(network) => {
                let takes_part = |fact: &NodeFact| fact.networks.contains(&network);
                // What its writer said of itself after that decides whether it still takes part.
                let later = self.facts.place(Scope::Node, writer).is_some_and(|word| word > place);
                self.ledger.network(network).is_some()
                    && self.ledger.is_member(writer)
                    && self.own().is_some_and(takes_part)
                    && !(later && self.node_fact(writer).is_some_and(|fact| !takes_part(fact)))
            }
        }
    }

    fn changed(&mut self, changes: Vec<Change>) {
        for Change { scope, writer: node, key, outcome } in changes {
            let (had, has) = match outcome {
                Outcome::Changed { had, has } => (had, has),
                Outcome::Unsound => {
                    self.stats.facts_unsound += 1;
                    continue;
                }
                Outcome::Foreign | Outcome::Same => continue,
            };
            self.view_changed = true;
            match (scope, key.kind) {
                (Scope::Node, NodeKind::KIND) => {
                    self.nodes = None;
                    let fact = self.node_fact(node).filter(|fact| self.peers.get(&node) != Some(fact));
                    if let Some(fact) = fact.cloned() {
                        self.peers.insert(node, fact.clone());
                        self.out.push_back(Output::Persist(Persist::Peer(node, fact)));
                    }
                }
                (Scope::Network(network), EndpointKind::KIND) => {
                    let Some(name) = EndpointKind::read_key(&key.key) else { continue };
                    match (had, has) {
                        (false, true) => self.event(ClusterEvent::EndpointAdded { network, node, name }),
                        (true, true) => self.event(ClusterEvent::EndpointChanged { network, node, name }),
                        (true, false) => self.event(ClusterEvent::EndpointRemoved { network, node, name }),
                        (false, false) => {}
                    }
                }
                // What is joined and announced changes often, and whoever wants to know looks at the view.
                _ => {}
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
        self.facts.is_consistent(|scope, writer| self.about(scope, writer))
    }

    fn persist_keys(&mut self) {
        self.out.push_back(Output::Persist(Persist::Keys(self.keyring.keys())));
    }

    fn event(&mut self, event: ClusterEvent) {
        self.out.push_back(Output::Event(event));
    }

    /// What this node says of itself.
    fn own(&self) -> Option<&NodeFact> {
        self.node_fact(self.me)
    }

    /// What a node says of itself.
    fn node_fact(&self, node: NodeId) -> Option<&NodeFact> {
        self.facts.known(Scope::Node, node)?.node.as_ref()
    }

    /// The members that are not given up, as far as they belong to the cluster.
    fn up(&self) -> Vec<NodeId> {
        self.membership.alive().map(|id| id.node).filter(|node| self.ledger.is_member(*node)).collect()
    }

    /// Where a node listens, by the newest word about it.
    fn address(&self, node: NodeId) -> Option<SocketAddr> {
        let fact = self.said(node).map(|fact| fact.address);
        fact.or_else(|| self.ledger.node(node).map(|admission| admission.address))
    }
}

/// Takes gossip keys that this CA signed from now on. What is no certificate signs nothing.
fn trust(keyring: &mut Keyring, authority: &[u8]) {
    if let Ok(key) = pki::public_key(authority) {
        keyring.trust(key);
    }
}

/// What the soundness of a document's facts depends on.
fn about(specs: &BTreeMap<NetworkId, Arc<NetworkSpec>>, scope: Scope, writer: NodeId) -> About {
    let network = match scope {
        Scope::Network(network) => specs.get(&network).cloned(),
        Scope::Node => None,
    };
    About { writer, scope, network }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
