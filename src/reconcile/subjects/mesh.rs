//! The WireGuard mesh on this node: while the cluster has an encrypted network, every node is in it.
//!
//! What it should be says [`Rotation`], which steps lead there `plan`. Here is what is remembered of it between passes,
//! and that the others are told of a key only when its device is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use super::Setup;
use crate::kernel::{Kernel, KernelError, KernelEvent};
use crate::mesh::{DesiredMesh, Handshakes, OwnKey, PrivateKey, Rotation};
use crate::model::{ClusterView, MeshKey, NodeId, PublicKey};
use crate::plan::{DeviceName, MeshAction, ObservedMesh, mesh_vtep, plan_mesh};
use crate::reconcile::desire::{World, needs_mesh};
use crate::reconcile::subject::{Announcement, Changes, Failed, Subject, Todo, Turn};
use crate::state::{State, StateError};

/// The keys of this node, durable.
const KEYS: &str = "mesh/keys";
/// How often the devices are asked for handshakes while a generation takes the place of another.
const POLL: Duration = Duration::from_millis(250);
/// How long after the mesh cannot be made out it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The mesh. It has one part.
pub struct Mesh {
    cluster: String,
    port: u16,
    grace: Duration,
    state: State,
    /// The keys and how far the others have followed; `None` while this node is not in the mesh.
    rotation: Option<Rotation>,
    want: Option<DesiredMesh>,
    /// What the last pass brought about.
    applied: Option<DesiredMesh>,
    /// The keys are to be remembered before anything is done with them, or forgotten when all is done.
    unkept: bool,
    /// What the others are to be told when it is so, and whether it is.
    publish: Vec<MeshKey>,
    made: bool,
    /// What the others were told.
    published: Option<Vec<MeshKey>>,
    /// Where the devices were told that each peer is.
    told: BTreeMap<PublicKey, SocketAddr>,
    handshakes: Handshakes,
    wake: Option<Duration>,
    problem: Option<String>,
}

/// This node's VTEP in the mesh, and those of the nodes that answer: who each is, and what should pass there, in bytes.
pub type Paths = (Ipv6Addr, BTreeMap<Ipv6Addr, (NodeId, u32)>);

impl Mesh {
    /// Nothing is wanted yet.
    pub fn new(setup: &Setup) -> Self {
        Self {
            cluster: setup.cluster.clone(),
            port: setup.settings.wireguard_port,
            grace: setup.settings.grace,
            state: setup.state.clone(),
            rotation: None,
            want: None,
            applied: None,
            // What was kept before may be of no use any more.
            unkept: true,
            publish: Vec::new(),
            made: false,
            published: None,
            told: BTreeMap::new(),
            handshakes: Handshakes::new(),
            wake: None,
            problem: None,
        }
    }

    /// The mesh as it should be; `None`: not at all.
    pub fn wants(&self) -> Option<&DesiredMesh> {
        self.want.as_ref()
    }

    /// The paths through the mesh as it is; `None` while it is not.
    pub fn paths(&self, view: &ClusterView) -> Option<Paths> {
        let applied = self.applied.as_ref()?;
        let peers = applied.devices.values().flat_map(|device| device.peers.values());
        let up = peers.filter(|peer| view.nodes.get(&peer.node).is_some_and(|node| node.state.is_up()));
        let tried = up.filter_map(|peer| {
            let route = applied.routes.get(&peer.address)?;
            Some((mesh_vtep(peer.address), (peer.node, route.mtu)))
        });
        Some((mesh_vtep(applied.address), tried.collect()))
    }

    /// What the mesh should be now.
    fn desired(&mut self, world: &World<'_>) -> Result<Option<DesiredMesh>, String> {
        self.wake = None;
        if !needs_mesh(world.view) {
            self.unkept |= self.rotation.take().is_some();
            self.publish.clear();
            return Ok(None);
        }
        let secret =
            world.secret.as_ref().ok_or("this node has no secret of the mesh yet; it is asked for")?;
        let rotation = match &mut self.rotation {
            Some(rotation) => rotation,
            none => {
                let keys = load(&self.state).map_err(|error| error.to_string())?;
                none.insert(Rotation::new(&self.cluster, self.port, self.grace, keys))
            }
        };
        let step = rotation.step(world.view, secret, &self.handshakes, world.now, PrivateKey::generate);
        let Some(step) = step else { return Ok(self.want.clone()) };
        self.unkept |= step.remember;
        self.publish = step.publish;
        let poll = (!rotation.is_settled()).then(|| world.now + POLL);
        self.wake = poll.into_iter().chain(step.wake).min();
        Ok(Some(step.desired))
    }
}

#[async_trait]
impl Subject for Mesh {
    type Key = ();
    type Observed = ObservedMesh;
    type Step = MeshAction;

    const NAME: &'static str = "mesh";

