//! Who may send into this node's plain networks from the underlay: the nodes of the cluster, from their VTEPs.

use super::World;
use crate::mesh::mesh_prefix;
use crate::model::{ClusterView, Encryption, NodeState};
use crate::plan::UnderlayGuard;

/// What should keep strangers out of the plain networks that this node takes part in, and off the mesh; `None`
/// where it has neither.
///
/// Every node that has not left may send, whichever networks it takes part in and whether it answers or not: an
/// endpoint on it may be known to others before this node has heard of it.
pub fn underlay_guard(world: &World<'_>) -> Option<UnderlayGuard> {
    let view = world.view;
    let networks = world.networks();
    let networks = networks.iter().filter_map(|id| view.networks.get(id)).map(|network| &network.spec);
    let plain = networks.filter(|spec| spec.options.encrypt == Encryption::None);
    let others = view.nodes.values().filter(|node| node.id != view.me && node.state != NodeState::Left);
    let guard = UnderlayGuard {
        port: world.vxlan_port,
        vnis: plain.map(|spec| spec.vni).collect(),
        vteps: others.map(|node| node.vtep).collect(),
        mesh: needs_mesh(view).then(|| mesh_prefix(world.cluster)),
    };
    (!guard.vnis.is_empty() || guard.mesh.is_some()).then_some(guard)
}

/// Whether a cluster needs the mesh.
pub fn needs_mesh(view: &ClusterView) -> bool {
    view.networks.values().any(|network| network.spec.options.encrypt == Encryption::Wireguard)
}
