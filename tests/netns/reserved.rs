//! Published ports among those that the node gives to its own connections: none of these gets one, what others reserved stays, and in
//! the end all is as it was.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::net::{TcpListener, TcpStream, UdpSocket};

use crate::harness::{Container, Node, SOON, lab, wait_until, within};
use crate::leftovers::cleanup;
use crate::published::{OUTSIDE, OUTSIDE6, at, outside, tcp};
use crate::services::Server;

const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

fn sysctl(node: &Node, key: &str) -> String {
    let done = node.netns().command("sysctl").args(["-n", key]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

fn set(node: &Node, key: &str, value: &str) {
    let done = node.netns().command("sysctl").args(["-qw", &format!("{key}={value}")]).status().unwrap();
    assert!(done.success());
}

fn wait_reserved(node: &Node, ports: &str) {
    wait_until("they are reserved", SOON, || {
        let there = sysctl(node, RESERVED);
        if there == ports { Ok(()) } else { Err(there) }
    });
}

#[test]
fn no_connection_of_the_node_gets_a_published_port_and_what_others_reserved_stays() {
    let lab = lab!(1).cluster();
    lab.network("net", &["--subnet", "10.76.0.0/24", "--subnet", "fd76::/64"]);
    let client = outside(&lab);
    let one = lab.node(1);
    set(one, RESERVED, "9000-9002");
    let container = Container::named("a");
    let _server = Server::start(&container, "a", 8000);
    let ports = ["40000:8000", "40002:8000/udp", "9001:8000"];
    let ports: Vec<&str> = ports.iter().flat_map(|port| ["--publish", port]).collect();
    one.try_attach("net", "a", &container, &ports).success();
    wait_until("it is reached", SOON, || tcp(&client, "192.0.2.1:40000"));
    assert_eq!(sysctl(one, RESERVED), "9000-9002,40000,40002");

    // As many as there are: each is answered, and there is no other.
    set(one, "net.ipv4.ip_local_port_range", "40000 40003");
    for there in [OUTSIDE, OUTSIDE6] {
        let listener = within(&client, || TcpListener::bind(at(there, 7000)).unwrap());
        let connect = || within(&one.netns().path(), || TcpStream::connect(at(there, 7000)));
        let open: Vec<TcpStream> = (0..2).map(|_| connect().unwrap()).collect();
        let mut own: Vec<u16> = open.iter().map(|stream| stream.local_addr().unwrap().port()).collect();
        own.sort_unstable();
        assert_eq!(own, [40_001, 40_003]);
        connect().unwrap_err();
        drop(listener);
        let any = at(if there == OUTSIDE { "0.0.0.0" } else { "::" }, 0);
        let sockets: Vec<UdpSocket> =
            (0..2).map(|_| within(&one.netns().path(), || UdpSocket::bind(&any).unwrap())).collect();
        let mut own: Vec<u16> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        own.sort_unstable();
        assert_eq!(own, [40_001, 40_003]);
    }

    // Somebody loads his settings anew: what is missing is put back beside what he has now.
    set(one, RESERVED, "9000-9001,41000");
    one.lanmesh(["service", "create", "net", "web", "--publish", "40003:8000", "--publish-mode", "mesh"])
        .success();
    let second = Container::named("b");
    let _second = Server::start(&second, "b", 8000);
    one.try_attach("net", "b", &second, &["--service", "web"]).success();
    wait_reserved(one, "9000-9001,40000,40002-40003,41000");
    // So it is whoever dies.
    one.kill();
    assert_eq!(sysctl(one, RESERVED), "9000-9001,40000,40002-40003,41000");
    one.start_and_wait();
    one.detach("net", "a");
    wait_reserved(one, "9000-9001,40003,41000");
    one.kill();
    cleanup(one, &["--run-dir", one.run_dir().to_str().unwrap()]);
    assert_eq!(sysctl(one, RESERVED), "9000-9001,41000");
}
