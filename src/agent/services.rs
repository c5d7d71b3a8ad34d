//! The DNS-SD services of a network, as the socket shows them. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::api::types::{ServiceAnswer, ServiceFilter};
use crate::cluster::NetworkZeroconf;
use crate::model::{ClusterView, Found, NetworkSpec, SeenService, ZeroconfFact, ZeroconfKey, fold};

/// Those of `facts` that are on nodes that answer and meet `filter`, by type, instance and node.
pub fn services(
    view: &ClusterView,
    spec: &NetworkSpec,
    facts: &NetworkZeroconf,
    filter: Option<&ServiceFilter>,
) -> Vec<ServiceAnswer> {
    let mut found = Vec::new();
    for (id, of_node) in facts {
        let Some(node) = view.nodes.get(id).filter(|_| view.is_up(id)) else { continue };
        for fact in of_node.values() {
            let Found::Service(service) = &fact.found else { continue };
            if !filter.is_none_or(|filter| filter.meets(&service.kind, &service.subtypes)) {
                continue;
            }
            let host = of_node.get(&ZeroconfKey::Host(fold(&service.host)));
            found.push(ServiceAnswer {
                network: spec.name.clone(),
                instance: service.instance.clone(),
                kind: service.kind.clone(),
                subtypes: service.subtypes.iter().cloned().collect(),
                host: service.host.clone(),
                addresses: addresses(spec, service, host),
                port: service.port,
                priority: service.priority,
                weight: service.weight,
                txt: service.txt.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
                node: node.name.clone(),
                endpoint: fact.endpoint.clone(),
                declared: fact.declared,
            });
        }
    }
    found.sort_by(|a, b| (&a.kind, &a.instance, &a.node).cmp(&(&b.kind, &b.instance, &b.node)));
    found
}

/// The addresses of the host in the network's subnets; where there are none, all it announces.
fn addresses(spec: &NetworkSpec, service: &SeenService, host: Option<&ZeroconfFact>) -> Vec<IpAddr> {
    let Some(Found::Host(host)) = host.map(|fact| &fact.found) else {
        tracing::trace!(host = service.host, "a service of a host without addresses");
        return Vec::new();
    };
    let inside = |address: &&IpAddr| spec.subnets.iter().any(|subnet| subnet.contains(**address));
    let within: BTreeSet<IpAddr> = host.addresses.iter().filter(inside).copied().collect();
    if within.is_empty() { host.addresses.iter().copied().collect() } else { within.into_iter().collect() }
}
