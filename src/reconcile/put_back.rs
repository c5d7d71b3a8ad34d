//! What something else on this machine changed of what is kept in the kernel, and a pass put back: a firewall that is
//! loaded anew, a script, a hand. Said for a while, since it comes again where nobody finds out what it was.

use std::time::{Duration, Instant};

use super::{Happening, Reconciler, lock};

/// How long it is said.
const SAID: Duration = Duration::from_secs(120);
/// How many steps are named.
const NAMED: usize = 3;

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// The last of it, some steps as text.
    pub steps: String,
    /// How often, since it was not said.
    pub times: u32,
    /// For how long it is said by now.
    pub age: Duration,
    first: Instant,
    last: Instant,
}

impl Reconciler {
    /// What was put back within the last two minutes.
    pub fn put_back(&self) -> Option<PutBack> {
        let known = lock(&self.0.put_back).clone()?;
        let age = known.first.elapsed();
        (known.last.elapsed() < SAID).then_some(PutBack { age, ..known })
    }

    pub(super) fn note_put_back(&self, steps: Vec<String>) {
        if steps.is_empty() {
            return;
        }
        let named = steps.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        let text = match steps.len().saturating_sub(NAMED) {
            0 => named,
            more => format!("{named}; and {more} more"),
        };
        tracing::warn!("something else changed what lanmesh keeps in the kernel; it was put back: {text}");
        let now = Instant::now();
        let before = self.put_back();
        let (first, times) = before.map_or((now, 1), |before| (before.first, before.times.saturating_add(1)));
        *lock(&self.0.put_back) = Some(PutBack { steps: text, times, age: Duration::ZERO, first, last: now });
        self.happened(Happening::PutBack { steps });
    }
}
