//! The short way of most packets between the node's interfaces and the gates: a table of nf_tables at their ingress, which hands
//! a packet on as it is, instead of a copy that is made and routed.
//!
//! What is not plain (fragments, what is from or for the loopback or the node itself or from an address of one link alone, errors of
//! routers, answers to where the next hop cannot be said) goes on to the tables of `node`, which alone do all of it. So nothing is
//! lost where this table is missing, but time: a copy and a route for each packet.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::super::nft::{
    self, Base, Compare, ETH_P_IP, ETH_P_IPV6, Expression, Family, NF_ACCEPT, NFT_SET_MAP, bytes, compare,
    expression, masked_with, number, verdict,
};
use super::super::raw::{attribute, nested};
use super::super::routing::octets;
use super::doors::{Doors, Gate, number_of_gates, port_key};
use super::expr::{self, FIRST, Which, bytes_into, load, protocol_into, write_link};
use super::expr::{PROTOCOL_AND_PORT, TYPE_IFINDEX, TYPE_IP6ADDR, TYPE_IPADDR};
use super::gate::INNER_MAC;
use super::hops::Hops;
use super::stands::{LOOPBACK_V4, LOOPBACK_V6};
use crate::plan::Door;

const NF_NETDEV_INGRESS: u32 = 0;
/// Behind whatever others look for at ingress: who drops there what he does not want is asked first.
const LATE: i32 = 500;
const IN: &[u8] = b"in\0";
const BACK: &[u8] = b"back\0";
/// Registers of sixteen bytes, which those from [`FIRST`] on lie in: the first two have what is looked up.
const SECOND: u32 = 2;
const THIRD: u32 = 3;
const PACKET_HOST: u8 = 0;
/// A chain is asked at no more than 256 devices.
const DEVICES: usize = 250;

/// What differs between the families of addresses.
struct Kind {
    ipv6: bool,
    protocol: [u8; 2],
    source: u32,
    destination: u32,
    length: u32,
    address_type: u32,
    own: &'static [u8],
    any: &'static [u8],
    one: &'static [u8],
    hops: &'static [u8],
}

const KINDS: [Kind; 2] = [
    Kind {
        ipv6: false,
        protocol: ETH_P_IP,
        source: 12,
        destination: 16,
        length: 4,
        address_type: TYPE_IPADDR,
        own: b"own4\0",
        any: b"any4\0",
        one: b"one4\0",
        hops: b"hops4\0",
    },
    Kind {
        ipv6: true,
        protocol: ETH_P_IPV6,
        source: 8,
        destination: 24,
        length: 16,
        address_type: TYPE_IP6ADDR,
        own: b"own6\0",
        any: b"any6\0",
        one: b"one6\0",
        hops: b"hops6\0",
    },
];

/// Puts the table in the place of what is there. Blocks. The answer is the kernel's refusal, if any.
///
/// Without ports it is there all the same, and empty: that it was made says that nothing is missing.
pub(super) fn put(table: &[u8], doors: &Doors) -> io::Result<Option<Errno>> {
    let mut content = Content { table, changes: Vec::new(), rules: 0, sets: 0 };
    if !doors.doors.is_empty() {
        content.all(doors);
    }
    let gates = doors.gates();
    let mark = [doors.number, number_of_gates(&gates), content.rules, 0, doors.ways()];
    let mark: Vec<u8> = mark.iter().flat_map(|word| word.to_be_bytes()).collect();
    Family::Netdev.put_table(table, &mark, content.changes)
}

struct Content<'a> {
    table: &'a [u8],
    changes: Vec<Vec<u8>>,
    rules: u64,
    sets: u32,
}

