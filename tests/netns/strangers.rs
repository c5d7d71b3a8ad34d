//! What a host on the underlay that is no node can put into networks and send to nodes: nothing, but what it sends in the
//! name of a node into plain networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use serde_json::Value;

use crate::encrypted::{BOTH, encrypted, mesh_of};
use crate::harness::{
    Container, Lab, LabConfig, Listener, Netns, Node, SOON, lab, need, ping, wait_until, within,
};
use crate::unicast::address;

pub const PORT: u16 = 5681;
pub const VXLAN: u16 = 4789;

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, udp: &[u8]) -> Vec<u8> {
    let length = (20 + udp.len()) as u16;
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&header, udp].concat()
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[next, 64], &from.octets(), &to.octets(), body].concat()
}

/// A datagram without a checksum, which IPv4 allows (RFC 768).
pub fn udp(to: u16, body: &[u8]) -> Vec<u8> {
    let length = (8 + body.len()) as u16;
    [&55_555_u16.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], body].concat()
}

/// The same with one, which IPv6 asks for.
fn udp6(from: Ipv6Addr, to: Ipv6Addr, port: u16, body: &[u8]) -> Vec<u8> {
    let mut datagram = udp(port, body);
    let length = (datagram.len() as u32).to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, 17], &datagram].concat();
    datagram[6..8].copy_from_slice(&checksum(&pseudo));
    datagram
}

/// The body of a VXLAN packet (RFC 7348 section 5) with a broadcast datagram of this text.
pub fn vxlan(vni: u32, text: &str) -> Vec<u8> {
    let inside = ipv4([10, 70, 0, 99].into(), [10, 70, 0, 255].into(), &udp(PORT, text.as_bytes()));
    let mut packet = vec![0x08, 0, 0, 0];
    packet.extend((vni << 8).to_be_bytes());
    packet.extend([0xff; 6]);
    packet.extend([0x02, 0, 0, 0, 0, 0x99, 0x08, 0]);
    packet.extend(inside);
    packet
}

/// A VXLAN packet to a node's VTEP, in whole.
pub fn forged(from: IpAddr, to: IpAddr, vni: u32, text: &str) -> Vec<Vec<u8>> {
    let body = vxlan(vni, text);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => vec![ipv4(from, to, &udp(VXLAN, &body))],
        (IpAddr::V6(from), IpAddr::V6(to)) => vec![ipv6(from, to, 17, &udp6(from, to, VXLAN, &body))],
        other => panic!("two families: {other:?}"),
    }
}

/// The same in two fragments (RFC 8200 section 4.5), the first of so many bytes, a multiple of eight.
fn in_fragments(from: Ipv6Addr, to: Ipv6Addr, vni: u32, text: &str, first: usize) -> Vec<Vec<u8>> {
    let datagram = udp6(from, to, VXLAN, &vxlan(vni, text));
    let fragment = |offset: usize, more: u16, part: &[u8]| {
        let place = (offset as u16 | more).to_be_bytes();
        let id = (first as u32).to_be_bytes();
        ipv6(from, to, 44, &[&[17, 0][..], &place, &id, part].concat())
    };
    vec![fragment(0, 1, &datagram[..first]), fragment(first, 0, &datagram[first..])]
}

/// A host on the underlay that belongs to nobody.
struct Stranger(Netns);

impl Stranger {
    fn on(lab: &Lab) -> Self {
        let host = Netns::new("stranger");
        lab.underlay().ip("link add stranger type veth peer name eth0 netns stranger");
        lab.underlay().ip("link set stranger master br0 up");
        host.ip("link set eth0 up");
        host.ip("address add 192.0.2.99/24 dev eth0");
        host.ip("address add 2001:db8::99/64 dev eth0 nodad");
        Self(host)
    }

