//! Sends and answers the probes of each network that this node has, and tells what becomes of them.
//!
//! Owns: the sockets, one for each network, what is to be tried (`goals`), and the events. What follows from the answers
//! is in `health`. What an answer costs is bounded by [`ANSWERS`] whoever asks, and what is asked by `health::Ways`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::seen::Signs;
use super::traits::PROBES;
use super::trials::Trials;
use crate::api::{EventKind, EventLog, EventObject};
use crate::clock::{millis, now_ms};
use crate::cluster::{Cluster, ProbeKey};
use crate::health::{
    self, Ask, Change, Frame, Goal, Kind, Measured, Problem, SHORTEST, Verdict, Way, WayKey, Ways,
};
use crate::kernel::{Linux, ProbeSocket};
use crate::model::{ClusterView, Encryption, Mac, NetworkId, Node, NodeId};
use crate::reconcile::{members, network_mtu, vtep};

/// How long after a socket broke, or could not be opened, it is tried again: at first, and where it goes on.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// No more often than so is it looked what is to be sent.
const PACE: Duration = Duration::from_millis(50);
/// How many frames of one network are taken in a tenth of a second.
const ANSWERS: (u32, Duration) = (200, Duration::from_millis(100));
/// How many changes are told one by one in a minute; the rest as a number.
const SINGLY: (usize, Duration) = (30, Duration::from_secs(60));

/// What is known of the ways to the other nodes. Clones share it.
#[derive(Clone)]
pub struct Health(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) ways: Mutex<Ways>,
    /// The networks whose sockets are open.
    sockets: Mutex<BTreeMap<NetworkId, Arc<ProbeSocket>>>,
    /// Something was heard that may change what is known, or a socket came or went.
    news: Notify,
    /// What on this machine keeps frames from passing (`signs`).
    pub(super) signs: Mutex<Signs>,
    /// The nodes of whom nothing is heard, or who hear nothing, and to whom no route leads (`signs`).
    pub(super) unrouted: Mutex<BTreeSet<NodeId>>,
    /// The probes that were sent outside of the rounds (`trying`).
    pub(super) trials: Trials,
    started: Instant,
    /// Which run of the agent this is, for whoever hears its probes.
    run: u64,
}

/// What a node's health is worked out from.
pub struct Sources {
    /// The cluster, for who is in it and for its keys.
    pub cluster: Cluster,
    /// Where the networks' namespaces are.
    pub kernel: Linux,
    /// The networks that this node has.
    pub present: watch::Receiver<BTreeSet<NetworkId>>,
    /// Where changes are told.
    pub events: EventLog,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is only counted on and replaced: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Shared {
            ways: Mutex::default(),
            sockets: Mutex::default(),
            news: Notify::new(),
            signs: Mutex::default(),
            unrouted: Mutex::default(),
            trials: Trials::default(),
            started: Instant::now(),
            run: now_ms(),
        }))
    }
}

impl Health {
    /// All ways that are tried.
    pub fn ways(&self) -> Vec<(WayKey, Way)> {
        lock(&self.0.ways).all().collect()
    }

    /// The same, with what was measured of each.
    pub fn measured(&self) -> Vec<(WayKey, Way, Measured)> {
        lock(&self.0.ways).measured().collect()
    }

    /// When something was, in milliseconds since 1970, that has a time of [`Way::since`].
    pub fn wall_ms(&self, since: Duration) -> u64 {
        let ago = self.now().saturating_sub(since);
        now_ms().saturating_sub(millis(ago))
    }

