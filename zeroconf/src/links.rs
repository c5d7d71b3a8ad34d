//! Who is on the network: from a packet's sender to the endpoint it comes from, and which names are whose.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Arrival, Discard, OwnEndpoint, RemoteNode};
use lanmesh_model::zeroconf::fold;
use lanmesh_model::{Endpoint, EndpointName, NodeId};

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

/// The endpoints of a network. One that comes or goes costs itself, however many others there are.
#[derive(Debug, Default)]
pub struct Links {
    own: BTreeSet<IpAddr>,
    local: BTreeMap<EndpointName, OwnEndpoint>,
    here: Known,
    elsewhere: Known,
}

/// Whose an address is, and which endpoints have a name or an alias, by the name folded. Two may have one for a while.
#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<IpAddr, Vec<EndpointName>>,
    names: HashMap<String, Vec<EndpointName>>,
}

impl Known {
    fn put(
        &mut self,
        name: &EndpointName,
        aliases: &[EndpointName],
        addresses: impl IntoIterator<Item = IpAddr>,
    ) {
        for address in addresses {
            self.addresses.entry(address).or_default().push(name.clone());
        }
        for called in std::iter::once(name).chain(aliases) {
            self.names.entry(fold(called.as_str())).or_default().push(name.clone());
        }
    }

    fn take(
        &mut self,
        name: &EndpointName,
        aliases: &[EndpointName],
        addresses: impl IntoIterator<Item = IpAddr>,
    ) {
        for address in addresses {
            take(&mut self.addresses, &address, name);
        }
        for called in std::iter::once(name).chain(aliases) {
            take(&mut self.names, &fold(called.as_str()), name);
        }
    }

    fn owner(&self, address: &IpAddr) -> Option<&EndpointName> {
        self.addresses.get(address)?.last()
    }
}

/// Takes one of `name` out of what is under `key`.
fn take<K: Eq + Hash>(all: &mut HashMap<K, Vec<EndpointName>>, key: &K, name: &EndpointName) {
    let Some(there) = all.get_mut(key) else { return };
    if let Some(at) = there.iter().rposition(|one| one == name) {
        there.remove(at);
    }
    if there.is_empty() {
        all.remove(key);
    }
}

/// The addresses of an endpoint of this node, with the link-local one that follows from its MAC.
fn addresses_here(endpoint: &OwnEndpoint) -> impl Iterator<Item = IpAddr> + '_ {
    endpoint.addresses.iter().copied().chain([endpoint.mac.link_local().ip().into()])
}

/// See [`addresses_here`].
fn addresses_of(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + '_ {
    endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip).chain([endpoint.mac.link_local().ip().into()])
}

impl Links {
    pub fn new(own: BTreeSet<IpAddr>) -> Self {
        Self { own, ..Self::default() }
    }

    /// The endpoints of this node.
    pub fn local(&self) -> &BTreeMap<EndpointName, OwnEndpoint> {
        &self.local
    }

    /// This node has these endpoints, and no others.
    pub fn set_local(&mut self, endpoints: BTreeMap<EndpointName, OwnEndpoint>) {
        let before = std::mem::replace(&mut self.local, endpoints);
        for (name, was) in before.iter().filter(|(name, was)| self.local.get(*name) != Some(*was)) {
            self.here.take(name, &was.aliases, addresses_here(was));
        }
        for (name, is) in self.local.iter().filter(|(name, is)| before.get(*name) != Some(*is)) {
            self.here.put(name, &is.aliases, addresses_here(is));
        }
    }

