//! The way back of an endpoint, in its own namespace: what it sends from its address in the network to somebody outside
//! goes by the network's gateway, whatever other routes it has, and so does what it has no other route for.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::super::routing::{self, Route, Rule};
use crate::plan::Way;

/// Before the container's own rules for what is from one of its addresses.
const FIRST: u32 = 7_600;
/// Behind those for addresses.
const SECOND: u32 = 7_601;
/// Behind the main table and what is by default.
const LAST: u32 = 40_000;

fn rules(way: &Way) -> BTreeSet<Rule> {
    let Way { table, ref sources, ref udp, ref gateways, .. } = *way;
    let any = |ipv6| Rule { ipv6, from: None, mark: None, udp: None, table, priority: FIRST };
    let mut rules = BTreeSet::new();
    rules.extend(sources.iter().map(|source| Rule { from: Some(*source), ..any(source.is_ipv6()) }));
    for ipv6 in gateways.iter().map(IpAddr::is_ipv6) {
        rules.extend(udp.iter().map(|port| by_nobody(*port, any(ipv6))));
        rules.insert(Rule { priority: LAST, ..any(ipv6) });
    }
    rules
}

/// For what a socket sends that is bound to no address. Over IPv4 it has the address 0.0.0.0 while its way is looked for. Over IPv6 no rule
/// can ask for that: there it stands behind those for addresses.
fn by_nobody(port: u16, any: Rule) -> Rule {
    let from = (!any.ipv6).then_some(Ipv4Addr::UNSPECIFIED.into());
    Rule { from, udp: Some(port), priority: SECOND, ..any }
}

fn routes(way: &Way, link: u32) -> BTreeSet<Route> {
    let Way { table, ref subnets, ref gateways, .. } = *way;
    let route = |to: Option<IpNetwork>, gateway: Option<IpAddr>, ipv6: bool| Route {
        ipv6,
        to,
        gateway,
        onlink: false,
        link,
        table,
        mtu: None,
        metric: ipv6.then_some(1024),
    };
    let near = subnets.iter().map(|subnet| route(Some(*subnet), None, subnet.is_ipv6()));
    let beyond = gateways.iter().map(|gateway| route(None, Some(*gateway), gateway.is_ipv6()));
    near.chain(beyond).collect()
}

/// Makes it, in the calling thread's namespace, or makes what is there into it. Blocks.
pub(super) fn put(way: &Way) -> io::Result<()> {
    let link = if_nametoindex(way.ifname.as_str()).map_err(io::Error::from)?;
    let wanted = routes(way, link);
    // First that of the subnet: the gateway is in there.
    let (near, beyond): (Vec<_>, Vec<_>) = wanted.iter().partition(|route| route.gateway.is_none());
    for stale in routing::routes(way.table)?.iter().filter(|route| !wanted.contains(route)) {
        stale.delete()?;
    }
    near.into_iter().chain(beyond).try_for_each(Route::put)?;
    let wanted = rules(way);
    for stale in routing::rules(way.table)?.iter().filter(|rule| !wanted.contains(rule)) {
        stale.delete()?;
    }
    wanted.iter().try_for_each(Rule::put)
}

/// The most addresses of a container that are looked at.
const OTHERS_MAX: usize = 32;

/// From which addresses of its own an endpoint may ask itself by way of the node, each with that at which it is asked.
/// Blocks.
pub(super) fn itself(way: &Way) -> io::Result<BTreeSet<(IpAddr, IpAddr)>> {
    let Ok(link) = if_nametoindex(way.ifname.as_str()) else { return Ok(BTreeSet::new()) };
    let others = routing::other_addresses(link)?;
    let of = |other: IpAddr| way.sources.iter().map(move |source| (other, *source));
    let both = others.into_iter().take(OTHERS_MAX).flat_map(of);
    Ok(both.filter(|(other, source)| other.is_ipv4() == source.is_ipv4()).collect())
}

/// Removes it. Blocks.
pub(super) fn remove(table: u32) -> io::Result<()> {
    routing::rules(table)?.iter().try_for_each(Rule::delete)?;
    routing::routes(table)?.iter().try_for_each(Route::delete)
}

/// What there is of it; `None` where it is not whole. Blocks.
pub(super) fn find(table: u32, place: u64) -> io::Result<Option<Way>> {
    let there: BTreeSet<Rule> = routing::rules(table)?.into_iter().collect();
    let beyond: BTreeSet<Route> = routing::routes(table)?.into_iter().collect();
    let Some(link) = beyond.first().map(|route| route.link) else { return Ok(None) };
    let Ok(ifname) = if_indextoname(link) else { return Ok(None) };
    let way = Way {
        ifname: ifname.to_string_lossy().into_owned(),
        place,
        table,
        sources: there.iter().filter(|rule| rule.udp.is_none()).filter_map(|rule| rule.from).collect(),
        udp: there.iter().filter_map(|rule| rule.udp).collect(),
        subnets: beyond.iter().filter_map(|route| route.to).collect(),
        gateways: beyond.iter().filter_map(|route| route.gateway).collect(),
    };
    let whole = rules(&way) == there && routes(&way, link) == beyond;
    Ok(Some(way).filter(|_| whole))
}
