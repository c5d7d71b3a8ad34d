//! What the rest of the program relies on of a kernel: [`Linux`] keeps it, and so does the [`Fake`](super::Fake).
//!
//! The reconciler knows nothing but this. What both do alike is a test in `tests/kernel.rs`, which runs on each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Applied, ClientKey, ClientPlace, KernelError, KernelEvent, Linux, Underlay};
use crate::model::{EndpointName, GroupMember, GroupTraffic, NetworkId};
use crate::plan::{
    DoorStep, GuardStep, MeshAction, ObservedDoors, ObservedMesh, ObservedNetwork, ObservedPorts,
    ObservedServices, ObservedUnderlayGuard, Plan, PortStep, ServiceStep,
};

/// What of it can be relied on that not every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Can {
    /// A VXLAN device can send a group to its members only.
    pub select_groups: bool,
    /// What strangers send from the underlay can be dropped.
    pub guard_underlay: bool,
}

/// This node's kernel, as the reconciler sees it.
#[async_trait]
pub trait Kernel: Send + Sync {
    /// What it can do.
    async fn can(&self) -> Can;

    /// The networks of which something of ours is there, what a crash left included.
    async fn networks(&self) -> Result<BTreeSet<NetworkId>, KernelError>;

    /// One network as it is; `None` if it has no namespace here.
    async fn observe_network(&self, id: NetworkId) -> Result<Option<ObservedNetwork>, KernelError>;

    /// Carries out `plan`. An operation that fails does not keep the others from being tried.
    async fn apply(&self, plan: &Plan) -> Applied;

    /// What of the mesh is on this node.
    async fn observe_mesh(&self) -> Result<ObservedMesh, KernelError>;

    /// Carries out steps of the mesh; those that failed, and why. One that fails does not keep the others from
    /// being tried.
    async fn apply_mesh(&self, steps: &[MeshAction]) -> Vec<(MeshAction, KernelError)>;

    /// What keeps strangers on the underlay out of plain networks; `None` where there is nothing, or cannot be.
    async fn observe_underlay_guard(&self) -> Result<Option<ObservedUnderlayGuard>, KernelError>;

    /// Makes a step of what keeps strangers on the underlay out, whole or not at all.
    async fn apply_underlay_guard(&self, step: GuardStep) -> Result<(), KernelError>;

    /// The clients of services that there may be something for; see [`Linux::service_clients`].
    async fn service_clients(&self) -> Result<BTreeSet<ClientKey>, KernelError>;

    /// What sends a client to services; `None` where there is nothing.
    async fn observe_services(&self, key: ClientKey) -> Result<Option<ObservedServices>, KernelError>;

    /// Notes where a client is, before anything is made for it.
    async fn place_client(&self, key: ClientKey, place: &ClientPlace) -> Result<(), KernelError>;

    /// Makes steps for a client; those that failed, and why. One that fails does not keep the others from being tried.
    async fn apply_services(
        &self,
        key: ClientKey,
        steps: Vec<ServiceStep>,
    ) -> Vec<(ServiceStep, KernelError)>;

    /// The networks of which something of published ports is there.
    async fn port_networks(&self) -> Result<BTreeSet<NetworkId>, KernelError>;

    /// What of published ports is in a network; `None` where it is nothing.
    async fn observe_ports(&self, network: NetworkId) -> Result<Option<ObservedPorts>, KernelError>;

    /// Notes where an endpoint is, before a way back is made for it.
    async fn place_way(
        &self,
        network: NetworkId,
        name: &EndpointName,
        place: &ClientPlace,
    ) -> Result<(), KernelError>;

    /// Makes steps for a network; those that failed, and why. One that fails does not keep the others from being tried.
    async fn apply_ports(&self, network: NetworkId, steps: Vec<PortStep>) -> Vec<(PortStep, KernelError)>;

    /// Which ports of the node are taken to networks; `None` where none are.
    async fn observe_doors(&self) -> Result<Option<ObservedDoors>, KernelError>;

    /// Makes a step of them.
    async fn apply_doors(&self, step: DoorStep) -> Result<(), KernelError>;

    /// What changes by someone else's hand from now on; see [`Linux::events`].
    async fn events(&self) -> Result<mpsc::Receiver<KernelEvent>, KernelError>;

    /// Who is a member of what on this node's side of a network, as its bridge has heard it.
    async fn memberships(&self, network: NetworkId) -> Result<BTreeSet<GroupMember>, KernelError>;

    /// Waits until memberships changed, of which networks is the answer. For one caller at a time.
    async fn memberships_changed(&self) -> BTreeSet<NetworkId>;

    /// What passed between this node and these networks, by group; see [`Linux::group_traffic`].
    async fn group_traffic(&self, networks: BTreeSet<NetworkId>) -> BTreeMap<NetworkId, GroupTraffic>;