    /// Sends packets to a node as they are.
    fn send(&self, to: &Node, packets: &[Vec<u8>]) {
        let links = to.netns().ip_json("link show dev eth0");
        let mac = links[0]["address"].as_str().expect("it has a MAC").replace(':', "");
        let frames: String = packets
            .iter()
            .map(|packet| {
                let kind = if packet[0] >> 4 == 4 { "0800" } else { "86dd" };
                let packet: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("s.send(bytes.fromhex('{mac}020000000099{kind}{packet}'))\n")
            })
            .collect();
        let script = format!(
            "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\ns.bind(('eth0', 0))\n{frames}"
        );
        let sent = self.0.command("python3").args(["-c", &script]).output().expect("python3 can be run");
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    }
}

/// What a node counts under this name.
pub fn counted(node: &Node, name: &str) -> Result<u64, String> {
    let status = node.lanmesh(["status", "--json"]).ok()?;
    status["counters"][name].as_u64().ok_or_else(|| format!("it is not counted: {}", status["counters"]))
}

pub fn wait_counted(node: &Node, name: &str, expected: u64) {
    wait_until(&format!("{} counts {expected} {name}", node.name()), SOON, || match counted(node, name)? {
        found if found == expected => Ok(()),
        found => Err(found.to_string()),
    });
}

/// Waits until so many forged datagrams have come, and a moment longer: no more of them may.
pub fn arrive(listener: &Listener, expected: usize) {
    let mut arrived = 0;
    wait_until("what was sent in the name of a node arrives", SOON, || {
        arrived += listener.count("forged");
        if arrived >= expected { Ok(()) } else { Err(arrived.to_string()) }
    });
    assert_eq!(arrived + listener.count("forged"), expected, "forged datagrams that arrived");
}

