//! What is remembered of Docker's networks and endpoints. All of it can be found out again: Docker and the agent know it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use lanmesh_model::{EndpointName, Mac, NetworkName};

use crate::pool::PoolId;

/// How many endpoints, and refusals, are remembered at most: more than a node has.
const MAX: usize = 4096;

/// A network of Docker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkEntry {
    /// Which of ours it is.
    pub network: NetworkName,
    /// Whether containers get their default route from it.
    pub routes: bool,
}

/// An endpoint of Docker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointEntry {
    /// The network.
    pub network: NetworkName,
    /// Its name there.
    pub name: EndpointName,
    /// Its address in Docker's books.
    pub address: IpAddr,
}

/// What was attached for an address that Docker asked for, until it says what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedEntry {
    /// Its name.
    pub name: EndpointName,
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses, of both families.
    pub addresses: Vec<IpNetwork>,
}

/// What is remembered. Every change can be made again, and none needs another before it: calls come twice, late, or never.
#[derive(Debug, Default)]
pub struct Book {
    /// By Docker's id. `None`: another driver's.
    networks: BTreeMap<String, Option<NetworkEntry>>,
    /// The pool that was asked for last, of each subnet.
    pools: BTreeMap<IpNetwork, PoolId>,
    endpoints: BTreeMap<String, EndpointEntry>,
    /// Why an address was not given: Docker shows it only of the call that follows.
    refused: BTreeMap<(NetworkName, IpAddr), String>,
    /// What was attached for an address just now.
    attached: BTreeMap<(NetworkName, IpAddr), AttachedEntry>,
    /// How often an address was given and not given back: an old and a new task of one slot have the same.
    given: BTreeMap<(NetworkName, IpAddr), u32>,
    /// Those whose container was not known when their address was asked for, with their addresses.
    provisional: BTreeMap<(NetworkName, EndpointName), Vec<IpAddr>>,
    /// By the path of a container's namespace, the endpoint whose interface multicast leaves it by.
    multicast: BTreeMap<String, String>,
}

fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: K, value: V) {
    if map.len() >= MAX && !map.contains_key(&key) {
        map.pop_first();
    }
    map.insert(key, value);
}

impl Book {
    /// Docker has this network.
    pub fn note_network(&mut self, id: &str, entry: NetworkEntry) {
        put(&mut self.networks, id.to_owned(), Some(entry));
    }

    /// The network with this id of Docker's.
    pub fn network(&self, id: &str) -> Option<&NetworkEntry> {
        self.networks.get(id)?.as_ref()
    }

    /// Whether there are networks of lanmesh beside the one with this id of Docker's.
    pub fn has_others(&self, id: &str) -> bool {
        self.networks.iter().any(|(there, entry)| there != id && entry.is_some())
    }

    /// Whether it is known whose the network with this id of Docker's is.
    pub fn knows(&self, id: &str) -> bool {
        self.networks.contains_key(id)
    }

    /// The network with this id of Docker's is another driver's.
    pub fn note_foreign(&mut self, id: &str) {
        put(&mut self.networks, id.to_owned(), None);
    }

    /// This pool was asked for.
    pub fn note_pool(&mut self, pool: PoolId) {
        put(&mut self.pools, pool.subnet, pool);
    }

    /// The network that a pool with this subnet was last asked for.
    pub fn pool_of(&self, subnet: IpNetwork) -> Option<NetworkName> {
        self.pools.get(&subnet).map(|pool| pool.network.clone())
    }

    /// Which addresses were said to be tokens then.
    pub fn tokens_of(&self, subnet: IpNetwork) -> Option<AddrRange> {
        self.pools.get(&subnet)?.tokens
    }

    /// Whether the network with this id of Docker's may be `network`: unless it is known to be another.
    pub fn may_be(&self, id: &str, network: &NetworkName) -> bool {
        self.networks
            .get(id)
            .is_none_or(|entry| entry.as_ref().is_some_and(|entry| entry.network == *network))
    }

    /// Docker has it no more.
    pub fn drop_network(&mut self, id: &str) -> Option<NetworkEntry> {
        self.networks.remove(id)?
    }

    /// Docker has this endpoint.
    pub fn note_endpoint(&mut self, id: &str, entry: EndpointEntry) {
        put(&mut self.endpoints, id.to_owned(), entry);
    }

    /// The endpoint with this id of Docker's.
    pub fn endpoint(&self, id: &str) -> Option<&EndpointEntry> {
        self.endpoints.get(id)
    }

    /// Docker has it no more.
    pub fn drop_endpoint(&mut self, id: &str) -> Option<EndpointEntry> {
        self.multicast.retain(|_, endpoint| endpoint != id);
        self.endpoints.remove(id)
    }

    /// Whether multicast leaves the container by this endpoint: by the first that asks. A route twice is an error for Docker.
    pub fn take_multicast(&mut self, namespace: &str, endpoint: &str) -> bool {
        if let Some(first) = self.multicast.get(namespace) {
            return first == endpoint;
        }
        put(&mut self.multicast, namespace.to_owned(), endpoint.to_owned());
        true
    }

    /// The address was not given, and this is why.
    pub fn refuse(&mut self, network: &NetworkName, address: IpAddr, why: String) {
        put(&mut self.refused, (network.clone(), address), why);
    }

