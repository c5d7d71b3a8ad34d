//! Services with addresses of their own: what gives one an address, and what is said of one.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EndpointState;
use crate::model::{
    Affinity, EndpointName, NetworkName, NodeName, PortMap, Publication, PublishMode, PublishSource,
    ServiceName, is_usual,
};

/// `PUT /v1/networks/{name}/service-addresses/{service}`: an address for all endpoints of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAddressRequest {
    /// Addresses to ask for, at most one for each subnet; the others are computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Ports that the endpoints listen on under another number, `80:8080`: the service's first. Others stay what they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMap>,
    /// Which endpoint a client is sent to.
    #[serde(default, skip_serializing_if = "is_usual")]
    #[schema(schema_with = crate::api::schema::option::<Affinity>)]
    pub affinity: Affinity,
    /// Ports of nodes that lead to its endpoints, `[IP:]PORT:PORT[/tcp|udp]`: the node's first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publication>,
    /// Of which nodes: those that have endpoints of it, each for its own, or every node.
    #[serde(default, skip_serializing_if = "is_usual")]
    #[schema(schema_with = crate::api::schema::option::<PublishMode>)]
    pub publish_mode: PublishMode,
    /// Whom they see that are asked there: who asks, or the node that he asked, by its own address in the network.
    #[serde(default, skip_serializing_if = "is_usual")]
    #[schema(schema_with = crate::api::schema::option::<PublishSource>)]
    pub publish_source: PublishSource,
}

/// A service with an address of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceAddressAnswer {
    /// Its name.
    pub name: ServiceName,
    /// The network's name.
    pub network: NetworkName,
    /// Its addresses, one of each subnet.
    pub addresses: Vec<IpAddr>,
    /// Its addresses that another service has by right, which got it on the other side of a cut: nothing is sent there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<IpAddr>,
    /// Its endpoints, by name.
    pub endpoints: Vec<ServiceEndpointAnswer>,
    /// The ports that are mapped.
    pub ports: Vec<PortMap>,
    /// Which endpoint a client is sent to.
    #[schema(schema_with = crate::api::schema::option::<Affinity>)]
    pub affinity: Affinity,
    /// The ports of nodes that lead to its endpoints.
    #[serde(default)]
    pub publish: Vec<Publication>,
    /// Of which nodes.
    #[serde(default)]
    #[schema(schema_with = crate::api::schema::option::<PublishMode>)]
    pub publish_mode: PublishMode,
    /// Whom the endpoints see that are asked there.
    #[serde(default)]
    #[schema(schema_with = crate::api::schema::option::<PublishSource>)]
    pub publish_source: PublishSource,
}

/// An endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceEndpointAnswer {
    /// Its name.
    pub name: EndpointName,
    /// Its node.
    pub node: NodeName,
    /// Its first address.
    pub address: Option<IpAddr>,
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it can be reached, and gets new connections.
    pub state: EndpointState,
}

/// `PUT /v1/networks/{name}/endpoints/{endpoint}/drain`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Whether it gets no new connections of its service.
    pub draining: bool,
}
