//! Ports of every node (`--publish-mode mesh`), which lead to endpoints wherever they are: who sees whom, on which node, and what
//! becomes of that when endpoints, nodes and the service itself come and go.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Container, Lab, Node, SOON, lab, wait_until, within};
use crate::published::{OUTSIDE, OUTSIDE6, ask, at, firewall, outside, tcp, udp};
use crate::services::Server;

const PORT: u16 = 8000;

fn network(lab: &Lab, more: &[&str]) {
    lab.network("net", &[&["--subnet", "10.76.0.0/24", "--subnet", "fd76::/64"], more].concat());
}

fn service(node: &Node, more: &[&str]) {
    let mesh = ["service", "create", "net", "web", "--publish", "8080:8000", "--publish", "8080:8000/udp"];
    node.lanmesh([&mesh[..], &["--publish-mode", "mesh"], more].concat()).success();
}

fn attach(node: &Node, name: &str) -> (Container, Server) {
    let container = Container::named(name);
    let server = Server::start(&container, name, PORT);
    node.try_attach("net", name, &container, &["--service", "web"]).success();
    (container, server)
}

/// Who answers at a port of a node, of so many that ask.
fn reached(from: &Path, node: &Node, count: usize) -> BTreeSet<String> {
    let target = at(&node.address(), 8080);
    let name = |answer: String| answer.split(' ').next().unwrap_or_default().to_owned();
    (0..count).map(|_| tcp(from, &target).map_or_else(|error| error, name)).collect()
}

fn wait_reached(from: &Path, node: &Node, names: &[&str]) {
    let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    wait_until(&format!("{names:?} are reached at {}", node.name()), SOON, || {
        let reached = reached(from, node, 30);
        if reached == names { Ok(()) } else { Err(format!("{reached:?}")) }
    });
}

fn every_node_has_it(lab: Lab, more: &[&str]) {
    network(&lab, more);
    let client = outside(&lab);
    let (one, two, three) = (lab.node(1), lab.node(2), lab.node(3));
    firewall(one);
    firewall(two);
    service(three, &[]);
    let (first, _first) = attach(two, "a");
    let (_second, _second_server) = attach(three, "b");
    // n1 has nothing there, and both families reach all, with the client's own address.
    wait_reached(&client, one, &["a", "b"]);
    for (address, seen) in [("192.0.2.1", OUTSIDE), ("2001:db8::1", OUTSIDE6)] {
        for _ in 0..10 {
            let answer = tcp(&client, &at(address, 8080)).unwrap();
            assert!(answer.ends_with(&format!(" {seen}")), "{answer} at {address}");
            let answer = udp(&client, &at(address, 8080), 10).unwrap();
            assert!(answer.ends_with(&format!(" {seen}")), "{answer} at {address}");
        }
    }
    wait_reached(&client, two, &["a", "b"]);
    wait_reached(&client, three, &["a", "b"]);
    // From nodes: by their own address, by their loopback, by another's.
    let node = one.netns().path();
    wait_reached(&node, one, &["a", "b"]);
    wait_reached(&node, three, &["a", "b"]);
    wait_reached(&two.netns().path(), one, &["a", "b"]);
    for address in ["127.0.0.1", "::1"] {
        for _ in 0..10 {
            tcp(&node, &at(address, 8080)).unwrap();
        }
    }
    // More than fits into a packet, both ways.
    let size = 20_000;
    let mut stream = within(&client, || TcpStream::connect("192.0.2.1:8080").unwrap());
    stream.set_read_timeout(Some(SOON)).unwrap();
    let name = ask(&mut stream).unwrap();
    let line = format!("{name}\n");
    std::io::Write::write_all(&mut stream, &vec![b'?'; size]).unwrap();
    let mut answers = vec![0; size * line.len()];
    std::io::Read::read_exact(&mut stream, &mut answers).unwrap();
    assert!(answers == line.repeat(size).into_bytes());
    // Nothing else of an endpoint is reached by a node that has none.
    let _other = Server::start(&first, "other", 8001);
    for closed in ["192.0.2.1:8001", "192.0.2.1:8000"] {
        tcp(&client, closed).unwrap_err();
    }
}

