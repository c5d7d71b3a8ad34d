//! Keeps an endpoint to its own addresses: what it sends with another MAC or address is dropped and counted where it
//! comes in, at the ingress of our end of its veth pair, before the bridge sees it.
//!
//! What may pass: IPv4 from its addresses; IPv6 from its addresses and from the link-local one that follows from its
//! MAC; ARP that says of its own addresses, or asks for whom (RFC 5227), with its own MAC; neighbour advertisements of
//! these addresses alone; and what is sent before there is an address: DHCP, IGMP, duplicate detection of its own
//! addresses, MLD, router solicitations. Never router advertisements and redirects: the network has no other router.
//! Frames of other protocols pass, from its own MAC.
//!
//! Each port has a table of nf_tables of its own, named like the device, so that it comes and goes whole. The table
//! carries a number that follows from the rules, by which it is seen whether they are right.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::nft::{
    self, Base, Compare, ETH_P_IP, ETH_P_IPV6, Expression, Family, NF_ACCEPT, NF_DROP, byte, bytes, compare,
    count, layer_4, protocol, verdict,
};
use super::raw::{self, attribute, nested, within};
use crate::model::Mac;
use crate::plan::{PortGuard, PortName};

const NFT_MSG_GETTABLE: u16 = 1;
const CHAIN: &[u8] = b"ingress\0";
const NF_NETDEV_INGRESS: u32 = 0;

const ETH_P_ARP: [u8; 2] = [0x08, 0x06];
/// Frames with two tags: the kernel takes one off before the rules.
const ETH_P_8021Q: [u8; 2] = [0x81, 0x00];
const ETH_P_8021AD: [u8; 2] = [0x88, 0xa8];

const IGMP: u8 = 2;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

type Rule = Vec<Expression>;

/// Puts the rules for the endpoint behind `device` in the place of those that are there, in the calling thread's
/// namespace. Blocks. The answer is the kernel's refusal, if any.
pub(super) fn put(device: &str, guard: &PortGuard) -> io::Result<Option<Errno>> {
    let name = named(device);
    let hook = nested(
        4,
        &[
            nft::number(1, NF_NETDEV_INGRESS),
            nft::number(2, 0),
            attribute(3, &[device.as_bytes(), b"\0"].concat()),
        ],
    );
    let chain = [name.clone(), attribute(3, CHAIN), hook, attribute(7, b"filter\0")].concat();
    let mut content = vec![nft::make(nft::NFT_MSG_NEWCHAIN, &chain)];
    content.extend(rules(guard).iter().map(|expressions| {
        let rule = [name.clone(), attribute(2, CHAIN), nested(4, expressions)].concat();
        nft::append(nft::NFT_MSG_NEWRULE, &rule)
    }));
    Family::Netdev.put_table(&name, &guard.fingerprint().to_be_bytes(), content)
}

/// Takes the rules of a port away; none that are there are no error. Blocks.
pub(super) fn remove(device: &str) -> io::Result<()> {
    // To be refused for what is not there takes as long as to remove what is.
    let asked = raw::ask(NETLINK_NETFILTER, &nft::question(NFT_MSG_GETTABLE, &named(device)))?;
    if asked == Some(Errno::ENOENT) {
        return Ok(());
    }
    let changes = [nft::remove(nft::NFT_MSG_DELTABLE, &named(device))];
    match raw::exchange(NETLINK_NETFILTER, &nft::transaction(changes))? {
        None | Some(Errno::ENOENT) => Ok(()),
        Some(errno) => Err(errno.into()),
    }
}

/// The ports that have rules in the calling thread's namespace, with the number of each. Blocks.
pub(super) fn list() -> io::Result<BTreeMap<PortName, u64>> {
    let found = raw::dump(
        NETLINK_NETFILTER,
        &nft::question(NFT_MSG_GETTABLE, &[]),
        &[nft::answer(nft::NFT_MSG_NEWTABLE)],
    )?;
    let table = |message: &Vec<u8>| {
        let number = within(message.get(4..)?, 6).and_then(|value| value.first_chunk());
        // One that we cannot read is wrong, and made anew.
        Some((port(message, 1)?, number.map_or(0, |number| u64::from_be_bytes(*number))))
    };
    Ok(found.iter().filter_map(table).collect())
}

/// How many packets of each port were dropped since its rules were made. Blocks.
pub(super) fn dropped() -> io::Result<BTreeMap<PortName, u64>> {
    const NFT_MSG_GETRULE: u16 = 7;
    let found = raw::dump(
        NETLINK_NETFILTER,
        &nft::question(NFT_MSG_GETRULE, &[]),
        &[nft::answer(nft::NFT_MSG_NEWRULE)],
    )?;
    let mut dropped = BTreeMap::new();
    for message in &found {
        if let Some(port) = port(message, 1) {
            *dropped.entry(port).or_default() += nft::counted(message).unwrap_or(0);
        }
    }
    Ok(dropped)
}

fn named(device: &str) -> Vec<u8> {
    attribute(1, &[device.as_bytes(), b"\0"].concat())
}

/// The port after which the table is named that an attribute behind struct nfgenmsg names.
fn port(message: &[u8], kind: u16) -> Option<PortName> {
    let name = within(message.get(4..)?, kind)?;
    PortName::recognise(std::str::from_utf8(name.strip_suffix(b"\0")?).ok()?)
}

