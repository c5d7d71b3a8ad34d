//! Whether frames pass between this node and each other node, in each network that both have endpoints in: both ways, and
//! at their full size. That an agent answers says nothing of it: gossip goes another way.
//!
//! Owns: what is in a probe (`frame`), when which is sent and what follows from the answers (`ways`), the same for one way that is tried at once (`trial`), and how that is said
//! (`say`). Pure: time and answers in, probes and sentences out. Does not own sockets (`kernel/probe.rs`, `agent/health.rs`).

mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod say;
mod trial;
mod ways;

pub use frame::{Frame, Kind, SHORTEST};
pub use say::{Problem, Standing, clocks, no_routes, problems, standing};
pub use trial::Trial;
pub use ways::{Ask, Change, Goal, Measured, Verdict, Way, WayKey, Ways};
