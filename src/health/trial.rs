//! Trying one way at once, for somebody who waits: a few rounds within a second, and what follows from them.
//!
//! It says what is so at this moment, where `ways` says what has been so for a while: a probe that is lost by chance in all rounds of a
//! trial is rarer than one in a thousand where one in five is lost.

use super::frame::SHORTEST;
use super::ways::Verdict;

/// Of sizes between what passes and what does not, so many are tried in a round.
const SIZES: u16 = 6;

/// A way that is being tried.
#[derive(Debug, Clone)]
pub struct Trial {
    whole: u16,
    /// The largest size that passed.
    low: u16,
    /// The smallest that did not, and is larger than that.
    high: u16,
    short: bool,
    sent: Vec<u16>,
}

impl Trial {
    /// Of a way that should carry packets of `whole` bytes.
    pub fn new(whole: u16) -> Self {
        let whole = whole.max(SHORTEST);
        Self { whole, low: SHORTEST, high: whole, short: false, sent: Vec::new() }
    }

    /// The sizes of the probes that the next round sends; none: it is known what there is to know.
    pub fn round(&mut self) -> Vec<u16> {
        if self.is_whole() {
            return Vec::new();
        }
        // What the last round sent in vain.
        let lost = self.sent.iter().copied().filter(|size| *size > self.low).min();
        if self.short {
            self.high = lost.unwrap_or(self.high).min(self.high);
        }
        let mut sizes = if self.short { Vec::new() } else { vec![SHORTEST] };
        if self.short && self.sent.len() > 1 {
            let span = u32::from(self.high.saturating_sub(self.low));
            let between =
                |i: u16| self.low + u16::try_from(span * u32::from(i) / u32::from(SIZES + 1)).unwrap_or(0);
            sizes.extend((1..=SIZES).map(between).filter(|size| *size > self.low && *size < self.high));
        }
        sizes.push(self.whole);
        sizes.dedup();
        self.sent.clone_from(&sizes);
        sizes
    }

    /// A probe of this size was answered.
    pub fn answered(&mut self, size: u16) {
        self.short = true;
        self.low = self.low.max(size);
        self.high = self.high.max(self.low);
    }

    /// Whether packets of full size pass.
    pub fn is_whole(&self) -> bool {
        self.short && self.low >= self.whole
    }

    /// What follows; `heard`: whether the other node's own probes arrived meanwhile.
    pub fn verdict(&self, heard: bool) -> Verdict {
        match (self.is_whole(), self.short, heard) {
            (true, ..) => Verdict::Whole,
            (_, true, _) => Verdict::Small { carries: self.low },
            (_, _, true) => Verdict::Unheard,
            _ => Verdict::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries a way that carries packets of so many bytes.
    fn tried(carries: u16, rounds: usize) -> (Trial, usize) {
        let mut trial = Trial::new(1450);
        let mut sent = 0;
        for _ in 0..rounds {
            let sizes = trial.round();
            sent += sizes.len();
            sizes.into_iter().filter(|size| *size <= carries).for_each(|size| trial.answered(size));
        }
        (trial, sent)
    }

    #[test]
    fn a_way_that_is_well_takes_one_round() {
        let (trial, sent) = tried(9000, 4);
        assert_eq!((trial.verdict(false), sent), (Verdict::Whole, 2));
    }

    #[test]
    fn of_one_that_is_smaller_the_size_is_found_to_some_bytes() {
        for carries in [104, 105, 500, 1350, 1442, 1449] {
            let (trial, sent) = tried(carries, 4);
            let Verdict::Small { carries: found } = trial.verdict(true) else { panic!("{trial:?}") };
            assert!(found <= carries && carries - found <= 8, "{found} of {carries}");
            assert!(sent <= 30, "{sent}");
        }
    }

    #[test]
    fn where_nothing_is_answered_it_is_told_by_whether_the_other_one_is_heard() {
        let (trial, sent) = tried(0, 4);
        assert_eq!((trial.verdict(true), trial.verdict(false), sent), (Verdict::Unheard, Verdict::Silent, 8));
        // An answer that comes late counts.
        let (mut trial, _) = tried(0, 1);
        trial.answered(1450);
        assert_eq!(trial.verdict(false), Verdict::Whole);
    }
}
