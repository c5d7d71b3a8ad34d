//! The addresses that nodes have of their own in a network: who gets which, that nobody else does, that each is reached from every node,
//! and that published ports may be asked for as from there.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::json;

use crate::harness::{Container, Lab, Node, SOON, lab, ping, wait_until, within};
use crate::published::{OUTSIDE, OUTSIDE6, ask, at, outside, tcp, udp};
use crate::services::Server;

const PORT: u16 = 8000;
const RANGES: &str = "10.78.0.240/28,fd78::f0-fd78::ff";
/// What the nodes n1, n2 and n3 have in them.
const OWN: [[&str; 2]; 3] =
    [["10.78.0.240", "fd78::f0"], ["10.78.0.241", "fd78::f1"], ["10.78.0.242", "fd78::f2"]];

fn network(lab: &Lab, more: &[&str]) {
    lab.network("net", &[&["--subnet", "10.78.0.0/24", "--subnet", "fd78::/64"], more].concat());
}

fn reach_each_other(containers: &[&Container], nodes: &[[&str; 2]]) {
    for container in containers {
        for address in nodes.iter().flatten() {
            wait_until(&format!("{address} answers"), SOON, || ping(container, address));
        }
    }
}

fn each_is_reached(lab: Lab, more: &[&str]) {
    network(&lab, &[&["--node-addresses", RANGES], more].concat());
    let (one, two) = (lab.node(1), lab.node(2));
    let (first, second) = (Container::named("a"), Container::named("b"));
    one.attach("net", "a", &first);
    two.attach("net", "b", &second);
    reach_each_other(&[&first, &second], &OWN[..2]);
    for (node, own) in [(one, OWN[0]), (two, OWN[1])] {
        let told = one.lanmesh(["node", "inspect", node.name(), "--json"]).json();
        assert_eq!(told["own_addresses"], json!({ "net": own }));
        let foretold =
            two.lanmesh(["ipam", "plan", "net", "--node-index", &told["index"].to_string(), "--json"]).json();
        assert_eq!(foretold["node_addresses"], json!(own));
        let known = one.lanmesh(["whois", own[1], "--json"]).json();
        assert_eq!((&known[0]["what"], &known[0]["name"]), (&json!("node"), &json!(node.name())));
    }
    // A node that takes no part has none yet, and is foretold one.
    let none = one.lanmesh(["node", "inspect", "n3", "--json"]).json();
    assert_eq!(none.get("own_addresses"), None);
    let foretold = one.lanmesh(["ipam", "plan", "net", "--node-index", "2", "--json"]).json();
    assert_eq!(foretold["node_addresses"], json!(OWN[2]));
    // Restarts change nothing, and what is taken away comes back.
    one.kill();
    reach_each_other(&[&first, &second], &OWN[..2]);
    one.start_and_wait();
    one.network_exec("net", &["ip", "address", "del", "10.78.0.240/32", "dev", "br0"]).success();
    one.network_exec("net", &["nft", "delete", "table", "bridge", "lanmesh-relay"]).success();
    one.kill();
    one.start_and_wait();
    reach_each_other(&[&first, &second], &OWN[..2]);
    one.lanmesh(["network", "set", "net", "--node-addresses", "auto"]).success();
    for node in [one, two] {
        wait_until("nothing of it is left", SOON, || {
            let there = node.network_exec("net", &["ip", "address"]).success()
                + &node.network_exec("net", &["ip", "neigh"]).success()
                + &node.network_exec("net", &["nft", "list", "tables"]).success()
                + &node.network_exec("net", &["bridge", "fdb"]).success();
            let left =
                ["10.78.0.24", "fd78::f", "relay", "02:6c:6e"].into_iter().find(|left| there.contains(left));
            left.map_or(Ok(()), |left| Err(format!("{left}: {there}")))
        });
    }
}

#[test]
fn each_node_has_one_by_its_index_that_answers_everywhere_and_goes_without_a_trace() {
    each_is_reached(lab!(3).cluster(), &[]);
}

#[test]
fn so_it_is_in_an_encrypted_network() {
    each_is_reached(lab!(3).cluster(), &["--encrypt", "wireguard"]);
}

