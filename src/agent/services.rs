//! The DNS-SD services of a network, as the socket shows them. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::api::types::{ServiceAnswer, ServiceFilter};
use crate::cluster::NetworkZeroconf;
use crate::model::{ClusterView, NetworkSpec, listed};

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
        for one in listed(of_node) {
            let service = &one.service;
            if !filter.is_none_or(|filter| filter.meets(&service.kind, &service.subtypes)) {
                continue;
            }
            found.push(ServiceAnswer {
                network: spec.name.clone(),
                instance: service.instance.clone(),
                kind: service.kind.clone(),
                subtypes: service.subtypes.iter().cloned().collect(),
                host: service.host.clone(),
                addresses: addresses(spec, &one.addresses),
                port: service.port,
                priority: service.priority,
                weight: service.weight,
                txt: service.txt.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
                node: node.name.clone(),
                endpoint: one.endpoint.clone(),
                declared: one.declared,
            });
        }
    }
    found.sort_by(|a, b| (&a.kind, &a.instance, &a.node).cmp(&(&b.kind, &b.instance, &b.node)));
    found
}

/// The addresses of the host in the network's subnets; where there are none, all it announces.
fn addresses(spec: &NetworkSpec, all: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let inside = |address: &&IpAddr| spec.subnets.iter().any(|subnet| subnet.contains(**address));
    let within: Vec<IpAddr> = all.iter().filter(inside).copied().collect();
    if within.is_empty() { all.iter().copied().collect() } else { within }
}
