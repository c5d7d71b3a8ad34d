//! How much one sender may say.

use std::collections::BTreeMap;
use std::time::Duration;

use lanmesh_model::{Bucket, EndpointName, Rate};

/// Packets of one sender in a row, and in a second. Of long ones it is fewer: each [`RECORDS`] records count as one
/// more.
const RATE: Rate = Rate { burst: 400.0, per_second: 200.0 };
const RECORDS: usize = 8;
/// How many senders are remembered that have not been quiet.
const MOST: usize = 4096;

/// How many packets each endpoint may still send, whatever addresses it has; `None` are all strangers together.
#[derive(Debug, Default)]
pub struct Budgets(BTreeMap<Option<EndpointName>, Bucket<Duration>>);

impl Budgets {
    /// Takes a packet off, if there is one left.
    pub fn take(&mut self, now: Duration, sender: Option<&EndpointName>) -> bool {
        let bucket = self.0.entry(sender.cloned()).or_insert_with(|| Bucket::full(RATE, now));
        let some = bucket.take(RATE, now);
        if self.0.len() > MOST {
            self.0.retain(|_, bucket| !bucket.is_full(RATE, now));
        }
        some
    }

    /// Takes off what the records of a packet cost.
    pub fn charge(&mut self, sender: Option<&EndpointName>, records: usize) {
        if let Some(bucket) = self.0.get_mut(&sender.cloned()) {
            bucket.charge((records / RECORDS) as f64);
        }
    }
}
