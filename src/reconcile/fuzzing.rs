//! A way in for the fuzz crate: what this node's kernel should have by a view, whoever said what is in it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::desire::{NetworkState, World};
use crate::local::LocalEndpoint;
use crate::model::ClusterView;
use crate::plan::DesiredNetwork;

/// The networks as they should be on a node with the endpoints `own`, in the cluster with this id.
pub fn desired(view: &ClusterView, own: &[LocalEndpoint], cluster: &str) -> Vec<DesiredNetwork> {
    let nobody = BTreeSet::new();
    let world = World {
        view,
        local: World::by_network(own.iter()),
        gone: &nobody,
        silent: &nobody,
        cluster,
        secret: None,
        vxlan_port: 4789,
        can_select: true,
        can_guard: true,
        settled: true,
        now: Duration::ZERO,
    };
    let follow = |network| {
        let mut state = NetworkState::new(network);
        state.follow(&world, network);
        state.desired().cloned()
    };
    view.networks.values().filter_map(follow).collect()
}
