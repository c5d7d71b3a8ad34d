//! The table of nf_tables in a network's namespace that sends what came through the gate to endpoints, and their answers
//! back. Here connections are followed, and addresses translated; nothing else passes between the gate and the network.
//!
//! Where the table is missing nothing passes: only what it marks has a route out through the gate, and what came in
//! is for nobody in here.

mod outward;
mod seen;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use lanmesh_ipam::stable_hash;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::super::links::BRIDGE;
use super::super::nft::{
    self, Base, Compare, Expression, NF_ACCEPT, NF_DROP, NF_INET_FORWARD, NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, NF_INET_PRE_ROUTING, Refusal, bytes, compare, expression,
    layer_4, number, set_mark, verdict,
};
use super::super::raw::{self, attribute, nested};
use super::super::routing::octets;
use super::super::services::rules::{INET, PORT_REGISTER, choose, translate};
use super::expr::{
    Which, from_link, is_answer, is_local, is_of, is_of_a_connection, is_translated, load, sender_is_beyond,
    to_link,
};
use super::gate::{INNER, MARK};
use super::node::{as_asked, may_be_cut};
use super::relay;
use crate::model::Transport;
use crate::plan::{Forward, Forwarding};

pub(super) use outward::{senders, stands_for_the_node};

/// NF_IP_PRI_RAW: before the connection tracking.
const RAW: i32 = -300;
/// NF_IP_PRI_MANGLE: behind the connection tracking, before the route is looked for.
const MANGLE: i32 = -150;
/// NF_IP_PRI_NAT_DST.
const DESTINATION_NAT: i32 = -100;
/// NF_IP_PRI_NAT_SRC.
const SOURCE_NAT: i32 = 100;
/// Behind that.
const BEHIND_SOURCE_NAT: i32 = 150;
/// NF_IP_PRI_FILTER.
const FILTER: i32 = 0;
const TABLE: &[u8] = b"lanmesh-ports\0";
const REGISTER: u32 = 1;

fn table() -> Vec<u8> {
    attribute(1, TABLE)
}

/// The devices between which packets pass here, by index.
#[derive(Debug, Clone, Copy)]
struct Ends {
    gate: u32,
    bridge: u32,
}

impl Ends {
    /// Those of the calling thread's namespace. What is not there is the device of no packet.
    fn there() -> Self {
        let index = |name: &str| if_nametoindex(name).unwrap_or(u32::MAX);
        Self { gate: index(INNER), bridge: index(BRIDGE) }
    }
}

struct Content {
    changes: Vec<Vec<u8>>,
    rules: u64,
    ends: Ends,
}

impl Content {
    fn chain(&mut self, name: &[u8], (hook, priority): (u32, i32), kind: &[u8]) {
        let hook = nested(4, &[number(1, hook), attribute(2, &priority.to_be_bytes())]);
        let made = [table(), attribute(3, name), hook, attribute(7, kind)].concat();
        self.changes.push(INET.make(nft::NFT_MSG_NEWCHAIN, &made));
    }

    /// One that others lead to.
    fn plain_chain(&mut self, name: &[u8]) {
        let made = [table(), attribute(3, name)].concat();
        self.changes.push(INET.make(nft::NFT_MSG_NEWCHAIN, &made));
    }

    fn rule(&mut self, chain: &[u8], expressions: &[Expression]) {
        let rule = [table(), attribute(2, chain), nested(4, expressions)].concat();
        self.changes.push(INET.append(nft::NFT_MSG_NEWRULE, &rule));
        self.rules += 1;
    }
}