pub fn vni(lab: &Lab, network: &str) -> u32 {
    let answer = lab.node(1).lanmesh(["network", "inspect", network, "--json"]).json();
    u32::try_from(answer["vni"].as_u64().expect("a number")).expect("has 24 bits")
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A plain network `net` with cI on nI, which reach each other.
pub fn plain(lab: &Lab) -> Vec<(Container, Value)> {
    lab.network("net", &["--subnet", "10.70.0.0/24"]);
    let endpoints: Vec<_> = lab
        .nodes()
        .iter()
        .map(|node| {
            let container = Container::named(&format!("c{}", node.number()));
            let answer = node.attach("net", &format!("c{}", node.number()), &container);
            (container, answer)
        })
        .collect();
    let (first, to) = (&endpoints[0].0, address(&endpoints[1].1, 0));
    wait_until("c1 reaches c2", SOON, || ping(first, &to));
    endpoints
}

#[test]
fn what_no_node_sent_does_not_get_into_a_plain_network_and_is_counted() {
    need!("python3");
    let lab = lab!(2).cluster();
    let endpoints = plain(&lab);
    let (host, two) = (Stranger::on(&lab), lab.node(2));
    let listener = Listener::open(&endpoints[1].0, PORT, None);
    let (to, vni) = (ip("192.0.2.2"), vni(&lab, "net"));
    let send = |from: &str| host.send(two, &forged(ip(from), to, vni, "forged"));
    for _ in 0..3 {
        send("192.0.2.99");
    }
    // Too short to have a VNI.
    let short = ipv4([192, 0, 2, 99].into(), [192, 0, 2, 2].into(), &udp(VXLAN, &[8, 0, 0, 0]));
    host.send(two, &[short]);
    wait_counted(two, "underlay_vxlan_refused", 4);
    // While the agent is away too.
    two.kill();
    send("192.0.2.99");
    two.start_and_wait();
    wait_counted(two, "underlay_vxlan_refused", 5);
    // In the name of a node: nothing tells it from that node's. So the packets are right, too.
    send("192.0.2.1");
    arrive(&listener, 1);
    assert_eq!(counted(two, "underlay_vxlan_refused"), Ok(5));
    ping(&endpoints[0].0, &address(&endpoints[1].1, 0)).expect("c1 reaches c2 still");
}

#[test]
fn over_ipv6_a_stranger_gets_no_further_by_cutting_packets_into_fragments() {
    need!("python3");
    let lab = lab!(LabConfig::over_ipv6(2)).cluster();
    let endpoints = plain(&lab);
    let (host, two, vni) = (Stranger::on(&lab), lab.node(2), vni(&lab, "net"));
    let listener = Listener::open(&endpoints[1].0, PORT, None);
    let (stranger, one, to) = ("2001:db8::99", "2001:db8::1", "2001:db8::2");
    let [stranger, one, to]: [Ipv6Addr; 3] =
        [stranger, one, to].map(|text| text.parse().expect("an address"));
    let send = |from: Ipv6Addr| {
        host.send(two, &forged(from.into(), to.into(), vni, "forged"));
        // The VNI is in the first fragment, and in the second one.
        for first in [24, 8] {
            host.send(two, &in_fragments(from, to, vni, "forged", first));
        }
    };
    send(stranger);
    wait_counted(two, "underlay_vxlan_refused", 3);
    // In the name of a node, which shows that the packets are right.
    send(one);
    arrive(&listener, 3);
    assert_eq!(counted(two, "underlay_vxlan_refused"), Ok(3));
}

#[test]
fn a_stranger_gets_into_no_encrypted_network_whatever_address_it_sends_from_or_to() {
    need!("python3");
    let lab = lab!(2).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    let (host, two, vni) = (Stranger::on(&lab), lab.node(2), vni(&lab, "net"));
    let [one_mesh, two_mesh] = ["n1", "n2"].map(|name| mesh_address(lab.node(1), name));
    let vtep = |own: Ipv6Addr| Ipv6Addr::from(u128::from(own) | 1 << 64);
    let listener = Listener::open(&endpoints[1].0, PORT, None);
    let mut packets = forged(ip("192.0.2.1"), ip("192.0.2.2"), vni, "forged");
    for to in [ip("2001:db8::2"), two_mesh.into(), vtep(two_mesh).into()] {
        for from in [ip("2001:db8::1"), one_mesh.into(), vtep(one_mesh).into()] {
            packets.extend(forged(from, to, vni, "forged"));
        }
    }
    host.send(two, &packets);
    assert_eq!(listener.count("forged"), 0, "forged datagrams that arrived of {}", packets.len());
}

fn mesh_address(node: &Node, of: &str) -> Ipv6Addr {
    let mesh = wait_until(&format!("{of} is in the mesh"), SOON, || mesh_of(node, of));
    mesh["address"].as_str().and_then(|text| text.parse().ok()).expect("an address")
}

#[test]
fn a_nodes_address_in_the_mesh_is_reached_through_the_mesh_and_in_no_other_way() {
    need!("python3");
    let lab = lab!(2).cluster();
    let _endpoints = encrypted(&lab, &BOTH);
    let (host, one, two) = (Stranger::on(&lab), lab.node(1), lab.node(2));
    let [one_mesh, two_mesh] = ["n1", "n2"].map(|name| mesh_address(one, name));
    let socket = within(&two.netns().path(), || {
        let socket = UdpSocket::bind(("::", PORT)).expect("a port is free");
        socket.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        socket
    });
    let underlay: [Ipv6Addr; 2] =
        ["2001:db8::99", "2001:db8::2"].map(|text| text.parse().expect("an address"));
    let datagram = |from, to| ipv6(from, to, 17, &udp6(from, to, PORT, b"forged"));
    // To the mesh's address; in the name of a node to any; and what may come.
    host.send(
        two,
        &[datagram(one_mesh, two_mesh), datagram(underlay[0], two_mesh), datagram(one_mesh, underlay[1])],
    );
    wait_counted(two, "underlay_mesh_refused", 3);
    host.send(two, &[datagram(underlay[0], underlay[1])]);
    let mut buffer = [0; 64];
    let mut next = || {
        let (length, from) = socket.recv_from(&mut buffer).expect("a datagram comes");
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), from.ip())
    };
    assert_eq!(next(), ("forged".to_owned(), underlay[0].into()));
    for (node, text) in [(one, "through the mesh"), (two, "by itself")] {
        within(&node.netns().path(), || {
            let socket = UdpSocket::bind(("::", 0)).expect("a port is free");
            socket.send_to(text.as_bytes(), (two_mesh, PORT)).expect("a route is there");
        });
        let from = if text == "by itself" { two_mesh } else { one_mesh };
        assert_eq!(next(), (text.to_owned(), from.into()));
    }
}

