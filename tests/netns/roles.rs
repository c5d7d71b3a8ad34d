//! What an endpoint may not claim to be: querier, router, bridge, switch; and the ways to say so that a filter could
//! overlook. Each frame is sent as it is, and has to be dropped and counted as what it is.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use crate::harness::{Capture, Node, SOON, lab, need, wait_until};
use crate::spoofing::{
    ALL_NODES, BROADCAST, ICMPV6, IP, IPV6, Scene, TIMES, Who, arp, discovery, ethernet, group, inject, ipv6,
    udp,
};

const IGMP: u8 = 2;
const PIM: u8 = 103;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// The group of a spanning tree's bridges (IEEE 802.1D).
const BRIDGES: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0];

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A message with its checksum in its second pair of bytes.
fn summed(mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// IPv4 with options, a multiple of four bytes, and a place in a packet of fragments (RFC 791 section 3.1).
fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, options: &[u8], place: u16, body: &[u8]) -> Vec<u8> {
    let header = (20 + options.len()) as u8;
    let length = (usize::from(header) + body.len()) as u16;
    let mut bytes = vec![0x40 | (header / 4), 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0x4d, 0x4d]);
    bytes.extend(place.to_be_bytes());
    bytes.extend([1, protocol, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(options);
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum);
    [bytes, body.to_vec()].concat()
}

/// The header of a fragment (RFC 8200 section 4.5).
fn fragment(next: u8, place: u16, more: bool) -> [u8; 8] {
    let [a, b] = (place << 3 | u16::from(more)).to_be_bytes();
    [next, 0, a, b, 0, 0, 0, 9]
}

/// The router alert of IPv4 (RFC 2113), and of IPv6 in a hop-by-hop header (RFC 2711).
const ALERT: [u8; 4] = [0x94, 4, 0, 0];
const ALERT6: [u8; 8] = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// A frame with a length where others have their type, with 802.2 in it.
fn llc(to: [u8; 6], from: [u8; 6], body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().max(46), 0);
    ethernet(to, from, (body.len() as u16).to_be_bytes(), &body)
}

/// RFC 1042: an Ethernet type behind 802.2.
fn snap(from: [u8; 6], kind: [u8; 2], body: &[u8]) -> Vec<u8> {
    llc(BROADCAST, from, &[&[0xaa, 0xaa, 3, 0, 0, 0], &kind[..], body].concat())
}

