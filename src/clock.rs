//! The wall clock, which people and other nodes read. Nothing waits by it.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time, in milliseconds since 1970; 0 where the clock is before that.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
