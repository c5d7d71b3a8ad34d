//! A kernel that is a value: it does with each operation what the real one was seen to do, and can be told to fail, to
//! hang, and to lose something behind the agent's back. For tests, without privileges, of whatever works on a kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nix::errno::Errno;
use tokio::sync::{mpsc, watch};

use super::contract::{Can, Kernel};
use super::{Applied, ClientKey, ClientPlace, KernelError, KernelEvent, Underlay};
use crate::model::{EndpointName, GroupMember, GroupTraffic, NetworkId};
use crate::plan::{
    Action, DoorStep, GuardStep, MeshAction, Observed, ObservedDoors, ObservedMesh, ObservedNetwork,
    ObservedPorts, ObservedServices, ObservedUnderlayGuard, Op, Plan, PortStep, ServiceStep,
};

/// How many events may wait for the reader.
const EVENTS: usize = 1024;

/// A kernel that is a value. Clones share it.
#[derive(Debug, Clone)]
pub struct Fake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    hangs: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    observed: Observed,
    mesh: ObservedMesh,
    guard: Option<ObservedUnderlayGuard>,
    /// What sends clients to services.
    services: BTreeMap<ClientKey, ObservedServices>,
    /// What of published ports is in the networks.
    ports: BTreeMap<NetworkId, ObservedPorts>,
    doors: Option<ObservedDoors>,
    /// The beginnings of what fails.
    failing: BTreeSet<String>,
    /// What was asked for, a line each.
    log: Vec<String>,
    events: Option<mpsc::Sender<KernelEvent>>,
    underlay: BTreeMap<IpAddr, Underlay>,
    /// What was sent to groups.
    sent: BTreeMap<NetworkId, GroupTraffic>,
}

impl Default for Fake {
    fn default() -> Self {
        let state = State {
            observed: Observed::default(),
            mesh: ObservedMesh::default(),
            guard: None,
            services: BTreeMap::new(),
            ports: BTreeMap::new(),
            doors: None,
            failing: BTreeSet::new(),
            log: Vec::new(),
            events: None,
            underlay: BTreeMap::new(),
            sent: BTreeMap::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), hangs: watch::Sender::new(false) }))
    }
}

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what begins with `what` is refused: an operation without its network (`put remote`), a step of the
    /// mesh or the guard, or `list`, `observe`, `observe mesh`, `observe guard`, `count groups`.
    pub fn fail(&self, what: &str) {
        self.state().failing.insert(what.to_owned());
    }

    /// Nothing is refused any more.
    pub fn recover(&self) {
        self.state().failing.clear();
    }

    /// Whether every call waits from now on, until told otherwise.
    pub fn hang(&self, hangs: bool) {
        self.0.hangs.send_replace(hangs);
    }

    /// What was asked for since this was last called: `list`, `observe NETWORK`, and each operation that was tried.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// What is there.
    pub fn observed(&self) -> Observed {
        self.state().observed.clone()
    }

    /// What of the mesh is there.
    pub fn mesh(&self) -> ObservedMesh {
        self.state().mesh.clone()
    }

    /// What keeps strangers out.
    pub fn guard(&self) -> Option<ObservedUnderlayGuard> {
        self.state().guard.clone()
    }

    /// What sends each client to services.
    pub fn services(&self) -> BTreeMap<ClientKey, ObservedServices> {
        self.state().services.clone()
    }

    /// Somebody takes away what sends clients to services, without a word.
    pub fn lose_services(&self) {
        self.state().services.clear();
    }

    /// What of published ports is there: in the networks, and on the node.
    pub fn ports(&self) -> (BTreeMap<NetworkId, ObservedPorts>, Option<ObservedDoors>) {
        let state = self.state();
        (state.ports.clone(), state.doors)
    }

    /// Somebody takes the node's published ports away, without a word.
    pub fn lose_doors(&self) {
        self.state().doors = None;
    }

    /// Somebody else changes what is there, without a word.
    pub fn meddle(&self, change: impl FnOnce(&mut Observed, &mut ObservedMesh)) {
        let state = &mut *self.state();
        change(&mut state.observed, &mut state.mesh);
    }

    /// A container goes, and its interface with it; the kernel says so.
    pub fn lose_port(&self, network: NetworkId, name: &EndpointName) {
        let mut state = self.state();
        if let Some(there) = state.observed.networks.get_mut(&network) {
            there.ports.remove(name);
        }
        state.tell(KernelEvent::PortGone { network, name: name.clone() });
    }

    /// The kernel says something.
    pub fn say(&self, event: KernelEvent) {
        self.state().tell(event);
    }

    /// The connection over which events come breaks.
    pub fn break_events(&self) {
        self.state().events = None;
    }

    /// An address that the node has.
    pub fn give_address(&self, address: IpAddr, device: &str, mtu: u32) {
        self.state().underlay.insert(address, Underlay { device: device.to_owned(), mtu });
    }

    /// What was sent to groups of a network and came from them, so far.
    pub fn send(&self, network: NetworkId, traffic: GroupTraffic) {
        self.state().sent.insert(network, traffic);
    }

    /// Waits while it hangs; then the state, with what is asked for noted, or its refusal.
    async fn enter(&self, what: impl Into<String>) -> Result<MutexGuard<'_, State>, KernelError> {
        let what = what.into();
        self.wait().await;
        let mut state = self.state();
        state.log.push(what.clone());
        state.check(&what).map(|()| state)
    }

    async fn wait(&self) {
        let mut hangs = self.0.hangs.subscribe();
        // The sender lives as long as this.
        let _ = hangs.wait_for(|hangs| !hangs).await;
    }
}

