//! When a record was written, so that of two writes all nodes agree which was the later: a hybrid logical clock.
//!
//! The wall clock, as far as it goes forward, and a counter for what happens within one of its ticks or while it stands
//! still (Kulkarni and others, "Logical Physical Clocks", 2014). Whoever writes after having seen another write is
//! later than that, whatever the two wall clocks say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::NodeId;

/// How far ahead of this node's clock a stamp may be. Nodes whose clocks are a minute apart are not
/// let in; this leaves room for one that is set wrong later, and none for somebody who wants to win for ever.
pub const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_AHEAD_MS: u64 = MAX_AHEAD.as_secs() * 1000;

/// When a record was written. The greater of two is the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(in crate::cluster) struct Stamp {
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Counts what is written within one of them.
    pub count: u32,
    /// By whom: decides between two that are equal else.
    pub node: NodeId,
}

impl Stamp {
    /// What is written now, after `seen`.
    pub fn after(seen: Option<Self>, wall_ms: u64, node: NodeId) -> Self {
        match seen {
            Some(seen) if seen.wall_ms >= wall_ms => match seen.count.checked_add(1) {
                Some(count) => Self { wall_ms: seen.wall_ms, count, node },
                None => Self { wall_ms: seen.wall_ms.saturating_add(1), count: 0, node },
            },
            _ => Self { wall_ms, count: 0, node },
        }
    }

    /// Whether it is from so far ahead that nobody's clock can be meant.
    pub fn is_ahead(&self, wall_ms: u64) -> bool {
        self.wall_ms > wall_ms.saturating_add(MAX_AHEAD_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_bytes([1; 16]);

    #[test]
    fn what_is_written_after_something_seen_is_later_whatever_the_clock_says() {
        let first = Stamp::after(None, 1000, NODE);
        let next = Stamp::after(Some(first), 1000, NODE);
        let back = Stamp::after(Some(next), 500, NODE);
        let full = Stamp::after(Some(Stamp { count: u32::MAX, ..back }), 500, NODE);
        assert!(first < next && next < back && back < full, "{first:?} {next:?} {back:?} {full:?}");
        assert_eq!(Stamp::after(Some(full), 2000, NODE), Stamp { wall_ms: 2000, count: 0, node: NODE });
    }

    #[test]
    fn between_two_writes_of_one_moment_the_node_decides() {
        let other = NodeId::from_bytes([2; 16]);
        assert!(Stamp::after(None, 1, NODE) < Stamp::after(None, 1, other));
    }

    #[test]
    fn a_stamp_of_the_day_after_tomorrow_is_nobodys() {
        assert!(!Stamp::after(None, 60_000, NODE).is_ahead(0));
        assert!(Stamp::after(None, MAX_AHEAD_MS + 1, NODE).is_ahead(0));
        assert!(!Stamp::after(None, u64::MAX, NODE).is_ahead(u64::MAX - 1));
    }
}