impl Content<'_> {
    fn all(&mut self, doors: &Doors) {
        let devices: BTreeSet<&str> =
            KINDS.iter().flat_map(|kind| doors.exits.of(kind.ipv6)).map(|exit| exit.0).collect();
        let gates: BTreeSet<&str> = doors.doors.values().map(|gate| gate.name.as_str()).collect();
        if devices.is_empty() {
            return;
        }
        self.chain(IN, None);
        let mut others = vec![expr::packet_type(), compare(Compare::Unequal, &[PACKET_HOST])];
        others.push(verdict(NF_ACCEPT));
        self.rule(IN, &others);
        self.chain(BACK, None);
        for kind in &KINDS {
            let own: Vec<IpAddr> = doors.exits.own(kind.ipv6).collect();
            if !own.is_empty() {
                self.addresses(kind, &own);
                self.taken(kind, &doors.doors);
                self.answered(kind, doors);
            }
        }
        self.hooked(IN, &devices);
        self.hooked(BACK, &gates);
    }

    /// Has a chain asked at the ingress of devices.
    fn hooked(&mut self, chain: &[u8], devices: &BTreeSet<&str>) {
        let devices: Vec<&str> = devices.iter().copied().collect();
        for (number, devices) in devices.chunks(DEVICES).enumerate() {
            let plain = chain.strip_suffix(b"\0").unwrap_or(chain);
            let name = [plain, format!("-{number}\0").as_bytes()].concat();
            self.chain(&name, Some(devices));
            self.rule(&name, &[nft::goto(chain)]);
        }
    }

    /// What is for a published port, by the gate that it has in a map.
    fn taken(&mut self, kind: &Kind, doors: &BTreeMap<Door, Gate>) {
        let of_kind = || doors.iter().filter(|(door, _)| door.ipv6 == kind.ipv6);
        let index = |gate: &Gate| gate.index.to_ne_bytes().to_vec();
        // What is for the loopback comes from no interface.
        let at_one = of_kind().filter_map(|(door, gate)| {
            let address = door.address.filter(|address| !address.is_loopback())?;
            Some(([octets(address), port_key(door)].concat(), index(gate)))
        });
        let at_one: Vec<_> = at_one.collect();
        let at_any = of_kind().filter(|(door, _)| door.address.is_none());
        let at_any: Vec<_> = at_any.map(|(door, gate)| (port_key(door), index(gate))).collect();
        let words = kind.length.div_ceil(4);
        if !at_one.is_empty() {
            self.map(kind.one, kind.address_type << 12 | PROTOCOL_AND_PORT, kind.length + 8, at_one);
            let mut one = is_plain(kind);
            one.push(bytes_into(FIRST, Base::Network, kind.destination, kind.length));
            one.extend(asked(FIRST + words));
            one.push(found_in(kind.one));
            one.extend(is_not_feigned(kind));
            one.extend(handed_to_found());
            self.rule(IN, &one);
        }
        if !at_any.is_empty() {
            self.map(kind.any, PROTOCOL_AND_PORT, 8, at_any);
            let mut any = is_plain(kind);
            any.extend(asked(FIRST));
            any.push(found_in(kind.any));
            any.extend(is_own(kind, kind.destination));
            any.extend(is_not_feigned(kind));
            any.extend(handed_to_found());
            self.rule(IN, &any);
        }
    }

    /// What a port of the node answers, where the next hop is known.
    fn answered(&mut self, kind: &Kind, doors: &Doors) {
        let leads = doors.exits.leads(kind.ipv6, doors.largest);
        let mut chains = Vec::new();
        for (index, hops) in leads {
            let name = format!("{}-{index}\0", if kind.ipv6 { "v6" } else { "v4" }).into_bytes();
            self.chain(&name, None);
            for rule in next(kind, index, hops) {
                self.rule(&name, &rule);
            }
            chains.push((index, name));
        }
        if chains.is_empty() {
            return;
        }
        self.verdicts(kind.hops, &chains);
        let mut answer = is_plain(kind);
        answer.extend(is_own(kind, kind.source));
        answer.push(expr::leaves_by_index(Which::Destination));
        answer.push(nft::led_by(kind.hops));
        self.rule(BACK, &answer);
    }

    /// A chain, at the ingress of devices or for others to lead to.
    fn chain(&mut self, name: &[u8], devices: Option<&[&str]>) {
        let mut made = [self.table, &attribute(3, name)].concat();
        if let Some(devices) = devices {
            let names = devices.iter().map(|device| attribute(1, &[device.as_bytes(), b"\0"].concat()));
            let names: Vec<Vec<u8>> = names.collect();
            let hook = [number(1, NF_NETDEV_INGRESS), attribute(2, &LATE.to_be_bytes()), nested(4, &names)];
            made.extend(nested(4, &hook));
            made.extend(attribute(7, b"filter\0"));
        }
        self.changes.push(Family::Netdev.make(nft::NFT_MSG_NEWCHAIN, &made));
    }

    fn rule(&mut self, chain: &[u8], expressions: &[Expression]) {
        let rule = [self.table, &attribute(2, chain), &nested(4, expressions)].concat();
        self.changes.push(Family::Netdev.append(nft::NFT_MSG_NEWRULE, &rule));
        self.rules += 1;
    }

    /// The node's own addresses.
    fn addresses(&mut self, kind: &Kind, own: &[IpAddr]) {
        self.sets += 1;
        let key = (kind.address_type, kind.length);
        let own = own.iter().map(|own| octets(*own));
        self.changes.extend(Family::Netdev.make_set(self.table, kind.own, key, self.sets, own));
    }

    fn set(&mut self, name: &[u8], key: (u32, u32), data: [Vec<u8>; 2]) {
        self.sets += 1;
        let made = [
            self.table,
            &attribute(2, name),
            &number(3, NFT_SET_MAP),
            &number(4, key.0),
            &number(5, key.1),
            &data.concat(),
            &number(10, self.sets),
        ];
        self.changes.push(Family::Netdev.make(nft::NFT_MSG_NEWSET, &made.concat()));
    }

    /// A map to devices.
    fn map(&mut self, name: &[u8], key: u32, length: u32, elements: Vec<(Vec<u8>, Vec<u8>)>) {
        self.set(name, (key, length), [number(6, TYPE_IFINDEX), number(7, 4)]);
        for elements in nft::nested_elements(elements.into_iter()) {
            let list = [self.table, &attribute(2, name), &elements].concat();
            self.changes.push(Family::Netdev.make(nft::NFT_MSG_NEWSETELEM, &list));
        }
    }

    /// A map from devices to chains.
    fn verdicts(&mut self, name: &[u8], chains: &[(u32, Vec<u8>)]) {
        self.set(name, (TYPE_IFINDEX, 4), [number(6, nft::NFT_DATA_VERDICT), Vec::new()]);
        let element = |(index, chain): &(u32, Vec<u8>)| {
            let key = nested(1, &[attribute(1, &index.to_ne_bytes())]);
            nested(1, &[key, nft::leads_to(chain)])
        };
        for chains in chains.chunks(500) {
            let elements: Vec<Vec<u8>> = chains.iter().map(element).collect();
            let list = [self.table, &attribute(2, name), &nested(3, &elements)].concat();
            self.changes.push(Family::Netdev.make(nft::NFT_MSG_NEWSETELEM, &list));
        }
    }
}

