//! What Docker asks of a network and IPAM plugin, and what its questions mean for a lanmesh network.
//!
//! Owns: the bodies of the plugin protocol and of what is read of Docker's own API (`protocol`, `engine`), the ids of pools
//! (`pool`), what the options of `docker network create` say (`options`), which container an address is asked for and what its
//! endpoint is to be (`container`), which addresses a swarm's leader gives out as tokens (`tokens`), which of them are addresses of services
//! and are made real (`vip`), and what is remembered of Docker's networks and endpoints (`book`). Pure: no socket, no clock. Does not own who asks and how long it is waited for.
//!
//! Everything here can be asked again, in any order: Docker repeats calls, loses them, and forgets to make them.

#![forbid(unsafe_code)]

pub mod book;
pub mod container;
pub mod engine;
pub mod options;
pub mod pool;
pub mod protocol;
pub mod tokens;
pub mod vip;

#[cfg(test)]
mod recorded;

/// The address space in which a swarm's leader allocates for the whole swarm.
pub const GLOBAL_SPACE: &str = "lanmesh-global";
/// The address space in which each node allocates what its own containers get.
pub const LOCAL_SPACE: &str = "lanmesh-local";
