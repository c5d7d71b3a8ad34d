//! What an endpoint may send, as rules.
//!
//! IPv4 from its addresses; IPv6 from its addresses and from the link-local one that follows from its MAC; ARP that says of
//! its own addresses, or asks for whom (RFC 5227), with its own MAC; neighbour advertisements of these addresses alone; and
//! what is sent before there is an address: DHCP, IGMP, duplicate detection of its own addresses, MLD, router
//! solicitations. Of IGMP and MLD reports only: the bridge asks. No router advertisements and redirects of either
//! family, and nothing by which routers of multicast know each other: the network has no other router. No frames between
//! a device and its bridge (IEEE 802.1D table 7-10), and none of IEEE 802.2, in which what is said here would have to be said
//! again. Frames of other protocols pass, from its own MAC.
//!
//! What it may have beside its own (`also`) it may send from as from its own, and what it says of that is handed to whoever
//! listens (`hearing`), as is that it tries whether an address is free. An endpoint that may send from anything is heard in all
//! that it says of addresses, but for what it says in passing of its own.
//!
//! What is dropped goes through a chain for its kind, which counts it, and what only its type decides on is one look into a map: to make
//! a rule's expressions is most of what the rules of a port cost.
//!
//! What a packet carries is looked for behind options and extension headers (`meta l4proto`), since receivers do. One in
//! which that is not to be seen, because the chain of headers is broken or goes on in another fragment (RFC 7112), is dropped.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::DropKind;
use super::drops::{ALL, KINDS};
use crate::kernel::hearing::{COPIED, GROUP};
use crate::kernel::nft::{
    Base, Compare, ETH_P_IP, ETH_P_IPV6, Expression, NF_ACCEPT, NF_DROP, at_most, byte, bytes, compare,
    count_with, fragment_place, goto, jump, layer_4, led_by, log, masked_with, protocol, sum_in, verdict,
};
use crate::model::Mac;
use crate::plan::PortGuard;

/// The chain through which what is to be heard goes.
pub(super) const HEARD: &[u8] = b"heard\0";
/// So much of what one endpoint says is heard in a second, and so much at once: software that takes an address over says so
/// some five times.
const HEARD_PER_S: u32 = 50;
const HEARD_AT_ONCE: u32 = 200;

const ETH_P_ARP: [u8; 2] = [0x08, 0x06];
/// Frames with two tags: the kernel takes one off before the rules.
const ETH_P_8021Q: [u8; 2] = [0x81, 0x00];
const ETH_P_8021AD: [u8; 2] = [0x88, 0xa8];
/// What the kernel says of frames with a length where others have their type: with 802.2 in them, and without.
const ETH_P_802_2: [u8; 2] = [0x00, 0x04];
const ETH_P_802_3: [u8; 2] = [0x00, 0x01];

/// Ethernet types that nobody sends here but by what was allowed before, and what they are. Most are between a device and its bridge
/// (IEEE's list).
const TYPES: [([u8; 2], DropKind); 12] = [
    (ETH_P_ARP, DropKind::Neighbour),
    (ETH_P_8021Q, DropKind::Tagged),
    (ETH_P_8021AD, DropKind::Tagged),
    (ETH_P_802_3, DropKind::Llc),
    ([0x88, 0xcc], DropKind::Lldp),
    ([0x88, 0x8e], DropKind::Dot1x),
    // Pre-authentication of 802.11i.
    ([0x88, 0xc7], DropKind::Dot1x),
    // Pause.
    ([0x88, 0x08], DropKind::LinkControl),
    // Slow protocols: link aggregation, OAM.
    ([0x88, 0x09], DropKind::LinkControl),
    // MVRP and MMRP.
    ([0x88, 0xf5], DropKind::LinkControl),
    ([0x88, 0xf6], DropKind::LinkControl),
    // Connectivity faults (IEEE 802.1ag).
    ([0x89, 0x02], DropKind::LinkControl),
];
/// Groups that a bridge keeps to itself (IEEE 802.1D tables 7-10 and 12-1), but for the last four bits.
const LINK_GROUPS: [[u8; 6]; 2] = [[0x01, 0x80, 0xc2, 0, 0, 0], [0x01, 0x80, 0xc2, 0, 0, 0x20]];
/// The group of Cisco's spanning trees of each VLAN.
const PVST: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd];
/// The service access point of spanning tree (IEEE 802.1D section 7.12.3).
const BPDU: u8 = 0x42;

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const PIM: u8 = 103;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Types of ICMP that only a router sends: redirect (RFC 792), advertisement (RFC 1256).
const ROUTERS_ICMP: [u8; 2] = [5, 9];
/// Types of IGMP that only routers send: DVMRP, PIM version 1, advertisement and termination (RFC 4286).
const ROUTERS_IGMP: [u8; 4] = [0x13, 0x14, 0x30, 0x32];
/// Types of ICMPv6 that only a router sends: advertisement, redirect (RFC 4861), renumbering (RFC 2894), advertisement and
/// termination of multicast routers (RFC 4286).
const ROUTERS_ICMPV6: [u8; 5] = [134, 137, 138, 151, 153];
/// What asks for members.
const IGMP_QUERY: u8 = 0x11;
const MLD_QUERY: u8 = 130;