/// Goes on only with packets of a family without a tag of a VLAN, which are no fragments; of IPv6 those without extensions, among which
/// that would be said.
fn is_plain(kind: &Kind) -> Vec<Expression> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let mut plain = vec![bytes(Base::Link, 12, 2), compare(Compare::Equal, &kind.protocol)];
    if kind.ipv6 {
        let next = || bytes(Base::Network, 6, 1);
        plain.extend([next(), compare(Compare::AtLeast, &[TCP]), next(), compare(Compare::AtMost, &[UDP])]);
    } else {
        plain.extend([
            bytes(Base::Network, 6, 2),
            masked_with([0x3f, 0xff]),
            compare(Compare::Equal, &[0, 0]),
        ]);
    }
    plain
}

/// Loads protocol and port of what is asked for.
fn asked(first: u32) -> [Expression; 2] {
    [protocol_into(first), bytes_into(first + 1, Base::Transport, 2, 2)]
}

/// Loads what a map has for what was loaded. Goes on only if it has something.
fn found_in(map: &[u8]) -> Expression {
    expression(b"lookup\0", &[attribute(1, map), number(2, FIRST), number(3, THIRD)])
}

/// Goes on only if an address of the packet, at `offset`, is one of the node's own, none of the loopback nor of one link alone.
///
/// They are in a set: to ask the table of routes takes longer than all else that is done here. One that the node has just got takes the
/// long way until it is in there.
fn is_own(kind: &Kind, offset: u32) -> [Expression; 2] {
    [bytes(Base::Network, offset, kind.length), nft::is_in(kind.own)]
}