    /// What is wrong about the ways and the clocks of those at their other ends. Nothing is said of ways through the mesh to
    /// the nodes in `tunnels`.
    pub fn problems(&self, view: &ClusterView, vxlan_port: u16, tunnels: &BTreeSet<NodeId>) -> Vec<Problem> {
        let mut ways = self.ways();
        let clocks = health::clocks(view, &ways);
        ways.retain(|(key, way)| !(way.goal.encrypted && tunnels.contains(&key.peer)));
        let (signs, unrouted) = (lock(&self.0.signs).clone(), lock(&self.0.unrouted).clone());
        // What is between the nodes has nothing to do with what does not leave this one.
        let no_routes = health::no_routes(view, &ways, &unrouted);
        ways.retain(|(key, way)| !(way.verdict.is_dead() && unrouted.contains(&key.peer)));
        let between = health::problems(view, vxlan_port, &ways);
        no_routes.into_iter().chain(between).chain(clocks).chain(signs.all()).collect()
    }

    /// How far this node's clock is ahead of that of every node that it knows it of, by the least of them, where that is much; with who
    /// that is.
    pub fn clock_ahead(&self) -> Option<(Duration, NodeId)> {
        let ways = self.ways();
        let behind =
            |way: &Way| Duration::from_millis(way.clock_off_ms.map_or(0, |off| off.min(0).unsigned_abs()));
        let known = ways.iter().filter(|(_, way)| way.verdict != Verdict::Untried);
        let least = known.map(|(key, way)| (behind(way), key.peer)).min_by_key(|(behind, _)| *behind)?;
        Some(least).filter(|(behind, _)| !behind.is_zero())
    }

