//! An endpoint: one interface of one container (or of a node itself) in one network.

use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{AdvertisedService, EndpointName, Mac, NetworkId, ServiceName};

/// What names an endpoint among all: its network and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey {
    /// The network.
    pub network: NetworkId,
    /// The name within it.
    pub name: EndpointName,
}

/// Where an endpoint's interface goes. Known to its own node alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Into the network namespace that this path refers to (`/proc/PID/ns/net`, `/run/netns/NAME`).
    Netns(PathBuf),
    /// Into the node's own namespace.
    Host,
    /// Into the node's own namespace, down and without addresses, for whoever runs the container: it moves the interface,
    /// names it and gives it the endpoint's addresses. The path of where it was taken, once that is told.
    Offered(Option<PathBuf>),
    /// Nowhere: its name and addresses are held, and no interface is made.
    Held,
}

impl Placement {
    /// Whether somebody may be behind it in a namespace that this node can enter: not where nobody has taken what was offered, nor
    /// where nothing is made.
    pub fn is_somewhere(&self) -> bool {
        !matches!(self, Self::Offered(None) | Self::Held)
    }
}

/// An endpoint, as its own node publishes it and every node of the network knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name, unique in the network.
    pub name: EndpointName,
    /// The service it is a part of.
    pub service: Option<ServiceName>,
    /// Its number within the service.
    pub slot: Option<u32>,
    /// Further names.
    pub aliases: Vec<EndpointName>,
    /// One address of each subnet, with the subnet's prefix length, in the order of the network's subnets.
    pub addresses: Vec<IpNetwork>,
    /// The MAC its first address gives.
    pub mac: Mac,
    /// What is announced for it.
    pub services: Vec<AdvertisedService>,
    /// The version of its claim on its addresses: of two claims on one address the higher wins, and between
    /// equal ones that of the node with the higher id (as MAC mobility does, RFC 7432 section 15).
    pub claim: u64,
    /// When it was attached to take its name, slot or address over from whoever had it, in milliseconds since 1970 by its
    /// node's clock; `None` where nobody was meant to lose anything.
    #[serde(default)]
    pub took_ms: Option<u64>,
}

impl Endpoint {
    /// Its number in its service, where it has one.
    pub fn place(&self) -> Option<(&ServiceName, u32)> {
        self.service.as_ref().zip(self.slot)
    }
}
