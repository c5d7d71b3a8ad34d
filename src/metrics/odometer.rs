//! Sums that only grow, of counters that come, go and begin anew.

use std::collections::BTreeMap;

/// Adds up what many counters count, by what they are shown as. A counter that went takes nothing away from its sum, and one
/// that begins anew adds what it has counted since.
#[derive(Debug, Clone)]
pub struct Odometer<C, S> {
    last: BTreeMap<C, u64>,
    sums: BTreeMap<S, u64>,
}

impl<C, S> Default for Odometer<C, S> {
    fn default() -> Self {
        Self { last: BTreeMap::new(), sums: BTreeMap::new() }
    }
}

impl<C: Ord, S: Ord> Odometer<C, S> {
    /// Takes up what the counters that there are show now: each, what it is shown as, and its count. As many are remembered
    /// as were given.
    pub fn take(&mut self, counters: impl IntoIterator<Item = (C, S, u64)>) {
        let mut now = BTreeMap::new();
        for (counter, shown, count) in counters {
            let before = self.last.get(&counter).copied().filter(|before| *before <= count).unwrap_or(0);
            *self.sums.entry(shown).or_default() += count - before;
            now.insert(counter, count);
        }
        self.last = now;
    }

    /// Forgets sums: what they are of is gone.
    pub fn retain(&mut self, keep: impl Fn(&S) -> bool) {
        self.sums.retain(|shown, _| keep(shown));
    }

    /// The sums.
    pub fn sums(&self) -> &BTreeMap<S, u64> {
        &self.sums
    }
}
