//! What devices, peers and routes a node should have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnetwork::Ipv6Network;

use super::{OwnKey, PresharedKey, PrivateKey, mesh_address, mesh_prefix};
use lanmesh_model::{ClusterView, MeshEpoch, Node, NodeId, NodeState, PublicKey};

/// How often each tunnel says something, in seconds. It makes a new tunnel's handshake begin at once, and an old one's
/// last handshake tell whether it works: one that does is younger than three minutes.
pub const KEEPALIVE: u16 = 25;

/// Over which epoch's device each node is sent to.
pub type Routes = BTreeMap<NodeId, MeshEpoch>;

/// The peers, by epoch and public key, with which a handshake was completed since the device was made.
pub type Handshakes = BTreeSet<(MeshEpoch, PublicKey)>;

/// What a node should have in its own network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredMesh {
    /// All mesh addresses. What of it no route leads to must not be sent anywhere.
    pub prefix: Ipv6Network,
    /// This node's own address, on each of the devices.
    pub address: Ipv6Addr,
    /// One device for each epoch.
    pub devices: BTreeMap<MeshEpoch, MeshDevice>,
    /// Where each other node's address leads.
    pub routes: BTreeMap<Ipv6Addr, MeshRoute>,
}

/// A route to one node, a /128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshRoute {
    /// Over the device of this epoch.
    pub epoch: MeshEpoch,
    /// The largest packet inside the tunnel, in bytes: by the smaller of the two underlays.
    pub mtu: u32,
}

/// A WireGuard device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshDevice {
    /// Its place among the node's devices, below [`MAX_LIVE`](super::MAX_LIVE): no two have one at a time.
    pub slot: u8,
    /// The UDP port that it listens on.
    pub port: u16,
    /// Its key.
    pub private: PrivateKey,
    /// The public half.
    pub public: PublicKey,
    /// The largest packet inside it, in bytes, by this node's underlay.
    pub mtu: u32,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, MeshPeer>,
}

/// Another node, as a peer of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshPeer {
    /// Who it is.
    pub node: NodeId,
    /// Where its device of the same epoch listens.
    pub endpoint: SocketAddr,
    /// What the two have in common.
    pub preshared: PresharedKey,
    /// The only address that it may send from and that is sent to it, a /128.
    pub address: Ipv6Addr,
    /// Seconds between two packets, at most.
    pub keepalive: u16,
}

/// What a node should have, from what it knows of the others, its own keys and where it sends.
///
/// `cluster` is the cluster's id, `port` the UDP port of slot 0. Nodes that left, were removed or have no key of an
/// epoch are nobody's peers in it. `None` while this node itself is not in the view.
pub fn desire<'a>(
    cluster: &str,
    port: u16,
    view: &ClusterView,
    keys: impl IntoIterator<Item = &'a OwnKey>,
    routes: &Routes,
) -> Option<DesiredMesh> {
    let me = view.myself()?;
    let device = |key: &OwnKey| MeshDevice {
        slot: key.slot,
        port: port.saturating_add(key.slot.into()),
        private: key.private.clone(),
        public: key.public,
        mtu: inside(me),
        peers: peers(cluster, view, key),
    };
    let devices: BTreeMap<_, _> = keys.into_iter().map(|key| (key.epoch(), device(key))).collect();
    let route = |(node, epoch): (&NodeId, &MeshEpoch)| {
        let node = view.nodes.get(node)?;
        let device = devices.get(epoch)?;
        // A route over a device that does not know the node would only lose packets.
        device.peers.values().find(|peer| peer.node == node.id)?;
        Some((
            mesh_address(cluster, node.index),
            MeshRoute { epoch: *epoch, mtu: inside(me).min(inside(node)) },
        ))
    };
    let routes = routes.iter().filter_map(route).collect();
    Some(DesiredMesh {
        prefix: mesh_prefix(cluster),
        address: mesh_address(cluster, me.index),
        devices,
        routes,
    })
}

