//! What one node knows of the whole cluster at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    Endpoint, EndpointName, Group, NetworkId, NetworkName, NetworkSpec, Node, NodeId, NodeName, ZeroconfFact,
    ZeroconfKey,
};

/// A network as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// Its spec.
    pub spec: Arc<NetworkSpec>,
    /// An older network owns the name, so this one takes no new endpoints.
    pub conflict: bool,
    /// Its endpoints on each node, this one included. Only of networks this node takes part in.
    pub endpoints: BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>>,
    /// The groups that are joined on each node, this one included, like the endpoints.
    pub groups: BTreeMap<NodeId, Arc<BTreeSet<Group>>>,
    /// What mDNS brought to light on each node, this one included, like the endpoints.
    pub zeroconf: BTreeMap<NodeId, Arc<BTreeMap<ZeroconfKey, ZeroconfFact>>>,
}

/// What one node knows of the whole cluster at one moment. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Who the observer is.
    pub me: NodeId,
    /// Every node that was ever given an index and not removed, this one included.
    pub nodes: Arc<BTreeMap<NodeId, Node>>,
    /// Every network that was created and not deleted.
    pub networks: BTreeMap<NetworkId, NetworkView>,
}

impl ClusterView {
    /// The observer's own entry.
    pub fn myself(&self) -> Option<&Node> {
        self.nodes.get(&self.me)
    }

    /// The node with this name.
    pub fn node_named(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.values().find(|node| node.name == *name)
    }

    /// The network that owns this name.
    pub fn network_named(&self, name: &NetworkName) -> Option<&NetworkView> {
        self.networks.values().find(|network| !network.conflict && network.spec.name == *name)
    }

    /// The endpoint with this name in a network, and the node that has it.
    pub fn endpoint(&self, network: &NetworkId, name: &EndpointName) -> Option<(&NodeId, &Endpoint)> {
        let network = self.networks.get(network)?;
        network.endpoints.iter().find_map(|(node, endpoints)| Some((node, endpoints.get(name)?)))
    }
}
