//! Members and senders of every kind: older hosts, the node itself, single senders, large datagrams, machines that die.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::broadcast::endpoints;
use crate::harness::{
    Capture, Container, LATER, Lab, LabConfig, Listener, Place, Program, SOON, lab, need, ping, send,
    slowness, wait_until, within,
};
use crate::multicast::{BOTH, captures, copies, ip, wait_members};
use crate::unicast::address;

const PORT: u16 = 5603;

/// Has the hosts of a container speak this version of a protocol, `igmp` or `mld`.
fn speak(container: &Container, protocol: &str, version: u8) {
    let family = if protocol == "igmp" { "ipv4" } else { "ipv6" };
    let key = format!("/proc/sys/net/{family}/conf/eth0/force_{protocol}_version");
    container.within(|| std::fs::write(key, version.to_string()).expect("every kernel has this setting"));
}

#[test]
fn hosts_that_speak_older_igmp_and_mld_are_members_too() {
    need!("tcpdump");
    let lab = lab!(3).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 3);
    for (protocol, version, group) in [
        ("igmp", 1, "239.4.0.1"),
        ("igmp", 2, "239.4.0.2"),
        ("igmp", 3, "239.4.0.3"),
        ("mld", 1, "ff15::4:1"),
        ("mld", 2, "ff15::4:2"),
    ] {
        speak(&containers[1], protocol, version);
        let listener = Listener::open(&containers[1], PORT, Some(ip(group)));
        wait_members(lab.nodes(), group, &["n2"]);
        let counts = captures(&lab, group);
        send(&containers[0], ip(group), PORT, group, 10);
        assert_eq!(listener.count(group), 10, "datagrams to a host of {protocol}v{version}");
        let counts: Vec<_> = counts.into_iter().map(Capture::count).collect();
        assert_eq!(counts, [10, 10, 0], "copies for a host of {protocol}v{version}");
        drop(listener);
        // IGMPv1 has no word for leaving (RFC 1112): such a membership ends when nobody answers any more.
        if (protocol, version) != ("igmp", 1) {
            wait_members(lab.nodes(), group, &[]);
        }
    }
}

/// A socket in a node's own namespace, bound to its endpoint's address; a member of `group` there.
fn on_node(lab: &Lab, node: usize, own: Ipv4Addr, group: Ipv4Addr) -> UdpSocket {
    within(&lab.node(node).netns().path(), || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("the port is free");
        socket.join_multicast_v4(&group, &own).expect("a group can be joined");
        socket2::SockRef::from(&socket).set_multicast_if_v4(&own).expect("the address is our own");
        socket.set_read_timeout(Some(Duration::from_secs(5) * slowness())).expect("a timeout can be set");
        socket
    })
}

#[test]
fn a_node_itself_is_member_and_sender_by_its_host_endpoint() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let answer = lab
        .node(1)
        .lanmesh(["attach", "net", "--name", "host", "--host", "--ifname", "lan0", "--json"])
        .json();
    let own: Ipv4Addr = address(&answer, 0).parse().expect("an IPv4 address");
    let container = Container::named("c2");
    let other = lab.node(2).attach("net", "c2", &container);
    wait_until("c2 reaches the host's endpoint", SOON, || ping(&container, &own.to_string()));
    let group = Ipv4Addr::new(239, 4, 1, 1);
    let host = on_node(&lab, 1, own, group);
    let listener = Listener::open(&container, PORT, Some(group.into()));
    wait_members(lab.nodes(), "239.4.1.1", &["n1", "n2"]);
    let listed = lab.node(1).lanmesh(["multicast", "ls", "net", "--json"]).json();
    assert_eq!(listed[0]["members"][0]["endpoint"], "host", "{listed}");
    // The host to the container.
    for _ in 0..10 {
        host.send_to(b"from the host", (group, PORT)).expect("a datagram can be sent");
    }
    assert_eq!(listener.count("from the host"), 10);
    // And back; its own come back to it too.
    send(&container, group.into(), PORT, "to the host", 1);
    let mut buffer = [0; 64];
    let from = loop {
        let (length, from) = host.recv_from(&mut buffer).expect("the host hears the container");
        if &buffer[..length] == b"to the host" {
            break from;
        }
    };
    assert_eq!(from.ip().to_string(), address(&other, 0));
}

/// Joins GROUP for SOURCE with the call that IPv6 has for it (RFC 3678), which Rust's libraries have not; counts by text.
const SINGLE_SOURCE: &str = r#"
import collections, socket, struct, sys
group, source, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
def address(text):
    return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, text), 0).ljust(128, b"\0")
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", port))
MCAST_JOIN_SOURCE_GROUP = 46
request = struct.pack("=II", socket.if_nametoindex("eth0"), 0) + address(group) + address(source)
s.setsockopt(socket.IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, request)
print("joined", flush=True)
heard = collections.Counter()
while heard["end"] == 0:
    heard[s.recv(64).decode()] += 1
print("heard", heard["wanted"], heard["unwanted"], flush=True)
"#;