    /// The other nodes have what `now` says, and had what `before` said.
    pub fn set_remote(&mut self, before: &BTreeMap<NodeId, RemoteNode>, now: &BTreeMap<NodeId, RemoteNode>) {
        let none = BTreeMap::new();
        let of = |nodes: &'_ BTreeMap<NodeId, RemoteNode>, node: &NodeId| {
            nodes.get(node).map(|node| Arc::clone(&node.endpoints))
        };
        for node in before.keys().chain(now.keys().filter(|node| !before.contains_key(node))) {
            let (had, has) = (of(before, node), of(now, node));
            if had.as_ref().zip(has.as_ref()).is_some_and(|(had, has)| Arc::ptr_eq(had, has)) {
                continue;
            }
            let (had, has) = (had.as_deref().unwrap_or(&none), has.as_deref().unwrap_or(&none));
            for (name, was) in had.iter().filter(|(name, was)| has.get(*name) != Some(*was)) {
                self.elsewhere.take(name, &was.aliases, addresses_of(was));
            }
            for (name, is) in has.iter().filter(|(name, is)| had.get(*name) != Some(*is)) {
                self.elsewhere.put(name, &is.aliases, addresses_of(is));
            }
        }
    }

    /// Whose an address is, and whether that is an endpoint of this node: what this node has counts for more, since an
    /// endpoint that moved here may still be known elsewhere.
    pub fn owner(&self, address: &IpAddr) -> Option<(&EndpointName, bool)> {
        let here = self.here.owner(address).map(|name| (name, true));
        here.or_else(|| self.elsewhere.owner(address).map(|name| (name, false)))
    }

    /// Those that are called so.
    fn called<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a EndpointName> + Clone {
        let both = [self.here.names.get(host), self.elsewhere.names.get(host)];
        both.into_iter().flatten().flatten()
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
        match (&arrival.port, self.owner(&address)) {
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
        self.owner(address).is_some_and(|(name, _)| name == endpoint)
    }

    /// Whether a host name, folded, is that of another endpoint, whether it announces it or not.
    pub fn is_anothers(&self, host: &str, endpoint: &EndpointName) -> bool {
        self.called(host).next().is_some() && !self.is_own(host, endpoint)
    }

    /// Whether a host name, folded, is the endpoint's own.
    pub fn is_own(&self, host: &str, endpoint: &EndpointName) -> bool {
        self.called(host).any(|name| name == endpoint)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use lanmesh_model::Mac;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::super::testing::{endpoint, local, name, remote};
    use super::*;

    #[test]
    fn a_sender_is_known_by_its_address_and_its_port() {
        let mut links = Links::new(BTreeSet::from(["10.10.0.1".parse().unwrap()]));
        links.set_local(BTreeMap::from([(name("a"), local("a", 2))]));
        links.set_remote(&BTreeMap::new(), &BTreeMap::from([remote(9, [endpoint("b", 3)], [])]));
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

    /// Whatever comes and goes, in whatever order, it is known as if it had all been told at once.
    #[test]
    fn what_came_and_went_is_known_as_if_it_had_been_told_at_once() {
        let mut rng = SmallRng::seed_from_u64(3);
        let (mut links, mut before) = (Links::default(), BTreeMap::new());
        for _ in 0..500 {
            let mut some = |_| {
                let number = rng.random_range(0..6);
                let mut endpoint = endpoint(&format!("e{number}"), rng.random_range(0..6));
                endpoint.aliases =
                    (0..rng.random_range(0..2)).map(|alias| name(&format!("e{alias}"))).collect();
                endpoint
            };
            let here: Vec<Endpoint> = (0..3).map(&mut some).collect();
            let there: Vec<Vec<Endpoint>> = (0..2).map(|_| (0..3).map(&mut some).collect()).collect();
            let here: BTreeMap<_, _> = here.iter().map(|e| (e.name.clone(), OwnEndpoint::from(e))).collect();
            let there: BTreeMap<_, _> =
                there.into_iter().zip(1..).map(|(endpoints, node)| remote(node, endpoints, [])).collect();
            links.set_local(here.clone());
            links.set_remote(&before, &there);
            let mut anew = Links::default();
            anew.set_local(here);
            anew.set_remote(&BTreeMap::new(), &there);
            for number in 0..6 {
                let (called, address) = (format!("e{number}"), super::super::testing::address(number));
                for other in 0..6 {
                    let other = name(&format!("e{other}"));
                    assert_eq!(links.is_own(&called, &other), anew.is_own(&called, &other));
                    assert_eq!(links.is_anothers(&called, &other), anew.is_anothers(&called, &other));
                }
                let is = |links: &Links| links.owner(&address).map(|(_, here)| here);
                assert_eq!(is(&links), is(&anew), "{address}");
            }
            before = there;
        }
        links.set_local(BTreeMap::new());
        links.set_remote(&before, &BTreeMap::new());
        assert!(links.here.addresses.is_empty() && links.elsewhere.addresses.is_empty());
        assert!(links.here.names.is_empty() && links.elsewhere.names.is_empty());
    }
}
