//! Expressions and messages of nf_tables (linux/netfilter/nf_tables.h), for the family of devices where nothing else is
//! said. No program is needed.

mod listed;

use std::io;
use std::sync::OnceLock;

use netlink_packet_core::NLM_F_REQUEST;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::raw::{self, Header, Message, attribute, attributes, nested, within};
use crate::model::Traffic;

pub(super) use self::listed::table_name;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

pub(super) const NFT_MSG_NEWTABLE: u16 = 0;
pub(super) const NFT_MSG_GETTABLE: u16 = 1;
pub(super) const NFT_MSG_DELTABLE: u16 = 2;
pub(super) const NFT_MSG_NEWCHAIN: u16 = 3;
pub(super) const NFT_MSG_GETCHAIN: u16 = 4;
pub(super) const NFT_MSG_NEWRULE: u16 = 6;
pub(super) const NFT_MSG_GETRULE: u16 = 7;
pub(super) const NFT_MSG_NEWSET: u16 = 9;
pub(super) const NFT_MSG_NEWSETELEM: u16 = 12;
pub(super) const NFT_MSG_GETSETELEM: u16 = 13;
pub(super) const NFT_MSG_DELSETELEM: u16 = 14;
pub(super) const NFT_MSG_NEWOBJ: u16 = 18;
const NFT_MSG_GETOBJ: u16 = 19;

/// The hooks of the families `ip`, `ip6` and `inet` (linux/netfilter.h).
pub(super) const NF_INET_PRE_ROUTING: u32 = 0;
pub(super) const NF_INET_LOCAL_IN: u32 = 1;
pub(super) const NF_INET_FORWARD: u32 = 2;
pub(super) const NF_INET_LOCAL_OUT: u32 = 3;
pub(super) const NF_INET_POST_ROUTING: u32 = 4;

/// A set whose elements have values.
pub(super) const NFT_SET_MAP: u32 = 0x8;
/// What a map's elements have for values: where it goes on.
pub(super) const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
/// What is kept under a name: a quota.
const NFT_OBJECT_QUOTA: u32 = 2;
/// The type of our notes; 0 and 1 are those of nft (enum nftnl_udata_table_types, nftnl_udata_rule_types).
const NOTE: u8 = b'L';

pub(super) const ETH_P_IP: [u8; 2] = [0x08, 0x00];
pub(super) const ETH_P_IPV6: [u8; 2] = [0x86, 0xdd];

pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;
const REGISTER: u32 = 1;
const NFT_META_PRIORITY: u32 = 2;
const NFT_META_MARK: u32 = 3;
const REGISTER_VERDICT: u32 = 0;
const NFT_GOTO: i32 = -4;
/// What the names of our tables begin with.
pub(super) const OURS: &[u8] = b"lanmesh-";

/// Whose packets a table is for. Tables of one name in two families are two.
#[derive(Clone, Copy)]
pub(super) enum Family {
    /// What a node takes, sends and forwards, of both families of addresses.
    Inet = 1,
    /// The same of IPv4 alone.
    Ip = 2,
    /// What passes a device.
    Netdev = 5,
    /// What passes a bridge.
    Bridge = 7,
    /// What a node takes, sends and forwards of IPv6 alone.
    Ip6 = 10,
}

impl Family {
    /// A message that is not one of a transaction, without the header of netlink.
    pub fn question(self, kind: u16, attributes: &[u8]) -> Message {
        Message {
            kind: NFNL_SUBSYS_NFTABLES << 8 | kind,
            flags: 0,
            body: [self.header(0), attributes.to_vec()].concat(),
        }
    }

    /// A change that makes something.
    pub fn make(self, kind: u16, attributes: &[u8]) -> Vec<u8> {
        self.change(kind, NLM_F_CREATE, attributes)
    }

    /// A change that makes something, or is refused with EEXIST where it is there.
    fn make_new(self, kind: u16, attributes: &[u8]) -> Vec<u8> {
        self.change(kind, NLM_F_CREATE | NLM_F_EXCL, attributes)
    }

    /// A change that puts something behind what is there.
    pub fn append(self, kind: u16, attributes: &[u8]) -> Vec<u8> {
        self.change(kind, NLM_F_CREATE | NLM_F_APPEND, attributes)
    }