    /// The largest packets that pass through the mesh; see [`Linux::try_mesh_paths`].
    async fn try_mesh_paths(
        &self,
        from: Ipv6Addr,
        peers: BTreeMap<Ipv6Addr, u32>,
    ) -> Result<Option<BTreeMap<Ipv6Addr, u32>>, KernelError>;

    /// The interface of this node that has `address`, and how large a packet the ways from there to `towards` take; see
    /// [`Linux::underlay`].
    async fn underlay(&self, address: IpAddr, towards: Vec<IpAddr>) -> Result<Underlay, KernelError>;

    /// The address that takes the place of one that is lost; see [`Linux::address_instead`].
    async fn address_instead(
        &self,
        device: &str,
        lost: IpAddr,
        towards: Vec<IpAddr>,
    ) -> Result<Option<IpAddr>, KernelError>;
}

#[async_trait]
impl Kernel for Linux {
    async fn can(&self) -> Can {
        Can { select_groups: self.has_vxlan_mdb().await, guard_underlay: self.has_underlay_guard().await }
    }

    async fn networks(&self) -> Result<BTreeSet<NetworkId>, KernelError> {
        Ok(self.inner.dir.list()?.into_iter().collect())
    }

    async fn observe_network(&self, id: NetworkId) -> Result<Option<ObservedNetwork>, KernelError> {
        Linux::observe_network(self, id).await
    }

    async fn apply(&self, plan: &Plan) -> Applied {
        Linux::apply(self, plan).await
    }

    async fn observe_mesh(&self) -> Result<ObservedMesh, KernelError> {
        Linux::observe_mesh(self).await
    }

    async fn apply_mesh(&self, steps: &[MeshAction]) -> Vec<(MeshAction, KernelError)> {
        Linux::apply_mesh(self, steps).await
    }

    async fn observe_underlay_guard(&self) -> Result<Option<ObservedUnderlayGuard>, KernelError> {
        Linux::observe_underlay_guard(self).await
    }

    async fn apply_underlay_guard(&self, step: GuardStep) -> Result<(), KernelError> {
        Linux::apply_underlay_guard(self, step).await
    }

    async fn service_clients(&self) -> Result<BTreeSet<ClientKey>, KernelError> {
        Linux::service_clients(self).await
    }

    async fn observe_services(&self, key: ClientKey) -> Result<Option<ObservedServices>, KernelError> {
        Linux::observe_services(self, key).await
    }

    async fn place_client(&self, key: ClientKey, place: &ClientPlace) -> Result<(), KernelError> {
        Linux::place_client(self, key, place).await
    }

    async fn apply_services(
        &self,
        key: ClientKey,
        steps: Vec<ServiceStep>,
    ) -> Vec<(ServiceStep, KernelError)> {
        Linux::apply_services(self, key, steps).await
    }

    async fn port_networks(&self) -> Result<BTreeSet<NetworkId>, KernelError> {
        Linux::port_networks(self).await
    }

    async fn observe_ports(&self, network: NetworkId) -> Result<Option<ObservedPorts>, KernelError> {
        Linux::observe_ports(self, network).await
    }

    async fn place_way(
        &self,
        network: NetworkId,
        name: &EndpointName,
        place: &ClientPlace,
    ) -> Result<(), KernelError> {
        Linux::place_way(self, network, name, place).await
    }

    async fn apply_ports(&self, network: NetworkId, steps: Vec<PortStep>) -> Vec<(PortStep, KernelError)> {
        Linux::apply_ports(self, network, steps).await
    }

    async fn observe_doors(&self) -> Result<Option<ObservedDoors>, KernelError> {
        Linux::observe_doors(self).await
    }

    async fn apply_doors(&self, step: DoorStep) -> Result<(), KernelError> {
        Linux::apply_doors(self, step).await
    }

    async fn events(&self) -> Result<mpsc::Receiver<KernelEvent>, KernelError> {
        Linux::events(self).await
    }

    async fn memberships(&self, network: NetworkId) -> Result<BTreeSet<GroupMember>, KernelError> {
        Linux::memberships(self, network).await
    }

    async fn memberships_changed(&self) -> BTreeSet<NetworkId> {
        Linux::memberships_changed(self).await
    }

    async fn group_traffic(&self, networks: BTreeSet<NetworkId>) -> BTreeMap<NetworkId, GroupTraffic> {
        Linux::group_traffic(self, networks).await
    }

    async fn try_mesh_paths(
        &self,
        from: Ipv6Addr,
        peers: BTreeMap<Ipv6Addr, u32>,
    ) -> Result<Option<BTreeMap<Ipv6Addr, u32>>, KernelError> {
        Linux::try_mesh_paths(self, from, peers).await
    }

    async fn underlay(&self, address: IpAddr, towards: Vec<IpAddr>) -> Result<Underlay, KernelError> {
        Linux::underlay(self, address, towards).await
    }

    async fn address_instead(
        &self,
        device: &str,
        lost: IpAddr,
        towards: Vec<IpAddr>,
    ) -> Result<Option<IpAddr>, KernelError> {
        Linux::address_instead(self, device, lost, towards).await
    }
}