impl State {
    fn check(&self, what: &str) -> Result<(), KernelError> {
        match self.failing.iter().find(|failing| what.starts_with(failing.as_str())) {
            Some(_) => Err(refused(what, Errno::ENOBUFS)),
            None => Ok(()),
        }
    }

    fn tell(&mut self, event: KernelEvent) {
        if let Some(events) = &self.events {
            let _ = events.try_send(event);
        }
    }

    fn one(&mut self, op: &Op) -> Result<(), KernelError> {
        self.log.push(op.action.to_string());
        self.check(&op.action.to_string())?;
        if !matches!(op.action, Action::CreateNamespace | Action::DeleteNetwork)
            && !self.observed.networks.contains_key(&op.network)
        {
            return Err(KernelError::NoSuchNetwork { network: op.network });
        }
        // Once more does no harm.
        self.observed.carry_out(op).map(drop).map_err(|what| refused(&what, Errno::ENODEV))
    }
}

fn refused(what: &str, errno: Errno) -> KernelError {
    KernelError::Refused { what: what.to_owned(), source: io::Error::from(errno) }
}

#[async_trait]
impl Kernel for Fake {
    async fn can(&self) -> Can {
        Can { select_groups: true, guard_underlay: true }
    }

    async fn networks(&self) -> Result<BTreeSet<NetworkId>, KernelError> {
        Ok(self.enter("list").await?.observed.networks.keys().copied().collect())
    }

    async fn observe_network(&self, id: NetworkId) -> Result<Option<ObservedNetwork>, KernelError> {
        Ok(self.enter(format!("observe {id}")).await?.observed.networks.get(&id).cloned())
    }

    async fn apply(&self, plan: &Plan) -> Applied {
        self.wait().await;
        let mut applied = Applied::default();
        for op in &plan.ops {
            match self.state().one(op) {
                Ok(()) => applied.done += 1,
                Err(error) => applied.failed.push((op.clone(), error)),
            }
        }
        applied
    }

    async fn observe_mesh(&self) -> Result<ObservedMesh, KernelError> {
        Ok(self.enter("observe mesh").await?.mesh.clone())
    }

    async fn apply_mesh(&self, steps: &[MeshAction]) -> Vec<(MeshAction, KernelError)> {
        let mut failed = Vec::new();
        for step in steps {
            let done = self.enter(step.to_string()).await.and_then(|mut state| {
                state.mesh.carry_out(step).map(drop).map_err(|what| refused(&what, Errno::ENODEV))
            });
            failed.extend(done.err().map(|error| (step.clone(), error)));
        }
        failed
    }

    async fn observe_underlay_guard(&self) -> Result<Option<ObservedUnderlayGuard>, KernelError> {
        Ok(self.enter("observe guard").await?.guard.clone())
    }

    async fn apply_underlay_guard(&self, step: GuardStep) -> Result<(), KernelError> {
        let mut state = self.enter(step.to_string()).await?;
        step.carry_out(&mut state.guard).map(drop).map_err(|what| refused(&what, Errno::ENOENT))
    }

