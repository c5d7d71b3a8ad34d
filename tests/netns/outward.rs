//! Endpoints with a default route by their node: what they reach, as whom they are seen, what they do not reach, and what becomes of
//! it when agents, rules and routes go and come.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Container, Lab, Node, SOON, lab, slowness, wait_until, within};
use crate::published::{OUTSIDE, OUTSIDE6, ask, at, firewall, outside, path, tcp, udp};
use crate::services::Server;

const PORT: u16 = 8000;
const WORLD: &str = "198.51.100.1";
const WORLD6: &str = "2001:db8:9::1";
/// A full pass is made every 25 s.
const A_PASS: Duration = Duration::from_secs(45);

/// What is beyond the router that all nodes send by default to.
fn world(lab: &Lab) -> Container {
    outside(lab);
    let world = Container::named("world");
    let router = lab.underlay();
    let name = Path::new(world.path_text()).file_name().unwrap().to_str().unwrap();
    router.ip(&format!("link add world type veth peer name eth0 netns {name}"));
    router.ip("address add 203.0.113.1/24 dev world");
    router.ip("address add 2001:db8:8::1/64 dev world nodad");
    router.ip("link set world up");
    let forwards = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
    assert!(router.command("sh").args(["-c", forwards]).status().unwrap().success());
    world.ip("address add 203.0.113.2/24 dev eth0");
    world.ip("address add 2001:db8:8::2/64 dev eth0 nodad");
    world.ip("link set eth0 up");
    world.ip("link set lo up");
    world.ip(&format!("address add {WORLD}/32 dev lo"));
    world.ip(&format!("address add {WORLD6}/128 dev lo nodad"));
    // A socket that is bound to no address answers from the one that the route says.
    world.ip(&format!("route add default via 203.0.113.1 src {WORLD}"));
    world.ip(&format!("-6 route add default via 2001:db8:8::1 src {WORLD6}"));
    router.ip(&format!("route add {WORLD}/32 via 203.0.113.2"));
    router.ip(&format!("-6 route add {WORLD6}/128 via 2001:db8:8::2"));
    for node in lab.nodes() {
        node.netns().ip(&format!("route add default via {OUTSIDE}"));
        node.netns().ip(&format!("-6 route add default via {OUTSIDE6}"));
    }
    world
}

fn network(lab: &Lab) {
    lab.network("net", &["--subnet", "10.74.0.0/16", "--subnet", "fd74::/64"]);
}

fn attach(node: &Node, network: &str, container: &Container, name: &str, more: &[&str]) {
    let more: Vec<&str> = ["--default-route"].iter().chain(more).copied().collect();
    node.try_attach(network, name, container, &more).success();
}

fn shell(node: &Node, script: &str) {
    let done = node.netns().command("sh").args(["-c", script]).output().unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
}

fn pings(container: &Container, to: &str) -> Result<(), String> {
    let done = container.command("ping").args(["-c", "1", "-W", "2", to]).output().unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stdout).into_owned()) }
}

/// More than fits into a packet, both ways.
fn much(from: &Path, to: &str, seen: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = within(from, || TcpStream::connect_timeout(&to, SOON).unwrap());
    stream.set_read_timeout(Some(SOON * slowness())).unwrap();
    stream.write_all(&vec![b'?'; 20_000]).unwrap();
    let line = format!("{seen}\n");
    let mut answers = vec![0; 20_000 * line.len()];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers, line.repeat(20_000).into_bytes());
}

