//! Keeps this node's kernel as it should be.
//!
//! Owns: when a pass is made (`schedule`, `run`), the order "first what is desired, then what is there, then the steps
//! between" (`pass`), and the end of endpoints that lost their ground. What is kept are the `subjects`, each a file and
//! a row in one table, all of the one shape that `subject` has. Does not own what is desired (`desire`), the steps
//! (`plan`) or how they are made (`kernel`).
//!
//! A full pass compares with the kernel, never with what an earlier pass believed it had done. In between, what the
//! passes have brought about is believed: a remote endpoint that comes or goes is one entry, and nothing is looked at for
//! it. When a step fails, or the kernel says that something changed, belief in that part ends.

mod before;
mod compare;
mod desire;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod keeper;
mod lost;
mod metrics;
mod pass;
mod paths;
mod peers;
mod put_back;
mod run;
mod schedule;
mod silence;
mod subject;
mod subjects;
#[cfg(test)]
mod tests;
mod underlay;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard as StdGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{MutexGuard, Notify, mpsc, watch};

use crate::kernel::{Can, Kernel};
use crate::local::{Local, LocalEndpoint};
use crate::model::OutwardPorts;
use crate::model::{ClusterView, EndpointKey, EndpointName, NetworkId, NodeId, NodeState};
use crate::multicast::Tally;
use crate::state::State;

use subjects::{Setup, Subjects};

pub use before::handing_on;
pub use compare::{Beside, Compared, ComparedMesh};
pub use desire::{Offer, Publisher, World, is_settled, is_the_clusters, members, network_mtu, offers, vtep};
pub use lost::{Lost, Outranked};
pub use pass::{KeepError, vanished};
pub use paths::MeshPath;
pub use peers::Peers;
pub use put_back::PutBack;
pub use subjects::{clear, remembered_keys};
pub use underlay::{SeenUnderlay, vteps};

/// How many happenings may wait to be written down.
const HAPPENINGS: usize = 4096;

/// A pass that takes longer than this is said to hang.
const LONG: Duration = Duration::from_secs(10);

/// How a node is set where its kernel is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// The first UDP port of the mesh.
    pub wireguard_port: u16,
    /// From which ports endpoints may be seen that reach what is outside.
    pub outward_ports: OutwardPorts,
    /// How long the entries of a dead node stay.
    pub grace: Duration,
    /// After how long a node that does not answer is dead.
    pub detect: Duration,
    /// Whether the others are told by itself when the node's address on the underlay changes.
    pub follow_address: bool,
}

/// Something that whoever watches this node wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// An endpoint of this node is no more, and nobody detached it.
    EndpointLost {
        /// Which.
        key: EndpointKey,
        /// Why.
        why: Lost,
    },
    /// A pass changed something in the kernel.
    Changed {
        /// How many operations.
        operations: usize,
    },
    /// Something else had changed what is kept in the kernel, and a pass put it back.
    PutBack {
        /// What, a line each.
        steps: Vec<String>,
    },
    /// A pass could not do something; it is tried again.
    Failed {
        /// What, a line each.
        errors: Vec<String>,
    },
    /// Whoever writes these down was too slow: so many are missing before this one.
    Missed(u64),
}

/// What the passes have come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Passes since the start.
    pub passes: u64,
    /// How long all of them took together.
    pub took: Duration,
    /// How many operations they made together.
    pub changes: u64,
    /// When the last one ended, in milliseconds since 1970.
    pub last_ms: Option<u64>,
    /// How many operations it made.
    pub last_changes: usize,
    /// What could not be done, by whichever pass, and still cannot.
    pub errors: Vec<String>,
}

/// What only one task at a time may touch: this node's own endpoints, and the kernel's objects for them.
pub struct Work {
    /// This node's endpoints and leases.
    pub local: Local,
    subjects: Subjects,
    dead_since: BTreeMap<NodeId, Instant>,
    /// What the kernel can do; it is asked once.
    can: Option<Can>,
    /// Everybody who answers has been heard: what is not known of is wrong.
    settled: bool,
    /// The networks in which this node handed on before it was started, once that was looked at.
    before: Option<BTreeSet<NetworkId>>,
}

/// The endpoints of this node, as whoever holds no lock may see them.
pub type Records = BTreeMap<EndpointKey, Arc<LocalEndpoint>>;

struct Inner {
    peers: Arc<dyn Peers>,
    kernel: Arc<dyn Kernel>,
    state: State,
    settings: Settings,
    started: Instant,
    work: tokio::sync::Mutex<Work>,
    /// As `work.local` has them. Read while somebody works.
    records: Mutex<Arc<Records>>,
    report: Mutex<Report>,
    paths: Mutex<BTreeMap<NodeId, MeshPath>>,
    /// What was put back lately.
    put_back: Mutex<Option<PutBack>>,
    present: watch::Sender<BTreeSet<NetworkId>>,
    /// The nodes that are dead and whose machines do not answer either.
    silent: watch::Sender<BTreeSet<NodeId>>,
    /// The endpoints of this node that have joined as many groups as are told apart.
    crowded: Mutex<BTreeSet<(NetworkId, EndpointName)>>,
    happenings: mpsc::Sender<Happening>,
    /// Something was left to be tried again by who does not do that himself.
    behind: Notify,
    /// What is wrong about this node's address on the underlay.
    underlay: Mutex<Option<String>>,
    /// Since when a pass is going on.
    underway: Mutex<Option<Instant>>,
    /// How many could not be told.
    missed: Mutex<u64>,
}

