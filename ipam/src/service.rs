//! The addresses of services: what stands for all endpoints of one, and is no endpoint's.
//!
//! An address of each subnet: of the range that was set apart for services, else of what is left behind the last block,
//! which no rule gives to an endpoint. Like those of endpoints they are computed, from the service's name.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::{AddrRange, Item, NetworkPlan, Owner, SubnetPlan, stable_hash};

/// How many places are looked at for one that is free. A range of IPv6 is never full; one of IPv4 that is larger than this
/// would hold more services than a cluster has.
const PLACES: u128 = 1 << 16;

/// Why a service gets no address. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceAddressError {
    /// Neither was a range set apart nor is anything left.
    #[error(
        "no addresses of {subnet} are left for services: set some apart with `lanmesh network set NETWORK \
         --service-addresses RANGE`, or say which with --address"
    )]
    NoRange {
        /// The subnet.
        subnet: IpNetwork,
    },
    /// All are taken.
    #[error("all addresses for services in {range} are taken: give a larger range, or remove a service")]
    Full {
        /// The range.
        range: AddrRange,
    },
    /// The address that was asked for is in no subnet of the network.
    #[error("{address} is in no subnet of the network: choose one that is")]
    Outside {
        /// The address.
        address: IpAddr,
    },
    /// It is somebody else's by the plan.
    #[error("{address} is {owner}: choose one that no endpoint gets, such as a reserved one")]
    Others {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        owner: String,
    },
    /// Two were asked for in one subnet.
    #[error("{first} and {second} are both of {subnet}: a service has one address of each subnet")]
    Twice {
        /// The one asked for first.
        first: IpAddr,
        /// The other.
        second: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
    },
}

impl SubnetPlan {
    /// What is left behind the last block, which endpoints get only by asking for it; `None` where nothing is. As one range
    /// it may include what is set apart.
    pub fn rest(&self) -> Option<AddrRange> {
        let first = u128::from(self.blocks()) * u128::from(self.block_size());
        let last = self.dynamic().checked_sub(1).filter(|last| *last >= first)?;
        Some(self.space().range(self.offset_of(first)?, self.offset_of(last)?))
    }
}

