//! Keeps off the VXLAN device what concerns one node alone: IGMP and MLD, since each bridge asks its own members,
//! and questions of neighbour discovery, which the own bridge answers.
//!
//! A snooping bridge sends multicast to its router ports without a look at `neigh_suppress`, so an IPv6 neighbour
//! solicitation would go to every node. Those for link-local addresses pass: these are known to nobody beforehand.
//! Their duplicate detection does not: a MAC is unique in its network, so what is made of it is too.
//! Where mDNS is to stay on its node, what is sent to its groups does, whatever it is.
//!
//! A table of nf_tables in the network's namespace, with one chain at the device's egress (kernel 5.16). The
//! messages are those of linux/netfilter/nf_tables.h; no program is needed.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_core::NLM_F_REQUEST;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::links::VXLAN;
use super::raw::{self, Message, attribute, nested};

const TABLE: &[u8] = b"lanmesh\0";
/// The chain that lets mDNS pass.
const CHAIN: &[u8] = b"egress\0";
/// The chain that does not. The name tells which one is there.
const CHAIN_WITHOUT_MDNS: &[u8] = b"egress-no-mdns\0";

const NFPROTO_NETDEV: u8 = 5;
const NF_NETDEV_EGRESS: u32 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_NEWRULE: u16 = 6;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;

/// Where a byte of a packet is looked for.
#[derive(Clone, Copy)]
enum Base {
    Link = 0,
    Network = 1,
}

#[derive(Clone, Copy)]
enum Compare {
    Equal = 0,
    Unequal = 1,
    AtMost = 3,
    AtLeast = 5,
}

fn chain_name(mdns: bool) -> &'static [u8] {
    if mdns { CHAIN } else { CHAIN_WITHOUT_MDNS }
}

/// Puts the filter on the VXLAN device of the calling thread's namespace, in the place of one that is there.
/// `mdns`: whether mDNS may pass. Blocks. The answer is the kernel's refusal, if any.
pub(super) fn put(mdns: bool) -> io::Result<Option<Errno>> {
    let hook = nested(
        4,
        &[
            attribute(1, &NF_NETDEV_EGRESS.to_be_bytes()),
            attribute(2, &0_u32.to_be_bytes()),
            attribute(3, &[VXLAN.as_bytes(), b"\0"].concat()),
        ],
    );
    let table = attribute(1, TABLE);
    let name = chain_name(mdns);
    let chain = [attribute(1, TABLE), attribute(3, name), hook, attribute(7, b"filter\0")].concat();
    // Made, removed and made again in one transaction: whatever was there, afterwards it is exactly this.
    let mut messages = vec![
        batch(NFNL_MSG_BATCH_BEGIN),
        nft(NFT_MSG_NEWTABLE, NLM_F_CREATE, &table),
        nft(NFT_MSG_DELTABLE, 0, &table),
        nft(NFT_MSG_NEWTABLE, NLM_F_CREATE, &table),
        nft(NFT_MSG_NEWCHAIN, NLM_F_CREATE, &chain),
    ];
    messages.extend(rules(mdns).iter().map(|expressions| {
        let rule = [attribute(1, TABLE), attribute(2, name), nested(4, expressions)].concat();
        nft(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &rule)
    }));
    messages.push(batch(NFNL_MSG_BATCH_END));
    raw::exchange(NETLINK_NETFILTER, &messages)
}

/// Whether the filter that is there lets mDNS pass; `None` where there is none in the calling thread's namespace.
/// Blocks.
pub(super) fn find() -> io::Result<Option<bool>> {
    for mdns in [true, false] {
        let chain = [attribute(1, TABLE), attribute(3, chain_name(mdns))].concat();
        let body = [header(0), chain].concat();
        let message = Message { kind: NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, flags: 0, body };
        if raw::ask(NETLINK_NETFILTER, &message)?.is_none() {
            return Ok(Some(mdns));
        }
    }
    Ok(None)
}

