//! Who has a name, a slot or an address that several endpoints of one network claim.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use super::{Endpoint, EndpointName, NodeId, ServiceName};

/// Of two claims the one with the higher version wins, between equal ones that of the node with the higher id.
pub type ClaimRank = (u64, NodeId);

/// The claim of an endpoint that `node` has.
pub fn claim(node: NodeId, endpoint: &Endpoint) -> ClaimRank {
    (endpoint.claim, node)
}

/// Something that one endpoint of a network can have, and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contested {
    /// Its name.
    Name(EndpointName),
    /// Its number in a service.
    Slot(ServiceName, u32),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "the name {name}"),
            Self::Slot(service, slot) => write!(f, "slot {slot} of {service}"),
            Self::Address(address) => write!(f, "the address {address}"),
        }
    }
}

impl Contested {
    /// What of an endpoint's another one has too: the slot first, then the name, then an address.
    pub fn between(one: &Endpoint, other: &Endpoint) -> Option<Self> {
        if let (Some(service), Some(slot)) = (&one.service, one.slot)
            && (other.service.as_ref(), other.slot) == (Some(service), Some(slot))
        {
            return Some(Self::Slot(service.clone(), slot));
        }
        if one.name == other.name {
            return Some(Self::Name(one.name.clone()));
        }
        let has = |address: &IpAddr| other.addresses.iter().any(|its| its.ip() == *address);
        one.addresses.iter().map(ipnetwork::IpNetwork::ip).find(has).map(Self::Address)
    }
}

/// The highest claim on each address, each name and each slot of a network.
#[derive(Debug, Default)]
pub struct Claims<'a> {
    addresses: HashMap<IpAddr, ClaimRank>,
    names: HashMap<&'a EndpointName, ClaimRank>,
    /// Of those that were attached to take it over: two that have one slot and addresses of their own are in nobody's
    /// way by themselves.
    slots: HashMap<(&'a ServiceName, u32), ClaimRank>,
}

impl<'a> Claims<'a> {
    /// Counts the claims of an endpoint that `node` has.
    pub fn add(&mut self, node: NodeId, endpoint: &'a Endpoint) {
        let claim = claim(node, endpoint);
        let raise = |best: &mut ClaimRank| *best = claim.max(*best);
        for address in &endpoint.addresses {
            self.addresses.entry(address.ip()).and_modify(raise).or_insert(claim);
        }
        self.names.entry(&endpoint.name).and_modify(raise).or_insert(claim);
        if let (Some(slot), Some(_)) = (endpoint.place(), endpoint.took_ms) {
            self.slots.entry(slot).and_modify(raise).or_insert(claim);
        }
    }

    /// Whether nobody has a higher claim on the name, the slot or any of the addresses of an endpoint that `node` has.
    pub fn win(&self, node: NodeId, endpoint: &Endpoint) -> bool {
        let claim = claim(node, endpoint);
        let holds = |best: Option<&ClaimRank>| best.is_none_or(|best| *best <= claim);
        holds(self.names.get(&endpoint.name))
            && endpoint.addresses.iter().all(|address| holds(self.addresses.get(&address.ip())))
            && endpoint.place().is_none_or(|slot| holds(self.slots.get(&slot)))
    }
}
