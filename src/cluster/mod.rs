//! The cluster: who belongs to it, who is alive, and what everybody publishes.
//!
//! Owns: keys and certificates, letting nodes in, membership (SWIM, by `foca`), the facts of every writer and
//! their anti-entropy, the cluster's sockets. Gives out a [`ClusterView`]. Does not own: what is done with the
//! view (the agent and its plan), any rule about addresses, any kernel object.
//!
//! The state machines take `now`, return what to send, and know neither sockets nor clocks; only `handle`,
//! `driver`, `streams` and `join` do I/O.
//!
//! [`ClusterView`]: crate::model::ClusterView

mod config;
mod core;
mod driver;
mod error;
mod event;
mod facts;
mod handle;
mod join;
mod ledger;
mod membership;
mod pki;
mod seal;
#[cfg(test)]
mod sim;
mod store;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{ClusterConfig, DEFAULT_PORT, InitConfig, Initial, JoinConfig, Timing, parse_address};
pub use error::{ClusterError, JoinError, Refusal};
pub use event::{ClusterEvent, Stats};
pub use handle::{Cluster, NetworkEndpoints, NetworkGroups};
