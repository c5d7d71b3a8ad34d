//! A network's spec: fixed when it is created.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, NetworkPlan, Pool, SubnetConfig};
use serde::{Deserialize, Serialize};

use super::{NetworkId, NetworkName, NetworkOptions, NodeIndex, Vni};

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
    /// All else that can be said of it.
    pub options: NetworkOptions,
    /// When it was created, in milliseconds since 1970 by the creator's clock: the older of two owns a name.
    pub created_ms: u64,
}

impl NetworkSpec {
    /// What `lanmesh_ipam` needs to know of each subnet, in the order of `subnets`.
    ///
    /// A pool or reservation belongs to the subnet that holds its first address. What is for services and nodes is reserved.
    pub fn subnet_configs(&self) -> impl Iterator<Item = SubnetConfig> + '_ {
        self.subnets.iter().zip(&self.gateways).map(|(subnet, gateway)| SubnetConfig {
            subnet: *subnet,
            gateway: Some(*gateway),
            pools: self.pools.iter().filter(|p| subnet.contains(p.range.first())).cloned().collect(),
            reserved: self
                .reserved
                .iter()
                .copied()
                .chain(self.service_ranges())
                .chain(self.node_ranges())
                .filter(|range| subnet.contains(range.first()))
                .collect(),
            block_size: self.block_size,
        })
    }

    /// Where its services get their addresses, where that was said.
    pub fn service_ranges(&self) -> impl Iterator<Item = AddrRange> + '_ {
        self.options.service_addresses.iter().flat_map(super::AddressRanges::iter)
    }

    /// Where its nodes get addresses of their own, where that was said.
    pub fn node_ranges(&self) -> impl Iterator<Item = AddrRange> + '_ {
        self.options.node_addresses.iter().flat_map(super::AddressRanges::iter)
    }

    /// The addresses that a node has of its own: one of each subnet with a range for nodes that has a place for its index.
    pub fn node_addresses(&self, index: NodeIndex) -> Vec<IpAddr> {
        self.addresses_of_nodes([index]).into_iter().map(|(address, _)| address).collect()
    }

    /// The addresses that these nodes have of their own, each with its node's index.
    pub fn addresses_of_nodes(
        &self,
        indices: impl IntoIterator<Item = NodeIndex>,
    ) -> Vec<(IpAddr, NodeIndex)> {
        let ranges: Vec<AddrRange> = self.node_ranges().collect();
        if ranges.is_empty() {
            return Vec::new();
        }
        // A plan that cannot be gives nobody an address.
        let Ok(plan) = NetworkPlan::new(self.subnet_configs()) else { return Vec::new() };
        let of =
            |index: NodeIndex| plan.node_addresses(index.0, &ranges).into_iter().map(move |own| (own, index));
        indices.into_iter().flat_map(of).collect()
    }

    /// Whether an address is set apart for nodes.
    pub fn is_for_nodes(&self, address: IpAddr) -> bool {
        self.node_ranges().any(|range| range.contains(address))
    }

    /// The first part in which another spec differs, but for what every creation draws anew: a field's name for people, or
    /// an option's.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        // Every field is named, so that a new one is compared or left out on purpose.
        let Self {
            id: _,
            name,
            vni: _,
            subnets,
            gateways,
            pools,
            reserved,
            block_size,
            options,
            created_ms: _,
        } = self;
        let parts = [
            ("name", *name == other.name),
            ("subnet", *subnets == other.subnets),
            ("gateway", *gateways == other.gateways),
            ("pool", *pools == other.pools),
            ("reservation", *reserved == other.reserved),
            ("block size", *block_size == other.block_size),
        ];
        let part = parts.into_iter().find(|(_, equal)| !equal).map(|(what, _)| what);
        part.or_else(|| options.differences(&other.options).next().map(|option| option.name))
    }
}
