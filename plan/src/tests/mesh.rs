//! The mesh: golden steps, and that they lead where they should on a model of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use lanmesh_mesh::{DesiredMesh, MeshDevice, MeshPeer, MeshRoute, PresharedKey, PrivateKey};
use lanmesh_model::{MeshEpoch, NodeId, PublicKey};

use crate::{DeviceName, MeshAction, ObservedMesh, mesh_vtep, plan_mesh};

fn epoch(number: u32) -> MeshEpoch {
    MeshEpoch { number, tag: number * 16 }
}

fn address(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd01, 2, 3, 0, 0, 0, 0, u16::from(n) + 1)
}

fn key(n: u8) -> PublicKey {
    PublicKey::from_bytes([n; 32])
}

fn peer(n: u8) -> MeshPeer {
    MeshPeer {
        node: NodeId::from_bytes([n; 16]),
        endpoint: format!("192.0.2.{n}:51840").parse().unwrap(),
        preshared: PresharedKey::from_bytes([n; 32]),
        address: address(n),
        keepalive: 25,
    }
}

fn device(slot: u8, peers: &[u8]) -> MeshDevice {
    let private = PrivateKey::from_bytes([slot + 100; 32]);
    MeshDevice {
        slot,
        port: 51840 + u16::from(slot),
        public: private.public(),
        private,
        mtu: 1440,
        peers: peers.iter().map(|n| (key(*n), peer(*n))).collect(),
    }
}

fn mesh(devices: &[(u32, MeshDevice)], routes: &[(u8, u32)]) -> DesiredMesh {
    DesiredMesh {
        prefix: "fd01:2:3::/48".parse().unwrap(),
        address: address(0),
        devices: devices.iter().map(|(number, device)| (epoch(*number), device.clone())).collect(),
        routes: routes
            .iter()
            .map(|(n, number)| (address(*n), MeshRoute { epoch: epoch(*number), mtu: 1440 }))
            .collect(),
    }
}

fn apply(have: &mut ObservedMesh, steps: &[MeshAction]) {
    for step in steps {
        assert!(have.carry_out(step).is_ok(), "{step}: {:?}", have.carry_out(step));
    }
}

fn plan(want: &DesiredMesh, have: &ObservedMesh) -> Vec<MeshAction> {
    plan_mesh(Some(want), have, &BTreeSet::new())
}

fn made(want: &DesiredMesh) -> ObservedMesh {
    let mut have = ObservedMesh::default();
    apply(&mut have, &plan(want, &ObservedMesh::default()));
    assert_eq!(plan(want, &have), []);
    have
}

