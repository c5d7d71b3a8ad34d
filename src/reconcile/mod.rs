//! Keeps this node's kernel as it should be.
//!
//! Owns: when a pass is made and over what, the order "first what is desired, then what is there, then the steps
//! between", retries, and the end of endpoints that lost their ground. Does not own what is desired (`desire`),
//! the steps (`plan`) or how they are made (`kernel`).
//!
//! A pass compares with the kernel, never with what an earlier pass believed it had done; what it remembers only
//! tells it which networks it may pass over until the next full pass.

mod desire;
mod groups;
mod mesh;
mod paths;
mod run;
mod silence;
mod underlay;
mod underlay_guard;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{MutexGuard, mpsc, watch};

use crate::clock::now_ms;
use crate::cluster::Cluster;
use crate::kernel::{Kernel, KernelError};
use crate::local::{Local, LocalEndpoint};
use crate::model::{ClusterView, EndpointKey, EndpointName, NetworkId, NodeId, NodeState};
use crate::multicast::Tally;
use crate::plan::{Action, Desired, DesiredNetwork, GuardStep, MeshAction, Observed, Op, Plan, plan};
use crate::state::State;

use groups::FreshGroups;
use mesh::MeshWork;
use underlay_guard::{GuardWork, Networks};

pub use mesh::remembered_keys;
pub use paths::MeshPath;
pub use underlay::SeenUnderlay;

pub use desire::{Situation, Wish, is_settled, keep_what_is_there, members, network_mtu, port, vtep, wish};

/// Why most endpoints are lost.
const CONTAINER_GONE: &str = "its container is gone";

/// How a node is set where its kernel is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// The first UDP port of the mesh.
    pub wireguard_port: u16,
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
        why: &'static str,
    },
    /// A pass changed something in the kernel.
    Changed {
        /// How many operations.
        operations: usize,
    },
    /// A pass could not do something; it is tried again.
    Failed {
        /// What, a line each.
        errors: Vec<String>,
    },
}

/// What the passes have come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Passes since the start.
    pub passes: u64,
    /// When the last one ended, in milliseconds since 1970.
    pub last_ms: Option<u64>,
    /// How many operations it made.
    pub last_changes: usize,
    /// What it could not do.
    pub errors: Vec<String>,
}

/// What only one task at a time may touch: this node's own endpoints, and the kernel's objects for them.
pub struct Work {
    /// This node's endpoints and leases.
    pub local: Local,
    dead_since: BTreeMap<NodeId, Instant>,
    /// What the last pass over each network brought about.
    applied: BTreeMap<NetworkId, DesiredNetwork>,
    /// The groups that were joined just now.
    fresh: FreshGroups,
    /// How much went to which group and node.
    tallies: BTreeMap<NetworkId, Tally>,
    mesh: MeshWork,
    guard: GuardWork,
    started: Instant,
    /// Everybody who answers has been heard: what is not known of is wrong.
    settled: bool,
}

/// What a pass looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// All of ours that is in the kernel.
    Everything,
    /// The networks that should be other than the last pass left them, and these.
    Changed(BTreeSet<NetworkId>),
}

struct Inner {
    cluster: Cluster,
    kernel: Kernel,
    state: State,
    settings: Settings,
    work: tokio::sync::Mutex<Work>,
    report: Mutex<Report>,
    paths: Mutex<BTreeMap<NodeId, MeshPath>>,
    present: watch::Sender<BTreeSet<NetworkId>>,
    /// The nodes that are dead and whose machines do not answer either.
    silent: watch::Sender<BTreeSet<NodeId>>,
    /// The endpoints of this node that have joined as many groups as are told apart.
    crowded: Mutex<BTreeSet<(NetworkId, EndpointName)>>,
    happenings: mpsc::UnboundedSender<Happening>,
}

/// Keeps this node's kernel as it should be. Clones share it.
#[derive(Clone)]
pub struct Reconciler(Arc<Inner>);

