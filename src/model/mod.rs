//! The nouns of lanmesh, as newtypes and plain values.
//!
//! Owns: what a node, network, endpoint and cluster view are, how they are written in JSON, and what makes
//! one valid. Does not own: any I/O, any rule about addresses (`lanmesh_ipam`), any kernel type.

mod advertised;
mod claims;
mod endpoint;
mod group;
mod id;
mod mac;
mod mesh;
mod name;
mod network;
mod node;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod testing;
mod view;
mod vni;
pub(crate) mod zeroconf;

pub use advertised::{AdvertisedService, ServiceError, ServiceParseError};
pub use claims::{Claim, Claims, claim};
pub use endpoint::{Endpoint, EndpointKey, Placement};
pub use group::{Group, GroupAddr, GroupError, GroupTraffic, Membership, Traffic};
pub use id::{IdParseError, NetworkId, NodeId, NodeIndex};
pub use mac::{Mac, MacParseError};
pub use mesh::{KeyParseError, MeshEpoch, MeshKey, PublicKey};
pub use name::{EndpointName, NameError, NetworkName, NodeName, ServiceName};
pub use network::{
    BroadcastMode, DNS_TTL_MAX, DnsForward, DnsOptions, Encryption, MulticastMode, NetworkSpec, SpoofingMode,
    ZeroconfMode,
};
pub use node::{Node, NodeState};
pub use view::{ClusterView, NetworkView};
pub use vni::{Vni, VniError};
pub use zeroconf::{
    Found, RecordKind, SeenHost, SeenRecords, SeenService, ZeroconfFact, ZeroconfKey, fold, is_label,
    is_service_type,
};
