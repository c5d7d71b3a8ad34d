//! What the kernel counts of what endpoints may not send.

use std::process::Command;

use lanmesh::kernel::{DropKind, PortDrops};
use lanmesh::model::NetworkId;
use lanmesh::plan::PortName;

use super::kernel_lab::{Lab, Node, ip, name, network, network_of, port};

/// More than are asked for one by one.
const PORTS: u8 = 60;

async fn drops(node: &Node, network: NetworkId, endpoint: &str) -> PortDrops {
    let found = node.kernel.dropped_in(network).await.expect("the kernel tells").frames;
    assert_eq!(found.len(), usize::from(PORTS), "of each port is told, whether it dropped anything or not");
    found[&PortName::of(&name(endpoint))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_port_dropped_is_told_whether_few_did_or_many() {
    let Some(lab) = Lab::new("drops", 1, 1500) else { return };
    let node = &lab.nodes[0];
    let mut wanted = network(node, 1);
    let containers: Vec<_> = (0..PORTS).map(|n| (format!("e{n}"), lab.container(&format!("e{n}")))).collect();
    for ((endpoint, container), last) in containers.iter().zip(10..) {
        wanted.ports.insert(name(endpoint), port(endpoint, container, last));
    }
    node.make(&network_of(&wanted)).await;
    assert_eq!(drops(node, wanted.id, "e1").await, PortDrops::default(), "nobody sent anything wrong");

    // What is noted with a table is no riddle to the program that people look at it with.
    let inside = format!("--net={}", node.kernel.namespace_path(wanted.id).display());
    let listed =
        Command::new("nsenter").args([&inside, "nft", "list", "ruleset"]).output().expect("is installed");
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(text.matches("quota all {").count(), usize::from(PORTS), "{text}");

    // From an address that it was not given.
    let forge = |container: &str| {
        ip(container, "address add 10.10.0.250/24 dev eth0");
        let args =
            ["netns", "exec", container, "ping", "-c", "1", "-W", "1", "-I", "10.10.0.250", "10.10.0.9"];
        assert!(!Command::new("ip").args(args).output().expect("is installed").status.success());
    };
    forge(&containers[0].1);
    let of_one = drops(node, wanted.id, "e0").await;
    let kinds: Vec<_> = of_one.some().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [DropKind::Neighbour], "it asks for the other's MAC first");
    assert_eq!(drops(node, wanted.id, "e1").await, PortDrops::default());

    for (_, container) in &containers[1..] {
        ip(container, "link set eth0 address 02:00:00:00:00:99");
        let args = ["netns", "exec", container, "ping", "-c", "1", "-W", "0.01", "10.10.0.9"];
        assert!(!Command::new("ip").args(args).output().expect("is installed").status.success());
    }
    // It may ask again.
    let now = drops(node, wanted.id, "e0").await;
    assert!(now.of(DropKind::Neighbour) >= of_one.of(DropKind::Neighbour), "{now:?} after {of_one:?}");
    for (endpoint, _) in &containers[1..] {
        let all = drops(node, wanted.id, endpoint).await;
        assert!(all.of(DropKind::Mac) > 0 && all.sum() == all.of(DropKind::Mac), "{endpoint}: {all:?}");
    }
}
