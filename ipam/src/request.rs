//! What an endpoint asks for, and what it gets.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// What an endpoint asks of one subnet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// What the place in the node's block is computed from; see [`endpoint_key`].
    pub key: &'a str,
    /// The service, whose pool is used if it has one.
    pub service: Option<&'a str>,
    /// The slot in the service, counted from 0.
    pub slot: Option<u32>,
    /// An address that was asked for.
    pub address: Option<IpAddr>,
}

/// What an endpoint asks of all subnets of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressRequest<'a> {
    /// What the place in the node's blocks is computed from; see [`endpoint_key`].
    pub key: &'a str,
    /// The service, whose pools are used if it has any.
    pub service: Option<&'a str>,
    /// The slot in the service, counted from 0.
    pub slot: Option<u32>,
    /// Addresses that were asked for, at most one of each subnet, in any order.
    pub addresses: &'a [IpAddr],
}

/// The key of an endpoint: `SERVICE.SLOT` where it has both, so that whoever takes over the slot takes over
/// the address, and its own name otherwise.
///
/// Names contain no dot, so no name equals the key of a slot.
pub fn endpoint_key(name: &str, service: Option<&str>, slot: Option<u32>) -> String {
    match (service, slot) {
        (Some(service), Some(slot)) => format!("{service}.{slot}"),
        _ => name.to_owned(),
    }
}

/// Which rule an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It was asked for.
    Asked,
    /// The service's pool.
    Pool {
        /// The slot in it, counted from 0: the address is the pool's first plus this.
        slot: u32,
    },
    /// The node's block.
    Block,
    /// A part of another block that the node borrowed.
    Borrowed,
}

/// An address that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The address, with the subnet's prefix length.
    pub address: IpNetwork,
    /// Which rule it comes from.
    pub origin: Origin,
}
