//! Addresses that are set apart for a service.

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
