//! The addresses and MACs that were given to the endpoints of a network, for a look.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Endpoint, EndpointName, Mac, NetworkView, NodeId};

/// What was given to the endpoints of a network.
#[derive(Debug, Default)]
pub struct Given {
    from: BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>>,
    addresses: HashMap<IpAddr, Mac>,
    macs: HashSet<Mac>,
}

impl Given {
    /// Brings it up to date; costs next to nothing where no endpoint is another.
    pub fn update(&mut self, network: &NetworkView) {
        let same = self.from.keys().eq(network.endpoints.keys())
            && self.from.values().zip(network.endpoints.values()).all(|(was, is)| Arc::ptr_eq(was, is));
        if same {
            return;
        }
        self.from.clone_from(&network.endpoints);
        let endpoints = || network.endpoints.values().flat_map(|own| own.values());
        self.macs = endpoints().map(|endpoint| endpoint.mac).collect();
        let addresses = endpoints()
            .flat_map(|endpoint| endpoint.addresses.iter().map(|address| (address.ip(), endpoint.mac)));
        self.addresses = addresses.collect();
    }

    /// The MAC of the endpoint that an address was given to.
    pub fn holder(&self, address: IpAddr) -> Option<Mac> {
        self.addresses.get(&address).copied()
    }

    /// Whether a MAC was given to an endpoint.
    pub fn has_mac(&self, mac: Mac) -> bool {
        self.macs.contains(&mac)
    }
}
