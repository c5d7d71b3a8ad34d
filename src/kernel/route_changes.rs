//! That routes of the node, the rules that choose between its tables of routes, or its addresses were changed by somebody else.

use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::task::JoinHandle;

use super::KernelError;
use super::links::ROUTE_PROTOCOL;
use super::netns::Netns;
use super::notices;
use super::raw::{Messages, within};
use super::routing::{
    FRA_PROTOCOL, RT_TABLE_MAIN, RTA_DST, RTM_DELROUTE, RTM_DELRULE, RTM_NEWROUTE, RTM_NEWRULE, RTN_LOCAL,
    address, is_link_local, table_of,
};

/// RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE (linux/rtnetlink.h).
const GROUPS: &[u32] = &[7, 8, 11, 19];

/// Calls `tell` when somebody else changes routes of the main table, rules or addresses in `netns`, until that says that nobody
/// wants to know or the task is aborted.
pub(super) async fn follow(
    netns: &Netns,
    tell: impl Fn() -> bool + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let socket = notices::listen(netns, NETLINK_ROUTE, GROUPS, "listen for changed routes").await?;
    Ok(notices::follow(socket, "changed routes", is_anothers, tell))
}

/// Whether one of these is about a route of the main table, a rule or an address, and not ours.
fn is_anothers(datagram: &[u8]) -> bool {
    Messages(datagram).any(|(header, body)| {
        let (Some(fixed), Some(rest)) = (body.get(..12), body.get(12..)) else { return false };
        match header.kind() {
            // struct rtmsg: family, two lengths, tos, table, protocol, scope, type, flags.
            RTM_NEWROUTE | RTM_DELROUTE => {
                let usual = table_of(body) == Some(RT_TABLE_MAIN) || is_own_address(fixed, rest);
                usual && fixed[5] != ROUTE_PROTOCOL
            }
            RTM_NEWRULE | RTM_DELRULE => within(rest, FRA_PROTOCOL) != Some(&[ROUTE_PROTOCOL]),
            _ => false,
        }
    })
}

/// Whether a route is that to an address of the node itself, but for those of one link alone, which come with every interface.
fn is_own_address(fixed: &[u8], rest: &[u8]) -> bool {
    let own = within(rest, RTA_DST).and_then(address);
    fixed[7] == RTN_LOCAL && own.is_some_and(|own| !is_link_local(own))
}

#[cfg(test)]
mod tests {
    use super::super::raw::{Message, attribute};
    use super::*;

    fn route(kind: u16, table: u8, protocol: u8) -> Vec<u8> {
        let body = vec![2, 24, 0, 0, table, protocol, 0, 1, 0, 0, 0, 0];
        Message { kind, flags: 0, body }.bytes(0, 0)
    }

    fn own(address: &[u8]) -> Vec<u8> {
        let body = [vec![2, 32, 0, 0, 255, 2, 0, 2, 0, 0, 0, 0], attribute(RTA_DST, address)].concat();
        Message { kind: RTM_NEWROUTE, flags: 0, body }.bytes(0, 0)
    }

    fn rule(kind: u16, protocol: u8) -> Vec<u8> {
        let fixed = vec![2, 0, 0, 0, 100, 0, 0, 1, 0, 0, 0, 0];
        let body = [fixed, attribute(FRA_PROTOCOL, &[protocol])].concat();
        Message { kind, flags: 0, body }.bytes(0, 0)
    }

    #[test]
    fn what_others_do_to_the_usual_routes_and_to_rules_is_told_apart_from_all_else() {
        for (what, datagram, expected) in [
            ("a route of another's", route(RTM_NEWROUTE, 254, 4), true),
            ("one that goes", route(RTM_DELROUTE, 254, 2), true),
            ("one of ours", route(RTM_NEWROUTE, 254, ROUTE_PROTOCOL), false),
            ("one of another table", route(RTM_NEWROUTE, 255, 2), false),
            ("a rule of another's", rule(RTM_NEWRULE, 4), true),
            ("one of ours that goes", rule(RTM_DELRULE, ROUTE_PROTOCOL), false),
            ("an address of the node", own(&[192, 0, 2, 1]), true),
            ("one of a link alone", own(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), false),
            ("a link", route(16, 254, 4), false),
        ] {
            assert_eq!(is_anothers(&datagram), expected, "{what}");
            for end in 0..datagram.len() {
                let _ = is_anothers(&datagram[..end]);
            }
        }
    }
}