#[test]
fn every_node_has_the_port_and_all_endpoints_are_reached_there_and_see_who_asks() {
    every_node_has_it(lab!(3).cluster(), &[]);
}

#[test]
fn so_it_is_with_ports_of_an_encrypted_network() {
    every_node_has_it(lab!(3).cluster(), &["--encrypt", "wireguard"]);
}

/// A connection from this port of the client.
fn from_port(client: &Path, port: u16, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    let stream = within(client, || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::new(OUTSIDE.parse().unwrap(), port).into()).unwrap();
        socket.connect_timeout(&to.into(), SOON).map(|()| TcpStream::from(socket))
    });
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

#[test]
fn one_port_of_a_client_may_ask_by_two_nodes_and_connections_end_with_their_endpoint_alone() {
    let lab = lab!(4).cluster();
    network(&lab, &[]);
    let client = outside(&lab);
    service(lab.node(1), &[]);
    let (_first, _first_server) = attach(lab.node(3), "a");
    for node in &lab.nodes()[..3] {
        wait_reached(&client, node, &["a"]);
    }
    let mut held: Vec<TcpStream> =
        ["192.0.2.1:8080", "192.0.2.2:8080"].map(|to| from_port(&client, 41_000, to)).into();
    for _ in 0..3 {
        for stream in &mut held {
            assert_eq!(ask(stream), Ok(format!("a {OUTSIDE}")));
        }
    }
    // Others come and go, the agent of the node that was asked too, and those that are there stay.
    let (_second, _second_server) = attach(lab.node(4), "b");
    for node in &lab.nodes()[..2] {
        wait_reached(&client, node, &["a", "b"]);
    }
    lab.node(1).kill();
    held.iter_mut().for_each(|stream| assert_eq!(ask(stream), Ok(format!("a {OUTSIDE}"))));
    lab.node(1).start_and_wait();
    held.iter_mut().for_each(|stream| assert_eq!(ask(stream), Ok(format!("a {OUTSIDE}"))));
    wait_reached(&client, lab.node(1), &["a", "b"]);
    held.iter_mut().for_each(|stream| assert_eq!(ask(stream), Ok(format!("a {OUTSIDE}"))));
    // A node that dies takes its endpoints along, and its port leads there no more.
    lab.node(4).kill();
    lab.cut(lab.node(4));
    for node in &lab.nodes()[..3] {
        wait_reached(&client, node, &["a"]);
    }
    held.iter_mut().for_each(|stream| assert_eq!(ask(stream), Ok(format!("a {OUTSIDE}"))));
    lab.node(3).lanmesh(["endpoint", "drain", "net", "a"]).success();
    wait_until("no new connections", SOON, || match tcp(&client, "192.0.2.1:8080") {
        Ok(answer) => Err(answer),
        Err(_) => Ok(()),
    });
    held.iter_mut().for_each(|stream| assert_eq!(ask(stream), Ok(format!("a {OUTSIDE}"))));
    lab.node(3).detach("net", "a");
    held.iter_mut().for_each(|stream| stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap());
    wait_until("what led there is ended", SOON, || {
        let ended = held.iter_mut().all(|stream| ask(stream).is_err());
        if ended { Ok(()) } else { Err("it goes on".to_owned()) }
    });
}

