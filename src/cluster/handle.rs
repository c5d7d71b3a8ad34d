//! The handle that the agent holds: calls into the cluster's thread and what comes out of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::authority::StoredAuthority;
use super::core::{Boot, Core, Persist};
use super::desk::Desk;
use super::driver::{self, Link, Outlets};
use super::facts::{FactKey, Kind, Scope};
use super::join::client::Caller;
use super::join::gate::Gate;
use super::join::token::{Token, cluster_id};
use super::joined::Joined;
use super::kinds::{self, About, NodeFact, NodeKind};
use super::ledger::{Admission, Claim, Ledger};
use super::looks::Looks;
use super::persister::Persister;
use super::pki::{self, Authority};
use super::store::{self, Enrolment, Remembered};
use super::streams::{self, Counters, Streams};
use super::told::Teller;
use super::trust::Trusted;
use super::ways::WaysTeller;
use super::{
    ClusterConfig, ClusterError, ClusterEvent, InitConfig, Initial, JoinConfig, ProbeKey, Refusal, Stats,
};
use crate::clock::now_ms;
use crate::mesh::MeshSecret;
use crate::model::{ClusterView, Endpoint, EndpointName, NetworkId, NodeId, NodeIndex, NodeName, Setting};
use crate::state::State;

/// How many events a slow reader may be behind.
const EVENTS: usize = 4096;

/// What is carried of one kind and of one writer, in one document or among the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// `node`, `record`, `ledger`, or the id of a network.
    pub place: String,
    /// The kind's number.
    pub kind: u16,
    /// What people call it; `None` where this release does not know it.
    pub name: Option<String>,
    /// Who wrote it; `None` of the ledger.
    pub writer: Option<NodeId>,
    /// How many there are.
    pub entries: usize,
    /// How many bytes their keys and values take.
    pub bytes: usize,
}

/// This node's membership in a cluster. Clones share it; it runs until [`Cluster::shutdown`] or
/// [`Cluster::leave`], or until the last clone is dropped.
///
/// A call that changes something returns when the change is in this node's own [`Cluster::view`] and on its
/// way to the others; what must survive a crash is durable by then.
#[derive(Clone)]
pub struct Cluster(pub(super) Arc<Inner>);

pub(super) struct Inner {
    id: String,
    me: NodeId,
    pub state: State,
    pub link: Link,
    pub streams: Arc<Streams>,
    pub mesh: watch::Receiver<Option<MeshSecret>>,
    probes: watch::Receiver<Vec<ProbeKey>>,
    view: watch::Receiver<Arc<ClusterView>>,
    settled: watch::Receiver<bool>,
    events: broadcast::Sender<ClusterEvent>,
    stats: Arc<Mutex<Stats>>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    gossip: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.streams.stop.cancel();
    }
}

impl Cluster {
    /// Makes a new cluster with this node as its manager, index 0. Must run inside a tokio runtime, which then
    /// carries the streams; so must `join` and `resume`.
    pub async fn create(config: InitConfig) -> Result<Self, ClusterError> {
        let InitConfig { common, name, advertise } = config;
        store::check_free(&common.state)?;
        let sockets = Sockets::bind(&common, advertise).await?;
        let (node, index) = (NodeId::random(), NodeIndex(0));
        let (key, request) = pki::new_key()?;
        let gate = Gate::new(Authority::generate(&name.to_string())?);
        let ca = gate.authority().certificate().to_vec();
        let certificate = gate.authority().sign(node, &request)?;
        let mut ledger = Ledger::default();
        let noted = Some(pki::key_of_request(&request)?);
        let admission =
            Admission { term: 1, node, name: name.clone(), index, address: advertise, key: noted };
        ledger.merge(Claim::Admitted(admission));
        ledger.merge(Claim::Manager { term: 1, node });
        ledger.merge(Claim::Authority { term: 1, certificate: ca.clone() });
        let cluster = cluster_id(&pki::fingerprint(&ca));
        let enrolment = Enrolment { cluster, node, name, index, address: advertise, ca, certificate, key };
        let entered = Remembered {
            enrolment,
            keys: vec![gate.next_key((0, 0), true)?],
            ledger,
            peers: BTreeMap::new(),
            records: Vec::new(),
            lent: BTreeMap::new(),
            cleared: Default::default(),
            authority: Some(gate.to_store()),
        };
        store::enter(&common.state, &entered)?;
        Self::start(common, entered, Some(gate), Initial::default(), sockets)
    }

