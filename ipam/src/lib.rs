//! The address plan of a lanmesh network: blocks, pools, reservations.
//!
//! An address is computed, not negotiated. What a network's creator said ([`SubnetConfig`]) gives a
//! [`SubnetPlan`]; the plan, a node's index and what that node has in use ([`Allocator`]) give an address.
//! [`NetworkPlan`] and [`NetworkAllocator`] do the same for all subnets of a network at once.
//!
//! Owns: every rule about which address an endpoint gets. Does not own: any I/O, clock or randomness, and
//! any knowledge of other nodes, but for the caller's answer to "is this address taken elsewhere?".
//!
//! IPv4 and IPv6 go through one code path: inside, an address is its 128-bit offset from the subnet's first.
//! The rules in words, and an address worked out by hand, are in the crate's README.

mod alloc_error;
mod allocator;
mod bitmap;
mod block;
mod config;
mod gaps;
mod hash;
mod lending;
mod memory;
mod network;
mod node;
mod part;
mod plan;
mod plan_error;
mod pool;
mod range;
mod request;
mod service;
mod share;
mod space;
mod special;

pub use alloc_error::AllocError;
pub use allocator::{Allocator, foretell};
pub use block::Block;
pub use config::{NetworkConfig, SubnetConfig};
pub use hash::stable_hash;
pub use lending::{Borrower, unowned, wanted};
pub use memory::{Freed, Memory};
pub use network::{NetworkAllocator, NetworkPlan};
pub use plan::{MAX_BLOCK_SIZE, MAX_DEFAULT_BLOCK_SIZE, Owner, SubnetPlan};
pub use plan_error::{Item, PlanError};
pub use pool::Pool;
pub use range::{AddrRange, RangeError};
pub use request::{AddressRequest, Grant, Origin, Request, endpoint_key};
pub use service::ServiceAddressError;
pub use share::Share;
pub use special::Special;

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
