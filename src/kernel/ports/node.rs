//! The tables of nf_tables on the node that take what is for a published port to the gate of a network, and let out what
//! comes from there.
//!
//! Nothing is translated here, and no connection followed: a packet for a published port is copied through the gate as it
//! is, before any rule of others sees it, and what comes back is copied out as if the node had sent it. So neither
//! the sysctl that lets a node forward nor anybody's rules about forwarding matter, and the node has no way to the
//! endpoints but by these ports. One thing is rewritten: what is from or for the loopback, which nothing else may leave.
//!
//! One table for each family of addresses, with the name that the guard of the underlay has in a third.

mod outward;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::super::nft::{
    self, Base, Compare, Expression, Family, NF_ACCEPT, NF_DROP, NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING,
    NFT_MSG_GETSETELEM, NFT_MSG_NEWSETELEM, NFT_SET_MAP, bytes, compare, layer_4, masked_with, number,
    verdict,
};
use super::super::raw::{self, attribute, nested};
use super::super::routing::octets;
use super::doors::{Doors, Gate, number_of_gates, port_key};
use super::expr::{
    self, FIRST, PROTOCOL_AND_PORT, Sums, TYPE_IFNAME, TYPE_IP6ADDR, TYPE_IPADDR, Which, bytes_into, came_by,
    copy_by, copy_to, goes_where, is_local, leaves_by, load, padded, protocol_into, puts_fragments_together,
    untracked, write, writes,
};
use super::fast;
use super::gate::{NEXT_V4, NEXT_V6};
use super::stands::{LOOPBACK_V4, LOOPBACK_V6};
use crate::model::OutwardPorts;
use crate::plan::Door;

/// Before fragments are put together (NF_IP_PRI_CONNTRACK_DEFRAG): what comes from a gate has the right size.
const BEFORE_FRAGMENTS: i32 = -450;
/// Behind that, and before everything else (NF_IP_PRI_RAW is -300).
pub(super) const EARLY: i32 = -350;
/// NF_IP_PRI_RAW.
const RAW: i32 = -300;

/// The gates.
const GATES: &[u8] = b"gates\0";
/// The ports that are taken.
const PORTS: &[u8] = b"ports\0";
/// Where what is for any of the node's addresses goes, by protocol and port.
const ANY: &[u8] = b"any\0";
/// Where what is for one of them goes, by address, protocol and port.
const ONE: &[u8] = b"one\0";

const IN: &[u8] = b"in\0";
const BACK: &[u8] = b"back\0";
const OUT: &[u8] = b"out\0";
const ERROR: &[u8] = b"error\0";
const NEVER: &[u8] = b"never\0";

/// The most that is read of one table.
const READ_MAX: usize = 16 << 20;

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The number of the rules; 0 where they are not whole.
    pub number: u64,
    /// The number of the exits that they were made for; 0 where they lead nowhere outside.
    pub exits: u64,
    /// That of the exits to which there is a short way; 0 where there is to be none.
    pub ways: u64,
}

/// What is written down with a table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Marked {
    number: u64,
    gates: u64,
    exits: u64,
    ways: u64,
    /// What the table was made with is there.
    whole: bool,
}

/// The tables by name.
#[derive(Debug, Clone)]
pub(super) struct Tables(pub String);

/// What a network sees in the place of an address of the node that was asked.
pub(super) fn as_asked(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => LOOPBACK_V4.1.into(),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => LOOPBACK_V6.1.into(),
        other => other,
    }
}

/// What differs between the families of addresses.
struct Kind {
    family: Family,
    ipv6: bool,
    /// Where the addresses are in the header.
    source: u32,
    destination: u32,
    length: u32,
    address_type: u32,
    next: Vec<u8>,
    loopback: Vec<u8>,
    stands: (Vec<u8>, Vec<u8>),
}

