//! What the reconciler needs of the cluster: what it knows, and to tell it what became of this node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::cluster::{Cluster, ClusterError, Members};
use crate::mesh::MeshSecret;
use crate::model::{
    Also, ClusterView, Endpoint, EndpointKey, EndpointName, Group, MeshKey, MeshPorts, NetworkId,
};

/// The other nodes, as the reconciler sees them. Each call is answered by this node itself.
#[async_trait]
pub trait Peers: Send + Sync {
    /// The cluster's id.
    fn id(&self) -> &str;

    /// What this node knows; changes whenever that does.
    fn view(&self) -> watch::Receiver<Arc<ClusterView>>;

    /// The newest of the cluster's secrets for its mesh.
    fn mesh_secret(&self) -> watch::Receiver<Option<MeshSecret>>;

    /// Publishes an endpoint of this node; takes part in the network from then on.
    async fn put_endpoint(&self, network: NetworkId, endpoint: Endpoint) -> Result<(), ClusterError>;

    /// Takes an endpoint of this node back.
    async fn remove_endpoint(&self, network: NetworkId, name: EndpointName) -> Result<(), ClusterError>;

    /// Publishes whether an endpoint of this node takes no new connections of its service.
    async fn set_draining(
        &self,
        network: NetworkId,
        name: EndpointName,
        draining: bool,
    ) -> Result<(), ClusterError>;

    /// Publishes what an endpoint of this node may have beside its own address and MAC.
    async fn set_also(&self, network: NetworkId, name: EndpointName, also: Also) -> Result<(), ClusterError>;

    /// Publishes which ports of every node lead to an endpoint of this one.
    async fn set_mesh_ports(&self, key: EndpointKey, ports: MeshPorts) -> Result<(), ClusterError>;

    /// Takes part in a network, whether this node has endpoints there or not.
    async fn take_part(&self, network: NetworkId) -> Result<(), ClusterError>;

    /// Takes all that this node has in a network back.
    async fn leave_network(&self, network: NetworkId) -> Result<(), ClusterError>;

    /// Publishes under which keys this node can be reached in the mesh.
    async fn set_mesh(&self, keys: Vec<MeshKey>) -> Result<(), ClusterError>;

    /// Publishes which groups are joined on this node.
    async fn set_groups(&self, network: NetworkId, groups: BTreeSet<Group>) -> Result<(), ClusterError>;

    /// Which endpoints of this node have joined what, for those who ask.
    fn set_members(&self, network: NetworkId, members: Members);

    /// Publishes where this node's VXLAN packets come from and how large they may be, in bytes.
    async fn set_self(&self, vtep: IpAddr, underlay_mtu: u32) -> Result<(), ClusterError>;

    /// Publishes that this node is at another address.
    async fn move_to(&self, address: IpAddr, underlay_mtu: u32) -> Result<(), ClusterError>;
}

#[async_trait]
impl Peers for Cluster {
    fn id(&self) -> &str {
        Cluster::id(self)
    }

    fn view(&self) -> watch::Receiver<Arc<ClusterView>> {
        Cluster::view(self)
    }

    fn mesh_secret(&self) -> watch::Receiver<Option<MeshSecret>> {
        Cluster::mesh_secret(self)
    }

    async fn put_endpoint(&self, network: NetworkId, endpoint: Endpoint) -> Result<(), ClusterError> {
        Cluster::put_endpoint(self, network, endpoint).await
    }

    async fn remove_endpoint(&self, network: NetworkId, name: EndpointName) -> Result<(), ClusterError> {
        Cluster::remove_endpoint(self, network, name).await.map(drop)
    }

    async fn set_draining(
        &self,
        network: NetworkId,
        name: EndpointName,
        draining: bool,
    ) -> Result<(), ClusterError> {
        Cluster::set_draining(self, network, name, draining).await
    }

    async fn set_also(&self, network: NetworkId, name: EndpointName, also: Also) -> Result<(), ClusterError> {
        Cluster::set_also(self, network, name, also).await
    }

    async fn set_mesh_ports(&self, key: EndpointKey, ports: MeshPorts) -> Result<(), ClusterError> {
        Cluster::set_mesh_ports(self, key, ports).await
    }

    async fn take_part(&self, network: NetworkId) -> Result<(), ClusterError> {
        Cluster::take_part(self, network).await
    }

    async fn leave_network(&self, network: NetworkId) -> Result<(), ClusterError> {
        Cluster::leave_network(self, network).await
    }

    async fn set_mesh(&self, keys: Vec<MeshKey>) -> Result<(), ClusterError> {
        Cluster::set_mesh(self, keys).await
    }

    async fn set_groups(&self, network: NetworkId, groups: BTreeSet<Group>) -> Result<(), ClusterError> {
        Cluster::set_groups(self, network, groups).await
    }

    fn set_members(&self, network: NetworkId, members: Members) {
        Cluster::set_members(self, network, members);
    }

    async fn set_self(&self, vtep: IpAddr, underlay_mtu: u32) -> Result<(), ClusterError> {
        Cluster::set_self(self, vtep, underlay_mtu).await
    }

    async fn move_to(&self, address: IpAddr, underlay_mtu: u32) -> Result<(), ClusterError> {
        Cluster::move_to(self, address, underlay_mtu).await
    }
}
