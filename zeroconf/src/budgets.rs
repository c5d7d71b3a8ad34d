//! How much one sender may say.

use std::collections::BTreeMap;
use std::time::Duration;

use lanmesh_model::EndpointName;

/// Packets of one sender in a row, and in a second. Of long ones it is fewer: each [`RECORDS`] records count as one
/// more.
const BURST: u32 = 400;
const PER_SECOND: u32 = 200;
const RECORDS: usize = 8;

/// How many packets each endpoint may still send, whatever addresses it has; `None` are all strangers together.
#[derive(Debug, Default)]
pub struct Budgets(BTreeMap<Option<EndpointName>, (u32, Duration)>);

impl Budgets {
    /// Takes a packet off, if there is one left.
    pub fn take(&mut self, now: Duration, sender: Option<&EndpointName>) -> bool {
        let (left, since) = self.0.entry(sender.cloned()).or_insert((BURST, now));
        let earned = now.saturating_sub(*since).as_millis() as u64 * u64::from(PER_SECOND) / 1000;
        if earned > 0 {
            (*left, *since) = (u64::from(*left).saturating_add(earned).min(BURST.into()) as u32, now);
        }
        let some = *left > 0;
        *left = left.saturating_sub(1);
        if self.0.len() > 4096 {
            self.0.retain(|_, (left, _)| *left < BURST - 1);
        }
        some
    }

    /// Takes off what the records of a packet cost.
    pub fn charge(&mut self, sender: Option<&EndpointName>, records: usize) {
        if let Some((left, _)) = self.0.get_mut(&sender.cloned()) {
            *left = left.saturating_sub((records / RECORDS) as u32);
        }
    }
}
