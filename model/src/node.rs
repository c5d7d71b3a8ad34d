//! A node as the others know it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{MeshKey, NetworkId, NodeId, NodeIndex, NodeName};

/// What membership says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It answers.
    Alive,
    /// It has not answered lately and has not yet been given up.
    Suspect,
    /// It has not answered for the detection time.
    Dead,
    /// It said that it goes.
    Left,
}

impl NodeState {
    /// Whether names may still point at the node's endpoints.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// A node as the others know it: written by the node itself, but for the state, which each observer keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// Its place in the address plans.
    pub index: NodeIndex,
    /// Where it listens for the cluster: gossip over UDP and streams over TCP.
    pub address: SocketAddr,
    /// Where its VXLAN packets come from and go to.
    pub vtep: IpAddr,
    /// The largest packet, in bytes, that its underlay carries.
    pub underlay_mtu: u32,
    /// The networks of which it has endpoints, and whose facts it wants.
    pub networks: BTreeSet<NetworkId>,
    /// The keys under which it can be reached in the WireGuard mesh, the oldest first; none where it takes no part.
    pub mesh: Vec<MeshKey>,
    /// What it is and what is said of it, by name: what it tells of itself (`kernel`, `os`, `arch`, `version`), and what
    /// operators say.
    pub labels: BTreeMap<String, String>,
    /// What this observer's membership says of it.
    pub state: NodeState,
}
