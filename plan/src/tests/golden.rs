//! The dry run's text, case by case.

use std::net::IpAddr;

use super::super::{Desired, DesiredNetwork, DesiredPort, Observed, ObservedNetwork, plan};
use super::execute;
use lanmesh_model::{Also, Group, Mac, MulticastMode, NetworkId, NodeIndex, Placement, Vni};

const ID: NetworkId = NetworkId::from_bytes([0xaa; 8]);

fn network() -> DesiredNetwork {
    let ip = |text: &str| text.parse().expect("an address");
    let name = "cc-1".parse().expect("a name");
    let mac = Mac::of_endpoint(ip("10.10.0.17"));
    let far = Mac::of_endpoint(ip("10.10.0.33"));
    let port = DesiredPort {
        name,
        placement: Placement::Netns("/run/netns/cc".into()),
        ifname: "eth0".to_owned(),
        mac,
        addresses: vec!["10.10.0.17/24".parse().expect("a network")],
        mtu: 1450,
        guarded: true,
        also: Also::default(),
        gateways: Vec::new(),
    };
    DesiredNetwork {
        id: ID,
        name: "buildnet".to_owned(),
        vni: Vni::try_from(0x80_0001).expect("a VNI"),
        port: 4789,
        local: ip("192.0.2.1"),
        encrypted: false,
        mtu: 1450,
        mac: Mac::of_bridge(&ID),
        probe: Mac::of_probe(NodeIndex(1)),
        gateways: vec!["10.10.0.1/24".parse().expect("a network")],
        multicast: MulticastMode::Snoop,
        broadcast: true,
        mdns: true,
        remotes: [(far, ip("192.0.2.2"))].into(),
        neighbours: [(ip("10.10.0.17"), mac), (ip("10.10.0.33"), far)].into(),
        flood: [ip("192.0.2.2")].into(),
        groups: Default::default(),
        ports: [(port.name.clone(), port)].into(),
    }
}

fn desired(network: DesiredNetwork) -> Desired {
    Desired { networks: [(network.id, network)].into() }
}

fn made() -> Observed {
    let mut observed = Observed::default();
    for op in plan(&desired(network()), &observed.clone()).ops {
        execute(&mut observed, &op);
    }
    observed
}

