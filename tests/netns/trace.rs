//! `lanmesh trace`: what stands in the way is made for real, fault after fault, and each has its sentence.
//!
//! The agent puts back what something else changed. So each fault is made anew for each trace, until one comes in between.

use std::process::Command;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, socket};
use serde_json::Value;

use crate::encrypted::{devices, in_mesh};
use crate::harness::{Container, Lab, Listener, Node, SOON, lab, need, ping, wait_until, within};
use crate::paths::KNOWN;
use crate::unicast::address;

const GROUP: &str = "239.1.1.1";

/// What one trace says is to be mended first, with the hint, and whether that is all that it says.
fn traced(node: &Node, arguments: &[&str]) -> (String, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanmesh"));
    command.env("LANMESH_SOCKET", node.socket()).arg("trace").args(arguments).arg("--json");
    let output = command.output().expect("the command can be run");
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: one document ({error}): {output:?}"));
    let problem = &answer["problem"];
    assert_eq!(
        output.status.success(),
        problem.is_null() && answer["ok"] == true,
        "{arguments:?}: {output:?}"
    );
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    (format!("{}: {}", text("what"), text("hint")), answer)
}

/// All that a trace says is wrong.
fn all_wrong(answer: &Value) -> Vec<String> {
    let hops = answer["hops"].as_array().into_iter().flatten();
    let wrong = hops.flat_map(|hop| hop["wrong"].as_array().into_iter().flatten());
    wrong.map(|wrong| wrong["what"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until a trace finds nothing wrong.
pub fn wait_ok(node: &Node, arguments: &[&str]) -> Value {
    wait_until(&format!("{} traces {arguments:?} without a fault", node.name()), KNOWN, || {
        let (problem, answer) = traced(node, arguments);
        if answer["ok"] == true { Ok(answer) } else { Err(format!("{problem}: {:?}", all_wrong(&answer))) }
    })
}

/// Makes a fault, traces, until the trace begins with this sentence, and mends it.
pub fn fault(node: &Node, arguments: &[&str], make: &dyn Fn(), parts: &[&str], mend: &dyn Fn()) {
    wait_until(&format!("a trace {arguments:?} says {parts:?}"), KNOWN, || {
        make();
        let (problem, answer) = traced(node, arguments);
        if parts.iter().all(|part| problem.contains(part)) {
            Ok(())
        } else {
            Err(format!("{problem}; of all: {:?}", all_wrong(&answer)))
        }
    });
    mend();
}

/// Runs a command line in a node; it may fail where what it is about is gone already.
pub fn run(node: &Node, line: &str) {
    drop(node.netns().command("sh").args(["-c", line]).output().expect("it can be run"));
}

/// The same in the namespace of a network.
pub fn network(node: &Node, name: &str, line: &str) {
    drop(node.network_exec(name, &["sh", "-c", line]));
}

/// The same in a container.
pub fn inside(container: &Container, line: &str) {
    drop(container.command("sh").args(["-c", line]).output().expect("it can be run"));
}

/// Has the agent look at a network: what is wrong there is put back at once.
fn nudge(node: &Node, name: &str) {
    network(node, name, "ip link set br0 mtu 1300");
}

/// The name of the port of the only endpoint that a node has in a network.
fn port(node: &Node, name: &str) -> String {
    node.network_links(name)
        .into_iter()
        .find(|link| link.starts_with("lm") && !link.starts_with("lmg"))
        .expect("a port")
}

/// An attribute of netlink.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).expect("it is short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Takes a receiver of a group from the MDB of `vx0`: iproute2 of Debian 12 knows no receivers.
fn forget_receiver(node: &Node, name: &str, group: [u8; 4], receiver: [u8; 4]) {
    const RTM_DELMDB: u16 = 85;
    let namespace = node.lanmesh(["network", "inspect", name, "--json"]).json()["netns"].clone();
    let namespace = namespace.as_str().expect("it is here").to_owned();
    let links = node.network_exec(name, &["ip", "-j", "link", "show", "dev", "vx0"]).json();
    let vxlan = u32::try_from(links[0]["ifindex"].as_u64().expect("an index")).expect("it is small");
    // struct br_mdb_entry: index, state (permanent), flags, VLAN, group in 16 bytes, protocol.
    let mut entry = vxlan.to_ne_bytes().to_vec();
    entry.extend([1, 0, 0, 0]);
    entry.extend(group);
    entry.resize(24, 0);
    entry.extend([8, 0, 0, 0]);
    let mut body = vec![7, 0, 0, 0];
    body.extend(vxlan.to_ne_bytes());
    body.extend(attribute(1, &entry));
    body.extend(attribute(2 | 0x8000, &attribute(5, &receiver)));
    let mut message = u32::try_from(16 + body.len()).expect("it is short").to_ne_bytes().to_vec();
    message.extend(RTM_DELMDB.to_ne_bytes());
    message.extend(1u16.to_ne_bytes());
    message.resize(16, 0);
    message.extend(body);
    within(namespace.as_ref(), || {
        use std::os::fd::AsRawFd;
        let netlink =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkRoute)
                .expect("root may have a socket");
        send(netlink.as_raw_fd(), &message, MsgFlags::empty()).expect("the kernel takes it");
    });
}

/// A lab of three nodes with an endpoint each: cN in the plain network `net`, eN in the encrypted one `sec`.
struct Scene {
    lab: Lab,
    plain: Vec<Container>,
    _encrypted: Vec<Container>,
    addresses: Vec<String>,
}

fn scene(lab: Lab) -> Scene {
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    lab.network("sec", &["--subnet", "10.96.0.0/24", "--encrypt", "wireguard"]);
    let (mut plain, mut encrypted, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for node in lab.nodes() {
        let n = node.number();
        let container = Container::named(&format!("c{n}"));
        let more: &[&str] = if n == 2 { &["--service", "web"] } else { &[] };
        addresses.push(address(&node.try_attach("net", &format!("c{n}"), &container, more).json(), 0));
        plain.push(container);
        let container = Container::named(&format!("e{n}"));
        wait_until("it is attached", SOON, || node.try_attach("sec", &format!("e{n}"), &container, &[]).ok());
        encrypted.push(container);
    }
    Scene { lab, plain, _encrypted: encrypted, addresses }
}

#[test]
fn each_fault_on_a_way_has_its_sentence_and_what_is_well_has_none() {
    need!("nft", "bridge", "faketime");
    let scene = scene(lab!(3).cluster());
    let (lab, one, two) = (&scene.lab, scene.lab.node(1), scene.lab.node(2));
    let there = scene.addresses[1].as_str();
    let nothing = || {};
    for (from, to) in [("c1", "c2"), ("c1", there), ("net/c3", "c1"), ("e1", "e2"), ("n1", "n3")] {
        let answer = wait_ok(one, &[from, to]);
        assert!(answer["hops"].as_array().is_some_and(|hops| hops.len() > 8), "{answer}");
    }
    // Of a third node, which has nothing to do with it.
    let text = lab.node(3).lanmesh(["trace", "c1", "c2"]).success();
    for part in [
        "from endpoint c1 (network net on node n1)",
        "n1",
        "fdb",
        "at 192.0.2.2",
        "n2",
        "reach",
        "answers for",
        "Nothing is wrong.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    wait_ok(one, &["c1", "broadcast"]);
    let unknown = one.lanmesh(["trace", "c1", "nobody"]).refusal();
    assert!(unknown.contains("nobody is \"nobody\"") && unknown.contains("whois"), "{unknown}");
    let gateway = one.lanmesh(["trace", "c1", "10.95.0.1"]).refusal();
    assert!(gateway.contains("10.95.0.1 is the gateway of network net"), "{gateway}");
    let long = one.lanmesh(["trace", "c1", &"x".repeat(5000)]).refusal();
    assert!(long.contains("nobody is \"xxx") && long.len() < 500, "{long}");
    let apart = one.lanmesh(["trace", "c1", "e2"]).refusal();
    assert!(apart.contains("are in no network together"), "{apart}");

    entries(&scene);
    devices_of_the_network(&scene);
    containers(&scene);
    // What the table of the underlay has to do with it, and what is between.
    let table = || {
        let list = two.netns().command("nft").args(["list", "tables"]).output().expect("nft can be run");
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        list.lines()
            .find_map(|line| line.strip_prefix("table inet lanmesh-"))
            .map(|id| format!("inet lanmesh-{id}"))
            .unwrap_or_default()
    };
    let guard = table();
    let put_back = format!("nft add element {guard} vteps '{{ 192.0.2.1 }}'");
    fault(
        one,
        &["c1", "c2"],
        &|| run(two, &format!("nft delete element {guard} vteps '{{ 192.0.2.1 }}'")),
        &["node n2 drops the VXLAN packets of node n1", "192.0.2.1 is missing in the guard"],
        &|| run(two, &put_back),
    );
    let dropped = |at: &str| {
        format!(
            "nft 'add table ip fault; add chain ip fault f {{ type filter hook {at} priority 0; }}; flush chain ip fault f; add rule ip fault f udp dport 4789 {}'",
            "drop"
        )
    };
    let mend = |node: &Node| run(node, "nft delete table ip fault");
    fault(
        one,
        &["c1", "c2"],
        &|| {
            ["input", "output"]
                .iter()
                .for_each(|at| run(two, &dropped(at).replace("fault", &format!("fault{at}"))));
        },
        &["nothing arrives from node n2", "port 4789"],
        &|| ["input", "output"].iter().for_each(|at| run(two, &format!("nft delete table ip fault{at}"))),
    );
    fault(
        one,
        &["c1", "c2"],
        &|| run(two, &dropped("input").replace("udp dport", "ip saddr 192.0.2.1 udp dport")),
        &["on node n1", "nothing that this node sends arrives at node n2", "UDP from 192.0.2.1 to 192.0.2.2"],
        &|| mend(two),
    );
    fault(
        one,
        &["c1", "c2"],
        &|| run(one, &dropped("input").replace("udp dport", "ip saddr 192.0.2.2 udp dport")),
        &["on node n2", "nothing that this node sends arrives at node n1", "UDP from 192.0.2.2 to 192.0.2.1"],
        &|| mend(one),
    );
    fault(
        one,
        &["c1", "c2"],
        &|| drop(lab.underlay().ip("link set n2 mtu 1400")),
        &["packets of 1450 bytes do not pass to node n2 and back", "--mtu 13"],
        &|| drop(lab.underlay().ip("link set n2 mtu 1500")),
    );
    fault(
        one,
        &["c1", "c2"],
        &|| run(one, "ip route replace unreachable 192.0.2.2/32"),
        &["node n1 has no route to node n2 (192.0.2.2)"],
        &|| run(one, "ip route del unreachable 192.0.2.2/32"),
    );
    // A neighbour that is none: neither frames nor the other's agent are reached.
    let nobody = "ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:01 dev eth0 nud permanent";
    fault(
        one,
        &["c1", "c2"],
        &|| run(one, nobody),
        &[
            "node n1 does not reach the agent of node n2 either (192.0.2.2, TCP port 7979)",
            "ip neigh show 192.0.2.2",
        ],
        &|| run(one, "ip neigh del 192.0.2.2 dev eth0"),
    );
    wait_ok(one, &["c1", "c2"]);
    tunnels(&scene);
    services(&scene);
    fault(
        one,
        &["c1", "c2"],
        &|| run(two, "nft flush ruleset"),
        &["the rules that keep VXLAN of strangers off node n2 are gone"],
        &nothing,
    );
    lab.node(3).kill();
    fault(one, &["c1", "c3"], &nothing, &["the agent of node n3 does not answer"], &|| {
        lab.node(3).start_and_wait();
    });
    wait_ok(one, &["c1", "c3"]);
    clock(&scene);
    wait_ok(one, &["c1", "c3"]);
    other_way(&scene);
}

/// A node whose clock is off.
fn clock(scene: &Scene) {
    let (one, three) = (scene.lab.node(1), scene.lab.node(3));
    three.kill();
    three.start_under(&["faketime", "-f", "+90s"]);
    three.wait_ready();
    let sentence = "the clock of node n3 is 90 s ahead of this node's";
    fault(one, &["c1", "c3"], &|| {}, &["on node n1", sentence, "time server"], &|| {
        three.kill();
        three.start_and_wait();
    });
}

/// Packets that come in by another interface than answers would leave by.
fn other_way(scene: &Scene) {
    let (one, two) = (scene.lab.node(1), scene.lab.node(2));
    scene.lab.underlay().ip("link add n1b type veth peer name eth1 netns n1");
    scene.lab.underlay().ip("link set n1b master br0 up");
    run(one, "ip link set eth1 up; for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done");
    let mac = one.netns().ip_json("link show dev eth0")[0]["address"].as_str().expect("a MAC").to_owned();
    run(two, &format!("ip neigh replace 192.0.2.1 lladdr {mac} dev eth0 nud permanent"));
    let astray = || run(one, "ip route replace 192.0.2.2/32 dev eth1");
    fault(
        one,
        &["c1", "c2"],
        &astray,
        &["on node n1", "packets are dropped at", "eth0", "rp_filter=2"],
        &|| {
            run(one, "ip route del 192.0.2.2/32 dev eth1; ip link del eth1");
        },
    );
    wait_ok(one, &["c1", "c2"]);
}

/// What is missing or wrong in the FDB, among the neighbours, in the MDB.
fn entries(scene: &Scene) {
    let one = scene.lab.node(1);
    let there = scene.addresses[1].as_str();
    let mac = scene.plain[1].ip_json("link show dev eth0")[0]["address"].as_str().expect("a MAC").to_owned();
    let in_net = |line: String| move || network(one, "net", &line);
    let nudged = || nudge(one, "net");
    let way: &[&str] = &["c1", "c2"];
    let no_entry = in_net(format!("bridge fdb del {mac} dev vx0 self"));
    fault(
        one,
        way,
        &no_entry,
        &["the FDB of node n1 has no entry for the endpoint", &mac, "put_back"],
        &nudged,
    );
    let astray = in_net(format!(
        "bridge fdb del {mac} dev vx0 self; bridge fdb add {mac} dev vx0 dst 192.0.2.3 self static"
    ));
    let sentence = format!("sends frames for the endpoint ({mac}) to 192.0.2.3, and node n2 is at 192.0.2.2");
    fault(one, way, &astray, &[&sentence], &nudged);
    let no_probes = in_net("bridge fdb del 02:6c:70:00:00:01 dev vx0 self".to_owned());
    fault(one, way, &no_probes, &["no entry for probes of node n2"], &nudged);
    let no_neighbour = in_net(format!("ip neigh del {there} dev br0"));
    fault(one, way, &no_neighbour, &["node n1 does not know the MAC of", there], &nudged);
    let wrong = in_net(format!("ip neigh replace {there} lladdr 02:00:00:00:00:01 dev br0 nud permanent"));
    fault(
        one,
        way,
        &wrong,
        &["answers its endpoints that ask for", "with the MAC 02:00:00:00:00:01", &mac],
        &nudged,
    );
    let no_flood = in_net("bridge fdb del 00:00:00:00:00:00 dev vx0 dst 192.0.2.2 self".to_owned());
    let sentence = "node n2 is missing in the list of node n1 by which broadcast goes to all";
    fault(one, &["c1", "broadcast"], &no_flood, &[sentence], &nudged);
    let group = ["c1", "c2", "--group", GROUP];
    fault(one, &group, &|| {}, &["endpoint c2 has not joined 239.1.1.1"], &|| {});
    fault(one, &["c1", GROUP], &|| {}, &["nobody else in network net has joined 239.1.1.1"], &|| {});
    let _listener = Listener::open(&scene.plain[1], 5700, Some(GROUP.parse().expect("a group")));
    wait_ok(one, &group);
    wait_ok(one, &["c1", GROUP]);
    let no_receiver = || forget_receiver(one, "net", [239, 1, 1, 1], [192, 0, 2, 2]);
    let sentence = "the MDB of node n1 does not send 239.1.1.1 to node n2, which has a member";
    fault(one, &group, &no_receiver, &[sentence], &nudged);
    fault(one, &["c1", "c3", "--group", GROUP], &|| {}, &["no member of 239.1.1.1 on node n3"], &|| {});
    wait_ok(one, way);
}

/// What is down, gone or set otherwise of a network's devices.
fn devices_of_the_network(scene: &Scene) {
    let one = scene.lab.node(1);
    let in_net = |line: String| move || network(one, "net", &line);
    let nudged = || nudge(one, "net");
    let way: &[&str] = &["c1", "c2"];
    let port = port(one, "net");
    let down = in_net("ip link set vx0 down".to_owned());
    fault(one, way, &down, &["the VXLAN device of network net on node n1 is down, off its bridge"], &nudged);
    let vni = one.lanmesh(["network", "inspect", "net", "--json"]).json()["vni"].to_string();
    // A device of somebody else's with the number and the port: ours cannot be made again.
    let stolen = || {
        network(one, "net", "ip link del vx0");
        run(one, &format!("ip link add x type vxlan id {vni} dstport 4789 local 192.0.2.1"));
    };
    fault(
        one,
        way,
        &stolen,
        &[
            "the VXLAN device of network net is not there on node n1",
            "another device may have its port or number",
        ],
        &|| run(one, "ip link del x"),
    );
    wait_ok(one, way);
    let down = in_net("ip link set br0 down".to_owned());
    fault(one, way, &down, &["the bridge of network net on node n1 is down"], &nudged);
    let down = in_net(format!("ip link set {port} down"));
    fault(one, way, &down, &[&format!("the port {port} of endpoint c1 on node n1 is down")], &nudged);
    let not_set = ["the port of endpoint c1 is not set as it should be"];
    for flag in ["isolated on", "flood off", "bcast_flood off", "mcast_flood off", "learning off"] {
        fault(one, way, &in_net(format!("bridge link set dev {port} {flag}")), &not_set, &nudged);
        wait_ok(one, way);
    }
    let apart = in_net("bridge link set dev vx0 isolated on".to_owned());
    let not_set = ["the VXLAN device of network net on node n1 is down, off its bridge, or not set"];
    fault(one, way, &apart, &not_set, &nudged);
    wait_ok(one, way);
    let off = in_net(format!("ip link set {port} nomaster"));
    fault(
        one,
        way,
        &off,
        &[&format!("the port {port} of endpoint c1 is not on the bridge of network net")],
        &nudged,
    );
    let unguarded = in_net(format!(
        "nft list tables | grep {port} | while read -r a b c; do nft delete \"$a\" \"$b\" \"$c\"; done"
    ));
    let sentence = "the rules that keep endpoint c1 to its own addresses are gone from node n1";
    fault(one, way, &unguarded, &[sentence], &nudged);
    let flushed = in_net("nft flush ruleset".to_owned());
    let sentence = "the bridge of network net on node n1 is down, or lacks its marks, its querier or its limit of queries";
    fault(one, way, &flushed, &[sentence], &nudged);
    let bridged = in_net(
        "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'; \
         echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables"
            .to_owned(),
    );
    fault(one, way, &bridged, &["the table ip filter of nf_tables", "nft delete table ip filter"], &|| {
        network(
            one,
            "net",
            "nft delete table ip filter; echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables",
        );
    });
    wait_ok(one, way);
}

/// What is wrong in a container.
fn containers(scene: &Scene) {
    let one = scene.lab.node(1);
    let (here, far) = (&scene.plain[0], &scene.plain[1]);
    let there = scene.addresses[1].as_str();
    let nothing = || {};
    let way: &[&str] = &["c1", "c2"];
    fault(
        one,
        way,
        &|| inside(far, "ip link set eth0 down"),
        &["the interface of endpoint c2 is down in its container", "ip link set eth0 up"],
        &|| inside(far, "ip link set eth0 up"),
    );
    fault(
        one,
        way,
        &|| {
            inside(
                far,
                &format!("ip address add 10.95.0.200/24 dev eth0; ip address del {there}/24 dev eth0"),
            );
        },
        &["endpoint c2 lacks its address", there, "in its container"],
        &|| {
            inside(
                far,
                &format!("ip address del 10.95.0.200/24 dev eth0; ip address add {there}/24 dev eth0"),
            );
        },
    );
    let own = here.ip_json("link show dev eth0")[0]["address"].as_str().expect("a MAC").to_owned();
    fault(
        one,
        way,
        &|| inside(here, "ip link set eth0 address 02:00:00:00:00:99"),
        &["endpoint c1 has the MAC 02:00:00:00:00:99 in its container, and should have", &own],
        &|| inside(here, &format!("ip link set eth0 address {own}")),
    );
    fault(
        one,
        way,
        &|| inside(here, "ip link set eth0 mtu 1000"),
        &["the interface of endpoint c1 takes packets of 1000 bytes, and the network's have 1450"],
        &|| inside(here, "ip link set eth0 mtu 1450"),
    );
    fault(
        one,
        &["c1", "c1"],
        &|| inside(here, "ip link set lo down"),
        &["endpoint c1 does not reach its own addresses: lo is down in its container"],
        &|| inside(here, "ip link set lo up"),
    );
    fault(
        one,
        way,
        &|| inside(here, &format!("ip address add {there}/32 dev lo")),
        &[&format!("the container of endpoint c1 has {there} itself")],
        &|| inside(here, &format!("ip address del {there}/32 dev lo")),
    );
    let route = here.ip("route show dev eth0");
    let route = route.lines().next().expect("a route").trim().to_owned();
    fault(
        one,
        way,
        &|| inside(here, "ip route flush dev eth0"),
        &["the container of endpoint c1 has no route to", there],
        &|| inside(here, &format!("ip route add {route} dev eth0")),
    );
    fault(
        one,
        way,
        &|| {
            inside(
                here,
                &format!(
                    "ip link add v0 type veth peer name v1; ip link set v0 up; ip route replace {there}/32 dev v0"
                ),
            );
        },
        &["leaves its container by v0, and not by eth0"],
        &|| inside(here, "ip link del v0"),
    );
    fault(
        one,
        way,
        &|| {
            inside(
                here,
                &format!("ip neigh replace {there} lladdr 02:00:00:00:00:01 dev eth0 nud permanent"),
            );
        },
        &["the container of endpoint c1 takes 02:00:00:00:00:01 for the MAC of", there],
        &|| inside(here, &format!("ip neigh del {there} dev eth0")),
    );
    fault(
        one,
        way,
        &|| inside(far, "ip link set eth0 arp off"),
        &[
            "the interface of endpoint c2 asks nobody for a MAC in its container (NOARP)",
            "ip link set eth0 arp on",
        ],
        &|| inside(far, "ip link set eth0 arp on"),
    );
    routed_otherwise(one, here, there);
    inside(here, "ip link set eth0 down; ip link set eth0 name lan; ip link set lan up");
    wait_ok(one, way);
    inside(here, "ip link set lan down; ip link set lan name eth0; ip link set eth0 up");
    let port = ["c1", "c2", "--port", "5701"];
    fault(one, &port, &nothing, &["nothing listens at port 5701 in the container of endpoint c2"], &nothing);
    let _listener = Listener::open(far, 5701, None);
    let answer = wait_ok(one, &port);
    assert!(answer.to_string().contains("UDP 0.0.0.0:5701"), "{answer}");
    wait_until("c2 is reached", SOON, || ping(here, there));
}

/// What a container does with what it sends, though it leaves by the right interface.
fn routed_otherwise(node: &Node, here: &Container, there: &str) {
    let way: &[&str] = &["c1", "c2"];
    for kind in ["blackhole", "unreachable", "prohibit"] {
        fault(
            node,
            way,
            &|| inside(here, &format!("ip route replace {kind} {there}/32")),
            &["a route or a rule in the container of endpoint c1 says that nothing goes to", there],
            &|| inside(here, &format!("ip route del {kind} {there}/32")),
        );
    }
    fault(
        node,
        way,
        &|| inside(here, &format!("ip route replace {there}/32 via 10.95.0.250 dev eth0")),
        &["what endpoint c1 sends to", there, "goes by 10.95.0.250"],
        &|| inside(here, &format!("ip route del {there}/32")),
    );
    let route = format!("ip route replace {there}/32 dev eth0 src 10.95.0.200");
    fault(
        node,
        way,
        &|| inside(here, &format!("ip address add 10.95.0.200/32 dev lo; {route}")),
        &["comes from 10.95.0.200, which is none of its addresses", "dropped at its port"],
        &|| inside(here, &format!("ip route del {there}/32; ip address del 10.95.0.200/32 dev lo")),
    );
    fault(
        node,
        way,
        &|| inside(here, "ip link set eth0 arp off"),
        &["the interface of endpoint c1 asks nobody for a MAC", "ip link set eth0 arp on"],
        &|| inside(here, "ip link set eth0 arp on"),
    );
    wait_ok(node, way);
}

/// What is wrong in the mesh below an encrypted network.
fn tunnels(scene: &Scene) {
    let (one, two) = (scene.lab.node(1), scene.lab.node(2));
    let way: &[&str] = &["e1", "e2"];
    wait_ok(one, way);
    let device = || devices(one).first().map(|(name, _)| name.clone()).unwrap_or_default();
    let mesh = |arguments: &str| drop(in_mesh(one, &arguments.split(' ').collect::<Vec<_>>()));
    let routes = || {
        let routes = in_mesh(one, &["ip", "-6", "-j", "route", "show", "proto", "76"]);
        let routes: Value = serde_json::from_slice(&routes.stdout).unwrap_or_default();
        routes
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|route| Some(route["dst"].as_str()?.to_owned()))
            .collect::<Vec<_>>()
    };
    fault(
        one,
        way,
        &|| routes().iter().for_each(|to| mesh(&format!("ip -6 route del {to}"))),
        &["the route of node n1 to node n2 in the mesh", "missing"],
        &|| mesh(&format!("ip link set {} down", device())),
    );
    wait_ok(one, way);
    fault(
        one,
        way,
        &|| mesh(&format!("ip link set {} mtu 1300", device())),
        &["the WireGuard device", "on node n1 has another key, port or MTU than it should have"],
        // The agent looks at a device that goes down, and sets it as it should be.
        &|| mesh(&format!("ip link set {} down", device())),
    );
    wait_ok(one, way);
    let drops = "nft 'add table ip fault; add chain ip fault f { type filter hook input priority 0; }; flush chain ip fault f; \
                 add rule ip fault f ip saddr 192.0.2.1 udp dport 51840-51843 drop'";
    fault(
        one,
        way,
        &|| run(two, drops),
        &["on node n1", "nothing that this node sends arrives at node n2", "5184"],
        &|| run(two, "nft delete table ip fault"),
    );
    wait_ok(one, way);
}

/// What leads to a service.
fn services(scene: &Scene) {
    let (one, here) = (scene.lab.node(1), &scene.plain[0]);
    let nothing = || {};
    let service = one.lanmesh(["service", "create", "net", "web", "--json"]).json();
    let at = service["addresses"][0].as_str().expect("an address").to_owned();
    wait_ok(one, &["c1", "web"]);
    fault(
        one,
        &["c1", &at],
        &|| inside(here, "nft flush ruleset"),
        &["the rules in the container of endpoint c1 that lead to services are missing"],
        &nothing,
    );
    scene.lab.node(2).lanmesh(["endpoint", "drain", "net", "c2"]).success();
    fault(one, &["c1", "web"], &nothing, &["service web has no endpoint that takes connections"], &nothing);
}