#[test]
fn nobody_else_gets_one_and_a_range_that_is_too_small_or_in_use_is_refused() {
    let lab = lab!(2).cluster();
    network(&lab, &[]);
    let one = lab.node(1);
    let (first, second) = (Container::named("a"), Container::named("b"));
    let set = |range: &str| one.lanmesh(["network", "set", "net", "--node-addresses", range]);
    let told = set("10.78.0.240").refusal();
    assert!(told.contains("room for 1 nodes, and node n2 has index 1"), "{told}");
    let held = one.try_attach("net", "a", &first, &["--ip", "10.78.0.12"]).json();
    assert_eq!(held["addresses"][0], "10.78.0.12/24");
    let told = set("10.78.0.8-10.78.0.15").refusal();
    assert!(told.contains("a (10.78.0.12, on n1)"), "{told}");
    one.lanmesh(["service", "create", "net", "web", "--address", "10.78.0.250"]).success();
    let told = set("10.78.0.248-10.78.0.252").refusal();
    assert!(told.contains("service web (10.78.0.250)"), "{told}");
    one.lanmesh(["network", "set", "net", "--service-addresses", "10.78.0.248-10.78.0.254"]).success();
    let told = set("10.78.0.246-10.78.0.248").refusal();
    assert!(told.contains("is for services too"), "{told}");
    set("10.78.0.240-10.78.0.247,fd78::f0-fd78::ff").success();
    for (what, told) in [
        ("an endpoint", one.try_attach("net", "b", &second, &["--ip", "10.78.0.241"]).refusal()),
        ("beside its own", one.try_attach("net", "b", &second, &["--also-address", "10.78.0.240"]).refusal()),
        ("a service", one.lanmesh(["service", "create", "net", "api", "--address", "10.78.0.243"]).refusal()),
    ] {
        assert!(told.contains("10.78.0.24"), "{what}: {told}");
    }
    // Nor can an endpoint be asked for as a node by taking its address: what it sends from there goes nowhere.
    one.attach("net", "b", &second);
    second.ip("address add 10.78.0.240/32 dev eth0");
    wait_until("the node is reached", SOON, || ping(&first, "10.78.0.240"));
    let bound = ["-c", "1", "-W", "1", "-I", "10.78.0.240", "10.78.0.12"];
    assert!(!second.command("ping").args(bound).status().unwrap().success());
}

/// Who answers at a port of a node, and whom he says he is asked by.
fn seen(client: &Path, node: &Node, family: usize, port: u16) -> [Result<String, String>; 2] {
    let address = match family {
        0 => node.address(),
        _ => format!("2001:db8::{}", node.number()),
    };
    [tcp(client, &at(&address, port)), udp(client, &at(&address, port), 10)]
}

fn wait_seen(client: &Path, node: &Node, port: u16, names: &[&str], by: [&str; 2]) {
    for (family, by) in by.into_iter().enumerate() {
        for name in names {
            wait_until(&format!("{name} is asked by {by} at {}", node.name()), SOON, || {
                // As often to each.
                let answers: Vec<_> = (0..20).map(|_| seen(client, node, family, port)).collect();
                let of = |at: usize| answers.iter().any(|all| all[at] == Ok(format!("{name} {by}")));
                let others = answers
                    .iter()
                    .flatten()
                    .find(|answer| !answer.as_ref().is_ok_and(|answer| answer.ends_with(&format!(" {by}"))));
                if of(0) && of(1) && others.is_none() { Ok(()) } else { Err(format!("{answers:?}")) }
            });
        }
    }
}

