//! A way in for the fuzz crate: what this node's kernel should have by a view, whoever said what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::desire::{NetworkState, World};
use crate::local::LocalEndpoint;
use crate::model::OutwardPorts;
use crate::model::{ClusterView, NetworkId, NodeId};
use crate::plan::{DesiredDoors, DesiredNetwork, DesiredPorts};

/// The networks as they should be on a node with the endpoints `own`, in the cluster with this id.
pub fn desired(view: &ClusterView, own: &[LocalEndpoint], cluster: &str) -> Vec<DesiredNetwork> {
    let nobody = BTreeSet::new();
    let world = world(view, own, cluster, &nobody);
    let follow = |network| {
        let mut state = NetworkState::new(network);
        state.follow(&world, network);
        state.desired().cloned()
    };
    view.networks.values().filter_map(follow).collect()
}

/// What of published ports should be in the networks and on the node, and what cannot be.
pub fn published(
    view: &ClusterView,
    own: &[LocalEndpoint],
) -> (BTreeMap<NetworkId, DesiredPorts>, DesiredDoors, Vec<String>) {
    let nobody = BTreeSet::new();
    let world = world(view, own, "fuzz", &nobody);
    let published = world.published();
    (published.networks.clone(), published.doors(), published.problems.clone())
}

fn world<'a>(
    view: &'a ClusterView,
    own: &'a [LocalEndpoint],
    cluster: &'a str,
    nobody: &'a BTreeSet<NodeId>,
) -> World<'a> {
    World {
        view,
        local: World::by_network(own.iter()),
        everywhere: view.everywhere(),
        gone: nobody,
        silent: nobody,
        cluster,
        secret: None,
        vxlan_port: 4789,
        wireguard_port: 51840,
        outward_ports: OutwardPorts { first: 61_000, last: 65_535 },
        can_select: true,
        can_guard: true,
        settled: true,
        now: Duration::ZERO,
        published: Default::default(),
    }
}