/// Everything that `me` must not send, and how it is counted.
fn claims(me: Who, victim: Who) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let all: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
    let four = |packet: &[u8]| ethernet([1, 0, 0x5e, 0, 0, 1], me.mac, IP, packet);
    let own = |protocol, options: &[u8], place, body: &[u8]| {
        four(&ipv4(me.v4, all, protocol, options, place, body))
    };
    let six = |from: Ipv6Addr, next, body: &[u8]| {
        ethernet(group(ALL_NODES), me.mac, IPV6, &ipv6(from, ALL_NODES, next, body))
    };
    let local = |next, body: &[u8]| six(me.local, next, body);
    let tagged = |mut frame: Vec<u8>, tags: usize| {
        frame.splice(12..12, [0x81, 0, 0, 5].repeat(tags));
        frame
    };
    // Ten minutes for an answer (RFC 3376 section 4.1.1), from an address below that of the bridge.
    let query = summed(vec![0x11, 0xff, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]);
    let mld = [&[130, 0, 0, 0, 0xff, 0xff, 0, 0][..], &[0; 16], &[2, 125, 0, 0]].concat();
    let behind = |next: u8, body: &[u8]| [&[next, 0, 1, 4, 0, 0, 0, 0][..], body].concat();
    let advertisement = discovery(134, Ipv6Addr::UNSPECIFIED);
    let bpdu = [&[0x42, 0x42, 3][..], &[0; 35]].concat();
    let foreign = ipv4(victim.v4, Ipv4Addr::BROADCAST, UDP, &[], 0, &udp(5000));
    let too_long = {
        let mut packet = ipv4(me.v4, all, IGMP, &[], 0, &query);
        packet[2..4].copy_from_slice(&200_u16.to_be_bytes());
        packet
    };
    let igmp = |kind| summed(vec![kind, 0, 0, 0, 0, 0, 0, 0]);
    let mut found = vec![
        ("querier", "IGMP query", own(IGMP, &[], 0, &query)),
        ("querier", "IGMP query with the router alert", own(IGMP, &ALERT, 0, &query)),
        ("querier", "IGMP query of version 1", own(IGMP, &[], 0, &summed(vec![0x11, 0, 0, 0, 0, 0, 0, 0]))),
        (
            "querier",
            "IGMP query to one host",
            ethernet(victim.mac, me.mac, IP, &ipv4(me.v4, victim.v4, IGMP, &[], 0, &query)),
        ),
        ("querier", "the first fragment of an IGMP query", own(IGMP, &[], 0x2000, &query[..8])),
        (
            "querier",
            "IGMP query from no address",
            four(&ipv4(Ipv4Addr::UNSPECIFIED, all, IGMP, &ALERT, 0, &query)),
        ),
        ("querier", "IGMP query in a VLAN", tagged(own(IGMP, &ALERT, 0, &query), 1)),
        ("hidden", "a later fragment of IGMP", own(IGMP, &[], 1, &query)),
        ("querier", "MLD query", local(HOP_BY_HOP, &[&ALERT6[..], &mld].concat())),
        ("querier", "MLD query without the router alert", local(ICMPV6, &mld)),
        ("querier", "MLD query behind options", local(OPTIONS, &behind(ICMPV6, &mld))),
        (
            "querier",
            "MLD query in a fragment",
            local(FRAGMENT, &[&fragment(ICMPV6, 0, true)[..], &mld[..24]].concat()),
        ),
        ("router", "redirect", own(ICMP, &[], 0, &summed(vec![5, 1, 0, 0, 10, 0, 0, 1]))),
        ("router", "redirect behind options", own(ICMP, &ALERT, 0, &summed(vec![5, 1, 0, 0, 10, 0, 0, 1]))),
        ("router", "redirect in a fragment", own(ICMP, &[], 0x2000, &summed(vec![5, 1, 0, 0, 10, 0, 0, 1]))),
        ("router", "router advertisement of IPv4", own(ICMP, &[], 0, &summed(vec![9, 0, 0, 0, 1, 2, 0, 9]))),
        ("router", "DVMRP", own(IGMP, &[], 0, &igmp(0x13))),
        ("router", "PIM version 1", own(IGMP, &[], 0, &igmp(0x14))),
        ("router", "multicast router advertisement", own(IGMP, &ALERT, 0, &igmp(0x30))),
        ("router", "PIM hello", own(PIM, &[], 0, &summed(vec![0x20, 0, 0, 0, 0, 1, 0, 2, 0, 105]))),
        ("router", "PIM hello over IPv6", local(PIM, &summed(vec![0x20, 0, 0, 0, 0, 1, 0, 2, 0, 105]))),
        ("router", "router advertisement", local(ICMPV6, &advertisement)),
        ("router", "router advertisement behind options", local(OPTIONS, &behind(ICMPV6, &advertisement))),
        (
            "router",
            "router advertisement in fragments",
            local(FRAGMENT, &[&fragment(ICMPV6, 0, true)[..], &advertisement[..24]].concat()),
        ),
        ("router", "router advertisement in a VLAN", tagged(local(ICMPV6, &advertisement), 1)),
        ("router", "redirect of IPv6", local(ICMPV6, &discovery(137, victim.v6))),
        ("router", "router renumbering", local(ICMPV6, &discovery(138, victim.v6))),
        (
            "router",
            "multicast router advertisement of IPv6",
            local(HOP_BY_HOP, &[&ALERT6[..], &[151, 20, 0, 0, 0, 125, 0, 2]].concat()),
        ),
        // RFC 7112: what it is would be in the next fragment.
        (
            "hidden",
            "a fragment that ends before its type",
            local(FRAGMENT, &[&fragment(OPTIONS, 0, true)[..], &behind(ICMPV6, &[])].concat()),
        ),
        (
            "hidden",
            "the fragment behind it",
            local(FRAGMENT, &[&fragment(OPTIONS, 1, false)[..], &advertisement].concat()),
        ),
        ("hidden", "a packet that is shorter than it says", four(&too_long)),
        (
            "fragment",
            "neighbour advertisement in fragments",
            local(FRAGMENT, &[&fragment(ICMPV6, 0, true)[..], &discovery(136, me.local)[..24]].concat()),
        ),
        (
            "fragment",
            "neighbour solicitation in one fragment",
            local(FRAGMENT, &[&fragment(ICMPV6, 0, false)[..], &discovery(135, victim.v6)].concat()),
        ),
        ("neighbour", "ARP for another", ethernet(BROADCAST, me.mac, [8, 6], &arp(me.mac, victim.v4, me.v4))),
        ("neighbour", "advertisement of another", local(ICMPV6, &discovery(136, victim.v6))),
        ("spanning_tree", "BPDU", llc(BRIDGES, me.mac, &bpdu)),
        ("spanning_tree", "BPDU to a host", llc(victim.mac, me.mac, &bpdu)),
        ("spanning_tree", "BPDU in a VLAN", tagged(llc(BRIDGES, me.mac, &bpdu), 1)),
        (
            "spanning_tree",
            "BPDU of a VLAN's own tree",
            llc(
                [1, 0, 0xc, 0xcc, 0xcc, 0xcd],
                me.mac,
                &[&[0xaa, 0xaa, 3, 0, 0, 0xc, 1, 0xb][..], &[0; 35]].concat(),
            ),
        ),
        ("lldp", "LLDP", ethernet([1, 0x80, 0xc2, 0, 0, 0xe], me.mac, [0x88, 0xcc], &[0; 50])),
        ("lldp", "LLDP to everybody", ethernet(BROADCAST, me.mac, [0x88, 0xcc], &[0; 50])),
        ("dot1x", "EAPOL", ethernet([1, 0x80, 0xc2, 0, 0, 3], me.mac, [0x88, 0x8e], &[0; 50])),
        ("dot1x", "EAPOL to a host", ethernet(victim.mac, me.mac, [0x88, 0x8e], &[0; 50])),
        ("link_control", "LACP", ethernet([1, 0x80, 0xc2, 0, 0, 2], me.mac, [0x88, 9], &[1; 50])),
        ("link_control", "pause", ethernet([1, 0x80, 0xc2, 0, 0, 1], me.mac, [0x88, 8], &[0; 50])),
        ("link_control", "MVRP", ethernet([1, 0x80, 0xc2, 0, 0, 0x21], me.mac, [0x88, 0xf5], &[0; 50])),
        (
            "link_control",
            "something to a bridge's own group",
            ethernet([1, 0x80, 0xc2, 0, 0, 0xd], me.mac, [0x88, 0xb5], &[0; 50]),
        ),
        ("llc", "IPv4 from another in 802.2", snap(me.mac, IP, &foreign)),
        ("llc", "ARP for another in 802.2", snap(me.mac, [8, 6], &arp(me.mac, victim.v4, me.v4))),
        (
            "llc",
            "router advertisement in 802.2",
            snap(me.mac, IPV6, &ipv6(me.local, ALL_NODES, ICMPV6, &advertisement)),
        ),
        ("llc", "a frame without 802.2", llc(BROADCAST, me.mac, &[0xff; 46])),
        ("tagged", "two tags", tagged(local(ICMPV6, &advertisement), 2)),
        ("address", "from another", ethernet(BROADCAST, me.mac, IP, &foreign)),
        ("mac", "from another MAC", ethernet(BROADCAST, victim.mac, [0x88, 0xb5], &[0; 50])),
    ];
    // The same with an outer tag of the other kind (IEEE 802.1ad).
    let mut provider = tagged(local(ICMPV6, &advertisement), 2);
    provider[12..14].copy_from_slice(&[0x88, 0xa8]);
    found.push(("tagged", "a provider's tag and another", provider));
    found
}

