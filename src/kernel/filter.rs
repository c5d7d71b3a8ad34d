//! Keeps off the VXLAN device what concerns one node alone: IGMP and MLD, since each bridge asks its own members,
//! and questions of neighbour discovery, which the own bridge answers.
//!
//! A snooping bridge sends multicast to its router ports without a look at `neigh_suppress`, so an IPv6 neighbour
//! solicitation would go to every node. Those for link-local addresses pass: these are known to nobody beforehand.
//! Their duplicate detection does not: a MAC is unique in its network, so what is made of it is too.
//! Where mDNS is to stay on its node, what is sent to its groups does, whatever it is; elsewhere what the agent has
//! marked as meant for its own endpoints.
//!
//! A table of nf_tables in the network's namespace, with a chain at the device's egress (kernel 5.16) and one at its
//! ingress. What passes them to a group is counted there ([`counts`]). What leaves gets a priority by which the guard of the
//! underlay knows it ([`SENT_BY_US`]).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::counts::{self, Direction, TABLE};
use super::links::VXLAN;
use super::nft::{
    self, Base, Compare, ETH_P_IP, ETH_P_IPV6, Expression, Family, NF_ACCEPT, NF_DROP, byte, bytes, compare,
    mark, masked, priority, protocol, replaced_with, set_priority, verdict,
};
use super::raw::{self, attribute, nested};

/// What carries this mark (SO_MARK of socket(7)) stays on its node. Marks do not pass from one namespace to another, so
/// no endpoint can set it.
pub const STAYS_MARK: u32 = 0x6c61_6e6d;
/// The priority of a packet that a VXLAN device of ours sends, but for its lowest four bits, which stay what they were: they
/// choose the band of a queue. It stays with the packet in its encapsulation, from one namespace to the other, where the
/// sender's socket may stay with it too. No user gives it to a packet of his: from 7 on that takes CAP_NET_ADMIN (SO_PRIORITY
/// of socket(7)).
pub const SENT_BY_US: u32 = 0x6c61_6e00;
/// The bits of a priority that are the sender's.
pub const BAND: u32 = 0xf;
/// The chain that lets mDNS out. Earlier releases had one named "egress", which knows no mark, and one named "egress-mdns", which
/// gives no priority.
const EGRESS: &[u8] = b"sent-mdns\0";
/// The chain that does not. The name tells which one is there.
const EGRESS_WITHOUT_MDNS: &[u8] = b"sent-no-mdns\0";
const INGRESS: &[u8] = b"ingress\0";
const NF_NETDEV_INGRESS: u32 = 0;
const NF_NETDEV_EGRESS: u32 = 1;

fn egress_name(mdns: bool) -> &'static [u8] {
    if mdns { EGRESS } else { EGRESS_WITHOUT_MDNS }
}

/// Puts the filter on the VXLAN device of the calling thread's namespace, in the place of one that is there.
/// `mdns`: whether mDNS may pass. Blocks. The answer is the kernel's refusal, if any.
pub(super) fn put(mdns: bool) -> io::Result<Option<Errno>> {
    let mut content: Vec<_> = counts::sets().collect();
    for (name, hook, rules) in
        [(egress_name(mdns), NF_NETDEV_EGRESS, egress(mdns)), (INGRESS, NF_NETDEV_INGRESS, ingress())]
    {
        content.push(nft::make(nft::NFT_MSG_NEWCHAIN, &chain(name, hook)));
        content.extend(rules.iter().map(|expressions| {
            let rule = [attribute(1, TABLE), attribute(2, name), nested(4, expressions)].concat();
            nft::append(nft::NFT_MSG_NEWRULE, &rule)
        }));
    }
    Family::Netdev.put_table(&attribute(1, TABLE), b"", content)
}

/// A chain of the VXLAN device.
fn chain(name: &[u8], hook: u32) -> Vec<u8> {
    let device = [VXLAN.as_bytes(), b"\0"].concat();
    let hook = nested(4, &[nft::number(1, hook), nft::number(2, 0), attribute(3, &device)]);
    [attribute(1, TABLE), attribute(3, name), hook, attribute(7, b"filter\0")].concat()
}

/// Whether the filter that is there lets mDNS pass; `None` where there is none, or not all of it, in the calling
/// thread's namespace: an earlier release had no chain at ingress. Blocks.
pub(super) fn find() -> io::Result<Option<bool>> {
    if !has_chain(INGRESS)? {
        return Ok(None);
    }
    for mdns in [true, false] {
        if has_chain(egress_name(mdns))? {
            return Ok(Some(mdns));
        }
    }
    Ok(None)
}

fn has_chain(name: &[u8]) -> io::Result<bool> {
    let chain = [attribute(1, TABLE), attribute(3, name)].concat();
    Ok(raw::ask(NETLINK_NETFILTER, &nft::question(nft::NFT_MSG_GETCHAIN, &chain))?.is_none())
}

/// The rules at egress, each as its expressions.
fn egress(mdns: bool) -> Vec<Vec<Expression>> {
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
        vec![priority(), replaced_with(BAND.to_ne_bytes(), SENT_BY_US.to_ne_bytes()), set_priority()],
        // First what is most: it costs unicast one look.
        unicast_passes(),
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
    if mdns {
        rules.push(vec![mark(), compare(Compare::Equal, &STAYS_MARK.to_ne_bytes()), verdict(NF_DROP)]);
    } else {
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
    rules.extend(counts::rules(Direction::Sent));
    rules
}

/// The rules at ingress.
fn ingress() -> Vec<Vec<Expression>> {
    let mut rules = vec![unicast_passes()];
    rules.extend(counts::rules(Direction::Received));
    rules
}

/// First what is most: it costs unicast one look.
fn unicast_passes() -> Vec<Expression> {
    /// The lowest bit of a MAC's first byte: of a group (IEEE 802.3).
    const GROUP_BIT: u8 = 1;
    vec![byte(Base::Link, 0), masked(GROUP_BIT), compare(Compare::Equal, &[0]), verdict(NF_ACCEPT)]
}
