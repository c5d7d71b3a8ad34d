//! The dynamic part of a subnet: what is left when everything that is set apart is taken out.

/// A run of consecutive dynamic offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    /// Its lowest offset.
    first: u128,
    /// Its highest offset.
    last: u128,
    /// How many dynamic offsets lie below it: the ordinal of `first`.
    before: u128,
}

/// The dynamic offsets of a subnet in ascending order, numbered by ordinals from 0. As large as the number of
/// things set apart, however large the subnet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gaps {
    gaps: Vec<Gap>,
    total: u128,
}

impl Gaps {
    /// What is left of the offsets 0 to `last` without those in `apart`, inclusive ranges in any order that may
    /// overlap. At least one offset is set apart in every plan (the gateway), so the total fits in 128 bits.
    pub(crate) fn new(last: u128, mut apart: Vec<(u128, u128)>) -> Self {
        apart.sort_unstable();
        let mut gaps = Self { gaps: Vec::new(), total: 0 };
        let mut next = 0;
        for (low, high) in apart {
            if low > next {
                gaps.push(next, low - 1);
            }
            let Some(after) = high.checked_add(1) else { return gaps };
            next = after.max(next);
        }
        if next <= last {
            gaps.push(next, last);
        }
        gaps
    }

    fn push(&mut self, first: u128, last: u128) {
        self.gaps.push(Gap { first, last, before: self.total });
        self.total += last - first + 1;
    }

    /// How many dynamic offsets there are.
    pub(crate) fn total(&self) -> u128 {
        self.total
    }

    /// The ordinal of `offset`, if it is dynamic.
    pub(crate) fn ordinal(&self, offset: u128) -> Option<u128> {
        let after = self.gaps.partition_point(|gap| gap.first <= offset);
        let gap = self.gaps[..after].last().filter(|gap| offset <= gap.last)?;
        Some(gap.before + (offset - gap.first))
    }

    /// The offset of `ordinal`, if there are so many.
    pub(crate) fn offset(&self, ordinal: u128) -> Option<u128> {
        let after = self.gaps.partition_point(|gap| gap.before <= ordinal);
        let gap = self.gaps[..after].last().filter(|_| ordinal < self.total)?;
        Some(gap.first + (ordinal - gap.before))
    }

    /// The ordinals `first` to `last` as inclusive ranges of offsets, in ascending order.
    pub(crate) fn ranges(&self, first: u128, last: u128) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.gaps.iter().filter_map(move |gap| {
            let end = gap.before + (gap.last - gap.first);
            let (low, high) = (first.max(gap.before), last.min(end));
            (low <= high).then(|| (gap.first + (low - gap.before), gap.first + (high - gap.before)))
        })
    }
}