/// What a host says in the same protocols, and every host may.
fn legal(me: Who) -> Vec<(&'static str, Vec<u8>)> {
    let groups = Ipv4Addr::new(239, 9, 9, 9);
    let four = |protocol, options: &[u8], place, body: &[u8]| {
        ethernet([1, 0, 0x5e, 9, 9, 9], me.mac, IP, &ipv4(me.v4, groups, protocol, options, place, body))
    };
    let six =
        |next, body: &[u8]| ethernet(group(ALL_NODES), me.mac, IPV6, &ipv6(me.local, ALL_NODES, next, body));
    let igmp = |kind: u8| summed(vec![kind, 0, 0, 0, 239, 9, 9, 9]);
    let mld = |kind: u8| [&ALERT6[..], &[kind, 0, 0, 0, 0, 0, 0, 0], &[0; 16]].concat();
    let echo = summed([&[8, 0, 0, 0][..], &[7; 28]].concat());
    let echo6 = [&[128, 0, 0, 0][..], &[7; 28]].concat();
    let mut found = vec![
        ("a ping", four(ICMP, &[], 0, &echo)),
        ("a ping with an option", four(ICMP, &ALERT, 0, &echo)),
        ("the first part of a ping", four(ICMP, &[], 0x2000, &echo)),
        ("the second part of a datagram", four(UDP, &[], 4, &echo)),
        ("a ping over IPv6", six(ICMPV6, &echo6)),
        ("a ping behind options", six(OPTIONS, &[&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &echo6].concat())),
        (
            "the first part of a ping over IPv6",
            six(FRAGMENT, &[&fragment(ICMPV6, 0, true)[..], &echo6].concat()),
        ),
        ("a solicitation", six(ICMPV6, &discovery(135, me.v6))),
        ("an advertisement", six(ICMPV6, &discovery(136, me.v6))),
        ("a router solicitation", six(ICMPV6, &discovery(133, Ipv6Addr::UNSPECIFIED))),
        ("another protocol", ethernet(BROADCAST, me.mac, [0x88, 0xb5], &[0; 50])),
    ];
    found.extend(
        [0x12, 0x16, 0x17, 0x22].map(|kind| ("a report of IGMP", four(IGMP, &ALERT, 0, &igmp(kind)))),
    );
    found.extend([131, 132, 143].map(|kind| ("a report of MLD", six(HOP_BY_HOP, &mld(kind)))));
    found
}

