//! Where what leaves the node by an interface goes next: straight to whom it is for, or to the one gateway there.
//!
//! Only of a node with routes as most have them. Where rules of others choose between tables, or an interface has routes to several
//! gateways, nothing is said, and the kernel is asked for each packet.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::super::links::ROUTE_PROTOCOL;
use super::super::raw::{self, Message, within};
use super::super::routing::{
    self, FR_ACT_TO_TBL, FRA_PROTOCOL, RT_TABLE_MAIN, RTA_METRICS, RTAX_MTU, RTM_GETROUTE, RTM_GETRULE,
    RTM_NEWROUTE, RTM_NEWRULE, RTN_UNICAST,
};

/// The tables that every namespace has: "default", "main", "local".
const USUAL: std::ops::RangeInclusive<u32> = 253..=255;
/// Attributes of a route that say more than one next hop, or another kind of one.
const OTHERWISE: [u16; 5] = [RTA_MULTIPATH, RTA_VIA, RTA_ENCAP_TYPE, RTA_ENCAP, RTA_NH_ID];
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;
/// More subnets on an interface are not compared with one by one.
const NEAR_MAX: usize = 16;
/// More routes than fit into this are not looked through: some 20,000.
const READ_MAX: usize = 2 << 20;

/// What an interface leads to over one family of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hops {
    /// What is for these is for a neighbour.
    pub near: BTreeSet<IpNetwork>,
    /// All else is for this one, if there is one.
    pub gateway: Option<IpAddr>,
}

/// The hops of each interface over one family, by index, in the calling thread's namespace. Interfaces of which they cannot be
/// said are left out. Blocks.
pub(super) fn of_links(ipv6: bool) -> io::Result<BTreeMap<u32, Hops>> {
    let mut usual = true;
    let question = Message { kind: RTM_GETRULE, flags: 0, body: routing::header(ipv6) };
    let mut note = |rule: &[u8]| usual &= is_usual(rule);
    routing::of_family(raw::each_of(NETLINK_ROUTE, &question, &[RTM_NEWRULE], READ_MAX, &mut note))?;
    if !usual {
        return Ok(BTreeMap::new());
    }
    let mut found = Found::default();
    let question = Message { kind: RTM_GETROUTE, flags: 0, body: routing::header(ipv6) };
    let mut note = |route: &[u8]| found.note(ipv6, route);
    routing::of_family(raw::each_of(NETLINK_ROUTE, &question, &[RTM_NEWROUTE], READ_MAX, &mut note))?;
    Ok(found.hops())
}

/// Whether a rule leads where every namespace's lead, or is one of ours, which are for addresses and marks of ours alone.
fn is_usual(rule: &[u8]) -> bool {
    let (Some(header), Some(rest)) = (rule.get(..12), rule.get(12..)) else { return false };
    let usual = routing::table_of(rule).is_some_and(|table| USUAL.contains(&table));
    let ours = within(rest, FRA_PROTOCOL) == Some(&[ROUTE_PROTOCOL]);
    ours || (header[7] == FR_ACT_TO_TBL && usual)
}

/// What the routes read so far say.
#[derive(Default)]
struct Found {
    links: BTreeMap<u32, Link>,
    /// There are routes that do not say what they lead to as others do.
    otherwise: bool,
}

#[derive(Default)]
struct Link {
    near: BTreeSet<IpNetwork>,
    gateways: BTreeSet<IpAddr>,
    /// It has routes that are none of these.
    otherwise: bool,
}

impl Found {
    fn note(&mut self, ipv6: bool, route: &[u8]) {
        let (Some(header), Some(rest)) = (route.get(..12), route.get(12..)) else { return };
        let [_, prefix, from, tos, _, _, _, kind, ..] = *header else { return };
        if routing::table_of(route) != Some(RT_TABLE_MAIN) || kind != RTN_UNICAST {
            return;
        }
        let odd = from != 0 || tos != 0 || OTHERWISE.iter().any(|kind| within(rest, *kind).is_some());
        let link = routing::read_word(rest, routing::RTA_OIF).filter(|_| !odd);
        let Some(link) = link else { return self.otherwise = true };
        let link = self.links.entry(link).or_default();
        let to = within(rest, routing::RTA_DST).and_then(routing::address);
        let gateway = within(rest, routing::RTA_GATEWAY).and_then(routing::address);
        let limited = within(rest, RTA_METRICS).is_some_and(|metrics| within(metrics, RTAX_MTU).is_some());
        let any: IpAddr = if ipv6 { IpAddr::from([0_u8; 16]) } else { IpAddr::from([0_u8; 4]) };
        match (IpNetwork::new(to.unwrap_or(any), prefix), gateway) {
            (Ok(to), _) if routing::is_link_local(to.ip()) => {}
            (Ok(to), None) if !limited => drop(link.near.insert(to)),
            (Ok(to), Some(gateway)) if !limited && to.prefix() == 0 => drop(link.gateways.insert(gateway)),
            _ => link.otherwise = true,
        }
    }