fn endpoints_see_the_node(lab: Lab, more: &[&str]) {
    network(&lab, &[&["--node-addresses", RANGES], more].concat());
    let client = outside(&lab);
    let nodes = lab.nodes();
    let mesh = ["service", "create", "net", "web", "--publish", "8080:8000", "--publish", "8080:8000/udp"];
    nodes[0].lanmesh([&mesh[..], &["--publish-mode", "mesh", "--publish-source", "node"]].concat()).success();
    let (first, second) = (Container::named("a"), Container::named("b"));
    let _servers = [Server::start(&first, "a", PORT), Server::start(&second, "b", PORT)];
    nodes[1].try_attach("net", "a", &first, &["--service", "web"]).success();
    nodes[2].try_attach("net", "b", &second, &["--service", "web"]).success();
    for (node, own) in nodes.iter().zip(OWN) {
        wait_seen(&client, node, 8080, &["a", "b"], own);
    }
    // Their own routes are left alone.
    for container in [&first, &second] {
        let rules = container.ip("-4 rule show") + &container.ip("-6 rule show");
        assert!(!rules.contains("760") && !rules.contains("40000"), "{rules}");
        assert!(!container.ip("route").contains("default"));
    }
    // More than fits into a packet, both ways.
    let size = 20_000;
    let mut stream = within(&client, || TcpStream::connect("192.0.2.1:8080").unwrap());
    stream.set_read_timeout(Some(SOON)).unwrap();
    let line = format!("{}\n", ask(&mut stream).unwrap());
    stream.write_all(&vec![b'?'; size]).unwrap();
    let mut answers = vec![0; size * line.len()];
    stream.read_exact(&mut answers).unwrap();
    assert!(answers == line.repeat(size).into_bytes());
    // A service whose endpoints see who asks, beside it and with the same endpoints.
    let keep = ["service", "create", "net", "web", "--publish", "8080:8000", "--publish", "8080:8000/udp"];
    nodes[0].lanmesh([&keep[..], &["--publish-mode", "mesh"]].concat()).success();
    wait_seen(&client, &nodes[0], 8080, &["a", "b"], [OUTSIDE, OUTSIDE6]);
}

#[test]
fn endpoints_of_every_node_see_the_node_that_was_asked_where_that_is_wanted() {
    endpoints_see_the_node(lab!(3).cluster(), &[]);
}

#[test]
fn so_do_those_of_an_encrypted_network() {
    endpoints_see_the_node(lab!(3).cluster(), &["--encrypt", "wireguard"]);
}

#[test]
fn an_endpoint_that_is_published_by_itself_may_see_its_node_and_without_an_address_that_is_refused() {
    let lab = lab!(2).cluster();
    network(&lab, &[]);
    let client = outside(&lab);
    let one = lab.node(1);
    let container = Container::named("a");
    let _server = Server::start(&container, "a", PORT);
    let as_node = ["--publish", "8080:8000", "--publish", "8080:8000/udp", "--publish-source", "node"];
    let told = one.try_attach("net", "a", &container, &as_node).refusal();
    assert!(told.contains("no IPv4 address of its own") && told.contains("--node-addresses"), "{told}");
    one.lanmesh(["network", "set", "net", "--node-addresses", RANGES]).success();
    one.try_attach("net", "a", &container, &as_node).success();
    wait_seen(&client, one, 8080, &["a"], OWN[0]);
    wait_seen(&one.netns().path(), one, 8080, &["a"], OWN[0]);
    let rules = container.ip("-4 rule show") + &container.ip("-6 rule show");
    assert!(!rules.contains("760") && !rules.contains("40000"), "{rules}");
    let listed = one.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    assert_eq!(listed[0]["publish_source"], "node");
    // Without addresses nothing is translated to somebody else's: it is not reached, and it is said what would help.
    one.lanmesh(["network", "set", "net", "--node-addresses", "auto"]).success();
    wait_until("it is not reached", SOON, || match tcp(&client, "192.0.2.1:8080") {
        Ok(answer) => Err(answer),
        Err(_) => Ok(()),
    });
    let status = one.lanmesh(["status", "--json"]).json();
    let problems = status["problems"].to_string();
    assert!(problems.contains("endpoint a of network net is not reached at port 8080/tcp"), "{problems}");
    assert!(problems.contains("--node-addresses"), "{problems}");
    one.lanmesh(["network", "set", "net", "--node-addresses", RANGES]).success();
    wait_seen(&client, one, 8080, &["a"], OWN[0]);
    one.detach("net", "a");
    tcp(&client, "192.0.2.1:8080").unwrap_err();
}
