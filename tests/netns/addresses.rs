//! Addresses: foretold, kept, and refused where they cannot be.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Container, Lab, Node, SOON, lab, ping, wait_until};
use crate::unicast::address;

const SUBNETS: [&str; 4] = ["--subnet", "10.83.0.0/24", "--subnet", "fd00:83::/64"];

/// Attaches `names[i]` to node n1, n2, n1, n2 and so on, in this order; each name's addresses.
fn attach_all(lab: &Lab, names: &[&str]) -> (BTreeMap<String, Value>, Vec<Container>) {
    let mut addresses = BTreeMap::new();
    let mut containers = Vec::new();
    for name in names {
        let container = Container::named(name);
        // By the name, so that the order of arrival can be another one.
        let node = lab.node(1 + usize::from(name.as_bytes()[1] % 2));
        addresses.insert((*name).to_owned(), node.attach("net", name, &container)["addresses"].clone());
        containers.push(container);
    }
    (addresses, containers)
}

#[test]
fn every_address_is_the_one_that_ipam_plan_had_foretold_without_an_agent() {
    let lab = lab!(2).cluster();
    lab.network("net", &SUBNETS);
    for (i, node) in lab.nodes().iter().enumerate() {
        let name = format!("cc-{i}");
        let index = i.to_string();
        let plan = ["ipam", "plan", "--node-index", &index, "--name", &name, "--json"];
        let foretold = node.lanmesh(plan.iter().chain(&SUBNETS)).json();
        let by_network = node.lanmesh(["ipam", "plan", "net", "--name", &name, "--json"]).json();
        let container = Container::named(&name);
        let got = node.attach("net", &name, &container);
        for subnet in 0..2 {
            assert_eq!(foretold["subnets"][subnet]["address"], got["addresses"][subnet], "{foretold}");
            assert_eq!(by_network["subnets"][subnet]["address"], got["addresses"][subnet], "{by_network}");
        }
    }
}

#[test]
fn the_addresses_are_the_same_after_everything_was_made_anew_in_another_order() {
    let first = {
        let lab = lab!(2).cluster();
        lab.network("net", &SUBNETS);
        attach_all(&lab, &["e1", "e2", "e3", "e4"]).0
    };
    let lab = lab!(2).cluster();
    lab.network("net", &SUBNETS);
    let (second, _containers) = attach_all(&lab, &["e4", "e2", "e1", "e3"]);
    assert_eq!(first, second);
}

#[test]
fn an_endpoint_that_comes_back_has_its_address_again_although_others_came_meanwhile() {
    let lab = lab!(1).cluster();
    lab.network("net", &["--subnet", "10.83.0.0/24", "--block-size", "16"]);
    let node = lab.node(1);
    let container = Container::named("a");
    let before = node.attach("net", "a", &container);
    node.detach("net", "a");
    let others: Vec<_> = (0..6).map(|i| Container::named(&format!("o{i}"))).collect();
    for (i, other) in others.iter().enumerate() {
        let answer = node.attach("net", &format!("o{i}"), other);
        assert_ne!(answer["addresses"], before["addresses"], "a freed address is reused late");
    }
    assert_eq!(node.attach("net", "a", &container)["addresses"], before["addresses"]);
}

fn slot(node: &Node, name: &str, container: &Container, slot: &str) -> Value {
    node.try_attach("net", name, container, &["--service", "web", "--slot", slot]).json()
}

#[test]
fn a_slot_of_a_service_with_a_pool_has_its_address_on_whichever_node_it_is() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.83.0.0/24", "--pool", "web=10.83.0.100-10.83.0.109"]);
    let containers = [Container::named("w1"), Container::named("w2"), Container::named("asking")];
    let first = slot(lab.node(1), "web-3", &containers[0], "3");
    assert_eq!(address(&first, 0), "10.83.0.103");
    lab.node(3).attach("net", "asking", &containers[2]);
    wait_until("it answers on n1", SOON, || ping(&containers[2], "10.83.0.103"));
    lab.node(1).detach("net", "web-3");
    lab.node(2).wait_endpoints("net", &["asking@n3"]);
    let second = slot(lab.node(2), "web-3", &containers[1], "3");
    assert_eq!(address(&second, 0), "10.83.0.103");
    wait_until("it answers on n2", SOON, || ping(&containers[2], "10.83.0.103"));
    let beyond = ["--service", "web", "--slot", "10"];
    let why = lab.node(1).try_attach("net", "web-10", &containers[0], &beyond).refusal();
    assert!(why.contains("web") && why.contains("10"), "says what the pool holds: {why}");
}

