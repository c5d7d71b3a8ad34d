//! Expressions of nf_tables that published ports need and nothing else does.

use super::super::nft::{Base, Compare, Expression, compare, expression, number};
use super::super::raw::{attribute, nested};
use super::super::routing::{RTN_LOCAL, RTN_UNICAST};

/// The first of the registers of four bytes; the next ones follow.
pub(super) const FIRST: u32 = 8;
/// What nft calls the types of keys; of several in one they are six bits apart.
pub(super) const TYPE_IPADDR: u32 = 7;
pub(super) const TYPE_IP6ADDR: u32 = 8;
const TYPE_INET_PROTOCOL: u32 = 12;
const TYPE_INET_SERVICE: u32 = 13;
/// The index of a device, and its name.
pub(super) const TYPE_IFINDEX: u32 = 20;
pub(super) const TYPE_IFNAME: u32 = 41;
pub(super) const PROTOCOL_AND_PORT: u32 = TYPE_INET_PROTOCOL << 6 | TYPE_INET_SERVICE;
const REGISTER: u32 = 1;
const SECOND: u32 = 2;
/// What a fib expression is asked about (NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR).
#[derive(Clone, Copy)]
pub(super) enum Which {
    Source = 1,
    Destination = 2,
}

/// Goes on only if an address is one of the node's own.
pub(super) fn is_local(which: Which) -> [Expression; 2] {
    is_of_type(which, RTN_LOCAL.into())
}

fn is_of_type(which: Which, kind: u32) -> [Expression; 2] {
    const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
    let from = [number(1, REGISTER), number(2, NFT_FIB_RESULT_ADDRTYPE), number(3, which as u32)];
    [expression(b"fib\0", &from), compare(Compare::Equal, &kind.to_ne_bytes())]
}

/// Goes on only if an answer to the sender would leave by the device of this index.
pub(super) fn sender_is_beyond(link: u32) -> [Expression; 2] {
    [leaves_by_index(Which::Source), compare(Compare::Equal, &link.to_ne_bytes())]
}

/// A name of a device as the kernel compares it.
pub(super) fn padded(name: &str) -> Vec<u8> {
    let mut name = name.as_bytes().to_vec();
    name.resize(16, 0);
    name
}

fn meta(key: u32, register: u32) -> Expression {
    expression(b"meta\0", &[number(2, key), number(1, register)])
}

/// Loads the index of the device by which the node sends to an address; nothing is loaded of its own addresses, and where none leads
/// there.
pub(super) fn leaves_by_index(which: Which) -> Expression {
    const NFT_FIB_RESULT_OIF: u32 = 1;
    expression(b"fib\0", &[number(1, REGISTER), number(2, NFT_FIB_RESULT_OIF), number(3, which as u32)])
}

/// Loads the name of the device that a packet came in by.
pub(super) fn came_by() -> Expression {
    meta(6, REGISTER)
}

/// Loads the name of the device that a packet leaves by.
pub(super) fn leaves_by() -> Expression {
    meta(7, REGISTER)
}

/// Goes on only with packets that came in by a device.
pub(super) fn from_device(name: &str) -> [Expression; 2] {
    [came_by(), compare(Compare::Equal, &padded(name))]
}

/// Goes on only with packets that leave by a device.
pub(super) fn to_device(name: &str) -> [Expression; 2] {
    [leaves_by(), compare(Compare::Equal, &padded(name))]
}

/// Goes on only with packets that came in by the device of this index: it is compared in a quarter of the time of a name.
pub(super) fn from_link(index: u32) -> [Expression; 2] {
    [meta(4, REGISTER), compare(Compare::Equal, &index.to_ne_bytes())]
}

/// Goes on only with packets that leave by the device of this index.
pub(super) fn to_link(index: u32) -> [Expression; 2] {
    [meta(5, REGISTER), compare(Compare::Equal, &index.to_ne_bytes())]
}

