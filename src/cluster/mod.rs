//! The cluster: who belongs to it, who is alive, and what everybody publishes.
//!
//! Owns: keys and certificates, letting nodes in, membership (SWIM, by `foca`), the facts of every writer and
//! their anti-entropy, the cluster's sockets. Gives out a [`ClusterView`]. Does not own: what is done with the
//! view (the agent and its plan), any rule about addresses, any kernel object.
//!
//! The state machines (`core` and what it is made of: `facts`, `kinds`, `gossip_key`, `ledger`, `membership`, `seal`, `v2`,
//! `wire`) take `now`, return what to send, and know neither sockets nor clocks. `driver`, `streams`, `join` and `store` do the I/O, and
//! `handle` is what the agent sees. Why it is so: docs/decisions/cluster.md.
//!
//! [`ClusterView`]: crate::model::ClusterView

mod asking;
mod authority;
mod captures;
mod changes;
mod config;
mod conversation;
mod core;
mod desk;
mod driver;
mod drops;
mod errands;
mod error;
mod event;
mod facts;
mod fetch;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gossip_key;
mod handle;
mod join;
mod joined;
mod kinds;
mod ledger;
mod lending;
mod looking;
mod looks;
mod members;
mod membership;
mod metrics;
mod persister;
mod pki;
mod plain;
mod refusal;
mod rotate;
mod run;
mod saying;
mod seal;
#[cfg(test)]
mod sim;
mod slots;
mod store;
mod streams;
mod telling;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timing;
mod told;
mod trust;
mod v2;
mod version;
mod ways;
mod wire;

pub use config::{ClusterConfig, DEFAULT_PORT, InitConfig, Initial, JoinConfig, parse_address};
pub use desk::{
    CaptureRequest, CaptureSpec, Captured, DropsRequest, LoanRequest, LoanWish, LoansHeld, TraceRequest,
};
pub use drops::{ToldDrop, ToldDrops};
pub use error::{ClusterError, JoinError};
pub use event::{ClusterEvent, Stats};
pub use facts::MAX_AHEAD;
pub use fetch::{NetworkEndpoints, NetworkGroups, NetworkZeroconf};
pub use gossip_key::ProbeKey;
pub use handle::{Carried, Cluster};
pub use joined::Members;
pub use looks::Look;
pub use refusal::Refusal;
pub use store::{adopt, settle_here};
pub use timing::Timing;
pub use told::{Tell, Told, ToldEvent, Untold};
pub use version::{Apart, Protocols};
pub use ways::{TellWays, ToldWay, WayState};
