//! Values for tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{MeshSecret, OwnKey, PrivateKey};
use lanmesh_model::{ClusterView, MeshKey, Node, NodeId, NodeIndex, NodeName, NodeState};

pub fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn private(n: u8, secret: &MeshSecret) -> PrivateKey {
    let mut bytes = [n; 32];
    bytes[8..12].copy_from_slice(&secret.epoch().number.to_be_bytes());
    PrivateKey::from_bytes(bytes)
}

/// The key of node `n` in an epoch.
pub fn own_key(n: u8, secret: &MeshSecret, slot: u8) -> OwnKey {
    OwnKey::new(private(n, secret), secret.clone(), slot)
}

/// Its public half, on the port of slot 0.
pub fn key_of(n: u8, secret: &MeshSecret) -> MeshKey {
    let public = private(n, secret).public();
    MeshKey { epoch: secret.epoch(), public, port: 51820, sending: true }
}

/// What node `me` sees of nodes that publish these keys.
pub fn view(me: u8, nodes: impl IntoIterator<Item = (u8, Vec<MeshKey>)>) -> ClusterView {
    let node = |(n, mesh): (u8, Vec<MeshKey>)| {
        let vtep = IpAddr::from([192, 0, 2, n]);
        let node = Node {
            id: id(n),
            name: NodeName::new(format!("n{n}")).expect("a name"),
            index: NodeIndex(u32::from(n)),
            address: (vtep, 7979).into(),
            vtep,
            underlay_mtu: 1500,
            networks: Default::default(),
            mesh,
            labels: Default::default(),
            state: NodeState::Alive,
        };
        (node.id, node)
    };
    ClusterView {
        me: id(me),
        nodes: Arc::new(nodes.into_iter().map(node).collect()),
        networks: BTreeMap::new(),
        services: Arc::default(),
        loans: Arc::default(),
        mesh_ports: Arc::default(),
    }
}
