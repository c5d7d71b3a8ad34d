//! The WireGuard mesh on this node: while the cluster has an encrypted network, every node is in it.
//!
//! What it should be says `mesh`, which steps lead there `plan`. Here is when that is asked, what is remembered of it,
//! and that the others are told of a key only when its device is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::desire::needs_mesh;
use super::{Reconciler, Work};
use crate::kernel::KernelError;
use crate::mesh::{DesiredMesh, Handshakes, OwnKey, PrivateKey, Rotation};
use crate::model::{ClusterView, MeshKey, PublicKey};
use crate::plan::{DeviceName, MeshAction, ObservedMesh, plan_mesh};
use crate::state::{State, StateError};

/// The keys of this node, durable.
const KEYS: &str = "mesh/keys";
/// How often the devices are asked for handshakes while a generation takes the place of another.
const POLL: Duration = Duration::from_millis(250);

/// What is remembered of the mesh between passes.
#[derive(Debug, Default)]
pub(super) struct MeshWork {
    /// The keys and how far the others have followed; `None` while this node is not in the mesh.
    rotation: Option<Rotation>,
    /// What the last pass brought about; `None`: look.
    applied: Option<DesiredMesh>,
    /// It was looked whether something is there although nothing is wanted.
    cleared: bool,
    /// Where the devices were told that each peer is.
    told: BTreeMap<PublicKey, SocketAddr>,
    /// What the others were told.
    published: Option<Vec<MeshKey>>,
    handshakes: Handshakes,
    /// When the next pass is due though nothing happens.
    wake: Option<Instant>,
    /// What the last pass could not do.
    problems: Vec<String>,
}

impl MeshWork {
    /// The kernel's devices are to be looked at.
    pub fn look(&mut self) {
        self.applied = None;
        self.cleared = false;
    }

    /// When the next pass is due though nothing happens.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// What the last pass brought about.
    pub fn applied(&self) -> Option<&DesiredMesh> {
        self.applied.as_ref()
    }

    /// What stands in the way, for people.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl Reconciler {
    /// Brings the mesh to what it should be; how many steps that took.
    pub(super) async fn pass_mesh(&self, work: &mut Work) -> usize {
        let view = self.view();
        let done = match needs_mesh(&view) {
            true => self.keep_mesh(work, &view).await,
            false => self.clear_mesh(work).await,
        };
        match done {
            Ok(done) => done,
            Err(problem) => {
                work.mesh.look();
                work.mesh.problems = vec![format!("mesh: {problem}")];
                work.mesh.wake = Some(Instant::now() + Duration::from_secs(1));
                0
            }
        }
    }

    /// What a pass would do with the mesh now.
    pub(super) async fn dry_run_mesh(&self, work: &Work) -> Result<Vec<MeshAction>, KernelError> {
        let observed = self.0.kernel.observe_mesh().await?;
        if !needs_mesh(&self.view()) {
            return Ok(plan_mesh(None, &observed, &BTreeSet::new()));
        }
        // Until the first pass nobody knows what should be.
        let Some(mut rotation) = work.mesh.rotation.clone() else { return Ok(Vec::new()) };
        let Some(secret) = self.0.cluster.mesh_secret().borrow().clone() else { return Ok(Vec::new()) };
        let now = work.started.elapsed();
        let step = rotation.step(&self.view(), &secret, &work.mesh.handshakes, now, PrivateKey::generate);
        Ok(step.map(|step| self.steps(work, &step.desired, &observed)).unwrap_or_default())
    }

    fn steps(&self, work: &Work, desired: &DesiredMesh, observed: &ObservedMesh) -> Vec<MeshAction> {
        let peers = desired.devices.values().flat_map(|device| &device.peers);
        let moved =
            peers.filter(|(key, peer)| work.mesh.told.get(key).is_some_and(|told| *told != peer.endpoint));
        plan_mesh(Some(desired), observed, &moved.map(|(key, _)| *key).collect())
    }

