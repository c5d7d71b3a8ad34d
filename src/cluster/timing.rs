//! How fast the nodes of a cluster notice things, and how well their clocks must agree.

use std::time::Duration;

/// How far the clocks of a joining node and the manager may be apart.
pub(super) const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(60);

/// How fast things are noticed. Everything else is derived from these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Within this time every node of a small cluster knows that one is dead. Equal on all nodes.
    pub detect: Duration,
    /// How often each node compares what it knows with one other node.
    pub sync: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { detect: Duration::from_secs(2), sync: Duration::from_secs(2) }
    }
}