/// Maps from a type to the chain of what it is: of Ethernet, and of messages of ICMP, IGMP and ICMPv6.
const OF_TYPES: &[u8] = b"types\0";
const OF_ICMP: &[u8] = b"icmp\0";
const OF_IGMP: &[u8] = b"igmp\0";
const OF_ICMPV6: &[u8] = b"icmpv6\0";
/// What nft calls the types of their keys.
const ETHERTYPE: u32 = 10;
const ICMP_TYPE: u32 = 14;
const ICMPV6_TYPE: u32 = 29;
const IGMP_TYPE: u32 = 42;

type Rule = Vec<Expression>;
/// What is loaded, and how it must compare.
type Test = [Expression; 2];

/// What an endpoint may send from.
struct Own {
    macs: Vec<[u8; 6]>,
    v4: Vec<[u8; 4]>,
    v6: Vec<[u8; 16]>,
}

impl Own {
    fn of(guard: &PortGuard) -> Self {
        let macs: Vec<Mac> = [guard.mac].into_iter().chain(guard.also.macs.iter().copied()).collect();
        let addresses = || guard.addresses.iter().chain(&guard.also.addresses);
        let local = macs.iter().map(|mac| mac.link_local().ip().octets());
        Self {
            v4: addresses().filter_map(octets_v4).collect(),
            v6: addresses().filter_map(octets_v6).chain(local).collect(),
            macs: macs.into_iter().map(|mac| mac.0).collect(),
        }
    }
}

/// A map from a type to what is done with it.
pub(super) struct Map {
    /// Its name.
    pub name: &'static [u8],
    /// What nft calls the type of its keys.
    pub kind: u32,
    /// What it leads where.
    pub leads: Vec<(Vec<u8>, DropKind)>,
}

/// What is done with what is dropped, in a chain of its own: it is counted by kind and, where `sums`, summed up.
pub(super) fn of_kind(kind: DropKind, sums: bool) -> Rule {
    let counted = count_with(&kind.key(), KINDS).into_iter();
    counted.chain(sums.then(|| sum_in(ALL))).chain([verdict(NF_DROP)]).collect()
}

/// The maps that the rules look into.
pub(super) fn maps(guard: &PortGuard) -> Vec<Map> {
    if guard.free {
        return Vec::new();
    }
    let messages = |router: &[u8], query: u8| {
        let asks = [(vec![query], DropKind::Querier)].into_iter().filter(|_| guard.routes.is_none());
        asks.chain(router.iter().map(|kind| (vec![*kind], DropKind::Router))).collect()
    };
    let types = TYPES.map(|(kind, why)| (kind.to_vec(), why)).into();
    let icmp = ROUTERS_ICMP.map(|kind| (vec![kind], DropKind::Router)).into();
    let mut maps = vec![
        Map { name: OF_TYPES, kind: ETHERTYPE, leads: types },
        Map { name: OF_ICMP, kind: ICMP_TYPE, leads: icmp },
        Map { name: OF_ICMPV6, kind: ICMPV6_TYPE, leads: messages(&ROUTERS_ICMPV6, MLD_QUERY) },
    ];
    if guard.routes.is_none() {
        maps.push(Map { name: OF_IGMP, kind: IGMP_TYPE, leads: messages(&ROUTERS_IGMP, IGMP_QUERY) });
    }
    maps
}

