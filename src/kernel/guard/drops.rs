//! How many packets each port's rules dropped.
//!
//! A table has a set with an element for each kind, with which a counter is kept, and sums all of them up in one quota, which
//! nothing exceeds: so the ports that dropped something are found by a list of one entry each, and only theirs are asked for by
//! kind. Where the kernel has no quotas every port is asked.

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;

use super::{DropKind, list, named, port};
use crate::kernel::nft::{self, Family};
use crate::kernel::raw::{Lister, attribute, nested};
use crate::plan::PortName;

/// The sum of all kinds.
pub(super) const ALL: &[u8] = b"all\0";
/// The set of the kinds.
pub(super) const KINDS: &[u8] = b"dropped\0";
/// How many bytes of the set's elements' keys: IFNAMSIZ, since `nft` prints names of devices as texts.
pub(super) const KEY: usize = 16;

/// How many packets of a port were dropped, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortDrops([u64; DropKind::ALL.len()]);

impl PortDrops {
    /// How many of this kind.
    pub fn of(&self, kind: DropKind) -> u64 {
        self.0[kind as usize]
    }

    /// How many of all kinds.
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Of each kind that some were of.
    pub fn some(&self) -> impl Iterator<Item = (DropKind, u64)> {
        DropKind::ALL.into_iter().map(|kind| (kind, self.of(kind))).filter(|(_, count)| *count > 0)
    }
}

impl FromIterator<(DropKind, u64)> for PortDrops {
    fn from_iter<T: IntoIterator<Item = (DropKind, u64)>>(counts: T) -> Self {
        let mut drops = Self::default();
        for (kind, count) in counts {
            drops.0[kind as usize] = count;
        }
        drops
    }
}

/// The changes that make the set, with a counter for each kind, in the table that the attribute `table` names. It is whole before
/// a rule looks into it, and constant from then on: one that does not find its element would not drop.
pub(super) fn set(table: &[u8]) -> [Vec<u8>; 2] {
    const NFT_SET_CONSTANT: u32 = 2;
    /// In the words of nft: a name of a device.
    const IFNAME: u32 = 41;
    let count = [attribute(1, b"counter\0"), nested(2, &[])];
    let size = nft::number(1, DropKind::ALL.len() as u32);
    let set = [
        table.to_vec(),
        attribute(2, KINDS),
        nft::number(3, NFT_SET_CONSTANT),
        nft::number(4, IFNAME),
        nft::number(5, KEY as u32),
        nested(9, &[size]),
        nft::number(10, 1),
        nested(17, &count),
    ];
    let element = |kind: DropKind| nested(1, &[nested(1, &[attribute(1, &kind.key())])]);
    let elements = [table.to_vec(), attribute(2, KINDS), nested(3, &DropKind::ALL.map(element))];
    [nft::make(nft::NFT_MSG_NEWSET, &set.concat()), nft::make(nft::NFT_MSG_NEWSETELEM, &elements.concat())]
}

/// How many packets of each port were dropped since its rules were made, in the calling thread's namespace; ports that dropped
/// none are there too. `lister` asks nf_tables, `summed`: whether the rules have a sum. Blocks.
pub(in crate::kernel) fn dropped(
    lister: &mut Lister,
    summed: bool,
) -> io::Result<BTreeMap<PortName, PortDrops>> {
    let sums: BTreeMap<PortName, u64> = if summed {
        let answers = [nft::answer(nft::NFT_MSG_NEWOBJ)];
        lister.collect(&Family::Netdev.ask_sums(), &answers, &mut |sums: &mut BTreeMap<_, _>, message| {
            sums.extend(sum(message));
        })?
    } else {
        list()?.into_keys().map(|port| (port, 1)).collect()
    };
    let drops = |(port, bytes): (PortName, u64)| {
        Ok((port, if bytes == 0 { PortDrops::default() } else { counted(lister, port)? }))
    };
    sums.into_iter().map(drops).collect()
}

/// What the counters of a port say; nothing where there are none.
fn counted(lister: &mut Lister, port: PortName) -> io::Result<PortDrops> {
    let set = [named(port.as_str()), attribute(2, KINDS)].concat();
    let question = nft::question(nft::NFT_MSG_GETSETELEM, &set);
    let answers = [nft::answer(nft::NFT_MSG_NEWSETELEM)];
    let found = lister.collect(&question, &answers, &mut |found: &mut Vec<_>, message| {
        found.extend(counters(message));
    });
    match found {
        // It went meanwhile, or may send anything.
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(PortDrops::default()),
        found => Ok(found?.into_iter().collect()),
    }
}

/// What a message says of elements of the set, behind struct nfgenmsg.
fn counters(message: &[u8]) -> impl Iterator<Item = (DropKind, u64)> {
    nft::elements(message)
        .filter_map(|(key, element)| Some((DropKind::of_key(key)?, nft::counted_of(element)?.packets)))
}

/// What a message says of a sum of ours.
fn sum(message: &[u8]) -> Option<(PortName, u64)> {
    let (name, bytes) = nft::sum(message)?;
    Some((port(message, 1)?, bytes)).filter(|_| name == ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "lm0123456789abc";

    #[test]
    fn counters_and_sums_are_read_and_broken_messages_passed_over() {
        let number = |kind, number: u64| attribute(kind, &number.to_be_bytes());
        let device = PortName::recognise(DEVICE).unwrap();
        let count = nested(2, &[number(1, 700), number(2, 7)]);
        let element = |key: &[u8]| {
            let counted = nested(7, &[attribute(1, b"counter\0"), count.clone()]);
            nested(1, &[nested(1, &[attribute(1, key)]), counted])
        };
        let elements = [element(&DropKind::Querier.key()), element(b"other\0")];
        let counted = [vec![5, 0, 0, 0], named(DEVICE), attribute(2, KINDS), nested(3, &elements)].concat();
        assert_eq!(counters(&counted).collect::<Vec<_>>(), [(DropKind::Querier, 7)]);
        let summed = |name: &[u8]| {
            let quota = nested(4, &[number(1, 1 << 62), nft::number(2, 0), number(4, 700)]);
            [vec![5, 0, 0, 0], named(DEVICE), attribute(2, name), nft::number(3, 2), quota].concat()
        };
        assert_eq!(sum(&summed(ALL)), Some((device, 700)));
        assert_eq!(sum(&summed(b"querier\0")), None);
        for whole in [counted, summed(ALL)] {
            for end in 0..whole.len() {
                let _ = (counters(&whole[..end]).count(), sum(&whole[..end]));
            }
        }
    }

    #[test]
    fn a_port_has_as_many_of_a_kind_as_were_counted() {
        let drops: PortDrops =
            [(DropKind::Tagged, 3), (DropKind::Mac, 2), (DropKind::Llc, 0)].into_iter().collect();
        assert_eq!(drops.some().collect::<Vec<_>>(), [(DropKind::Mac, 2), (DropKind::Tagged, 3)]);
        assert_eq!((drops.of(DropKind::Tagged), drops.of(DropKind::Llc)), (3, 0));
        for (place, kind) in DropKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "each has a place of its own");
        }
    }
}