#[test]
fn the_node_itself_may_be_an_endpoint_and_what_every_node_has_goes_everywhere_with_the_service() {
    let lab = lab!(2).cluster();
    network(&lab, &[]);
    let client = outside(&lab);
    let (one, two) = (lab.node(1), lab.node(2));
    service(one, &[]);
    // Both are told that they take part, and another service cannot have the port on any node.
    wait_until("the other node knows it", SOON, || two.lanmesh(["service", "inspect", "net", "web"]).ok());
    let told = two.lanmesh(["service", "create", "net", "api", "--publish", "8080:9000"]).refusal();
    assert!(told.contains("service web of network net has port 8080/tcp of every node"), "{told}");
    let inspected = two.lanmesh(["service", "inspect", "net", "web"]).json();
    assert_eq!(inspected["publish_mode"], json!("mesh"));
    two.lanmesh(["attach", "net", "--name", "h", "--host", "--service", "web"]).success();
    let _server = Server::start_in(&two.netns().path(), "h", PORT);
    // It sees the gateway, since its answers to anybody else would not come this way.
    wait_reached(&client, one, &["h"]);
    for address in ["192.0.2.1", "192.0.2.2"] {
        wait_until("the node answers", SOON, || tcp(&client, &at(address, 8080)));
    }
    two.detach("net", "h");
    let (container, _server) = attach(two, "w");
    wait_reached(&client, one, &["w"]);
    // Rules that somebody flushed come back, and meanwhile nothing is reached.
    two.network_exec("net", &["nft", "flush", "ruleset"]).success();
    two.kill();
    tcp(&client, "192.0.2.2:8080").unwrap_err();
    two.start_and_wait();
    for address in ["192.0.2.1", "192.0.2.2"] {
        wait_until("it comes back", SOON, || tcp(&client, &at(address, 8080)));
    }
    one.lanmesh(["service", "rm", "net", "web"]).success();
    tcp(&client, "192.0.2.1:8080").unwrap_err();
    wait_until("a node without endpoints has nothing of the network left", SOON, || {
        let spaces = std::fs::read_dir(one.run_dir().join("netns")).map_or(0, Iterator::count);
        let listed = one.lanmesh(["node", "inspect", "n1"]).json();
        let left = spaces > 0 || one.netns().links().iter().any(|name| name.starts_with("lmg"));
        if left { Err(format!("{spaces} {listed} {:?}", one.netns().links())) } else { Ok(()) }
    });
    // The other node hears of it, and looks at what is its own.
    wait_until("nothing of it is left with the endpoint", SOON, || {
        let rules = container.ip("-4 rule show") + &container.ip("-6 rule show");
        if rules.contains("760") || rules.contains("40000") { Err(rules) } else { Ok(()) }
    });
    wait_until("nor in the network", SOON, || {
        let rules = two.network_exec("net", &["ip", "rule"]).success();
        let tables = two.network_exec("net", &["nft", "list", "tables"]).success();
        if rules.contains("40001") || tables.contains("relay") { Err(rules + &tables) } else { Ok(()) }
    });
}

#[test]
fn two_services_in_two_networks_are_everywhere_at_ports_of_their_own() {
    let lab = lab!(2).cluster();
    let client = outside(&lab);
    let subnets = ["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"];
    lab.network("plain", &subnets);
    lab.network("other", &subnets);
    let (one, two) = (lab.node(1), lab.node(2));
    let (first, second) = (Container::named("a"), Container::named("b"));
    let _servers = [Server::start(&first, "a", PORT), Server::start(&second, "b", PORT)];
    for (network, port, container) in [("plain", "8080:8000", &first), ("other", "8081:8000", &second)] {
        let mesh = ["service", "create", network, "web", "--publish", port, "--publish-mode", "mesh"];
        one.lanmesh(mesh).success();
        two.try_attach(network, "w", container, &["--service", "web", "--ip", "10.77.0.20"]).success();
    }
    for (port, name) in [(8080, "a"), (8081, "b")] {
        for address in ["192.0.2.1", "2001:db8::1"] {
            wait_until("it is reached", SOON, || tcp(&client, &at(address, port)));
            assert!(tcp(&client, &at(address, port)).unwrap().starts_with(name));
        }
    }
}