    /// Joins the cluster that the token names. After an error this node belongs to none, as before; where the manager has
    /// let it in all the same, the next attempt under the same name takes that up.
    pub async fn join(config: JoinConfig) -> Result<Self, ClusterError> {
        Self::join_at(config, now_ms()).await
    }

    /// Joins with a clock that says `clock_ms`.
    pub(super) async fn join_at(config: JoinConfig, clock_ms: u64) -> Result<Self, ClusterError> {
        store::check_free(&config.common.state)?;
        let caller = Caller::connect(&config).await?;
        // Before anything is asked: a node that cannot listen must not be let in.
        let sockets = Sockets::bind(&config.common, caller.advertise).await?;
        let pending = store::pending(&config.common.state, &config.name, pki::fingerprint(&caller.ca))?;
        let entered = caller.ask(&config, pending, clock_ms).await?;
        store::enter(&config.common.state, &entered)?;
        Self::start(config.common, entered, None, Initial::default(), sockets)
    }

    /// Goes on as the member that the state says this node is; `None` where it says none.
    ///
    /// Needs neither token nor manager. `initial` is published before the first exchange with anybody; networks
    /// in it that were deleted meanwhile are left out.
    pub async fn resume(config: ClusterConfig, initial: Initial) -> Result<Option<Self>, ClusterError> {
        if store::was_leaving(&config.state)? {
            // It may have told the others.
            store::forget(&config.state)?;
        }
        let Some(mut remembered) = store::load(&config.state)? else { return Ok(None) };
        if let Some(advertise) = config.advertise {
            remembered.enrolment.address = advertise;
        }
        let sockets = Sockets::bind(&config, remembered.enrolment.address).await?;
        let ca = remembered.enrolment.ca.clone();
        // The agent may have stopped between hearing of another manager and forgetting the secrets.
        let manages = remembered.ledger.manager().is_some_and(|(_, node)| node == remembered.enrolment.node);
        let stored = remembered.authority.take().filter(|_| manages);
        let gate = stored.map(|stored| Gate::restore(ca, stored)).transpose()?;
        Self::start(config, remembered, gate, initial, sockets).map(Some)
    }

    fn start(
        config: ClusterConfig,
        remembered: Remembered,
        gate: Option<Gate>,
        initial: Initial,
        sockets: Sockets,
    ) -> Result<Self, ClusterError> {
        let Remembered { enrolment, keys, ledger, peers, records, lent, cleared, .. } = remembered;
        let incarnation = store::next_incarnation(&config.state, config.machine.as_deref(), now_ms())?;
        let authorities = ledger.authorities().map(<[u8]>::to_vec).collect();
        let tls = Trusted::new(
            config.protocols,
            &enrolment,
            authorities,
            gate.as_ref().and_then(|gate| gate.chain().cloned()),
        )?;
        let fact = NodeFact {
            name: enrolment.name,
            index: enrolment.index,
            address: enrolment.address,
            vtep: config.vtep.unwrap_or(enrolment.address.ip()),
            underlay_mtu: kinds::carried(config.underlay_mtu),
            networks: Default::default(),
            mesh: initial.mesh.clone(),
            protocols: (config.protocols.lowest, config.protocols.highest),
            traits: config.traits,
        };
        let about = About { writer: enrolment.node, scope: Scope::Node, network: None };
        kinds::check::<NodeKind>(&about, &(), &fact)?;
        let boot = Boot {
            me: enrolment.node,
            fact,
            incarnation,
            ledger,
            ca: pki::public_key(&enrolment.ca)?,
            keys,
            peers,
            initial,
            lent,
            cleared,
            records,
            protocols: config.protocols,
            wall_ms: now_ms(),
            timing: config.timing,
            seed: rand::random(),
        };
        let (link, calls) = Link::new();
        let (persister, writer) = Persister::start(config.state.clone())?;
        let empty = ClusterView {
            me: enrolment.node,
            nodes: Arc::default(),
            networks: BTreeMap::new(),
            services: Arc::default(),
            loans: Arc::default(),
            mesh_ports: Arc::default(),
        };
        let (view_sender, view) = watch::channel(Arc::new(empty));
        let (settled_sender, settled) = watch::channel(false);
        let (inbound, outbound) = streams::limits();
        let streams = Arc::new(Streams {
            protocols: config.protocols,
            link: link.clone(),
            tls,
            persister: persister.clone(),
            gate: Mutex::new(gate),
            counters: Counters::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            outbound,
            inbound,
            slots: Arc::default(),
            view: view.clone(),
            settled: settled.clone(),
            joined: Joined::default(),
            loans: Desk::of_loans(),
            traces: Desk::of_traces(),
            captures: Desk::of_captures(),
            drops: Desk::of_drops(),
            looks: Looks::default(),
            teller: Teller::default(),
            ways: WaysTeller::default(),
            changing: tokio::sync::Mutex::default(),
            left: Arc::default(),
            clock: now_ms,
        });
        let (mesh_sender, mesh) = watch::channel(None);
        let (probes_sender, probes) = watch::channel(Vec::new());
        let (events, _) = broadcast::channel(EVENTS);
        let stats = Arc::new(Mutex::new(Stats::default()));
        let runtime = tokio::runtime::Handle::current();
        let syncs = Arc::downgrade(&streams);
        let sync = move |peer, address| {
            if let Some(streams) = syncs.upgrade() {
                let tasks = streams.tasks.clone();
                tasks.spawn_on(streams.sync(peer, address), &runtime);
            }
        };
        let trusts = Arc::downgrade(&streams);
        let trust = move |authorities: &[Vec<u8>]| {
            if let Some(streams) = trusts.upgrade() {
                streams.tls.follow(authorities);
            }
        };
        let left = Arc::clone(&streams.left);
        let core = Core::start(boot, Duration::ZERO);
        // The first view is there before anybody can look.
        view_sender.send_replace(Arc::new(core.view()));
        mesh_sender.send_replace(core.mesh_secret());
        probes_sender.send_replace(core.probe_keys());
        let outlets = Outlets {
            view: view_sender,
            events: events.clone(),
            stats: Arc::clone(&stats),
            settled: settled_sender,
            mesh: mesh_sender,
            probes: probes_sender,
            persister,
            sync: Box::new(sync),
            trust: Box::new(trust),
            left: Box::new(move || left.notify_one()),
        };
        let gossip = driver::spawn(core, sockets.udp, calls, outlets, streams.stop.clone())?;
        streams.tasks.spawn(Arc::clone(&streams).serve(sockets.tcp));
        let threads = Mutex::new(Some(Threads { gossip, writer }));
        let (id, me, state) = (enrolment.cluster, enrolment.node, config.state);
        let inner =
            Inner { id, me, state, link, streams, mesh, probes, view, settled, events, stats, threads };
        let cluster = Self(Arc::new(inner));
        cluster.rotate_when_due(config.rotate);
        Ok(cluster)
    }

