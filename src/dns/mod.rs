//! DNS discovery: a name server on the gateway addresses of every network that this node has.
//!
//! Owns: what becomes of a query (`handler`), the sockets inside a network's namespace (`server`), names from outside (`forward`), and how much
//! one client may ask (`limit`). Does not own: what a network's names are and what is answered for them (the crate `zone`), what
//! the cluster knows (`cluster`), the namespaces themselves (`kernel`), or when servers are needed (the agent calls [`Dns::serve`]).

mod config;
mod counters;
mod error;
mod fit;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod limit;
mod metrics;
mod reply;
mod server;
mod service;
mod shares;

pub use config::{DnsConfig, Limits, RESOLV_CONF_MARK, Served, resolv_conf, search_domain};
pub use counters::Counters;
pub use error::DnsError;
pub use forward::without_resolvers;
pub use lanmesh_zone as zone;
pub use service::{Dns, LostNames};
pub use zone::LostName;