impl Reconciler {
    /// A reconciler for a node that has `local`; what happens comes out of the receiver.
    pub fn new(
        cluster: Cluster,
        kernel: Kernel,
        state: State,
        settings: Settings,
        local: Local,
    ) -> (Self, mpsc::UnboundedReceiver<Happening>) {
        let (happenings, receiver) = mpsc::unbounded_channel();
        let work = Work {
            local,
            dead_since: BTreeMap::new(),
            applied: BTreeMap::new(),
            fresh: FreshGroups::default(),
            tallies: BTreeMap::new(),
            mesh: MeshWork::default(),
            guard: GuardWork::default(),
            started: Instant::now(),
            settled: false,
        };
        let inner = Inner {
            cluster,
            kernel,
            state,
            settings,
            work: tokio::sync::Mutex::new(work),
            report: Mutex::default(),
            paths: Mutex::default(),
            present: watch::Sender::default(),
            silent: watch::Sender::default(),
            crowded: Mutex::default(),
            happenings,
        };
        (Self(Arc::new(inner)), receiver)
    }

    /// Waits until nobody else works on this node's endpoints.
    pub async fn work(&self) -> MutexGuard<'_, Work> {
        self.0.work.lock().await
    }

    /// What the passes have come to.
    pub fn report(&self) -> Report {
        let mut report = self.0.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.errors.extend(self.crowded());
        report
    }

    /// The networks that this node has, as they come and go.
    pub fn present(&self) -> watch::Receiver<BTreeSet<NetworkId>> {
        self.0.present.subscribe()
    }

    /// What a full pass would do now.
    pub async fn dry_run(&self) -> Result<(Vec<MeshAction>, Option<GuardStep>, Plan), KernelError> {
        let mut work = self.work().await;
        let mesh = self.dry_run_mesh(&work).await?;
        let mut wish = self.wish(&mut work, None).await;
        let guard = self.dry_run_underlay_guard(&work, &wish.desired).await?;
        let observed = self.0.kernel.observe().await?;
        if !work.settled {
            keep_what_is_there(&mut wish.desired, &observed, self.0.cluster.id(), &self.view());
        }
        Ok((mesh, guard, plan(&wish.desired, &observed)))
    }

    /// Gives an endpoint that is not yet kept its interface, and its network a place on this node where it has
    /// none. All or nothing.
    pub async fn bring_up(&self, work: &mut Work, record: &LocalEndpoint) -> Result<(), KernelError> {
        let view = self.view();
        let spec = view.networks.get(&record.network).map(|network| &network.spec);
        if let (Some(network), Some(spec)) = (work.applied.get(&record.network), spec) {
            match self.0.kernel.attach(record.network, &port(record, spec, network.mtu)).await {
                // Somebody removed it since the last pass: make it again.
                Err(KernelError::NoSuchNetwork { .. }) => {}
                done => return done,
            }
        }
        let scope = Scope::Changed(BTreeSet::from([record.network]));
        let failed = self.pass(work, scope.clone(), Some(record)).await?;
        let Some((_, error)) = failed.into_iter().find(|(op, _)| op.network == record.network) else {
            return Ok(());
        };
        self.take_down(work, record.network).await;
        Err(error)
    }

    /// Brings a network to what is left of it after an endpoint of this node went.
    pub async fn take_down(&self, work: &mut Work, network: NetworkId) {
        if let Err(error) = self.pass(work, Scope::Changed(BTreeSet::from([network])), None).await {
            tracing::warn!(%network, %error, "cannot clean up now; it is tried again");
        }
    }

    /// Drops an endpoint of this node everywhere but in the kernel, which the next pass sees to. The answer is
    /// whether it was there.
    pub async fn forget(&self, work: &mut Work, key: &EndpointKey) -> Result<bool, crate::state::StateError> {
        if work.local.remove(key)?.is_none() {
            return Ok(false);
        }
        let last = work.local.endpoints.of_network(key.network).next().is_none();
        let published = if last {
            self.0.cluster.leave_network(key.network).await
        } else {
            self.0.cluster.remove_endpoint(key.network, key.name.clone()).await.map(drop)
        };
        if let Err(error) = published {
            tracing::warn!(network = %key.network, endpoint = %key.name, %error, "cannot take the endpoint back");
        }
        Ok(true)
    }

    /// Drops an endpoint of this node whose namespace cannot be entered any more, in the kernel too, as the next
    /// pass would. The answer is whether it was one.
    pub async fn lose_if_gone(&self, work: &mut Work, key: &EndpointKey) -> bool {
        if work.local.endpoints.get(key).is_none_or(LocalEndpoint::has_its_namespace) {
            return false;
        }
        self.lose(work, key, CONTAINER_GONE).await;
        self.take_down(work, key.network).await;
        true
    }

    async fn wish(&self, work: &mut Work, extra: Option<&LocalEndpoint>) -> Wish {
        let view = self.view();
        let gone = work.gone(&view, self.0.settings.grace);
        let silent = self.0.silent.borrow().clone();
        let situation = Situation {
            view: &view,
            gone: &gone,
            silent: &silent,
            cluster: self.0.cluster.id(),
            vxlan_port: self.0.settings.vxlan_port,
            selective: self.0.kernel.has_vxlan_mdb().await,
        };
        let mut wish = wish(situation, work.local.endpoints.iter().chain(extra));
        work.fresh.hold_back(&mut wish.desired, &work.applied, Instant::now());
        wish
    }

    fn view(&self) -> Arc<ClusterView> {
        self.0.cluster.view().borrow().clone()
    }

    /// One pass. Operations that failed are returned and reported; an error is one of observation.
    async fn pass(
        &self,
        work: &mut Work,
        scope: Scope,
        extra: Option<&LocalEndpoint>,
    ) -> Result<Vec<(Op, KernelError)>, KernelError> {
        if scope == Scope::Everything {
            work.mesh.look();
            work.guard.look();
        }
        // Before the networks that go through it.
        let meshed = self.pass_mesh(work).await;
        let mut wish = self.wish(work, extra).await;
        wish.problems.extend(work.mesh.problems().iter().cloned());
        for key in std::mem::take(&mut wish.displaced) {
            // One that is only about to be attached is its caller's to drop.
            if extra.is_none_or(|record| record.key() != key) {
                self.lose(work, &key, "a newer claim took its name or address, or its network is gone").await;
            }
        }
        let observed = async {
            let regrouped = self.regroup(work, &wish.desired, &scope).await?;
            let (observed, looked_at) = self.observe(work, &wish.desired, &scope, &regrouped).await?;
            Ok::<_, KernelError>((observed, looked_at, regrouped))
        };
        let (observed, mut looked_at, mut regrouped) = match observed.await {
            Ok(found) => found,
            Err(error) => {
                self.conclude(0, vec![error.to_string()]);
                return Err(error);
            }
        };
        let seen = work.local.endpoints.iter().filter(|record| looked_at.contains(&record.network));
        let vanished = vanished(seen, &observed);
        if !vanished.is_empty() {
            for key in vanished {
                self.lose(work, &key, CONTAINER_GONE).await;
            }
            wish = self.wish(work, extra).await;
            regrouped = self.regroup(work, &wish.desired, &scope).await?;
            regrouped.retain(|id, _| !looked_at.contains(id));
        }
        let mut desired = wish.desired.clone();
        if scope != Scope::Everything {
            desired.networks.retain(|id, _| looked_at.contains(id));
        }
        if !work.settled {
            keep_what_is_there(&mut desired, &observed, self.0.cluster.id(), &self.view());
        }
        let mut plan = plan(&desired, &observed);
        for (id, groups) in regrouped {
            plan.ops.extend(groups.ops);
            looked_at.insert(id);
        }
        self.tally_before(work, &plan).await;
        let mut guarded = self.pass_underlay_guard(work, &wish.desired, Networks::Before).await;
        let applied = self.0.kernel.apply(&plan).await;
        guarded += self.pass_underlay_guard(work, &wish.desired, Networks::After).await;
        wish.problems.extend(work.guard.problem().cloned());
        for id in &looked_at {
            match wish.desired.networks.remove(id) {
                Some(network) if applied.failed.iter().all(|(op, _)| op.network != *id) => {
                    work.applied.insert(*id, network);
                }
                _ => drop(work.applied.remove(id)),
            }
        }
        self.0.present.send_if_modified(|present| {
            let now: BTreeSet<NetworkId> = work.applied.keys().copied().collect();
            let changed = *present != now;
            *present = now;
            changed
        });
        let mut errors = wish.problems;
        errors.extend(applied.failed.iter().map(|(op, error)| format!("{}: {error}", describe(op))));
        self.conclude(meshed + guarded + applied.done, errors);
        Ok(applied.failed)
    }

    /// What is there of the networks in `scope`, and which those are.
    async fn observe(
        &self,
        work: &Work,
        desired: &Desired,
        scope: &Scope,
        regrouped: &BTreeMap<NetworkId, Plan>,
    ) -> Result<(Observed, BTreeSet<NetworkId>), KernelError> {
        let known = desired.networks.keys().chain(work.applied.keys()).copied();
        let Scope::Changed(also) = scope else {
            let observed = self.0.kernel.observe().await?;
            let all = known.chain(observed.networks.keys().copied()).collect();
            return Ok((observed, all));
        };
        let changed: BTreeSet<NetworkId> = known
            .filter(|id| !regrouped.contains_key(id) && desired.networks.get(id) != work.applied.get(id))
            .chain(also.iter().copied())
            .collect();
        let mut observed = Observed::default();
        for id in &changed {
            if let Some(network) = self.0.kernel.observe_network(*id).await? {
                observed.networks.insert(*id, network);
            }
        }
        Ok((observed, changed))
    }

    /// Drops an endpoint that lost its ground, and says so.
    async fn lose(&self, work: &mut Work, key: &EndpointKey, why: &'static str) {
        match self.forget(work, key).await {
            Ok(true) => {
                tracing::warn!(network = %key.network, endpoint = %key.name, why, "endpoint lost");
                // Nobody listens any more when the agent stops.
                let _ = self.0.happenings.send(Happening::EndpointLost { key: key.clone(), why });
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "cannot drop an endpoint that is gone"),
        }
    }

    fn conclude(&self, changes: usize, errors: Vec<String>) {
        let news = {
            let mut report = self.0.report.lock().unwrap_or_else(PoisonError::into_inner);
            let news = report.errors != errors && !errors.is_empty();
            report.passes += 1;
            report.last_ms = Some(now_ms());
            report.last_changes = changes;
            report.errors.clone_from(&errors);
            news
        };
        if changes > 0 {
            tracing::debug!(changes, "the kernel was brought to what is desired");
            let _ = self.0.happenings.send(Happening::Changed { operations: changes });
        }
        if news {
            errors.iter().for_each(|error| tracing::error!("{error}"));
            let _ = self.0.happenings.send(Happening::Failed { errors });
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

    /// When the next dead node's grace ends.
    fn next_grace(&self, grace: Duration) -> Option<Instant> {
        let now = Instant::now();
        self.dead_since.values().map(|since| *since + grace).filter(|end| *end > now).min()
    }
}

/// Those of `records` whose interface is not there and whose namespace cannot be entered any more.
pub fn vanished<'a>(
    records: impl Iterator<Item = &'a LocalEndpoint>,
    observed: &Observed,
) -> BTreeSet<EndpointKey> {
    let has_port = |record: &LocalEndpoint| {
        let network = observed.networks.get(&record.network);
        network.is_some_and(|network| network.ports.contains_key(&record.endpoint.name))
    };
    records
        .filter(|record| !has_port(record) && !record.has_its_namespace())
        .map(LocalEndpoint::key)
        .collect()
}

/// What an operation is, without what could be a secret or very long.
fn describe(op: &Op) -> String {
    match &op.action {
        Action::AddPort(port) | Action::SetPort(port) => format!("{} endpoint {}", op.network, port.name),
        _ => op.to_string(),
    }
}
