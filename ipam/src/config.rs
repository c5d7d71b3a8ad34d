//! What a network's creator says: about the whole network, and about one subnet.
//!
//! Owns which subnet each thing belongs to. Whether a subnet can be so is decided in `plan`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::special::whole_family;
use crate::{AddrRange, Item, PlanError, Pool, Special};

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
    /// One config for each subnet, in their order. No subnet may have an address of a [`Special`] range. A gateway, pool or
    /// reservation belongs to the subnet that holds its first address; one that belongs to none is an error. What comes out
    /// is for [`crate::NetworkPlan::new`], which checks the rest.
    pub fn split(&self) -> Result<Vec<SubnetConfig>, PlanError> {
        if self.subnets.is_empty() {
            return Err(PlanError::NoSubnet);
        }
        for subnet in self.subnets.iter().copied() {
            // Here and not in the plan: of a network that is there nothing must fail that did not when it was created.
            if let Some(what) = whole_family(&subnet) {
                return Err(PlanError::Everything { subnet, what });
            }
            if let Some(special) = Special::within(&subnet) {
                return Err(PlanError::Special { subnet, special });
            }
        }
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
            .ok_or_else(|| PlanError::Outside { item: item(), subnet: names(&self.subnets) })
    }
}

/// Subnets as errors name them.
pub(crate) fn names(subnets: &[IpNetwork]) -> String {
    subnets.iter().map(IpNetwork::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NetworkConfig {
        NetworkConfig {
            subnets: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            ..NetworkConfig::default()
        }
    }

    fn pool(range: &str) -> Pool {
        Pool { service: "web".to_owned(), range: range.parse().unwrap() }
    }

    #[test]
    fn everything_goes_to_the_subnet_that_holds_it() {
        let whole = NetworkConfig {
            gateways: vec!["fd00::9".parse().unwrap()],
            pools: vec![pool("fd00::20-fd00::2f"), pool("10.0.0.32/28")],
            reserved: vec!["10.0.0.200".parse().unwrap()],
            block_size: Some(8),
            ..config()
        };
        let parts = whole.split().expect("belongs together");
        assert_eq!(parts[0].gateway, None);
        assert_eq!(parts[0].pools, [pool("10.0.0.32/28")]);
        assert_eq!(parts[0].reserved, whole.reserved);
        assert_eq!(parts[1].gateway, Some(whole.gateways[0]));
        assert_eq!(parts[1].pools, [pool("fd00::20-fd00::2f")]);
        assert!(parts.iter().all(|part| part.block_size == Some(8)));
    }

    #[test]
    fn what_belongs_to_no_subnet_is_refused_by_name() {
        let stray = NetworkConfig { pools: vec![pool("10.9.0.1-10.9.0.4")], ..config() };
        let error = stray.split().expect_err("is outside").to_string();
        assert!(error.contains("web=10.9.0.1-10.9.0.4 is outside 10.0.0.0/24 and fd00::/64"), "{error}");
    }

    #[test]
    fn a_subnet_has_one_gateway() {
        let gateways = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let error = NetworkConfig { gateways, ..config() }.split().expect_err("are two");
        assert!(matches!(error, PlanError::TwoGateways { .. }), "{error}");
    }

    #[test]
    fn a_subnet_in_which_no_interface_can_be_reached_is_refused_with_the_ranges_name() {
        for (subnet, parts) in [
            ("224.0.0.0/24", ["224.0.0.0/24", "224.0.0.0/4", "multicast"]),
            ("10.0.0.1/0", ["0.0.0.0/0", "every address", "IPv4"]),
            ("::/0", ["::/0", "every address", "IPv6"]),
            ("::ffff:10.0.0.0/120", ["::ffff:10.0.0.0/120", "::ffff:0.0.0.0/96", "IPv4-mapped"]),
        ] {
            let subnets = vec!["10.0.0.0/24".parse().unwrap(), subnet.parse().unwrap()];
            let refused =
                NetworkConfig { subnets, ..NetworkConfig::default() }.split().expect_err("is refused");
            let text = refused.to_string();
            for part in parts {
                assert!(text.contains(part), "{subnet}: {part}: {text}");
            }
        }
    }

    #[test]
    fn a_network_without_a_subnet_is_refused() {
        assert_eq!(NetworkConfig::default().split(), Err(PlanError::NoSubnet));
    }
}
