//! The log, which nobody fills: each line of the source is written so often and no more.
//!
//! Owns: how many lines may come from one place, and that what was left out is said. Lines that say what somebody with
//! the right to did are all written ([`AUDIT`]), and so is everything below `info`: whoever switches that on wants it.

mod journal;
mod level;

use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::model::{Bucket, Rate};

pub use journal::Journal;
pub use level::Filter;

/// The target of lines that say what a caller with the right to did: none is left out.
pub const AUDIT: &str = "lanmesh::audit";
/// The target of what is said here.
const REPORT: &str = "lanmesh::left_out";

/// So many lines of one place are written at once after a quiet time, and so many a second on average.
const RATE: Rate = Rate { burst: 30.0, per_second: 1.0 };
/// How often it is said what was left out.
const EVERY: Duration = Duration::from_secs(10);
/// So much of a line's text stands for those that are left out, in bytes.
const SHOWN: usize = 80;

static SITES: LazyLock<Mutex<Sites>> = LazyLock::new(Mutex::default);

fn sites() -> MutexGuard<'static, Sites> {
    SITES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets so many lines of each place through and no more; one for the whole process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limited;

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        is_free(event.metadata()) || sites().admit(event, Instant::now())
    }
}

fn is_free(of: &Metadata<'_>) -> bool {
    *of.level() > Level::INFO || matches!(of.target(), AUDIT | REPORT)
}

/// Says every ten seconds what was left out of the log. Never ends.
pub async fn report() {
    loop {
        tokio::time::sleep(EVERY).await;
        let left_out = sites().take();
        for LeftOut { count, of, like } in left_out {
            tracing::warn!(target: REPORT, left_out = count, of, like, "lines were left out of the log");
        }
    }
}

/// What was left out of one place's lines.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    count: u64,
    /// The part of the program.
    of: &'static str,
    /// The last one that was written.
    like: String,
}

#[derive(Debug)]
struct Site {
    bucket: Bucket<Instant>,
    of: &'static str,
    like: String,
    left_out: u64,
}

/// Every place that has said something: as many as there are in the program.
#[derive(Debug, Default)]
struct Sites(HashMap<Identifier, Site>);

impl Sites {
    fn admit(&mut self, event: &Event<'_>, now: Instant) -> bool {
        let of = event.metadata();
        let site = self.0.entry(of.callsite()).or_insert_with(|| Site {
            bucket: Bucket::full(RATE, now),
            of: of.target(),
            like: String::new(),
            left_out: 0,
        });
        if !site.bucket.take(RATE, now) {
            site.left_out += 1;
            return false;
        }
        site.like.clear();
        event.record(&mut Text(&mut site.like));
        true
    }

    fn take(&mut self) -> Vec<LeftOut> {
        let taken = self.0.values_mut().filter(|site| site.left_out > 0);
        taken
            .map(|site| LeftOut {
                count: std::mem::take(&mut site.left_out),
                of: site.of,
                like: site.like.clone(),
            })
            .collect()
    }
}

/// Takes the beginning of an event's message.
struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let text = format!("{value:?}");
            self.0.extend(text.chars().take(SHOWN));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Counts what comes through.
    pub(super) struct Counter(pub Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Counter {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_flood_of_one_place_is_cut_and_counted_and_costs_no_other_place_a_line() {
        let count = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry().with(Limited).with(Counter(count.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let begun = Instant::now();
            for i in 0..5000 {
                tracing::warn!(i, "a stranger knocks");
            }
            let most = RATE.burst + begun.elapsed().as_secs_f64() * RATE.per_second;
            let written = count.swap(0, Ordering::SeqCst);
            assert!(written >= RATE.burst as usize && written as f64 <= most + 1.0, "{written}");
            tracing::info!("another place");
            for _ in 0..100 {
                tracing::debug!("asked for");
                tracing::info!(target: AUDIT, "an attach");
            }
            assert_eq!(count.load(Ordering::SeqCst), 201);
            let told = sites().take();
            let ours = told.iter().find(|told| told.like == "a stranger knocks").expect("is told");
            assert_eq!(ours.count as usize, 5000 - written);
            assert!(!sites().take().iter().any(|told| told.like == ours.like), "once");
        });
    }
}