/// The rules, in an order in which what is sent most is looked at least. `hears`: whether there is [`HEARD`].
pub(super) fn of(guard: &PortGuard, hears: bool) -> Vec<Rule> {
    if guard.free {
        return if hears { all_heard(guard) } else { Vec::new() };
    }
    let own = Own::of(guard);
    let mut rules = vec![deny(DropKind::Mac, [none_of(bytes(Base::Link, 6, 6), &own.macs)])];
    rules.extend(own.v4.iter().map(|own| plain(from_v4(own), &[ICMP, IGMP, PIM])));
    rules.extend(own.v6.iter().map(|own| plain(from_v6(own), &[ICMPV6, PIM])));
    if hears {
        rules.extend(also_heard(guard));
    }
    rules.extend(arp(&own));
    if let Some(subnets) = &guard.routes {
        rules.extend(routed(subnets));
    }
    rules.extend(internet(&own.v4, guard.routes.is_some()));
    rules.extend(internet6(&own.v6, guard.routes.is_some(), hears));
    rules.push(vec![protocol(), led_by(OF_TYPES)]);
    rules.extend(link());
    rules
}

/// What is done with what is to be heard.
pub(super) fn heard(device: &str) -> Rule {
    vec![at_most(HEARD_PER_S, HEARD_AT_ONCE), log(GROUP, &[device.as_bytes(), b"\0"].concat(), COPIED)]
}

fn hear<T: IntoIterator<Item = Expression>>(tests: impl IntoIterator<Item = T>) -> Rule {
    tests.into_iter().flatten().chain([jump(HEARD)]).collect()
}

/// The rules for an endpoint that may send anything: what carries data is looked at least. What it asks with its own address, and
/// how it answers for that, is no news.
fn all_heard(guard: &PortGuard) -> Vec<Rule> {
    let mut rules = vec![allow([is(ETH_P_IP)])];
    for own in guard.addresses.iter().filter_map(octets_v4) {
        let of_another = [bytes(Base::Network, 24, 4), compare(Compare::Unequal, &own)];
        rules.push(allow([is(ETH_P_ARP), at(8, &guard.mac.0), at(14, &own), of_another]));
    }
    rules.push(hear([is(ETH_P_ARP)]));
    let local = guard.mac.link_local().ip().octets();
    for own in guard.addresses.iter().filter_map(octets_v6).chain([local]) {
        rules.push(allow(from_v6(&own).into_iter().chain([carries(ICMPV6), kind_of(SOLICITATION)])));
        let answer = [is(ETH_P_IPV6), carries(ICMPV6), kind_of(ADVERTISEMENT), target_is(&own)];
        rules.push(allow(answer.map(Vec::from).into_iter().chain([solicited()])));
    }
    for kind in [SOLICITATION, ADVERTISEMENT] {
        rules.push(hear([is(ETH_P_IPV6), carries(ICMPV6), kind_of(kind)]));
    }
    rules
}

/// That an advertisement answers a question.
fn solicited() -> Vec<Expression> {
    const SOLICITED: u8 = 0x40;
    vec![byte(Base::Transport, 4), masked_with([SOLICITED]), compare(Compare::Unequal, &[0])]
}

/// The rules by which is heard what an endpoint says of what it may have beside its own.
fn also_heard(guard: &PortGuard) -> Vec<Rule> {
    // And whether another has an address, which the bridge neither answers for other nodes nor asks there.
    let mut rules = vec![hear([is(ETH_P_ARP), at(14, &Ipv4Addr::UNSPECIFIED.octets())])];
    for address in &guard.also.addresses {
        if let Some(v4) = octets_v4(address) {
            rules.push(hear([is(ETH_P_ARP), at(14, &v4)]));
        }
        if let Some(v6) = octets_v6(address) {
            rules.push(hear([is(ETH_P_IPV6), carries(ICMPV6), kind_of(ADVERTISEMENT), target_is(&v6)]));
            rules.push(hear(from_v6(&v6).into_iter().chain([carries(ICMPV6), kind_of(SOLICITATION)])));
        }
    }
    rules
}

