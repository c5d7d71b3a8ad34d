//! What a node dropped, for another one that asks.

use serde::{Deserialize, Serialize};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct DropsTold {
    /// How old what the kernel counted is, in milliseconds.
    pub age_ms: u64,
    pub drops: Vec<DropTold>,
}

/// One of the counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct DropTold {
    /// Why, in one word.
    pub reason: String,
    /// In which network; absent where it is of the node.
    pub network: Option<[u8; 8]>,
    /// Of which endpoint; absent where it is a sum.
    pub endpoint: Option<String>,
    pub count: u64,
}
