//! What a zone is made of: hosts, what they offer, and the names of all.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::hosts::Hosts;
use super::key::key;
use super::offer::Offer;
use super::{Entry, LostName};

/// What a zone is made of.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub hosts: Hosts,
    pub offers: Vec<Offer>,
    /// Names relative to the network's domain.
    pub names: HashMap<Box<[u8]>, Entry>,
    /// The host that has an address.
    pub addresses: BTreeMap<IpAddr, u32>,
    /// What endpoints were named that is answered with others.
    pub lost: Vec<LostName>,
}

impl Index {
    /// The host whose own name this is.
    pub fn host_named(&self, name: &str) -> Option<u32> {
        let first = match self.names.get(&key([name]))? {
            Entry::Host(host) => *host,
            Entry::Hosts(hosts) => *hosts.first()?,
            _ => return None,
        };
        self.hosts.name(first).filter(|own| *own == name).map(|_| first)
    }
}