/// The tables of nf_tables on a node that are not those of ports.
fn tables(node: &Node) -> String {
    let output = node.netns().command("nft").args(["list", "ruleset"]).output().expect("nft can be run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn nft(node: &Node, command: &str) {
    let output = node.netns().command("nft").arg(command).output().expect("nft can be run");
    assert!(output.status.success(), "{command}: {output:?}");
}

/// Waits until a node lets exactly these addresses of 192.0.2.0/24 send.
fn wait_let_in(node: &Node, expected: &[&str]) {
    wait_until(&format!("{} lets in {expected:?}", node.name()), SOON, || {
        let ruleset = tables(node);
        let words = ruleset.split([' ', ',', '\n', '\t']).filter(|word| word.starts_with("192.0.2."));
        let mut found: Vec<_> = words.collect();
        found.sort_unstable();
        if found == expected { Ok(()) } else { Err(format!("{found:?} in {ruleset}")) }
    });
}

#[test]
fn who_is_let_in_follows_the_cluster_and_other_rules_and_other_vxlan_are_left_alone() {
    need!("nft", "python3");
    let lab = lab!(3);
    lab.join_all(&[1, 2]);
    let (one, two, three) = (lab.node(1), lab.node(2), lab.node(3));
    nft(two, "add table inet other");
    nft(two, "add chain inet other input { type filter hook input priority 0; policy accept; }");
    let before = tables(two);
    let host = Stranger::on(&lab);
    let other = "type vxlan id 4242 dstport 4789 nolearning";
    two.netns().ip(&format!("link add vx-other {other} local 192.0.2.2 remote 192.0.2.99"));
    two.netns().ip("address add 10.99.0.1/24 dev vx-other");
    two.netns().ip("link set vx-other up");
    host.0.ip(&format!("link add vx-other {other} local 192.0.2.99 remote 192.0.2.2"));
    host.0.ip("address add 10.99.0.2/24 dev vx-other");
    host.0.ip("link set vx-other up");
    one.create_network("net", &["--subnet", "10.70.0.0/24"]);
    let [c1, c2, c3] = ["c1", "c2", "c3"].map(Container::named);
    one.attach("net", "c1", &c1);
    wait_until("n2 knows the network", SOON, || two.lanmesh(["network", "inspect", "net", "--json"]).ok());
    two.attach("net", "c2", &c2);
    wait_let_in(two, &["192.0.2.1"]);
    let vni = vni(&lab, "net");
    host.send(two, &forged(ip("192.0.2.3"), ip("192.0.2.2"), vni, "too early"));
    wait_counted(two, "underlay_vxlan_refused", 1);
    // A node that comes: its first datagram arrives, as it is known before it has an endpoint.
    three.join(one.lanmesh(["token", "show", "--json"]).json()["token"].as_str().expect("a token"), one);
    wait_let_in(two, &["192.0.2.1", "192.0.2.3"]);
    wait_until("n3 knows the network", SOON, || three.lanmesh(["network", "inspect", "net", "--json"]).ok());
    three.attach("net", "c3", &c3);
    wait_until("c3 and c2 reach each other", SOON, || {
        ping(&c3, &endpoint_address(two, "c2")).and(ping(&c2, &endpoint_address(three, "c3")))
    });
    assert_eq!(counted(two, "underlay_vxlan_refused"), Ok(1), "the counter stays while sets change");
    let mut pinged = host.0.command("ping");
    let output = pinged.args(["-n", "-c", "1", "-W", "5", "10.99.0.1"]).output().expect("ping can be run");
    assert!(output.status.success(), "VXLAN of somebody else on the same port: {output:?}");
    // The rules are there while the agent is not, and a new one finds nothing to do.
    two.kill();
    wait_let_in(two, &["192.0.2.1", "192.0.2.3"]);
    two.start_and_wait();
    wait_until("nothing is left to do on n2", SOON, || {
        let plan = two.lanmesh(["plan", "--json"]).ok()?;
        if plan["operations"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(plan.to_string()) }
    });
    assert_eq!(counted(two, "underlay_vxlan_refused"), Ok(1), "the counter stays when the agent restarts");
    // What somebody flushed is there again after the next start, and otherwise with the next look.
    two.kill();
    nft(two, "delete table inet other");
    nft(two, "flush ruleset");
    two.start_and_wait();
    wait_let_in(two, &["192.0.2.1", "192.0.2.3"]);
    // A node that was removed is a stranger.
    three.kill();
    one.lanmesh(["node", "rm", "n3"]).success();
    wait_let_in(two, &["192.0.2.1"]);
    // Its kernel goes on without its agent: what that sends is dropped as well.
    let refused = counted(two, "underlay_vxlan_refused").expect("it is counted");
    host.send(two, &forged(ip("192.0.2.3"), ip("192.0.2.2"), vni, "too late"));
    wait_until("what is sent in the name of n3 is dropped", SOON, || {
        match counted(two, "underlay_vxlan_refused")? {
            now if now > refused => Ok(()),
            now => Err(now.to_string()),
        }
    });
    nft(two, "add table inet other");
    nft(two, "add chain inet other input { type filter hook input priority 0; policy accept; }");
    two.lanmesh(["leave"]).success();
    assert_eq!(tables(two), before, "what n2 leaves");
    one.detach("net", "c1");
    wait_until("n1 has no rules without a plain network", SOON, || match tables(one).as_str() {
        "" => Ok(()),
        other => Err(other.to_owned()),
    });
}

fn endpoint_address(node: &Node, name: &str) -> String {
    let list = node.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let found = list.as_array().and_then(|list| list.iter().find(|endpoint| endpoint["name"] == name));
    address(found.expect("it is attached"), 0)
}

#[test]
fn where_the_kernel_has_no_such_rules_the_doctor_says_so_and_everybody_gets_in() {
    need!("python3");
    let lab = lab!(2);
    let two = lab.node(2);
    two.kill();
    two.start_under(&["env", "LANMESH_WITHOUT=underlay-guard"]);
    two.wait_ready();
    let lab = lab.cluster();
    let two = lab.node(2);
    let endpoints = plain(&lab);
    let host = Stranger::on(&lab);
    let listener = Listener::open(&endpoints[1].0, PORT, None);
    host.send(two, &forged(ip("192.0.2.99"), ip("192.0.2.2"), vni(&lab, "net"), "forged"));
    arrive(&listener, 1);
    let doctor = two.lanmesh(["doctor", "--json"]).json();
    let checks = doctor["checks"].as_array().expect("a list");
    let check = checks.iter().find(|check| {
        check["name"].as_str().is_some_and(|name| name.starts_with("strangers kept out of plain networks"))
    });
    let check = check.expect("it is checked");
    assert_eq!(check["state"], "fallback", "{check}");
    assert!(check["instead"].as_str().is_some_and(|text| text.contains("encrypted")), "{check}");
}

/// So that what nodes say to each other is not lost among what strangers send: net.core.rmem_max allows some 200 datagrams.
#[test]
fn the_gossip_socket_has_room_for_a_burst_whatever_the_system_allows_programs() {
    need!("ss");
    let lab = lab!(1).cluster();
    let shown = lab.node(1).netns().command("ss").args(["-Hlunm", "sport", "=", ":7979"]).output();
    let shown = String::from_utf8(shown.expect("it runs").stdout).expect("it is text");
    let room = shown.split_once(",rb").and_then(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok());
    assert!(room.is_some_and(|room| room >= 4 << 20), "{shown}");
}
