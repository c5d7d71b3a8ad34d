//! Who is on the network: from a packet's sender to the endpoint it comes from, and which names are whose.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::{Arrival, Discard, OwnEndpoint, RemoteNode};
use lanmesh_model::zeroconf::fold;
use lanmesh_model::{EndpointName, Mac, NodeId};

/// Where a packet comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// This agent, or that of another node: they share their addresses.
    Agent,
    /// An endpoint of this node.
    Local(EndpointName),
    /// An endpoint of another node.
    Remote(EndpointName),
    /// A link-local address that is nobody's in particular. It may ask; what it says does not count.
    Stranger,
}

impl Sender {
    /// The endpoint, where there is one.
    pub fn endpoint(&self) -> Option<&EndpointName> {
        match self {
            Self::Local(name) | Self::Remote(name) => Some(name),
            Self::Agent | Self::Stranger => None,
        }
    }
}

/// The endpoints of a network.
#[derive(Debug, Default)]
pub struct Links {
    own: BTreeSet<IpAddr>,
    pub local: BTreeMap<EndpointName, OwnEndpoint>,
    /// Whose an address is, and whether that is an endpoint of this node.
    addresses: HashMap<IpAddr, (EndpointName, bool)>,
    /// The endpoints that have a name or an alias, by the name folded.
    names: HashMap<String, Vec<EndpointName>>,
}

impl Links {
    pub fn new(own: BTreeSet<IpAddr>) -> Self {
        Self { own, ..Self::default() }
    }

    /// Takes in anew who there is.
    pub fn set(&mut self, remote: &BTreeMap<NodeId, RemoteNode>) {
        self.addresses.clear();
        self.names.clear();
        let link_local = |mac: Mac| IpAddr::from(mac.link_local().ip());
        // What this node has counts for more: an endpoint that moved here may still be known elsewhere.
        for endpoint in remote.values().flat_map(|node| node.endpoints.values()) {
            let addresses =
                endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip).chain([link_local(endpoint.mac)]);
            self.addresses.extend(addresses.map(|address| (address, (endpoint.name.clone(), false))));
            for name in std::iter::once(&endpoint.name).chain(&endpoint.aliases) {
                self.names.entry(fold(name.as_str())).or_default().push(endpoint.name.clone());
            }
        }
        for endpoint in self.local.values() {
            let addresses = endpoint.addresses.iter().copied().chain([link_local(endpoint.mac)]);
            self.addresses.extend(addresses.map(|address| (address, (endpoint.name.clone(), true))));
            for name in std::iter::once(&endpoint.name).chain(&endpoint.aliases) {
                self.names.entry(fold(name.as_str())).or_default().push(endpoint.name.clone());
            }
        }
    }

    /// Who has sent a packet.
    ///
    /// # Errors
    /// Nobody whom this network knows.
    pub fn sender(&self, arrival: &Arrival) -> Result<Sender, Discard> {
        let address = arrival.from.ip();
        if self.own.contains(&address) {
            return Ok(Sender::Agent);
        }
        let stranger = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        match (&arrival.port, self.addresses.get(&address)) {
            (Some(port), Some((name, _))) if port != name => Err(Discard::WrongInterface),
            (_, Some((name, true))) => Ok(Sender::Local(name.clone())),
            (_, Some((name, false))) => Ok(Sender::Remote(name.clone())),
            (Some(port), None) if stranger && self.local.contains_key(port) => {
                Ok(Sender::Local(port.clone()))
            }
            (None, None) if stranger => Ok(Sender::Stranger),
            (_, None) => Err(Discard::UnknownSender),
        }
    }

    /// Whether an address is this endpoint's.
    pub fn has(&self, endpoint: &EndpointName, address: &IpAddr) -> bool {
        self.addresses.get(address).is_some_and(|(name, _)| name == endpoint)
    }

    /// Whether a host name, folded, is that of another endpoint, whether it announces it or not.
    pub fn is_anothers(&self, host: &str, endpoint: &EndpointName) -> bool {
        self.names.get(host).is_some_and(|names| !names.contains(endpoint))
    }

    /// Whether a host name, folded, is the endpoint's own.
    pub fn is_own(&self, host: &str, endpoint: &EndpointName) -> bool {
        self.names.get(host).is_some_and(|names| names.contains(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::testing::{endpoint, local, name, remote};
    use super::*;

    #[test]
    fn a_sender_is_known_by_its_address_and_its_port() {
        let mut links = Links::new(BTreeSet::from(["10.10.0.1".parse().unwrap()]));
        links.local.insert(name("a"), local("a", 2));
        links.set(&BTreeMap::from([remote(9, [endpoint("b", 3)], [])]));
        let sender = |from: &str, port: Option<&str>| {
            let from: IpAddr = from.parse().unwrap();
            links.sender(&Arrival {
                from: SocketAddr::new(from, 5353),
                multicast: true,
                port: port.map(name),
            })
        };
        let mac = Mac::of_endpoint("10.10.0.2".parse().unwrap());
        let link_local = mac.link_local().ip().to_string();
        assert_eq!(sender("10.10.0.1", None), Ok(Sender::Agent));
        assert_eq!(sender("10.10.0.2", None), Ok(Sender::Local(name("a"))));
        assert_eq!(sender(&link_local, None), Ok(Sender::Local(name("a"))));
        assert_eq!(sender("10.10.0.3", None), Ok(Sender::Remote(name("b"))));
        assert_eq!(sender("fe80::77", None), Ok(Sender::Stranger));
        assert_eq!(sender("fe80::77", Some("a")), Ok(Sender::Local(name("a"))));
        assert_eq!(sender("10.10.0.3", Some("a")), Err(Discard::WrongInterface));
        assert_eq!(sender("10.10.0.4", None), Err(Discard::UnknownSender));
        assert_eq!(sender("192.0.2.1", Some("a")), Err(Discard::UnknownSender));
    }
}
