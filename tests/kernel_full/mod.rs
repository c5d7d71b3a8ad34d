//! A network with as many ports on one node as a bridge can have.

use std::fmt::Write as _;
use std::time::Duration;

use lanmesh::kernel::KernelError;
use lanmesh::model::{Group, MulticastMode, NetworkId};
use tokio::time::timeout;

use crate::kernel_lab::{Lab, Node, ip, multicast, multicast_soon, name, network, network_of, port};

/// The kernel lists a network's groups in a moment, or never.
const SOON: Duration = Duration::from_secs(20);

/// Makes veth pairs of which both ends are ports of the network's bridge, and hear every group if they may.
fn fill(node: &Node, network: NetworkId, numbers: std::ops::Range<u32>, may_hear: bool) {
    let mut batch = String::new();
    for number in numbers {
        writeln!(batch, "link add f{number} type veth peer name g{number}").expect("is memory");
        for end in ["f", "g"] {
            writeln!(batch, "link set {end}{number} master br0").expect("is memory");
            if may_hear {
                writeln!(batch, "link set {end}{number} type bridge_slave mcast_router 2")
                    .expect("is memory");
            }
        }
    }
    let file = std::env::temp_dir().join(format!("lanmesh-full-{}", std::process::id()));
    std::fs::write(&file, batch).expect("is written");
    node.inside(network, &format!("-batch {}", file.display()));
    std::fs::remove_file(&file).expect("is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_told_and_reach_who_joined_however_many_ports_there_are_and_one_too_many_is_refused() {
    let Some(lab) = Lab::new("full", 1, 1500) else { return };
    let node = &lab.nodes[0];
    let mut want = network(node, 1);
    want.multicast = MulticastMode::Snoop;
    let group = Group::any_source("239.1.2.3".parse().expect("a group"));
    want.groups.insert(group, [[192, 0, 2, 2].into()].into());
    let first = lab.container("first");
    want.ports.insert(name("first"), port("first", &first, 2));
    node.make(&network_of(&want)).await;
    // With them all ports hear everything that may, and there are two numbers of them left.
    fill(node, want.id, 0..398, true);

    // More than fit into what the kernel lists.
    for last in 3..23 {
        let container = lab.container(&format!("c{last}"));
        want.ports.insert(name(&format!("c{last}")), port(&format!("c{last}"), &container, last));
    }
    node.make(&network_of(&want)).await;
    let listed = timeout(SOON, node.kernel.observe_groups(want.id)).await.expect("the list has an end");
    assert!(listed.expect("is told").expect("is there").contains_key(&group));
    let (early, late) = (lab.container("c3"), lab.container("c22"));
    assert!(multicast(&first, &early, "239.9.9.9"), "one of the first hears all");
    assert!(multicast_soon(&first, &late, "239.9.9.10"), "one of the last hears what it has joined");

    // One that was taken from the bridge gets what its number has when it is put back.
    let device = lanmesh::plan::PortName::of(&name("c22"));
    node.inside(want.id, &format!("link set {} nomaster", device.as_str()));
    node.make(&network_of(&want)).await;
    assert!(multicast_soon(&first, &late, "239.9.9.11"), "it was put back");

    // VXLAN, first, 398 pairs and 20: 818 of 1,023.
    fill(node, want.id, 398..500, false);
    let last = lab.container("last");
    let mut more = want.clone();
    more.ports.insert(name("last"), port("last", &last, 30));
    node.make(&network_of(&more)).await;
    let beyond = lab.container("beyond");
    more.ports.insert(name("beyond"), port("beyond", &beyond, 31));
    let failed = node.try_make(&network_of(&more)).await;
    let [(_, error)] = failed.as_slice() else { panic!("{failed:?}") };
    assert!(matches!(error, KernelError::BridgeFull { .. }), "{error}");
    assert!(!ip(&beyond, "link show").contains("eth0"), "something of it is left");
}
