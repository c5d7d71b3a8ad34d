//! What goes into the engine and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::uncarried::Uncarried;
use lanmesh_model::{
    AdvertisedService, Endpoint, EndpointName, Mac, NodeId, ZeroconfFact, ZeroconfKey, ZeroconfMode,
};

/// The port of multicast DNS (RFC 6762 section 3).
pub const PORT: u16 = 5353;
/// The group of multicast DNS in IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The group of multicast DNS in IPv6, on a link.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// What one writer says of a network.
pub type Facts = BTreeMap<ZeroconfKey, ZeroconfFact>;

/// Which of the two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// 224.0.0.251.
    V4,
    /// ff02::fb.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// What an engine is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// How zeroconf of the network travels.
    pub mode: ZeroconfMode,
    /// The node it runs on.
    pub node: NodeId,
    /// The addresses of the bridge: the gateways, its link-local address, and the node's own. The first are the same on every
    /// node, so a packet from one of them is this node's own or another agent's, and is ignored.
    pub own: BTreeSet<IpAddr>,
    /// The network's subnets: what is in them is its endpoints'.
    pub subnets: Vec<ipnetwork::IpNetwork>,
    /// Whether an endpoint may have addresses that it was not given.
    pub any_address: bool,
    /// The groups that can be sent to: those that a socket is open for.
    pub families: BTreeSet<Family>,
    /// Where chance begins.
    pub seed: u64,
}

/// An endpoint of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnEndpoint {
    /// Its name.
    pub name: EndpointName,
    /// Further names.
    pub aliases: Vec<EndpointName>,
    /// Its addresses. The link-local address that follows from the MAC need not be among them; other link-local ones
    /// have to, for packets from them to be heard.
    pub addresses: BTreeSet<IpAddr>,
    /// Its MAC.
    pub mac: Mac,
    /// What is announced for it.
    pub services: Vec<AdvertisedService>,
}

impl From<&Endpoint> for OwnEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            name: endpoint.name.clone(),
            aliases: endpoint.aliases.clone(),
            addresses: endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip).collect(),
            mac: endpoint.mac,
            services: endpoint.services.clone(),
        }
    }
}

/// What is known of another node that is alive.
#[derive(Debug, Clone, Default)]
pub struct RemoteNode {
    /// Its endpoints in the network.
    pub endpoints: Arc<BTreeMap<EndpointName, Endpoint>>,
    /// What it publishes.
    pub facts: Arc<Facts>,
}

/// Where a packet came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its sender.
    pub from: SocketAddr,
    /// Whether it was sent to the group; else to an address of the bridge.
    pub multicast: bool,
    /// The endpoint behind the bridge port it came in by, where that is known. Without it the sender's address
    /// tells.
    pub port: Option<EndpointName>,
}

/// Where a packet goes, always from port 5353 and with a hop limit of 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// To the group, on the bridge, and with it to wherever mDNS travels.
    Group(Family),
    /// To the group, but to endpoints of this node alone.
    Here(Family),
    /// To one address; a link-local one is on the bridge.
    Unicast(SocketAddr),
}

/// What the engine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a packet.
    Send {
        /// Where to.
        to: Destination,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// Tell a person that this is contested. Of one contest once in a minute.
    Contested(Contest),
    /// Tell a person that this is not carried to other nodes. Of each once.
    Uncarried(Uncarried),
    /// Tell the agent of another node that somebody here asked for records of its endpoints: [`super::Engine::look`] there. Nothing
    /// is lost but time where it does not get there.
    Look {
        /// Which node.
        node: NodeId,
        /// What was asked for.
        sought: Vec<Sought>,
    },
    /// Publish this as what this node says of the network, in place of what it said before.
    Publish(Arc<Facts>),
}

/// Records that somebody has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// The labels of their name.
    pub name: Vec<Vec<u8>>,
    /// The number of their type.
    pub kind: u16,
}

/// An endpoint announces by mDNS what was declared for another one. What was declared stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contest {
    /// The service or the host name.
    pub key: ZeroconfKey,
    /// The endpoint for which it was declared.
    pub endpoint: EndpointName,
    /// The endpoint that announces it.
    pub by: EndpointName,
}

/// What there is in a network, as this node knows it: of several that claim one name, the one that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// By what it is.
    pub offers: BTreeMap<ZeroconfKey, Offer>,
}

/// A fact, and who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The node that has the endpoint.
    pub node: NodeId,
    /// What it says.
    pub fact: ZeroconfFact,
}