fn text(steps: &[MeshAction]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

#[test]
fn a_new_mesh_is_made_in_an_order_in_which_nothing_is_missing() {
    let want = mesh(&[(1, device(0, &[1]))], &[(1, 1)]);
    insta::assert_snapshot!(text(&plan(&want, &ObservedMesh::default())), @r"
    mesh create namespace
    mesh put link: address fd01:2:3::1 of fd01:2:3::/48 mtu 1440
    mesh add vtep fd01:2:3:1::1
    mesh put device lw1-00000010: port 51840 mtu 1440
    mesh put peer AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE= of lw1-00000010: preshared key at 192.0.2.1:51840 has fd01:2:3::2/128 has fd01:2:3:1::2/128 every 25 s
    mesh put route to fd01:2:3::2 over lw1-00000010 mtu 1440
    mesh put route to fd01:2:3:1::2 over lw1-00000010 mtu 1440
    ");
    made(&want);
}

#[test]
fn a_peer_that_comes_goes_or_moves_is_one_step_and_no_other_is_touched() {
    let have = made(&mesh(&[(1, device(0, &[1, 2]))], &[(1, 1), (2, 1)]));
    let more = plan(&mesh(&[(1, device(0, &[1, 2, 3]))], &[(1, 1), (2, 1)]), &have);
    assert!(matches!(more.as_slice(), [MeshAction::PutPeer { peer, .. }] if *peer == key(3)), "{more:?}");
    let fewer = plan(&mesh(&[(1, device(0, &[2]))], &[(2, 1)]), &have);
    let [MeshAction::DeleteRoute(_), MeshAction::DeleteRoute(_), MeshAction::DeletePeer { peer, .. }] =
        fewer.as_slice()
    else {
        panic!("{fewer:?}")
    };
    assert_eq!(*peer, key(1));
    let mut moved = device(0, &[1, 2]);
    let elsewhere: SocketAddr = "198.51.100.1:51840".parse().unwrap();
    moved.peers.get_mut(&key(1)).unwrap().endpoint = elsewhere;
    let steps = plan(&mesh(&[(1, moved)], &[(1, 1), (2, 1)]), &have);
    let [MeshAction::PutPeer { change, .. }] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((change.endpoint, &change.preshared, &change.allowed), (Some(elsewhere), &None, &None));
}

#[test]
fn a_peer_that_was_heard_from_elsewhere_stays_there_until_it_says_otherwise() {
    let want = mesh(&[(1, device(0, &[1]))], &[(1, 1)]);
    let mut have = made(&want);
    let tunnel = have.devices.get_mut(&DeviceName::of(epoch(1))).unwrap().tunnel.as_mut().unwrap();
    let there = tunnel.peers.get_mut(&key(1)).unwrap();
    there.endpoint = Some("198.51.100.7:999".parse().unwrap());
    there.handshake = Some(20);
    assert_eq!(plan(&want, &have), []);
    assert_eq!(plan_mesh(Some(&want), &have, &[key(1)].into()).len(), 1);
    let tunnel = have.devices.get_mut(&DeviceName::of(epoch(1))).unwrap().tunnel.as_mut().unwrap();
    tunnel.peers.get_mut(&key(1)).unwrap().handshake = Some(200);
    assert_eq!(plan(&want, &have).len(), 1);
}

#[test]
fn the_next_generation_is_there_before_anything_moves_and_the_old_one_goes_last() {
    let mut have = made(&mesh(&[(1, device(0, &[1, 2]))], &[(1, 1), (2, 1)]));
    let both = mesh(&[(1, device(0, &[1, 2])), (2, device(1, &[1]))], &[(1, 2), (2, 1)]);
    let steps = plan(&both, &have);
    apply(&mut have, &steps);
    assert_eq!(plan(&both, &have), []);
    assert_eq!(have.routes[&mesh_vtep(address(1))].0, DeviceName::of(epoch(2)));
    assert_eq!(have.routes[&mesh_vtep(address(2))].0, DeviceName::of(epoch(1)));
    let last = mesh(&[(2, device(1, &[1, 2]))], &[(1, 2), (2, 2)]);
    let steps = plan(&last, &have);
    assert_eq!(steps.last(), Some(&MeshAction::DeleteDevice(DeviceName::of(epoch(1)))), "{steps:?}");
    apply(&mut have, &steps);
    assert_eq!(plan(&last, &have), []);
}

#[test]
fn a_device_that_has_the_port_of_another_makes_room_first() {
    let mut have = made(&mesh(&[(1, device(0, &[1]))], &[(1, 1)]));
    let want = mesh(&[(3, device(0, &[1]))], &[(1, 3)]);
    let steps = plan(&want, &have);
    apply(&mut have, &steps);
    assert_eq!(plan(&want, &have), []);
}

#[test]
fn a_device_whose_process_died_is_made_anew_with_its_peers_and_routes() {
    let want = mesh(&[(1, device(0, &[1]))], &[(1, 1)]);
    let whole = made(&want);
    // A TUN device goes with its process; one whose process hangs stays.
    for stays in [true, false] {
        let mut have = whole.clone();
        have.routes.clear();
        match stays {
            true => have.devices.values_mut().for_each(|device| device.tunnel = None),
            false => have.devices.clear(),
        }
        let steps = plan(&want, &have);
        apply(&mut have, &steps);
        assert_eq!(have, whole);
    }
}

#[test]
fn what_is_not_wanted_at_all_is_removed_and_an_empty_kernel_is_left_alone() {
    let have = made(&mesh(&[(1, device(0, &[1]))], &[(1, 1)]));
    assert_eq!(plan_mesh(None, &have, &BTreeSet::new()), [MeshAction::Delete]);
    assert_eq!(plan_mesh(None, &ObservedMesh::default(), &BTreeSet::new()), []);
}

#[test]
fn a_dry_run_tells_no_secret() {
    let steps = plan(&mesh(&[(1, device(0, &[1]))], &[(1, 1)]), &ObservedMesh::default());
    let shown = text(&steps) + &format!("{steps:?}");
    for byte in [100, 1] {
        let digits = format!("{byte}, {byte}, {byte}");
        assert!(!shown.contains(&digits), "{shown}");
    }
}

#[test]
fn names_of_devices_are_short_differ_by_epoch_and_are_recognised() {
    let far = MeshEpoch { number: u32::MAX, tag: u32::MAX };
    for epoch in [epoch(1), epoch(2), far] {
        let name = DeviceName::of(epoch);
        assert!(name.as_str().len() <= 15);
        assert_eq!(DeviceName::recognise(name.as_str()), Some(name));
    }
    let names: BTreeMap<_, _> = (0..50).map(|n| (DeviceName::of(epoch(n)), n)).collect();
    assert_eq!(names.len(), 50);
    for other in
        ["lw", "lw1", "lw1-", "lw1-0000001", "lw1-0000001g", "lw1234-00000010", "lo", "lmabc-12345678"]
    {
        assert_eq!(DeviceName::recognise(other), None, "{other}");
    }
}