impl NetworkPlan {
    /// The addresses of a service: one of each subnet, in their order. `ranges` are those that were set apart for services,
    /// which are among the plan's reservations; `asked` what was asked for; `taken` says what other services and endpoints
    /// have.
    pub fn service_addresses(
        &self,
        service: &str,
        ranges: &[AddrRange],
        asked: &[IpAddr],
        taken: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, ServiceAddressError> {
        if let Some(address) = asked.iter().find(|address| self.subnet_of(**address).is_none()) {
            return Err(ServiceAddressError::Outside { address: *address });
        }
        let mut addresses = Vec::new();
        for plan in self.subnets() {
            let mut here = asked.iter().copied().filter(|address| plan.subnet().contains(*address));
            match (here.next(), here.next()) {
                (Some(first), Some(second)) => {
                    return Err(ServiceAddressError::Twice { first, second, subnet: plan.subnet() });
                }
                (Some(address), None) => addresses.push(allowed(plan, address)?),
                (None, _) => addresses.push(place(plan, service, ranges, &taken)?),
            }
        }
        Ok(addresses)
    }
}

/// That no rule gives an address to somebody else.
fn allowed(plan: &SubnetPlan, address: IpAddr) -> Result<IpAddr, ServiceAddressError> {
    let owner = match plan.owner(address) {
        Owner::Rest | Owner::Reserved(_) => return Ok(address),
        Owner::Network => Item::Network(address).to_string(),
        Owner::Broadcast => Item::Broadcast(address).to_string(),
        Owner::Gateway => Item::Gateway(address).to_string(),
        Owner::Pool(pool) => format!("in {}", Item::Pool(pool.clone())),
        Owner::Block(index) => format!("in the block of the node with index {index}"),
        Owner::Outside => return Err(ServiceAddressError::Outside { address }),
    };
    Err(ServiceAddressError::Others { address, owner })
}

/// The place that the service's name gives, or the next that is free, going round.
fn place(
    plan: &SubnetPlan,
    service: &str,
    ranges: &[AddrRange],
    taken: &impl Fn(IpAddr) -> bool,
) -> Result<IpAddr, ServiceAddressError> {
    let given = ranges.iter().copied().find(|range| plan.subnet().contains(range.first()));
    let range = given.or_else(|| plan.rest());
    let offsets = range.and_then(|range| Some((range, plan.space().offsets(&range)?)));
    let Some((range, (first, last))) = offsets else {
        return Err(ServiceAddressError::NoRange { subnet: plan.subnet() });
    };
    let start = u128::from(stable_hash(service.as_bytes()));
    let places = (last - first).saturating_add(1);
    // All but the first keep away from what nobody can have, which a range may include.
    let usable = |address: &IpAddr| match plan.owner(*address) {
        Owner::Rest => given.is_none(),
        Owner::Reserved(_) => given.is_some(),
        _ => false,
    };
    (0..places.min(PLACES))
        .map(|step| plan.space().address(first + (start % places + step) % places))
        .find(|address| usable(address) && !taken(*address))
        .ok_or(ServiceAddressError::Full { range })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::NetworkConfig;

    fn plan(subnets: &[&str], reserved: &[&str]) -> NetworkPlan {
        let config = NetworkConfig {
            subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
            reserved: reserved.iter().map(|range| range.parse().unwrap()).collect(),
            ..NetworkConfig::default()
        };
        NetworkPlan::new(config.split().unwrap()).unwrap()
    }

    #[test]
    fn without_a_range_it_is_where_no_block_is() {
        let plan = plan(&["10.0.0.0/24", "fd00::/64"], &[]);
        let rests: Vec<_> = plan.subnets().iter().map(|plan| plan.rest().unwrap().to_string()).collect();
        assert_eq!(rests, ["10.0.0.242-10.0.0.254", "fd00::1:0:0:2-fd00::ffff:ffff:ffff:ffff"]);
        let mut seen = BTreeSet::new();
        for n in 0..13 {
            let taken = |address| seen.contains(&address);
            let found = plan.service_addresses(&format!("s{n}"), &[], &[], taken).unwrap();
            assert!(found.iter().all(|address| plan.owner(*address) == Owner::Rest), "{found:?}");
            assert!(found.into_iter().all(|address| seen.insert(address)), "one address twice");
        }
        let error = plan.service_addresses("more", &[], &[], |address| seen.contains(&address)).unwrap_err();
        assert!(error.to_string().contains("10.0.0.242-10.0.0.254"), "{error}");
    }

    #[test]
    fn a_name_gives_one_address_and_a_range_that_was_set_apart_is_kept_to() {
        let range = "10.0.0.224/28";
        let plan = plan(&["10.0.0.0/24"], &[range]);
        let ranges = [range.parse().unwrap()];
        let all: BTreeSet<IpAddr> = (0..100)
            .map(|n| plan.service_addresses(&format!("s{n}"), &ranges, &[], |_| false).unwrap()[0])
            .collect();
        assert!(all.iter().all(|address| ranges[0].contains(*address)), "{all:?}");
        assert!(all.len() > 12, "{} places are all that 100 names give", all.len());
        let twice = [(), ()].map(|()| plan.service_addresses("web", &ranges, &[], |_| false).unwrap());
        assert_eq!(twice[0], twice[1]);
    }

    #[test]
    fn what_is_asked_for_is_given_unless_an_endpoint_could_get_it() {
        let plan = plan(&["10.0.0.0/24", "fd00::/64"], &["10.0.0.200"]);
        let ask = |text: &[&str]| {
            let asked: Vec<IpAddr> = text.iter().map(|text| text.parse().unwrap()).collect();
            plan.service_addresses("web", &[], &asked, |_| false).map_err(|error| error.to_string())
        };
        assert_eq!(ask(&["10.0.0.200"]).unwrap()[0].to_string(), "10.0.0.200");
        assert_eq!(ask(&["fd00::9999:0:0:1"]).unwrap()[1].to_string(), "fd00::9999:0:0:1");
        for (asked, why) in [
            (&["10.0.0.17"][..], "block of the node with index 0"),
            (&["10.0.0.1"], "the gateway"),
            (&["10.0.0.255"], "broadcast"),
            (&["10.1.0.1"], "in no subnet"),
            (&["10.0.0.200", "10.0.0.250"], "one address of each subnet"),
        ] {
            let error = ask(asked).unwrap_err();
            assert!(error.contains(why), "{asked:?}: {error}");
        }
    }

    #[test]
    fn where_nothing_is_left_it_says_what_to_do() {
        let config = NetworkConfig {
            subnets: vec!["10.0.0.0/30".parse().unwrap()],
            block_size: Some(1),
            ..NetworkConfig::default()
        };
        let plan = NetworkPlan::new(config.split().unwrap()).unwrap();
        let error = plan.service_addresses("web", &[], &[], |_| false).unwrap_err().to_string();
        assert!(error.contains("--service-addresses"), "{error}");
    }
}
