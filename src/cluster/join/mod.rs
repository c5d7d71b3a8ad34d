//! How a node gets into a cluster: the token, what is said over the stream, and who decides.
//!
//! Owns: both sides of a join. Does not own: the streams (`streams`), what a member does afterwards (`core`).

pub(super) mod client;
pub(super) mod gate;
pub(super) mod token;

use super::Refusal;
