//! From what the cluster knows to an index of names.
//!
//! Owns: whose endpoints have names at all, and who gets a name that several claim.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::index::Index;
use super::key::key;
use super::{Entry, Instance, LostName, offers};
use lanmesh_model::{ClaimRank, Claims, ClusterView, Endpoint, NetworkView, NodeId, ServiceName, claim};

impl Index {
    pub fn of(view: &ClusterView, network: &NetworkView, instances: &[Instance]) -> Self {
        let mut claims = Claims::default();
        for (node, endpoint) in live(view, network) {
            claims.add(node, endpoint);
        }
        let addresses = view.service_addresses(network.spec.id);
        let mut index = Self::default();
        let mut owners: HashMap<Box<[u8]>, Owner> = HashMap::new();
        let mut services: HashMap<Box<[u8]>, Service> = HashMap::new();
        let mut aliases: HashMap<(&ServiceName, Box<[u8]>), Vec<u32>> = HashMap::new();
        let mut endpoints: Vec<&Endpoint> = Vec::new();
        for (node, endpoint) in live(view, network).filter(|(node, endpoint)| claims.win(*node, endpoint)) {
            let host = endpoints.len() as u32;
            endpoints.push(endpoint);
            // Whatever another node says, a network's names lead nowhere but into it.
            let addresses = endpoint.addresses.iter().map(IpNetwork::ip);
            let inside =
                |address: &IpAddr| network.spec.subnets.iter().any(|subnet| subnet.contains(*address));
            index.hosts.push(endpoint.name.as_str(), addresses.filter(inside));
            let claim = claim(node, endpoint);
            let mut own = |labels: &[&str], primary| {
                let owner = Owner { rank: (primary, claim), host };
                owners
                    .entry(key(labels))
                    .and_modify(|best| {
                        if best.rank < owner.rank {
                            *best = owner;
                        }
                    })
                    .or_insert(owner);
            };
            own(&[endpoint.name.as_str()], true);
            endpoint.aliases.iter().for_each(|alias| own(&[alias.as_str()], false));
            if let Some(service) = &endpoint.service {
                for alias in &endpoint.aliases {
                    aliases.entry((service, key([alias.as_str()]))).or_default().push(host);
                }
            }
            if let Some(service) = &endpoint.service {
                if let Some(slot) = endpoint.slot {
                    own(&[&slot.to_string(), service.as_str()], true);
                }
                services
                    .entry(key([service.as_str()]))
                    .or_insert_with(|| Service { tasks: key(["tasks", service.as_str()]), hosts: Vec::new() })
                    .hosts
                    .push(host);
            }
        }
        index.hosts.shrink();
        // Names are told apart by case, DNS names are not: who lost its name has none to point back at.
        let named = (0..).zip(&endpoints).filter(|(host, endpoint)| {
            owners.get(&key([endpoint.name.as_str()])).is_some_and(|owner| owner.host == *host)
        });
        let pairs = named.flat_map(|(host, _)| index.hosts.addresses(host).iter().map(move |at| (*at, host)));
        // Collected at once its nodes are full.
        index.addresses = pairs.collect();
        index.names.reserve(owners.len() + 2 * services.len());
        index.names.extend(owners.into_iter().map(|(key, owner)| (key, Entry::Host(owner.host))));
        // An alias that several of one service have is that of all of them.
        for ((_, name), hosts) in aliases.into_iter().filter(|(_, hosts)| hosts.len() > 1) {
            if matches!(index.names.get(&name), Some(Entry::Host(owner)) if hosts.contains(owner)) {
                index.names.insert(name, Entry::Hosts(hosts));
            }
        }
        for (name, Service { tasks, hosts }) in services {
            // A text that is both a name and a service means both.
            let owner = match index.names.get(&name) {
                Some(Entry::Host(owner)) => Some(*owner),
                _ => None,
            };
            let others = hosts.iter().copied().filter(|host| Some(*host) != owner);
            index.names.insert(name, Entry::Hosts(owner.into_iter().chain(others).collect()));
            index.names.insert(tasks, Entry::Hosts(hosts));
        }
        index.offers = offers::of(&index, instances);
        offers::add_names(&mut index);
        // A service with an address is a host with the service's name, and nobody else then has that name.
        for (name, service) in view.services_of(network.spec.id) {
            let held = service.addresses.iter().copied().filter(|at| {
                let holder = addresses.get(at).map(|(holder, _)| *holder);
                holder == Some(name)
            });
            let held: Vec<IpAddr> = held.collect();
            if held.is_empty() {
                continue;
            }
            let host = index.hosts.len() as u32;
            index.addresses.extend(held.iter().map(|address| (*address, host)));
            index.hosts.push(name.as_str(), held.into_iter());
            index.names.insert(key([name.as_str()]), Entry::Host(host));
        }
        index.lost =
            endpoints.iter().zip(0..).flat_map(|(endpoint, host)| index.lost_by(endpoint, host)).collect();
        index
    }

    /// The names that the endpoint with this number was given, and that are answered with somebody else.
    fn lost_by(&self, endpoint: &Endpoint, host: u32) -> Vec<LostName> {
        let given = std::iter::once(&endpoint.name).chain(&endpoint.aliases);
        let lost = given.filter_map(|name| {
            let holder = match self.names.get(&key([name.as_str()]))? {
                Entry::Host(holder) => (*holder != host).then_some(*holder)?,
                Entry::Hosts(hosts) => (!hosts.contains(&host)).then(|| hosts.first().copied())??,
                _ => return None,
            };
            let holder = self.hosts.name(holder)?;
            // The address of its service stands for it as well.
            let is_of = endpoint.service.as_ref().is_some_and(|service| service.as_str() == holder);
            let lost = || LostName {
                endpoint: endpoint.name.clone(),
                name: name.clone(),
                holder: holder.to_owned(),
            };
            (!is_of).then(lost)
        });
        lost.collect()
    }
}

/// A service's hosts, and its name with `tasks` before it.
struct Service {
    tasks: Box<[u8]>,
    hosts: Vec<u32>,
}

/// Who has a name: of all that claim it the one with the highest rank. An endpoint's own name ranks above an alias.
#[derive(Debug, Clone, Copy)]
struct Owner {
    rank: (bool, ClaimRank),
    host: u32,
}

/// The endpoints of a network on nodes that answer.
fn live<'a>(view: &'a ClusterView, network: &'a NetworkView) -> impl Iterator<Item = (NodeId, &'a Endpoint)> {
    network
        .endpoints
        .iter()
        .filter(|(id, _)| view.is_up(id))
        .flat_map(|(id, endpoints)| endpoints.values().map(|endpoint| (*id, endpoint)))
}
