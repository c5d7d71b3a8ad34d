//! Where what is sent to the services of a network goes: to their endpoints on nodes that answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::model::{Affinity, Claims, ClusterView, Endpoint, NetworkId, NodeId, ServiceName};
use crate::plan::Balance;

/// The endpoints of a service on nodes that answer, but for those that lost their name or an address to a newer claim.
#[derive(Debug, Default)]
pub struct Serving<'a> {
    /// Those that get new connections.
    pub live: Vec<(NodeId, &'a Endpoint)>,
    /// Those that get no new ones.
    pub draining: Vec<(NodeId, &'a Endpoint)>,
}

/// Who serves the services of a network that `wanted` says.
pub fn serving(
    view: &ClusterView,
    network: NetworkId,
    wanted: impl Fn(&ServiceName) -> bool,
) -> BTreeMap<&ServiceName, Serving<'_>> {
    let mut serving: BTreeMap<&ServiceName, Serving<'_>> = BTreeMap::new();
    for (node, endpoint, draining) in standing(view, network) {
        if let Some(name) = endpoint.service.as_ref().filter(|name| wanted(name)) {
            serving.entry(name).or_default().add(node, endpoint, draining);
        }
    }
    serving
}

/// The endpoints of a network on nodes that answer, but for those that lost their name or an address to a newer claim, each with
/// whether it drains.
pub fn standing(view: &ClusterView, network: NetworkId) -> Vec<(NodeId, &Endpoint, bool)> {
    let Some(there) = view.networks.get(&network) else { return Vec::new() };
    let mut claims = Claims::default();
    let up: Vec<_> = there.endpoints.iter().filter(|(node, _)| view.is_up(node)).collect();
    for (node, endpoints) in &up {
        endpoints.values().for_each(|endpoint| claims.add(**node, endpoint));
    }
    let mut standing = Vec::new();
    for (node, endpoints) in up {
        let draining = there.draining.get(node);
        for endpoint in endpoints.values().filter(|endpoint| claims.win(*node, endpoint)) {
            let drains = draining.is_some_and(|names| names.contains(&endpoint.name));
            standing.push((*node, endpoint, drains));
        }
    }
    standing
}

impl<'a> Serving<'a> {
    /// Adds one.
    pub fn add(&mut self, node: NodeId, endpoint: &'a Endpoint, draining: bool) {
        match draining {
            true => self.draining.push((node, endpoint)),
            false => self.live.push((node, endpoint)),
        }
    }
}

/// The addresses of the services of a network, each with where it leads. Endpoints that lost their name or an address to a
/// newer claim are none, and those of nodes that do not answer are not there.
pub fn balances(view: &ClusterView, network: NetworkId) -> BTreeMap<IpAddr, Balance> {
    let held = view.service_addresses(network);
    let mut balances: BTreeMap<IpAddr, Balance> = BTreeMap::new();
    if held.is_empty() {
        return balances;
    }
    let mut by_name: BTreeMap<&ServiceName, Vec<IpAddr>> = BTreeMap::new();
    for (address, (name, service)) in held {
        let sticky = service.affinity == Affinity::Source;
        balances.insert(address, Balance { ports: service.ports.clone(), sticky, ..Balance::default() });
        by_name.entry(name).or_default().push(address);
    }
    for (name, Serving { live, draining }) in serving(view, network, |name| by_name.contains_key(name)) {
        for address in by_name.get(name).into_iter().flatten() {
            let Some(balance) = balances.get_mut(address) else { continue };
            // Of the subnet's family; what is no address of an endpoint is nobody's destination.
            let own = |(_, endpoint): &(NodeId, &Endpoint)| -> Vec<IpAddr> {
                let all = endpoint.addresses.iter().map(IpNetwork::ip);
                all.filter(|own| own.is_ipv4() == address.is_ipv4() && own != address).collect()
            };
            balance.live.extend(live.iter().flat_map(own));
            balance.draining.extend(draining.iter().flat_map(own));
        }
    }
    balances
}

/// What of it is another, and the whole: those that are as they were are shared.
pub fn renewed(
    before: &BTreeMap<IpAddr, Arc<Balance>>,
    now: BTreeMap<IpAddr, Balance>,
) -> BTreeMap<IpAddr, Arc<Balance>> {
    let shared = |(address, balance): (IpAddr, Balance)| {
        let same = before.get(&address).filter(|before| ***before == balance).cloned();
        (address, same.unwrap_or_else(|| Arc::new(balance)))
    };
    now.into_iter().map(shared).collect()
}
