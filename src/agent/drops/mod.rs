//! What was dropped: on this node and on the others, by why, and what to do about it.
//!
//! Owns: which of the things that are counted are drops, and the advice. Does not own the counting (`kernel`, `dns`, `zeroconf`,
//! `cluster`).

mod advice;
mod alarm;
mod counted;
mod everywhere;
mod here;

pub use alarm::tell;
pub use counted::{Counted, Counting};
pub use here::DropsHere;
