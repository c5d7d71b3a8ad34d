//! What a network's creator says about one subnet.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::AddrRange;

/// Addresses set apart for the slots of one service: slot `n` gets the address `range.first() + n`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The service's name.
    pub service: String,
    /// Its addresses.
    pub range: AddrRange,
}

/// What a network's creator says about one subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetConfig {
    /// The subnet; host bits are ignored.
    pub subnet: IpNetwork,
    /// The gateway; by default the first usable address.
    pub gateway: Option<IpAddr>,
    /// Addresses set apart for the slots of services.
    pub pools: Vec<Pool>,
    /// Addresses that are never handed out.
    pub reserved: Vec<AddrRange>,
    /// How many addresses each node's block has; by default a function of the subnet's size.
    pub block_size: Option<u64>,
}
