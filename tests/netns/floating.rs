//! Addresses that move by themselves from an endpoint to one on another node: by an announcement by hand, and by keepalived.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{LinkAddr, bind, send};
use serde_json::Value;

use crate::harness::{
    Capture, Container, LATER, Place, Program, Responder, SOON, lab, need, ping, slowness, wait_until,
};
use crate::spoofing::{ALL_NODES, BROADCAST, ICMPV6, IPV6, arp, discovery, ethernet, group, inject, ipv6};

const PORT: u16 = 5300;
/// So long after the announcement everybody reaches the one that made it.
const TAKEN_OVER: Duration = Duration::from_millis(200);

pub fn mac(container: &Container, link: &str) -> [u8; 6] {
    let text =
        container.ip_json(&format!("link show {link}"))[0]["address"].as_str().expect("a MAC").to_owned();
    let octets: Vec<u8> =
        text.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("hexadecimal")).collect();
    octets.try_into().expect("six octets")
}

/// A gratuitous ARP or an unsolicited advertisement.
fn announcement(mac: [u8; 6], address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => ethernet(BROADCAST, mac, [8, 6], &arp(mac, v4, v4)),
        IpAddr::V6(v6) => {
            let mut message = discovery(136, v6);
            // Behind the target: its MAC (RFC 4861 section 4.6.1).
            message.truncate(24);
            message.extend([2, 1]);
            message.extend(mac);
            let mut packet = ipv6(v6, ALL_NODES, ICMPV6, &message);
            let length = (message.len() as u32).to_be_bytes();
            let over = [&packet[8..40], &length, &[0, 0, 0, ICMPV6], &message].concat();
            let sum = over.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            packet[42..44].copy_from_slice(&sum.to_be_bytes());
            ethernet(group(ALL_NODES), mac, IPV6, &packet)
        }
    }
}

/// Sends a frame once, from `eth0`; when that was.
fn say(from: &Container, frame: &[u8]) -> Instant {
    from.within(|| {
        let socket = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, Some(0.into()));
        let socket = socket.expect("root may have a packet socket");
        let links = nix::ifaddrs::getifaddrs().expect("links can be listed");
        let eth0 = links.filter(|link| link.interface_name == "eth0");
        let address: Option<LinkAddr> = eth0.filter_map(|link| link.address?.as_link_addr().copied()).next();
        bind(socket.as_raw_fd(), &address.expect("eth0 is there")).expect("eth0 is up");
        let begun = Instant::now();
        send(socket.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty()).expect("a frame can be sent");
        begun
    })
}

/// Asks whoever has an address until `who` answers; when that was.
fn reached(from: &Container, to: IpAddr, who: &str, deadline: Duration) -> Instant {
    from.within(|| {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).expect("a port is free");
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout can be set");
        let begun = Instant::now();
        let mut buffer = [0; 64];
        while begun.elapsed() < deadline * slowness() {
            // While nobody is known to have it there may be no way to send.
            if socket.send_to(b"who?", SocketAddr::new(to, PORT)).is_err() {
                std::thread::sleep(Duration::from_millis(10));
            }
            while let Ok(length) = socket.recv(&mut buffer) {
                if &buffer[..length] == who.as_bytes() {
                    return Instant::now();
                }
            }
        }
        panic!("{who} is not reached at {to}")
    })
}