/// The other nodes that can be peers of a device of this node.
pub(super) fn others(view: &ClusterView) -> impl Iterator<Item = &Node> {
    view.nodes.values().filter(|node| node.id != view.me && node.state != NodeState::Left)
}

fn peers(cluster: &str, view: &ClusterView, own: &OwnKey) -> BTreeMap<PublicKey, MeshPeer> {
    let mut found: Vec<(&Node, PublicKey, u16)> = others(view)
        .filter_map(|node| {
            let key = node.mesh.iter().find(|key| key.epoch == own.epoch())?;
            Some((node, key.public, key.port))
        })
        .filter(|(_, public, _)| *public != own.public)
        .collect();
    // Of two nodes that show one key, which only a copied or a hostile state can bring about, the older stays.
    found.sort_by_key(|(node, ..)| std::cmp::Reverse(node.index));
    let peer = |(node, public, port): (&Node, PublicKey, u16)| {
        let peer = MeshPeer {
            node: node.id,
            endpoint: SocketAddr::new(node.vtep, port),
            preshared: own.secret.preshared(&view.me, &node.id),
            address: mesh_address(cluster, node.index),
            keepalive: KEEPALIVE,
        };
        (public, peer)
    };
    found.into_iter().map(peer).collect()
}

/// The largest packet inside a node's tunnels: its underlay, less the outer IP header (20 or 40), UDP (8), WireGuard's
/// header (16) and tag (16). The WireGuard paper, section 5.4.6.
fn inside(node: &Node) -> u32 {
    mesh_mtu(node.vtep, node.underlay_mtu)
}

/// What fits into a tunnel on an underlay, in bytes.
pub fn mesh_mtu(vtep: IpAddr, underlay: u32) -> u32 {
    underlay.saturating_sub(mesh_overhead(vtep)).min(MESH_MTU_MAX)
}

/// The most that fits into a tunnel, whatever its underlay: gotatun takes packets of 4096 bytes from the wire, of
/// which WireGuard's header and tag are 32, and the rest is a multiple of 16.
const MESH_MTU_MAX: u32 = 4064;