    /// A change that removes something.
    pub fn remove(self, kind: u16, attributes: &[u8]) -> Vec<u8> {
        self.change(kind, 0, attributes)
    }

    /// The changes that make a set of `keys` without values, in the table that the attribute `table` names. `kind`: what nft calls the
    /// type of the keys, and their length; `id`: which of the transaction's sets it is.
    pub fn make_set(
        self,
        table: &[u8],
        name: &[u8],
        kind: (u32, u32),
        id: u32,
        keys: impl Iterator<Item = Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let kind = [number(3, 0), number(4, kind.0), number(5, kind.1)].concat();
        let named = [table, &attribute(2, name)].concat();
        let mut changes = vec![self.make(NFT_MSG_NEWSET, &[&named[..], &kind, &number(10, id)].concat())];
        let lists = nested_keys(keys).into_iter();
        changes.extend(lists.map(|keys| self.make(NFT_MSG_NEWSETELEM, &[&named[..], &keys].concat())));
        changes
    }

    /// A change that makes a sum of bytes with a name, in the table that the attribute `table` names.
    pub fn make_sum(self, table: &[u8], name: &[u8]) -> Vec<u8> {
        // A quota that nothing exceeds.
        let quota = nested(4, &[attribute(1, &i64::MAX.to_be_bytes())]);
        let parts = [attribute(2, name), number(3, NFT_OBJECT_QUOTA), quota];
        self.make(NFT_MSG_NEWOBJ, &[table, &parts.concat()].concat())
    }

    /// Asks for all sums of bytes of this family.
    pub fn ask_sums(self) -> Message {
        self.question(NFT_MSG_GETOBJ, &number(3, NFT_OBJECT_QUOTA))
    }

    /// Puts a table and its content in the place of the one with that name, all or nothing, in the calling thread's
    /// namespace. `name` is the attribute, `mark`, unless empty, is kept with the table. Blocks. The answer is the kernel's refusal,
    /// if any.
    ///
    /// Mostly there is none, so that is tried first: what removes something waits until no packet can be in there,
    /// which an attach should not.
    pub fn put_table(self, name: &[u8], mark: &[u8], content: Vec<Vec<u8>>) -> io::Result<Option<Errno>> {
        let mark = if mark.is_empty() { Vec::new() } else { attribute(6, &as_note(mark)) };
        let mut changes = vec![self.make_new(NFT_MSG_NEWTABLE, &[name, &mark].concat())];
        changes.extend(content);
        match raw::exchange(NETLINK_NETFILTER, &transaction(changes.clone()))? {
            Some(Errno::EEXIST) => {
                changes.insert(0, self.remove(NFT_MSG_DELTABLE, name));
                raw::exchange(NETLINK_NETFILTER, &transaction(changes))
            }
            refusal => Ok(refusal),
        }
    }

    fn change(self, kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
        let message = self.question(kind, attributes);
        // Without NLM_F_ACK: a refusal is answered all the same, and an attach is some sixty of these.
        Message { flags, ..message }.bytes(NLM_F_REQUEST, 0)
    }

    /// struct nfgenmsg: family, version, resource.
    fn header(self, resource: u16) -> Vec<u8> {
        [[self as u8, 0], resource.to_be_bytes()].concat()
    }
}

/// One expression of a rule.
pub(super) type Expression = Vec<u8>;

/// Where a byte of a packet is looked for.
#[derive(Clone, Copy)]
pub(super) enum Base {
    Link = 0,
    Network = 1,
    /// Behind the extension headers of IPv6 too; not of a later fragment.
    Transport = 2,
}

#[derive(Clone, Copy)]
pub(super) enum Compare {
    Equal = 0,
    Unequal = 1,
    AtMost = 3,
    AtLeast = 5,
}

pub(super) fn expression(name: &[u8], attributes: &[Vec<u8>]) -> Expression {
    nested(1, &[attribute(1, name), nested(2, attributes)])
}

