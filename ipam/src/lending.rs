//! Blocks that are lent: what may be lent, and what a borrower may make of the answers.
//!
//! One rule for all: an address has one lender, the node whose block it is in, or whoever keeps the blocks that are no
//! node's; and what is lent is durable at the lender before the borrower hears of it, and at the borrower before it is
//! used. So a loan that both know is used by the borrower alone, one that only the lender knows by nobody, and one that
//! only the borrower knows does not come to be, as long as the lender takes a loan back on the borrower's word alone.
//! Every loan has a number that the borrower draws and that is never used again: a word about one is never taken for a
//! word about another, however late it comes.
//!
//! Does not own who may lend, nor how the two talk (the caller).

use std::collections::BTreeMap;

use crate::{AddrRange, SubnetPlan};

/// The largest run of `span` in which nothing is `busy`, of several the lowest. Inclusive spans, in any order.
pub(crate) fn largest_free(
    (first, last): (u128, u128),
    busy: impl IntoIterator<Item = (u128, u128)>,
) -> Option<(u128, u128)> {
    let inside = busy.into_iter().filter(|(low, high)| *low <= last && *high >= first);
    let mut inside: Vec<_> = inside.collect();
    inside.sort_unstable();
    let mut best: Option<(u128, u128)> = None;
    let mut consider = |from: u128, to: u128| {
        if from < to && best.is_none_or(|(low, high)| to - from > high - low + 1) {
            best = Some((from, to - 1));
        }
    };
    let mut next = first;
    for (low, high) in inside {
        consider(next, low);
        next = next.max(high.saturating_add(1));
    }
    consider(next, last + 1);
    best
}

/// What may be lent of the blocks whose index no node has, `wanted` addresses at most: from the highest of these blocks
/// that has anything free, so that nodes which join find theirs whole; there the beginning of the largest free run.
///
/// `busy` is what is lent or in use already, in this subnet or others.
pub fn unowned(
    plan: &SubnetPlan,
    is_owned: impl Fn(u32) -> bool,
    busy: &[AddrRange],
    wanted: u64,
) -> Option<AddrRange> {
    let busy: Vec<_> = busy.iter().filter_map(|range| plan.ordinals_in(range)).collect();
    // Lossless: there are at most 2^32 blocks.
    let free = (0..plan.blocks()).rev().map(|index| index as u32).filter(|index| !is_owned(*index));
    let (first, last) = free
        .filter_map(|index| largest_free(plan.block_ordinals(index)?, busy.iter().copied()))
        // Each that is passed over is full of what is busy, of which there is little.
        .next()?;
    let most = u128::from(wanted.max(1)) - 1;
    plan.range_of((first, last.min(first + most)))
}

/// How many addresses a node asks for that has `used` in a subnet and none left: few of them lie idle, and a node with many
/// endpoints does not ask for each.
pub fn wanted(used: u64) -> u64 {
    (used / 4).max(1)
}

/// What a node has borrowed, and the loan that it is asking for; `T` is what is known of a loan.
///
/// What is in it is to be durable before it is used, and gone durably before the lender is told so.
#[derive(Debug, Clone)]
pub struct Borrower<T> {
    has: BTreeMap<u64, T>,
    asking: Option<u64>,
}

impl<T> Borrower<T> {
    /// With what was remembered from before a restart. Whatever was asked for then is given up.
    pub fn new(has: BTreeMap<u64, T>) -> Self {
        Self { has, asking: None }
    }

    /// What it has, by number.
    pub fn has(&self) -> &BTreeMap<u64, T> {
        &self.has
    }

    /// It asks for a loan of this number, and gives up whatever it asked for before.
    pub fn asks(&mut self, number: u64) {
        self.asking = Some(number);
    }

    /// Whether an answer to this number would be taken.
    pub fn is_asking(&self, number: u64) -> bool {
        self.asking == Some(number)
    }

    /// It waits no longer: whatever is answered from now on is not taken.
    pub fn gives_up(&mut self) {
        self.asking = None;
    }

    /// The answer came, and is durable. `false`: it is not waited for any more, and is not to be used.
    pub fn takes(&mut self, number: u64, loan: T) -> bool {
        let waited = self.asking == Some(number);
        if waited {
            self.asking = None;
            self.has.insert(number, loan);
        }
        waited
    }