/// What was dropped at all ports of a node, by kind.
fn dropped(node: &Node) -> BTreeMap<String, u64> {
    // What was counted a moment ago may be answered: it says how old it is. To count takes a moment itself.
    const COUNTING: u64 = 50;
    let begin = Instant::now();
    let status = wait_until("counted after this was asked", SOON, || {
        let waited = begin.elapsed().as_millis();
        let status = node.lanmesh(["status", "--json"]).json();
        match status["age_ms"].as_u64() {
            Some(age) if u128::from(age + COUNTING) <= waited => Ok(status),
            _ => Err(status.to_string()),
        }
    });
    let counters = status["counters"].as_object().expect("it counts");
    let ports = counters
        .iter()
        .filter_map(|(name, count)| Some((name.strip_prefix("port_dropped_")?, count.as_u64()?)));
    ports.map(|(kind, count)| (kind.to_owned(), count)).collect()
}

#[test]
fn a_role_that_is_the_networks_own_ends_at_the_port_and_is_counted_as_what_it_is() {
    need!("python3", "tcpdump");
    let scene = Scene::set(lab!(2).cluster(), &[]);
    let node = scene.lab.node(1);
    let [evil, victim, _] = scene.who;
    let mac: Vec<String> = evil.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let seen = format!(
        "ether src {} and (llc or ip proto 103 or ip6 proto 103 or (ip proto 2 and ip[20] = 0x11) or ether proto 0x88cc or \
         ether proto 0x888e or ether proto 0x8809 or ether proto 0x8808 or ether proto 0x88f5 or ip6[6] = 44 or \
         (icmp6 and ip6[40] = 134) or vlan)",
        mac.join(":")
    );
    let listening = scene.others.each_ref().map(|other| Capture::within(other, "eth0", &seen));
    let mut counted = dropped(node);
    for (kind, what, frame) in claims(evil, victim) {
        inject(&scene.evil, &frame);
        *counted.get_mut(kind).unwrap_or_else(|| panic!("{kind} is not counted")) += TIMES;
        assert_eq!(dropped(node), counted, "{what}, as {kind}");
    }
    assert_eq!(listening.map(Capture::count), [0, 0], "frames that somebody got");
    for (what, frame) in legal(evil) {
        inject(&scene.evil, &frame);
        assert_eq!(dropped(node), counted, "{what} is no claim");
    }
    // Of which endpoint, too.
    let list = node.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let found = list.as_array().expect("a list").iter().find(|endpoint| endpoint["name"] == "evil").cloned();
    let found = found.expect("it is attached");
    assert_eq!(found["dropped"]["querier"].as_u64(), counted.get("querier").copied(), "{found}");
    assert_eq!(found["spoofed"].as_u64(), Some(counted.values().sum()), "{found}");
}