fn floating(node: &crate::harness::Node, network: &str, name: &str) -> Vec<String> {
    let found = node.lanmesh(["endpoint", "inspect", network, name, "--json"]).json();
    let list = found["floating"].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

#[test]
fn what_is_announced_by_hand_is_reached_from_every_node_within_a_fifth_of_a_second() {
    let lab = lab!(3).cluster();
    let arguments = ["--subnet", "10.89.0.0/24", "--subnet", "fd00:89::/64", "--spoofing", "allow"];
    lab.network("open", &arguments);
    let [a, b, o1, o2, o3] = ["a", "b", "o1", "o2", "o3"].map(Container::named);
    let places = [(1, "a", &a), (2, "b", &b), (1, "o1", &o1), (2, "o2", &o2), (3, "o3", &o3)];
    for (node, name, container) in places {
        lab.node(node).attach("open", name, container);
    }
    let _answers = [Responder::start(&a, PORT, "a"), Responder::start(&b, PORT, "b")];
    for (text, length) in [("10.89.0.200", 24), ("fd00:89::200", 64)] {
        let address: IpAddr = text.parse().expect("an address");
        let how = if address.is_ipv6() { "nodad" } else { "" };
        let mut from: Option<&Container> = None;
        for (to, who) in [(&a, "a"), (&b, "b"), (&a, "a"), (&b, "b")] {
            if let Some(from) = from {
                from.ip(&format!("address delete {text}/{length} dev eth0"));
            }
            to.ip(&format!("address add {text}/{length} dev eth0 {how}"));
            let announced = say(to, &announcement(mac(to, "eth0"), address));
            std::thread::scope(|scope| {
                for observer in [&o1, &o2, &o3] {
                    scope.spawn(move || {
                        let took = reached(observer, address, who, SOON).duration_since(announced);
                        assert!(took < TAKEN_OVER * slowness(), "{text} is reached at {who} after {took:?}");
                    });
                }
            });
            from = Some(to);
        }
    }
    wait_until("the third node says where they are", SOON, || match floating(lab.node(3), "open", "b") {
        found if found == ["10.89.0.200", "fd00:89::200"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    assert_eq!(floating(lab.node(3), "open", "a"), Vec::<String>::new());
    for text in ["10.89.0.200", "fd00:89::200"] {
        let known = lab.node(3).lanmesh(["whois", text, "--json"]).json();
        assert_eq!((&known[0]["what"], &known[0]["name"]), (&"floating".into(), &"b".into()), "{known}");
        wait_until("the way to it is traced", SOON, || {
            let traced = lab.node(3).lanmesh(["trace", "o3", text, "--json"]).ok()?.to_string();
            if traced.contains(&format!("{text} is ")) { Ok(()) } else { Err(traced) }
        });
    }
    // Whatever a container gives itself: an address that it probes for, and a child with a MAC of its own.
    a.ip("address add fd00:89::a dev eth0");
    a.ip("link add link eth0 name child type macvlan mode bridge");
    a.ip("link set child up");
    a.ip("address add fd00:89::c/64 dev child");
    a.ip("address add 10.89.0.201/24 dev child");
    for text in ["fd00:89::a", "fd00:89::c", "10.89.0.201"] {
        wait_until(&format!("{text} is reached"), SOON, || ping(&o3, text));
    }
    // An agent that starts anew says the same again; and what was at an endpoint goes with it.
    lab.node(2).kill();
    lab.node(2).start_and_wait();
    wait_until("it is published again", SOON, || match floating(lab.node(3), "open", "b") {
        found if found.len() == 2 => Ok(()),
        found => Err(format!("{found:?}")),
    });
    wait_until("and reached", SOON, || ping(&o3, "10.89.0.200"));
    lab.node(2).detach("open", "b");
    wait_until("nothing is left of it", SOON, || {
        let neighbours =
            lab.node(3).network_exec("open", &["ip", "neigh", "show", "dev", "br0", "nud", "permanent"]);
        match neighbours.success() {
            text if text.contains("10.89.0.200 ") || text.contains("fd00:89::200 ") => Err(text),
            _ => Ok(()),
        }
    });
}

const ALSO: [&str; 10] = [
    "--also-address",
    "10.90.0.200",
    "--also-address",
    "10.90.0.201",
    "--also-address",
    "fd00:90::200",
    "--also-address",
    "fe80::200",
    "--also-mac=00:00:5e:00:01:33",
    "--also-mac=00:00:5e:00:02:34",
];
const FLOATING: [&str; 3] = ["10.90.0.200", "10.90.0.201", "fd00:90::200"];

/// VRRP version 2 and 3, IPv4 and IPv6, with the virtual MAC and without.
fn keepalived(container: &Container, name: &str, priority: u8, directory: &std::path::Path) -> Program {
    let instance = |name: &str, version, id, interval, vmac: &str, addresses: &str| {
        format!(
            "vrrp_instance {name} {{ state BACKUP\n interface eth0\n version {version}\n {vmac}\n virtual_router_id {id}\n \
             priority {priority}\n advert_int {interval}\n virtual_ipaddress {{\n{addresses}\n}}\n}}\n"
        )
    };
    let text = [
        "global_defs {\n vrrp_garp_master_delay 1\n}\n".to_owned(),
        instance("two", 2, 51, "1", "use_vmac vrrp2", "10.90.0.200/24"),
        instance("three", 3, 52, "0.2", "", "10.90.0.201/24"),
        instance("six", 3, 52, "0.2", "use_vmac vrrp6", "fe80::200/64\nfd00:90::200/64"),
    ];
    let file = directory.join(format!("{name}.conf"));
    std::fs::write(&file, text.concat()).expect("a file can be written");
    let place = Place { container, hostname: name, own: &["/run/keepalived"] };
    let file = file.to_str().expect("our own paths are text");
    let pids = ["-p", "/run/keepalived/p", "-r", "/run/keepalived/r", "-c", "/run/keepalived/c"];
    Program::start(place, [&["keepalived", "-n", "-l", "-f", file][..], &pids].concat())
}

#[test]
fn keepalived_works_in_a_guarded_network_and_everything_else_stays_guarded() {
    need!("keepalived", "python3", "tcpdump");
    let lab = lab!(3).cluster();
    lab.network("kept", &["--subnet", "10.90.0.0/24", "--subnet", "fd00:90::/64"]);
    let [a, b, o] = ["a", "b", "o"].map(Container::named);
    let own = lab.node(1).try_attach("kept", "a", &a, &ALSO).json();
    lab.node(2).try_attach("kept", "b", &b, &ALSO).json();
    let observer = lab.node(3).attach("kept", "o", &o);
    let _answers = [Responder::start(&a, PORT, "a"), Responder::start(&b, PORT, "b")];
    let mut first = keepalived(&a, "a", 150, lab.dir());
    first.wait_output("it is the master", |text| text.contains("(two) Entering MASTER STATE").then_some(()));
    let at = |who: &str, deadline| {
        for text in FLOATING {
            reached(&o, text.parse().expect("an address"), who, deadline);
        }
    };
    at("a", SOON);
    let mut second = keepalived(&b, "b", 100, lab.dir());
    second.wait_output("it hears the other", |text| text.contains("Startup complete").then_some(()));
    // What it may not have beside these is dropped as ever, and so are these of anybody else.
    let (mine, theirs) = (mac(&a, "eth0"), mac(&o, "eth0"));
    let refused = |node: usize, name: &str, container: &Container, frame: &[u8]| {
        let spoofed = || crate::spoofing::spoofed(lab.node(node), "kept", name);
        let before = spoofed();
        inject(container, frame);
        assert_eq!(spoofed(), before + crate::spoofing::TIMES);
    };
    for address in ["10.90.0.202", "fd00:90::202"] {
        refused(1, "a", &a, &announcement(mine, address.parse().expect("an address")));
    }
    for address in ["10.90.0.200", "fd00:90::200"] {
        refused(3, "o", &o, &announcement(theirs, address.parse().expect("an address")));
    }
    // Nobody else gets such an address, and nobody may share what was given to one.
    let errors = [
        lab.node(3).try_attach("kept", "x", &o, &["--ifname", "x", "--ip", "10.90.0.200"]),
        lab.node(3).try_attach("kept", "x", &o, &["--ifname", "x", "--also-address", "10.90.0.1"]),
        lab.node(3).try_attach(
            "kept",
            "x",
            &o,
            &["--ifname", "x", "--also-address", &crate::unicast::address(&own, 0)],
        ),
    ]
    .map(|reply| reply.refusal());
    assert!(
        errors[1].contains("gateway") && errors[2].contains("endpoint a's own, on node n1"),
        "{errors:?}"
    );
    // The master is cut off: the other takes all over, and gives it back.
    a.ip("link set eth0 down");
    at("b", LATER);
    a.ip("link set eth0 up");
    at("a", LATER);
    assert_eq!(floating(lab.node(3), "kept", "b"), Vec::<String>::new());
    // Who tries an address that another was given, on whichever node, hears that it is not free.
    let taken = crate::unicast::address(&own, 1);
    o.ip(&format!("address add {taken}/64 dev eth0"));
    wait_until("the duplicate is found", SOON, || {
        let text = o.ip("-6 address show dev eth0");
        let line = text.lines().find(|line| line.contains(&format!("{taken}/"))).unwrap_or_default();
        if line.contains("dadfailed") { Ok(()) } else { Err(text) }
    });
    let probed: Ipv4Addr = crate::unicast::address(&own, 0).parse().expect("IPv4");
    let answers = Capture::within(&o, "eth0", &format!("arp[14:4] = {:#x}", u32::from(probed)));
    inject(&o, &ethernet(BROADCAST, theirs, [8, 6], &arp(theirs, Ipv4Addr::UNSPECIFIED, probed)));
    assert!(answers.count() > 0, "nobody says that {probed} is in use");
    let own_address = crate::unicast::address(&observer, 1);
    ping(&a, &own_address).expect("its own address is as it was");
}