fn kinds() -> [Kind; 2] {
    let of = |address: IpAddr| octets(address);
    [
        Kind {
            family: Family::Ip,
            ipv6: false,
            source: 12,
            destination: 16,
            length: 4,
            address_type: TYPE_IPADDR,
            next: of(NEXT_V4.into()),
            loopback: of(Ipv4Addr::LOCALHOST.into()),
            stands: (of(LOOPBACK_V4.0.into()), of(LOOPBACK_V4.1.into())),
        },
        Kind {
            family: Family::Ip6,
            ipv6: true,
            source: 8,
            destination: 24,
            length: 16,
            address_type: TYPE_IP6ADDR,
            next: of(NEXT_V6.into()),
            loopback: of(Ipv6Addr::LOCALHOST.into()),
            stands: (of(LOOPBACK_V6.0.into()), of(LOOPBACK_V6.1.into())),
        },
    ]
}

impl Tables {
    fn attribute(&self) -> Vec<u8> {
        attribute(1, &[self.0.as_bytes(), b"\0"].concat())
    }

    /// Puts all in the place of what is there. Blocks. The answer is the kernel's refusal, if any.
    pub fn put(&self, doors: &Doors) -> io::Result<Option<Errno>> {
        for kind in kinds() {
            let refused = match self.put_one(&kind, doors, true)? {
                // A kernel without what has fragments put together: then those larger than a packet do not come in.
                Some(_) => self.put_one(&kind, doors, false)?,
                None => None,
            };
            if refused.is_some() {
                return Ok(refused);
            }
        }
        if doors.fast {
            return fast::put(&self.attribute(), doors);
        }
        let removal = Family::Netdev.remove(nft::NFT_MSG_DELTABLE, &self.attribute());
        let refused = raw::exchange(NETLINK_NETFILTER, &nft::transaction([removal]))?;
        // A kernel that has none of it refuses otherwise.
        Ok(refused.filter(|errno| !matches!(errno, Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)))
    }

    fn put_one(&self, kind: &Kind, doors: &Doors, whole: bool) -> io::Result<Option<Errno>> {
        let mut content = Content { table: self.attribute(), kind, changes: Vec::new(), rules: 0 };
        let of_kind: BTreeMap<&Door, &Gate> =
            doors.doors.iter().filter(|(door, _)| door.ipv6 == kind.ipv6).collect();
        let outward: Vec<(OutwardPorts, &Gate)> =
            doors.outward.iter().map(|(ports, gate)| (*ports, gate)).collect();
        let gates = doors.gates();
        content.sets(&of_kind, &gates);
        if !outward.is_empty() {
            content.sources(&doors.exits);
        }
        for gate in &gates {
            content.chain(&to_gate(gate), None);
            content.through(gate);
        }
        content.elements(&of_kind);
        content.chain(BACK, Some((NF_INET_PRE_ROUTING, BEFORE_FRAGMENTS)));
        if !outward.is_empty() {
            content.outward();
        }
        content.back();
        content.chain(IN, Some((NF_INET_PRE_ROUTING, EARLY)));
        content.taken();
        content.chain(OUT, Some((NF_INET_LOCAL_OUT, RAW)));
        content.out();
        if !outward.is_empty() {
            content.outward_leaves();
            content.outward_answers(&outward);
        }
        if whole {
            content.chain(NEVER, None);
            content.rule(NEVER, &puts_fragments_together(kind.ipv6));
        }
        let mark = [
            doors.number.to_be_bytes().to_vec(),
            number_of_gates(&gates).to_be_bytes().to_vec(),
            content.rules.to_be_bytes().to_vec(),
            if outward.is_empty() { 0 } else { doors.exits.number() }.to_be_bytes().to_vec(),
            doors.ways().to_be_bytes().to_vec(),
        ];
        kind.family.put_table(&self.attribute(), &mark.concat(), content.changes)
    }