/// The bytes that a tunnel takes from each underlay packet.
pub fn mesh_overhead(vtep: IpAddr) -> u32 {
    if vtep.is_ipv4() { 60 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MeshSecret;
    use crate::testing::{id, key_of, own_key, view};
    use lanmesh_model::MeshKey;

    const CLUSTER: &str = "0123456789abcdef";

    fn secret(n: u32) -> MeshSecret {
        MeshSecret::derive(n, &[n as u8; 32])
    }

    /// Nodes 1 to `n`, each with keys of these epochs; 1 is the observer.
    fn nodes(n: u8, epochs: &[u32]) -> ClusterView {
        view(1, (1..=n).map(|n| (n, epochs.iter().map(|e| key_of(n, &secret(*e))).collect())))
    }

    #[test]
    fn each_device_has_the_others_keys_of_its_own_epoch_and_both_ends_one_preshared_key() {
        let view = nodes(3, &[1, 2]);
        let keys = [own_key(1, &secret(1), 0), own_key(1, &secret(2), 1)];
        let routes = Routes::from([(id(2), secret(1).epoch()), (id(3), secret(2).epoch())]);
        let mesh = desire(CLUSTER, 51820, &view, &keys, &routes).unwrap();
        assert_eq!(mesh.devices.len(), 2);
        for (n, key) in keys.iter().enumerate() {
            let device = &mesh.devices[&key.epoch()];
            assert_eq!(device.port, 51820 + n as u16);
            assert_eq!(device.peers.len(), 2);
            let peer = &device.peers[&key_of(2, &key.secret).public];
            assert_eq!(peer.node, id(2));
            assert_eq!(peer.endpoint, "192.0.2.2:51820".parse().unwrap());
            assert_eq!(peer.preshared, key.secret.preshared(&id(2), &id(1)));
            assert_eq!(peer.address, mesh_address(CLUSTER, view.nodes[&id(2)].index));
        }
        let epochs: Vec<MeshEpoch> = mesh.routes.values().map(|route| route.epoch).collect();
        assert_eq!(epochs, [secret(1).epoch(), secret(2).epoch()]);
        assert_eq!(mesh.devices[&secret(1).epoch()].mtu, 1440);
    }

    #[test]
    fn who_left_or_has_no_key_of_the_epoch_is_no_peer_and_no_route_leads_there() {
        let mut view = nodes(4, &[1]);
        let nodes = std::sync::Arc::make_mut(&mut view.nodes);
        nodes.get_mut(&id(2)).unwrap().state = NodeState::Left;
        nodes.get_mut(&id(3)).unwrap().mesh = vec![key_of(3, &secret(2))];
        nodes.remove(&id(4));
        let epoch = secret(1).epoch();
        let routes = [2, 3, 4].map(|n| (id(n), epoch)).into();
        let mesh = desire(CLUSTER, 51820, &view, &[own_key(1, &secret(1), 0)], &routes).unwrap();
        assert!(mesh.devices[&epoch].peers.is_empty());
        assert!(mesh.routes.is_empty());
    }

    #[test]
    fn a_route_takes_the_smaller_of_two_underlays() {
        let mut view = nodes(2, &[1]);
        std::sync::Arc::make_mut(&mut view.nodes).get_mut(&id(2)).unwrap().underlay_mtu = 1400;
        let epoch = secret(1).epoch();
        let routes = Routes::from([(id(2), epoch)]);
        let mesh = desire(CLUSTER, 51820, &view, &[own_key(1, &secret(1), 0)], &routes).unwrap();
        assert_eq!(mesh.devices[&epoch].mtu, 1440);
        assert_eq!(mesh.routes.values().map(|route| route.mtu).collect::<Vec<_>>(), [1340]);
    }

    #[test]
    fn a_tunnel_takes_no_larger_packets_than_gotatun_however_large_the_underlay_is() {
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        for (vtep, underlay, inside) in [
            (v4, 4123, 4063),
            (v4, 4124, 4064),
            (v4, 9000, 4064),
            (v6, 4143, 4063),
            (v6, 4144, 4064),
            (v6, 65_535, 4064),
        ] {
            assert_eq!(mesh_mtu(vtep, underlay), inside, "{vtep}, {underlay}");
        }
        let mut view = nodes(2, &[1]);
        let all = std::sync::Arc::make_mut(&mut view.nodes);
        all.values_mut().for_each(|node| node.underlay_mtu = 9000);
        let epoch = secret(1).epoch();
        let routes = Routes::from([(id(2), epoch)]);
        let mesh = desire(CLUSTER, 51820, &view, &[own_key(1, &secret(1), 0)], &routes).unwrap();
        assert_eq!(mesh.devices[&epoch].mtu, 4064);
        assert_eq!(mesh.routes.values().map(|route| route.mtu).collect::<Vec<_>>(), [4064]);
    }

    #[test]
    fn a_key_that_two_nodes_show_is_the_older_ones_and_ones_own_is_nobodys() {
        let mut view = nodes(4, &[1]);
        let nodes = std::sync::Arc::make_mut(&mut view.nodes);
        let stolen: Vec<MeshKey> = nodes[&id(2)].mesh.clone();
        nodes.get_mut(&id(3)).unwrap().mesh = stolen.clone();
        nodes.get_mut(&id(4)).unwrap().mesh = vec![key_of(1, &secret(1))];
        let mesh = desire(CLUSTER, 51820, &view, &[own_key(1, &secret(1), 0)], &Routes::new()).unwrap();
        let peers = &mesh.devices[&secret(1).epoch()].peers;
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[&stolen[0].public].node, id(2));
    }
}
