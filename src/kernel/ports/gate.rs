//! The gate of a network: a veth pair between the node's namespace and the network's, without addresses. What is beyond it
//! has one MAC, which both sides know for good.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use lanmesh_ipam::stable_hash;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkMessage};
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkUnspec, LinkVeth};

use super::super::links::BRIDGE;
use super::super::netns::{keep_rules_from_bridged, set_sysctl};
use super::super::routing::{self, RT_TABLE_MAIN, Route, Rule, put_neighbour};
use super::super::{KernelError, links};
use crate::model::{Mac, NetworkId};

/// Our end in the network's namespace.
pub(super) const INNER: &str = "gate0";
/// What carries this in the network's namespace may leave through the gate.
pub(super) const MARK: u32 = 0x6c6d;
/// The table of routes there for it.
const TABLE: u32 = 0x6c6d;
/// Behind the main table, which has a route to the network alone.
const LAST: u32 = 40_000;
/// What stands for whoever is beyond the gate, on both sides.
pub(super) const NEXT_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
pub(super) const NEXT_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OUTER_MAC: Mac = Mac([0x02, 0x6c, 0x6d, 0, 0, 1]);
/// That of [`INNER`].
pub(super) const INNER_MAC: Mac = Mac([0x02, 0x6c, 0x6d, 0, 0, 2]);
/// A gate cuts nothing: what is too large for the network is told to who sent it.
const MTU: u32 = 65_535;

/// What the end on the node is called. Two agents on one node have different ones.
pub(super) fn outer(run_dir: &Path, network: NetworkId) -> String {
    let whose = [run_dir.as_os_str().as_encoded_bytes(), format!(" {network}").as_bytes()].concat();
    format!("lmg{:08x}", stable_hash(&whose) >> 32)
}

/// A new one, to be made in the node's namespace.
pub(super) fn new(outer: &str, netns: std::os::fd::RawFd) -> LinkMessage {
    let inner =
        LinkUnspec::new_with_name(INNER).address(INNER_MAC.0.to_vec()).mtu(MTU).setns_by_fd(netns).build();
    LinkVeth::new(outer, "")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(inner)))
        .address(OUTER_MAC.0.to_vec())
        .mtu(MTU)
        .build()
}

/// An end, to be set up. That on the node says then whose it is.
pub(super) fn set_up(index: u32, network: Option<NetworkId>) -> LinkMessage {
    let link = LinkUnspec::new_with_index(index).mtu(MTU).up();
    match network {
        Some(network) => link.alias(links::alias("gate", &network.to_string())).build(),
        None => link.build(),
    }
}

pub(super) fn speaks_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// What has to be before an end goes up: it speaks IPv6, and says nothing of itself.
pub(super) fn quiet(link: &str) -> Result<(), KernelError> {
    set_sysctl(&format!("ipv6/conf/{link}/addr_gen_mode"), "1")?;
    set_sysctl(&format!("ipv6/conf/{link}/accept_dad"), "0")?;
    set_sysctl(&format!("ipv6/conf/{link}/accept_ra"), "0")?;
    set_sysctl(&format!("ipv6/conf/{link}/disable_ipv6"), "0")
}

/// The node's way to the end of this name, which is up, in the node's namespace. Blocks.
pub(super) fn reach_inner(outer: &str) -> io::Result<()> {
    let link = if_nametoindex(outer).map_err(io::Error::from)?;
    for route in outer_routes(link) {
        if !route.ipv6 || speaks_ipv6() {
            route.put()?;
        }
    }
    put_neighbours(link, INNER_MAC)
}

fn put_neighbours(link: u32, mac: Mac) -> io::Result<()> {
    put_neighbour(link, NEXT_V4.into(), mac)?;
    if speaks_ipv6() { put_neighbour(link, NEXT_V6.into(), mac) } else { Ok(()) }
}

/// Every gate has the same next hop, so of IPv4 each route has a metric of its own. They are never looked for but with their
/// link.
fn outer_routes(link: u32) -> [Route; 2] {
    let route = |to: IpAddr| Route {
        ipv6: to.is_ipv6(),
        to: Some(to.into()),
        gateway: None,
        onlink: false,
        link,
        table: RT_TABLE_MAIN,
        mtu: None,
        metric: Some(link.saturating_add(1 << 24)),
    };
    [route(NEXT_V4.into()), route(NEXT_V6.into())]
}

