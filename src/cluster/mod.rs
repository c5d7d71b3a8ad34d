//! The cluster: who belongs to it, who is alive, and what everybody publishes.
//!
//! Owns: keys and certificates, letting nodes in, membership (SWIM, by `foca`), the facts of every writer and
//! their anti-entropy, the cluster's sockets. Gives out a [`ClusterView`]. Does not own: what is done with the
//! view (the agent and its plan), any rule about addresses, any kernel object.
//!
//! The state machines (`core` and what it is made of: `facts`, `gossip_key`, `ledger`, `membership`, `seal`, `wire`) take `now`,
//! return what to send, and know neither sockets nor clocks. `driver`, `streams`, `join` and `store` do the I/O, and
//! `handle` is what the agent sees. Why it is so: docs/decisions/cluster.md.
//!
//! [`ClusterView`]: crate::model::ClusterView

mod config;
mod core;
mod driver;
mod error;
mod event;
mod facts;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gossip_key;
mod handle;
mod join;
mod ledger;
mod members;
mod membership;
mod pki;
mod rotate;
mod seal;
#[cfg(test)]
mod sim;
mod slots;
mod store;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trust;
mod wire;

pub use config::{ClusterConfig, DEFAULT_PORT, InitConfig, Initial, JoinConfig, Timing, parse_address};
pub use error::{ClusterError, JoinError, Refusal};
pub use event::{ClusterEvent, Stats};
pub use handle::{Cluster, NetworkEndpoints, NetworkGroups, NetworkZeroconf};
pub use members::Members;
