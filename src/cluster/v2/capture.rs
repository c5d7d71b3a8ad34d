//! Listening to frames at another node: what is asked again and again, and what came meanwhile.

use serde::{Deserialize, Serialize};

/// A capture, which begins when its number is heard for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct CaptureAsk {
    /// Drawn by whoever asks.
    pub number: u64,
    pub network: [u8; 8],
    pub endpoint: Option<String>,
    pub filter: String,
    pub snaplen: u32,
}

/// What came since it was last asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Captured {
    /// Each with its time in microseconds since 1970, its length, and its first bytes.
    pub packets: Vec<(u64, u32, Vec<u8>)>,
    /// How many frames were lost.
    pub lost: u64,
    /// Why there will be no more; empty otherwise.
    pub end: String,
}
