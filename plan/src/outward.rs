//! How endpoints reach what is outside of their network by way of the node that they are on: with addresses of the node,
//! from ports that no other network has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use lanmesh_model::{NetworkId, OutwardPorts, Transport};

/// Who of a network reaches what is outside, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outward {
    /// The addresses of endpoints that do.
    pub from: BTreeSet<IpAddr>,
    /// They are seen as from one of these.
    pub ports: OutwardPorts,
    /// Where they may not send to, wherever it is: what nodes believe of each other's addresses.
    pub closed: BTreeSet<(Transport, u16)>,
}

impl fmt::Display for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outward")?;
        self.from.iter().try_for_each(|from| write!(f, " {from}"))?;
        write!(f, " by ports {} not to", self.ports)?;
        self.closed.iter().try_for_each(|(transport, port)| write!(f, " {port}/{transport}"))
    }
}

/// Which ports of the node belong to what a network sent outside.
pub type OutwardDoors = BTreeMap<NetworkId, OutwardPorts>;