#[test]
fn an_address_can_be_asked_for_and_is_refused_where_it_is_not_to_be_had() {
    let lab = lab!(2).cluster();
    let network = ["--subnet", "10.83.0.0/24", "--block-size", "32", "--reserve", "10.83.0.200-10.83.0.210"];
    lab.network("net", &network);
    let (one, two) = (Container::named("one"), Container::named("two"));
    let node = lab.node(1);
    let own = &node.lanmesh(["ipam", "plan", "net", "--json"]).json()["subnets"][0]["block"][0];
    let free = own.as_str().and_then(|range| range.split('-').nth(1)).expect("a block is a range").to_owned();
    let answer = node.try_attach("net", "one", &one, &["--ip", &free]).json();
    assert_eq!(address(&answer, 0), free);
    let plan = node.lanmesh(["ipam", "plan", "net", "--node-index", "1", "--name", "x", "--json"]).json();
    let foreign =
        plan["subnets"][0]["address"].as_str().expect("an address").split('/').next().expect("some");
    for refused in [&free, "10.83.0.205", "10.83.0.1", "10.83.0.0", "10.83.0.255", "10.99.0.1", foreign] {
        let why = node.try_attach("net", "two", &two, &["--ip", refused]).refusal();
        assert!(why.contains(refused), "{refused}: {why}");
    }
    assert!(two.links().is_empty());
}

#[test]
fn a_full_block_of_which_nobody_has_another_says_that_it_is_full_and_what_to_change() {
    let lab = lab!(1).cluster();
    // One block and an address that is left.
    lab.network(
        "net",
        &["--subnet", "10.83.0.0/29", "--block-size", "2", "--reserve", "10.83.0.4-10.83.0.5"],
    );
    let node = lab.node(1);
    let containers: Vec<_> = (0..3).map(|i| Container::named(&format!("f{i}"))).collect();
    node.attach("net", "f0", &containers[0]);
    node.attach("net", "f1", &containers[1]);
    let why = node.try_attach("net", "f2", &containers[2], &[]).refusal();
    assert!(why.contains("full") && why.contains('2'), "says what is full and how full: {why}");
    assert!(containers[2].links().is_empty());
    node.detach("net", "f0");
    node.attach("net", "f2", &containers[2]);
}

#[test]
fn a_subnet_that_cannot_work_is_refused_when_it_is_given_and_one_that_others_use_is_said_with_the_node() {
    let lab = lab!(2).cluster();
    let node = lab.node(1);
    let refused = |arguments: &[&str], parts: &[&str]| {
        let why = node.lanmesh(arguments).refusal();
        for part in parts {
            assert!(why.contains(part), "{arguments:?}: {part}: {why}");
        }
    };
    for (subnet, range, name) in [
        ("224.0.0.0/24", "224.0.0.0/4", "multicast"),
        ("127.8.0.0/16", "127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "169.254.0.0/16", "link-local"),
        ("255.255.255.0/24", "255.255.255.255/32", "limited broadcast"),
        ("0.0.0.0/8", "0.0.0.0/8", "this network"),
        ("0.0.0.0/0", "0.0.0.0/0", "every address"),
        ("::ffff:10.0.0.0/112", "::ffff:0.0.0.0/96", "IPv4-mapped"),
        ("fe80::/64", "fe80::/10", "link-local"),
        ("ff08::/64", "ff00::/8", "multicast"),
        ("::/64", "::/128", "unspecified"),
    ] {
        refused(&["network", "create", "bad", "--subnet", subnet], &[range, name]);
        refused(
            &["network", "create", "bad", "--subnet", "10.90.0.0/24", "--subnet", subnet],
            &[range, name],
        );
        refused(&["ipam", "plan", "--subnet", subnet], &[range, name]);
    }
    lab.network("net", &["--subnet", "10.90.0.0/24"]);
    refused(&["network", "set", "net", "--add-subnet", "ff08::/64"], &["ff00::/8", "multicast"]);
    assert_eq!(node.lanmesh(["network", "ls", "--json"]).json().as_array().map(Vec::len), Some(1));

    // It can be there, and whoever makes it is told what will not work.
    let warnings = |arguments: &[&str]| {
        let answer = node.lanmesh(arguments.iter().chain(&["--json"])).json();
        answer["warnings"]
            .as_array()
            .map(|all| all.iter().map(Value::to_string).collect())
            .unwrap_or_default()
    };
    let over: Vec<String> = warnings(&["network", "create", "over", "--subnet", "192.0.2.0/25"]);
    for part in ["n1 (192.0.2.1)", "n2 (192.0.2.2)", "--host"] {
        assert!(over.iter().any(|warning| warning.contains(part)), "{part}: {over:?}");
    }
    assert!(over.iter().any(|warning| warning.contains("eth0") && warning.contains("(n1)")), "{over:?}");
    let added = warnings(&["network", "set", "net", "--add-subnet", "192.0.2.128/25"]);
    assert!(added.iter().any(|warning| warning.contains("(n1)")), "{added:?}");
    assert_eq!(warnings(&["network", "create", "beside", "--subnet", "10.91.0.0/24"]), [""; 0]);
}