    async fn list(_kernel: &dyn Kernel) -> Result<BTreeSet<()>, KernelError> {
        // To see whether there is one is to look at it.
        Ok(BTreeSet::from([()]))
    }

    async fn observe(kernel: &dyn Kernel, (): ()) -> Result<ObservedMesh, KernelError> {
        kernel.observe_mesh().await
    }

    async fn carry_out(kernel: &dyn Kernel, (): (), steps: Vec<MeshAction>) -> Failed<MeshAction> {
        kernel.apply_mesh(&steps).await
    }

    fn removal((): (), have: &ObservedMesh) -> Vec<MeshAction> {
        plan_mesh(None, have, &BTreeSet::new())
    }

    fn concerned(&self, event: &KernelEvent) -> BTreeSet<()> {
        (*event == KernelEvent::MeshChanged).then_some(()).into_iter().collect()
    }

    fn follow(&mut self, world: &World<'_>) -> Changes<Self> {
        match self.desired(world) {
            Ok(want) => {
                self.problem = None;
                let changed = want != self.want || self.unkept;
                self.want = want;
                self.made &= !changed;
                changed.then_some(((), Todo::Look)).into_iter().collect()
            }
            Err(problem) => {
                self.problem = Some(problem);
                self.wake = Some(world.now + RETRY);
                Changes::<Self>::new()
            }
        }
    }

    fn restless(&self) -> BTreeSet<()> {
        // What works is known by its handshakes only.
        self.rotation.iter().filter(|rotation| !rotation.is_settled()).map(|_| ()).collect()
    }

    fn learn(&mut self, (): (), have: &ObservedMesh) -> bool {
        let handshakes =
            self.rotation.as_ref().map(|rotation| handshakes(rotation, have)).unwrap_or_default();
        let new = handshakes != self.handshakes;
        self.handshakes = handshakes;
        new
    }

    fn wanted(&self) -> BTreeSet<()> {
        self.want.iter().map(|_| ()).collect()
    }

    fn turns(&self, (): ()) -> &'static [Turn] {
        // The sockets of encrypted networks are in it.
        if self.want.is_some() { &[Turn::Make] } else { &[Turn::Clear] }
    }

    fn plan(&self, (): (), have: &ObservedMesh, _turn: Turn) -> Vec<MeshAction> {
        if self.problem.is_some() {
            // Until it is known what should be, what is there may be right.
            return Vec::new();
        }
        let peers = self.want.iter().flat_map(|want| want.devices.values()).flat_map(|device| &device.peers);
        let moved = peers.filter(|(key, peer)| self.told.get(key).is_some_and(|told| *told != peer.endpoint));
        plan_mesh(self.want.as_ref(), have, &moved.map(|(key, _)| *key).collect())
    }

    async fn before(&mut self, _kernel: &dyn Kernel, (): (), _steps: &[MeshAction]) -> Result<(), String> {
        let Some(rotation) = self.rotation.as_ref().filter(|_| self.unkept) else { return Ok(()) };
        // Before anybody can have heard of them.
        let keys: Vec<OwnKey> = rotation.keys().cloned().collect();
        let state = self.state.clone();
        let kept = spawn_blocking(move || state.put(KEYS, &keys)).await;
        kept.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        self.unkept = false;
        Ok(())
    }

    async fn after(&mut self, (): (), failed: &[(MeshAction, KernelError)]) -> Result<(), String> {
        if !failed.is_empty() || self.problem.is_some() {
            return Ok(());
        }
        let peers = self.want.iter().flat_map(|want| want.devices.values()).flat_map(|device| &device.peers);
        self.told = peers.map(|(key, peer)| (*key, peer.endpoint)).collect();
        self.applied.clone_from(&self.want);
        if self.want.is_none() && self.unkept {
            let state = self.state.clone();
            let forgotten = spawn_blocking(move || state.delete(KEYS)).await;
            forgotten.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            self.unkept = false;
        }
        self.made = true;
        Ok(())
    }

    fn announcement(&self) -> Option<Announcement> {
        let new = self.made && self.published.as_ref() != Some(&self.publish);
        new.then(|| Announcement::MeshKeys(self.publish.clone()))
    }

    fn announced(&mut self, what: Announcement) {
        if let Announcement::MeshKeys(keys) = what {
            self.published = Some(keys);
        }
    }

    fn problems(&self) -> Vec<String> {
        self.problem.iter().map(|problem| format!("mesh: {problem}")).collect()
    }

    fn wake(&self) -> Option<Duration> {
        self.wake
    }

    fn undoes(step: &MeshAction) -> bool {
        // A peer that is not heard is set anew by itself; too much does no harm.
        matches!(
            step,
            MeshAction::Create
                | MeshAction::AddVtep(_)
                | MeshAction::PutLink { .. }
                | MeshAction::PutDevice { .. }
                | MeshAction::PutRoute { .. }
        )
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
