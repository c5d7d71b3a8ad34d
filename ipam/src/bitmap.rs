//! A set of small numbers that only grows, and finds the next number outside it in a few steps.

/// Which of the numbers below a size are in the set. A second level says which words are full, so that the
/// search looks at 4,096 numbers at a time: a full set of 65,536 is known to be full after 16 words.
#[derive(Debug, Clone)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    full: Vec<u64>,
    size: u32,
}

impl Bitmap {
    /// The empty set of numbers below `size`.
    pub(crate) fn new(size: u32) -> Self {
        let words = blank(size as usize);
        let full = blank(words.len());
        Self { words, full, size }
    }

    /// Adds `bit`, which is below the size.
    pub(crate) fn set(&mut self, bit: u32) {
        debug_assert!(bit < self.size, "bit {bit} of {}", self.size);
        let word = bit as usize / 64;
        self.words[word] |= 1 << (bit % 64);
        if self.words[word] == u64::MAX {
            self.full[word / 64] |= 1 << (word % 64);
        }
    }

    /// The lowest number outside the set that is at least `from`.
    pub(crate) fn next_clear(&self, from: u32) -> Option<u32> {
        if from >= self.size {
            return None;
        }
        let word = from as usize / 64;
        let here = !self.words[word] & (u64::MAX << (from % 64));
        let bit = if here != 0 {
            word * 64 + here.trailing_zeros() as usize
        } else {
            let word = next_clear(&self.full, word + 1)?;
            word * 64 + self.words[word].trailing_ones() as usize
        };
        // Lossless: bits behind the size are set, so this one is below it.
        Some(bit as u32)
    }

    /// Every number outside the set once, in ascending order from `start` to the end and then from 0.
    pub(crate) fn clear_from(&self, start: u32) -> impl Iterator<Item = u32> + '_ {
        let run = move |from: u32, end: u32| {
            let next = move |from: u32| self.next_clear(from).filter(|bit| *bit < end);
            std::iter::successors(next(from), move |bit| next(bit + 1))
        };
        run(start, self.size).chain(run(0, start))
    }
}

/// Words with room for `size` bits, where those behind the size are set, so that a search never ends there.
fn blank(size: usize) -> Vec<u64> {
    let mut words = vec![0; size.div_ceil(64)];
    if let (Some(last), rest @ 1..) = (words.last_mut(), size % 64) {
        *last = u64::MAX << rest;
    }
    words
}

fn next_clear(words: &[u64], from: usize) -> Option<usize> {
    let first = from / 64;
    // The bits below `from` count as set in the first word only.
    let below = (1_u64 << (from % 64)) - 1;
    words.iter().enumerate().skip(first).find_map(|(i, word)| {
        let clear = !(word | if i == first { below } else { 0 });
        (clear != 0).then(|| i * 64 + clear.trailing_zeros() as usize)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_plain_set_finds(
            (size, bits, from) in (1_u32..9000).prop_flat_map(|size| {
                (Just(size), prop::collection::vec((0..size, 0..300_u32), 0..40), 0..size)
            })
        ) {
            let mut bitmap = Bitmap::new(size);
            let mut clear: BTreeSet<u32> = (0..size).collect();
            // Runs, so that words and groups of words become full.
            for bit in bits.into_iter().flat_map(|(bit, run)| bit..size.min(bit + run * 10)) {
                bitmap.set(bit);
                clear.remove(&bit);
            }
            prop_assert_eq!(bitmap.next_clear(from), clear.range(from..).next().copied());
            let wrapped: Vec<_> = clear.range(from..).chain(clear.range(..from)).copied().collect();
            prop_assert_eq!(bitmap.clear_from(from).collect::<Vec<_>>(), wrapped);
        }
    }

    #[test]
    fn a_full_set_has_no_clear_number_whatever_its_size() {
        for size in [1, 63, 64, 65, 4095, 4096, 4097, 65_536] {
            let mut bitmap = Bitmap::new(size);
            (0..size).for_each(|bit| bitmap.set(bit));
            assert_eq!(bitmap.clear_from(size / 2).next(), None, "{size}");
            assert_eq!(bitmap.next_clear(size), None, "{size}");
        }
    }

    #[test]
    fn a_set_of_nothing_has_no_clear_number() {
        assert_eq!(Bitmap::new(0).clear_from(0).next(), None);
    }
}
