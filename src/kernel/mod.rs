//! The boundary to the kernel: what of ours is there, and how it becomes what a plan says.
//!
//! Owns: network namespaces, links, FDB, neighbours and addresses of the overlays, and their events. Does not
//! own: what should be there (`plan`, `reconcile`). Nothing that is not ours is ever touched: ours is what lies
//! in a namespace that is mounted under our run directory, and the far ends of the veth pairs from there.

mod apply;
mod asking;
mod bulk;
mod capabilities;
mod capture;
mod contract;
mod counters;
mod counts;
mod default_route;
mod discovery;
mod error;
mod events;
mod fake;
mod filter;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod hearing;
mod joins;
mod leftovers;
mod links;
mod listeners;
mod mdb;
mod members;
mod mesh;
mod mounts;
mod netns;
mod nft;
mod notes;
mod notices;
mod observe;
mod own;
mod packets;
mod paths;
mod port;
mod ports;
mod probe;
mod queries;
mod raw;
mod reports;
mod room;
mod route_changes;
mod routing;
mod rule_changes;
mod services;
mod session;
mod sight;
mod signs;
mod traffic;
mod underlay;
mod underlay_guard;
pub mod wireguard;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, OnceCell, mpsc};

use self::capabilities::Abilities;
use self::events::Watcher;
use self::members::Members;
use self::netns::{Netns, NetnsDir, if_there};
use self::queries::QueryLimit;
use self::room::Room;
use self::session::Session;
use self::traffic::PortNames;
use crate::model::{EndpointName, Group, GroupMember, Means, NetworkId};
use crate::namespace::enter;
use crate::plan::{
    Action, DesiredPort, GuardStep, MeshAction, Observed, ObservedMesh, ObservedNetwork,
    ObservedUnderlayGuard, Op, Plan,
};

pub use capabilities::Capability;
pub use capture::CaptureSocket;
pub use contract::{Can, Kernel};
pub use counters::Dropped;
pub use discovery::{How, Said};
pub use error::KernelError;
pub use fake::Fake;
pub use filter::STAYS_MARK;
pub use guard::{DropKind, PortDrops};
pub use hearing::{Heard, Hearing};
pub use leftovers::Leftover;
pub use links::BRIDGE;
pub use links::ENDPOINT_GROUPS_MAX;
pub use listeners::Listens;
pub use own::{HostRoute, OwnNamespace};
pub use probe::{ProbeSocket, can_probe};
pub use reports::Reporter;
pub use services::{ClientKey, ClientPlace};
pub use signs::{NeighbourTable, NetworkSigns, NodeSigns};
pub use traffic::{PortTraffic, TunnelTraffic};
pub use underlay_guard::Refused;

/// Where the kernel part keeps what has to have a path.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// The run directory; the namespaces are mounted at `netns/NETWORKID` in it.
    pub run_dir: PathBuf,
    /// What is to be done without, as on a kernel that has it not.
    pub without: Vec<Means>,
    /// How many DNS queries a second of each endpoint reach the name server of its network while others ask too.
    pub queries_per_s: u32,
}

/// A handle on this node's kernel, over netlink. Clones share it.
#[derive(Clone)]
pub struct Linux {
    inner: Arc<Inner>,
}

struct Inner {
    run_dir: PathBuf,
    dir: NetnsDir,
    /// The node's own namespace, where the underlay is.
    own: Netns,
    /// What keeps strangers out of plain networks, in there.
    underlay_guard: underlay_guard::Table,
    without: Vec<Means>,
    queries: QueryLimit,
    /// Found out when they are first needed.
    abilities: OnceCell<Abilities>,
    watcher: Watcher,
    members: Members,
    port_names: PortNames,
    /// Held while one endpoint's interface is made, repaired or removed.
    ports: Mutex<()>,
}

impl Inner {
    async fn own_session(&self) -> Result<Session, KernelError> {
        Session::open(&self.own).await
    }

