//! What is made of a view, whoever said what is in it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lanmesh::dns::zone::Zone;
use lanmesh::local::LocalEndpoint;
use lanmesh::model::{ClusterView, Placement};
use lanmesh::plan::{Desired, Observed, plan};
use lanmesh::reconcile::fuzzing::desired;
use lanmesh::reconcile::vtep;

/// The id of the cluster.
const CLUSTER: &str = "fuzz";

/// Names and kernel entries can be made of it; no entry leads to where no node is.
pub fn check(view: &ClusterView) {
    for id in view.networks.keys() {
        Zone::build(view, *id, 5);
    }
    let own = view.networks.iter().filter_map(|(id, network)| {
        let endpoint = network.endpoints.get(&view.me)?.values().next()?.clone();
        Some(LocalEndpoint {
            network: *id,
            endpoint,
            placement: Placement::Netns("/run/netns/c1".into()),
            namespace: None,
            ifname: "eth0".to_owned(),
            asked: Vec::new(),
            draining: false,
            also: Default::default(),
            publish: Vec::new(),
            publish_mode: Default::default(),
            publish_source: Default::default(),
            outward: None,
            owner: None,
        })
    });
    let own: Vec<LocalEndpoint> = own.collect();
    let networks = desired(view, &own, CLUSTER);
    for network in &networks {
        let spec = &view.networks[&network.id].spec;
        let vteps: BTreeSet<IpAddr> = view.nodes.values().map(|node| vtep(CLUSTER, spec, node)).collect();
        let leads_to = network.remotes.values().chain(&network.flood);
        for vtep in leads_to.chain(network.groups.values().flatten()) {
            assert!(vteps.contains(vtep), "{vtep} is no node's");
        }
    }
    let desired = Desired { networks: networks.into_iter().map(|network| (network.id, network)).collect() };
    let _ = plan(&desired, &Observed::default()).to_string();
}
