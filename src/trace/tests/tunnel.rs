//! The sentences about tunnels: a network that is encrypted, and what the mesh has of it.

use super::*;
use crate::mesh::{MeshDevice, MeshPeer, MeshRoute, MeshSecret, PrivateKey};

const KEY: PublicKey = PublicKey::from_bytes([9; 32]);
const OWN: PublicKey = PublicKey::from_bytes([8; 32]);

fn epoch() -> MeshEpoch {
    MeshEpoch { number: 1, tag: 7 }
}

/// The same through the mesh; all is well.
fn encrypted() -> Scene {
    let mut scene = scene();
    let at = "192.0.2.2:51840".parse().unwrap();
    let secret = MeshSecret::derive(1, &[1; 32]);
    let [one, two] = [1, 2].map(|n| NodeId::from_bytes([n; 16]));
    let private = PrivateKey::generate();
    let peer = MeshPeer {
        node: two,
        endpoint: at,
        preshared: secret.preshared(&one, &two),
        address: address(),
        keepalive: 25,
    };
    let allowed: BTreeSet<IpNetwork> =
        [address(), mesh_vtep(address())].map(|address| IpNetwork::new(address.into(), 128).unwrap()).into();
    let observed = ObservedPeer {
        endpoint: Some(at),
        preshared: Some(peer.preshared.clone()),
        allowed,
        keepalive: 25,
        handshake: Some(20),
    };
    let device =
        MeshDevice { slot: 0, port: 51840, private, public: OWN, mtu: 1440, peers: [(KEY, peer)].into() };
    let own: Ipv6Addr = "fd00::1".parse().unwrap();
    let want = DesiredMesh {
        prefix: "fd00::/48".parse().unwrap(),
        address: own,
        devices: [(epoch(), device)].into(),
        routes: [(address(), MeshRoute { epoch: epoch(), mtu: 1420 })].into(),
    };
    let name = DeviceName::of(epoch());
    let have = ObservedMesh {
        there: true,
        vteps: [mesh_vtep(own)].into(),
        devices: [(
            name.clone(),
            ObservedDevice {
                mtu: 1440,
                up: true,
                tunnel: Some(ObservedTunnel {
                    public: Some(OWN),
                    port: 51840,
                    peers: [(KEY, observed)].into(),
                }),
            },
        )]
        .into(),
        routes: [address(), mesh_vtep(address())].map(|to| (to, (name.clone(), 1420))).into(),
        link: Some(crate::plan::ObservedLink { mtu: 1440, addresses: [own].into(), ready: true }),
    };
    scene.mesh = Some((Some(want), have));
    scene
}

fn mesh(scene: &mut Scene) -> &mut ObservedMesh {
    &mut scene.mesh.as_mut().unwrap().1
}

fn device(scene: &mut Scene) -> &mut ObservedDevice {
    mesh(scene).devices.values_mut().next().unwrap()
}

fn peer(scene: &mut Scene) -> &mut ObservedPeer {
    device(scene).tunnel.as_mut().unwrap().peers.values_mut().next().unwrap()
}

const TUNNEL_FAULTS: &[Fault] = &[
    ("node n1 has no WireGuard mesh", Weight::Cause, |scene| scene.mesh.as_mut().unwrap().0 = None),
    ("the namespace of the WireGuard mesh is not there on node n1", Weight::Cause, |scene| {
        *mesh(scene) = ObservedMesh::default();
    }),
    ("node n1 has no WireGuard key of node n2", Weight::Cause, |scene| {
        let want = scene.mesh.as_mut().unwrap().0.as_mut().unwrap();
        want.routes.clear();
    }),
    ("is not there on node n1", Weight::Cause, |scene| mesh(scene).devices.clear()),
    ("on node n1 is down", Weight::Cause, |scene| device(scene).up = false),
    ("nobody answers for the WireGuard device", Weight::Cause, |scene| device(scene).tunnel = None),
    ("on node n1 has another key, port or MTU", Weight::Cause, |scene| device(scene).mtu = 1000),
    ("the WireGuard device of node n1 does not have node n2 among its peers", Weight::Cause, |scene| {
        device(scene).tunnel.as_mut().unwrap().peers.clear();
    }),
    ("does not let the addresses of node n2 pass (allowed IPs)", Weight::Cause, |scene| {
        peer(scene).allowed.clear();
    }),
    ("has another preshared key with node n2", Weight::Cause, |scene| peer(scene).preshared = None),
    ("sends what is for node n2 elsewhere than to 192.0.2.2:51840", Weight::Cause, |scene| {
        peer(scene).endpoint = None;
    }),
    ("does not keep the tunnel to node n2 alive", Weight::Aside, |scene| peer(scene).keepalive = 0),
    (
        "node n1 has had no WireGuard handshake with node n2 yet: let UDP to 192.0.2.2:51840 pass",
        Weight::Symptom,
        |scene| {
            peer(scene).handshake = None;
        },
    ),
    ("no WireGuard handshake with node n2 for 200 s", Weight::Symptom, |scene| {
        peer(scene).handshake = Some(200);
    }),
    ("the route of node n1 to node n2 in the mesh", Weight::Cause, |scene| {
        mesh(scene).routes.remove(&mesh_vtep(address()));
    }),
    ("node n1 lacks its address fd00:0:0:1::1 in the mesh", Weight::Cause, |scene| mesh(scene).vteps.clear()),
    ("what connects node n1 itself with the mesh", Weight::Aside, |scene| mesh(scene).link = None),
];

#[test]
fn each_thing_that_is_wrong_of_a_tunnel_has_its_sentence() {
    let well = encrypted();
    assert_eq!(well.wrong(), []);
    assert!(well.hops().iter().any(|hop| hop.found.contains("last handshake 20 s ago")), "{:?}", well.hops());
    for (sentence, weight, fault) in TUNNEL_FAULTS {
        let mut scene = encrypted();
        fault(&mut scene);
        let wrong = scene.wrong();
        let found = wrong.iter().find(|wrong| format!("{}: {}", wrong.what, wrong.hint).contains(sentence));
        let found = found.unwrap_or_else(|| panic!("{sentence:?} in {wrong:?}"));
        assert_eq!(found.weight, *weight, "{sentence}");
    }
}
