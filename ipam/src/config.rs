//! What a network's creator says: about the whole network, and about one subnet.
//!
//! Owns which subnet each thing belongs to. Whether a subnet can be so is decided in `plan`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{AddrRange, Item, PlanError};

/// Addresses set apart for the slots of one service: slot `n` gets the address `range.first() + n`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The service's name.
    pub service: String,
    /// Its addresses.
    pub range: AddrRange,
}

/// What a network's creator says about one subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetConfig {
    /// The subnet; host bits are ignored.
    pub subnet: IpNetwork,
    /// The gateway; by default the first usable address.
    pub gateway: Option<IpAddr>,
    /// Addresses set apart for the slots of services.
    pub pools: Vec<Pool>,
    /// Addresses that are never handed out.
    pub reserved: Vec<AddrRange>,
    /// How many addresses each node's block has, 1 to [`crate::MAX_BLOCK_SIZE`]; by default a function of how
    /// many addresses are left for blocks, see [`crate::SubnetPlan::block_size`].
    pub block_size: Option<u64>,
}

/// What a network's creator says about all its subnets together, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The subnets, at least one.
    pub subnets: Vec<IpNetwork>,
    /// Gateways, at most one for each subnet; a subnet without one gets the default.
    pub gateways: Vec<IpAddr>,
    /// Addresses set apart for the slots of services.
    pub pools: Vec<Pool>,
    /// Addresses that are never handed out.
    pub reserved: Vec<AddrRange>,
    /// How many addresses each node's block has, the same in every subnet.
    pub block_size: Option<u64>,
}

impl NetworkConfig {
    /// One config for each subnet, in their order. A gateway, pool or reservation belongs to the subnet that
    /// holds its first address; one that belongs to none is an error.
    pub fn split(&self) -> Result<Vec<SubnetConfig>, PlanError> {
        let mut configs: Vec<_> = self
            .subnets
            .iter()
            .map(|subnet| SubnetConfig {
                subnet: *subnet,
                gateway: None,
                pools: Vec::new(),
                reserved: Vec::new(),
                block_size: self.block_size,
            })
            .collect();
        for gateway in &self.gateways {
            let config = self.home(&mut configs, *gateway, || Item::Gateway(*gateway))?;
            if let Some(first) = config.gateway.replace(*gateway) {
                return Err(PlanError::TwoGateways { subnet: config.subnet, first, second: *gateway });
            }
        }
        for pool in &self.pools {
            let config = self.home(&mut configs, pool.range.first(), || Item::Pool(pool.clone()))?;
            config.pools.push(pool.clone());
        }
        for range in &self.reserved {
            let config = self.home(&mut configs, range.first(), || Item::Reservation(*range))?;
            config.reserved.push(*range);
        }
        Ok(configs)
    }

    fn home<'a>(
        &self,
        configs: &'a mut [SubnetConfig],
        address: IpAddr,
        item: impl Fn() -> Item,
    ) -> Result<&'a mut SubnetConfig, PlanError> {
        configs
            .iter_mut()
            .find(|config| config.subnet.contains(address))
            .ok_or_else(|| PlanError::Outside { item: item(), subnet: crate::network::names(&self.subnets) })
    }
}