/// Elements of a map, as lists whose length fits into an attribute's 16 bits.
pub(super) fn nested_elements(pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<Vec<u8>> {
    in_lists(pairs.map(|(key, value)| {
        nested(1, &[nested(1, &[attribute(1, &key)]), nested(2, &[attribute(1, &value)])])
    }))
}

/// The same of keys without values.
pub(super) fn nested_keys(keys: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    in_lists(keys.map(|key| nested(1, &[nested(1, &[attribute(1, &key)])])))
}

/// As many elements in a list as a message takes, whose attributes have 16 bits for their length.
fn in_lists(elements: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    const AT_ONCE: usize = 1000;
    let elements: Vec<Vec<u8>> = elements.collect();
    elements.chunks(AT_ONCE).map(|elements| nested(3, elements)).collect()
}

pub(super) fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// Loads the packet's protocol (EtherType).
pub(super) fn protocol() -> Expression {
    const NFT_META_PROTOCOL: u32 = 1;
    expression(b"meta\0", &[number(2, NFT_META_PROTOCOL), number(1, REGISTER)])
}

/// Loads the packet's mark, in the byte order of the machine.
pub(super) fn mark() -> Expression {
    expression(b"meta\0", &[number(2, NFT_META_MARK), number(1, REGISTER)])
}

/// Gives the packet the mark that was loaded.
pub(super) fn set_mark() -> Expression {
    expression(b"meta\0", &[number(2, NFT_META_MARK), number(3, REGISTER)])
}

/// Loads the packet's priority, in the byte order of the machine.
pub(super) fn priority() -> Expression {
    expression(b"meta\0", &[number(2, NFT_META_PRIORITY), number(1, REGISTER)])
}

/// Gives the packet the priority that was loaded.
pub(super) fn set_priority() -> Expression {
    expression(b"meta\0", &[number(2, NFT_META_PRIORITY), number(3, REGISTER)])
}

/// Loads the number of the protocol behind the IP header and its extensions.
pub(super) fn layer_4() -> Expression {
    const NFT_META_L4PROTO: u32 = 16;
    expression(b"meta\0", &[number(2, NFT_META_L4PROTO), number(1, REGISTER)])
}

/// Loads the index of the device that the packet came in by.
pub(super) fn device() -> Expression {
    const NFT_META_IIF: u32 = 4;
    expression(b"meta\0", &[number(2, NFT_META_IIF), number(1, REGISTER)])
}

/// Loads the name of the device that the packet came in by, with zeros up to sixteen bytes.
pub(super) fn device_name() -> Expression {
    const NFT_META_IIFNAME: u32 = 6;
    expression(b"meta\0", &[number(2, NFT_META_IIFNAME), number(1, REGISTER)])
}

/// Loads `value`, at most sixteen bytes.
pub(super) fn constant(value: &[u8]) -> Expression {
    expression(b"immediate\0", &[number(1, REGISTER), nested(2, &[attribute(1, value)])])
}

/// Counts the packets that come so far.
pub(super) fn count() -> Expression {
    expression(b"counter\0", &[])
}

/// Counts the packets that come so far with the element of a set of the table, where a counter is kept of each (kernel 5.7).
/// Goes on only if there is such an element.
pub(super) fn count_with(key: &[u8], set: &[u8]) -> [Expression; 2] {
    [constant(key), is_in(set)]
}

/// Adds the packets that come so far, in bytes, to the table's sum of this name.
pub(super) fn sum_in(name: &[u8]) -> Expression {
    expression(b"objref\0", &[number(1, NFT_OBJECT_QUOTA), attribute(2, name)])
}

/// Loads the user that sent the packet. Goes on only if a process of this namespace did, by a socket of its own: what the
/// kernel sends, or another namespace, has none.
pub(super) fn user() -> Expression {
    const NFT_META_SKUID: u32 = 10;
    expression(b"meta\0", &[number(2, NFT_META_SKUID), number(1, REGISTER)])
}

/// Loads the place of a fragment of IPv6 in its packet, with the flags behind it (RFC 8200 section 4.5). Goes on only if
/// it is one.
pub(super) fn fragment_place() -> Expression {
    const FRAGMENT: u8 = 44;
    let from = [number(1, REGISTER), attribute(2, &[FRAGMENT]), number(3, 2), number(4, 2)];
    expression(b"exthdr\0", &from)
}

/// Goes on only if what comes from the packet's sender would be expected from the device that it came in by.
pub(super) fn is_from_there() -> [Expression; 2] {
    const NFT_FIB_RESULT_OIF: u32 = 1;
    const SENDER_AND_DEVICE: u32 = 1 | 1 << 3;
    const NFTA_FIB_F_PRESENT: u32 = 1 << 5;
    let from = [
        number(1, REGISTER),
        number(2, NFT_FIB_RESULT_OIF),
        number(3, SENDER_AND_DEVICE | NFTA_FIB_F_PRESENT),
    ];
    [expression(b"fib\0", &from), compare(Compare::Equal, &[1])]
}

/// Loads one byte of the packet.
pub(super) fn byte(base: Base, offset: u32) -> Expression {
    bytes(base, offset, 1)
}

/// Loads at most sixteen bytes of the packet, which is what a register holds.
pub(super) fn bytes(base: Base, offset: u32, count: u32) -> Expression {
    let from = [number(1, REGISTER), number(2, base as u32), number(3, offset), number(4, count)];
    expression(b"payload\0", &from)
}

/// Keeps only the bits of `mask` of the byte that was loaded.
pub(super) fn masked(mask: u8) -> Expression {
    masked_with([mask])
}

/// Keeps only the bits of `mask` of the bytes that were loaded, which are as many.
pub(super) fn masked_with<const N: usize>(mask: [u8; N]) -> Expression {
    replaced_with(mask, [0; N])
}

/// Keeps only the bits of `mask` of the bytes that were loaded, and turns those of `turned`.
pub(super) fn replaced_with<const N: usize>(mask: [u8; N], turned: [u8; N]) -> Expression {
    expression(
        b"bitwise\0",
        &[
            number(1, REGISTER),
            number(2, REGISTER),
            // At most sixteen.
            number(3, N as u32),
            nested(4, &[attribute(1, &mask)]),
            nested(5, &[attribute(1, &turned)]),
        ],
    )
}

/// Goes on only if what was loaded is in a set of the table.
pub(super) fn is_in(set: &[u8]) -> Expression {
    expression(b"lookup\0", &[attribute(1, set), number(2, REGISTER)])
}

/// Goes where a map of the table leads what was loaded; on, where it leads it nowhere.
pub(super) fn led_by(map: &[u8]) -> Expression {
    expression(b"lookup\0", &[attribute(1, map), number(2, REGISTER), number(3, REGISTER_VERDICT)])
}

/// Goes on only if what was loaded compares with `value`.
pub(super) fn compare(how: Compare, value: &[u8]) -> Expression {
    expression(b"cmp\0", &[number(1, REGISTER), number(2, how as u32), nested(3, &[attribute(1, value)])])
}

pub(super) fn verdict(code: u32) -> Expression {
    let verdict = nested(2, &[number(1, code)]);
    expression(b"immediate\0", &[number(1, REGISTER_VERDICT), nested(2, &[verdict])])
}

/// How somebody is told that what he sent goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// By a reset of TCP.
    Reset,
    /// ICMP: port unreachable.
    NoPort,
    /// ICMP: communication administratively prohibited.
    Prohibited,
}

