//! How many packets each port's rules dropped.
//!
//! A table counts in a counter for each kind, and sums all of them up in one quota, which nothing exceeds: so the ports that
//! dropped something are found by a list of one entry each, and only theirs are asked for by kind. Where the kernel has no quotas
//! all counters of all ports are listed, which takes a millisecond for each 50 ports.

use std::collections::BTreeMap;
use std::io;

use super::{DropKind, named, port};
use crate::kernel::nft::{self, Family};
use crate::kernel::raw::{Lister, Message};
use crate::plan::PortName;

/// The sum of all kinds.
pub(super) const ALL: &[u8] = b"all\0";
/// From so many ports on that dropped something, one list of all counters is less work than one of each port's.
const EACH_BY_ITSELF: usize = 50;

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

/// How many packets of each port were dropped since its rules were made, in the calling thread's namespace; ports that dropped
/// none are there too. `lister` asks nf_tables, `summed`: whether the rules have a sum. Blocks.
pub(in crate::kernel) fn dropped(
    lister: &mut Lister,
    summed: bool,
) -> io::Result<BTreeMap<PortName, PortDrops>> {
    if !summed {
        return counted(lister, &[]);
    }
    let sums: BTreeMap<PortName, u64> =
        listed(lister, &Family::Netdev.ask_sums(), &mut |sums: &mut BTreeMap<_, _>, message| {
            sums.extend(sum(message));
        })?;
    let some = || sums.iter().filter(|(_, bytes)| **bytes > 0).map(|(port, _)| port);
    let found = match some().count() {
        0..EACH_BY_ITSELF => {
            let mut found = BTreeMap::new();
            for port in some() {
                found.extend(counted(lister, &named(port.as_str()))?);
            }
            found
        }
        _ => counted(lister, &[])?,
    };
    let none = sums.into_keys().map(|port| (port, PortDrops::default()));
    Ok(none.chain(found).collect())
}

/// What the counters say: those of one table, which the attribute names, or of all.
fn counted(lister: &mut Lister, table: &[u8]) -> io::Result<BTreeMap<PortName, PortDrops>> {
    let question = Family::Netdev.ask_counters(table);
    listed(lister, &question, &mut |found: &mut BTreeMap<PortName, PortDrops>, message| {
        if let Some((port, kind, count)) = counter(message) {
            found.entry(port).or_default().0[kind as usize] = count;
        }
    })
}

fn listed<T: Default>(
    lister: &mut Lister,
    question: &Message,
    note: &mut dyn FnMut(&mut T, &[u8]),
) -> io::Result<T> {
    lister.collect(question, &[nft::answer(nft::NFT_MSG_NEWOBJ)], note)
}

/// What a message says of a counter of ours, behind struct nfgenmsg.
fn counter(message: &[u8]) -> Option<(PortName, DropKind, u64)> {
    let (name, traffic) = nft::counter(message)?;
    Some((port(message, 1)?, DropKind::named(name)?, traffic.packets))
}

/// What a message says of a sum of ours.
fn sum(message: &[u8]) -> Option<(PortName, u64)> {
    let (name, bytes) = nft::sum(message)?;
    Some((port(message, 1)?, bytes)).filter(|_| name == ALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::raw::{attribute, nested};

    const DEVICE: &str = "lm0123456789abc";

    fn message(name: &[u8], kind: u32, data: &[Vec<u8>]) -> Vec<u8> {
        [vec![5, 0, 0, 0], named(DEVICE), attribute(2, name), nft::number(3, kind), nested(4, data)].concat()
    }

    #[test]
    fn counters_and_sums_are_read_and_broken_messages_passed_over() {
        let number = |kind, number: u64| attribute(kind, &number.to_be_bytes());
        let device = PortName::recognise(DEVICE).unwrap();
        let counted = |name: &[u8]| message(name, 1, &[number(1, 700), number(2, 7)]);
        assert_eq!(counter(&counted(b"querier\0")), Some((device, DropKind::Querier, 7)));
        assert_eq!(counter(&counted(b"other\0")), None);
        let summed = |name: &[u8]| message(name, 2, &[number(1, 1 << 62), nft::number(2, 0), number(4, 700)]);
        assert_eq!(sum(&summed(ALL)), Some((device, 700)));
        assert_eq!(sum(&summed(b"querier\0")), None);
        for whole in [counted(b"querier\0"), summed(ALL)] {
            for end in 0..whole.len() {
                counter(&whole[..end]);
                sum(&whole[..end]);
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