/// Puts it in the place of what is there, in the calling thread's namespace. Blocks. The answer is the kernel's refusal, if
/// any.
///
/// `families` are those over which there is a way outside: IPv4, IPv6.
pub(super) fn put(
    forwarding: &Forwarding,
    itself: &BTreeSet<(IpAddr, IpAddr)>,
    families: [bool; 2],
) -> io::Result<Option<Errno>> {
    let Forwarding { mtu, forwards, keeps: _, masked, relayed, outward } = forwarding;
    let ends = Ends::there();
    let Ends { gate, bridge } = ends;
    let mut content = Content { changes: Vec::new(), rules: 0, ends };
    let mut marked = vec![load(REGISTER, &MARK.to_ne_bytes()), set_mark()];

    if let Some(outward) = outward {
        content.outward_sets(outward, families);
    }
    let came: &[u8] = b"came\0";
    content.plain_chain(came);
    let mut cut = Vec::from(is_of(false));
    cut.extend([layer_4(), compare(Compare::Equal, &[17])]);
    cut.extend(is_larger_than(*mtu));
    cut.extend(may_be_cut());
    content.rule(came, &cut);
    // Its sender was looked at when it began.
    let mut known = Vec::from(is_of_a_connection());
    known.append(&mut marked.clone());
    known.push(verdict(NF_ACCEPT));
    content.rule(came, &known);
    // Nobody outside has an address of the network.
    content.rule(came, &[&sender_is_beyond(bridge)[..], &[verdict(NF_DROP)]].concat());
    // Nor one of this namespace.
    content.rule(came, &[&is_local(Which::Source)[..], &[verdict(NF_DROP)]].concat());
    content.rule(came, &marked);

    let routed: &[u8] = b"routed\0";
    content.chain(routed, (NF_INET_PRE_ROUTING, MANGLE), b"filter\0");
    content.rule(routed, &[&from_link(gate)[..], &[nft::goto(came)]].concat());
    let mut answer = Vec::from(from_link(bridge));
    answer.extend(is_translated());
    answer.extend(is_answer());
    answer.append(&mut marked);
    content.rule(routed, &answer);
    if outward.is_some() {
        content.outward_marks(routed, families);
    }
    if *relayed {
        let zone: &[u8] = b"zone\0";
        content.chain(zone, (NF_INET_PRE_ROUTING, RAW), b"filter\0");
        content.rule(zone, &relay::by_taker(bridge));
        for rule in relay::remembers(bridge) {
            content.rule(routed, &rule);
        }
        let told: &[u8] = b"told\0";
        content.chain(told, (NF_INET_LOCAL_OUT, FILTER), b"filter\0");
        for rule in relay::tells_no_shorter_way() {
            content.rule(told, &rule);
        }
    }

    let to: &[u8] = b"to\0";
    content.chain(to, (NF_INET_PRE_ROUTING, DESTINATION_NAT), b"nat\0");
    let mut id = 0;
    for forward in forwards.iter().filter(|forward| !forward.to.is_empty()) {
        let (needs, chosen) = choose(&table(), &forward.to, forward.ipv6, &mut id);
        content.changes.extend(needs);
        content.rule(to, &sent(gate, forward, chosen));
    }

    // Who is sent to himself would find his own address as the sender's, which no kernel takes.
    let back: &[u8] = b"itself\0";
    content.chain(back, (NF_INET_POST_ROUTING, SOURCE_NAT), b"nat\0");
    for (other, own) in itself {
        content.rule(back, &sent_to_itself(bridge, *other, *own));
    }
    let seen_as: BTreeSet<IpAddr> = forwards.iter().filter_map(|forward| forward.seen_as).collect();
    for own in &seen_as {
        content.rule(back, &seen::as_the_node(bridge, *own));
    }
    for own in masked {
        content.rule(back, &sent_to_the_node(bridge, *own));
    }

    if let Some(outward) = outward {
        content.outward_sources(back, outward, families);
    }

    if !seen_as.is_empty() {
        let plain: &[u8] = b"plain\0";
        content.chain(plain, (NF_INET_POST_ROUTING, BEHIND_SOURCE_NAT), b"filter\0");
        content.rule(plain, &seen::as_from_any_endpoint(bridge));
    }

    let pass: &[u8] = b"pass\0";
    content.chain(pass, (NF_INET_FORWARD, FILTER), b"filter\0");
    for (from, to) in [(gate, bridge), (bridge, gate)] {
        let mut rule = Vec::from(from_link(from));
        rule.extend(to_link(to));
        rule.extend(is_translated());
        rule.push(verdict(NF_ACCEPT));
        content.rule(pass, &rule);
    }
    if outward.is_some() {
        content.outward_passes(pass, families);
    }
    // What is for a port whose endpoints take nothing new was sent nowhere, and would go back through the gate.
    for forward in forwards.iter().filter(|forward| forward.to.is_empty()) {
        content.rule(pass, &refused(gate, forward));
    }
    // Not all else: where the kernel shows what it bridges to these rules, that is the network's own.
    for end in [from_link(gate), to_link(gate)] {
        content.rule(pass, &[&end[..], &[verdict(NF_DROP)]].concat());
    }

    let closed: &[u8] = b"closed\0";
    content.chain(closed, (NF_INET_LOCAL_IN, FILTER), b"filter\0");
    let mut stays = Vec::from(from_link(gate));
    stays.push(verdict(NF_DROP));
    content.rule(closed, &stays);

    let made_for = if outward.is_some() { number_of_families(families) } else { NOWHERE };
    let mark = [forwarding.fingerprint(), content.rules, number_of(ends, itself), made_for];
    let mark: Vec<u8> = mark.iter().flat_map(|word| word.to_be_bytes()).collect();
    INET.put_table(&table(), &mark, content.changes)
}

/// What is written down where nothing leads outside.
const NOWHERE: u64 = u64::MAX;

fn number_of_families([ipv4, ipv6]: [bool; 2]) -> u64 {
    u64::from(ipv4) | u64::from(ipv6) << 1
}

/// What is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// The number of the rules; 0 where they are nothing or not whole.
    pub number: u64,
    families: u64,
    /// They were made for other devices, or other addresses of those that may be sent to themselves.
    outdated: bool,
}