    /// It has less of a loan from now on, durably.
    pub fn narrows(&mut self, number: u64, loan: T) {
        if let Some(has) = self.has.get_mut(&number) {
            *has = loan;
        }
    }

    /// It has no more use for a loan, which is gone durably.
    pub fn drops(&mut self, number: u64) -> Option<T> {
        self.has.remove(&number)
    }

    /// Of the loans that lenders say this node has, those that it does not have: their answer was lost, or the word that
    /// they are given back. The lender is to be told.
    pub fn strays<'a>(&'a self, said: impl Iterator<Item = u64> + 'a) -> impl Iterator<Item = u64> + 'a {
        said.filter(|number| !self.has.contains_key(number) && self.asking != Some(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SubnetConfig;

    fn plan() -> SubnetPlan {
        // Six blocks of 4: .2-.5, .6-.9, .10-.13, .14-.17, .18-.21, .22-.25 and so on to .29, one of them behind a hole.
        let config = SubnetConfig {
            subnet: "10.0.0.0/27".parse().unwrap(),
            gateway: None,
            pools: Vec::new(),
            reserved: vec!["10.0.0.11-10.0.0.12".parse().unwrap()],
            block_size: Some(4),
        };
        SubnetPlan::new(&config).unwrap()
    }

    fn range(text: &str) -> AddrRange {
        text.parse().unwrap()
    }

    #[test]
    fn the_largest_free_run_is_found_whatever_overlaps() {
        for (busy, expected) in [
            (&[][..], Some((10, 19))),
            (&[(0, 9), (20, 99)], Some((10, 19))),
            (&[(13, 13)], Some((14, 19))),
            (&[(10, 12), (11, 15), (12, 12)], Some((16, 19))),
            (&[(12, 12), (15, 15), (18, 18)], Some((10, 11))),
            (&[(0, 99)], None),
            (&[(10, 14), (15, 19)], None),
        ] {
            assert_eq!(largest_free((10, 19), busy.iter().copied()), expected, "{busy:?}");
        }
    }

    #[test]
    fn blocks_of_nobody_are_lent_from_the_highest_down_and_no_more_than_is_wanted() {
        let plan = plan();
        assert_eq!(plan.blocks(), 6);
        let owned = |index: u32| index < 2;
        let mut busy = Vec::new();
        let mut lent = Vec::new();
        while let Some(range) = unowned(&plan, owned, &busy, 3) {
            busy.push(range);
            lent.push(range.to_string());
        }
        // The fourth of each block by itself, and the hole in a range that goes round it.
        assert_eq!(lent[..3], ["10.0.0.24-10.0.0.26", "10.0.0.27", "10.0.0.20-10.0.0.22"]);
        assert_eq!(lent.len(), 8);
        assert!(unowned(&plan, |_| true, &[], 3).is_none());
    }

    #[test]
    fn a_range_is_what_is_dynamic_in_it() {
        let plan = plan();
        assert_eq!(plan.ordinals_in(&range("10.0.0.10-10.0.0.13")), Some((8, 9)));
        assert_eq!(plan.range_of((8, 9)), Some(range("10.0.0.10-10.0.0.13")));
        assert_eq!(plan.ordinals_in(&range("10.0.0.11-10.0.0.12")), None);
        assert_eq!(plan.ordinals_in(&range("10.0.0.31-10.0.0.32")), None);
    }

    #[test]
    fn an_answer_that_is_not_waited_for_is_not_taken_and_told_back() {
        let mut borrower = Borrower::new(BTreeMap::from([(1, "a")]));
        borrower.asks(2);
        assert_eq!(borrower.strays([1, 2, 3].into_iter()).collect::<Vec<_>>(), [3]);
        borrower.gives_up();
        assert!(!borrower.takes(2, "b"));
        assert_eq!(borrower.strays([1, 2].into_iter()).collect::<Vec<_>>(), [2]);
        borrower.asks(4);
        assert!(borrower.takes(4, "c") && !borrower.takes(4, "d"));
        assert_eq!(borrower.drops(1), Some("a"));
        assert_eq!(borrower.has().keys().collect::<Vec<_>>(), [&4]);
    }
}
