//! Who sends VXLAN in the name of a node without being its kernel: a user of the node, and a container behind it.

use std::net::{Ipv4Addr, UdpSocket};

use crate::harness::{LabConfig, Listener, Netns, Node, lab, need, ping, within};
use crate::strangers::{PORT, VXLAN, arrive, counted, ipv4, plain, udp, vni, vxlan, wait_counted};
use crate::unicast::address;

const COUNTER: &str = "underlay_vxlan_forged";

fn succeed(command: &mut std::process::Command) {
    let output = command.output().expect("the command can be run");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Sends a datagram to 192.0.2.2 as a user without any privilege; whether it was let.
fn send_as_nobody(from: &Node, body: &[u8]) -> bool {
    let bytes: String = body.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    // By dd, since bash writes line by line.
    let script =
        format!("printf '{bytes}' | dd bs=2000 iflag=fullblock status=none >/dev/udp/192.0.2.2/{VXLAN}");
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs", "bash", "-c"];
    let sent = from.netns().command("setpriv").args(nobody).arg(script).output().expect("bash can be run");
    let error = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(sent.status.success() || error.contains("Operation not permitted"), "{error}");
    sent.status.success()
}

/// Sends a packet as it is, by a raw socket; whether it was let.
fn send_raw(from: &Netns, packet: &[u8]) -> bool {
    let packet: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)\n\
         s.sendto(bytes.fromhex('{packet}'), ('192.0.2.2', 0))"
    );
    let sent = from.command("python3").args(["-c", &script]).output().expect("python3 can be run");
    let error = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(sent.status.success() || error.contains("PermissionError"), "{error}");
    sent.status.success()
}

/// A container of somebody else's on a node, which masquerades what it sends.
fn behind(node: &Node) -> Netns {
    let container = Netns::new("behind");
    node.netns().ip("link add behind type veth peer name eth0 netns behind");
    node.netns().ip("address add 172.18.0.1/24 dev behind");
    node.netns().ip("link set behind up");
    container.ip("address add 172.18.0.2/24 dev eth0");
    container.ip("link set eth0 up");
    container.ip("route add default via 172.18.0.1");
    let open = "echo 1 >/proc/sys/net/ipv4/ip_forward; for i in all behind; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done";
    succeed(node.netns().command("sh").args(["-c", open]));
    for command in [
        "add table ip other",
        "add chain ip other out { type nat hook postrouting priority 100; }",
        "add rule ip other out oifname eth0 masquerade",
    ] {
        succeed(node.netns().command("nft").arg(command));
    }
    container
}

/// Sends a datagram as root; whether it was let.
fn send(from: &Netns, body: &[u8]) -> bool {
    within(&from.path(), || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a port is free");
        match socket.send_to(body, ("192.0.2.2", VXLAN)) {
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => false,
            Err(error) => panic!("{error}"),
        }
    })
}

#[test]
fn only_the_kernel_of_a_node_writes_into_plain_networks_in_its_name() {
    need!("python3", "nft");
    let lab = lab!(3).cluster();
    let endpoints = plain(&lab);
    let one = lab.node(1);
    let number = vni(&lab, "net");
    let body = vxlan(number, "forged");
    let listener = Listener::open(&endpoints[1].0, PORT, None);
    let container = behind(one);
    let mut expected = counted(one, COUNTER).expect("it is counted");
    assert_eq!(expected, 0, "what the kernel sent so far");
    let mut refused = || {
        expected += 1;
        wait_counted(one, COUNTER, expected);
    };
    assert!(!send_as_nobody(one, &body));
    refused();
    // Root has other ways; this one is closed to it too.
    assert!(!send(one.netns(), &body));
    refused();
    let own = Ipv4Addr::new(192, 0, 2, 1);
    let to = Ipv4Addr::new(192, 0, 2, 2);
    assert!(!send_raw(one.netns(), &ipv4(own, to, &udp(VXLAN, &body))));
    refused();
    // What a node passes on is not refused to its sender.
    assert!(send(&container, &body));
    refused();
    // In the name of another node, which is not behind that interface.
    assert!(send_raw(&container, &ipv4(Ipv4Addr::new(192, 0, 2, 3), to, &udp(VXLAN, &body))));
    refused();
    // A fragment that ends before the VNI, and the rest. With connection tracking, which masquerading needs, they are whole
    // again when they are looked at.
    let behind = Ipv4Addr::new(172, 18, 0, 2);
    let whole = ipv4(behind, to, &udp(VXLAN, &body));
    let piece = |place: u16, part: &[u8]| {
        let mut packet = ipv4(behind, to, part);
        packet[6..8].copy_from_slice(&place.to_be_bytes());
        // The kernel gives it an identification where it has none, and both are one packet.
        packet[4..6].copy_from_slice(&[7, 7]);
        packet
    };
    assert!(send_raw(&container, &piece(0x2000, &whole[20..28])));
    assert!(send_raw(&container, &piece(1, &whole[28..])));
    refused();
    arrive(&listener, 0);
    // Another's VNI is none of our business.
    let before = counted(one, COUNTER);
    assert!(send_as_nobody(one, &vxlan(0x12_3456, "forged")));
    assert!(send(&container, &vxlan(0x12_3456, "forged")));
    // The network itself is not in the way of this: what its endpoints and its bridge send passes.
    ping(&endpoints[0].0, &address(&endpoints[1].1, 0)).expect("c1 reaches c2 still");
    assert_eq!(counted(one, COUNTER), before);
    // While the agent is away too.
    one.kill();
    assert!(!send_as_nobody(one, &body));
    one.start_and_wait();
    refused();
    arrive(&listener, 0);
    // The datagrams were right: without the rules they arrive.
    one.kill();
    succeed(one.netns().command("nft").args(["flush", "table", "inet"]).arg(table(one)));
    assert!(send_as_nobody(one, &body));
    assert!(send(&container, &body));
    arrive(&listener, 2);
}

#[test]
fn nor_does_anybody_over_ipv6() {
    let lab = lab!(LabConfig::over_ipv6(2)).cluster();
    let endpoints = plain(&lab);
    let one = lab.node(1);
    let body = vxlan(vni(&lab, "net"), "forged");
    let listener = Listener::open(&endpoints[1].0, PORT, None);
    let refused = within(&one.netns().path(), || {
        let socket = UdpSocket::bind(("::", 0)).expect("a port is free");
        socket.send_to(&body, ("2001:db8::2", VXLAN)).expect_err("it is dropped")
    });
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{refused}");
    wait_counted(one, COUNTER, 1);
    arrive(&listener, 0);
    ping(&endpoints[0].0, &address(&endpoints[1].1, 0)).expect("c1 reaches c2 still");
    assert_eq!(counted(one, COUNTER), Ok(1));
}

/// The name of the agent's table on a node.
fn table(node: &Node) -> String {
    let output =
        node.netns().command("nft").args(["list", "tables", "inet"]).output().expect("nft can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split_whitespace().find(|word| word.starts_with("lanmesh-"));
    found.unwrap_or_else(|| panic!("it has one: {text}")).to_owned()
}
