//! Multicast DNS (RFC 6762) and DNS-SD (RFC 6763) of one network on one node, as a state machine.
//!
//! Owns: what is learned from the packets of this node's endpoints, what is announced for endpoints that speak no
//! mDNS, and what is answered for those of other nodes. Pure: takes the time and what arrives, gives out what to
//! send and what to publish. Does not own: sockets, kernel filters (`kernel`), how facts travel (`cluster`).

mod counters;
mod types;

pub use counters::{Counters, Discard};
pub use types::{
    Arrival, Config, Destination, Facts, Family, GROUP_V4, GROUP_V6, LocalEndpoint, Offer, Output, PORT,
    Registry, RemoteNode,
};
