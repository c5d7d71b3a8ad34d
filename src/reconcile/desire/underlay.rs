//! Who may send into this node's plain networks from the underlay: the nodes of the cluster, from their VTEPs.

use crate::mesh::mesh_prefix;
use crate::model::{ClusterView, Encryption, NodeState};
use crate::plan::{Desired, UnderlayGuard};

/// What should keep strangers out of the plain networks in `desired` and off the mesh, in the cluster with the id
/// `cluster`; `None` where this node has neither.
///
/// Every node that has not left may send, whichever networks it takes part in and whether it answers or not: an
/// endpoint on it may be known to others before this node has heard of it.
pub fn underlay_guard(
    desired: &Desired,
    view: &ClusterView,
    cluster: &str,
    vxlan_port: u16,
) -> Option<UnderlayGuard> {
    let plain = desired.networks.values().filter(|network| !network.encrypted);
    let others = view.nodes.values().filter(|node| node.id != view.me && node.state != NodeState::Left);
    let guard = UnderlayGuard {
        port: vxlan_port,
        vnis: plain.map(|network| network.vni).collect(),
        vteps: others.map(|node| node.vtep).collect(),
        mesh: needs_mesh(view).then(|| mesh_prefix(cluster)),
    };
    (!guard.vnis.is_empty() || guard.mesh.is_some()).then_some(guard)
}

/// Whether a cluster needs the mesh.
pub fn needs_mesh(view: &ClusterView) -> bool {
    view.networks.values().any(|network| network.spec.encrypt == Encryption::Wireguard)
}
