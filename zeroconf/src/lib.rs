//! Multicast DNS (RFC 6762) and DNS-SD (RFC 6763) of one network on one node, as a state machine.
//!
//! Owns: what is learned from the packets of this node's endpoints, what is announced for endpoints that speak no
//! mDNS, and what is answered for those of other nodes. Pure: takes the time and what arrives, gives out what to
//! send and what to publish. Does not own: sockets, filters, or how facts travel. The crate's README has an example.
//!
//! `read` and `codec` read and write packets. What a local endpoint says goes into its `cache`; `found` makes services and
//! hosts of that; `settle` decides who has which name. `zone` has the records that this agent answers for: those that
//! `declare` has won for declared services and, in proxy mode, those of other nodes. `respond` sends them at the right
//! time, `ask` puts this agent's own questions, `overhear` and `look` draw conclusions from those of others, `farewell` speaks for
//! those who died, and `engine` and `hear` hold it together.

mod ask;
mod budgets;
mod cache;
mod codec;
mod counters;
mod declare;
mod engine;
mod farewell;
mod farewells;
mod found;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hear;
mod links;
mod look;
mod looks;
mod names;
mod overhear;
mod read;
mod respond;
mod settle;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod types;
mod uncarried;
mod zone;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use counters::{Counters, Discard};
pub use engine::Engine;
pub use types::{
    Arrival, Config, Contest, Destination, Facts, Family, GROUP_V4, GROUP_V6, Offer, Output, OwnEndpoint,
    PORT, Registry, RemoteNode, Sought,
};
pub use uncarried::Uncarried;
