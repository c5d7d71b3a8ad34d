//! What stands in the way between two ends, as far as the two nodes see: from what should be in a node's kernel and what is there
//! to sentences that say what is wrong on one path and what mends it.
//!
//! Owns: what is looked at for which path (`sight`), the sentences (`judge`, `entries`, `tunnel`, `published`), and which of all that are said is the one to
//! begin with (`conclude`). Pure. Does not own how anything is read (`kernel`, `reconcile`), what probes say (`health`), nor who is
//! asked (the agent).

mod conclude;
mod entries;
mod judge;
mod published;
mod sight;
mod tunnel;

pub use conclude::{Leg, Step, conclude, first};
pub use judge::{hops, meeting};
pub use sight::{Other, Published, Sight, Way};

#[cfg(test)]
mod tests;