/// The ways between the gate, which is up, and the bridge, in the network's namespace. Blocks.
pub(super) fn open(mtu: u32) -> Result<(), KernelError> {
    let failed = |source| KernelError::Refused { what: "open the gate of a network".to_owned(), source };
    let link = if_nametoindex(INNER).map_err(|errno| failed(errno.into()))?;
    keep_rules_from_bridged()?;
    for (key, value) in settings() {
        set_sysctl(&key, value)?;
    }
    put_neighbours(link, OUTER_MAC).map_err(failed)?;
    for rule in rules() {
        if !rule.ipv6 || speaks_ipv6() {
            rule.put().map_err(failed)?;
        }
    }
    for route in inner_routes(link, mtu) {
        if !route.ipv6 || speaks_ipv6() {
            route.put().map_err(failed)?;
        }
    }
    forward("1")
}

/// How the network's namespace takes what comes through the gate: keys below /proc/sys/net.
fn settings() -> [(String, &'static str); 7] {
    let of_gate = |key: &str| format!("ipv4/conf/{INNER}/{key}");
    [
        // Whoever is outside has no route but by what is marked.
        ("ipv4/conf/all/rp_filter".to_owned(), "0"),
        (of_gate("rp_filter"), "0"),
        (of_gate("src_valid_mark"), "1"),
        // Who may have which address is for the rules to say: so the way to the sender is not looked for with every packet.
        (of_gate("accept_local"), "1"),
        // Whom a packet is for looks at its checksum. What an interface summed up of one is not true any more when it is handed on
        // at its ingress, and to look at it here would have the kernel say that the hardware is broken.
        ("netfilter/nf_conntrack_checksum".to_owned(), "0"),
        // What is told about a packet goes where that came from.
        ("ipv4/fwmark_reflect".to_owned(), "1"),
        ("ipv6/fwmark_reflect".to_owned(), "1"),
    ]
}

/// Closes it, whether there is one or not. Blocks.
pub(super) fn close() -> Result<(), KernelError> {
    forward("0")?;
    let failed = |source| KernelError::Refused { what: "close the gate of a network".to_owned(), source };
    rules().iter().try_for_each(Rule::delete).map_err(failed)
}

fn forward(value: &str) -> Result<(), KernelError> {
    set_sysctl(&format!("ipv4/conf/{INNER}/forwarding"), value)?;
    set_sysctl(&format!("ipv4/conf/{BRIDGE}/forwarding"), value)?;
    set_sysctl("ipv6/conf/all/forwarding", value)
}

fn rules() -> [Rule; 2] {
    [false, true].map(|ipv6| Rule {
        ipv6,
        from: None,
        mark: Some((MARK, u32::MAX)),
        udp: None,
        table: TABLE,
        priority: LAST,
    })
}

fn inner_routes(link: u32, mtu: u32) -> [Route; 2] {
    let route = |gateway: IpAddr| Route {
        ipv6: gateway.is_ipv6(),
        to: None,
        gateway: Some(gateway),
        onlink: true,
        link,
        table: TABLE,
        mtu: Some(mtu),
        metric: gateway.is_ipv6().then_some(1024),
    };
    [route(NEXT_V4.into()), route(NEXT_V6.into())]
}

/// Whether the node reaches the end of this name. Blocks.
pub(super) fn is_reached(link: u32) -> io::Result<bool> {
    let there = routing::routes(RT_TABLE_MAIN)?;
    let has = |wanted: &Route| there.iter().any(|route| (route.to, route.link) == (wanted.to, wanted.link));
    Ok(outer_routes(link).iter().all(|route| (route.ipv6 && !speaks_ipv6()) || has(route)))
}

/// For packets of which size it is open on the network's side; `None` where it is not. Blocks.
pub(super) fn is_open() -> io::Result<Option<u32>> {
    let Ok(link) = if_nametoindex(INNER) else { return Ok(None) };
    let wanted = |ipv6: bool| !ipv6 || speaks_ipv6();
    let there = routing::rules(TABLE)?;
    let ruled = rules().iter().all(|rule| !wanted(rule.ipv6) || there.contains(rule));
    let there = routing::routes(TABLE)?;
    let mtu = there.iter().find(|route| !route.ipv6 && route.link == link).and_then(|route| route.mtu);
    let Some(mtu) = mtu.filter(|_| ruled) else { return Ok(None) };
    let routed = inner_routes(link, mtu).iter().all(|route| !wanted(route.ipv6) || there.contains(route));
    let is = |key: &str, wanted: &str| {
        let value = std::fs::read_to_string(format!("/proc/sys/net/{key}"));
        value.map_or(true, |value| value.trim() == wanted)
    };
    let forwards = |key: &str| is(key, "1");
    let open = settings().iter().all(|(key, value)| is(key, value))
        && forwards(&format!("ipv4/conf/{INNER}/forwarding"))
        && forwards(&format!("ipv4/conf/{BRIDGE}/forwarding"))
        && forwards("ipv6/conf/all/forwarding");
    Ok(Some(mtu).filter(|_| routed && open))
}