/// The rules, each as its expressions.
fn rules(mdns: bool) -> Vec<Vec<Vec<u8>>> {
    /// The lowest bit of a MAC's first byte: of a group (IEEE 802.3).
    const GROUP_BIT: u8 = 1;
    const ETH_P_IP: [u8; 2] = [0x08, 0x00];
    const ETH_P_IPV6: [u8; 2] = [0x86, 0xdd];
    /// The groups of mDNS (RFC 6762 section 3), which nothing else uses.
    const MDNS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
    const MDNS6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
    const IGMP: u8 = 2;
    const HOP_BY_HOP: u8 = 0;
    const ICMPV6: u8 = 58;
    const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// The first byte of fe80::/10.
    const LINK_LOCAL: u8 = 0xfe;
    // MLD comes with a hop-by-hop header of eight bytes, the router alert (RFC 3810 section 5).
    let mld = |kinds: [Vec<u8>; 2]| {
        let [from, to] = kinds;
        vec![
            protocol(),
            compare(Compare::Equal, &ETH_P_IPV6),
            byte(Base::Network, 6),
            compare(Compare::Equal, &[HOP_BY_HOP]),
            byte(Base::Network, 40),
            compare(Compare::Equal, &[ICMPV6]),
            byte(Base::Network, 48),
            from,
            to,
            verdict(NF_DROP),
        ]
    };
    // Type 135 of ICMPv6 (RFC 4861 section 4.3): the sender is at 8, the target behind eight bytes of ICMPv6.
    let solicitation = |concerns: [Vec<u8>; 2]| {
        let [load, compared] = concerns;
        vec![
            protocol(),
            compare(Compare::Equal, &ETH_P_IPV6),
            byte(Base::Network, 6),
            compare(Compare::Equal, &[ICMPV6]),
            byte(Base::Network, 40),
            compare(Compare::Equal, &[NEIGHBOUR_SOLICITATION]),
            load,
            compared,
            verdict(NF_DROP),
        ]
    };
    let mut rules = vec![
        // First what is most: it costs unicast one look.
        vec![byte(Base::Link, 0), masked(GROUP_BIT), compare(Compare::Equal, &[0]), verdict(NF_ACCEPT)],
        vec![
            protocol(),
            compare(Compare::Equal, &ETH_P_IP),
            byte(Base::Network, 9),
            compare(Compare::Equal, &[IGMP]),
            verdict(NF_DROP),
        ],
        // Query, report and done of MLDv1, and the query of MLDv2.
        mld([compare(Compare::AtLeast, &[130]), compare(Compare::AtMost, &[132])]),
        // Report of MLDv2.
        mld([compare(Compare::AtLeast, &[143]), compare(Compare::AtMost, &[143])]),
        // Of duplicate detection: from no address.
        solicitation([bytes(Base::Network, 8, 16), compare(Compare::Equal, &[0; 16])]),
        // For an address of the network.
        solicitation([byte(Base::Network, 48), compare(Compare::Unequal, &[LINK_LOCAL])]),
    ];
    if !mdns {
        // By the group alone: the later fragments of a datagram have no port.
        rules.push(vec![
            protocol(),
            compare(Compare::Equal, &ETH_P_IP),
            bytes(Base::Network, 16, 4),
            compare(Compare::Equal, &MDNS.octets()),
            verdict(NF_DROP),
        ]);
        rules.push(vec![
            protocol(),
            compare(Compare::Equal, &ETH_P_IPV6),
            bytes(Base::Network, 24, 16),
            compare(Compare::Equal, &MDNS6.octets()),
            verdict(NF_DROP),
        ]);
    }
    rules
}

fn expression(name: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[attribute(1, name), nested(2, attributes)])
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// Loads the packet's protocol (EtherType).
fn protocol() -> Vec<u8> {
    const NFT_META_PROTOCOL: u32 = 1;
    expression(b"meta\0", &[number(2, NFT_META_PROTOCOL), number(1, REGISTER)])
}

/// Loads one byte of the packet.
fn byte(base: Base, offset: u32) -> Vec<u8> {
    bytes(base, offset, 1)
}

/// Loads at most sixteen bytes of the packet, which is what a register holds.
fn bytes(base: Base, offset: u32, count: u32) -> Vec<u8> {
    let from = [number(1, REGISTER), number(2, base as u32), number(3, offset), number(4, count)];
    expression(b"payload\0", &from)
}

/// Keeps only the bits of `mask` of the byte that was loaded.
fn masked(mask: u8) -> Vec<u8> {
    expression(
        b"bitwise\0",
        &[
            number(1, REGISTER),
            number(2, REGISTER),
            number(3, 1),
            nested(4, &[attribute(1, &[mask])]),
            nested(5, &[attribute(1, &[0])]),
        ],
    )
}

/// Goes on only if what was loaded compares with `value`.
fn compare(how: Compare, value: &[u8]) -> Vec<u8> {
    expression(b"cmp\0", &[number(1, REGISTER), number(2, how as u32), nested(3, &[attribute(1, value)])])
}

fn verdict(code: u32) -> Vec<u8> {
    let verdict = nested(2, &[number(1, code)]);
    expression(b"immediate\0", &[number(1, REGISTER_VERDICT), nested(2, &[verdict])])
}

/// struct nfgenmsg: family, version, resource.
fn header(resource: u16) -> Vec<u8> {
    [[NFPROTO_NETDEV, 0], resource.to_be_bytes()].concat()
}

fn nft(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let body = [header(0), attributes.to_vec()].concat();
    let message = Message { kind: NFNL_SUBSYS_NFTABLES << 8 | kind, flags, body };
    message.bytes(NLM_F_REQUEST | NLM_F_ACK, 0)
}

fn batch(kind: u16) -> Vec<u8> {
    Message { kind, flags: 0, body: header(NFNL_SUBSYS_NFTABLES) }.bytes(NLM_F_REQUEST, 0)
}
