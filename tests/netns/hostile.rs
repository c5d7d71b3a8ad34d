//! Endpoints that join without end, come and go without end, and lie about who they are: the others do not notice.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::broadcast::endpoints;
use crate::harness::{Capture, Container, LATER, LabConfig, Listener, Node, lab, need, send, wait_until};
use crate::multicast::{captures, ip, wait_members};

const PORT: u16 = 5604;
const GROUP: &str = "239.5.0.1";

/// Joins `count` groups from 239.50.0.0 on; they are left when the sockets go.
fn join_many(container: &Container, own: Ipv4Addr, count: u32) -> Vec<UdpSocket> {
    container.within(|| {
        std::fs::write("/proc/sys/net/ipv4/igmp_max_memberships", "100000")
            .expect("every kernel has this setting");
        let first = Ipv4Addr::new(239, 50, 0, 0).to_bits();
        let mut sockets = Vec::new();
        for number in 0..count {
            // What one socket can hold is limited too.
            if number % 500 == 0 {
                sockets.push(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free"));
            }
            let socket = sockets.last().expect("there is one");
            socket
                .join_multicast_v4(&Ipv4Addr::from_bits(first + number), &own)
                .expect("a group can be joined");
        }
        sockets
    })
}

/// The first address of an endpoint.
fn own_address(node: &Node, name: &str) -> Ipv4Addr {
    let list = node.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let found = list.as_array().and_then(|list| list.iter().find(|endpoint| endpoint["name"] == name));
    let address = found.and_then(|endpoint| endpoint["addresses"][0].as_str()).expect("it has an address");
    address.split('/').next().and_then(|text| text.parse().ok()).expect("an IPv4 address")
}

/// The CPU time of a process so far.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // proc(5): utime and stime are the 12th and 13th field behind the name, in hundredths of a second.
    let behind = stat.rsplit(')').next().expect("there is a name");
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<u64>().expect("a number");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

#[test]
fn an_endpoint_that_joins_ten_thousand_groups_is_told_of_and_the_others_keep_theirs_exact() {
    need!("tcpdump");
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = endpoints(&lab, 3);
    let own = own_address(lab.node(2), "c2");
    let joined = join_many(&containers[1], own, 10_000);
    let said = wait_until("n2 says which endpoint it is", LATER, || {
        let status = lab.node(2).lanmesh(["status", "--json"]).ok()?;
        let errors = status["reconcile"]["errors"].to_string();
        if errors.contains("endpoint c2 has joined 2048") { Ok(errors) } else { Err(errors) }
    });
    assert!(said.contains("every node"), "what that means: {said}");
    let listed = || {
        let groups = lab.node(3).lanmesh(["multicast", "ls", "net", "--json"]).ok()?;
        Ok::<_, String>(groups.as_array().map_or(0, Vec::len))
    };
    let count = wait_until("n3 has heard of them", LATER, || match listed()? {
        count if count > 2000 => Ok(count),
        count => Err(format!("{count} groups")),
    });
    assert!(count <= 2050, "{count} groups are told apart");
    // Snooping goes on for the others.
    let listener = Listener::open(&containers[2], PORT, Some(ip(GROUP)));
    wait_members(lab.nodes(), GROUP, &["n3"]);
    let counts = captures(&lab, GROUP);
    send(&containers[0], ip(GROUP), PORT, "exact", 20);
    assert_eq!(listener.count("exact"), 20);
    assert_eq!(counts.into_iter().map(Capture::count).collect::<Vec<_>>(), [20, 0, 20]);
    // And it gets what it joined beyond: that goes to every node.
    let beyond = Listener::open(&containers[1], PORT, Some(ip("239.50.39.15")));
    send(&containers[0], ip("239.50.39.15"), PORT, "beyond", 5);
    assert_eq!(beyond.count("beyond"), 5);
    drop((joined, beyond));
    wait_until("all is well again", LATER, || {
        let status = lab.node(2).lanmesh(["status", "--json"]).ok()?;
        if status["reconcile"]["errors"] == serde_json::json!([]) { Ok(()) } else { Err(status.to_string()) }
    });
}

/// The bytes of an IPv4 packet with a router alert that carries 8 bytes of IGMP (RFC 2236 section 2).
fn igmp(from: Ipv4Addr, to: Ipv4Addr, kind: u8, group: Ipv4Addr) -> Vec<u8> {
    let sum = |bytes: &[u8]| {
        let total: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = (total & 0xffff) + (total >> 16);
        (!(folded as u16 + (folded >> 16) as u16)).to_be_bytes()
    };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(group.octets());
    let check = sum(&message);
    message[2..4].copy_from_slice(&check);
    let mut packet = vec![0x46, 0xc0, 0, 32, 0, 1, 0, 0, 1, 2, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([0x94, 0x04, 0, 0]);
    let check = sum(&packet);
    packet[10..12].copy_from_slice(&check);
    packet.extend(message);
    packet
}

/// Sends packets as they are, whoever they say they are from.
fn send_raw(container: &Container, packets: &[(Ipv4Addr, Vec<u8>)]) {
    container.within(|| {
        use socket2::{Domain, Protocol, Socket, Type};
        // IPPROTO_RAW: the header is ours.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).expect("root may");
        socket.bind_device(Some(b"eth0")).expect("eth0 is there");
        for (to, packet) in packets {
            // One that is refused on its way is as good as one that is ignored.
            let _ = socket.send_to(packet, &std::net::SocketAddr::from((*to, 0)).into());
        }
    });
}

#[test]
fn a_leave_in_somebody_elses_name_ends_no_membership() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = endpoints(&lab, 2);
    let liar = Container::named("liar");
    lab.node(2).attach("net", "liar", &liar);
    let victim = own_address(lab.node(2), "c2");
    let listener = Listener::open(&containers[1], PORT, Some(ip(GROUP)));
    wait_members(lab.nodes(), GROUP, &["n2"]);
    let IpAddr::V4(group) = ip(GROUP) else { unreachable!("it is written above") };
    let all_routers = Ipv4Addr::new(224, 0, 0, 2);
    // Leaves of IGMPv2, and a report so that the group is joined at the liar's port too and then left.
    let lies = [
        (group, igmp(victim, group, 0x16, group)),
        (all_routers, igmp(victim, all_routers, 0x17, group)),
        (all_routers, igmp(victim, all_routers, 0x17, group)),
    ];
    for _ in 0..5 {
        send_raw(&liar, &lies);
        send(&containers[0], ip(GROUP), PORT, "still here", 20);
    }
    assert_eq!(listener.count("still here"), 100);
    wait_members(lab.nodes(), GROUP, &["n2"]);
}

#[test]
fn a_hundred_joins_and_leaves_a_second_cost_the_agents_little_and_the_others_nothing() {
    let lab = lab!(LabConfig::alone(3)).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = endpoints(&lab, 3);
    let own = own_address(lab.node(2), "c2");
    let listener = Listener::open(&containers[2], PORT, Some(ip(GROUP)));
    wait_members(lab.nodes(), GROUP, &["n3"]);
    let agents: Vec<u32> = lab.nodes().iter().map(Node::pid).collect();
    let before: Vec<Duration> = agents.iter().map(|pid| cpu(*pid)).collect();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            containers[1].within(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free");
                for number in 0..500_u32 {
                    let group = Ipv4Addr::new(239, 51, 0, (number % 10) as u8);
                    socket.join_multicast_v4(&group, &own).expect("a group can be joined");
                    std::thread::sleep(Duration::from_millis(5));
                    socket.leave_multicast_v4(&group, &own).expect("it was joined");
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        send(&containers[0], ip(GROUP), PORT, "steady", 800);
    });
    let took = begin.elapsed();
    assert_eq!(listener.count("steady"), 800, "datagrams to a member that does not come and go");
    for (node, (pid, before)) in lab.nodes().iter().zip(agents.iter().zip(before)) {
        let used = cpu(*pid) - before;
        // A core's half, of an unoptimised build.
        assert!(used < took / 2, "{} used {used:?} of the CPU in {took:?}", node.name());
        eprintln!("{}: {used:?} of CPU in {took:?}", node.name());
    }
}