/// Goes on only with packets whose sender does not say that he is the node, or what stands for its loopback, or on this link alone.
fn is_not_feigned(kind: &Kind) -> Vec<Expression> {
    let mut rule = vec![bytes(Base::Network, kind.source, kind.length), nft::not_in(kind.own)];
    let stands: &[IpAddr] = match kind.ipv6 {
        true => &[LOOPBACK_V6.0.into(), Ipv6Addr::LOCALHOST.into()],
        false => &[LOOPBACK_V4.0.into()],
    };
    rule.extend(stands.iter().flat_map(|stand| {
        let source = bytes(Base::Network, kind.source, kind.length);
        [source, compare(Compare::Unequal, &octets(*stand))]
    }));
    if kind.ipv6 {
        rule.extend([bytes(Base::Network, kind.source, 2), masked_with([0xff, 0xc0])]);
        rule.push(compare(Compare::Unequal, &[0xfe, 0x80]));
    } else {
        rule.extend([bytes(Base::Network, kind.source, 1), compare(Compare::Unequal, &[127])]);
    }
    rule
}

/// Hands the packet to the gate that was found, for the other end.
fn handed_to_found() -> Vec<Expression> {
    let mut handed = Vec::from(write_link(&INNER_MAC.0, 0));
    handed.push(expression(b"fwd\0", &[number(1, THIRD)]));
    handed
}

/// The rules of what leaves by an interface: to whom it is for, to the gateway, or to nobody from here.
fn next(kind: &Kind, index: u32, hops: &Hops) -> Vec<Vec<Expression>> {
    let hand = || {
        // NFPROTO_IPV4, NFPROTO_IPV6.
        let family = if kind.ipv6 { 10 } else { 2 };
        expression(b"fwd\0", &[number(1, SECOND), number(2, THIRD), number(3, family)])
    };
    let device = || load(SECOND, &index.to_ne_bytes());
    let mut rules = Vec::new();
    rules.extend(not_from_here(kind).map(|(mask, first)| {
        let begins =
            [bytes(Base::Network, kind.destination, 4), masked_with(mask), compare(Compare::Equal, &first)];
        [&begins[..], &[verdict(NF_ACCEPT)]].concat()
    }));
    for near in &hops.near {
        let mut rule = vec![bytes(Base::Network, kind.destination, kind.length)];
        rule.extend(within(*near));
        rule.extend([device(), bytes_into(THIRD, Base::Network, kind.destination, kind.length), hand()]);
        rules.push(rule);
    }
    if let Some(gateway) = hops.gateway {
        rules.push(vec![device(), load(THIRD, &octets(gateway)), hand()]);
    }
    rules
}

/// What is for these takes the long way: what stands for the node's loopback, which is translated there, and addresses that are on every
/// link. A mask of the first four bytes, and what they are then.
fn not_from_here(kind: &Kind) -> impl Iterator<Item = ([u8; 4], [u8; 4])> {
    let stand: [u8; 4] = if kind.ipv6 {
        let [a, b, c, d, ..] = LOOPBACK_V6.0.octets();
        [a, b, c, d]
    } else {
        LOOPBACK_V4.0.octets()
    };
    let link_local = kind.ipv6.then_some(([0xff, 0xc0, 0, 0], [0xfe, 0x80, 0, 0]));
    [([0xff; 4], stand)].into_iter().chain(link_local)
}

/// Goes on only with an address of a subnet.
fn within(subnet: IpNetwork) -> [Expression; 2] {
    let masked = match subnet.mask() {
        IpAddr::V4(mask) => masked_with(mask.octets()),
        IpAddr::V6(mask) => masked_with(mask.octets()),
    };
    [masked, compare(Compare::Equal, &octets(subnet.network()))]
}
