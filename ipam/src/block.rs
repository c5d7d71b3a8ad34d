//! One node's share of a subnet.

use std::fmt;

use serde::Serialize;

use crate::AddrRange;

/// The addresses of one node index. Displays as its ranges: `10.0.0.2-10.0.0.9, 10.0.0.20-10.0.0.27`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Block {
    /// The node index.
    pub index: u32,
    /// Its addresses in ascending order: several ranges where a pool, a reservation or the gateway lies in between.
    pub ranges: Vec<AddrRange>,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges.iter().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
