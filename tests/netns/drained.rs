//! What becomes of ports whose endpoints all drain: who asks anew is refused at once, and who is there stays.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crate::harness::{Container, Lab, Node, SOON, lab, wait_until, within};
use crate::published::{OUTSIDE, OUTSIDE6, ask, at, outside, tcp, udp};
use crate::services::Server;

const PATIENCE: Duration = Duration::from_secs(1);

/// What a new connection, or a datagram, is told: that it is refused, or what else came of it.
fn told(from: &Path, to: &str, by_tcp: bool) -> Result<(), String> {
    let to: SocketAddr = to.parse().unwrap();
    let error = if by_tcp {
        within(from, || TcpStream::connect_timeout(&to, PATIENCE)).err()
    } else {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = within(from, || UdpSocket::bind(any).unwrap());
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"?").unwrap();
        socket.recv(&mut [0; 64]).err()
    };
    match error {
        Some(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Some(error) => Err(format!("{to}: {error}")),
        None => Err(format!("{to} answers")),
    }
}

/// What answers there.
fn reached(from: &Path, to: &str, by_tcp: bool) -> Result<String, String> {
    if by_tcp { tcp(from, to) } else { udp(from, to, 1) }
}

/// Who asks which node by which address, over TCP or not: somebody outside, and the first node itself, its loopback too.
fn askers<'a>(client: &'a Path, lab: &Lab, here: &'a Path) -> Vec<(&'a Path, String, bool)> {
    let mut askers = Vec::new();
    for node in lab.nodes() {
        let addresses = [node.address(), format!("2001:db8::{}", node.address().rsplit('.').next().unwrap())];
        for address in addresses {
            for by_tcp in [true, false] {
                askers.extend([client, here].map(|from| (from, at(&address, 8080), by_tcp)));
            }
        }
    }
    for own in ["127.0.0.1", "::1"] {
        askers.extend([true, false].map(|by_tcp| (here, at(own, 8080), by_tcp)));
    }
    askers
}

fn drain(node: &Node, name: &str, more: &[&str]) {
    node.lanmesh([&["endpoint", "drain", "net", name], more].concat()).success();
}

/// The only endpoint, on the last node, drains, and every node has the port.
fn a_port_is_refused_while_its_only_endpoint_drains(lab: Lab, more: &[&str]) {
    lab.network("net", &[&["--subnet", "10.76.0.0/24", "--subnet", "fd76::/64"], more].concat());
    let client = outside(&lab);
    // The gateway's addresses are somebody else's out there: nothing that bears them would be believed.
    for gateway in ["10.76.0.1/32", "fd76::1/128"] {
        lab.underlay().ip(&format!("address add {gateway} dev br0"));
    }
    let last = lab.nodes().last().unwrap();
    let container = Container::named("a");
    let _server = Server::start(&container, "a", 8000);
    let ports = ["--publish", "8080:8000", "--publish", "8080:8000/udp", "--publish-mode", "mesh"];
    last.try_attach("net", "a", &container, &ports).success();
    let here = lab.node(1).netns().path();
    let askers = askers(&client, &lab, &here);
    for (from, to, by_tcp) in &askers {
        wait_until("it is reached", SOON, || reached(from, to, *by_tcp));
    }
    let socket = within(&client, || UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.connect("192.0.2.1:8080").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let streams = ["192.0.2.1:8080", "[2001:db8::1]:8080"];
    let mut streams = streams.map(|to| within(&client, || TcpStream::connect(to).unwrap()));
    streams.iter().for_each(|stream| stream.set_read_timeout(Some(SOON)).unwrap());
    let mut live_on = || {
        for (stream, seen) in streams.iter_mut().zip([OUTSIDE, OUTSIDE6]) {
            assert_eq!(ask(stream), Ok(format!("a {seen}")));
        }
        socket.send(b"?").unwrap();
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer[..length]), format!("a {OUTSIDE}"));
    };
    live_on();
    drain(last, "a", &[]);
    for (from, to, by_tcp) in &askers {
        wait_until("it is refused", SOON, || told(from, to, *by_tcp));
    }
    live_on();
    drain(last, "a", &["--undo"]);
    for (from, to, by_tcp) in &askers {
        wait_until("it is reached again", SOON, || reached(from, to, *by_tcp));
    }
    live_on();
}

#[test]
fn a_port_of_one_node_is_refused_while_its_only_endpoint_drains() {
    a_port_is_refused_while_its_only_endpoint_drains(lab!(1).cluster(), &[]);
}

#[test]
fn a_port_of_every_node_is_refused_on_each_while_its_only_endpoint_drains() {
    a_port_is_refused_while_its_only_endpoint_drains(lab!(2).cluster(), &[]);
}

#[test]
fn a_port_of_an_encrypted_network_is_refused_too() {
    a_port_is_refused_while_its_only_endpoint_drains(lab!(2).cluster(), &["--encrypt", "wireguard"]);
}

#[test]
fn so_it_is_where_endpoints_see_the_node() {
    let lab = lab!(1).cluster();
    lab.network(
        "net",
        &[
            "--subnet",
            "10.76.0.0/24",
            "--subnet",
            "fd76::/64",
            "--node-addresses",
            "10.76.0.240/28,fd76::f0/124",
        ],
    );
    let client = outside(&lab);
    let one = lab.node(1);
    let container = Container::named("a");
    let _server = Server::start(&container, "a", 8000);
    let ports = ["--publish", "192.0.2.1:8080:8000", "--publish-source", "node"];
    one.try_attach("net", "a", &container, &ports).success();
    wait_until("it is reached", SOON, || tcp(&client, "192.0.2.1:8080"));
    drain(one, "a", &[]);
    wait_until("it is refused", SOON, || told(&client, "192.0.2.1:8080", true));
}