    /// Removes all. Blocks.
    pub fn remove(&self) -> io::Result<Option<Errno>> {
        // The short way first: it leads to what goes.
        for family in [Family::Netdev, Family::Ip, Family::Ip6] {
            let removal = family.remove(nft::NFT_MSG_DELTABLE, &self.attribute());
            let refused = raw::exchange(NETLINK_NETFILTER, &nft::transaction([removal]))?;
            if let Some(errno) = refused.filter(|errno| *errno != Errno::ENOENT) {
                return Ok(Some(errno));
            }
        }
        Ok(None)
    }

    /// The number of what there is, where it is whole and leads to gates with the indices that `index` has for their names;
    /// 0 where not, `None` where nothing is there. Blocks.
    pub fn find(&self, index: &dyn Fn(&str) -> Option<u32>) -> io::Result<Option<Found>> {
        let mut found: Vec<Option<Marked>> = Vec::new();
        for kind in kinds() {
            let mut marked = self.marked(kind.family)?;
            if let Some(marked) = &mut marked {
                marked.whole &= self.gates(kind.family, index)? == marked.gates;
            }
            found.push(marked);
        }
        let short = self.marked(Family::Netdev)?;
        let fits = |one: &Marked| match &short {
            None => one.ways == 0,
            Some(short) => {
                let of = |one: &Marked| (one.number, one.gates, one.ways);
                short.whole && of(short) == of(one)
            }
        };
        Ok(match &found[..] {
            [None, None] if short.is_none() => None,
            [Some(one), Some(other)] if one == other && one.whole && fits(one) => {
                Some(Found { number: one.number, exits: one.exits, ways: one.ways })
            }
            _ => Some(Found { number: 0, exits: 0, ways: 0 }),
        })
    }

    /// What is written down with the table of a family, and whether all its rules are there.
    fn marked(&self, family: Family) -> io::Result<Option<Marked>> {
        let Some(listed) = family.table(&self.attribute())? else { return Ok(None) };
        let Some([number, gates, rules, exits, ways]) = listed.words() else {
            return Ok(Some(Marked::default()));
        };
        Ok(Some(Marked { number, gates, exits, ways, whole: listed.rules == rules }))
    }

    /// The number of the gates that the table of a family leads to, as they are now.
    fn gates(&self, family: Family, index: &dyn Fn(&str) -> Option<u32>) -> io::Result<u64> {
        let mut leads = BTreeSet::new();
        let asked = [self.attribute(), attribute(2, GATES)].concat();
        let question = family.question(NFT_MSG_GETSETELEM, &asked);
        let mut note = |message: &[u8]| {
            leads.extend(nft::elements(message).filter_map(|(key, _)| {
                let name = key.split(|byte| *byte == 0).next()?;
                let name = String::from_utf8(name.to_vec()).ok()?;
                Some(Gate { index: index(&name).unwrap_or(0), name })
            }));
        };
        let answers = [nft::answer(NFT_MSG_NEWSETELEM)];
        absent(raw::each_of(NETLINK_NETFILTER, &question, &answers, READ_MAX, &mut note))?;
        Ok(number_of_gates(&leads.iter().collect()))
    }
}

/// What is not there has no rules.
fn absent(listed: io::Result<()>) -> io::Result<()> {
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        listed => listed,
    }
}

fn to_gate(gate: &Gate) -> Vec<u8> {
    format!("to-{}\0", gate.name).into_bytes()
}

/// The changes that make a table, one after the other.
struct Content<'a> {
    table: Vec<u8>,
    kind: &'a Kind,
    changes: Vec<Vec<u8>>,
    rules: u64,
}

