//! How the ways from a node to the others are, for another one that asks.

use serde::{Deserialize, Serialize};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct WaysTold {
    pub ways: Vec<WayTold>,
}

/// One of them. Times are ages: nobody has to trust another one's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct WayTold {
    pub peer: [u8; 16],
    pub network: [u8; 8],
    /// 0: nothing is known; 1: whole packets pass both ways; 2: smaller ones only; 3: nothing arrives there; 4: nothing comes.
    pub verdict: u8,
    pub encrypted: bool,
    /// The largest packet that should pass, in bytes.
    pub size: u16,
    /// The largest that does, where it is smaller.
    pub carries: u16,
    /// For how long the verdict holds, in milliseconds.
    pub since_ms: u64,
    /// How long ago something came from there.
    pub heard_ms: Option<u64>,
    /// Probes that were sent lately, and those that were not answered.
    pub sent: u32,
    pub lost: u32,
    /// What is wrong, and what to do.
    pub what: String,
    pub hint: String,
}