/// The lines of the plan from what `network()` makes, changed by `harm`, to `network()`, changed by `wish`.
fn lines(wish: impl FnOnce(&mut DesiredNetwork), harm: impl FnOnce(&mut ObservedNetwork)) -> Vec<String> {
    let mut network = network();
    wish(&mut network);
    let mut observed = made();
    harm(observed.networks.get_mut(&ID).expect("was made"));
    let text = plan(&desired(network), &observed).to_string();
    text.lines()
        .map(|line| line.strip_prefix("aaaaaaaaaaaaaaaa ").expect("names its network").to_owned())
        .collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_new_network_is_made_from_the_inside_out() {
    insta::assert_snapshot!(plan(&desired(network()), &Observed::default()), @r"
    aaaaaaaaaaaaaaaa create namespace
    aaaaaaaaaaaaaaaa put bridge for buildnet: mac 0a:dc:e3:6b:2b:f5 mtu 1450 snooping on probes at 02:6c:70:00:00:01
    aaaaaaaaaaaaaaaa add gateway 10.10.0.1/24
    aaaaaaaaaaaaaaaa create vxlan vni 8388609 port 4789 local 192.0.2.1 mtu 1450 multicast snoop broadcast on mdns on
    aaaaaaaaaaaaaaaa put neighbour 10.10.0.17 is 02:4c:0a:0a:00:11
    aaaaaaaaaaaaaaaa put neighbour 10.10.0.33 is 02:4c:0a:0a:00:21
    aaaaaaaaaaaaaaaa put remote 02:4c:0a:0a:00:21 at 192.0.2.2
    aaaaaaaaaaaaaaaa add flood to 192.0.2.2
    aaaaaaaaaaaaaaaa add port cc-1: eth0 mac 02:4c:0a:0a:00:11 mtu 1450 10.10.0.17/24 in /run/netns/cc
    ");
}

#[test]
fn a_network_that_is_right_is_left_alone() {
    assert_eq!(lines(|_| {}, |_| {}), NOTHING);
}

#[test]
fn a_network_that_nobody_wants_is_removed_before_anything_is_made() {
    let mut other = network();
    other.id = NetworkId::from_bytes([0x01; 8]);
    let text = plan(&desired(other), &made()).to_string();
    assert_eq!(text.lines().next(), Some("aaaaaaaaaaaaaaaa delete network"));
    assert_eq!(text.lines().nth(1), Some("0101010101010101 create namespace"));
}

#[test]
fn a_namespace_that_a_crash_left_empty_is_completed() {
    let all = plan(&desired(network()), &Observed::default());
    let empty = Observed { networks: [(ID, ObservedNetwork::default())].into() };
    assert_eq!(plan(&desired(network()), &empty), all);
}

#[test]
fn an_endpoint_that_moved_is_replaced_in_one_step_and_what_is_unwanted_goes_last() {
    let moved = lines(
        |want| {
            let vtep = "192.0.2.3".parse().expect("an address");
            want.remotes.values_mut().for_each(|at| *at = vtep);
            want.flood = [vtep].into();
        },
        |_| {},
    );
    assert_eq!(
        moved,
        ["put remote 02:4c:0a:0a:00:21 at 192.0.2.3", "add flood to 192.0.2.3", "delete flood to 192.0.2.2"]
    );
}

#[test]
fn a_group_gains_receivers_before_it_loses_others_and_leads_nowhere_rather_than_everywhere() {
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let group = |text: &str| Group::any_source(text.parse().expect("a group"));
    let (a, b) = (ip("192.0.2.2"), ip("192.0.2.3"));
    let moved = lines(
        |want| {
            let source = Group::new("232.1.1.1".parse().expect("a group"), Some(ip("10.10.0.17")));
            want.groups = [
                (group("239.1.1.1"), [b].into()),
                (group("239.1.1.2"), [].into()),
                (source.expect("a source"), [a].into()),
            ]
            .into();
        },
        |have| {
            have.groups = [
                (group("239.1.1.1"), [Some(a), None].into()),
                (group("239.1.1.2"), [Some(a)].into()),
                (group("ff02::fb"), [Some(a), Some(b)].into()),
            ]
            .into();
        },
    );
    assert_eq!(
        moved,
        [
            "add group 232.1.1.1 from 10.10.0.17 to 192.0.2.2",
            "add group 239.1.1.1 to 192.0.2.3",
            "add group 239.1.1.2 to nowhere",
            "delete group 239.1.1.1 to nowhere",
            "delete group 239.1.1.1 to 192.0.2.2",
            "delete group 239.1.1.2 to 192.0.2.2",
            "delete group ff02::fb to 192.0.2.2",
            "delete group ff02::fb to 192.0.2.3",
        ]
    );
}

#[test]
fn an_entry_that_only_one_of_bridge_and_vxlan_device_has_is_written_again() {
    let half = lines(|_| {}, |have| have.remotes.values_mut().for_each(|at| *at = None));
    assert_eq!(half, ["put remote 02:4c:0a:0a:00:21 at 192.0.2.2"]);
    let unwanted =
        lines(|_| {}, |have| have.remotes.extend([("02:4c:0a:0a:00:99".parse().expect("a MAC"), None)]));
    assert_eq!(unwanted, ["delete remote 02:4c:0a:0a:00:99"]);
}

#[test]
fn mtu_multicast_and_local_address_change_in_place() {
    let changed = lines(
        |want| {
            want.mtu = 1350;
            want.multicast = MulticastMode::Off;
            want.broadcast = false;
            want.mdns = false;
            want.local = "192.0.2.9".parse().expect("an address");
            want.ports.values_mut().for_each(|port| port.mtu = 1350);
        },
        |_| {},
    );
    assert_eq!(
        changed,
        [
            "put bridge for buildnet: mac 0a:dc:e3:6b:2b:f5 mtu 1350 snooping off probes at 02:6c:70:00:00:01",
            "set vxlan vni 8388609 port 4789 local 192.0.2.9 mtu 1350 multicast off broadcast off mdns off",
            "set port cc-1: eth0 mac 02:4c:0a:0a:00:11 mtu 1350 10.10.0.17/24 in /run/netns/cc",
        ]
    );
}

#[test]
fn what_the_kernel_cannot_change_makes_a_new_vxlan_device_with_all_its_entries_and_nothing_else() {
    let again = [
        "delete vxlan",
        "create vxlan vni 8388609 port 8472 local 192.0.2.1 mtu 1450 multicast snoop broadcast on mdns on",
        "put remote 02:4c:0a:0a:00:21 at 192.0.2.2",
        "add flood to 192.0.2.2",
    ];
    assert_eq!(lines(|want| want.port = 8472, |_| {}), again);
    let family = lines(|want| want.local = "2001:db8::1".parse().expect("an address"), |_| {});
    assert_eq!(family[0], "delete vxlan");
}

#[test]
fn a_bridge_with_another_mac_gets_its_neighbours_again_because_the_kernel_forgets_them() {
    let lines = lines(|_| {}, |have| have.bridge.as_mut().expect("is there").mac = Mac([2; 6]));
    assert_eq!(
        lines,
        [
            "put bridge for buildnet: mac 0a:dc:e3:6b:2b:f5 mtu 1450 snooping on probes at 02:6c:70:00:00:01",
            "put neighbour 10.10.0.17 is 02:4c:0a:0a:00:11",
            "put neighbour 10.10.0.33 is 02:4c:0a:0a:00:21",
        ]
    );
}

#[test]
fn a_detached_endpoint_loses_its_interface_and_its_neighbour_entry() {
    let gone = lines(
        |want| {
            want.ports.clear();
            want.neighbours.remove(&"10.10.0.17".parse().expect("an address"));
        },
        |_| {},
    );
    assert_eq!(gone, ["delete port cc-1", "delete neighbour 10.10.0.17"]);
}

#[test]
fn what_a_container_does_with_its_own_interface_is_its_own_business() {
    let own = lines(
        |_| {},
        |have| {
            let port = have.ports.values_mut().next().expect("one port");
            port.addresses.insert("10.10.0.200/24".parse().expect("a network"));
        },
    );
    assert_eq!(own, NOTHING);
    let lost = lines(|_| {}, |have| have.ports.values_mut().for_each(|port| port.addresses.clear()));
    assert_eq!(lost, ["set port cc-1: eth0 mac 02:4c:0a:0a:00:11 mtu 1450 10.10.0.17/24 in /run/netns/cc"]);
}
