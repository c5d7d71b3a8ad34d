//! What other nodes were told lately that was asked for here.

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::rr::Name;
use lanmesh_model::EndpointName;

/// How soon the same is told again.
const AGAIN: Duration = Duration::from_millis(900);
/// How much is told in a second, and remembered to have been told.
pub const PER_SECOND: usize = 32;
const KEPT: usize = 1024;

/// What was told to other nodes lately.
#[derive(Debug, Default)]
pub struct Looks {
    told: BTreeMap<(EndpointName, Name, u16), Duration>,
}

impl Looks {
    /// How much may be told now.
    pub fn left(&self, now: Duration) -> usize {
        let lately = self.told.values().filter(|at| **at + Duration::from_secs(1) > now).count();
        PER_SECOND.saturating_sub(lately)
    }

    /// Whether this is told now, if anything may be.
    pub fn take(&mut self, now: Duration, what: &(EndpointName, Name, u16)) -> bool {
        if self.told.get(what).is_some_and(|at| *at + AGAIN > now) {
            return false;
        }
        if self.told.len() >= KEPT {
            self.told.retain(|_, at| *at + AGAIN > now);
        }
        self.told.insert(what.clone(), now);
        true
    }
}