/// Goes on only with packets of a family (NFPROTO_IPV4, NFPROTO_IPV6).
pub(super) fn is_of(ipv6: bool) -> [Expression; 2] {
    const NFT_META_NFPROTO: u32 = 15;
    [meta(NFT_META_NFPROTO, REGISTER), compare(Compare::Equal, &[if ipv6 { 10 } else { 2 }])]
}

/// Loads the protocol behind the IP header into a register.
pub(super) fn protocol_into(register: u32) -> Expression {
    const NFT_META_L4PROTO: u32 = 16;
    meta(NFT_META_L4PROTO, register)
}

/// Loads bytes of the packet into a register.
pub(super) fn bytes_into(register: u32, base: Base, offset: u32, count: u32) -> Expression {
    let from = [number(1, register), number(2, base as u32), number(3, offset), number(4, count)];
    expression(b"payload\0", &from)
}

/// Which checksums follow a change of the packet.
#[derive(Clone, Copy)]
pub(super) enum Sums {
    /// That of the header of IPv4.
    Header,
    /// That, and those of what is behind it, which cover the addresses.
    All,
    /// Only those of what is behind the header: IPv6 has none.
    Behind,
}

/// Puts a value in the place of bytes of the network header.
pub(super) fn write(value: &[u8], offset: u32, sums: Sums) -> [Expression; 2] {
    let (at, addresses) = match sums {
        Sums::Header => (Some(10), false),
        Sums::All => (Some(10), true),
        Sums::Behind => (None, true),
    };
    let count = u32::try_from(value.len()).unwrap_or(16);
    [load(REGISTER, value), writes(Base::Network, offset, count, at, addresses)]
}

/// Puts what was loaded in the place of bytes of the packet, of which the checksum at `at` behind `base` tells, if there is one; with
/// `addresses` the checksums behind the header follow too, since they cover the addresses.
pub(super) fn writes(base: Base, offset: u32, count: u32, at: Option<u32>, addresses: bool) -> Expression {
    const NFT_PAYLOAD_CSUM_INET: u32 = 1;
    let to = [
        number(5, REGISTER),
        number(2, base as u32),
        number(3, offset),
        number(4, count),
        number(6, if at.is_some() { NFT_PAYLOAD_CSUM_INET } else { 0 }),
        number(7, at.unwrap_or(0)),
        number(8, u32::from(addresses)),
    ];
    expression(b"payload\0", &to)
}

/// Puts bytes in the place of those of the header of the link.
pub(super) fn write_link(value: &[u8], offset: u32) -> [Expression; 2] {
    let count = u32::try_from(value.len()).unwrap_or(6);
    [load(REGISTER, value), writes_link(offset, count)]
}

/// Puts what was loaded in the place of bytes of the header of the link.
pub(super) fn writes_link(offset: u32, count: u32) -> Expression {
    let to = [number(5, REGISTER), number(2, Base::Link as u32), number(3, offset), number(4, count)];
    expression(b"payload\0", &to)
}

const NFT_META_PKTTYPE: u32 = 19;

/// Loads whose a packet is, in a byte.
pub(super) fn packet_type() -> Expression {
    meta(NFT_META_PKTTYPE, REGISTER)
}

/// Whose a packet is, says the byte that was loaded.
pub(super) fn set_packet_type() -> Expression {
    expression(b"meta\0", &[number(2, NFT_META_PKTTYPE), number(3, REGISTER)])
}

/// A packet that asks belongs to the connections of the number that was loaded, apart from others with the same addresses and
/// ports.
pub(super) fn set_zone() -> Expression {
    const NFT_CT_ZONE: u32 = 17;
    const IP_CT_DIR_ORIGINAL: u8 = 0;
    let parts = [number(2, NFT_CT_ZONE), attribute(3, &[IP_CT_DIR_ORIGINAL]), number(4, REGISTER)];
    expression(b"ct\0", &parts)
}

const NFT_CT_MARK: u32 = 3;

/// Gives the connection the mark that was loaded.
pub(super) fn mark_connection() -> Expression {
    expression(b"ct\0", &[number(2, NFT_CT_MARK), number(4, REGISTER)])
}

