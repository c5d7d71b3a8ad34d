//! What happened on a node, for another one that asks.

use serde::{Deserialize, Serialize};

/// What is asked for: the events after the one with a number, no older than a time, and no more than so many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct EventsWish {
    pub after: u64,
    /// In milliseconds since 1970, by the clock of the node that is asked.
    pub since_ms: u64,
    pub most: u32,
}

/// The answer, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct EventsTold {
    /// Some are not kept any more that were to be here.
    pub missed: bool,
    /// There are more behind the last one.
    pub more: bool,
    pub events: Vec<Event>,
}

/// One of them. Its kind is a word, so that later ones travel too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Event {
    pub seq: u64,
    /// In milliseconds since 1970.
    pub time_ms: u64,
    pub kind: String,
    pub node: Option<String>,
    pub network: Option<String>,
    pub endpoint: Option<String>,
    pub message: String,
}
