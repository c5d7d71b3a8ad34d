//! Software that asks everybody.

use std::net::UdpSocket;
use std::time::Duration;

use super::{containers, directed_broadcast, place};
use crate::harness::{Container, Program, lab, need};

#[test]
fn a_dhcp_client_gets_its_lease_from_a_server_on_another_node_and_not_without_broadcast() {
    need!("busybox");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    lab.network("deaf", &["--subnet", "10.83.0.0/24", "--broadcast", "off"]);
    let (made, deaf) = (containers(&lab, "net"), containers(&lab, "deaf"));
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = |name: &str| dir.path().join(name).to_str().expect("our own paths are text").to_owned();
    // The client only says what it was given.
    let script = path("script");
    std::fs::write(&script, "#!/bin/sh\necho \"$1: $ip\"\n").expect("a file can be written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our own");
    let own = ["/run"];
    let serve = |made, first: &str| {
        let config = path(first);
        let lines =
            format!("start {first}\nend {first}\ninterface eth0\nlease_file /run/leases\npidfile /run/pid\n");
        std::fs::write(&config, lines).expect("a file can be written");
        let line = ["sh", "-c", "touch /run/leases; exec busybox udhcpd -f \"$1\"", "sh", &config];
        Program::start(place(made, 1, &own), line)
    };
    let mut servers = [serve(&made, "10.82.0.250"), serve(&deaf, "10.83.0.250")];
    for server in &mut servers {
        server.wait_output("it has started", |output| output.contains("started").then_some(()));
    }
    let lease = |made, tries| {
        let line =
            ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-T", "2", "-t", tries, "-s", &script];
        Program::start(place(made, 2, &own), line).wait_end()
    };
    let (good, output) = lease(&made, "10");
    assert!(good && output.contains("bound: 10.82.0.250"), "{output}");
    let (good, output) = lease(&deaf, "2");
    assert!(!good && output.contains("no lease"), "{output}");
}

#[test]
fn a_magic_packet_wakes_those_on_other_nodes_by_either_broadcast() {
    need!("wakeonlan");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let made = containers(&lab, "net");
    let mac = "02:00:5e:10:20:30";
    // AMD, Magic Packet Technology: six bytes of ones, then the MAC sixteen times.
    let mut magic = vec![0xff; 6];
    magic.extend([0x02, 0x00, 0x5e, 0x10, 0x20, 0x30].repeat(16));
    for to in ["255.255.255.255", &directed_broadcast(&made[0].1).to_string()] {
        let asleep = listen(&made[1].0, 9);
        let line = ["wakeonlan", "-i", to, "-p", "9", mac];
        let (good, output) = Program::start(place(&made, 1, &[]), line).wait_end();
        assert!(good, "{output}");
        let mut got = [0; 256];
        let length = asleep.recv(&mut got).unwrap_or_else(|error| panic!("nothing came by {to}: {error}"));
        assert_eq!(got[..length], magic, "what came by {to}");
    }
}

/// A socket for whatever comes to a port.
fn listen(container: &Container, port: u16) -> UdpSocket {
    let socket = container.within(|| UdpSocket::bind(("0.0.0.0", port)).expect("the port is free"));
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    socket
}

#[test]
fn hosts_on_other_nodes_are_seen_by_ruptime() {
    need!("rwhod", "ruptime");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let made = containers(&lab, "net");
    let own = ["/run", "/var/spool/rwho"];
    // It goes to the background, says once who it is, and then every three minutes.
    let watch = "rwhod && while sleep 0.2; do ruptime; done";
    let mut first = Program::start(place(&made, 1, &own), ["sh", "-c", watch]);
    first.wait_output("it hears itself", |output| output.contains("host1").then_some(()));
    let second = Program::start(place(&made, 2, &own), ["sh", "-c", watch]);
    first.wait_output("it hears host2", |output| output.contains("host2").then_some(()));
    drop(second);
}