    fn hops(self) -> BTreeMap<u32, Hops> {
        let whole = |(index, link): (u32, Link)| {
            let Link { near, gateways, otherwise } = link;
            let plain = !otherwise && near.len() <= NEAR_MAX && gateways.len() <= 1;
            plain.then(|| (index, Hops { near, gateway: gateways.into_iter().next() }))
        };
        if self.otherwise { BTreeMap::new() } else { self.links.into_iter().filter_map(whole).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::raw::{attribute, nested};
    use super::*;

    fn route(prefix: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        [vec![2, prefix, 0, 0, 254, 4, 0, kind, 0, 0, 0, 0], attributes.concat()].concat()
    }

    fn to(address: [u8; 4]) -> Vec<u8> {
        attribute(routing::RTA_DST, &address)
    }

    fn by(link: u32) -> Vec<u8> {
        attribute(routing::RTA_OIF, &link.to_ne_bytes())
    }

    fn way(gateway: [u8; 4]) -> Vec<u8> {
        attribute(routing::RTA_GATEWAY, &gateway)
    }

    fn hops(routes: &[Vec<u8>]) -> BTreeMap<u32, Hops> {
        let mut found = Found::default();
        for route in routes {
            found.note(false, route);
            for end in 0..route.len() {
                Found::default().note(false, &route[..end]);
            }
        }
        found.hops()
    }

    #[test]
    fn subnets_and_one_gateway_are_said_and_all_else_is_left_to_the_kernel() {
        let near = route(24, 1, &[to([192, 0, 2, 0]), by(3)]);
        let default = route(0, 1, &[way([192, 0, 2, 1]), by(3)]);
        let other = route(24, 1, &[to([10, 0, 0, 0]), by(4)]);
        let said = hops(&[near.clone(), default.clone(), other.clone()]);
        let expected = Hops {
            near: ["192.0.2.0/24".parse().unwrap()].into(),
            gateway: Some("192.0.2.1".parse().unwrap()),
        };
        assert_eq!(said.get(&3), Some(&expected));
        assert_eq!(said.get(&4).unwrap().gateway, None);
        let metrics = nested(RTA_METRICS, &[attribute(RTAX_MTU, &1400_u32.to_ne_bytes())]);
        for (what, odd) in [
            ("a second gateway", route(0, 1, &[way([192, 0, 2, 2]), by(3)])),
            ("a gateway to a part", route(25, 1, &[to([192, 0, 2, 128]), way([192, 0, 2, 2]), by(3)])),
            ("a route with an MTU", route(16, 1, &[to([10, 1, 0, 0]), by(3), metrics])),
        ] {
            let said = hops(&[near.clone(), default.clone(), odd, other.clone()]);
            assert_eq!(said.get(&3), None, "{what}");
            assert!(said.contains_key(&4), "{what}");
        }
        for (what, odd) in [
            ("several next hops", route(0, 1, &[attribute(RTA_MULTIPATH, &[0; 8])])),
            ("an object for the next hop", route(0, 1, &[attribute(RTA_NH_ID, &[1, 0, 0, 0]), by(3)])),
        ] {
            assert_eq!(hops(&[near.clone(), odd]), BTreeMap::new(), "{what}");
        }
        // What leads nowhere is the kernel's affair, whom the rules ask first.
        assert_eq!(hops(&[near.clone(), route(8, 6, &[to([10, 0, 0, 0])])]).len(), 1);
    }

    #[test]
    fn rules_of_others_make_all_of_it_unsure_and_ours_do_not() {
        let rule = |table: u8, action: u8, protocol: Option<u8>| {
            let protocol = protocol.map(|protocol| attribute(FRA_PROTOCOL, &[protocol])).unwrap_or_default();
            [vec![2, 0, 0, 0, table, 0, 0, action, 0, 0, 0, 0], protocol].concat()
        };
        for (what, rule, usual) in [
            ("the kernel's own", rule(254, 1, None), true),
            ("another's table", rule(100, 1, Some(4)), false),
            ("another's refusal", rule(254, 8, None), false),
            ("ours", rule(100, 1, Some(ROUTE_PROTOCOL)), true),
            ("cut off", vec![2, 0, 0], false),
        ] {
            assert_eq!(is_usual(&rule), usual, "{what}");
        }
    }
}
