//! Which ports of the node lead to which gate, as both ways there need it.

use std::collections::{BTreeMap, BTreeSet};

use lanmesh_ipam::stable_hash;

use super::exits::Exits;
use crate::model::OutwardPorts;
use crate::plan::Door;

/// A gate, as the node sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gate {
    /// The name of the device.
    pub name: String,
    /// Its index.
    pub index: u32,
}

/// What is to be taken where.
pub(super) struct Doors {
    /// The number of the rules.
    pub number: u64,
    /// The gate of each.
    pub doors: BTreeMap<Door, Gate>,
    /// Whose answers to what was sent outside go where,
    pub outward: Vec<(OutwardPorts, Gate)>,
    /// and by where it leaves.
    pub exits: Exits,
    /// How large the packets are that come out of the gates of doors, at most.
    pub largest: u32,
    /// Whether there is to be a short way, too.
    pub fast: bool,
}

impl Doors {
    /// The number of the exits to which there is a short way; 0 where there is to be none.
    pub fn ways(&self) -> u64 {
        if self.fast { self.exits.number_of_ways() } else { 0 }
    }

    /// All gates that something goes through.
    pub fn gates(&self) -> BTreeSet<&Gate> {
        self.doors.values().chain(self.outward.iter().map(|(_, gate)| gate)).collect()
    }
}

/// A number that is another one where a gate is, or has another index.
pub(super) fn number_of_gates(gates: &BTreeSet<&Gate>) -> u64 {
    stable_hash(format!("{gates:?}").as_bytes())
}

/// The key of a port: protocol, then port, each in four bytes.
pub(super) fn port_key(door: &Door) -> Vec<u8> {
    let [high, low] = door.port.to_be_bytes();
    vec![door.transport.number(), 0, 0, 0, high, low, 0, 0]
}
