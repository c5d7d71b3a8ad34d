//! The nouns of lanmesh, as newtypes and plain values.
//!
//! Owns: what a node, network, endpoint and cluster view are, how they are written in JSON, and what makes
//! one valid. Does not own: any I/O, any rule about addresses (`lanmesh_ipam`), any kernel type.

mod advertised;
mod bucket;
mod claims;
mod endpoint;
mod extras;
mod floating;
mod group;
mod id;
pub mod limits;
mod listed;
mod loan;
mod mac;
mod means;
mod mesh;
mod name;
mod network;
mod node;
mod option_value;
mod options;
mod outward;
mod publish;
mod service;
mod setting;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod trace;
mod view;
mod vni;
mod words;
pub mod zeroconf;

pub use advertised::{AdvertisedService, ServiceError, ServiceParseError};
pub use bucket::{Bucket, Moment, Rate};
pub use claims::{ClaimRank, Claims, Contested, claim};
pub use endpoint::{Endpoint, EndpointKey, Placement};
pub use extras::Extras;
pub use floating::{Also, Floating, FloatingKey, Floatings};
pub use group::{Group, GroupAddr, GroupError, GroupMember, GroupTraffic, Traffic};
pub use id::{IdParseError, NetworkId, NodeId, NodeIndex};
pub use listed::{ListedService, listed};
pub use loan::{Loan, LoanNumber, Loans};
pub use mac::{Mac, MacParseError};
pub use means::Means;
pub use mesh::{KeyParseError, MeshEpoch, MeshKey, PublicKey};
pub use name::{EndpointName, NameError, NetworkName, NodeName, ServiceName};
pub use network::NetworkSpec;
pub use node::{Node, NodeState};
pub use option_value::{Choice, OptionValue};
pub use options::{
    BroadcastMode, DNS_TTL_MAX, DnsForward, Encryption, MTU_MAX, MTU_MIN, MulticastMode, NetworkOption,
    NetworkOptions, OptionError, SpoofingMode, ZeroconfMode,
};
pub use outward::{OutwardPorts, OutwardPortsError};
pub use publish::{
    MeshPorts, PUBLICATIONS_MAX, Publication, PublicationError, PublishMode, PublishSource, Transport,
};
pub use service::{AddressRanges, Affinity, PORT_MAPS_MAX, PortMap, PortMapError, ServiceSpec};
pub use setting::{
    AddedSubnet, AddressPlan, LABEL_VALUE_MAX, LABELS_MAX, PLAN, Setting, is_label_name, is_label_value,
};
pub use trace::{Cast, Errand, Hop, Inside, Leaving, PortEnds, WayOut, Weight, Wrong};
pub use view::{ClusterView, NetworkView, PortsOfEndpoints, Services};
pub use vni::{Vni, VniError};
pub use words::{Word, WordError, is_usual};
pub use zeroconf::{
    Found, SeenHost, SeenRecords, SeenService, ZeroconfFact, ZeroconfKey, fold, is_label, is_service_type,
};