    /// Who this node is.
    pub fn me(&self) -> NodeId {
        self.0.me
    }

    /// The cluster's id: 16 hexadecimal digits, the beginning of its first CA's fingerprint.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Whether `token` lets nodes into this cluster, or once did.
    pub fn is_of(&self, token: &str) -> bool {
        token.parse::<Token>().is_ok_and(|token| self.0.streams.tls.knows(&token.fingerprint))
    }

    /// What this node knows; changes whenever that does.
    pub fn view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.0.view.clone()
    }

    /// The keys by which nodes know each other's probes, the newest first: that one is to be sent with, and whatever was
    /// sealed with any of them is a node's.
    pub fn probe_keys(&self) -> watch::Receiver<Vec<ProbeKey>> {
        self.0.probes.clone()
    }

    /// Returns when this node has compared each of its networks with another node that has it, or when nobody
    /// answered for the detection time. Before that the view may lack what the others have.
    pub async fn settled(&self) {
        let mut settled = self.0.settled.clone();
        // An error means that the cluster has stopped, so nothing more will come.
        let _ = settled.wait_for(|settled| *settled).await;
    }

    /// What happens from now on. A reader that lags loses the oldest events.
    pub fn events(&self) -> broadcast::Receiver<ClusterEvent> {
        self.0.events.subscribe()
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = &self.0.streams.counters;
        let mut stats = *lock(&self.0.stats);
        stats.syncs_served = counters.served.load(Relaxed);
        stats.streams_refused = counters.refused.load(Relaxed);
        stats.stream_bytes = counters.bytes.load(Relaxed);
        stats.joins_refused = counters.joins_refused.load(Relaxed);
        stats
    }

    /// The node that hands out indexes: its id, and its name where it still is a node.
    pub async fn manager(&self) -> Result<Option<(NodeId, Option<NodeName>)>, ClusterError> {
        self.with(|core| {
            let (_, node) = core.ledger().manager()?;
            Some((node, core.ledger().node(node).map(|admission| admission.name.clone())))
        })
        .await
    }

    /// Why this node does not belong to the cluster any more; `None` where it does.
    pub async fn why_out(&self) -> Result<Option<Refusal>, ClusterError> {
        self.with(|core| core.why_out()).await
    }

    /// Publishes where this node's VXLAN packets come from and how large they may be, in bytes.
    pub async fn set_self(&self, vtep: IpAddr, underlay_mtu: u32) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.set_self(vtep, underlay_mtu, now)).await?
    }

    /// Publishes that this node is at another address, and that its VXLAN packets come from there; the port stays.
    pub async fn move_to(&self, address: IpAddr, underlay_mtu: u32) -> Result<(), ClusterError> {
        let view = self.0.view.borrow().clone();
        let me = view.myself().ok_or(ClusterError::Stopped)?;
        let address = SocketAddr::new(address, me.address.port());
        // Before anybody hears of it: after a crash the old one would be said again.
        store::moved(&self.0.state, address)?;
        self.0.link.with(move |core, now| core.move_to(address, underlay_mtu, now)).await?
    }

    /// Begins to follow a network's endpoints. Repeating it changes nothing.
    pub async fn take_part(&self, network: NetworkId) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.take_part(network, now)).await?
    }

    /// Takes back all own endpoints of a network and stops following it. Repeating it changes nothing.
    pub async fn leave_network(&self, network: NetworkId) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.give_up(network, now)).await
    }

    /// Publishes an endpoint of this node, or a change of one; takes part in the network from then on.
    pub async fn put_endpoint(&self, network: NetworkId, endpoint: Endpoint) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.put_endpoint(network, &endpoint, now)).await?
    }

    /// Takes an endpoint of this node back; `false` where it had none of that name.
    pub async fn remove_endpoint(
        &self,
        network: NetworkId,
        name: EndpointName,
    ) -> Result<bool, ClusterError> {
        self.0.link.with(move |core, now| core.remove_endpoint(network, &name, now)).await
    }

    /// The settings of a network that were changed since it was created, by name.
    pub async fn network_settings(
        &self,
        network: NetworkId,
    ) -> Result<BTreeMap<String, Setting>, ClusterError> {
        self.with(move |core| core.network_settings(network)).await
    }

    /// Every fact and every record that this node carries, whatever it means, by kind and writer.
    pub async fn carried(&self) -> Result<Vec<Carried>, ClusterError> {
        self.with(|core| core.carried()).await
    }

    /// Publishes facts and a record of a kind that no release knows, to try how others carry what they do not know.
    pub async fn publish_unknown(&self, number: u16, value: Vec<u8>) -> Result<(), ClusterError> {
        let publish = move |core: &mut Core, now| {
            let key = FactKey { kind: Kind(number), key: Bytes::from_static(b"unknown") };
            core.put_raw(Scope::Node, key.clone(), value.clone().into(), now)?;
            let networks = core.view().myself().map(|me| me.networks.clone()).unwrap_or_default();
            for network in networks {
                core.put_raw(Scope::Network(network), key.clone(), value.clone().into(), now)?;
            }
            core.write_raw(key, Some(value.into()), now)
        };
        self.0.link.with(publish).await?
    }

    /// The token that lets nodes in. Manager only.
    pub async fn token_show(&self) -> Result<String, ClusterError> {
        self.with_gate(|gate| Ok(gate.token().to_string())).await
    }

    /// Makes a new token and refuses the old one from now on. Manager only.
    pub async fn token_rotate(&self) -> Result<String, ClusterError> {
        // That it is the manager, or who is.
        self.with_gate(|_| Ok(())).await?;
        let (this, that) = (Arc::clone(&self.0.streams), Arc::clone(&self.0.streams));
        let prepare = move |_: &Core, _| {
            let next = lock(&this.gate).as_ref().map(Gate::with_new_secret).ok_or(ClusterError::Stopped)?;
            Ok::<_, ClusterError>((vec![Persist::Authority(next.clone())], next))
        };
        let commit = move |_: &mut Core, next: StoredAuthority, _| {
            let mut gate = lock(&that.gate);
            let gate = gate.as_mut().ok_or(ClusterError::Stopped)?;
            gate.rotate(&next);
            Ok(gate.token().to_string())
        };
        self.0.streams.durably(prepare, commit).await?
    }

    /// Makes this node the manager, with a new CA and a new token; what it has already changes nothing. A manager that
    /// answers has to be overruled (`force`), and steps down.
    pub async fn recover(&self, force: bool) -> Result<(), ClusterError> {
        let (manages, manager, name) =
            self.with(|core| (core.is_manager(), core.ledger().manager(), core.manager_name())).await?;
        let streams = &self.0.streams;
        if manages && lock(&streams.gate).is_some() {
            return Ok(());
        }
        let view = self.0.view.borrow().clone();
        let node = manager.and_then(|(_, node)| view.nodes.get(&node)).filter(|node| node.id != self.0.me);
        if !force && node.is_some_and(|node| node.state.is_up()) {
            return Err(ClusterError::ManagerAnswers { manager: name });
        }
        let me = view.myself().ok_or(ClusterError::Stopped)?;
        let (ca, key) = streams.tls.own();
        let gate = Gate::take_over(me.id, &me.name, key)?;
        let (authority, ca) = (gate.authority().certificate().to_vec(), ca.to_vec());
        let prepare = move |core: &Core, _| {
            let claims = core.takeover(authority, ca);
            let mut changes = vec![Persist::Authority(gate.to_store())];
            changes.extend(claims.iter().cloned().map(Persist::Claim));
            Ok::<_, ClusterError>((changes, (gate, claims)))
        };
        let this = Arc::clone(streams);
        let commit = move |core: &mut Core, (gate, claims): (Gate, Vec<Claim>), now| {
            // Its own first: once the others know of the CA, this node must be able to use it.
            this.tls.show(gate.chain().cloned());
            *lock(&this.gate) = Some(gate);
            core.recover(claims, now);
        };
        streams.durably(prepare, commit).await?;
        // The one before may have owed keys.
        streams.left.notify_one();
        Ok(())
    }

    /// The node that has this one's index or name by right, where two managers gave one to two nodes during a cut.
    pub async fn overruled_by(&self) -> Result<Option<(NodeName, NodeIndex)>, ClusterError> {
        self.with(|core| core.overruled_by().map(|other| (other.name, other.index))).await
    }

    /// Notes that this node leaves: from now on it is out when it starts again.
    ///
    /// # Errors
    /// That cannot be kept. It stays.
    pub fn begin_to_leave(&self) -> Result<(), ClusterError> {
        Ok(store::begin_to_leave(&self.0.state)?)
    }

    /// Tells the others that this node goes, stops, and forgets the cluster (all of `cluster/` but the count of
    /// its starts). [`Cluster::begin_to_leave`] comes first.
    pub async fn leave(&self) -> Result<(), ClusterError> {
        let told = self.0.link.with(Core::leave).await;
        self.shutdown().await;
        store::forget(&self.0.state)?;
        told
    }

    /// Stops without a word and returns when the sockets are closed and all is written: the node stays a member,
    /// and is seen dead until it resumes.
    pub async fn shutdown(&self) {
        self.0.streams.stop.cancel();
        self.0.streams.tasks.close();
        self.0.streams.tasks.wait().await;
        let Some(Threads { gossip, writer }) = lock(&self.0.threads).take() else { return };
        let persister = self.0.streams.persister.clone();
        let ended = tokio::task::spawn_blocking(move || {
            // The writer last: the gossip thread may hand something over when it ends.
            let _ = gossip.join();
            persister.stop();
            let _ = writer.join();
        });
        let _ = ended.await;
    }

    async fn with<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, ClusterError> {
        self.0.link.with(move |core, _| f(core)).await
    }

    /// Does what only the manager can.
    pub(super) async fn with_gate<R>(
        &self,
        f: impl FnOnce(&mut Gate) -> Result<R, ClusterError>,
    ) -> Result<R, ClusterError> {
        let known = |core: &mut Core| (core.is_manager(), core.manager_name(), core.manager_that_left());
        let (manages, manager, left) = self.with(known).await?;
        let mut gate = lock(&self.0.streams.gate);
        if !manages {
            // Its secrets were forgotten on disk when another took the role over.
            *gate = None;
        }
        match (gate.as_mut(), left) {
            (Some(gate), _) => f(gate),
            (None, Some(manager)) => Err(ClusterError::ManagerLeft { manager }),
            (None, None) => Err(ClusterError::NotManager { manager }),
        }
    }
}

struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    async fn bind(config: &ClusterConfig, advertise: SocketAddr) -> Result<Self, ClusterError> {
        if advertise.ip().is_unspecified() || advertise.ip().is_multicast() || advertise.port() == 0 {
            return Err(ClusterError::Advertise(advertise));
        }
        let everywhere = match advertise {
            SocketAddr::V4(v4) => SocketAddr::from(([0, 0, 0, 0], v4.port())),
            SocketAddr::V6(v6) => SocketAddr::from(([0; 16], v6.port())),
        };
        let address = config.listen.unwrap_or(everywhere);
        let tcp = TcpListener::bind(address).await.map_err(|source| ClusterError::Bind {
            address,
            protocol: "TCP",
            source,
        })?;
        Ok(Self { udp: driver::bind_udp(address)?, tcp })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left whole values behind: they are only replaced, never half-written.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