impl Content<'_> {
    fn sets(&mut self, doors: &BTreeMap<&Door, &Gate>, gates: &BTreeSet<&Gate>) {
        let Kind { address_type, length, .. } = *self.kind;
        for (id, set, kind, size, map) in [
            (1, GATES, TYPE_IFNAME, 16, false),
            (2, PORTS, PROTOCOL_AND_PORT, 8, false),
            (3, ANY, PROTOCOL_AND_PORT, 8, true),
            (4, ONE, address_type << 12 | PROTOCOL_AND_PORT, length + 8, true),
        ] {
            let mut made = [
                self.table.clone(),
                attribute(2, set),
                number(3, if map { NFT_SET_MAP } else { 0 }),
                number(4, kind),
                number(5, size),
            ]
            .concat();
            if map {
                made.extend(number(6, nft::NFT_DATA_VERDICT));
            }
            made.extend(number(10, id));
            self.changes.push(self.kind.family.make(nft::NFT_MSG_NEWSET, &made));
        }
        let gates: Vec<Vec<u8>> = gates.iter().map(|gate| padded(&gate.name)).collect();
        self.members(GATES, gates.into_iter().map(|key| (key, None)));
        let ports: BTreeSet<Vec<u8>> = doors.keys().map(|door| port_key(door)).collect();
        self.members(PORTS, ports.into_iter().map(|key| (key, None)));
    }

    /// The elements of the maps, whose chains have to be there.
    fn elements(&mut self, doors: &BTreeMap<&Door, &Gate>) {
        let any = doors.iter().filter(|(door, _)| door.address.is_none());
        let any: Vec<_> = any.map(|(door, gate)| (port_key(door), Some(to_gate(gate)))).collect();
        self.members(ANY, any.into_iter());
        let one = doors.iter().filter_map(|(door, gate)| {
            Some(([octets(door.address?), port_key(door)].concat(), Some(to_gate(gate))))
        });
        let one: Vec<_> = one.collect();
        self.members(ONE, one.into_iter());
    }

    fn members(&mut self, set: &[u8], keys: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
        /// How many elements go into one message, whose attributes have 16 bits for their length.
        const AT_ONCE: usize = 500;
        let element = |(key, chain): (Vec<u8>, Option<Vec<u8>>)| {
            let key = nested(1, &[attribute(1, &key)]);
            let value = chain.map(|chain| nft::leads_to(&chain));
            nested(1, &[key, value.unwrap_or_default()])
        };
        let elements: Vec<Vec<u8>> = keys.map(element).collect();
        for elements in elements.chunks(AT_ONCE) {
            let message = [self.table.clone(), attribute(2, set), nested(3, elements)].concat();
            self.changes.push(self.kind.family.make(NFT_MSG_NEWSETELEM, &message));
        }
    }

    fn chain(&mut self, name: &[u8], hook: Option<(u32, i32)>) {
        let mut made = [self.table.clone(), attribute(3, name)].concat();
        if let Some((hook, priority)) = hook {
            made.extend(nested(4, &[number(1, hook), attribute(2, &priority.to_be_bytes())]));
            made.extend(attribute(7, b"filter\0"));
        }
        self.changes.push(self.kind.family.make(nft::NFT_MSG_NEWCHAIN, &made));
    }

    fn rule(&mut self, chain: &[u8], expressions: &[Expression]) {
        let rule = [self.table.clone(), attribute(2, chain), nested(4, expressions)].concat();
        self.changes.push(self.kind.family.append(nft::NFT_MSG_NEWRULE, &rule));
        self.rules += 1;
    }

    /// What covers an address: in IPv4 also the header itself.
    fn sums(&self) -> Sums {
        if self.kind.ipv6 { Sums::Behind } else { Sums::All }
    }

    /// Puts `new` in the place of the address at `offset`, if that is `old`.
    fn instead(&self, offset: u32, old: &[u8], new: &[u8]) -> Vec<Expression> {
        let mut rule = vec![bytes(Base::Network, offset, self.kind.length), compare(Compare::Equal, old)];
        rule.extend(write(new, offset, self.sums()));
        rule
    }

    /// Where the checksum is that follows a change of an address in what an error tells about. In IPv4 that of the header in there,
    /// which keeps the error's own what it is.
    fn sum_of_told(&self) -> u32 {
        if self.kind.ipv6 { 2 } else { 8 + 10 }
    }

    fn writes_address(&self, offset: u32) -> Expression {
        writes(Base::Network, offset, self.kind.length, (!self.kind.ipv6).then_some(10), true)
    }

    /// Through a gate, as it is; but for the loopback, which is nobody's address beyond it.
    fn through(&mut self, gate: &Gate) {
        let Kind { source, destination, length, ref loopback, ref stands, ref next, .. } = *self.kind;
        // Nobody elsewhere has an address of the node's, or one that stands for its loopback: his answers would go to the node.
        let stand_in = [bytes(Base::Network, source, length), compare(Compare::Equal, &stands.0)];
        let feigned = [is_local(Which::Source), stand_in].map(|feigned| {
            let mut rule = vec![came_by(), compare(Compare::Unequal, &padded("lo"))];
            rule.extend(feigned);
            rule.push(verdict(NF_ACCEPT));
            rule
        });
        let local = expr::from_device("lo");
        let sender = [&local[..], &self.instead(source, loopback, &stands.0)].concat();
        let asked = [&local[..], &self.instead(destination, loopback, &stands.1)].concat();
        let mut copied = Vec::from(copy_by(next, gate.index));
        copied.push(verdict(NF_DROP));
        let name = to_gate(gate);
        for rule in feigned.into_iter().chain([sender, asked, copied]) {
            self.rule(&name, &rule);
        }
    }

    /// From a gate comes what a port of the node answers, and that a packet was too large or nobody is there; nothing else.
    fn back(&mut self) {
        let Kind { source, destination, length, ref loopback, ref stands, ipv6, .. } = *self.kind;
        let from_gate = || vec![came_by(), nft::is_in(GATES)];
        self.chain(ERROR, None);
        // What is told in the network itself bears an address of that, which nobody out there knows: it is from the one that was asked.
        self.rule(ERROR, &[bytes(Base::Transport, ABOUT + destination, length), self.writes_address(source)]);
        for (offset, stand) in [(source, &stands.0), (destination, &stands.1)] {
            let at = ABOUT + offset;
            let mut about = vec![bytes(Base::Transport, at, length), compare(Compare::Equal, stand)];
            about.extend([
                load(1, loopback),
                writes(Base::Transport, at, length, Some(self.sum_of_told()), false),
            ]);
            self.rule(ERROR, &about);
        }
        let errors = || unreachable(ipv6).into_iter().map(|is_error| [from_gate(), is_error.into()].concat());
        let led = |error: Vec<Expression>| [error, vec![nft::jump(ERROR)]].concat();
        let mut rules: Vec<Vec<Expression>> = errors().map(led).collect();
        let to_sender = [from_gate(), self.instead(destination, &stands.0, loopback)].concat();
        let from_asked = [from_gate(), self.instead(source, &stands.1, loopback)].concat();
        let mut ours = from_gate();
        ours.extend(is_local(Which::Source));
        ours.extend(copy_to(destination, length));
        ours.push(verdict(NF_DROP));
        rules.extend([to_sender, from_asked, ours]);
        for mut told in errors() {
            told.extend(copy_to(destination, length));
            told.push(verdict(NF_DROP));
            rules.push(told);
        }
        rules.push([from_gate(), vec![verdict(NF_DROP)]].concat());
        for rule in rules {
            self.rule(BACK, &rule);
        }
    }

    /// What is for a published port, and what is told about an answer that came from one.
    fn taken(&mut self) {
        let Kind { destination, length, ipv6, ref loopback, .. } = *self.kind;
        // For the loopback from elsewhere: the kernel will have none of it, nor do we.
        let mut stranger = vec![came_by(), compare(Compare::Unequal, &padded("lo"))];
        stranger.push(bytes(Base::Network, destination, length));
        match ipv6 {
            true => stranger.push(compare(Compare::Equal, loopback)),
            false => {
                stranger.extend([masked_with([0xff, 0, 0, 0]), compare(Compare::Equal, &[127, 0, 0, 0])]);
            }
        }
        stranger.push(verdict(NF_ACCEPT));
        self.rule(IN, &stranger);
        let words = length.div_ceil(4);
        let one = [
            bytes_into(FIRST, Base::Network, destination, length),
            protocol_into(FIRST + words),
            bytes_into(FIRST + words + 1, Base::Transport, 2, 2),
            goes_where(ONE),
        ];
        self.rule(IN, &one);
        // What is for no published port costs one look. Then again, since the second question takes the registers.
        let asked = || [protocol_into(FIRST), bytes_into(FIRST + 1, Base::Transport, 2, 2)];
        let mut any = Vec::from(asked());
        any.push(expr::is_in(PORTS));
        any.extend(is_local(Which::Destination));
        any.extend(asked());
        any.push(goes_where(ANY));
        self.rule(IN, &any);
        let (protocol, port) = if ipv6 { (6, 40) } else { (9, 20) };
        let Kind { source: from, .. } = *self.kind;
        let (protocol, from, port) = (ABOUT + protocol, ABOUT + from, ABOUT + port);
        for is_error in unreachable(ipv6) {
            let is_error = [&is_error[..], &is_local(Which::Destination)].concat();
            let mut one = is_error.clone();
            one.extend([
                bytes_into(FIRST, Base::Transport, from, length),
                bytes_into(FIRST + words, Base::Transport, protocol, 1),
                bytes_into(FIRST + words + 1, Base::Transport, port, 2),
                goes_where(ONE),
            ]);
            self.rule(IN, &one);
            let mut any = is_error;
            any.extend([
                bytes_into(FIRST, Base::Transport, protocol, 1),
                bytes_into(FIRST + 1, Base::Transport, port, 2),
                goes_where(ANY),
            ]);
            self.rule(IN, &any);
        }
    }

    fn out(&mut self) {
        let Kind { ipv6, .. } = *self.kind;
        if !ipv6 {
            // A copy must not be cut in two, says its header; of datagrams that came in pieces that is not so.
            let mut cut = vec![leaves_by(), nft::is_in(GATES), layer_4(), compare(Compare::Equal, &[17])];
            cut.extend(may_be_cut());
            self.rule(OUT, &cut);
        }
        // Of the node's own connections to a published port one direction alone would be followed.
        let mut own = vec![protocol_into(FIRST), bytes_into(FIRST + 1, Base::Transport, 2, 2)];
        own.push(expr::is_in(PORTS));
        own.extend(is_local(Which::Destination));
        own.push(untracked());
        self.rule(OUT, &own);
    }
}

/// Where the packet begins that an error is about: behind its eight bytes (RFC 792, RFC 4443).
const ABOUT: u32 = 8;

/// One test for each error by which somebody is told that he reaches nobody, or that his packet is too large: destination unreachable,
/// and with IPv6 packet too big beside it.
fn unreachable(ipv6: bool) -> Vec<[Expression; 4]> {
    let (protocol, errors): (u8, &[u8]) = if ipv6 { (58, &[1, 2]) } else { (1, &[3]) };
    let is = |error: &u8| {
        let (kind, error) = (bytes(Base::Transport, 0, 1), compare(Compare::Equal, &[*error]));
        [layer_4(), compare(Compare::Equal, &[protocol]), kind, error]
    };
    errors.iter().map(is).collect()
}

/// Lets a whole datagram of IPv4 be cut where it is too large.
pub(super) fn may_be_cut() -> Vec<Expression> {
    const DONT_FRAGMENT: [u8; 2] = [0x40, 0];
    const AT: u32 = 6;
    let mut rule = vec![bytes(Base::Network, AT, 2), compare(Compare::Equal, &DONT_FRAGMENT)];
    rule.extend(write(&[0, 0], AT, Sums::Header));
    rule
}
