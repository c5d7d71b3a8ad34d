//! A container that routes multicast from one network to another hears of members on other nodes, and its datagrams get there.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::harness::{Container, LATER, Listener, Place, Program, SOON, lab, need, wait_until};
use crate::spoofing::{IP, TIMES, ethernet, inject};

const PORT: u16 = 5400;
const COUNT: usize = 120;

/// Sends datagrams that may pass routers.
fn send(from: &Container, own: Ipv4Addr, group: Ipv4Addr, text: &str, count: usize) {
    from.within(|| {
        let socket = UdpSocket::bind((own, 0)).expect("the address is our own");
        let settings = socket2::SockRef::from(&socket);
        settings.set_multicast_if_v4(&own).expect("the address is our own");
        settings.set_multicast_ttl_v4(8).expect("it may go further");
        for _ in 0..count {
            socket.send_to(text.as_bytes(), SocketAddr::from((group, PORT))).expect("a datagram can be sent");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn what_igmpproxy_and_pimd_route_reaches_members_on_other_nodes_whole() {
    need!("igmpproxy", "pimd", "python3");
    let lab = lab!(3).cluster();
    for (network, subnet) in [("up", "10.91.1.0/24"), ("down", "10.91.2.0/24")] {
        lab.network(network, &["--subnet", subnet]);
    }
    let [router, sender, member, other] = ["router", "sender", "member", "other"].map(Container::named);
    for (network, ifname) in [("up", "eth0"), ("down", "eth1")] {
        let more = ["--ifname", ifname, "--multicast-router"];
        lab.node(1).try_attach(network, "router", &router, &more).json();
    }
    let address = |n: usize, network: &str, name: &str, container: &Container| -> Ipv4Addr {
        let answer = lab.node(n).attach(network, name, container);
        crate::unicast::address(&answer, 0).parse().expect("IPv4")
    };
    let own = address(2, "up", "sender", &sender);
    address(3, "down", "member", &member);
    // On the sender's side there is a member of the same group on a node that has no router.
    address(3, "up", "other", &other);
    let forward = router.command("sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).status();
    assert!(forward.expect("sh can be run").success());
    let rp = router.ip_json("-4 address show dev eth0")[0]["addr_info"][0]["local"]
        .as_str()
        .expect("one")
        .to_owned();
    let igmpproxy = "quickleave\nphyint eth0 upstream ratelimit 0 threshold 1\nphyint eth1 downstream ratelimit 0 threshold 1\n";
    let pimd = format!("phyint eth0 enable\nphyint eth1 enable\nrp-address {rp} 224.0.0.0/4\n");
    let software = [
        ("igmpproxy", igmpproxy.to_owned(), &["igmpproxy", "-n", "-v"][..]),
        ("pimd", pimd, &["pimd", "-f", "-c"][..]),
    ];
    for (n, (name, text, command)) in (1..).zip(software) {
        let group = Ipv4Addr::new(239, 91, 0, n);
        let file = lab.dir().join(format!("{name}.conf"));
        std::fs::write(&file, text).expect("a file can be written");
        let place = Place { container: &router, hostname: "router", own: &[] };
        let file = file.to_str().expect("our own paths are text");
        let running = Program::start(place, [command, &[file]].concat());
        let listening = Listener::open(&member, PORT, Some(group.into()));
        let near = Listener::open(&other, PORT, Some(group.into()));
        wait_until(&format!("{name} routes"), LATER, || {
            send(&sender, own, group, "is it there", 1);
            if listening.count("is it there") > 0 { Ok(()) } else { Err(running.output()) }
        });
        send(&sender, own, group, name, COUNT);
        assert_eq!((listening.count(name), near.count(name)), (COUNT, COUNT), "{}", running.output());
        drop((listening, near));
        // The one that comes next has the kernel's routes for itself.
        drop(running);
        wait_until("no router is left", SOON, || {
            let text = router.ip("mroute show");
            if text.trim().is_empty() { Ok(()) } else { Err(text) }
        });
    }
    // What it routes may be from elsewhere, and not from somebody in the network.
    let mac = crate::floating::mac(&router, "eth0");
    let mut packet = crate::spoofing::ipv4(own, 17, &crate::spoofing::udp(5400));
    packet[16..20].copy_from_slice(&[239, 91, 0, 9]);
    let before = crate::spoofing::spoofed(lab.node(1), "up", "router");
    inject(&router, &ethernet([1, 0, 0x5e, 91, 0, 9], mac, IP, &packet));
    assert_eq!(crate::spoofing::spoofed(lab.node(1), "up", "router"), before + TIMES);
    let answer = lab.node(3).lanmesh(["endpoint", "inspect", "up", "router", "--json"]).json();
    assert_eq!(answer["multicast_router"], true, "{answer}");
}
