//! What the name servers of a node are told: settings, and the networks they serve.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::dns::zone::DOMAIN;
use crate::model::{DnsForward, NetworkName, NetworkSpec};

/// Settings of all name servers of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// How long others may keep an answer, in networks that say nothing else: a name is gone this long after its
    /// endpoint at the latest.
    pub ttl: Duration,
    /// The cluster's id, from which the nodes' addresses in the mesh follow.
    pub cluster: String,
    /// The port to listen on, UDP and TCP. 53 but in tests.
    pub port: u16,
    /// The node's resolver configuration, followed when it changes; names from outside go where it says.
    pub resolv_conf: PathBuf,
    /// How much is done for clients at most.
    pub limits: Limits,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(5),
            cluster: String::new(),
            port: 53,
            resolv_conf: "/etc/resolv.conf".into(),
            limits: Limits::default(),
        }
    }
}

/// How much is done for clients at most, in each network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Queries per second of one client address, on average.
    pub rate: u32,
    /// Queries that one client address may send at once after a quiet time.
    pub burst: u32,
    /// Client addresses that are remembered.
    pub clients: usize,
    /// Queries that wait for an answer from outside.
    pub forwarded: usize,
    /// Answers from outside that are kept.
    pub cached: usize,
    /// TCP connections.
    pub connections: usize,
    /// TCP connections of one client address.
    pub connections_per_client: usize,
    /// Queries of one TCP connection that are worked on at the same time.
    pub pipelined: usize,
    /// How long a TCP connection may be silent, be in the middle of a message, or not take an answer.
    pub tcp_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate: 20_000,
            burst: 40_000,
            clients: 65_536,
            forwarded: 512,
            cached: 10_000,
            connections: 256,
            connections_per_client: 32,
            pipelined: 32,
            tcp_timeout: Duration::from_secs(10),
        }
    }
}

/// A network of which this node is to serve the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Its name: the zone is `NAME.lanmesh.`
    pub name: NetworkName,
    /// The addresses to listen on.
    pub gateways: Vec<IpAddr>,
    /// Whose addresses may ask.
    pub subnets: Vec<IpNetwork>,
    /// Where its namespace is mounted.
    pub namespace: PathBuf,
    /// Whether names from outside are asked for at the node's resolvers; else they are refused.
    pub forward: bool,
    /// How long others may keep an answer, in seconds, where the network says it.
    pub ttl: Option<u32>,
}

impl Served {
    /// A network whose namespace is mounted at `namespace`.
    pub fn new(spec: &NetworkSpec, namespace: PathBuf) -> Self {
        Self {
            name: spec.name.clone(),
            gateways: spec.gateways.clone(),
            subnets: spec.subnets.clone(),
            namespace,
            forward: spec.options.dns_forward == DnsForward::On,
            ttl: spec.options.dns_ttl,
        }
    }
}

/// The search domain of a network's endpoints, without the final dot.
pub fn search_domain(network: &NetworkName) -> String {
    format!("{network}.{DOMAIN}")
}

/// What every `resolv.conf` begins with that lanmesh wrote.
pub const RESOLV_CONF_MARK: &str = "# Written by lanmesh.\n";

/// The text of a `resolv.conf` for an endpoint of a network with these gateways.
///
/// `ndots:2` lets `tasks.web` and `1.web` be found through the search domain without asking anybody outside.
pub fn resolv_conf(network: &NetworkName, gateways: &[IpAddr]) -> String {
    let mut text = format!("{RESOLV_CONF_MARK}search {}\n", search_domain(network));
    // glibc takes the first three (MAXNS).
    for gateway in gateways.iter().take(3) {
        text.push_str(&format!("nameserver {gateway}\n"));
    }
    text.push_str("options ndots:2\n");
    text
}