    pub(super) fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Keeps at it until `stop`.
    pub async fn run(self, sources: Sources, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow(sources)).await;
        lock(&self.0.sockets).clear();
    }

    async fn follow(&self, mut sources: Sources) {
        let mut views = sources.cluster.view();
        let keys = sources.cluster.probe_keys();
        let mut listening: BTreeMap<NetworkId, AbortOnDropHandle<()>> = BTreeMap::new();
        let mut told = Told::default();
        let mut last: Option<(Arc<ClusterView>, BTreeSet<NetworkId>)> = None;
        loop {
            let view = views.borrow_and_update().clone();
            let present = sources.present.borrow_and_update().clone();
            listening.retain(|network, _| present.contains(network));
            for network in &present {
                listening.entry(*network).or_insert_with(|| {
                    let listen = self.clone().listen(*network, sources.kernel.clone(), keys.clone(), view.me);
                    AbortOnDropHandle::new(tokio::spawn(listen))
                });
            }
            self.close_all_but(&present);
            let next = {
                let open: BTreeSet<NetworkId> = lock(&self.0.sockets).keys().copied().collect();
                let mut ways = lock(&self.0.ways);
                // Worked out anew only where something is new.
                if !last.as_ref().is_some_and(|(was, had)| Arc::ptr_eq(was, &view) && *had == open) {
                    ways.set(goals(&view, sources.cluster.id(), &open), self.now());
                    last = Some((view.clone(), open));
                }
                let asks = ways.poll(self.now());
                let changes = ways.take_changes();
                let next = ways.next();
                drop(ways);
                self.ask(&view, keys.borrow().first(), &asks);
                told.tell(&sources, &view, self, &changes);
                next
            };
            let rest = next.map_or(Duration::MAX, |next| next.saturating_sub(self.now()));
            tokio::select! {
                // An error means that the cluster or the reconciler is gone, and this is about to be stopped.
                changed = views.changed() => if changed.is_err() { return },
                changed = sources.present.changed() => if changed.is_err() { return },
                () = self.0.news.notified() => {}
                () = sleep(rest) => {}
            }
            // Whatever comes in bursts is looked at once.
            sleep(PACE).await;
        }
    }

    fn close_all_but(&self, present: &BTreeSet<NetworkId>) {
        lock(&self.0.sockets).retain(|network, _| present.contains(network));
    }

    pub(super) fn ask(&self, view: &ClusterView, key: Option<&ProbeKey>, asks: &[Ask]) {
        let (Some(key), Some(me)) = (key, view.myself()) else { return };
        for ask in asks {
            let WayKey { peer, network } = ask.key;
            let socket = lock(&self.0.sockets).get(&network).cloned();
            let (Some(socket), Some(node)) = (socket, view.nodes.get(&peer)) else { continue };
            let frame = Frame {
                kind: Kind::Ask,
                size: ask.size,
                from: view.me,
                to: peer,
                network,
                run: self.0.run,
                number: ask.number,
                clock_ms: now_ms(),
            };
            let sent = socket.send(Mac::of_probe(node.index), Mac::of_probe(me.index), &frame.pack(key));
            if let Err(error) = sent {
                tracing::debug!(%network, node = %node.name, size = ask.size, %error, "a probe is not sent");
            }
        }
    }

    /// Keeps a socket open in a network, and answers what comes there.
    async fn listen(
        self,
        network: NetworkId,
        kernel: Linux,
        keys: watch::Receiver<Vec<ProbeKey>>,
        me: NodeId,
    ) {
        let mut rest = RETRY.0;
        loop {
            match kernel.probe_socket(network).await {
                Ok(socket) => {
                    rest = RETRY.0;
                    let socket = Arc::new(socket);
                    lock(&self.0.sockets).insert(network, socket.clone());
                    self.0.news.notify_one();
                    let error = self.receive(network, &socket, &keys, me).await;
                    tracing::debug!(%network, %error, "the socket for probes is closed");
                    lock(&self.0.sockets).remove(&network);
                    self.0.news.notify_one();
                }
                Err(error) if rest == RETRY.0 => {
                    rest = 2 * rest;
                    tracing::warn!(
                        %network, %error,
                        "whether frames pass to the other nodes of this network is not tried out; it is tried again"
                    );
                }
                Err(_) => rest = RETRY.1.min(2 * rest),
            }
            sleep(rest).await;
        }
    }

    /// Answers what comes until the socket breaks.
    async fn receive(
        &self,
        network: NetworkId,
        socket: &ProbeSocket,
        keys: &watch::Receiver<Vec<ProbeKey>>,
        me: NodeId,
    ) -> std::io::Error {
        let mut buffer = Vec::new();
        let (mut window, mut taken) = (Instant::now(), 0);
        loop {
            let (from, payload) = match socket.receive(&mut buffer).await {
                Ok(received) => received,
                Err(error) => return error,
            };
            taken += 1;
            if window.elapsed() >= ANSWERS.1 {
                (window, taken) = (Instant::now(), 0);
            } else if taken >= ANSWERS.0 {
                // What comes meanwhile waits in the socket, and is lost where that is full.
                sleep(ANSWERS.1.saturating_sub(window.elapsed())).await;
            }
            let (frame, key) = {
                let keys = keys.borrow();
                (Frame::read(payload, &keys), keys.first().cloned())
            };
            let (Some(frame), Some(key)) = (frame, key) else { continue };
            if frame.to == me && frame.network == network {
                self.take(&frame);
                if frame.kind == Kind::Ask {
                    let answer = frame.answer(now_ms());
                    // To the MAC that it came from, and from the one that it was for.
                    let own = socket.send(from, own_mac(&buffer), &answer.pack(&key));
                    if let Err(error) = own {
                        tracing::debug!(%network, size = frame.size, %error, "a probe is not answered");
                    }
                }
            }
        }
    }

    /// Takes up a probe that a node of the cluster sent.
    fn take(&self, frame: &Frame) {
        let key = WayKey { peer: frame.from, network: frame.network };
        let now = self.now();
        let ahead = i64::try_from(i128::from(frame.clock_ms) - i128::from(now_ms())).unwrap_or(i64::MAX);
        let mut ways = lock(&self.0.ways);
        match frame.kind {
            Kind::Ask => ways.heard(key, frame.run, frame.number, now),
            Kind::Answer if frame.run == self.0.run => {
                if !self.0.trials.take(frame.number) {
                    ways.answered(key, frame.number, now);
                }
            }
            Kind::Answer => return,
        }
        ways.clock(key, ahead);
        if ways.has_changes() {
            self.0.news.notify_one();
        }
    }
}