/// Tells him, and drops it.
pub(super) fn refuse(how: Refusal) -> Expression {
    const NFT_REJECT_TCP_RST: u32 = 1;
    const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
    let (kind, code) = match how {
        Refusal::Reset => (NFT_REJECT_TCP_RST, 0),
        Refusal::NoPort => (NFT_REJECT_ICMPX_UNREACH, 1),
        Refusal::Prohibited => (NFT_REJECT_ICMPX_UNREACH, 3),
    };
    expression(b"reject\0", &[number(1, kind), attribute(2, &[code])])
}

/// Goes on in another chain of the table, and does not come back.
pub(super) fn goto(chain: &[u8]) -> Expression {
    elsewhere(NFT_GOTO, chain)
}

/// What a map has for a key that leads to a chain: the verdict of [`goto`].
pub(super) fn leads_to(chain: &[u8]) -> Vec<u8> {
    nested(2, &[leading(NFT_GOTO, chain)])
}

fn leading(how: i32, chain: &[u8]) -> Vec<u8> {
    nested(2, &[attribute(1, &how.to_be_bytes()), attribute(2, chain)])
}

/// Goes on in another chain of the table, and at its end comes back.
pub(super) fn jump(chain: &[u8]) -> Expression {
    const NFT_JUMP: i32 = -3;
    elsewhere(NFT_JUMP, chain)
}