    async fn keep_mesh(&self, work: &mut Work, view: &ClusterView) -> Result<usize, String> {
        let secret = self.0.cluster.mesh_secret().borrow().clone();
        let secret = secret.ok_or("this node has no secret of the mesh yet; it is asked for")?;
        let mut rotation = match work.mesh.rotation.take() {
            Some(rotation) => rotation,
            None => {
                let keys = load(&self.0.state).map_err(|error| error.to_string())?;
                let settings = &self.0.settings;
                Rotation::new(self.0.cluster.id(), settings.wireguard_port, settings.grace, keys)
            }
        };
        // What works is known by its handshakes only; and after a restart the devices know more than we do.
        let mut observed = None;
        if work.mesh.applied.is_none() || !rotation.is_settled() {
            let found = self.0.kernel.observe_mesh().await.map_err(|error| error.to_string())?;
            work.mesh.handshakes = handshakes(&rotation, &found);
            observed = Some(found);
        }
        let now = work.started.elapsed();
        let step = rotation.step(view, &secret, &work.mesh.handshakes, now, PrivateKey::generate);
        let settled = rotation.is_settled();
        let Some(step) = step else {
            work.mesh.rotation = Some(rotation);
            return Ok(0);
        };
        if step.remember {
            // Before anybody can have heard of them.
            let keys: Vec<&OwnKey> = rotation.keys().collect();
            self.0.state.put(KEYS, &keys).map_err(|error| error.to_string())?;
        }
        work.mesh.rotation = Some(rotation);
        work.mesh.cleared = false;
        let mut done = 0;
        if work.mesh.applied.as_ref() != Some(&step.desired) || observed.is_some() {
            let observed = match observed {
                Some(observed) => observed,
                None => self.0.kernel.observe_mesh().await.map_err(|error| error.to_string())?,
            };
            let steps = self.steps(work, &step.desired, &observed);
            for step in &steps {
                tracing::debug!(%step, "the mesh changes");
            }
            let failed = self.0.kernel.apply_mesh(&steps).await;
            done = steps.len() - failed.len();
            if let Some((step, error)) = failed.into_iter().next() {
                return Err(format!("{step}: {error}"));
            }
            let peers = step.desired.devices.values().flat_map(|device| &device.peers);
            work.mesh.told = peers.map(|(key, peer)| (*key, peer.endpoint)).collect();
            work.mesh.applied = Some(step.desired);
        }
        self.publish_keys(work, step.publish).await;
        let poll = (!settled).then(|| Instant::now() + POLL);
        let wake = step.wake.map(|at| work.started + at);
        work.mesh.wake = poll.into_iter().chain(wake).min();
        work.mesh.problems.clear();
        Ok(done)
    }

    async fn clear_mesh(&self, work: &mut Work) -> Result<usize, String> {
        if work.mesh.cleared {
            return Ok(0);
        }
        let observed = self.0.kernel.observe_mesh().await.map_err(|error| error.to_string())?;
        let steps = plan_mesh(None, &observed, &BTreeSet::new());
        let failed = self.0.kernel.apply_mesh(&steps).await;
        if let Some((step, error)) = failed.into_iter().next() {
            return Err(format!("{step}: {error}"));
        }
        self.0.state.delete(KEYS).map_err(|error| error.to_string())?;
        self.publish_keys(work, Vec::new()).await;
        let published = work.mesh.published.take();
        work.mesh = MeshWork { cleared: true, published, ..MeshWork::default() };
        Ok(steps.len())
    }

    async fn publish_keys(&self, work: &mut Work, keys: Vec<MeshKey>) {
        if work.mesh.published.as_ref() == Some(&keys) {
            return;
        }
        match self.0.cluster.set_mesh(keys.clone()).await {
            Ok(()) => work.mesh.published = Some(keys),
            Err(error) => tracing::warn!(%error, "cannot publish this node's keys"),
        }
    }
}

/// What a node told the others of its keys before it was restarted. Until it says so again, they would take it to have
/// none, and forget its tunnels.
pub fn remembered_keys(state: &State, port: u16) -> Result<Vec<MeshKey>, StateError> {
    let keys = load(state)?.into_iter().map(|key| MeshKey {
        epoch: key.epoch(),
        public: key.private.public(),
        port: port.saturating_add(key.slot.into()),
        sending: key.sending,
    });
    Ok(keys.collect())
}

fn load(state: &State) -> Result<Vec<OwnKey>, StateError> {
    Ok(state.get(KEYS)?.unwrap_or_default())
}

/// The peers of this node's devices with which a handshake was completed.
fn handshakes(rotation: &Rotation, observed: &ObservedMesh) -> Handshakes {
    let mut found = Handshakes::new();
    for key in rotation.keys() {
        let device = observed.devices.get(&DeviceName::of(key.epoch()));
        let Some(tunnel) = device.and_then(|device| device.tunnel.as_ref()) else { continue };
        if tunnel.public != Some(key.private.public()) {
            continue;
        }
        let met = tunnel.peers.iter().filter(|(_, peer)| peer.handshake.is_some());
        found.extend(met.map(|(peer, _)| (key.epoch(), *peer)));
    }
    found
}
