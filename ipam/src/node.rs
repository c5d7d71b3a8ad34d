//! The addresses of nodes: what a node itself has in a network, beside the gateway that all of them share.
//!
//! They are in a range that was set apart for them, at the place that the node's index gives, so whoever knows the spec and an
//! index can say which address that node has.

use std::net::IpAddr;

use crate::{AddrRange, NetworkPlan, SubnetPlan};

impl SubnetPlan {
    /// The address of the node with `index` in `range`, which was set apart for nodes: of those that may be had the one with that
    /// number, counted from 0; `None` where the range ends before.
    pub fn node_address(&self, index: u32, range: &AddrRange) -> Option<IpAddr> {
        let (first, last) = self.space().offsets(range)?;
        let mut offset = first.checked_add(index.into())?;
        // A range may include what nobody can have.
        for nobodys in self.nobodys() {
            if (first..=offset).contains(&nobodys) {
                offset += 1;
            }
        }
        (offset <= last).then(|| self.space().address(offset))
    }

    /// How many nodes can have an address in `range`.
    pub fn node_places(&self, range: &AddrRange) -> u128 {
        let Some((first, last)) = self.space().offsets(range) else { return 0 };
        let taken = self.nobodys().into_iter().filter(|nobodys| (first..=last).contains(nobodys)).count();
        (last - first).saturating_add(1).saturating_sub(taken as u128)
    }

    /// The offsets of the network's, the broadcast and the gateway's address, lowest first.
    fn nobodys(&self) -> Vec<u128> {
        let gateway = self.space().offset(self.gateway());
        let all = [self.space().network(), self.space().broadcast(), gateway];
        let mut all: Vec<u128> = all.into_iter().flatten().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl NetworkPlan {
    /// The addresses that the node with `index` has of its own: one of each subnet that one of `ranges` is of, where that has a
    /// place for it. The ranges are among the plan's reservations.
    pub fn node_addresses(&self, index: u32, ranges: &[AddrRange]) -> Vec<IpAddr> {
        let of = |plan: &SubnetPlan| plan.node_address(index, range_of(plan, ranges)?);
        self.subnets().iter().filter_map(of).collect()
    }

    /// For how many nodes there is room in each of `ranges`, with the range.
    pub fn node_places(&self, ranges: &[AddrRange]) -> Vec<(AddrRange, u128)> {
        let of = |plan: &SubnetPlan| range_of(plan, ranges).map(|range| (*range, plan.node_places(range)));
        self.subnets().iter().filter_map(of).collect()
    }
}

fn range_of<'a>(plan: &SubnetPlan, ranges: &'a [AddrRange]) -> Option<&'a AddrRange> {
    ranges.iter().find(|range| plan.subnet().contains(range.first()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{AddressRequest, NetworkConfig, Owner};

    fn plan(ranges: &[&str]) -> (NetworkPlan, Vec<AddrRange>) {
        let ranges: Vec<AddrRange> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let config = NetworkConfig {
            subnets: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            reserved: ranges.clone(),
            ..NetworkConfig::default()
        };
        (NetworkPlan::new(config.split().unwrap()).unwrap(), ranges)
    }

    fn texts(addresses: Vec<IpAddr>) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_has_the_place_of_its_index_in_each_family_that_has_a_range() {
        let (both, ranges) = plan(&["10.0.0.240/28", "fd00::f000/120"]);
        assert_eq!(texts(both.node_addresses(0, &ranges)), ["10.0.0.240", "fd00::f000"]);
        assert_eq!(texts(both.node_addresses(14, &ranges)), ["10.0.0.254", "fd00::f00e"]);
        // The broadcast address is nobody's, and there the range of IPv4 ends.
        assert_eq!(texts(both.node_addresses(15, &ranges)), ["fd00::f00f"]);
        assert_eq!(texts(both.node_addresses(u32::MAX, &ranges)), Vec::<String>::new());
        let places: Vec<u128> = both.node_places(&ranges).into_iter().map(|(_, places)| places).collect();
        assert_eq!(places, [15, 256]);
        let (one, ranges) = plan(&["fd00::f000/120"]);
        assert_eq!(texts(one.node_addresses(3, &ranges)), ["fd00::f003"]);
    }

    #[test]
    fn what_nobody_can_have_is_passed_over_and_no_two_nodes_have_one() {
        let (plan, ranges) = plan(&["10.0.0.0-10.0.0.9"]);
        let all: Vec<IpAddr> = (0..20).flat_map(|index| plan.node_addresses(index, &ranges)).collect();
        assert_eq!(
            texts(all.clone())[..2],
            ["10.0.0.2", "10.0.0.3"],
            "behind the network's and the gateway's"
        );
        assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (8, 8));
        assert!(all.iter().all(|address| matches!(plan.owner(*address), Owner::Reserved(_))));
        assert_eq!(plan.node_places(&ranges), [(ranges[0], 8)]);
    }

    #[test]
    fn no_endpoint_gets_one() {
        let (plan, ranges) = plan(&["10.0.0.64/26"]);
        let nodes: BTreeSet<IpAddr> = (0..64).flat_map(|index| plan.node_addresses(index, &ranges)).collect();
        for index in 0..8 {
            for n in 0..100 {
                let key = format!("e{n}");
                let request = AddressRequest { key: &key, ..AddressRequest::default() };
                let grant = plan.foretell(index, &request).unwrap();
                assert!(!nodes.contains(&grant[0].address.ip()), "{grant:?}");
            }
        }
        let asked: IpAddr = "10.0.0.65".parse().unwrap();
        let request = AddressRequest { key: "e", addresses: &[asked], ..AddressRequest::default() };
        let error = plan.foretell(0, &request).unwrap_err();
        assert!(error.to_string().contains("10.0.0.64-10.0.0.127"), "{error}");
    }
}
