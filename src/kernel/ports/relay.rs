//! The relay of a network: how what one node took and handed on to an endpoint of another finds back to it, with the sender's
//! address kept.
//!
//! Where a port is every node's, the node that takes a packet translates it to an endpoint, which may be another node's, and lets
//! the frame bear the node's own MAC. There the bridge gives such a frame to the IP of the network's namespace instead of the
//! endpoint's port, which notes in the connection who handed it on (a mark, and a zone of the connection tracking: two nodes may
//! hand on the same ports of one client), and routes it to the endpoint. The answer comes to the gateway's address, gets that
//! mark, leaves by a next hop that stands for all other nodes, and in the bridge the MAC of the one that the mark says.
//!
//! A table of nf_tables of the bridge, a rule and a route. The marks and MACs have the same bytes, so nothing is looked up.
//! Without the table nothing is handed on: a frame with a node's MAC goes to the endpoint, whose answers have no route.

use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::super::KernelError;
use super::super::links::{BRIDGE, VXLAN};
use super::super::netns::set_sysctl;
use super::super::nft::{
    self, Base, Compare, Expression, Family, NF_DROP, bytes, compare, layer_4, mark, masked_with, number,
    set_mark, verdict,
};
use super::super::raw::{self, attribute, nested};
use super::super::routing::{self, Route, Rule};
use super::expr::{
    from_device, from_link, is_answer, is_of, load, mark_connection, marked_by_connection, sender_is_beyond,
    set_packet_type, set_zone, to_device, write_link, writes_link,
};
use super::gate::MARK;
use crate::model::Mac;
use crate::plan::Relay;

const TABLE: &[u8] = b"lanmesh-relay\0";
const IN: &[u8] = b"in\0";
const OUT: &[u8] = b"out\0";
const NF_BR_PRE_ROUTING: u32 = 0;
const NF_BR_POST_ROUTING: u32 = 4;
/// Before whatever else is asked about a frame.
const EARLY: i32 = -350;
/// Behind all that.
const LATE: i32 = 300;
/// The table of routes for what goes back to other nodes.
const ROUTES: u32 = 0x6c6e;
/// Behind the main table, which has a route to the network alone.
const LAST: u32 = 40_001;

/// Of a MAC of six bytes the last four: what a mark has of a node's.
const MARKED: (u32, u32) = (2, 4);
/// Where the sender's MAC is.
const SENDER: u32 = 6;

/// What the marks of nodes begin with, in the order of the bytes.
fn first() -> u8 {
    Mac::NODES[2]
}

/// The mark of the nodes and its mask, as numbers.
fn marks() -> (u32, u32) {
    (u32::from_ne_bytes([first(), 0, 0, 0]), u32::from_ne_bytes([0xff, 0, 0, 0]))
}

fn is_from_node() -> [Expression; 2] {
    [bytes(Base::Link, SENDER, 3), compare(Compare::Equal, &Mac::NODES)]
}

fn is_of_node() -> [Expression; 2] {
    [masked_with([0xff, 0, 0, 0]), compare(Compare::Equal, &[first(), 0, 0, 0])]
}

/// In the network's own table: whoever handed a packet on has connections of his own.
pub(super) fn by_taker(bridge: u32) -> Vec<Expression> {
    let mut rule = Vec::from(from_link(bridge));
    rule.extend(is_from_node());
    rule.push(bytes(Base::Link, SENDER + 4, 2));
    rule.push(set_zone());
    rule
}

/// In the network's own table: a connection knows who handed it on, and its answers are marked for him.
pub(super) fn remembers(bridge: u32) -> [Vec<Expression>; 3] {
    // Nobody beyond has an address of the network.
    let mut forged = Vec::from(from_link(bridge));
    forged.extend(is_from_node());
    forged.extend(sender_is_beyond(bridge));
    forged.push(verdict(NF_DROP));
    let mut asked = Vec::from(from_link(bridge));
    asked.extend(is_from_node());
    asked.push(bytes(Base::Link, SENDER + MARKED.0, MARKED.1));
    asked.push(mark_connection());
    let mut answered = Vec::from(from_link(bridge));
    answered.extend(is_answer());
    answered.push(marked_by_connection());
    answered.extend(is_of_node());
    answered.push(marked_by_connection());
    answered.push(set_mark());
    [forged, asked, answered]
}

/// In the network's own table: what is handed on leaves by the device it came in by, of which nobody is to be told.
pub(super) fn tells_no_shorter_way() -> [Vec<Expression>; 2] {
    // Redirect (RFC 792, RFC 4861).
    [(false, 1_u8, 5_u8), (true, 58, 137)].map(|(ipv6, protocol, kind)| {
        let mut rule = Vec::from(is_of(ipv6));
        rule.extend([layer_4(), compare(Compare::Equal, &[protocol])]);
        rule.extend([bytes(Base::Transport, 0, 1), compare(Compare::Equal, &[kind])]);
        rule.push(verdict(NF_DROP));
        rule
    })
}

