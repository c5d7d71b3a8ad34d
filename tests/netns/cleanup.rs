//! What is left when it is over: nothing.

use std::path::PathBuf;

use crate::harness::{Container, Node, SOON, lab, wait_until};

/// What a node has of ours: links in its own namespace, mounts and files in the run directory.
fn there_is(node: &Node) -> (Vec<String>, Vec<PathBuf>, Vec<PathBuf>) {
    let files = std::fs::read_dir(node.run_dir().join("netns"));
    let files = files.into_iter().flatten().filter_map(Result::ok).map(|file| file.path()).collect();
    (node.netns().links(), node.mounts(), files)
}

#[test]
fn a_network_without_endpoints_leaves_nothing_on_any_node() {
    let lab = lab!(2).cluster();
    let before: Vec<_> = lab.nodes().iter().map(there_is).collect();
    lab.network("net", &["--subnet", "10.96.0.0/24", "--subnet", "fd00:96::/64"]);
    let containers = [Container::named("a"), Container::named("b")];
    lab.node(1).attach("net", "a", &containers[0]);
    lab.node(2).lanmesh(["attach", "net", "--name", "b", "--host"]).success();
    for node in lab.nodes() {
        node.wait_endpoints("net", &["a@n1", "b@n2"]);
    }
    let why = lab.node(1).lanmesh(["network", "rm", "net"]).refusal();
    assert!(why.contains("net"), "a network with endpoints is not removed: {why}");
    lab.node(1).detach("net", "a");
    lab.node(2).detach("net", "b");
    lab.node(1).wait_endpoints("net", &[]);
    lab.node(1).lanmesh(["network", "rm", "net"]).success();
    for (node, before) in lab.nodes().iter().zip(&before) {
        wait_until(&format!("nothing of the network is left on {}", node.name()), SOON, || {
            let is = there_is(node);
            if is == *before { Ok(()) } else { Err(format!("{is:?}, before {before:?}")) }
        });
        assert!(node.lanmesh(["network", "inspect", "net", "--json"]).ok().is_err());
    }
    assert!(containers[0].links().is_empty());
}

#[test]
fn a_node_that_leaves_and_stops_has_no_namespace_link_mount_or_file_of_ours() {
    let lab = lab!(2);
    let before: Vec<_> = lab.nodes().iter().map(|node| node.netns().links()).collect();
    lab.join_all(&[1, 2]);
    lab.network("red", &["--subnet", "10.96.0.0/24"]);
    lab.network("blue", &["--subnet", "10.96.0.0/24", "--subnet", "fd00:96::/64"]);
    let containers = [Container::named("a"), Container::named("b")];
    for (node, container) in lab.nodes().iter().zip(&containers) {
        for (network, ifname) in [("red", "eth0"), ("blue", "eth1")] {
            let name = format!("on-{}", node.name());
            node.try_attach(network, &name, container, &["--ifname", ifname]).success();
            let host = format!("host-{}", node.name());
            let host = node.lanmesh(["attach", network, "--name", &host, "--host"]);
            // A node itself cannot be in two networks with the same addresses.
            if network == "red" {
                host.success();
            } else {
                assert!(host.refusal().contains("network red already"));
            }
        }
        assert_eq!(container.links().len(), 2);
    }
    for (i, node) in lab.nodes().iter().enumerate().rev() {
        node.lanmesh(["leave"]).success();
        assert!(containers[i].links().is_empty(), "links in the container: {:?}", containers[i].links());
        node.stop();
        assert_eq!(node.netns().links(), before[i], "links on the node");
        assert!(node.mounts().is_empty(), "mounts: {:?}", node.mounts());
        let files: Vec<_> = std::fs::read_dir(node.run_dir())
            .expect("the run directory is there")
            .filter_map(Result::ok)
            .filter(|file| {
                file.path().is_file() || std::fs::read_dir(file.path()).is_ok_and(|d| d.count() > 0)
            })
            .map(|file| file.path())
            // Two agents must never lock two files of one name, so the locks stay where they were.
            .filter(|file| !file.ends_with("lanmesh.sock.lock") && !file.ends_with("agent.lock"))
            .collect();
        assert!(files.is_empty(), "files in the run directory: {files:?}");
        assert!(!node.socket().exists(), "the socket is gone");
    }
}
