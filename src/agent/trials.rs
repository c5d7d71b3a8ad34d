//! The probes that are sent outside of the rounds, for somebody who waits: which of them were answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The probes that are under way: of each its number, and whether it was answered.
#[derive(Debug, Default)]
pub struct Trials {
    answered: Mutex<BTreeMap<u64, bool>>,
    news: Notify,
}

impl Trials {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, bool>> {
        // Each entry stands by itself: a panic elsewhere leaves them whole.
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up that a probe was answered; whether it was one of these.
    pub fn take(&self, number: u64) -> bool {
        let mut answered = self.lock();
        let Some(its) = answered.get_mut(&number) else { return false };
        *its = true;
        self.news.notify_waiters();
        true
    }

    /// Waits until one is answered from now on.
    pub fn news(&self) -> Notified<'_> {
        self.news.notified()
    }
}

/// The probes of one trial; they are forgotten when it ends, however that comes about.
pub struct Asked<'a> {
    trials: &'a Trials,
    /// The number of each, and its size.
    sizes: BTreeMap<u64, u16>,
}

impl<'a> Asked<'a> {
    /// Of a trial that has sent nothing yet.
    pub fn new(trials: &'a Trials) -> Self {
        Self { trials, sizes: BTreeMap::new() }
    }

    /// These are sent now: the number of each, and its size.
    pub fn add(&mut self, probes: impl Iterator<Item = (u64, u16)>) {
        let mut answered = self.trials.lock();
        for (number, size) in probes {
            answered.insert(number, false);
            self.sizes.insert(number, size);
        }
    }

    /// The sizes of those that were answered.
    pub fn answered(&self) -> Vec<u16> {
        let answered = self.trials.lock();
        let is_answered = |number: &u64| answered.get(number).copied().unwrap_or(false);
        self.sizes.iter().filter(|(number, _)| is_answered(number)).map(|(_, size)| *size).collect()
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut answered = self.trials.lock();
        self.sizes.keys().for_each(|number| {
            answered.remove(number);
        });
    }
}
