//! A network's spec: fixed when it is created.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, Pool, SubnetConfig};
use serde::{Deserialize, Serialize};

use super::{NetworkId, NetworkName, Vni};

/// How multicast of a network travels between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MulticastMode {
    /// To the nodes that have a member of the group.
    #[default]
    Snoop,
    /// To every node that has an endpoint in the network.
    Flood,
    /// Not at all.
    Off,
}

/// Whether broadcast of a network travels between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BroadcastMode {
    /// To every node that has an endpoint in the network.
    #[default]
    On,
    /// Not at all.
    Off,
}

/// Whether an endpoint of a network may send from addresses that are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpoofingMode {
    /// Dropped on its node.
    #[default]
    Deny,
    /// For containers that route, bridge or take over each other's addresses.
    Allow,
}

/// How zeroconf of a network travels between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZeroconfMode {
    /// mDNS packets travel as any other multicast.
    #[default]
    Transparent,
    /// The agents answer from their registry.
    Proxy,
    /// mDNS does not leave a node.
    Off,
}

/// Whether a network's name server asks the node's resolvers for names that are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsForward {
    /// It does.
    #[default]
    On,
    /// It refuses them.
    Off,
}

/// What a network's name servers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DnsOptions {
    /// What becomes of names from outside.
    pub forward: DnsForward,
    /// How long an answer may be kept, in seconds, where it was given; else each node's own setting holds.
    pub ttl: Option<u32>,
}

/// The longest that an answer of a name server may be kept, in seconds: a name that is gone for a day is gone.
pub const DNS_TTL_MAX: u32 = 86_400;

/// What a network's VXLAN travels through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// The underlay, in the clear.
    #[default]
    None,
    /// The WireGuard mesh between the nodes.
    Wireguard,
}

/// A network, as it was created. It never changes afterwards: another spec is another network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Which network it is.
    pub id: NetworkId,
    /// What people call it.
    pub name: NetworkName,
    /// Its number on the wire.
    pub vni: Vni,
    /// At least one subnet; no two of them overlap.
    pub subnets: Vec<IpNetwork>,
    /// The gateway of each subnet, in the order of `subnets`.
    pub gateways: Vec<IpAddr>,
    /// Addresses set apart for the slots of a service.
    pub pools: Vec<Pool>,
    /// Addresses that are never handed out.
    pub reserved: Vec<AddrRange>,
    /// Addresses per node, where it was given.
    pub block_size: Option<u64>,
    /// The MTU inside, in bytes, where it was given; else it is derived from the underlay.
    pub mtu: Option<u32>,
    /// How multicast travels.
    pub multicast: MulticastMode,
    /// Whether broadcast travels.
    pub broadcast: BroadcastMode,
    /// How zeroconf travels.
    pub zeroconf: ZeroconfMode,
    /// What the VXLAN travels through.
    pub encrypt: Encryption,
    /// Whether its endpoints may send from others' addresses.
    pub spoofing: SpoofingMode,
    /// What its name servers do.
    pub dns: DnsOptions,
    /// When it was created, in milliseconds since 1970 by the creator's clock: the older of two owns a name.
    pub created_ms: u64,
}

impl NetworkSpec {
    /// What `lanmesh_ipam` needs to know of each subnet, in the order of `subnets`.
    ///
    /// A pool or reservation belongs to the subnet that holds its first address.
    pub fn subnet_configs(&self) -> impl Iterator<Item = SubnetConfig> + '_ {
        self.subnets.iter().zip(&self.gateways).map(|(subnet, gateway)| SubnetConfig {
            subnet: *subnet,
            gateway: Some(*gateway),
            pools: self.pools.iter().filter(|p| subnet.contains(p.range.first())).cloned().collect(),
            reserved: self.reserved.iter().filter(|r| subnet.contains(r.first())).copied().collect(),
            block_size: self.block_size,
        })
    }
}
