//! Ports of the nodes that lead to endpoints: from where they are reached, that nothing else is, and what becomes of them when
//! rules are flushed, two want one, and endpoints go.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Container, Lab, Node, SOON, lab, wait_until, within};
use crate::services::Server;

const PORT: u16 = 8000;
const PATIENCE: Duration = Duration::from_millis(1500);
/// Whoever is on the underlay and no node.
pub const OUTSIDE: &str = "192.0.2.200";
pub const OUTSIDE6: &str = "2001:db8::200";

/// Who answers there over TCP, and whom he says he is asked by.
pub fn tcp(from: &Path, to: &str) -> Result<String, String> {
    let to: SocketAddr = to.parse().unwrap();
    let stream = within(from, || TcpStream::connect_timeout(&to, PATIENCE));
    let mut stream = stream.map_err(|error| format!("connect to {to}: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(&mut stream)
}

pub fn ask(stream: &mut TcpStream) -> Result<String, String> {
    stream.write_all(b"?").map_err(|error| error.to_string())?;
    let mut text = String::new();
    while !text.ends_with('\n') {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => text.push(char::from(byte[0])),
            Ok(_) => return Err("it is closed".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(text.trim().to_owned())
}

pub fn udp(from: &Path, to: &str, size: usize) -> Result<String, String> {
    let to: SocketAddr = to.parse().unwrap();
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
    let socket = within(from, || {
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).map(|()| socket)
    });
    let socket = socket.map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(&vec![b'?'; size]).map_err(|error| error.to_string())?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A node's rules that let nothing be forwarded and nothing in, as a Docker's and a firewall's do.
pub fn firewall(node: &Node) {
    let rules = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
                 add table ip6 filter; add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }; \
                 add table inet wall; add chain inet wall in { type filter hook input priority 0; policy drop; }; \
                 add rule inet wall in iifname lo accept; add rule inet wall in ct state established,related accept; \
                 add rule inet wall in meta l4proto { icmp, ipv6-icmp } accept; \
                 add rule inet wall in ip saddr 192.0.2.0/28 accept";
    let done = node.netns().command("nft").arg(rules).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

pub fn outside(lab: &Lab) -> std::path::PathBuf {
    lab.underlay().ip(&format!("address add {OUTSIDE}/24 dev br0"));
    lab.underlay().ip(&format!("address add {OUTSIDE6}/64 dev br0 nodad"));
    lab.underlay().path()
}

fn network(lab: &Lab) {
    lab.network("net", &["--subnet", "10.73.0.0/24", "--subnet", "fd73::/64"]);
}

pub fn path(container: &Container) -> &Path {
    Path::new(container.path_text())
}

/// An address of an endpoint, of a family.
pub fn own(answer: &serde_json::Value, ipv6: bool) -> String {
    let all = answer["addresses"].as_array().unwrap().iter();
    let mut all = all.map(|one| one.as_str().unwrap().split('/').next().unwrap().to_owned());
    all.find(|one| one.contains(':') == ipv6).unwrap()
}

pub fn at(address: &str, port: u16) -> String {
    SocketAddr::new(address.parse().unwrap(), port).to_string()
}

#[test]
fn from_outside_from_nodes_and_from_containers_it_is_reached_and_sees_who_asks_and_nothing_else_is() {
    let lab = lab!(2).cluster();
    network(&lab);
    let client = outside(&lab);
    let (one, two) = (lab.node(1), lab.node(2));
    firewall(one);
    // The strictest that a node can be, and nobody has said that it forwards.
    let strict = "for f in all default eth0; do echo 1 >/proc/sys/net/ipv4/conf/$f/rp_filter; done; \
                  echo 0 >/proc/sys/net/ipv4/ip_forward";
    assert!(one.netns().command("sh").args(["-c", strict]).status().unwrap().success());
    let container = Container::named("w");
    // As Docker has it: another interface, with the default route.
    one.netns().ip("link add docker0 type bridge");
    one.netns().ip("address add 172.30.0.1/24 dev docker0");
    one.netns().ip("link set docker0 up");
    let beside = Container::named("d");
    for (container, name, address) in [(&container, "pw", "172.30.0.2/24"), (&beside, "pd", "172.30.0.3/24")]
    {
        let far = Path::new(container.path_text()).file_name().unwrap().to_str().unwrap();
        one.netns().ip(&format!("link add {name} type veth peer name eth1 netns {far}"));
        one.netns().ip(&format!("link set {name} master docker0 up"));
        container.ip(&format!("address add {address} dev eth1"));
        container.ip("link set eth1 up");
        container.ip("route add default via 172.30.0.1");
    }
    let published =
        ["--publish", "8080:8000", "--publish", "8080:8000/udp", "--publish", "127.0.0.1:8081:8000"];
    one.try_attach("net", "w", &container, &published).success();
    let _server = Server::start(&container, "w", PORT);
    let _other = Server::start(&container, "w", 8001);

    let node = one.netns().path();
    let (here, here6) = ("192.0.2.1", "2001:db8::1");
    for (from, address, seen) in [
        (&*client, here, OUTSIDE),
        (&*client, here6, OUTSIDE6),
        (&*two.netns().path(), here, "192.0.2.2"),
        (&*two.netns().path(), here6, "2001:db8::2"),
        (&*node, here, here),
        (&*node, here6, here6),
        (path(&beside), "172.30.0.1", "172.30.0.3"),
        (path(&beside), here, "172.30.0.3"),
    ] {
        let expected = format!("w {seen}");
        wait_until(&format!("{seen} is answered at {address}"), SOON, || tcp(from, &at(address, 8080)));
        assert_eq!(tcp(from, &at(address, 8080)).as_ref(), Ok(&expected), "{address} from {from:?}");
        assert_eq!(udp(from, &at(address, 8080), 10).as_ref(), Ok(&expected), "{address} from {from:?}");
    }
    // In the network all is as it was.
    let far = Container::named("far");
    let answer = two.attach("net", "far", &far);
    let _far = Server::start(&far, "far", PORT);
    for ipv6 in [false, true] {
        wait_until("the network is reached", SOON, || tcp(path(&container), &at(&own(&answer, ipv6), PORT)));
        assert!(udp(path(&container), &at(&own(&answer, ipv6), PORT), 10).is_ok());
    }
    // By itself too, from the address that the node knows it by.
    for _ in 0..2 {
        assert_eq!(tcp(path(&container), &at(here, 8080)), Ok("w 10.73.0.1".to_owned()));
    }
    // More than fits into a packet, both ways.
    let mut stream = within(&client, || TcpStream::connect(at(here, 8080)).unwrap());
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(&vec![b'?'; 20_000]).unwrap();
    let line = format!("w {OUTSIDE}\n");
    let mut answers = vec![0; 20_000 * line.len()];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers, line.repeat(20_000).into_bytes());
    // What does not fit into one packet comes in pieces.
    assert_eq!(udp(&client, &at(here, 8080), 4000), Ok(format!("w {OUTSIDE}")));
    // By the loopback, which has no address that could be seen elsewhere.
    for address in ["127.0.0.1", "::1"] {
        assert!(tcp(&node, &at(address, 8080)).unwrap().starts_with("w "), "{address}");
        assert!(udp(&node, &at(address, 8080), 10).unwrap().starts_with("w "), "{address}");
    }
    assert!(tcp(&node, "127.0.0.1:8081").unwrap().starts_with("w "));
    tcp(&client, &at(here, 8081)).unwrap_err();

    // Nothing else: neither what else it listens on, nor its address, nor another node's port, nor the node from there.
    let answer = one.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let answer = answer.as_array().unwrap().iter().find(|one| one["name"] == "w").unwrap();
    assert_eq!(answer["publish"], json!(["8080:8000/tcp", "8080:8000/udp", "127.0.0.1:8081:8000/tcp"]));
    let (address, address6) = (own(answer, false), own(answer, true));
    lab.underlay().ip("route add 10.73.0.0/24 via 192.0.2.1");
    lab.underlay().ip("-6 route add fd73::/64 via 2001:db8::1");
    let unlock = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; nft delete table ip filter; \
                  nft delete table ip6 filter; nft delete table inet wall";
    assert!(one.netns().command("sh").args(["-c", unlock]).status().unwrap().success());
    for closed in
        [at(here, 8001), at(here, PORT), at(&address, PORT), at(&address6, PORT), at("192.0.2.2", 8080)]
    {
        let told = tcp(&client, &closed).unwrap_err();
        assert!(!told.contains("closed"), "{closed}: {told}");
    }
    for closed in [at(&address, PORT), at(&address6, PORT)] {
        tcp(&node, &closed).unwrap_err();
    }
    let listener = within(&node, || TcpListener::bind(("0.0.0.0", 9000)).unwrap());
    listener.set_nonblocking(true).unwrap();
    container.ip("route del default");
    for address in [here, "10.73.0.1", "169.254.0.1", "172.30.0.1"] {
        let way = format!("route replace {address}/32 via 10.73.0.1");
        let _ = container.command("ip").args(way.split_whitespace()).output();
        tcp(path(&container), &at(address, 9000)).unwrap_err();
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(tcp(&client, &at(here, 8080)), Ok(format!("w {OUTSIDE}")), "without another route too");
    assert_eq!(udp(&client, &at(here, 8080), 10), Ok(format!("w {OUTSIDE}")));
}

#[test]
fn rules_that_were_flushed_come_back_and_meanwhile_nothing_is_open_and_a_restart_changes_nothing() {
    let lab = lab!(1).cluster();
    network(&lab);
    let client = outside(&lab);
    let one = lab.node(1);
    let container = Container::named("w");
    one.lanmesh(["service", "create", "net", "web", "--publish", "8082:8000"]).success();
    let answer =
        one.try_attach("net", "w", &container, &["--service", "web", "--publish", "8080:8000"]).json();
    let _server = Server::start(&container, "w", PORT);
    let target = at("192.0.2.1", 8080);
    wait_until("it is reached", SOON, || tcp(&client, &target));
    let mut held = within(&client, || TcpStream::connect(&target).unwrap());
    ask(&mut held).unwrap();
    let rules = || {
        let on_node = one.netns().command("nft").args(["-a", "list", "ruleset"]).output().unwrap();
        let in_network = one.network_exec("net", &["nft", "-a", "list", "table", "inet", "lanmesh-ports"]);
        // The guard of the underlay counts.
        let on_node = String::from_utf8_lossy(&on_node.stdout).into_owned();
        let ours = on_node.split("table ").filter(|table| !table.starts_with("inet"));
        ours.collect::<String>() + &in_network.success()
    };
    let before = rules();
    assert!(before.contains("handle"), "{before}");
    one.kill();
    assert!(ask(&mut held).is_ok(), "the agent is not needed");
    one.start_and_wait();
    assert!(ask(&mut held).is_ok());
    wait_until("nothing is to be done", SOON, || {
        let plan = one.lanmesh(["plan", "--json"]).json();
        if plan["operations"] == json!([]) { Ok(()) } else { Err(plan.to_string()) }
    });
    assert_eq!(rules(), before, "nothing was made anew");

    // While nobody puts anything back nothing is open: not on the node,
    lab.underlay().ip("route add 10.73.0.0/24 via 192.0.2.1");
    let open = "echo 1 >/proc/sys/net/ipv4/ip_forward; nft flush ruleset";
    let flush = || assert!(one.netns().command("sh").args(["-c", open]).status().unwrap().success());
    let inside = at(&own(&answer, false), PORT);
    one.kill();
    flush();
    for closed in [&target, &inside] {
        tcp(&client, closed).unwrap_err();
    }
    one.start_and_wait();
    wait_until("it comes back", SOON, || tcp(&client, &target));
    // nor in the network.
    let listener = within(&one.netns().path(), || TcpListener::bind(("0.0.0.0", 9000)).unwrap());
    listener.set_nonblocking(true).unwrap();
    one.network_exec("net", &["nft", "list", "table", "inet", "lanmesh-ports"]).success();
    let network = one.run_dir().join("netns");
    let network = std::fs::read_dir(network).unwrap().next().unwrap().unwrap().path();
    let in_network = format!("nsenter --net={} nft flush ruleset", network.display());
    one.kill();
    let nsenter = std::process::Command::new("sh").args(["-c", &in_network]).output().unwrap();
    assert!(nsenter.status.success(), "{nsenter:?}");
    for closed in [&target, &inside] {
        tcp(&client, closed).unwrap_err();
    }
    container.ip("route add 192.0.2.0/24 via 10.73.0.1");
    tcp(path(&container), &at("192.0.2.1", 9000)).unwrap_err();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    one.start_and_wait();
    wait_until("it comes back", SOON, || tcp(&client, &target));

    // Under an agent that runs.
    flush();
    wait_until("it comes back", Duration::from_secs(45), || tcp(&client, &target));
    // A device that somebody removes too.
    let gate = one.netns().links().into_iter().find(|name| name.starts_with("lmg")).unwrap();
    one.netns().ip(&format!("link delete {gate}"));
    wait_until("it comes back", Duration::from_secs(45), || tcp(&client, &target));
}

#[test]
fn who_feigns_to_be_what_stands_for_the_loopback_reaches_nothing_on_the_loopback() {
    let lab = lab!(1).cluster();
    network(&lab);
    let client = outside(&lab);
    let one = lab.node(1);
    let container = Container::named("w");
    one.try_attach("net", "w", &container, &["--publish", "8080:8000", "--publish", "8080:8000/udp"])
        .success();
    let _server = Server::start(&container, "w", PORT);
    one.netns().ip("route add default via 192.0.2.200");
    one.netns().ip("-6 route add default via 2001:db8::200");
    for (stands, own, here) in
        [("169.254.0.2", "127.0.0.1", "192.0.2.1"), ("fd6c:616e:6d65:7368::2", "::1", "2001:db8::1")]
    {
        wait_until("it is reached", SOON, || udp(&client, &at(here, 8080), 1));
        let prefix = if stands.contains(':') { "128 nodad" } else { "32" };
        lab.underlay().ip(&format!("address add {stands}/{prefix} dev br0"));
        let bound = |netns: &Path, address: &str| {
            let socket = within(netns, || UdpSocket::bind(at(address, 4999)).unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (trusting, feigned) = (bound(&one.netns().path(), own), bound(&client, stands));
        feigned.send_to(b"?", at(here, 8080)).unwrap();
        // In pieces, which takes the other way to the gate.
        feigned.send_to(&[b'?'; 4000], at(here, 8080)).unwrap();
        let mut buffer = [0; 64];
        let heard = trusting.recv_from(&mut buffer);
        assert!(heard.is_err(), "{own} hears {heard:?} of {stands}");
    }
}

#[test]
fn a_port_that_somebody_has_is_refused_with_his_name_and_what_is_removed_leaves_nothing() {
    let lab = lab!(2).cluster();
    network(&lab);
    let client = outside(&lab);
    let one = lab.node(1);
    let (first, second) = (Container::named("a"), Container::named("b"));
    one.try_attach("net", "a", &first, &["--publish", "8080:8000"]).success();
    let refused = |more: &[&str]| one.try_attach("net", "b", &second, more).refusal();
    let told = refused(&["--publish", "192.0.2.1:8080:9"]);
    assert!(told.contains("endpoint a of network net has port 192.0.2.1:8080/tcp of this node"), "{told}");
    let listener = within(&one.netns().path(), || TcpListener::bind(("192.0.2.1", 8090)).unwrap());
    let told = refused(&["--publish", "8090:9"]);
    let process = std::fs::read_to_string("/proc/self/comm").unwrap();
    let named = format!("{} (process {}) listens on 192.0.2.1:8090", process.trim(), std::process::id());
    assert!(told.contains(&named), "{told}");
    drop(listener);
    for own in ["7979:9", "7979:9/udp", "4789:9/udp"] {
        assert!(
            refused(&["--publish", own]).contains("the cluster itself needs port"),
            "{own} is the node's"
        );
    }
    // The last is the broadcast address of its subnet, to which a socket may be bound.
    for foreign in ["192.0.2.7", "[2001:db8::7]", "192.0.2.255"] {
        let told = refused(&["--publish", &format!("{foreign}:8090:9")]);
        assert!(told.contains(&format!("no address {}", foreign.trim_matches(['[', ']']))), "{told}");
    }
    let told = refused(&["--publish", "8090:9", "--publish", "192.0.2.1:8090:9"]);
    assert!(told.contains("there twice"), "{told}");
    let told = one.try_attach("net", "b", &second, &["--publish", "8080"]).ok().unwrap_err();
    assert!(told.contains("8080:80"), "{told}");
    let host =
        one.lanmesh(["attach", "net", "--name", "h", "--host", "--publish", "8090:9"]).ok().unwrap_err();
    assert!(host.contains("--host"), "{host}");
    assert!(second.links().is_empty());
    // The same port of another kind is another one, and another node has its own.
    one.try_attach("net", "b", &second, &["--publish", "8080:8000/udp"]).success();
    let third = Container::named("c");
    lab.node(2).try_attach("net", "c", &third, &["--publish", "8080:8000"]).success();

    // Of two services on one node the second is refused, and so is an endpoint that would bring it there.
    one.lanmesh(["service", "create", "net", "web", "--publish", "80:8000"]).success();
    let told = one.lanmesh(["service", "create", "net", "api", "--publish", "8080:8000"]).success();
    assert!(told.contains("api"), "{told}");
    let fourth = Container::named("e");
    let told = one.try_attach("net", "e", &fourth, &["--service", "api"]).refusal();
    assert!(told.contains("endpoint a of network net has port 8080/tcp"), "{told}");
    one.try_attach("net", "e", &fourth, &["--service", "web"]).success();
    let told = one.lanmesh(["service", "create", "net", "web", "--publish", "8080:8000"]).refusal();
    assert!(told.contains("endpoint a of network net has port 8080/tcp"), "{told}");
    let table = one.lanmesh(["service", "ls"]).success();
    assert!(table.contains("80:8000/tcp"), "{table}");

    for name in ["a", "b", "e"] {
        one.detach("net", name);
    }
    wait_until("nothing is left on the node", SOON, || {
        let tables = one.netns().command("nft").args(["list", "tables"]).output().unwrap();
        let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
        let rest = tables.lines().filter(|line| line.contains("lanmesh") && !line.contains("inet")).count();
        let links = one.netns().links();
        let ways = one.run_dir().join("ways").exists();
        let left = rest > 0 || links.iter().any(|name| name.starts_with("lmg")) || ways;
        if left { Err(format!("{tables} {links:?} {ways}")) } else { Ok(()) }
    });
    for container in [&first, &second, &fourth] {
        for family in ["-4", "-6"] {
            let rules = container.ip(&format!("{family} rule show"));
            assert!(!rules.contains("760") && !rules.contains("40000"), "{rules}");
        }
    }
    tcp(&client, &at("192.0.2.1", 8080)).unwrap_err();
    // Nor of a node that leaves with what it has.
    let two = lab.node(2);
    assert!(two.netns().links().iter().any(|name| name.starts_with("lmg")));
    two.lanmesh(["leave"]).success();
    assert!(!two.netns().links().iter().any(|name| name.starts_with("lmg")), "{:?}", two.netns().links());
    let tables = two.netns().command("nft").args(["list", "tables"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&tables.stdout).contains("lanmesh"), "{tables:?}");
    assert!(!third.ip("rule show").contains("760") && !two.run_dir().join("ways").exists());
}

#[test]
fn a_service_is_published_where_it_has_endpoints_and_by_one_document() {
    let lab = lab!(2).cluster();
    network(&lab);
    let client = outside(&lab);
    let (one, two) = (lab.node(1), lab.node(2));
    let (first, second) = (Container::named("a"), Container::named("b"));
    let document = json!({
        "networks": {"net": {"subnets": ["10.73.0.0/24", "fd73::/64"]}},
        "services": {"net": {"web": {"publish": ["8080:8000"]}}},
        "endpoints": {"net": {
            "a": {"netns": first.path_text(), "service": "web"},
            "b": {"netns": second.path_text(), "service": "web", "publish": ["8081:8000"]},
        }},
    });
    let (status, answer) = one.http("PUT", "/v1/desired", &document.to_string());
    assert_eq!((status, &answer["failed"]), (200, &json!(0)), "{answer}");
    let (_, there) = one.http("GET", "/v1/desired", "");
    assert_eq!(there["services"]["net"]["web"]["publish"], json!(["8080:8000/tcp"]));
    assert_eq!(there["endpoints"]["net"]["b"]["publish"], json!(["8081:8000/tcp"]));
    let inspected = one.lanmesh(["service", "inspect", "net", "web"]).json();
    assert_eq!(inspected["publish"], json!(["8080:8000/tcp"]));
    let _servers = [Server::start(&first, "a", PORT), Server::start(&second, "b", PORT)];
    let reached = |node: &Node| -> BTreeSet<String> {
        let target = at(&node.address(), 8080);
        let answers = (0..40).map(|_| tcp(&client, &target).map_err(|error| format!("{error} at {target}")));
        answers.map(|answer| answer.map_or_else(|error| error, |answer| answer[..1].to_owned())).collect()
    };
    let both: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
    wait_until("both are reached", SOON, || {
        let reached = reached(one);
        if reached == both { Ok(()) } else { Err(format!("{reached:?}")) }
    });
    assert_eq!(tcp(&client, &at("192.0.2.1", 8081)), Ok(format!("b {OUTSIDE}")));
    // A node without an endpoint of it has no such port, until one comes.
    tcp(&client, &at("192.0.2.2", 8080)).unwrap_err();
    let third = Container::named("c");
    two.try_attach("net", "c", &third, &["--service", "web"]).success();
    let _server = Server::start(&third, "c", PORT);
    wait_until("the other node has it too", SOON, || tcp(&client, &at("192.0.2.2", 8080)));
    assert_eq!(reached(two), ["c".to_owned()].into());

    let mut held = loop {
        let mut stream = within(&client, || TcpStream::connect("192.0.2.1:8080").unwrap());
        stream.set_read_timeout(Some(SOON)).unwrap();
        if ask(&mut stream).unwrap().starts_with('b') {
            break stream;
        }
    };
    one.lanmesh(["endpoint", "drain", "net", "b"]).success();
    wait_until("no new connections", SOON, || {
        let reached = reached(one);
        if reached == ["a".to_owned()].into() { Ok(()) } else { Err(format!("{reached:?}")) }
    });
    assert!(ask(&mut held).unwrap().starts_with('b'), "old ones live on");
    one.detach("net", "b");
    wait_until("the last one has it alone", SOON, || {
        let reached = reached(one);
        if reached == ["a".to_owned()].into() { Ok(()) } else { Err(format!("{reached:?}")) }
    });
    assert!(ask(&mut held).is_err(), "one whose endpoint went is ended");
    one.lanmesh(["service", "rm", "net", "web"]).success();
    tcp(&client, &at("192.0.2.1", 8080)).unwrap_err();
}

#[test]
fn two_networks_with_one_subnet_have_their_own_ports_and_one_may_be_encrypted() {
    let lab = lab!(1).cluster();
    let client = outside(&lab);
    let one = lab.node(1);
    let subnet = ["--subnet", "10.74.0.0/24", "--subnet", "fd74::/64"];
    lab.network("plain", &subnet);
    lab.network("secret", &[&subnet[..], &["--encrypt", "wireguard"]].concat());
    let (first, second) = (Container::named("a"), Container::named("b"));
    let attach = |network: &str, name: &str, container: &Container, port: &str| {
        let more = ["--ip", "10.74.0.10", "--publish", port];
        one.try_attach(network, name, container, &more).success();
    };
    attach("plain", "a", &first, "8080:8000");
    attach("secret", "b", &second, "8081:8000");
    let refused =
        one.try_attach("secret", "c", &Container::named("c"), &["--publish", "8080:8000"]).refusal();
    assert!(refused.contains("endpoint a of network plain has port 8080/tcp"), "{refused}");
    let _servers = [Server::start(&first, "a", PORT), Server::start(&second, "b", PORT)];
    for (address, seen) in [("192.0.2.1", OUTSIDE), ("2001:db8::1", OUTSIDE6)] {
        for (port, name) in [(8080, "a"), (8081, "b")] {
            wait_until("it is reached", SOON, || tcp(&client, &at(address, port)));
            assert_eq!(tcp(&client, &at(address, port)), Ok(format!("{name} {seen}")));
        }
    }
    // One goes, and the other does not notice.
    let mut held = within(&client, || TcpStream::connect("192.0.2.1:8081").unwrap());
    held.set_read_timeout(Some(SOON)).unwrap();
    ask(&mut held).unwrap();
    one.detach("plain", "a");
    assert_eq!(ask(&mut held), Ok(format!("b {OUTSIDE}")));
    tcp(&client, "192.0.2.1:8080").unwrap_err();
}

#[test]
fn what_an_agent_that_is_no_more_published_is_cleaned_up() {
    let lab = lab!(1).cluster();
    network(&lab);
    let one = lab.node(1);
    let container = Container::named("w");
    one.try_attach("net", "w", &container, &["--publish", "8080:8000"]).success();
    one.kill();
    let told = crate::leftovers::cleanup(one, &[]).to_string();
    assert!(told.contains("doors delete") && told.contains("ports delete gate"), "{told}");
    assert!(!one.netns().links().iter().any(|name| name.starts_with("lmg")), "{:?}", one.netns().links());
    let tables = one.netns().command("nft").args(["list", "tables"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&tables.stdout).contains("lanmesh"), "{tables:?}");
    for family in ["-4", "-6"] {
        let rules = container.ip(&format!("{family} rule show"));
        assert!(!rules.contains("760") && !rules.contains("40000"), "{rules}");
    }
}
