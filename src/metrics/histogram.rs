//! How long things took, counted by many threads at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in seconds: from a question that is answered from memory to one that somebody outside is
/// waited for.
const BOUNDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How many were no longer than so much, and how long all of them took.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds: 584 years.
    total: AtomicU64,
}

impl Histogram {
    /// Notes that `count` took so long each.
    pub fn note(&self, took: Duration, count: u64) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.total.fetch_add(nanos.saturating_mul(count), Ordering::Relaxed);
    }

    /// How many are in each bucket alone, with its upper bound in seconds (`None`: without one), and the sum in seconds.
    pub fn read(&self) -> (Vec<(Option<f64>, u64)>, f64) {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        let total = Duration::from_nanos(self.total.load(Ordering::Relaxed));
        (bounds.zip(counts).collect(), total.as_secs_f64())
    }
}
