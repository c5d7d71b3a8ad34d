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

    /// Whether `offset` is dynamic.
    pub(crate) fn is_in(&self, offset: u128) -> bool {
        self.ordinal(offset).is_some()
    }

    /// The ordinal of `offset`, if it is dynamic.
    pub(crate) fn ordinal(&self, offset: u128) -> Option<u128> {
        let after = self.gaps.partition_point(|gap| gap.first <= offset);
        let gap = self.gaps[..after].last().filter(|gap| offset <= gap.last)?;
        Some(gap.before + (offset - gap.first))
    }

    /// How many dynamic offsets lie below `offset`.
    pub(crate) fn below(&self, offset: u128) -> u128 {
        let after = self.gaps.partition_point(|gap| gap.first < offset);
        let reached = |gap: &Gap| gap.before + (offset - 1).min(gap.last) - gap.first + 1;
        self.gaps[..after].last().map_or(0, reached)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ordinals_count_what_is_left_in_ascending_order(
            (last, apart) in (1_u128..200).prop_flat_map(|last| {
                let span = (0..=last, 0..20_u128).prop_map(move |(low, len)| (low, last.min(low + len)));
                (Just(last), prop::collection::vec(span, 1..8))
            })
        ) {
            let inside = |offset: &u128| apart.iter().any(|(low, high)| (low..=high).contains(&offset));
            let left: Vec<u128> = (0..=last).filter(|offset| !inside(offset)).collect();
            let gaps = Gaps::new(last, apart.clone());
            prop_assert_eq!(gaps.total(), left.len() as u128);
            for (ordinal, offset) in left.iter().enumerate() {
                prop_assert_eq!(gaps.offset(ordinal as u128), Some(*offset));
                prop_assert_eq!(gaps.ordinal(*offset), Some(ordinal as u128));
            }
            prop_assert_eq!(gaps.offset(left.len() as u128), None);
            prop_assert!((0..=last).filter(inside).all(|offset| gaps.ordinal(offset).is_none()));
            for offset in 0..=last + 1 {
                prop_assert_eq!(gaps.below(offset), left.iter().filter(|left| **left < offset).count() as u128);
            }
            prop_assert_eq!(gaps.ordinal(last + 1), None);
            if let Some(end) = left.len().checked_sub(1) {
                let (low, high) = (end / 3, end / 2);
                let ranges: Vec<u128> =
                    gaps.ranges(low as u128, high as u128).flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(&ranges, &left[low..=high]);
            }
        }
    }

    #[test]
    fn the_whole_of_ipv6_fits() {
        let gaps = Gaps::new(u128::MAX, vec![(0, 0), (u128::MAX, u128::MAX)]);
        assert_eq!(gaps.total(), u128::MAX - 1);
        assert_eq!(gaps.offset(u128::MAX - 2), Some(u128::MAX - 1));
        assert_eq!(gaps.ordinal(u128::MAX), None);
    }
}