fn octets_v4(address: &IpAddr) -> Option<[u8; 4]> {
    match address {
        IpAddr::V4(v4) => Some(v4.octets()),
        IpAddr::V6(_) => None,
    }
}

fn octets_v6(address: &IpAddr) -> Option<[u8; 16]> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(v6.octets()),
    }
}

/// What is neither of the `others`, and shows what it is: nearly everything.
fn plain(from: [Test; 2], others: &[u8]) -> Rule {
    let mut rule: Rule = from.into_iter().flatten().chain([layer_4()]).collect();
    rule.extend(others.iter().map(|other| compare(Compare::Unequal, &[*other])));
    rule.push(verdict(NF_ACCEPT));
    rule
}

/// ARP for IPv4 over Ethernet (RFC 826), as sender the endpoint itself or nobody yet.
fn arp(own: &Own) -> Vec<Rule> {
    let sender = |address: &[u8; 4]| {
        allow([is(ETH_P_ARP), at(0, &[0, 1, ETH_P_IP[0], ETH_P_IP[1], 6, 4]), at(14, address)])
    };
    let of_another = [is(ETH_P_ARP).into(), none_of(bytes(Base::Network, 8, 6), &own.macs)];
    let senders = own.v4.iter().map(sender).chain([sender(&Ipv4Addr::UNSPECIFIED.octets())]);
    [deny(DropKind::Neighbour, of_another)].into_iter().chain(senders).collect()
}

/// What was sent elsewhere to a group, and is handed on here: not in the name of anybody in these subnets, and not to a group of
/// the link's own (RFC 5771 section 4, RFC 4291 section 2.7).
fn routed(subnets: &BTreeSet<IpNetwork>) -> [Rule; 2] {
    let from_elsewhere = |subnet: &IpNetwork| match subnet {
        IpNetwork::V4(v4) => vec![
            bytes(Base::Network, 12, 4),
            masked_with(v4.mask().octets()),
            compare(Compare::Unequal, &v4.network().octets()),
        ],
        IpNetwork::V6(v6) => vec![
            bytes(Base::Network, 8, 16),
            masked_with(v6.mask().octets()),
            compare(Compare::Unequal, &v6.network().octets()),
        ],
    };
    let elsewhere = |v4: bool| -> Vec<Expression> {
        subnets.iter().filter(|subnet| subnet.is_ipv4() == v4).flat_map(from_elsewhere).collect()
    };
    let plain = |others: &[u8]| -> Vec<Expression> {
        let others = others.iter().map(|other| compare(Compare::Unequal, &[*other]));
        [layer_4()].into_iter().chain(others).collect()
    };
    let to_group = vec![byte(Base::Network, 16), masked_with([0xf0]), compare(Compare::Equal, &[0xe0])];
    let beyond_link = vec![bytes(Base::Network, 16, 3), compare(Compare::Unequal, &[224, 0, 0])];
    let four = [is(ETH_P_IP).into(), to_group, beyond_link, elsewhere(true), plain(&[ICMP, IGMP, PIM])];
    let to_group = vec![byte(Base::Network, 24), compare(Compare::Equal, &[0xff])];
    let beyond_link = vec![byte(Base::Network, 25), masked_with([0x0f]), compare(Compare::AtLeast, &[3])];
    let six = [is(ETH_P_IPV6).into(), to_group, beyond_link, elsewhere(false), plain(&[ICMPV6, PIM])];
    [allow(four), allow(six)]
}

