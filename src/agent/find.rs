//! The network that a caller means, and who has what he means instead of this node.

use super::answers;
use super::session::Session;
use crate::api::ApiError;
use crate::cluster::NetworkEndpoints;
use crate::model::{ClusterView, EndpointName, NetworkId, NetworkName, NetworkView, NodeId};

/// The network that owns the name, or else the one with this id: how one that lost its name is meant.
pub fn find_network<'a>(view: &'a ClusterView, name: &NetworkName) -> Option<&'a NetworkView> {
    view.network_named(name)
        .or_else(|| name.as_str().parse().ok().and_then(|id: NetworkId| view.networks.get(&id)))
}

/// The same, or an error that says that there is none.
pub fn network_named<'a>(view: &'a ClusterView, name: &NetworkName) -> Result<&'a NetworkView, ApiError> {
    find_network(view, name).ok_or_else(|| ApiError::no_network(name))
}

/// That an endpoint is another node's.
pub fn elsewhere(view: &ClusterView, node: &NodeId, name: &EndpointName) -> ApiError {
    ApiError::conflict(format!("endpoint {name} is on node {}", answers::node_name(view, node)))
}

impl Session {
    /// The endpoints of a network on every node; of one that this node takes no part in, as one says that does, and where
    /// nobody does, what is known here.
    pub async fn endpoints_of(&self, network: &NetworkView) -> NetworkEndpoints {
        self.cluster.fetch_endpoints(network.spec.id).await.unwrap_or_else(|error| {
            tracing::debug!(network = %network.spec.name, %error, "its endpoints are not known here");
            network.endpoints.clone()
        })
    }
}
