//! What is made of a view, whoever said what is in it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lanmesh::dns::zone::Zone;
use lanmesh::local::LocalEndpoint;
use lanmesh::model::{ClusterView, Placement};
use lanmesh::plan::{Observed, plan};
use lanmesh::reconcile::{Situation, vtep, wish};

/// The id of the cluster.
const CLUSTER: &str = "fuzz";

/// Names and kernel entries can be made of it; no entry leads to where no node is.
pub fn check(view: &ClusterView) {
    for id in view.networks.keys() {
        Zone::build(view, *id, 5);
    }
    let gone = BTreeSet::new();
    let own = view.networks.iter().filter_map(|(id, network)| {
        let endpoint = network.endpoints.get(&view.me)?.values().next()?.clone();
        Some(LocalEndpoint {
            network: *id,
            endpoint,
            placement: Placement::Netns("/run/netns/c1".into()),
            namespace: None,
            ifname: "eth0".to_owned(),
            asked: Vec::new(),
        })
    });
    let own: Vec<LocalEndpoint> = own.collect();
    let situation =
        Situation { view, gone: &gone, silent: &gone, cluster: CLUSTER, vxlan_port: 4789, selective: true };
    let wish = wish(situation, own.iter());
    for (id, network) in &wish.desired.networks {
        let spec = &view.networks[id].spec;
        let vteps: BTreeSet<IpAddr> = view.nodes.values().map(|node| vtep(CLUSTER, spec, node)).collect();
        let leads_to = network.remotes.values().chain(&network.flood);
        for vtep in leads_to.chain(network.groups.values().flatten()) {
            assert!(vteps.contains(vtep), "{vtep} is no node's");
        }
    }
    let _ = plan(&wish.desired, &Observed::default()).to_string();
}
