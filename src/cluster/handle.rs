//! The handle that the agent holds: calls into the cluster's thread and what comes out of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::{ClusterConfig, ClusterError, ClusterEvent, InitConfig, Initial, JoinConfig, Stats};
use crate::model::{
    ClusterView, Endpoint, EndpointName, NetworkId, NetworkSpec, NodeId, NodeIndex, NodeName,
};

/// This node's membership in a cluster. Clones share it; it runs until [`Cluster::shutdown`] or
/// [`Cluster::leave`], or until the last clone is dropped.
///
/// A call that changes something returns when the change is in this node's own [`Cluster::view`] and on its
/// way to the others; what must survive a crash is durable by then.
#[derive(Clone)]
pub struct Cluster {
    view: watch::Receiver<Arc<ClusterView>>,
    events: broadcast::Sender<ClusterEvent>,
}

impl Cluster {
    /// Makes a new cluster with this node as its manager, index 0.
    pub async fn create(_config: InitConfig) -> Result<Self, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Joins the cluster that the token names.
    pub async fn join(_config: JoinConfig) -> Result<Self, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Goes on as the member that the state says this node is; `None` where it says none.
    ///
    /// Needs neither token nor manager. `initial` is published before the first exchange with anybody.
    pub async fn resume(_config: ClusterConfig, _initial: Initial) -> Result<Option<Self>, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Who this node is.
    pub fn me(&self) -> NodeId {
        self.view.borrow().me
    }

    /// The cluster's id.
    pub fn id(&self) -> String {
        String::new()
    }

    /// What this node knows; changes whenever that does.
    pub fn view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.view.clone()
    }

    /// What happens from now on. A reader that lags loses the oldest events.
    pub fn events(&self) -> broadcast::Receiver<ClusterEvent> {
        self.events.subscribe()
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// The node that hands out indexes: its id, and its name where that is known.
    pub fn manager(&self) -> Option<(NodeId, Option<NodeName>)> {
        None
    }

    /// Publishes where this node's VXLAN packets come from and how large they may be.
    pub async fn set_self(&self, _vtep: IpAddr, _underlay_mtu: u32) -> Result<(), ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Begins to follow a network's endpoints. Repeating it changes nothing.
    pub async fn take_part(&self, _network: NetworkId) -> Result<(), ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Takes back all own endpoints of a network and stops following it. Repeating it changes nothing.
    pub async fn leave_network(&self, _network: NetworkId) -> Result<(), ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Publishes an endpoint of this node, or a change of one; takes part in the network from then on.
    pub async fn put_endpoint(&self, _network: NetworkId, _endpoint: Endpoint) -> Result<(), ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Takes an endpoint of this node back; `false` where it had none of that name.
    pub async fn remove_endpoint(
        &self,
        _network: NetworkId,
        _name: EndpointName,
    ) -> Result<bool, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Creates a network. Where one of this name exists whose spec is equal but for id, VNI and time, the
    /// existing one is returned and nothing changes; where it differs, that is an error.
    pub async fn create_network(&self, _spec: NetworkSpec) -> Result<Arc<NetworkSpec>, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Deletes a network for everybody. `false` where it was deleted before.
    pub async fn delete_network(&self, _network: NetworkId) -> Result<bool, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// The endpoints of a network on every node; asked of a live node that has it, where this one does not.
    pub async fn fetch_endpoints(
        &self,
        _network: NetworkId,
    ) -> Result<BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>>, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// The token that lets nodes in. Manager only.
    pub async fn token_show(&self) -> Result<String, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Makes a new token and refuses the old one from now on. Manager only.
    pub async fn token_rotate(&self) -> Result<String, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Shuts a node out for good and rotates the gossip key. Manager only. Returns its index, which is
    /// given again only to a node that asks for it.
    pub async fn remove_node(&self, _node: NodeId) -> Result<NodeIndex, ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Tells the others that this node goes, stops, and forgets the cluster (everything under `cluster/`).
    pub async fn leave(&self) -> Result<(), ClusterError> {
        Err(ClusterError::Stopped)
    }

    /// Stops without a word: the node stays a member and is seen dead until it resumes.
    pub async fn shutdown(&self) {}
}
