//! Who has a name or an address that several endpoints of one network claim.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Endpoint, EndpointName, NodeId};

/// Of two claims the one with the higher version wins, between equal ones that of the node with the higher id.
pub type Claim = (u64, NodeId);

/// The claim of an endpoint that `node` has.
pub fn claim(node: NodeId, endpoint: &Endpoint) -> Claim {
    (endpoint.claim, node)
}

/// The highest claim on each address and each name of a network.
#[derive(Debug, Default)]
pub struct Claims<'a> {
    addresses: HashMap<IpAddr, Claim>,
    names: HashMap<&'a EndpointName, Claim>,
}

impl<'a> Claims<'a> {
    /// Counts the claims of an endpoint that `node` has.
    pub fn add(&mut self, node: NodeId, endpoint: &'a Endpoint) {
        let claim = claim(node, endpoint);
        let raise = |best: &mut Claim| *best = claim.max(*best);
        for address in &endpoint.addresses {
            self.addresses.entry(address.ip()).and_modify(raise).or_insert(claim);
        }
        self.names.entry(&endpoint.name).and_modify(raise).or_insert(claim);
    }

    /// Whether nobody has a higher claim on the name or on any of the addresses of an endpoint that `node` has.
    pub fn win(&self, node: NodeId, endpoint: &Endpoint) -> bool {
        let claim = claim(node, endpoint);
        let holds = |best: Option<&Claim>| best.is_none_or(|best| *best <= claim);
        holds(self.names.get(&endpoint.name))
            && endpoint.addresses.iter().all(|address| holds(self.addresses.get(&address.ip())))
    }
}
