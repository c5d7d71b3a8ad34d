//! The nouns of lanmesh, as newtypes and plain values.
//!
//! Owns: what a node, network, endpoint and cluster view are, how they are written in JSON, and what makes
//! one valid. Does not own: any I/O, any rule about addresses (`lanmesh_ipam`), any kernel type.

mod claims;
mod endpoint;
mod group;
mod id;
mod mac;
mod mesh;
mod name;
mod network;
mod node;
#[cfg(test)]
pub(crate) mod testing;
mod view;
mod vni;

pub use claims::{Claim, Claims, claim};
pub use endpoint::{AdvertisedService, Endpoint, EndpointKey, Placement, ServiceParseError};
pub use group::{Group, GroupAddr, GroupError, Membership};
pub use id::{IdParseError, NetworkId, NodeId, NodeIndex};
pub use mac::{Mac, MacParseError};
pub use mesh::{KeyParseError, MeshEpoch, MeshKey, PublicKey};
pub use name::{EndpointName, NameError, NetworkName, NodeName, ServiceName};
pub use network::{BroadcastMode, Encryption, MulticastMode, NetworkSpec, ZeroconfMode};
pub use node::{Node, NodeState};
pub use view::{ClusterView, NetworkView};
pub use vni::{Vni, VniError};
