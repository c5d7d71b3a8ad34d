//! What a container asks its network's name server, and when the answer changes.

use crate::harness::{Container, Lab, SOON, lab, need, wait_until};
use crate::unicast::address;

const GATEWAY: &str = "10.95.0.1";

/// The addresses that the network's name server gives for `name`, sorted.
fn resolved(client: &Container, name: &str) -> Vec<String> {
    let server = format!("@{GATEWAY}");
    let output = client.command("dig").args([&server, "+short", "+timeout=1", "+tries=1", name]).output();
    let output = output.expect("dig can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found: Vec<String> =
        text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect();
    found.sort();
    found
}

fn wait_resolved(client: &Container, name: &str, expected: &[String]) {
    wait_until(&format!("{name} is {expected:?}"), SOON, || match resolved(client, name) {
        found if found == expected => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

/// An endpoint `cN` on each of the three nodes, all of them slots of the service `web`; and their addresses.
pub fn web(lab: &Lab) -> (Vec<Container>, Vec<String>) {
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let containers: Vec<Container> = (1..=3).map(|n| Container::named(&format!("c{n}"))).collect();
    let mut addresses = Vec::new();
    for (node, container) in lab.nodes().iter().zip(&containers) {
        let (name, slot) = (format!("c{}", node.number()), node.number().to_string());
        let more = ["--service", "web", "--slot", &slot, "--alias", &format!("alias{slot}")];
        addresses.push(address(&node.try_attach("net", &name, container, &more).json(), 0));
    }
    (containers, addresses)
}

#[test]
fn every_node_answers_for_the_endpoints_of_all_by_name_alias_slot_and_service() {
    need!("dig");
    let lab = lab!(3).cluster();
    let (containers, addresses) = web(&lab);
    let mut all = addresses.clone();
    all.sort();
    for client in &containers {
        wait_resolved(client, "web.net.lanmesh", &all);
        wait_resolved(client, "tasks.web.net.lanmesh", &all);
        for (n, address) in (1..).zip(&addresses) {
            let address = std::slice::from_ref(address);
            for name in [format!("c{n}"), format!("c{n}.net.lanmesh"), format!("alias{n}.net.lanmesh")] {
                wait_resolved(client, &name, address);
            }
            wait_resolved(client, &format!("{n}.web.net.lanmesh"), address);
        }
    }
}

#[test]
fn a_name_goes_with_its_endpoint_and_with_its_node_and_comes_back_with_it() {
    need!("dig");
    let lab = lab!(3).cluster();
    let (containers, addresses) = web(&lab);
    let client = &containers[0];
    wait_resolved(client, "c3.net.lanmesh", &addresses[2..]);
    lab.node(2).detach("net", "c2");
    wait_resolved(client, "c2.net.lanmesh", &[]);
    lab.cut(lab.node(3));
    wait_resolved(client, "c3.net.lanmesh", &[]);
    wait_resolved(client, "web.net.lanmesh", &addresses[..1]);
    lab.heal(lab.node(3));
    wait_resolved(client, "c3.net.lanmesh", &addresses[2..]);
}

#[test]
fn a_restarted_agent_answers_again() {
    need!("dig");
    let lab = lab!(3).cluster();
    let (containers, addresses) = web(&lab);
    lab.node(1).kill();
    lab.node(1).start_and_wait();
    wait_resolved(&containers[0], "c1.net.lanmesh", &addresses[..1]);
    wait_resolved(&containers[0], "c3.net.lanmesh", &addresses[2..]);
}

#[test]
fn the_c_library_finds_names_through_the_resolv_conf_that_attaching_writes() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let (one, two) = (Container::named("one"), Container::named("two"));
    let to = address(&lab.node(2).attach("net", "two", &two), 0);
    let file = lab.dir().join("resolv.conf");
    let file = file.to_str().expect("a plain path");
    lab.node(1).try_attach("net", "one", &one, &["--resolv-conf", file]).success();
    wait_until("getent finds the other node's endpoint by its short name", SOON, || {
        // Its own mount namespace, so that the file is this container's alone.
        let script = format!("mount --bind {file} /etc/resolv.conf && getent ahostsv4 two");
        let output = one.command("unshare").args(["--mount", "sh", "-c", &script]).output();
        let output = output.expect("unshare can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.split_whitespace().next() == Some(&to) { Ok(()) } else { Err(format!("{text:?}")) }
    });
}

/// An endpoint that nobody could find under one of its names is not attached.
#[test]
fn a_name_that_another_endpoint_answers_to_is_refused_with_its_holder_and_those_of_a_service_share_theirs() {
    need!("dig");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let containers: Vec<_> = (0..4).map(|i| Container::named(&format!("c{i}"))).collect();
    let attach = |node: usize, name: &str, container: usize, more: &[&str]| {
        lab.node(node).try_attach("net", name, &containers[container], more)
    };
    attach(1, "web", 0, &["--alias", "www"]).success();
    for (name, more, why) in [
        ("Web", &[][..], "endpoint web is on node n1"),
        ("WWW", &[], "name: www is an alias of endpoint web on node n1"),
        ("b", &["--alias", "WEB"], "aliases: web is the name of endpoint web on node n1"),
        ("b", &["--alias", "Www", "--take"], "aliases: www is an alias of endpoint web on node n1"),
    ] {
        let refusal = attach(2, name, 1, more).refusal();
        assert!(refusal.contains(why) && refusal.contains("another"), "{refusal}");
    }
    let ours = ["--service", "db", "--alias", "store"];
    let first = lab.node(1).try_attach("net", "d1", &containers[2], &ours).json();
    let second = lab.node(2).try_attach("net", "d2", &containers[1], &ours).json();
    let mut both = [&first, &second].map(|answer| address(answer, 0));
    both.sort();
    wait_resolved(&containers[0], "store.net.lanmesh", &both);
    let refusal = attach(1, "d3", 3, &["--alias", "store"]).refusal();
    assert!(refusal.contains("store is an alias of endpoint d"), "{refusal}");
}
