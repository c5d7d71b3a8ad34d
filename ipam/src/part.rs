//! A run of a subnet's addresses that one node hands out: its own block, or a part of another's that it borrowed.
//!
//! Owns what is used there and what was. Does not own which parts a node has (`share`), nor the order of the rules
//! (`allocator`).

use crate::bitmap::Bitmap;
use crate::memory::FreedPlaces;

/// Addresses from one ordinal on, as places counted from 0.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The ordinal of place 0.
    first: u128,
    size: u32,
    /// The places that are not this node's to give, as inclusive spans that do not overlap, in ascending order.
    lent: Vec<(u32, u32)>,
    /// How many those are.
    lent_places: u32,
    /// The places that are in use, in `freed` or lent. A place never leaves it: a freed one is remembered.
    touched: Bitmap,
    freed: FreedPlaces,
    /// How many places are in use here.
    held: u32,
}

impl Part {
    /// The ordinals `first` to `last`, of which those in `lent` (inclusive, in any order) are somebody else's.
    pub(crate) fn new((first, last): (u128, u128), lent: impl IntoIterator<Item = (u128, u128)>) -> Self {
        // Lossless: whoever makes a part has bounded it by `MAX_BLOCK_SIZE`.
        let place = |ordinal: u128| (ordinal - first) as u32;
        let spans = lent.into_iter().filter(|(low, high)| *low <= last && *high >= first);
        let mut spans: Vec<_> =
            spans.map(|(low, high)| (place(low.max(first)), place(high.min(last)))).collect();
        spans.sort_unstable();
        let mut touched = Bitmap::new(place(last) + 1);
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (low, high) in spans {
            (low..=high).for_each(|place| touched.set(place));
            match merged.last_mut().filter(|(_, end)| low <= *end) {
                Some((_, end)) => *end = high.max(*end),
                None => merged.push((low, high)),
            }
        }
        let lent_places = merged.iter().map(|(low, high)| high - low + 1).sum();
        Self {
            first,
            size: place(last) + 1,
            lent: merged,
            lent_places,
            touched,
            freed: FreedPlaces::default(),
            held: 0,
        }
    }

    /// The first and the last ordinal.
    pub(crate) fn span(&self) -> (u128, u128) {
        (self.first, self.first + u128::from(self.size) - 1)
    }

    /// How many places it has, those that are lent among them.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// How many places are in use on this node.
    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    /// How many places are lent.
    pub(crate) fn lent(&self) -> u32 {
        self.lent_places
    }

    /// The ordinals of the places that are lent, as inclusive spans.
    pub(crate) fn lent_spans(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.lent.iter().map(|(low, high)| (self.first + u128::from(*low), self.first + u128::from(*high)))
    }

    /// The place of an ordinal; nothing if it is not here, or lent.
    pub(crate) fn place(&self, ordinal: u128) -> Option<u32> {
        let place = ordinal.checked_sub(self.first)?;
        let place = u32::try_from(place).ok().filter(|place| *place < self.size)?;
        (!self.is_lent(place)).then_some(place)
    }

    /// The ordinal of a place.
    pub(crate) fn ordinal(&self, place: u32) -> u128 {
        self.first + u128::from(place)
    }

    /// A place came into use.
    pub(crate) fn occupy(&mut self, place: u32) {
        self.held += 1;
        self.touched.set(place);
        self.freed.remove(place);
    }

    /// A place in use was freed by `key`; its place in the order of freeing.
    pub(crate) fn release(&mut self, place: u32, key: &str) -> u64 {
        self.held -= 1;
        self.freed.push(place, key.to_owned())
    }

    /// A place that was freed before this value was made.
    pub(crate) fn remember(&mut self, place: u32, key: &str, order: u64) {
        self.touched.set(place);
        self.freed.insert(place, key.to_owned(), order);
    }

    /// The places that `key` had, the one freed last first.
    pub(crate) fn of_key(&self, key: &str) -> impl Iterator<Item = u32> + '_ {
        self.freed.of_key(key)
    }

    /// The places for anyone: those that were never used, from `start` on and going round, then the one freed longest
    /// ago first.
    pub(crate) fn of_anyone(&self, start: u64) -> impl Iterator<Item = u32> + '_ {
        // Lossless: below the size.
        let start = (start % u64::from(self.size)) as u32;
        self.touched.clear_from(start).chain(self.freed.oldest_first())
    }

    /// What was freed, the one freed first first.
    pub(crate) fn freed(&self) -> impl Iterator<Item = (u32, &str, u64)> + '_ {
        self.freed.entries()
    }

    fn is_lent(&self, place: u32) -> bool {
        let after = self.lent.partition_point(|(low, _)| *low <= place);
        self.lent[..after].last().is_some_and(|(_, high)| place <= *high)
    }
}