    async fn service_clients(&self) -> Result<BTreeSet<ClientKey>, KernelError> {
        Ok(self.enter("list services").await?.services.keys().copied().collect())
    }

    async fn observe_services(&self, key: ClientKey) -> Result<Option<ObservedServices>, KernelError> {
        Ok(self.enter("observe services").await?.services.get(&key).cloned())
    }

    async fn place_client(&self, _: ClientKey, _: &ClientPlace) -> Result<(), KernelError> {
        self.enter("place client").await.map(drop)
    }

    async fn apply_services(
        &self,
        key: ClientKey,
        steps: Vec<ServiceStep>,
    ) -> Vec<(ServiceStep, KernelError)> {
        self.wait().await;
        let mut state = self.state();
        let mut failed = Vec::new();
        for step in steps {
            let what = step.to_string();
            state.log.push(what.clone());
            if let Err(error) = state.check(&what) {
                failed.push((step, error));
                continue;
            }
            let mut there = state.services.remove(&key);
            step.carry_out(&mut there);
            if let Some(there) = there {
                state.services.insert(key, there);
            }
        }
        failed
    }

    async fn port_networks(&self) -> Result<BTreeSet<NetworkId>, KernelError> {
        Ok(self.enter("list ports").await?.ports.keys().copied().collect())
    }

    async fn observe_ports(&self, network: NetworkId) -> Result<Option<ObservedPorts>, KernelError> {
        Ok(self.enter("observe ports").await?.ports.get(&network).cloned())
    }

    async fn place_way(&self, _: NetworkId, _: &EndpointName, _: &ClientPlace) -> Result<(), KernelError> {
        self.enter("place way").await.map(drop)
    }

    async fn apply_ports(&self, network: NetworkId, steps: Vec<PortStep>) -> Vec<(PortStep, KernelError)> {
        let mut failed = Vec::new();
        for step in steps {
            match self.enter(step.to_string()).await {
                Ok(mut state) => {
                    let mut there = state.ports.remove(&network);
                    step.carry_out(&mut there);
                    if let Some(there) = there {
                        state.ports.insert(network, there);
                    }
                }
                Err(error) => failed.push((step, error)),
            }
        }
        failed
    }

    async fn observe_doors(&self) -> Result<Option<ObservedDoors>, KernelError> {
        Ok(self.enter("observe doors").await?.doors)
    }

    async fn apply_doors(&self, step: DoorStep) -> Result<(), KernelError> {
        let mut state = self.enter(step.to_string()).await?;
        step.carry_out(&mut state.doors);
        Ok(())
    }

    async fn events(&self) -> Result<mpsc::Receiver<KernelEvent>, KernelError> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        self.enter("listen").await?.events = Some(sender);
        Ok(receiver)
    }

    async fn memberships(&self, _network: NetworkId) -> Result<BTreeSet<GroupMember>, KernelError> {
        Ok(BTreeSet::new())
    }

    async fn memberships_changed(&self) -> BTreeSet<NetworkId> {
        std::future::pending().await
    }

    async fn group_traffic(&self, networks: BTreeSet<NetworkId>) -> BTreeMap<NetworkId, GroupTraffic> {
        let state = self.state();
        let counted = |network| {
            let told = state.check("count groups").is_ok();
            told.then(|| (network, state.sent.get(&network).cloned().unwrap_or_default()))
        };
        networks.into_iter().filter_map(counted).collect()
    }

    async fn try_mesh_paths(
        &self,
        _from: Ipv6Addr,
        peers: BTreeMap<Ipv6Addr, u32>,
    ) -> Result<Option<BTreeMap<Ipv6Addr, u32>>, KernelError> {
        Ok(self.enter("try paths").await?.mesh.there.then_some(peers))
    }

    async fn underlay(&self, address: IpAddr, _towards: Vec<IpAddr>) -> Result<Underlay, KernelError> {
        let found = self.enter("find address").await?.underlay.get(&address).cloned();
        found.ok_or(KernelError::AddressNotLocal { address })
    }

    async fn address_instead(
        &self,
        device: &str,
        lost: IpAddr,
        _towards: Vec<IpAddr>,
    ) -> Result<Option<IpAddr>, KernelError> {
        let state = self.enter("find another address").await?;
        let mut there = state.underlay.iter().filter(|(_, underlay)| underlay.device == device);
        Ok(there.find(|(address, _)| address.is_ipv4() == lost.is_ipv4()).map(|(address, _)| *address))
    }
}