#[test]
fn a_member_of_mld_that_names_its_sender_hears_no_other_and_no_other_crosses() {
    need!("tcpdump", "python3");
    let lab = lab!(3).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 3);
    let list = lab.node(1).lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let c1 = list.as_array().and_then(|l| l.iter().find(|e| e["name"] == "c1")).expect("c1 is attached");
    let c1 = c1["addresses"][1].as_str().and_then(|a| a.split('/').next()).expect("it has an IPv6 address");
    let group = "ff35::82:1";
    let port = PORT.to_string();
    let place = Place { container: &containers[2], hostname: "c3", own: &[] };
    let mut member = Program::start(place, ["python3", "-c", SINGLE_SOURCE, group, c1, &port]);
    member.wait_output("it has joined", |output| output.contains("joined").then_some(()));
    wait_members(lab.nodes(), group, &["n3"]);
    let counts = captures(&lab, group);
    send(&containers[1], ip(group), PORT, "unwanted", 20);
    send(&containers[0], ip(group), PORT, "wanted", 20);
    send(&containers[0], ip(group), PORT, "end", 1);
    member.wait_output("it heard the one and not the other", |output| {
        output.contains("heard 20 0").then_some(())
    });
    assert_eq!(counts.into_iter().map(Capture::count).collect::<Vec<_>>(), [21, 0, 21]);
}

#[test]
fn large_datagrams_with_a_ttl_of_one_arrive_whole_and_only_where_they_are_wanted() {
    need!("tcpdump");
    let lab = lab!(3).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 3);
    let data: Vec<u8> = (0..8000_u32).map(|n| (n % 251) as u8).collect();
    for group in ["239.4.2.1", "ff15::4:21"] {
        let group_ip = ip(group);
        let listener = Listener::open(&containers[1], PORT, Some(group_ip));
        wait_members(lab.nodes(), group, &["n2"]);
        let spared = Capture::start(lab.underlay(), "n3", &copies(group));
        containers[0].within(|| {
            let index = nix::net::if_::if_nametoindex("eth0").expect("eth0 is there");
            let (any, to): (&str, SocketAddr) = match group_ip {
                IpAddr::V4(v4) => ("0.0.0.0:0", (v4, PORT).into()),
                IpAddr::V6(v6) => ("[::]:0", std::net::SocketAddrV6::new(v6, PORT, 0, index).into()),
            };
            let socket = UdpSocket::bind(any).expect("a port is free");
            if group_ip.is_ipv4() {
                socket.set_multicast_ttl_v4(1).expect("a TTL can be set");
            } else {
                socket2::SockRef::from(&socket).set_multicast_hops_v6(1).expect("a hop limit can be set");
            }
            for _ in 0..5 {
                socket.send_to(&data, to).expect("a datagram can be sent");
            }
        });
        assert_eq!(listener.count_bytes(&data), 5, "whole datagrams to {group}");
        assert_eq!(spared.count(), 0, "fragments to {group} at the node without a member");
    }
}

#[test]
fn local_groups_reach_every_node_whoever_has_joined_them() {
    let lab = lab!(3).cluster();
    lab.network("net", &BOTH);
    let containers = endpoints(&lab, 3);
    // VRRP and LLMNR's relatives; ff02::1:3 is reported, the others are not or need not be.
    for group in ["224.0.0.18", "224.0.0.252", "ff02::1", "ff02::12", "ff02::1:3"] {
        let listeners: Vec<_> =
            containers[1..].iter().map(|c| Listener::open(c, PORT, Some(ip(group)))).collect();
        send(&containers[0], ip(group), PORT, group, 10);
        let counts: Vec<_> = listeners.iter().map(|listener| listener.count(group)).collect();
        assert_eq!(counts, [10, 10], "datagrams to {group}");
    }
}

#[test]
fn a_machine_that_dies_is_sent_no_copies_within_two_seconds_and_is_a_member_again_when_it_is_back() {
    need!("tcpdump");
    let lab = lab!(LabConfig::alone(3)).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = endpoints(&lab, 3);
    let group = "239.4.3.1";
    let listeners: Vec<_> =
        containers[1..].iter().map(|c| Listener::open(c, PORT, Some(ip(group)))).collect();
    wait_members(lab.nodes(), group, &["n2", "n3"]);
    // The agent is away, the machine is there: its member goes on hearing.
    lab.node(2).kill();
    wait_until("n2 is given up", SOON, || match lab.node(1).state_of(lab.node(2)).as_str() {
        "dead" => Ok(()),
        state => Err(state.to_owned()),
    });
    std::thread::sleep(Duration::from_secs(1) * slowness());
    send(&containers[0], ip(group), PORT, "agent away", 20);
    assert_eq!(listeners[0].count("agent away"), 20);
    lab.node(2).start_and_wait();
    wait_members(lab.nodes(), group, &["n2", "n3"]);
    // Now the machine.
    lab.node(2).netns().ip("link set eth0 down");
    lab.node(2).kill();
    let begin = Instant::now();
    let stopped = wait_until("no copies go to n2", LATER, || {
        let at = begin.elapsed();
        let both = Capture::start(lab.underlay(), "n1", &copies(group));
        send(&containers[0], ip(group), PORT, "machine gone", 10);
        match both.count() {
            10 => Ok(at),
            other => Err(format!("{other} copies of 10 datagrams")),
        }
    });
    // Half a second for the look itself.
    assert!(
        stopped < Duration::from_millis(2500) * slowness(),
        "copies went to a machine that was gone for {stopped:?}"
    );
    lab.node(2).netns().ip("link set eth0 up");
    lab.node(2).start_and_wait();
    wait_members(lab.nodes(), group, &["n2", "n3"]);
    send(&containers[0], ip(group), PORT, "back", 20);
    for listener in &listeners {
        assert_eq!(listener.count("back"), 20);
    }
}
