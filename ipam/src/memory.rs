//! Which addresses of a node's block were freed, by whom, and in what order.
//!
//! Owns the two promises about freed addresses: the key that had one finds it again, and anyone else gets the
//! one that was freed longest ago. It holds each place of the block at most once, so it is never larger.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An address that was freed, and whose it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    /// The address.
    pub address: IpAddr,
    /// The key that had it.
    pub key: String,
    /// Its place in the order of freeing: lower was freed earlier. Compares within one subnet only.
    pub order: u64,
}

/// What an allocator remembers across a restart: the freed addresses of its node's block.
///
/// An owner that keeps it durably may keep it whole ([`crate::Allocator::memory`]), or entry by entry: add what
/// `release` returns, drop the entry of an address that `allocate` or `hold` was given. The order of the entries
/// does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory {
    /// The entries.
    pub freed: Vec<Freed>,
}

/// When a place was freed; the place itself tells entries apart that a damaged memory gave the same order.
type When = (u64, u32);

/// The freed places of a block: three views of one set of entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct FreedPlaces {
    by_place: BTreeMap<u32, (u64, String)>,
    by_age: BTreeSet<When>,
    by_key: BTreeMap<String, BTreeSet<When>>,
}

impl FreedPlaces {
    /// Adds `place` as the one freed last, and returns its order.
    pub(crate) fn push(&mut self, place: u32, key: String) -> u64 {
        let order = self.by_age.last().map_or(0, |(order, _)| order.saturating_add(1));
        self.insert(place, key, order);
        order
    }

    /// Adds `place` with a given order; a place that is there already keeps its entry.
    pub(crate) fn insert(&mut self, place: u32, key: String, order: u64) {
        if self.by_place.contains_key(&place) {
            return;
        }
        self.by_age.insert((order, place));
        self.by_key.entry(key.clone()).or_default().insert((order, place));
        self.by_place.insert(place, (order, key));
    }

    /// Forgets `place`: it is in use again.
    pub(crate) fn remove(&mut self, place: u32) {
        let Some((order, key)) = self.by_place.remove(&place) else { return };
        self.by_age.remove(&(order, place));
        if let Some(places) = self.by_key.get_mut(&key) {
            places.remove(&(order, place));
            if places.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    /// The places that `key` had, the one freed last first.
    pub(crate) fn of_key(&self, key: &str) -> impl Iterator<Item = u32> + '_ {
        self.by_key.get(key).into_iter().flatten().rev().map(|(_, place)| *place)
    }

    /// All places, the one freed first first.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = u32> + '_ {
        self.by_age.iter().map(|(_, place)| *place)
    }

    /// All entries, the one freed first first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, &str, u64)> + '_ {
        self.by_age.iter().filter_map(|(order, place)| {
            let (_, key) = self.by_place.get(place)?;
            Some((*place, key.as_str(), *order))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(entries: &[(u32, &str)]) -> FreedPlaces {
        let mut freed = FreedPlaces::default();
        for (place, key) in entries {
            freed.push(*place, (*key).to_owned());
        }
        freed
    }

    #[test]
    fn a_key_finds_its_places_the_last_freed_first_and_everyone_the_first_freed_first() {
        let freed = places(&[(7, "a"), (3, "b"), (5, "a")]);
        assert_eq!(freed.of_key("a").collect::<Vec<_>>(), [5, 7]);
        assert_eq!(freed.of_key("c").count(), 0);
        assert_eq!(freed.oldest_first().collect::<Vec<_>>(), [7, 3, 5]);
    }

    #[test]
    fn a_place_that_is_in_use_again_is_forgotten_in_every_view() {
        let mut freed = places(&[(7, "a"), (3, "b")]);
        freed.remove(7);
        freed.remove(7);
        assert_eq!(freed.of_key("a").count(), 0);
        assert_eq!(freed.entries().collect::<Vec<_>>(), [(3, "b", 1)]);
        assert!(freed.by_key.len() == 1 && freed.by_place.len() == 1);
    }

    #[test]
    fn a_damaged_memory_with_equal_orders_keeps_every_place_once() {
        let mut freed = FreedPlaces::default();
        for (place, key) in [(2, "a"), (1, "b"), (2, "c")] {
            freed.insert(place, key.to_owned(), u64::MAX);
        }
        assert_eq!(
            freed.entries().map(|(place, key, _)| (place, key)).collect::<Vec<_>>(),
            [(1, "b"), (2, "a")]
        );
        assert_eq!(freed.push(9, "d".to_owned()), u64::MAX);
    }
}