impl Found {
    /// Whether something leads outside.
    pub fn is_outward(&self) -> bool {
        self.number != 0 && self.families != NOWHERE
    }

    /// Whether what leads outside was made for these families.
    pub fn was_made_for(&self, families: [bool; 2]) -> bool {
        self.families == number_of_families(families)
    }

    /// Whether it was made for other devices, or containers have other addresses since.
    pub fn is_outdated(&self) -> bool {
        self.number != 0 && self.outdated
    }
}

fn number_of(ends: Ends, itself: &BTreeSet<(IpAddr, IpAddr)>) -> u64 {
    stable_hash(format!("{ends:?} {itself:?}").as_bytes())
}

/// Goes on only with packets of IPv4 that say that they are longer.
fn is_larger_than(most: u32) -> [Expression; 2] {
    let least = u16::try_from(most.saturating_add(1)).unwrap_or(u16::MAX);
    [bytes(Base::Network, 2, 2), compare(Compare::AtLeast, &least.to_be_bytes())]
}

fn sent_to_itself(bridge: u32, other: IpAddr, own: IpAddr) -> Vec<Expression> {
    let (source, destination, length) = if own.is_ipv6() { (8, 24, 16) } else { (12, 16, 4) };
    let mut rule = Vec::from(is_of(own.is_ipv6()));
    rule.extend(to_link(bridge));
    rule.extend(is_translated());
    rule.extend([bytes(Base::Network, source, length), compare(Compare::Equal, &octets(other))]);
    rule.extend([bytes(Base::Network, destination, length), compare(Compare::Equal, &octets(own))]);
    rule.push(expression(b"masq\0", &[]));
    rule
}

/// What goes to an address that is the node's own bears the gateway's: answers to anybody else would take the node's routes.
fn sent_to_the_node(bridge: u32, own: IpAddr) -> Vec<Expression> {
    let (destination, length) = if own.is_ipv6() { (24, 16) } else { (16, 4) };
    let mut rule = Vec::from(is_of(own.is_ipv6()));
    rule.extend(to_link(bridge));
    rule.extend([bytes(Base::Network, destination, length), compare(Compare::Equal, &octets(own))]);
    rule.push(expression(b"masq\0", &[]));
    rule
}

fn sent(gate: u32, forward: &Forward, chosen: Vec<Expression>) -> Vec<Expression> {
    let Forward { publication, ipv6, to: _, seen_as } = forward;
    let mut rule = asked(gate, forward);
    if seen_as.is_some() {
        rule.extend(seen::marked());
    }
    rule.extend(chosen);
    rule.push(load(PORT_REGISTER, &publication.to.to_be_bytes()));
    rule.push(translate(*ipv6, true));
    rule
}

/// Tells who asks that nobody is there, as a node does that has no such port.
fn refused(gate: u32, forward: &Forward) -> Vec<Expression> {
    let mut rule = asked(gate, forward);
    rule.push(match forward.publication.transport {
        Transport::Tcp => nft::refuse(Refusal::Reset),
        Transport::Udp => nft::refuse(Refusal::NoPort),
    });
    rule
}

/// Goes on only with what came through the gate for a published port.
fn asked(gate: u32, forward: &Forward) -> Vec<Expression> {
    let Forward { publication, ipv6, .. } = forward;
    let mut rule = Vec::from(from_link(gate));
    rule.extend(is_of(*ipv6));
    if let Some(address) = publication.address {
        let (offset, length) = if *ipv6 { (24, 16) } else { (16, 4) };
        rule.extend([
            bytes(Base::Network, offset, length),
            compare(Compare::Equal, &octets(as_asked(address))),
        ]);
    }
    rule.extend([layer_4(), compare(Compare::Equal, &[publication.transport.number()])]);
    rule.extend([bytes(Base::Transport, 2, 2), compare(Compare::Equal, &publication.port.to_be_bytes())]);
    rule
}

/// Removes it from the calling thread's namespace. Blocks.
pub(super) fn remove() -> io::Result<Option<Errno>> {
    let removal = INET.remove(nft::NFT_MSG_DELTABLE, &table());
    let refused = raw::exchange(NETLINK_NETFILTER, &nft::transaction([removal]))?;
    Ok(refused.filter(|errno| *errno != Errno::ENOENT))
}

/// What there is in the calling thread's namespace. Blocks.
pub(super) fn find(itself: &BTreeSet<(IpAddr, IpAddr)>) -> io::Result<Found> {
    let nothing = Found { number: 0, families: NOWHERE, outdated: false };
    let Some(listed) = INET.table(&table())? else { return Ok(nothing) };
    let Some([number, rules, made_for, families]) = listed.words() else { return Ok(nothing) };
    let number = if listed.rules == rules { number } else { 0 };
    Ok(Found { number, families, outdated: made_for != number_of(Ends::there(), itself) })
}
