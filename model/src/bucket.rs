//! How much somebody may, over time. Pure: the time is passed in.

use std::time::{Duration, Instant};

/// So much at once after a quiet time, and so much a second on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// At once, at most.
    pub burst: f64,
    /// A second.
    pub per_second: f64,
}

/// A moment: of the clock, or the time since a beginning.
pub trait Moment: Copy {
    /// How long after `earlier` it is; nothing where it is not.
    fn since(self, earlier: Self) -> Duration;
}

impl Moment for Instant {
    fn since(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl Moment for Duration {
    fn since(self, earlier: Self) -> Duration {
        self.saturating_sub(earlier)
    }
}

/// A token bucket: what somebody has left of a [`Rate`].
#[derive(Debug, Clone, Copy)]
pub struct Bucket<M> {
    tokens: f64,
    filled: M,
}

impl<M: Moment> Bucket<M> {
    /// That of somebody who has taken nothing.
    pub fn full(rate: Rate, now: M) -> Self {
        Self { tokens: rate.burst, filled: now }
    }

    /// Takes one token; whether there was one.
    pub fn take(&mut self, rate: Rate, now: M) -> bool {
        self.tokens = self.tokens_at(rate, now);
        self.filled = now;
        let some = self.tokens >= 1.0;
        if some {
            self.tokens -= 1.0;
        }
        some
    }

    /// Takes what something cost that was done already, as far as it is there.
    pub fn charge(&mut self, tokens: f64) {
        self.tokens = (self.tokens - tokens).max(0.0);
    }

    /// Whether it has filled up again: then nothing is held against anybody, and it can be forgotten.
    pub fn is_full(&self, rate: Rate, now: M) -> bool {
        self.tokens_at(rate, now) >= rate.burst
    }

    fn tokens_at(&self, rate: Rate, now: M) -> f64 {
        (self.tokens + now.since(self.filled).as_secs_f64() * rate.per_second).min(rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 10.0, per_second: 4.0 };

    fn taken(bucket: &mut Bucket<Duration>, at: f64) -> usize {
        (0..100).filter(|_| bucket.take(RATE, Duration::from_secs_f64(at))).count()
    }

    #[test]
    fn so_much_is_there_at_once_and_so_much_comes_back() {
        let mut bucket = Bucket::full(RATE, Duration::ZERO);
        assert_eq!(taken(&mut bucket, 0.0), 10);
        // Less than a whole one is kept until it is one.
        assert_eq!([0.2, 0.3, 1.4, 100.0].map(|at| taken(&mut bucket, at)), [0, 1, 4, 10]);
        assert_eq!(taken(&mut bucket, 99.0), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn what_was_done_already_is_charged_and_a_quiet_one_is_full_again() {
        let mut bucket = Bucket::full(RATE, Duration::ZERO);
        assert!(bucket.is_full(RATE, Duration::ZERO));
        bucket.charge(8.0);
        assert!(!bucket.is_full(RATE, Duration::from_secs(1)));
        assert_eq!(taken(&mut bucket, 0.0), 2);
        bucket.charge(100.0);
        assert!(bucket.is_full(RATE, Duration::from_secs(3)));
    }
}