    async fn abilities(&self) -> Abilities {
        *self.abilities.get_or_init(|| Abilities::find(&self.without)).await
    }

    /// Lets go of a network's namespace, which is to go or is made anew, and of what is known of it.
    async fn forget_network(&self, network: NetworkId) {
        self.watcher.forget_network(network).await;
        self.members.forget(network);
        self.port_names.forget(network);
    }

    async fn room(&self, network: NetworkId) -> Result<Room, KernelError> {
        Room::open(&self.dir, network).await?.ok_or(KernelError::NoSuchNetwork { network })
    }
}

impl fmt::Debug for Linux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linux").field("dir", &self.inner.dir).field("own", &self.inner.own).finish()
    }
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many operations succeeded.
    pub done: usize,
    /// Those that failed, in order, and why. What relied on a failed one is here too.
    pub failed: Vec<(Op, KernelError)>,
}

/// What carries our VXLAN packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// The name of the interface that has this node's address.
    pub device: String,
    /// The largest packet that the ways to all the other nodes take, in bytes.
    pub mtu: u32,
}

/// Something that changed in the kernel, by someone else's hand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelEvent {
    /// An endpoint's interface went away without a detach: its container is gone. By the time this is read the
    /// endpoint may have been attached anew: look whether it is still missing before acting on it.
    PortGone {
        /// The network.
        network: NetworkId,
        /// The endpoint.
        name: EndpointName,
    },
    /// The bridge or the VXLAN device of a network went away, is down or apart, or has another MTU (the last also
    /// by our own hand): observe the network again.
    LinkChanged {
        /// The network.
        network: NetworkId,
    },
    /// A device of the mesh went away or down, perhaps by our own hand: observe the mesh again.
    MeshChanged,
    /// An interface that [`Linux::underlay`] found on the way to the underlay has another MTU: ask again.
    UnderlayChanged,
    /// An address of the node itself came or went.
    AddressesChanged,
    /// Somebody else changed rules of ours, in a network's namespace or in the node's own: observe them again.
    RulesChanged {
        /// The network.
        network: Option<NetworkId>,
    },
    /// Somebody else changed routes of the node, or which of them are taken.
    RoutesChanged,
    /// Events were lost: observe everything again.
    Lost,
}