/// IPv4 that is not plain.
fn internet(own: &[[u8; 4]], routes: bool) -> Vec<Rule> {
    const DHCP_SERVER: [u8; 2] = 67_u16.to_be_bytes();
    let four = is(ETH_P_IP);
    let by_kind = |protocol, map| [four.clone(), carries(protocol), kind_leads(map)].concat();
    // Of later fragments the type is not seen, but that of the first is. Nobody sends IGMP in fragments.
    let later = [bytes(Base::Network, 6, 2), masked_with([0x1f, 0xff]), compare(Compare::Unequal, &[0; 2])];
    let fragment = |tests: Vec<Test>, then: Vec<Expression>| -> Rule {
        tests.into_iter().flatten().chain(later.clone()).chain(then).collect()
    };
    let mut rules: Vec<Rule> = own
        .iter()
        .map(|source| fragment([&from_v4(source)[..], &[carries(ICMP)]].concat(), vec![verdict(NF_ACCEPT)]))
        .collect();
    rules.push(fragment(vec![four.clone(), carries(IGMP)], dropped(DropKind::Hidden)));
    rules.push(by_kind(ICMP, OF_ICMP));
    if routes {
        rules.extend(own.iter().map(|source| allow(from_v4(source).into_iter().chain([carries(PIM)]))));
    } else {
        rules.push(by_kind(IGMP, OF_IGMP));
    }
    rules.push(deny(DropKind::Router, [four.clone(), carries(PIM)]));
    let nobody = Ipv4Addr::UNSPECIFIED.octets();
    for source in own.iter().chain([&nobody]) {
        // Only where the type is to be seen.
        let [protocol, from] = from_v4(source);
        let shown = [byte(Base::Transport, 0), verdict(NF_ACCEPT)];
        rules.push([protocol, from, carries(IGMP), shown].into_iter().flatten().collect());
    }
    rules.extend(own.iter().map(|source| allow(from_v4(source).into_iter().chain([carries(ICMP)]))));
    let port = [bytes(Base::Transport, 2, 2), compare(Compare::Equal, &DHCP_SERVER)];
    rules.push(allow(from_v4(&nobody).into_iter().chain([carries(UDP), port])));
    rules.extend(own.iter().map(|source| deny(DropKind::Hidden, from_v4(source))));
    rules.push(deny(DropKind::Address, [four]));
    rules
}

/// IPv6 that is not plain.
fn internet6(own: &[[u8; 16]], routes: bool, hears: bool) -> Vec<Rule> {
    let six = is(ETH_P_IPV6);
    let message = |kind: u8| [six.clone(), carries(ICMPV6), kind_of(kind)];
    // Later fragments, whose type is not seen, but that of the first is.
    let later = |source| {
        let from = from_v6(source).into_iter().chain([carries(ICMPV6)]).flatten();
        let place = [fragment_place(), masked_with([0xff, 0xf8]), compare(Compare::Unequal, &[0; 2])];
        from.chain(place).chain([verdict(NF_ACCEPT)]).collect::<Rule>()
    };
    let mut rules: Vec<Rule> = own.iter().map(later).collect();
    if routes {
        rules.extend(own.iter().map(|source| allow(from_v6(source).into_iter().chain([carries(PIM)]))));
    }
    rules.push([six.clone(), carries(ICMPV6), kind_leads(OF_ICMPV6)].concat());
    rules.push(deny(DropKind::Router, [six.clone(), carries(PIM)]));
    let discovery = [&carries(ICMPV6)[..], &[byte(Base::Transport, 0)], &between(133, 137)].concat();
    rules.push([six.to_vec(), discovery, vec![fragment_place()], dropped(DropKind::Fragment)].concat());
    let of_another = none_of(bytes(Base::Transport, 8, 16), own);
    let advertisement = message(ADVERTISEMENT).map(Vec::from).into_iter();
    rules.push(deny(DropKind::Neighbour, advertisement.chain([of_another])));
    for source in own {
        // Only where the type is to be seen.
        let shown = vec![byte(Base::Transport, 0), verdict(NF_ACCEPT)];
        let from = from_v6(source).into_iter().chain([carries(ICMPV6)]).flatten();
        rules.push(from.chain(shown).collect());
    }
    let nobody = || from_v6(&Ipv6Addr::UNSPECIFIED.octets()).into_iter().chain([carries(ICMPV6)]);
    // Reports and done of MLD (RFC 2710, RFC 3810), router solicitation.
    rules.extend([131, 132, 143, 133].map(|kind| allow(nobody().chain([kind_of(kind)]))));
    // Duplicate detection, of its own addresses: of another's it would keep the other from using it. Whether another has it
    // says whoever listens.
    if hears {
        rules.push(hear(nobody().chain([kind_of(SOLICITATION)])));
    }
    rules.extend(own.iter().map(|own| allow(nobody().chain([kind_of(SOLICITATION), target_is(own)]))));
    let discovery = [&[byte(Base::Transport, 0)], &between(SOLICITATION, ADVERTISEMENT)[..]].concat();
    rules.push(deny(DropKind::Neighbour, [six.to_vec(), carries(ICMPV6).into(), discovery]));
    rules.extend(own.iter().map(|source| deny(DropKind::Hidden, from_v6(source))));
    rules.push(deny(DropKind::Address, [six]));
    rules
}

