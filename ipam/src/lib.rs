//! The address plan of a lanmesh network: blocks, pools, reservations.

mod config;
mod hash;
mod range;

pub use config::{Pool, SubnetConfig};
pub use hash::stable_hash;
pub use range::{AddrRange, RangeError};