fn elsewhere(how: i32, chain: &[u8]) -> Expression {
    expression(b"immediate\0", &[number(1, REGISTER_VERDICT), nested(2, &[leading(how, chain)])])
}

/// Notes what is in the register in a set of the table, for so many milliseconds after the last time. Goes on only if
/// it was there or there was room for it, and if what is done for `each` element lets it.
pub(super) fn note_in(set: &[u8], milliseconds: Option<u64>, each: Option<Each>) -> Expression {
    const NFT_DYNSET_OP_UPDATE: u32 = 1;
    let mut from = vec![attribute(1, set), number(3, NFT_DYNSET_OP_UPDATE), number(4, REGISTER)];
    from.extend(milliseconds.map(|time| attribute(6, &time.to_be_bytes())));
    from.extend(each.map(|each| nested(7, &each.parts())));
    expression(b"dynset\0", &from)
}

/// What is kept of each element of a set.
#[derive(Clone, Copy)]
pub(super) enum Each {
    /// How many packets and bytes there were. Always goes on.
    Count,
    /// A bucket of `burst` packets that fills at so many a second. Goes on only when it is empty.
    Over { packets_per_s: u32, burst: u32 },
}

impl Each {
    fn parts(self) -> [Vec<u8>; 2] {
        match self {
            Self::Count => [attribute(1, b"counter\0"), nested(2, &[])],
            Self::Over { packets_per_s, burst } => {
                const NFT_LIMIT_F_INV: u32 = 1;
                let limit = [&bucket(packets_per_s, burst)[..], &[number(5, NFT_LIMIT_F_INV)]].concat();
                [attribute(1, b"limit\0"), nested(2, &limit)]
            }
        }
    }
}

/// A bucket of `burst` packets that fills at so many a second.
fn bucket(packets_per_s: u32, burst: u32) -> [Vec<u8>; 4] {
    const SECOND: u64 = 1;
    const NFT_LIMIT_PKTS: u32 = 0;
    [
        attribute(1, &u64::from(packets_per_s).to_be_bytes()),
        attribute(2, &SECOND.to_be_bytes()),
        number(3, burst),
        number(4, NFT_LIMIT_PKTS),
    ]
}

/// Goes on only with so many packets a second, after a quiet time with `burst` at once.
pub(super) fn at_most(packets_per_s: u32, burst: u32) -> Expression {
    expression(b"limit\0", &bucket(packets_per_s, burst))
}

/// Hands a copy of the first `length` bytes of a packet to a group of the log, with `prefix` as what it is known by.
pub(super) fn log(group: u16, prefix: &[u8], length: u32) -> Expression {
    expression(b"log\0", &[attribute(1, &group.to_be_bytes()), attribute(2, prefix), number(3, length)])
}

/// Goes on only if what is in the register is not in a set of the table.
pub(super) fn not_in(set: &[u8]) -> Expression {
    const NFT_LOOKUP_F_INV: u32 = 1;
    expression(b"lookup\0", &[attribute(1, set), number(2, REGISTER), number(5, NFT_LOOKUP_F_INV)])
}

/// A message that is not one of a transaction, without the header of netlink.
pub(super) fn question(kind: u16, attributes: &[u8]) -> Message {
    Family::Netdev.question(kind, attributes)
}

/// What the counter of a rule says, if it has one.
pub(super) fn counted(message: &[u8]) -> Option<u64> {
    let expressions = within(message.get(4..)?, 4)?;
    attributes(expressions).find_map(|(_, expression)| {
        within(expression, 1).filter(|name| *name == b"counter\0")?;
        within(within(expression, 2)?, 2)?.first_chunk().map(|packets| u64::from_be_bytes(*packets))
    })
}

/// The name of a sum of bytes in one of the kernel's messages, behind struct nfgenmsg, and what it says.
pub(super) fn sum(message: &[u8]) -> Option<(&[u8], u64)> {
    let message = message.get(4..)?;
    let consumed = within(within(message, 4)?, 4)?;
    Some((within(message, 2)?, u64::from_be_bytes(*consumed.first_chunk()?)))
}