/// The rules of the bridge, each with its chain.
fn bridged(relay: &Relay) -> Vec<(&'static [u8], Vec<Expression>)> {
    const PACKET_HOST: u8 = 0;
    let to_this_node = || {
        let mut taken = Vec::from(write_link(&relay.bridge.0, 0));
        taken.extend([load(1, &[PACKET_HOST]), set_packet_type()]);
        taken
    };
    let mut asked = Vec::from(from_device(VXLAN));
    asked.extend(is_from_node());
    asked.extend(to_this_node());
    let mut answered = Vec::from(from_device(VXLAN));
    answered.extend([bytes(Base::Link, 0, 6), compare(Compare::Equal, &relay.node.0)]);
    answered.extend(to_this_node());
    let mut asks = Vec::from(to_device(VXLAN));
    asks.extend([mark(), compare(Compare::Equal, &MARK.to_ne_bytes())]);
    asks.extend(write_link(&relay.node.0, SENDER));
    let mut answers = Vec::from(to_device(VXLAN));
    answers.push(mark());
    answers.extend(is_of_node());
    answers.extend([mark(), writes_link(MARKED.0, MARKED.1)]);
    vec![(IN, asked), (IN, answered), (OUT, asks), (OUT, answers)]
}

fn table() -> Vec<u8> {
    attribute(1, TABLE)
}

/// What has to be before it is made: what is handed on leaves where it came in, from senders who are not there.
pub(super) fn quiet() -> Result<(), KernelError> {
    set_sysctl(&format!("ipv4/conf/{BRIDGE}/rp_filter"), "0")?;
    set_sysctl(&format!("ipv4/conf/{BRIDGE}/send_redirects"), "0")?;
    set_sysctl("ipv4/conf/all/send_redirects", "0")
}

/// Makes it in the calling thread's namespace, or puts it in the place of the one that is there. Blocks. The answer is the
/// kernel's refusal, if any.
pub(super) fn put(relay: &Relay) -> io::Result<Option<Errno>> {
    let link = if_nametoindex(BRIDGE).map_err(io::Error::from)?;
    for rule in rules() {
        ignore_missing(rule.ipv6, rule.put())?;
    }
    for route in routes(link) {
        ignore_missing(route.ipv6, route.put())?;
    }
    let chain = |name: &[u8], hook: u32, priority: i32| {
        let hook = nested(4, &[number(1, hook), attribute(2, &priority.to_be_bytes())]);
        let made = [table(), attribute(3, name), hook, attribute(7, b"filter\0")].concat();
        Family::Bridge.make(nft::NFT_MSG_NEWCHAIN, &made)
    };
    let mut content = vec![chain(IN, NF_BR_PRE_ROUTING, EARLY), chain(OUT, NF_BR_POST_ROUTING, LATE)];
    content.extend(bridged(relay).iter().map(|(chain, expressions)| {
        let rule = [table(), attribute(2, chain), nested(4, expressions)].concat();
        Family::Bridge.append(nft::NFT_MSG_NEWRULE, &rule)
    }));
    let mark = [&relay.node.0[..], &relay.bridge.0[..]].concat();
    Family::Bridge.put_table(&table(), &mark, content)
}

/// Removes it from the calling thread's namespace. Blocks.
pub(super) fn remove() -> io::Result<Option<Errno>> {
    rules().iter().try_for_each(Rule::delete)?;
    routing::routes(ROUTES)?.iter().try_for_each(Route::delete)?;
    let removal = Family::Bridge.remove(nft::NFT_MSG_DELTABLE, &table());
    let refused = raw::exchange(NETLINK_NETFILTER, &nft::transaction([removal]))?;
    Ok(refused.filter(|errno| !matches!(errno, Errno::ENOENT | Errno::EOPNOTSUPP)))
}

/// The one that is there, if it is whole, in the calling thread's namespace. Blocks.
pub(super) fn find() -> io::Result<Option<Relay>> {
    let Some(listed) = Family::Bridge.table(&table())? else { return Ok(None) };
    let mac = |at: usize| listed.mark().get(at..)?.first_chunk().map(|mac| Mac(*mac));
    let (Some(node), Some(bridge)) = (mac(0), mac(6)) else { return Ok(None) };
    let relay = Relay { node, bridge };
    let Ok(link) = if_nametoindex(BRIDGE) else { return Ok(None) };
    let wanted = |ipv6: bool| !ipv6 || super::gate::speaks_ipv6();
    let (rules_there, routes_there) = (routing::rules(ROUTES)?, routing::routes(ROUTES)?);
    let ruled = rules().iter().all(|rule| !wanted(rule.ipv6) || rules_there.contains(rule));
    let routed = routes(link).iter().all(|route| !wanted(route.ipv6) || routes_there.contains(route));
    Ok(Some(relay).filter(|_| listed.rules == bridged(&relay).len() as u64 && ruled && routed))
}

fn ignore_missing(ipv6: bool, made: io::Result<()>) -> io::Result<()> {
    if ipv6 && !super::gate::speaks_ipv6() { Ok(()) } else { made }
}

fn rules() -> [Rule; 2] {
    let mark = Some(marks());
    [false, true].map(|ipv6| Rule { ipv6, from: None, mark, udp: None, table: ROUTES, priority: LAST })
}

fn routes(link: u32) -> [Route; 2] {
    Relay::OTHERS.map(|gateway: IpAddr| Route {
        ipv6: gateway.is_ipv6(),
        to: None,
        gateway: Some(gateway),
        onlink: true,
        link,
        table: ROUTES,
        mtu: None,
        metric: gateway.is_ipv6().then_some(1024),
    })
}