impl Linux {
    /// Takes the calling thread's network namespace as the node's own, and makes the run directory.
    pub fn open(config: KernelConfig) -> Result<Self, KernelError> {
        let dir = NetnsDir::open(&config.run_dir)?;
        let run_dir = config.run_dir.canonicalize().unwrap_or_else(|_| config.run_dir.clone());
        let inner = Inner {
            run_dir: config.run_dir,
            dir,
            underlay_guard: underlay_guard::Table::of(&run_dir),
            own: Netns::current()?,
            without: config.without,
            queries: QueryLimit { per_s: config.queries_per_s },
            abilities: OnceCell::new(),
            watcher: Watcher::default(),
            members: Members::default(),
            port_names: PortNames::default(),
            ports: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The kernel without a run directory: for what is in the node's own namespace.
    pub fn here() -> Result<Self, KernelError> {
        // Nothing is ever mounted there; only its name is needed.
        let nowhere = std::env::temp_dir().join(format!("lanmesh-nowhere-{}", std::process::id()));
        let opened =
            Self::open(KernelConfig { run_dir: nowhere.clone(), without: Vec::new(), queries_per_s: 1 });
        let _ = std::fs::remove_dir(nowhere.join("netns")).and_then(|()| std::fs::remove_dir(&nowhere));
        opened
    }

    /// Everything of ours that is in the kernel, what a crashed agent left included.
    pub async fn observe(&self) -> Result<Observed, KernelError> {
        let mut observed = Observed::default();
        for id in self.inner.dir.list()? {
            // A file without a namespace is ours too: an empty network, to be completed or removed.
            let network = self.observe_network(id).await?.unwrap_or_default();
            observed.networks.insert(id, network);
        }
        Ok(observed)
    }

    /// One network as it is; `None` if it has no namespace here.
    pub async fn observe_network(&self, id: NetworkId) -> Result<Option<ObservedNetwork>, KernelError> {
        match Room::open(&self.inner.dir, id).await? {
            Some(room) => room.observe(self.inner.abilities().await, self.inner.queries).await.map(Some),
            None => Ok(None),
        }
    }

    /// What of the mesh is on this node.
    pub async fn observe_mesh(&self) -> Result<ObservedMesh, KernelError> {
        mesh::observe(&self.inner).await
    }

    /// The largest packets that pass through the mesh from `from`, an address of ours in it, to each of `peers` and
    /// back, up to those that are named, in bytes; 0 where nothing does. Takes up to a second, and some where a path
    /// is smaller. `None` while there is no mesh.
    pub async fn try_mesh_paths(
        &self,
        from: Ipv6Addr,
        peers: BTreeMap<Ipv6Addr, u32>,
    ) -> Result<Option<BTreeMap<Ipv6Addr, u32>>, KernelError> {
        match self.inner.dir.mesh().await? {
            Some(mesh) => paths::try_out(&mesh, from, peers).await.map(Some),
            None => Ok(None),
        }
    }

    /// Carries out steps of the mesh; those that failed, and why. One that fails does not keep the others from
    /// being tried.
    pub async fn apply_mesh(&self, steps: &[MeshAction]) -> Vec<(MeshAction, KernelError)> {
        mesh::apply(&self.inner, steps).await
    }

    /// Whether a VXLAN device of this kernel can send a group to its members only.
    pub async fn has_vxlan_mdb(&self) -> bool {
        self.inner.abilities().await.mdb
    }

    /// Where a network's groups go from this node; `None` where the network has no VXLAN device here.
    pub async fn observe_groups(
        &self,
        network: NetworkId,
    ) -> Result<Option<BTreeMap<Group, BTreeSet<Option<IpAddr>>>>, KernelError> {
        let Some(room) = Room::open(&self.inner.dir, network).await? else { return Ok(None) };
        let Some(vxlan) = room.find(links::VXLAN).await? else { return Ok(None) };
        Ok(Some(mdb::receivers(&room.mdb().await?, vxlan.index)))
    }

    /// Who is a member of what on this node's side of a network, as its bridge has heard it.
    pub async fn memberships(&self, network: NetworkId) -> Result<BTreeSet<GroupMember>, KernelError> {
        match Room::open(&self.inner.dir, network).await? {
            Some(room) => self.inner.members.of(&room).await,
            None => Ok(BTreeSet::new()),
        }
    }

    /// Waits until memberships changed, of which networks is the answer. For one caller at a time. Follows
    /// the networks that [`Linux::events`] follows.
    pub async fn memberships_changed(&self) -> BTreeSet<NetworkId> {
        self.inner.watcher.joins().changed().await
    }

    /// Carries out `plan`. An operation that fails does not keep the others from being tried.
    pub async fn apply(&self, plan: &Plan) -> Applied {
        if plan.ops.iter().all(|op| apply::is_of_ports(&op.action)) {
            let (inner, plan) = (Arc::clone(&self.inner), plan.clone());
            // Where there can be no thread, what needs none may be done all the same.
            if let Ok(applied) = enter::alone(|| async move { apply::apply(&inner, &plan).await }).await {
                return applied;
            }
        }
        apply::apply(&self.inner, plan).await
    }

    /// Gives an endpoint its interface, and the bridge its neighbour entries. Once more for the same port
    /// changes nothing; with another placement the interface moves there. All or nothing.
    ///
    /// May run beside [`Linux::apply`]; but a plan that was made from a desired state without the endpoint and an
    /// observation with it removes it again, so settle what is desired first.
    ///
    /// # Errors
    /// Every kind; nothing that was made is left.
    pub async fn attach(&self, network: NetworkId, port: &DesiredPort) -> Result<(), KernelError> {
        let room = self.inner.room(network).await?;
        port::add(&self.inner, &room, port).await?;
        let neighbours = port.addresses.iter();
        let neighbours =
            neighbours.map(|address| Action::PutNeighbour { address: address.ip(), mac: port.mac }).collect();
        let error = match room.program(neighbours).await {
            Ok(failed) => match failed.first() {
                None => return Ok(()),
                Some((_, errno)) => KernelError::from_errno("write the endpoint's neighbours", *errno),
            },
            Err(error) => error,
        };
        // The error at hand says more than one about the clean-up would.
        let _ = self.detach(network, port).await;
        Err(error)
    }

    /// Takes an endpoint's interface away, and the bridge's neighbour entries for its addresses. No error if they are
    /// gone already.
    pub async fn detach(&self, network: NetworkId, port: &DesiredPort) -> Result<(), KernelError> {
        let Some(room) = Room::open(&self.inner.dir, network).await? else { return Ok(()) };
        port::delete(&self.inner, &room, &port.name).await?;
        let addresses = port.addresses.iter();
        let neighbours = addresses.map(|address| Action::DeleteNeighbour(address.ip())).collect();
        match room.program(neighbours).await?.first() {
            None => Ok(()),
            Some((_, errno)) => Err(KernelError::from_errno("remove the endpoint's neighbours", *errno)),
        }
    }

    /// What changes by someone else's hand from now on. A receiver that lags is told so with
    /// [`KernelEvent::Lost`]. One receiver at a time: a second call ends the first.
    ///
    /// Call it before the first [`Linux::observe`], so that nothing falls in between.
    pub async fn events(&self) -> Result<mpsc::Receiver<KernelEvent>, KernelError> {
        let receiver = self.inner.watcher.start(&self.inner.own).await?;
        self.inner.watcher.watch_mesh(&self.inner.dir).await?;
        for network in self.inner.dir.list()? {
            if_there(self.inner.watcher.watch_network(&self.inner.dir, network).await)?;
        }
        Ok(receiver)
    }

    /// The file that is the network's namespace, for whoever wants to enter it.
    pub fn namespace_path(&self, network: NetworkId) -> PathBuf {
        self.inner.dir.path(network)
    }

    /// What keeps strangers on the underlay out of plain networks; `None` where there is nothing, or cannot be.
    pub async fn observe_underlay_guard(&self) -> Result<Option<ObservedUnderlayGuard>, KernelError> {
        let table = self.inner.underlay_guard.clone();
        match self.inner.own.run(move || table.find()).await? {
            Ok(found) => Ok(found),
            Err(_) if !self.has_underlay_guard().await => Ok(None),
            Err(source) => {
                Err(KernelError::Refused { what: "look at the underlay's guard".to_owned(), source })
            }
        }
    }

    /// Makes a step of what keeps strangers on the underlay out, whole or not at all.
    pub async fn apply_underlay_guard(&self, step: GuardStep) -> Result<(), KernelError> {
        let what = || "keep strangers on the underlay out of plain networks".to_owned();
        let table = self.inner.underlay_guard.clone();
        KernelError::of_answer(what, self.inner.own.run(move || table.apply(&step)).await?)
    }

    /// Whether this kernel has what keeps strangers out of plain networks.
    pub async fn has_underlay_guard(&self) -> bool {
        self.inner.abilities().await.underlay_guard
    }

    /// What came from the underlay and was dropped, since its guard was made.
    pub async fn refused(&self) -> Result<Refused, KernelError> {
        if !self.has_underlay_guard().await {
            return Ok(Refused::default());
        }
        let table = self.inner.underlay_guard.clone();
        match self.inner.own.run(move || table.refused()).await? {
            Ok(refused) => Ok(refused),
            // There is no guard.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Refused::default()),
            Err(source) => Err(KernelError::Refused { what: "count what was dropped".to_owned(), source }),
        }
    }

    /// What this kernel can do of what we use or would use, found out by trying.
    pub async fn capabilities(&self) -> Vec<Capability> {
        capabilities::probe(&self.inner.without).await
    }
}