/// What is between a device and its bridge, and what does not say its type as others do.
fn link() -> Vec<Rule> {
    let to = |group: &[u8; 6]| [bytes(Base::Link, 0, 6), compare(Compare::Equal, group)];
    let reserved = |group: &[u8; 6]| {
        let of = [bytes(Base::Link, 0, 6), masked_with([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0])];
        [&of[..], &[compare(Compare::Equal, group)]].concat()
    };
    let llc = || is(ETH_P_802_2);
    let mut rules = vec![
        deny(DropKind::SpanningTree, [llc(), [byte(Base::Network, 0), compare(Compare::Equal, &[BPDU])]]),
        deny(DropKind::SpanningTree, [llc(), to(&PVST)]),
        deny(DropKind::SpanningTree, [llc(), to(&LINK_GROUPS[0])]),
        deny(DropKind::Llc, [llc()]),
    ];
    rules.extend(LINK_GROUPS.iter().map(|group| [reserved(group), dropped(DropKind::LinkControl)].concat()));
    rules
}

fn allow<T: IntoIterator<Item = Expression>>(tests: impl IntoIterator<Item = T>) -> Rule {
    tests.into_iter().flatten().chain([verdict(NF_ACCEPT)]).collect()
}

fn deny<T: IntoIterator<Item = Expression>>(kind: DropKind, tests: impl IntoIterator<Item = T>) -> Rule {
    tests.into_iter().flatten().chain(dropped(kind)).collect()
}

/// What is loaded is none of these.
fn none_of<const N: usize>(loaded: Expression, these: &[[u8; N]]) -> Vec<Expression> {
    [loaded].into_iter().chain(these.iter().map(|one| compare(Compare::Unequal, one))).collect()
}

/// What a message of neighbour discovery is about (RFC 4861 sections 4.3 and 4.4).
fn target_is(address: &[u8; 16]) -> Test {
    [bytes(Base::Transport, 8, 16), compare(Compare::Equal, address)]
}

fn dropped(kind: DropKind) -> Vec<Expression> {
    vec![goto(&kind.chain())]
}

/// Where the type of a message leads.
fn kind_leads(map: &[u8]) -> Test {
    [byte(Base::Transport, 0), led_by(map)]
}

fn is(ethertype: [u8; 2]) -> Test {
    [protocol(), compare(Compare::Equal, &ethertype)]
}

fn from_v4(address: &[u8; 4]) -> [Test; 2] {
    [is(ETH_P_IP), at(12, address)]
}

fn from_v6(address: &[u8; 16]) -> [Test; 2] {
    [is(ETH_P_IPV6), at(8, address)]
}

/// What is behind the header of IP and its options or extensions.
fn carries(protocol: u8) -> Test {
    [layer_4(), compare(Compare::Equal, &[protocol])]
}

/// The type of ICMP, IGMP or ICMPv6.
fn kind_of(kind: u8) -> Test {
    [byte(Base::Transport, 0), compare(Compare::Equal, &[kind])]
}

fn between(least: u8, most: u8) -> Test {
    [compare(Compare::AtLeast, &[least]), compare(Compare::AtMost, &[most])]
}

/// The bytes of the network header from `offset` on.
fn at(offset: u32, value: &[u8]) -> Test {
    // At most sixteen.
    [bytes(Base::Network, offset, value.len() as u32), compare(Compare::Equal, value)]
}