/// Loads the mark of the connection.
pub(super) fn marked_by_connection() -> Expression {
    expression(b"ct\0", &[number(1, REGISTER), number(2, NFT_CT_MARK)])
}

pub(super) fn load(register: u32, value: &[u8]) -> Expression {
    expression(b"immediate\0", &[number(1, register), nested(2, &[attribute(1, value)])])
}

/// Goes on only if what is in the registers from the first is in a set.
pub(super) fn is_in(set: &[u8]) -> Expression {
    expression(b"lookup\0", &[attribute(1, set), number(2, FIRST)])
}

/// Goes on in the chain that a map has for what is in the registers from the first, if it has one.
pub(super) fn goes_where(map: &[u8]) -> Expression {
    // The verdict is register 0.
    expression(b"lookup\0", &[attribute(1, map), number(2, FIRST), number(3, 0)])
}

/// Sends a copy of the packet to an address that is beyond a link, whatever the packet says.
pub(super) fn copy_by(next: &[u8], link: u32) -> [Expression; 3] {
    let copy = expression(b"dup\0", &[number(1, REGISTER), number(2, SECOND)]);
    [load(REGISTER, next), load(SECOND, &link.to_ne_bytes()), copy]
}

/// Sends a copy of the packet as if the node itself had sent it to the address that it has at `offset`.
pub(super) fn copy_to(offset: u32, count: u32) -> [Expression; 2] {
    [bytes_into(REGISTER, Base::Network, offset, count), expression(b"dup\0", &[number(1, REGISTER)])]
}

/// The connection tracking leaves the packet alone.
pub(super) fn untracked() -> Expression {
    expression(b"notrack\0", &[])
}

/// Goes on only with packets of connections whose destination was translated.
pub(super) fn is_translated() -> [Expression; 3] {
    const NFT_CT_STATUS: u32 = 2;
    const IPS_DST_NAT: u32 = 1 << 5;
    let mask = IPS_DST_NAT.to_ne_bytes();
    [
        expression(b"ct\0", &[number(1, REGISTER), number(2, NFT_CT_STATUS)]),
        super::super::nft::masked_with(mask),
        compare(Compare::Unequal, &[0; 4]),
    ]
}

/// Goes on only with answers.
pub(super) fn is_answer() -> [Expression; 2] {
    is_directed(1)
}

/// Goes on only with what is sent the way that a connection was begun.
pub(super) fn is_question() -> [Expression; 2] {
    is_directed(0)
}

fn is_directed(direction: u8) -> [Expression; 2] {
    const NFT_CT_DIRECTION: u32 = 1;
    let loaded = expression(b"ct\0", &[number(1, REGISTER), number(2, NFT_CT_DIRECTION)]);
    [loaded, compare(Compare::Equal, &[direction])]
}

/// Loads the state of the packet's connection, in the byte order of the machine.
pub(super) fn state_of_connection() -> Expression {
    const NFT_CT_STATE: u32 = 0;
    expression(b"ct\0", &[number(1, REGISTER), number(2, NFT_CT_STATE)])
}

/// Goes on only with packets of connections that are known from both sides.
pub(super) fn is_of_a_connection() -> [Expression; 3] {
    const ESTABLISHED: u32 = 1 << 1;
    let bits = super::super::nft::masked_with(ESTABLISHED.to_ne_bytes());
    [state_of_connection(), bits, compare(Compare::Unequal, &[0; 4])]
}

/// Goes on only if an address is the one of a single host that is not the node.
pub(super) fn is_elsewhere(which: Which) -> [Expression; 2] {
    is_of_type(which, RTN_UNICAST.into())
}

/// Does nothing where nobody goes: but that there is such a rule has the kernel put fragments together before rules
/// see them.
pub(super) fn puts_fragments_together(ipv6: bool) -> Vec<Expression> {
    vec![
        protocol_into(REGISTER),
        compare(Compare::Equal, &[6]),
        load(REGISTER, &1_u16.to_be_bytes()),
        expression(b"tproxy\0", &[number(1, if ipv6 { 10 } else { 2 }), number(3, REGISTER)]),
    ]
}
