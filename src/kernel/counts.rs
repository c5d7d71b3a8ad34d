//! How many packets went to each group and came for it, counted by the kernel where they pass the VXLAN device.
//!
//! Sets of nf_tables, in the table of the [`filter`](super::filter): the rules put a group there with its first packet and
//! count it from then on. One that is silent for an hour is forgotten, so that what somebody sends to ever new groups
//! does not stay; nor do more fit in than [`ROOM`].

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::nft::{
    self, Base, Compare, ETH_P_IP, ETH_P_IPV6, Each, Expression, byte, bytes, compare, masked, note_in,
    protocol,
};
use super::raw::{Lister, attribute, nested};
use crate::model::{GroupAddr, GroupTraffic, Traffic};

/// The table of the VXLAN device's chains, and of these sets.
pub(super) const TABLE: &[u8] = b"lanmesh\0";
/// How many groups of a family are counted each way. The kernel makes as many buckets at once, and goes through all of them whenever
/// somebody asks.
const ROOM: u32 = 1024;
/// How long one that is silent is kept, in milliseconds.
const SILENCE: u64 = 3_600_000;
/// A frame at egress has its Ethernet header, which is not counted as what was sent.
const ETHERNET: u64 = 14;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From this node's endpoints to the network.
    Sent,
    /// From other nodes.
    Received,
}

/// The sets: of which way, name, type of the key in the words of nft, and its length in bytes.
const SETS: [(Direction, &[u8], u32, u32); 4] = [
    (Direction::Sent, b"sent4\0", 7, 4),
    (Direction::Sent, b"sent6\0", 8, 16),
    (Direction::Received, b"received4\0", 7, 4),
    (Direction::Received, b"received6\0", 8, 16),
];

/// The changes that make the sets.
pub(super) fn sets() -> impl Iterator<Item = Vec<u8>> {
    const NFT_SET_TIMEOUT: u32 = 0x10;
    const NFT_SET_EVAL: u32 = 0x20;
    (1..).zip(SETS).map(|(id, (_, name, kind, length))| {
        let set = [
            attribute(1, TABLE),
            attribute(2, name),
            nft::number(3, NFT_SET_TIMEOUT | NFT_SET_EVAL),
            nft::number(4, kind),
            nft::number(5, length),
            nested(9, &[nft::number(1, ROOM)]),
            nft::number(10, id),
        ];
        nft::make(nft::NFT_MSG_NEWSET, &set.concat())
    })
}

/// The rules that count what is for a group, of each family.
pub(super) fn rules(direction: Direction) -> impl Iterator<Item = Vec<Expression>> {
    SETS.into_iter().filter(move |(of, ..)| *of == direction).map(|(_, name, _, length)| {
        let count = note_in(name, Some(SILENCE), Some(Each::Count));
        if length == 4 {
            // 224.0.0.0/4: broadcast is for no group.
            vec![
                protocol(),
                compare(Compare::Equal, &ETH_P_IP),
                byte(Base::Network, 16),
                masked(0xf0),
                compare(Compare::Equal, &[0xe0]),
                bytes(Base::Network, 16, 4),
                count,
            ]
        } else {
            vec![
                protocol(),
                compare(Compare::Equal, &ETH_P_IPV6),
                byte(Base::Network, 24),
                compare(Compare::Equal, &[0xff]),
                bytes(Base::Network, 24, 16),
                count,
            ]
        }
    })
}

/// What was counted in the calling thread's namespace. Blocks.
pub(super) fn read() -> io::Result<GroupTraffic> {
    let mut found = GroupTraffic::default();
    let mut lister = Lister::new(NETLINK_NETFILTER);
    for (direction, name, _, _) in SETS {
        let question =
            nft::question(nft::NFT_MSG_GETSETELEM, &[attribute(1, TABLE), attribute(2, name)].concat());
        let answers = [nft::answer(nft::NFT_MSG_NEWSETELEM)];
        let counted = lister.collect(&question, &answers, &mut |found: &mut BTreeMap<_, _>, message| {
            found.extend(parse(message));
        })?;
        let (into, header) = match direction {
            Direction::Sent => (&mut found.sent, ETHERNET),
            Direction::Received => (&mut found.received, 0),
        };
        into.extend(counted.into_iter().map(|(group, mut traffic)| {
            traffic.bytes = traffic.bytes.saturating_sub(header * traffic.packets);
            (group, traffic)
        }));
    }
    Ok(found)
}

/// The elements in one message, behind struct nfgenmsg.
fn parse(message: &[u8]) -> BTreeMap<GroupAddr, Traffic> {
    let group = |(key, element): (&[u8], &[u8])| {
        let address: IpAddr = match key.len() {
            4 => (*key.first_chunk::<4>()?).into(),
            _ => (*key.first_chunk::<16>()?).into(),
        };
        Some((GroupAddr::try_from(address).ok()?, nft::counted_of(element)?))
    };
    nft::elements(message).filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_broken_ones_passed_over() {
        let counter = [attribute(1, &700_u64.to_be_bytes()), attribute(2, &7_u64.to_be_bytes())];
        let counted = nested(7, &[attribute(1, b"counter\0"), nested(2, &counter)]);
        let element = |address: &[u8]| nested(1, &[nested(1, &[attribute(1, address)]), counted.clone()]);
        let elements = [element(&[239, 1, 2, 3]), element(&[10, 0, 0, 1]), nested(1, &[nested(1, &[])])];
        let message = [vec![5, 0, 0, 0], attribute(1, TABLE), nested(3, &elements)].concat();
        let found = parse(&message);
        let expected = ("239.1.2.3".parse().unwrap(), Traffic { packets: 7, bytes: 700 });
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [expected]);
        for end in 0..message.len() {
            parse(&message[..end]);
        }
    }
}
