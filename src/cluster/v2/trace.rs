//! Looking at a path: what a node at one end of it is asked, and what it says.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A part of a path that a node is asked to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct TraceErrand {
    pub network: [u8; 8],
    pub here: Option<String>,
    pub node: [u8; 16],
    pub there: Option<String>,
    /// 0: one endpoint, 1: the same by a service's address, 2: the group below, 3: all, 4: one endpoint by a published port.
    pub cast: u8,
    pub group: Option<IpAddr>,
    pub inward: bool,
    pub port: Option<u16>,
}

/// What it found, in the order in which frames pass it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Traced {
    pub hops: Vec<TracedHop>,
}

/// A part of the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct TracedHop {
    pub part: String,
    pub found: String,
    /// What is wrong, what mends it, and 0: it keeps frames from passing, 1: it says where they get lost, 2: they do not pass,
    /// 3: they may pass all the same.
    pub wrong: Vec<(String, String, u8)>,
}