fn traffic(counter: &[u8]) -> Option<Traffic> {
    let number = |kind| Some(u64::from_be_bytes(*within(counter, kind)?.first_chunk()?));
    Some(Traffic { bytes: number(1)?, packets: number(2)? })
}

/// The elements of a set in one of the kernel's messages, behind struct nfgenmsg: the key of each, and the whole of it.
pub(super) fn elements(message: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    const ELEMENTS: u16 = 3;
    const KEY: u16 = 1;
    let lists = attributes(message.get(4..).unwrap_or_default()).filter(|(kind, _)| *kind == ELEMENTS);
    lists
        .flat_map(|(_, list)| attributes(list))
        .filter_map(|(_, element)| Some((within(within(element, KEY)?, 1)?, element)))
}

/// What the counter of an element of a set says, if it has one.
pub(super) fn counted_of(element: &[u8]) -> Option<Traffic> {
    const EXPRESSION: u16 = 7;
    traffic(within(within(element, EXPRESSION)?, 2)?)
}

/// The type that the kernel's answers of this kind have.
pub(super) fn answer(kind: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | kind
}

/// A transaction: all of these, or none.
pub(super) fn transaction(changes: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut messages = vec![batch(NFNL_MSG_BATCH_BEGIN)];
    messages.extend(changes);
    messages.push(batch(NFNL_MSG_BATCH_END));
    // By it what is told of these changes is known as our own.
    messages.iter_mut().for_each(|message| raw::set_number(message, own_number()));
    messages
}

/// The number of our own changes, another one at each start.
pub(super) fn own_number() -> u32 {
    static NUMBER: OnceLock<u32> = OnceLock::new();
    // Programs count from 0, or take the time.
    *NUMBER.get_or_init(|| rand::random::<u32>() | 1 << 31)
}

/// Whether a message is one of nf_tables.
pub(super) fn is_of_nf_tables(header: &Header) -> bool {
    header.kind() >> 8 == NFNL_SUBSYS_NFTABLES
}

/// What is noted with a table or a rule (its user data), in the form in which the program nft reads it: a type, here one that it does
/// not know, a length, and as many bytes. At bytes of another form nft 1.0.6 ends with a segmentation fault, whatever it was to list.
pub(super) fn as_note(mark: &[u8]) -> Vec<u8> {
    // The kernel takes 256 bytes; ours are at most 32.
    let length = u8::try_from(mark.len()).unwrap_or(u8::MAX);
    [&[NOTE, length], mark].concat()
}

/// What was noted so.
pub(super) fn noted(note: &[u8]) -> Option<&[u8]> {
    match note {
        [NOTE, length, mark @ ..] if usize::from(*length) == mark.len() => Some(mark),
        _ => None,
    }
}

/// What was noted with the table that a message is about.
pub(super) fn table_mark(message: &[u8]) -> Option<&[u8]> {
    within(message.get(4..)?, 6).and_then(noted)
}

/// A change that makes something.
pub(super) fn make(kind: u16, attributes: &[u8]) -> Vec<u8> {
    Family::Netdev.make(kind, attributes)
}

/// A change that puts something behind what is there.
pub(super) fn append(kind: u16, attributes: &[u8]) -> Vec<u8> {
    Family::Netdev.append(kind, attributes)
}

/// A change that removes something.
pub(super) fn remove(kind: u16, attributes: &[u8]) -> Vec<u8> {
    Family::Netdev.remove(kind, attributes)
}

fn batch(kind: u16) -> Vec<u8> {
    let body = Family::Netdev.header(NFNL_SUBSYS_NFTABLES);
    Message { kind, flags: 0, body }.bytes(NLM_F_REQUEST, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_of_a_type_and_a_length_and_nothing_else_is_read() {
        // The first of these would be a comment without its end.
        for mark in [&[0, 3, b'a', b'b', b'c', 0, 0, 0][..], &[], &[7; 32]] {
            let note = as_note(mark);
            assert_eq!((note[0], usize::from(note[1])), (NOTE, note.len() - 2));
            assert_eq!(noted(&note), Some(mark));
            assert_eq!(noted(mark), None, "as earlier releases noted it");
            for end in 0..note.len() {
                assert_eq!(noted(&note[..end]), None);
            }
        }
    }
}