#[test]
fn a_port_of_every_node_may_lead_to_one_endpoint_alone() {
    let lab = lab!(3).cluster();
    network(&lab, &[]);
    let client = outside(&lab);
    let (one, two, three) = (lab.node(1), lab.node(2), lab.node(3));
    let container = Container::named("a");
    let _server = Server::start(&container, "a", PORT);
    let mesh = ["--publish", "8080:8000", "--publish", "8080:8000/udp", "--publish-mode", "mesh"];
    two.try_attach("net", "a", &container, &mesh).success();
    for node in lab.nodes() {
        wait_reached(&client, node, &["a"]);
        let address = format!("2001:db8::{}", node.number());
        wait_until("over IPv6", SOON, || tcp(&client, &at(&address, 8080)));
        assert_eq!(tcp(&client, &at(&address, 8080)), Ok(format!("a {OUTSIDE6}")));
        assert_eq!(udp(&client, &at(&node.address(), 8080), 10), Ok(format!("a {OUTSIDE}")));
    }
    let listed = two.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    assert_eq!(listed[0]["publish_mode"], "mesh");
    // Whoever wants the port, anywhere, is told who has it.
    let second = Container::named("b");
    for more in [&["--publish", "8080:9"][..], &mesh] {
        let told = three.try_attach("net", "b", &second, more).refusal();
        assert!(told.contains("endpoint a of network net has port 8080/tcp of every node"), "{told}");
    }
    let told = one.lanmesh(["service", "create", "net", "web", "--publish", "8080:8000"]).refusal();
    assert!(told.contains("endpoint a of network net has port 8080/tcp of every node"), "{told}");
    one.lanmesh(["service", "create", "net", "web", "--publish", "8081:8000"]).success();
    let told =
        two.try_attach("net", "b", &second, &["--publish", "8081:9", "--publish-mode", "mesh"]).refusal();
    assert!(told.contains("service web of network net has port 8081/tcp"), "{told}");
    // A connection lives through restarts of both agents, that of a node without an endpoint of its own too.
    let mut held = within(&client, || TcpStream::connect("192.0.2.1:8080").unwrap());
    held.set_read_timeout(Some(SOON)).unwrap();
    for node in [one, two] {
        node.kill();
        assert_eq!(ask(&mut held), Ok(format!("a {OUTSIDE}")));
        node.start_and_wait();
        for _ in 0..20 {
            assert_eq!(ask(&mut held), Ok(format!("a {OUTSIDE}")));
            assert_eq!(tcp(&client, "192.0.2.1:8080"), Ok(format!("a {OUTSIDE}")));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    two.lanmesh(["endpoint", "drain", "net", "a"]).success();
    wait_until("no new connections", SOON, || match tcp(&client, "192.0.2.1:8080") {
        Ok(answer) => Err(answer),
        Err(_) => Ok(()),
    });
    assert_eq!(ask(&mut held), Ok(format!("a {OUTSIDE}")));
    two.detach("net", "a");
    for node in lab.nodes() {
        wait_until("nothing of the network is left", SOON, || {
            let spaces = std::fs::read_dir(node.run_dir().join("netns")).map_or(0, Iterator::count);
            let told = one.lanmesh(["node", "inspect", node.name(), "--json"]).json();
            let gates = node.netns().links().iter().any(|name| name.starts_with("lmg"));
            let left = spaces > 0 || gates || told["networks"] != json!([]);
            if left { Err(format!("{spaces} {told} {:?}", node.netns().links())) } else { Ok(()) }
        });
    }
    // The port is free again.
    three.try_attach("net", "b", &second, &["--publish", "8080:9"]).success();
}

#[test]
fn a_network_without_endpoints_can_be_removed_although_every_node_takes_part_in_it() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.94.0.0/24"]);
    let (one, two) = (lab.node(1), lab.node(2));
    one.lanmesh(["service", "create", "net", "web", "--publish", "9000:8080", "--publish-mode", "mesh"])
        .success();
    wait_until("n2 takes part", SOON, || {
        let network = two.lanmesh(["network", "inspect", "net", "--json"]).json();
        if network["netns"].is_string() { Ok(()) } else { Err(network.to_string()) }
    });
    let container = Container::named("c");
    two.attach("net", "c", &container);
    wait_until("what is there is seen", SOON, || {
        let refused = one.lanmesh(["network", "rm", "net"]).refusal();
        if refused.contains("has endpoints on n2;") { Ok(()) } else { Err(refused) }
    });
    two.detach("net", "c");
    one.lanmesh(["network", "rm", "net"]).success();
}

#[test]
fn no_node_publishes_a_port_at_which_nodes_reach_each_other() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.94.0.0/24"]);
    let container = Container::named("c");
    lab.node(1).try_attach("net", "c", &container, &["--service", "web"]).success();
    for publish in ["7979:80", "7979:80/udp", "4789:80/udp", "51840:80/udp"] {
        for mode in ["mesh", "local"] {
            // One on which nothing of the network is.
            let arguments = ["service", "create", "net", "web", "--publish", publish, "--publish-mode", mode];
            let refused = lab.node(2).lanmesh(arguments).refusal();
            assert!(refused.contains("the cluster itself needs port"), "{publish} {mode}: {refused}");
        }
    }
}