#[test]
fn the_world_is_reached_as_the_node_beside_a_firewall_that_forwards_nothing_and_the_node_is_not() {
    let lab = lab!(3).cluster();
    network(&lab);
    lab.network("secret", &["--subnet", "10.75.0.0/24", "--subnet", "fd75::/64", "--encrypt", "wireguard"]);
    let world = world(&lab);
    let (one, two) = (lab.node(1), lab.node(2));
    firewall(one);
    shell(
        one,
        "for f in all default eth0; do echo 1 >/proc/sys/net/ipv4/conf/$f/rp_filter; done; \
         echo 0 >/proc/sys/net/ipv4/ip_forward",
    );
    let _out = Server::start(&world, "out", PORT);
    let [plain, first, second, hidden] = ["plain", "a", "b", "s"].map(Container::named);
    one.attach("net", "plain", &plain);
    attach(one, "net", &first, "a", &["--publish", "8080:8000", "--publish", "8080:8000/udp"]);
    attach(two, "net", &second, "b", &[]);
    attach(one, "secret", &hidden, "s", &[]);
    let _published = Server::start(&first, "a", PORT);

    let (v4, v6) = (at(WORLD, PORT), at(WORLD6, PORT));
    for (container, seen, seen6) in [
        (&first, "192.0.2.1", "2001:db8::1"),
        (&second, "192.0.2.2", "2001:db8::2"),
        (&hidden, "192.0.2.1", "2001:db8::1"),
    ] {
        for (to, seen) in [(&v4, seen), (&v6, seen6)] {
            let expected = format!("out {seen}");
            wait_until("the world is reached", SOON, || tcp(path(container), to));
            assert_eq!(tcp(path(container), to).as_ref(), Ok(&expected));
            assert_eq!(udp(path(container), to, 10).as_ref(), Ok(&expected));
            much(path(container), to, &expected);
        }
        for to in [WORLD, WORLD6] {
            pings(container, to).unwrap();
        }
    }
    // In pieces too.
    assert_eq!(udp(path(&first), &v4, 4000), Ok("out 192.0.2.1".to_owned()));
    // What nobody listens at says so.
    let told = tcp(path(&first), &at(WORLD, 9)).unwrap_err();
    assert!(told.contains("refused"), "{told}");
    for closed in [at(WORLD, 9), at(WORLD6, 9)] {
        let told = udp(path(&first), &closed, 10).unwrap_err();
        assert!(told.contains("refused"), "{closed}: {told}");
    }
    // Who has not asked for it has no way, the node its own, and what is published goes on.
    for to in [&v4, &v6] {
        tcp(path(&plain), to).unwrap_err();
        assert!(tcp(&one.netns().path(), to).is_ok(), "the node itself");
    }
    let client = lab.underlay().path();
    for here in ["192.0.2.1", "2001:db8::1"] {
        let seen = if here.contains(':') { OUTSIDE6 } else { OUTSIDE };
        assert_eq!(tcp(&client, &at(here, 8080)), Ok(format!("a {seen}")));
        assert_eq!(udp(&client, &at(here, 8080), 10), Ok(format!("a {seen}")));
    }
    // Where a smaller way follows, it is told.
    lab.underlay().ip("link set world mtu 1300");
    world.ip("link set eth0 mtu 1300");
    for (to, seen) in [(&v4, "out 192.0.2.1"), (&v6, "out 2001:db8::1")] {
        much(path(&first), to, seen);
        much(path(&hidden), to, seen);
        wait_until("datagrams learn of it", SOON, || udp(path(&second), to, 1400));
    }
    // And the node's own.
    two.netns().ip(&format!("route replace default via {OUTSIDE} mtu 1285"));
    two.netns().ip(&format!("-6 route replace default via {OUTSIDE6} mtu 1285"));
    for (to, seen) in [(&v4, "out 192.0.2.2"), (&v6, "out 2001:db8::2")] {
        much(path(&second), to, seen);
    }

    // Not the node, what is behind its bridges, or what nodes take from each other.
    shell(
        one,
        "nft delete table inet wall; ip link add docker0 type bridge; ip address add 172.30.0.1/24 dev docker0; \
                ip link set docker0 up",
    );
    let beside = Container::named("d");
    let name = Path::new(beside.path_text()).file_name().unwrap().to_str().unwrap();
    one.netns().ip(&format!("link add pd type veth peer name eth1 netns {name}"));
    one.netns().ip("link set pd master docker0 up");
    beside.ip("address add 172.30.0.2/24 dev eth1");
    beside.ip("link set eth1 up");
    beside.ip("route add default via 172.30.0.1");
    let _beside = Server::start(&beside, "d", PORT);
    assert!(tcp(&one.netns().path(), &at("172.30.0.2", PORT)).is_ok());
    let listener = within(&one.netns().path(), || TcpListener::bind(("::", 9000)).unwrap());
    let datagrams = within(&one.netns().path(), || UdpSocket::bind(("::", 9000)).unwrap());
    listener.set_nonblocking(true).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    for address in ["192.0.2.1", "2001:db8::1", "172.30.0.1", "169.254.0.1", "127.0.0.1", "10.74.255.254"] {
        tcp(path(&first), &at(address, 9000)).unwrap_err();
        udp(path(&first), &at(address, 9000), 10).unwrap_err();
    }
    tcp(path(&first), &at("172.30.0.2", PORT)).unwrap_err();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(datagrams.recv(&mut [0; 9]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let there = within(&two.netns().path(), || UdpSocket::bind(("192.0.2.2", 4790)).unwrap());
    there.set_read_timeout(Some(SOON)).unwrap();
    let sends = within(path(&first), || UdpSocket::bind("0.0.0.0:0").unwrap());
    for refused in ["192.0.2.2:4789", "192.0.2.2:7979", "169.254.169.254:80"] {
        let told = udp(path(&first), refused, 10).unwrap_err();
        assert!(told.contains("No route to host"), "{refused}: {told}");
        tcp(path(&first), refused).unwrap_err();
    }
    sends.send_to(b"?", "192.0.2.2:4790").unwrap();
    let (_, from) = there.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(from.ip().to_string(), "192.0.2.1", "another port of another node is reached as any");
    assert!((61_000..=65_535).contains(&from.port()), "{from}");
}

#[test]
fn flows_outlive_the_agent_rules_come_back_a_new_address_is_taken_and_what_is_detached_leaves_nothing() {
    let lab = lab!(1).cluster();
    network(&lab);
    let world = world(&lab);
    let one = lab.node(1);
    let _out = Server::start(&world, "out", PORT);
    let (stays, container) = (Container::named("stays"), Container::named("a"));
    one.attach("net", "stays", &stays);
    let left = || {
        let list = "nft list tables; ip rule; ip -6 rule; ip -o link | cut -d: -f2; ip route; ip -6 route; \
                    cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding \
                    /proc/sys/net/ipv4/ip_local_reserved_ports";
        let listed = one.netns().command("sh").args(["-c", list]).output().unwrap();
        let inside = one.network_exec(
            "net",
            &["sh", "-c", "nft list tables; ip rule; ip -6 rule; ip -o link | cut -d: -f2"],
        );
        String::from_utf8_lossy(&listed.stdout).into_owned() + &inside.success()
    };
    let before = left();
    attach(one, "net", &container, "a", &[]);
    let (v4, v6) = (at(WORLD, PORT), at(WORLD6, PORT));
    wait_until("the world is reached", SOON, || tcp(path(&container), &v4));
    let mut held = [&v4, &v6].map(|to| within(path(&container), || TcpStream::connect(to.as_str()).unwrap()));
    let mut go_on = |what: &str| {
        for held in &mut held {
            held.set_read_timeout(Some(SOON * slowness())).unwrap();
            assert!(ask(held).is_ok(), "{what}");
        }
    };
    go_on("as they begin");
    one.kill();
    go_on("the agent is not needed");
    one.start_and_wait();
    go_on("nor in its way");
    wait_until("nothing is to be done", SOON, || {
        let plan = one.lanmesh(["plan", "--json"]).json();
        if plan["operations"] == json!([]) { Ok(()) } else { Err(plan.to_string()) }
    });

    // Without rules nothing leaves, whatever the node forwards; then all is as it was.
    let strangers = world.within(|| UdpSocket::bind(("::", 7)).unwrap());
    strangers.set_nonblocking(true).unwrap();
    one.kill();
    shell(one, "echo 1 >/proc/sys/net/ipv4/ip_forward; nft flush ruleset");
    for to in [WORLD, WORLD6] {
        udp(path(&container), &at(to, 7), 10).unwrap_err();
    }
    let mut buffer = [0; 9];
    if let Ok((_, from)) = strangers.recv_from(&mut buffer) {
        panic!("{from} came out");
    }
    shell(one, "echo 0 >/proc/sys/net/ipv4/ip_forward");
    one.start_and_wait();
    wait_until("it comes back", SOON, || tcp(path(&container), &v4));
    go_on("flows are remembered in the network");
    shell(one, "nft flush ruleset");
    wait_until("it comes back", A_PASS, || tcp(path(&container), &v6));
    go_on("under an agent that runs too");

    // The address by which the node itself leaves.
    one.netns().ip("address add 192.0.2.77/24 dev eth0");
    one.netns().ip(&format!("route replace default via {OUTSIDE} src 192.0.2.77"));
    wait_until("it is seen as the other", A_PASS, || match tcp(path(&container), &v4)?.as_str() {
        "out 192.0.2.77" => Ok(()),
        other => Err(other.to_owned()),
    });
    one.netns().ip(&format!("route replace default via {OUTSIDE}"));
    one.netns().ip("address delete 192.0.2.77/24 dev eth0");

    one.detach("net", "a");
    wait_until("nothing is left", SOON, || {
        let now = left();
        if now == before { Ok(()) } else { Err(format!("{before}\n---\n{now}")) }
    });
}

#[test]
fn it_is_told_asked_for_once_and_refused_where_it_cannot_be() {
    let lab = lab!(1).cluster();
    network(&lab);
    let one = lab.node(1);
    let container = Container::named("a");
    container.ip("link add eth9 type veth peer name beyond");
    container.ip("link set beyond up");
    container.ip("address add 10.9.9.2/24 dev eth9");
    container.ip("link set eth9 up");
    container.ip("route add default via 10.9.9.1");
    let told = one.try_attach("net", "a", &container, &["--default-route"]).refusal();
    assert!(told.contains("has a default route already, via 10.9.9.1 by eth9"), "{told}");
    assert!(!container.links().contains(&"eth0".to_owned()), "nothing is left of it");
    container.ip("route delete default");
    attach(one, "net", &container, "a", &[]);
    attach(one, "net", &container, "a", &[]);
    let told = one.try_attach("net", "a", &container, &[]).refusal();
    assert!(told.contains("another default_route"), "{told}");
    let inspected = one.lanmesh(["endpoint", "inspect", "net", "a", "--json"]).json();
    assert_eq!(inspected["default_route"], true, "{inspected}");
    let desired = one.lanmesh(["desired", "get"]).json();
    assert_eq!(desired["endpoints"]["net"]["a"]["default_route"], true, "{desired}");
    for route in [container.ip("route show default"), container.ip("-6 route show default")] {
        assert!(route.contains("dev eth0 proto 76"), "{route}");
    }
    let told = one.lanmesh(["attach", "net", "--name", "h", "--host", "--default-route"]).refusal();
    assert!(told.contains("the node has its own routes"), "{told}");
    // A node's ports for it are enough for four networks.
    let more: Vec<(String, Container)> = (1..5)
        .map(|n| {
            lab.network(&format!("net{n}"), &["--subnet", &format!("10.{}.0.0/24", 80 + n)]);
            (format!("net{n}"), Container::named(&format!("c{n}")))
        })
        .collect();
    for (network, container) in &more[..3] {
        attach(one, network, container, "x", &[]);
    }
    let (network, container) = &more[3];
    let told = one.try_attach(network, "x", container, &["--default-route"]).refusal();
    assert!(told.contains("endpoints of 4 other networks"), "{told}");
    one.detach("net1", "x");
    attach(one, network, container, "x", &[]);
}

#[test]
fn a_hundred_endpoints_at_once_each_with_some_flows_are_all_answered() {
    let lab = lab!(1).cluster();
    network(&lab);
    let world = world(&lab);
    let one = lab.node(1);
    let _out = Server::start(&world, "out", PORT);
    let containers: Vec<Container> = (0..100).map(|n| Container::named(&format!("c{n}"))).collect();
    for (n, container) in containers.iter().enumerate() {
        attach(one, "net", container, &format!("c{n}"), &[]);
    }
    wait_until("the last of them is let out", SOON, || tcp(path(&containers[99]), &at(WORLD, PORT)));
    let asks = |container: &Container| -> Result<(), String> {
        for to in [WORLD, WORLD6, WORLD] {
            let to: SocketAddr = at(to, PORT).parse().unwrap();
            let patience = SOON * slowness();
            let streams =
                (0..4).map(|_| within(path(container), || TcpStream::connect_timeout(&to, patience)));
            for stream in streams.collect::<Vec<_>>() {
                let mut stream = stream.map_err(|error| error.to_string())?;
                stream.set_read_timeout(Some(patience)).unwrap();
                let seen = ask(&mut stream)?;
                if !["out 192.0.2.1", "out 2001:db8::1"].contains(&seen.as_str()) {
                    return Err(seen);
                }
            }
            udp(path(container), &to.to_string(), 10)?;
        }
        Ok(())
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = containers.iter().map(|container| scope.spawn(|| asks(container))).collect();
        all.into_iter().filter_map(|one| one.join().unwrap().err()).collect()
    });
    assert_eq!(failed, Vec::<String>::new());
}
