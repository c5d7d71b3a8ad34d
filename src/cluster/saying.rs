//! What a node says of itself in its networks, beside its endpoints.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cluster, ClusterError};
use crate::model::{
    Also, EndpointKey, EndpointName, Floatings, Group, MeshPorts, NetworkId, ZeroconfFact, ZeroconfKey,
};

impl Cluster {
    /// Publishes which multicast groups are joined on this node. Of no effect in a network that this node takes no
    /// part in.
    pub async fn set_groups(&self, network: NetworkId, groups: BTreeSet<Group>) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.set_groups(network, &groups, now)).await
    }

    /// Publishes what mDNS brought to light on this node. Of no effect in a network that this node takes no part in.
    ///
    /// # Errors
    /// It takes more than 1 MiB; what was published before stays.
    pub async fn set_zeroconf(
        &self,
        network: NetworkId,
        facts: BTreeMap<ZeroconfKey, ZeroconfFact>,
    ) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.set_zeroconf(network, &facts, now)).await?
    }

    /// Publishes what is at endpoints of this node although it was not given to them. Of no effect in a network that this node
    /// takes no part in.
    ///
    /// # Errors
    /// Something of it may not be, or is too much; what was published before stays.
    pub async fn set_floating(&self, network: NetworkId, floating: Floatings) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.set_floating(network, &floating, now)).await?
    }

    /// Publishes what an endpoint of this node may have beside its own address and MAC. Of no effect where there is none of
    /// that name.
    ///
    /// # Errors
    /// It may not have that, or there is no room for it.
    pub async fn set_also(
        &self,
        network: NetworkId,
        name: EndpointName,
        also: Also,
    ) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.set_also(network, &name, &also, now)).await?
    }

    /// Publishes which ports of every node lead to an endpoint of this one. Of no effect where there is none of that name.
    ///
    /// # Errors
    /// They cannot be published, or there is no room for it.
    pub async fn set_mesh_ports(&self, key: EndpointKey, ports: MeshPorts) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.set_mesh_ports(&key, &ports, now)).await?
    }

    /// Publishes whether an endpoint of this node takes no new connections of its service.
    ///
    /// # Errors
    /// There is no room for it.
    pub async fn set_draining(
        &self,
        network: NetworkId,
        name: EndpointName,
        draining: bool,
    ) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.set_draining(network, &name, draining, now)).await?
    }
}