/// Keeps this node's kernel as it should be. Clones share it.
#[derive(Clone)]
pub struct Reconciler(Arc<Inner>);

/// No panic leaves one of these halfway: they are only replaced or counted up.
fn lock<T>(mutex: &Mutex<T>) -> StdGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reconciler {
    /// A reconciler for a node that has `local`; what happens comes out of the receiver.
    pub fn new(
        peers: Arc<dyn Peers>,
        kernel: Arc<dyn Kernel>,
        state: State,
        settings: Settings,
        local: Local,
    ) -> (Self, mpsc::Receiver<Happening>) {
        let (happenings, receiver) = mpsc::channel(HAPPENINGS);
        let setup = Setup { cluster: peers.id().to_owned(), settings, state: state.clone() };
        let records = local.endpoints.iter().map(|record| (record.key(), Arc::new(record.clone())));
        let records = Mutex::new(Arc::new(records.collect()));
        let work = Work {
            local,
            subjects: Subjects::new(&setup),
            dead_since: BTreeMap::new(),
            can: None,
            settled: false,
            before: None,
        };
        let inner = Inner {
            peers,
            kernel,
            state,
            settings,
            started: Instant::now(),
            work: tokio::sync::Mutex::new(work),
            records,
            report: Mutex::default(),
            paths: Mutex::default(),
            put_back: Mutex::default(),
            present: watch::Sender::default(),
            silent: watch::Sender::default(),
            crowded: Mutex::default(),
            happenings,
            behind: Notify::new(),
            underlay: Mutex::default(),
            underway: Mutex::default(),
            missed: Mutex::default(),
        };
        (Self(Arc::new(inner)), receiver)
    }

    /// Waits until nobody else works on this node's endpoints.
    pub async fn work(&self) -> MutexGuard<'_, Work> {
        self.0.work.lock().await
    }

    /// The endpoints of this node. Waits for nobody.
    pub fn records(&self) -> Arc<Records> {
        lock(&self.0.records).clone()
    }

    /// What the passes have come to. Waits for nobody.
    pub fn report(&self) -> Report {
        let mut report = lock(&self.0.report).clone();
        report.errors.extend(self.crowded());
        report.errors.extend(lock(&self.0.underlay).clone());
        let since = lock(&self.0.underway).map(|since| since.elapsed());
        report.errors.extend(since.filter(|since| *since > LONG).map(|since| {
            format!(
                "a pass over the kernel has been going on for {} s: the kernel does not answer",
                since.as_secs()
            )
        }));
        report
    }

    /// What is wrong about this node's address on the underlay, and what to do.
    pub fn underlay_problem(&self) -> Option<String> {
        lock(&self.0.underlay).clone()
    }

    /// The networks that this node has, as they come and go.
    pub fn present(&self) -> watch::Receiver<BTreeSet<NetworkId>> {
        self.0.present.subscribe()
    }

    /// What was sent to each group of these networks and came for it, and where it went; of what is not counted nothing, and of
    /// what the kernel does not tell just now what it told last.
    pub async fn tally(&self, networks: BTreeSet<NetworkId>) -> BTreeMap<NetworkId, Tally> {
        let mut work = self.work().await;
        work.subjects.networks.subject.tally(&*self.0.kernel, networks).await
    }

    fn view(&self) -> Arc<ClusterView> {
        self.0.peers.view().borrow().clone()
    }

    /// The time since it was made.
    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Says what happened, unless whoever writes it down is too slow: then how much is missing is said later.
    fn happened(&self, happening: Happening) {
        let mut missed = lock(&self.0.missed);
        if *missed > 0 && self.0.happenings.try_send(Happening::Missed(*missed)).is_ok() {
            *missed = 0;
        }
        // Nobody listens any more when the agent stops.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.0.happenings.try_send(happening) {
            *missed += 1;
        }
    }
}

impl Work {
    /// The nodes that have been dead for longer than `grace`.
    fn gone(&mut self, view: &ClusterView, grace: Duration) -> BTreeSet<NodeId> {
        self.dead_since.retain(|id, _| view.nodes.get(id).is_some_and(|node| node.state == NodeState::Dead));
        let now = Instant::now();
        for node in view.nodes.values().filter(|node| node.state == NodeState::Dead) {
            self.dead_since.entry(node.id).or_insert(now);
        }
        let gone = |since: &Instant| now.duration_since(*since) >= grace;
        self.dead_since.iter().filter(|(_, since)| gone(since)).map(|(id, _)| *id).collect()
    }

    /// After how long the next dead node's grace ends.
    fn next_grace(&self, grace: Duration) -> Option<Duration> {
        let left = |since: &Instant| grace.checked_sub(since.elapsed()).filter(|left| !left.is_zero());
        self.dead_since.values().filter_map(left).min()
    }
}