/// The MAC that a frame was for.
fn own_mac(frame: &[u8]) -> Mac {
    frame.first_chunk().map_or(Mac([0; 6]), |mac| Mac(*mac))
}

/// The ways that there are: to each node that answers and says that it answers probes, in each network in which both have
/// endpoints, whose socket is open.
fn goals(view: &ClusterView, cluster: &str, open: &BTreeSet<NetworkId>) -> BTreeMap<WayKey, Goal> {
    let mut goals = BTreeMap::new();
    for network in open.iter().filter_map(|id| view.networks.get(id)) {
        let spec = &network.spec;
        let has_some = |id: &NodeId| network.endpoints.get(id).is_some_and(|endpoints| !endpoints.is_empty());
        if !has_some(&view.me) {
            continue;
        }
        let none = BTreeSet::new();
        let Ok(mtu) = network_mtu(spec, members(view, spec.id, &none)) else { continue };
        let tried = |node: &&Node| {
            node.id != view.me && node.state.is_up() && node.labels.contains_key(PROBES) && has_some(&node.id)
        };
        for node in view.nodes.values().filter(tried) {
            let goal = Goal {
                at: vtep(cluster, spec, node),
                size: u16::try_from(mtu).unwrap_or(u16::MAX).clamp(SHORTEST, LARGEST),
                encrypted: spec.options.encrypt == Encryption::Wireguard,
            };
            goals.insert(WayKey { peer: node.id, network: spec.id }, goal);
        }
    }
    goals
}

/// What is read of a frame at most; larger packets are as likely to pass as these.
const LARGEST: u16 = 9000;

/// What was told lately.
#[derive(Default)]
struct Told {
    window: Duration,
    count: usize,
    left_out: usize,
}

impl Told {
    fn tell(&mut self, sources: &Sources, view: &ClusterView, health: &Health, changes: &[Change]) {
        let now = health.now();
        if now >= self.window + SINGLY.1 {
            if self.left_out > 0 {
                let text = format!(
                    "{} more ways to other nodes changed: `lanmesh status` says which are not well",
                    self.left_out
                );
                tracing::warn!("{text}");
                sources.events.publish(EventKind::PathChanged, EventObject::default(), text);
            }
            *self = Self { window: now, count: 0, left_out: 0 };
        }
        // The first that is known is no news where it is good.
        let worth = |change: &&Change| change.is.is_bad() || change.was != Verdict::Untried;
        let ways = if changes.is_empty() { Vec::new() } else { health.ways() };
        for change in changes.iter().filter(worth) {
            if self.count >= SINGLY.0 {
                self.left_out += 1;
                continue;
            }
            self.count += 1;
            tell(sources, view, &ways, change);
        }
    }
}

fn tell(sources: &Sources, view: &ClusterView, ways: &[(WayKey, Way)], change: &Change) {
    let WayKey { peer, network } = change.key;
    let node = view.nodes.get(&peer).map(|node| node.name.clone());
    let network = view.networks.get(&network).map(|network| network.spec.name.clone());
    let this: Vec<_> = ways.iter().filter(|(key, _)| *key == change.key).copied().collect();
    let text = match health::problems(view, sources.vxlan_port, &this).into_iter().next() {
        Some(problem) => {
            tracing::warn!("{}: {}", problem.what, problem.hint);
            format!("{}: {}", problem.what, problem.hint)
        }
        None => {
            let name = |name: Option<String>| name.unwrap_or_default();
            let text = format!(
                "network {}: whole packets pass to node {} and back again",
                name(network.as_ref().map(ToString::to_string)),
                name(node.as_ref().map(ToString::to_string))
            );
            tracing::info!("{text}");
            text
        }
    };
    sources.events.publish(EventKind::PathChanged, EventObject { node, network, endpoint: None }, text);
}
