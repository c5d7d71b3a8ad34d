//! A run: from one start of a node's agent to its end, as the incarnations name it that it publishes under.
//!
//! Owns: how a run is a part of each of its incarnations, and which of two runs of one node goes on. An incarnation counts
//! starts, and the times that a node went above what others knew of it; behind the count it says which run made it. So
//! whatever carries an incarnation (documents, datagrams, members) tells one run from another that has the same identity:
//! a copy of the machine.
//!
//! ```text
//! count 23 bits | away 1 bit | start, seconds since 1970, 32 bits | chance 8 bits
//! ```

use super::facts::Incarnation;

const CHANCE: u32 = 8;
const START: u32 = 32;
const AWAY: u32 = CHANCE + START;
const COUNT: u32 = AWAY + 1;
const MASK: u64 = (1 << COUNT) - 1;

/// One run. Of two of one node the lesser goes on: the one on the machine that the identity was made on, then the one that
/// was there first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run(u64);

impl Run {
    /// A run that starts now. `away` says that the identity was made on another machine; `chance` is drawn.
    pub fn new(away: bool, now_ms: u64, chance: u8) -> Self {
        let start = (now_ms / 1000) & ((1 << START) - 1);
        Self(u64::from(away) << AWAY | start << CHANCE | u64::from(chance))
    }

    /// The run that made an incarnation. Those of releases that only counted are one, which comes before all others.
    pub fn of(incarnation: Incarnation) -> Self {
        Self(incarnation & MASK)
    }

    /// The incarnation of this run that is above another.
    pub fn above(self, seen: Incarnation) -> Incarnation {
        // After eight million starts it would not be above; each costs a second at least.
        ((seen >> COUNT) + 1).min(u64::MAX >> COUNT) << COUNT | self.0
    }

    /// When it began, in milliseconds since 1970 by its node's clock.
    pub fn started_ms(self) -> u64 {
        (self.0 >> CHANCE & ((1 << START) - 1)) * 1000
    }

    /// Whether the identity was made on another machine than it runs on.
    pub fn is_away(self) -> bool {
        self.0 >> AWAY & 1 == 1
    }

    /// Whether of the two this one goes on.
    pub fn goes_on_before(self, other: Self) -> bool {
        self < other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_part_of_its_incarnations_and_each_is_above_the_one_before() {
        let (one, two) = (Run::new(false, 1_700_000_000_000, 7), Run::new(true, 1_800_000_000_000, 7));
        let mut last = 0;
        for run in [one, two, one, one, two] {
            let next = run.above(last);
            assert!(next > last && Run::of(next) == run);
            last = next;
        }
        assert_eq!((one.started_ms(), one.is_away(), two.is_away()), (1_700_000_000_000, false, true));
        assert!(one.above(41) > 41, "what an older release counted");
        assert_eq!(Run::of(one.above(u64::MAX)), one);
    }

    #[test]
    fn the_one_at_home_goes_on_then_the_one_that_was_there_first_and_always_exactly_one() {
        let (early, late) = (1_700_000_000_000, 1_700_000_001_000);
        assert!(Run::new(false, late, 0).goes_on_before(Run::new(true, early, 0)));
        assert!(Run::new(false, early, 9).goes_on_before(Run::new(false, late, 0)));
        let (a, b) = (Run::new(false, early, 1), Run::new(false, early, 2));
        assert!(a.goes_on_before(b) && !b.goes_on_before(a));
    }
}
