//! What was made for a container, as every runtime is told in its own form.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_model::Mac;

/// An interface that was made, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The interface's name.
    pub ifname: String,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// The namespace that it is in.
    pub sandbox: String,
    /// Its addresses, each with the gateway of its subnet.
    pub addresses: Vec<(IpNetwork, IpAddr)>,
    /// The network's DNS servers.
    pub dns: Vec<IpAddr>,
    /// The domains in which names are looked for.
    pub search: Vec<String>,
}