/// The rules, in an order in which what is sent most is looked at least.
fn rules(guard: &PortGuard) -> Vec<Rule> {
    let v4: Vec<[u8; 4]> = guard.addresses.iter().filter_map(octets_v4).collect();
    let mut v6: Vec<[u8; 16]> = guard.addresses.iter().filter_map(octets_v6).collect();
    v6.push(guard.mac.link_local().ip().octets());
    let mut rules = vec![vec![
        bytes(Base::Link, 6, 6),
        compare(Compare::Unequal, &guard.mac.0),
        count(),
        verdict(NF_DROP),
    ]];
    rules.extend(v4.iter().map(|address| allow([is(ETH_P_IP), at(12, address)])));
    for address in &v6 {
        rules.extend(from_v6(address, &v6));
    }
    rules.extend(arp(&guard.mac, &v4));
    rules.extend(before_there_is_an_address(&v6));
    for protocol in [ETH_P_IP, ETH_P_IPV6, ETH_P_ARP, ETH_P_8021Q, ETH_P_8021AD] {
        rules.push([is(protocol).to_vec(), vec![count(), verdict(NF_DROP)]].concat());
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

/// What may come from an IPv6 address of the endpoint, all of which are `own`.
fn from_v6(address: &[u8; 16], own: &[[u8; 16]]) -> Vec<Rule> {
    let source = || [is(ETH_P_IPV6), at(8, address)];
    // Behind whatever extension headers.
    let message = |kind| [[layer_4(), compare(Compare::Equal, &[ICMPV6])], [byte(Base::Transport, 0), kind]];
    let mut rules = vec![
        allow(source().into_iter().chain([[layer_4(), compare(Compare::Unequal, &[ICMPV6])]])),
        // Of a fragment the type is not seen; neighbour discovery in fragments is taken by nobody (RFC 6980).
        allow(source().into_iter().chain([[byte(Base::Network, 6), compare(Compare::Equal, &[FRAGMENT])]])),
    ];
    // All but router advertisement (134), neighbour advertisement (136) and redirect (137), RFC 4861 section 4.
    for kind in [
        compare(Compare::AtMost, &[133]),
        compare(Compare::Equal, &[SOLICITATION]),
        compare(Compare::AtLeast, &[138]),
    ] {
        rules.push(allow(source().into_iter().chain(message(kind))));
    }
    for target in own {
        let target = [bytes(Base::Transport, 8, 16), compare(Compare::Equal, target)];
        let advertised = message(compare(Compare::Equal, &[ADVERTISEMENT]));
        rules.push(allow(source().into_iter().chain(advertised).chain([target])));
    }
    rules
}

/// ARP for IPv4 over Ethernet (RFC 826), as sender the endpoint itself or nobody yet.
fn arp(mac: &Mac, own: &[[u8; 4]]) -> Vec<Rule> {
    let sender = |address: &[u8; 4]| {
        allow([is(ETH_P_ARP), at(0, &[0, 1, ETH_P_IP[0], ETH_P_IP[1], 6, 4]), at(8, &mac.0), at(14, address)])
    };
    own.iter().map(sender).chain([sender(&Ipv4Addr::UNSPECIFIED.octets())]).collect()
}

fn before_there_is_an_address(own: &[[u8; 16]]) -> Vec<Rule> {
    const DHCP_SERVER: [u8; 2] = 67_u16.to_be_bytes();
    let nobody_v4 = || [is(ETH_P_IP), at(12, &Ipv4Addr::UNSPECIFIED.octets())];
    let nobody_v6 = |kind: u8| {
        let icmp = [layer_4(), compare(Compare::Equal, &[ICMPV6])];
        let kind = [byte(Base::Transport, 0), compare(Compare::Equal, &[kind])];
        [is(ETH_P_IPV6), at(8, &Ipv6Addr::UNSPECIFIED.octets()), icmp, kind]
    };
    let udp = [layer_4(), compare(Compare::Equal, &[UDP])];
    let port = [bytes(Base::Transport, 2, 2), compare(Compare::Equal, &DHCP_SERVER)];
    let mut rules = vec![
        allow(nobody_v4().into_iter().chain([udp, port])),
        allow(nobody_v4().into_iter().chain([[layer_4(), compare(Compare::Equal, &[IGMP])]])),
    ];
    // Reports and done of MLD (RFC 2710, RFC 3810), router solicitation.
    rules.extend([131, 132, 143, 133].map(|kind| allow(nobody_v6(kind))));
    // Duplicate detection, of its own addresses: of another's it would keep the other from using it.
    rules.extend(own.iter().map(|address| {
        let target = [bytes(Base::Transport, 8, 16), compare(Compare::Equal, address)];
        allow(nobody_v6(SOLICITATION).into_iter().chain([target]))
    }));
    rules
}

fn allow(conditions: impl IntoIterator<Item = [Expression; 2]>) -> Rule {
    conditions.into_iter().flatten().chain([verdict(NF_ACCEPT)]).collect()
}

fn is(ethertype: [u8; 2]) -> [Expression; 2] {
    [protocol(), compare(Compare::Equal, &ethertype)]
}

/// The bytes of the network header from `offset` on.
fn at(offset: u32, value: &[u8]) -> [Expression; 2] {
    // At most sixteen.
    [bytes(Base::Network, offset, value.len() as u32), compare(Compare::Equal, value)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_rules_and_broken_messages_passed_over() {
        let counter = [attribute(1, &700_u64.to_be_bytes()), attribute(2, &7_u64.to_be_bytes())];
        let expressions =
            [protocol(), nested(1, &[attribute(1, b"counter\0"), nested(2, &counter)]), verdict(NF_DROP)];
        let device = "lm0123456789abc";
        let message =
            [vec![5, 0, 0, 0], named(device), attribute(2, CHAIN), nested(4, &expressions)].concat();
        assert_eq!(port(&message, 1).map(|port| port.to_string()), Some(device.to_owned()));
        assert_eq!(nft::counted(&message), Some(7));
        for end in 0..message.len() {
            let _ = (port(&message[..end], 1), nft::counted(&message[..end]));
        }
    }
}