    /// Why the address was not given, if it was not.
    pub fn refusal(&self, network: &NetworkName, address: IpAddr) -> Option<&String> {
        self.refused.get(&(network.clone(), address))
    }

    /// The address was given back, or given after all.
    pub fn forget_refusal(&mut self, network: &NetworkName, address: IpAddr) -> bool {
        self.refused.remove(&(network.clone(), address)).is_some()
    }

    /// This was attached for the address.
    pub fn note_attached(&mut self, network: &NetworkName, address: IpAddr, entry: AttachedEntry) {
        put(&mut self.attached, (network.clone(), address), entry);
    }

    /// What was attached for the address just now, once.
    pub fn take_attached(&mut self, network: &NetworkName, address: IpAddr) -> Option<AttachedEntry> {
        self.attached.remove(&(network.clone(), address))
    }

    /// The address was given to a container.
    pub fn give(&mut self, network: &NetworkName, address: IpAddr) {
        let before = self.given.get(&(network.clone(), address)).copied().unwrap_or(0);
        put(&mut self.given, (network.clone(), address), before.saturating_add(1));
    }

    /// The address was given back. Whether nobody else has it: of two tasks of a slot the old one gives back what the new one
    /// has by now.
    pub fn give_back(&mut self, network: &NetworkName, address: IpAddr) -> bool {
        let key = (network.clone(), address);
        self.attached.remove(&key);
        let left = self.given.get(&key).map_or(0, |count| count.saturating_sub(1));
        if left > 0 {
            self.given.insert(key, left);
        } else {
            self.given.remove(&key);
        }
        let has_it = |entry: &EndpointEntry| entry.network == *network && entry.address == address;
        left == 0 && !self.endpoints.values().any(has_it)
    }

    /// The endpoint has this name until its container is known.
    pub fn note_provisional(
        &mut self,
        network: &NetworkName,
        name: &EndpointName,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) {
        let addresses = addresses.into_iter().collect();
        put(&mut self.provisional, (network.clone(), name.clone()), addresses);
    }

    /// The addresses of an endpoint whose name was only one until its container is known; it is no more.
    pub fn take_provisional(&mut self, network: &NetworkName, name: &EndpointName) -> Option<Vec<IpAddr>> {
        self.provisional.remove(&(network.clone(), name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_can_be_made_again_and_in_any_order() {
        let mut book = Book::default();
        let (network, name): (NetworkName, EndpointName) = ("n".parse().unwrap(), "e".parse().unwrap());
        let address = "10.0.0.9".parse().unwrap();
        assert_eq!((book.drop_endpoint("e1"), book.drop_network("n1")), (None, None));
        let entry = EndpointEntry { network: network.clone(), name: name.clone(), address };
        for _ in 0..2 {
            book.note_endpoint("e1", entry.clone());
            book.refuse(&network, address, "full".to_owned());
            book.note_provisional(&network, &name, [address]);
        }
        assert_eq!(book.endpoint("e1"), Some(&entry));
        assert_eq!(book.take_provisional(&network, &name), Some(vec![address]));
        assert_eq!(book.take_provisional(&network, &name), None);
        assert!(book.forget_refusal(&network, address) && !book.forget_refusal(&network, address));
        assert!(book.may_be("unknown", &network));
        book.note_network("n1", NetworkEntry { network: "other".parse().unwrap(), routes: false });
        assert!(!book.may_be("n1", &network));
    }

    #[test]
    fn multicast_leaves_a_container_by_its_first_network_until_that_goes() {
        let mut book = Book::default();
        assert!(book.take_multicast("c1", "e1") && book.take_multicast("c1", "e1"));
        assert!(!book.take_multicast("c1", "e2") && book.take_multicast("c2", "e3"));
        book.drop_endpoint("e1");
        assert!(book.take_multicast("c1", "e2"));
    }

    #[test]
    fn what_an_old_task_gives_back_is_still_the_new_ones() {
        let mut book = Book::default();
        let network: NetworkName = "n".parse().unwrap();
        let address = "10.0.0.9".parse().unwrap();
        book.give(&network, address);
        book.give(&network, address);
        assert!(!book.give_back(&network, address), "the new one has asked");
        let entry = EndpointEntry { network: network.clone(), name: "new".parse().unwrap(), address };
        book.note_endpoint("e2", entry);
        assert!(!book.give_back(&network, address), "and has been made");
        book.drop_endpoint("e2");
        // As after a restart of the plugin, which knows of nobody.
        assert!(book.give_back(&network, address));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut book = Book::default();
        for n in 0..MAX + 10 {
            book.note_network(&format!("{n}"), NetworkEntry { network: "n".parse().unwrap(), routes: false });
        }
        assert_eq!(book.networks.len(), MAX);
    }

    #[test]
    fn what_was_attached_is_told_once_and_forgotten_with_its_address() {
        let mut book = Book::default();
        let network: NetworkName = "n".parse().unwrap();
        let address = "10.0.0.9".parse().unwrap();
        let entry =
            AttachedEntry { name: "e".parse().unwrap(), mac: Mac([2, 0, 0, 0, 0, 9]), addresses: Vec::new() };
        book.note_attached(&network, address, entry.clone());
        assert_eq!(book.take_attached(&network, address), Some(entry.clone()));
        assert_eq!(book.take_attached(&network, address), None);
        book.note_attached(&network, address, entry);
        book.give_back(&network, address);
        assert_eq!(book.take_attached(&network, address), None);
    }
}
