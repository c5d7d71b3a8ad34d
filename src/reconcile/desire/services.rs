//! Where what is sent to the services of a network goes: to their endpoints on nodes that answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::model::{Affinity, Claims, ClusterView, NetworkId, ServiceName};
use crate::plan::Balance;

/// The addresses of the services of a network, each with where it leads. Endpoints that lost their name or an address to a
/// newer claim are none, and those of nodes that do not answer are not there.
pub fn balances(view: &ClusterView, network: NetworkId) -> BTreeMap<IpAddr, Balance> {
    let held = view.service_addresses(network);
    let Some(there) = view.networks.get(&network).filter(|_| !held.is_empty()) else {
        return BTreeMap::new();
    };
    let mut balances: BTreeMap<IpAddr, Balance> = BTreeMap::new();
    let mut by_name: BTreeMap<&ServiceName, Vec<IpAddr>> = BTreeMap::new();
    for (address, (name, service)) in held {
        let sticky = service.affinity == Affinity::Source;
        balances.insert(address, Balance { ports: service.ports.clone(), sticky, ..Balance::default() });
        by_name.entry(name).or_default().push(address);
    }
    let mut claims = Claims::default();
    let up: Vec<_> = there.endpoints.iter().filter(|(node, _)| view.is_up(node)).collect();
    for (node, endpoints) in &up {
        endpoints.values().for_each(|endpoint| claims.add(**node, endpoint));
    }
    for (node, endpoints) in up {
        let draining = there.draining.get(node);
        for endpoint in endpoints.values() {
            let Some(services) = endpoint.service.as_ref().and_then(|name| by_name.get(name)) else {
                continue;
            };
            if !claims.win(*node, endpoint) {
                continue;
            }
            let drains = draining.is_some_and(|names| names.contains(&endpoint.name));
            for service in services {
                let Some(balance) = balances.get_mut(service) else { continue };
                let own = endpoint.addresses.iter().map(IpNetwork::ip);
                // Of the subnet's family; what is no address of an endpoint is nobody's destination.
                let own = own.filter(|own| own.is_ipv4() == service.is_ipv4() && own != service);
                if drains { balance.draining.extend(own) } else { balance.live.extend(own) }
            }
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
