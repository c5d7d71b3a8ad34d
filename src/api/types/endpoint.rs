//! An endpoint: what attaching one asks for, what that gives, and what is told of one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EndpointState, ServiceRequest};
use crate::model::{
    EndpointName, Extras, Mac, NetworkName, NodeName, Publication, PublishMode, PublishSource, ServiceName,
    is_usual,
};

/// `PUT /v1/networks/{name}/endpoints/{endpoint}`: attach. Exactly one of `netns`, `host`, `offer` and `hold` says to what; `offer`
/// together with `netns` says where what was offered has been taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The absolute path of the container's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// The node itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host: bool,
    /// Make the interface in the node's own namespace, down and without addresses, for whoever runs the container to take:
    /// to move, name, address and set up. `ifname` is its name until then. The endpoint ends with the interface.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offer: bool,
    /// Hold its name and addresses, and make no interface: for whoever has to say an address before it is known whose it is. Others
    /// are told of it as of any endpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
    /// The interface's name there; by default `eth0`, for the node itself one made from the network's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// The service it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Its number within the service, from 0 or 1 as the orchestrator counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Addresses to ask for, at most one for each subnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Further names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<EndpointName>,
    /// Services to announce for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertise: Vec<ServiceRequest>,
    /// Take its name, slot and addresses over where another endpoint has them, on whichever node: that one is withdrawn, with
    /// an event that names this one. Without it such a request is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub take: bool,
    /// Ports of nodes that lead to it, `[IP:]PORT:PORT[/tcp|udp]`: the node's first. Not for the node itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publication>,
    /// Of which nodes: this one, or every one.
    #[serde(default, skip_serializing_if = "is_usual")]
    #[schema(schema_with = crate::api::schema::option::<PublishMode>)]
    pub publish_mode: PublishMode,
    /// Whom it sees that is asked there: who asks, or the node that he asked, by its own address in the network.
    #[serde(default, skip_serializing_if = "is_usual")]
    #[schema(schema_with = crate::api::schema::option::<PublishSource>)]
    pub publish_source: PublishSource,
    /// Whoever attaches holds the ports of `publish`, by listening at them, so that nobody else takes them: what listens there
    /// is no obstacle, and is not reached there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_ports: bool,
    /// Only if it is attached already, and the rest is as it is: whoever tells where an interface was taken does not attach one
    /// anew that was detached meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_present: bool,
    /// Addresses that it may have beside its own, in a subnet or not, at most 16; other endpoints may have the same: it is at
    /// the one that announced it last (by gratuitous ARP, an unsolicited neighbour advertisement).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_addresses: Vec<IpAddr>,
    /// MACs that it may have beside its own, at most 4, as VRRP's virtual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_macs: Vec<Mac>,
    /// It routes multicast between networks: it may ask for members and speak with other such routers (IGMP, MLD, PIM), hand
    /// on what was sent elsewhere, and is told which groups are joined on the other nodes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multicast_router: bool,
    /// It gets a default route by the network's gateway, and reaches what its node reaches: with an address of the node, IPv4
    /// and IPv6. Refused where its namespace has such a route already. With `offer` whoever takes the interface makes the
    /// route. Not for the node itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_route: bool,
    /// Who attached it, in words of its own by which it finds it again. Known to this node alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl AttachRequest {
    /// The same with what it may do besides.
    pub fn with(self, extras: Extras) -> Self {
        let Extras {
            also_addresses,
            also_macs,
            multicast_router,
            default_route,
            publish,
            publish_mode,
            publish_source,
        } = extras;
        let publish = [self.publish, publish].concat();
        Self {
            also_addresses,
            also_macs,
            multicast_router,
            default_route,
            publish,
            publish_mode,
            publish_source,
            ..self
        }
    }
}

/// What attaching gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachAnswer {
    /// The endpoint's name.
    pub name: EndpointName,
    /// The network's name.
    pub network: NetworkName,
    /// Its address in each subnet, with the prefix length.
    pub addresses: Vec<IpNetwork>,
    /// Its MAC.
    pub mac: Mac,
    /// The interface's name.
    pub ifname: String,
    /// The gateway of the first subnet.
    pub gateway: IpAddr,
    /// The gateway of each subnet, in the order of `addresses`.
    pub gateways: Vec<IpAddr>,
    /// The network's DNS servers; empty while it has none.
    pub dns: Vec<IpAddr>,
    /// The search domains that go with them.
    pub search: Vec<String>,
    /// The MTU of the interface, in bytes.
    pub mtu: u32,
}

/// An endpoint, as any node of its network knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointAnswer {
    /// Its name.
    pub name: EndpointName,
    /// The network's name.
    pub network: NetworkName,
    /// The service it is a part of.
    pub service: Option<ServiceName>,
    /// Its number within the service.
    pub slot: Option<u32>,
    /// Further names.
    pub aliases: Vec<EndpointName>,
    /// Its address in each subnet, with the prefix length.
    pub addresses: Vec<IpNetwork>,
    /// Its MAC.
    pub mac: Mac,
    /// The node that has it.
    pub node: NodeName,
    /// Whether it can be reached.
    pub state: EndpointState,
    /// Its name or aliases that DNS answers with another endpoint or a service, and which: nodes gave them twice while they did
    /// not hear each other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names_lost: BTreeMap<EndpointName, String>,
    /// How many packets it sent from addresses that are not its own, or in a role that no endpoint has: all dropped. Known
    /// of this node's own endpoints, since each was attached or repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoofed: Option<u64>,
    /// The same by kind, of those kinds that there were any of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// How many of its DNS queries were dropped because they were too many. Known of this node's own endpoints, since the
    /// network came to this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_dropped: Option<u64>,
    /// The ports of nodes that lead to it alone. Known of this node's own endpoints; those of its service are with that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publication>,
    /// Of which nodes: its own, or every one.
    #[serde(default, skip_serializing_if = "is_usual")]
    #[schema(schema_with = crate::api::schema::option::<PublishMode>)]
    pub publish_mode: PublishMode,
    /// Whom it sees that is asked there.
    #[serde(default, skip_serializing_if = "is_usual")]
    #[schema(schema_with = crate::api::schema::option::<PublishSource>)]
    pub publish_source: PublishSource,
    /// The addresses that it may have beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_addresses: Vec<IpAddr>,
    /// The MACs that it may have beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_macs: Vec<Mac>,
    /// The addresses that are at it now although it was not given them: those that it announced last of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floating: Vec<IpAddr>,
    /// It routes multicast.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multicast_router: bool,
    /// It reaches what is outside by way of its node. Known of this node's own endpoints.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_route: bool,
    /// Who attached it, as whoever did said. Known of this node's own endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}
