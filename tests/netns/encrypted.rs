//! Encrypted networks: what a plain one does works in them unchanged.

use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Capture, Container, Lab, LabConfig, Listener, Node, Pings, SOON, lab, need, ping, ping_exactly, send,
    slowness, wait_until,
};
use crate::privileges::check;
use crate::unicast::address;

pub const BOTH: [&str; 4] = ["--subnet", "10.70.0.0/24", "--subnet", "fd00:70::/64"];
const PORT: u16 = 5670;

/// Attaches a container; the node may still be on its way into the mesh.
pub fn attach(node: &Node, name: &str, container: &Container) -> Value {
    wait_until(&format!("{name} is attached"), SOON, || node.try_attach("net", name, container, &[]).ok())
}

/// An encrypted network `net` with the endpoint cI on each node nI, which all reach each other; with what attaching
/// gave.
pub fn encrypted(lab: &Lab, subnets: &[&str]) -> Vec<(Container, Value)> {
    lab.network("net", &[subnets, &["--encrypt", "wireguard"]].concat());
    let endpoints: Vec<_> = lab
        .nodes()
        .iter()
        .map(|node| {
            let name = format!("c{}", node.number());
            let container = Container::named(&name);
            let answer = attach(node, &name, &container);
            (container, answer)
        })
        .collect();
    all_reach_each_other(&endpoints);
    endpoints
}

/// Waits until every container reaches all others at all their addresses.
pub fn all_reach_each_other(endpoints: &[(Container, Value)]) {
    for (i, (from, _)) in endpoints.iter().enumerate() {
        for (j, (_, to)) in endpoints.iter().enumerate().filter(|(j, _)| *j != i) {
            for subnet in 0..to["addresses"].as_array().map_or(0, Vec::len) {
                let to = address(to, subnet);
                let what = format!("c{} reaches c{} at {to}", i + 1, j + 1);
                wait_until(&what, SOON, || ping(from, &to));
            }
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("is written right")
}

/// What a node says of another's place in the mesh.
pub fn mesh_of(node: &Node, other: &str) -> Result<Value, String> {
    let answer = node.lanmesh(["node", "inspect", other, "--json"]).ok()?;
    match &answer["mesh"] {
        Value::Null => Err(format!("no mesh: {answer}")),
        mesh => Ok(mesh.clone()),
    }
}

/// Runs a command in the mesh's namespace of a node.
pub fn in_mesh(node: &Node, command: &[&str]) -> Output {
    let path = node.run_dir().join("netns/mesh");
    let mut entered = Command::new("nsenter");
    entered.arg(format!("--net={}", path.display())).arg("--").args(command);
    entered.output().expect("nsenter can be run")
}

/// The WireGuard devices of a node, each with its kind by the kernel's own word: "wireguard", or "tun" for a process's.
pub fn devices(node: &Node) -> Vec<(String, String)> {
    let links = in_mesh(node, &["ip", "-d", "-j", "link", "show"]);
    let links: Value = serde_json::from_slice(&links.stdout).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let both = |link: &Value| (text(&link["ifname"]), text(&link["linkinfo"]["info_kind"]));
    links.as_array().into_iter().flatten().map(both).filter(|(name, _)| name.starts_with("lw")).collect()
}

/// Whether this kernel makes WireGuard devices; where `LANMESH_TEST_WIREGUARD=kernel` says so, it has to.
fn kernel_has_wireguard() -> bool {
    let made = Command::new("unshare")
        .args(["--net", "ip", "link", "add", "type", "wireguard"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let promised = std::env::var("LANMESH_TEST_WIREGUARD").is_ok_and(|of| of == "kernel");
    assert!(made || !promised, "this kernel makes no WireGuard device, and it was said that it does");
    made
}

#[test]
fn wireguard_is_the_kernels_where_it_has_it_and_a_processs_where_not_and_the_two_speak_with_each_other() {
    let has = kernel_has_wireguard();
    let lab = lab!(2);
    // As on a kernel that has none.
    lab.node(2).kill();
    lab.node(2).start_under(&["env", "LANMESH_WITHOUT=wireguard"]);
    lab.node(2).wait_ready();
    let lab = lab.cluster();
    let endpoints = encrypted(&lab, &["--subnet", "10.70.0.0/24"]);
    for (node, module) in [(lab.node(1), has), (lab.node(2), false)] {
        let name = node.name();
        let doctor = node.lanmesh(["doctor", "--json"]).json();
        let found = check(&doctor, "wireguard in the kernel");
        assert_eq!(found["state"], if module { "ok" } else { "fallback" }, "{name}: {found}");
        let kinds: Vec<_> = devices(node).into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, [if module { "wireguard" } else { "tun" }], "{name}");
        assert_eq!(node.wireguard_processes().len(), usize::from(!module), "{name}");
    }
    drop(endpoints);
}

#[test]
fn unicast_broadcast_multicast_names_and_the_nodes_own_addresses_work() {
    need!("tcpdump", "dig");
    let lab = lab!(3).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    let (one, two, three) = (&endpoints[0].0, &endpoints[1].0, &endpoints[2].0);

    let heard = [two, three].map(|container| Listener::open(container, PORT, None));
    send(one, ip("10.70.0.255"), PORT, "to all", 10);
    assert_eq!(heard.map(|listener| listener.count("to all")), [10, 10], "broadcast datagrams of 10");

    let doctor = lab.node(1).lanmesh(["doctor", "--json"]).json();
    let chosen = check(&doctor, "multicast to members only (VXLAN MDB)")["state"] == "ok";
    for (group, to_all) in [("239.1.7.7", !chosen), ("ff15::77", !chosen), ("224.0.0.77", true)] {
        let listener = Listener::open(two, PORT + 1, Some(ip(group)));
        if group != "224.0.0.77" {
            wait_until("n1 knows the member", SOON, || {
                let groups = lab.node(1).lanmesh(["multicast", "ls", "net", "--json"]).ok()?;
                let found = groups.to_string().contains(group);
                if found { Ok(()) } else { Err(groups.to_string()) }
            });
        }
        // A group that was joined just now goes to the whole network for a moment longer.
        std::thread::sleep(Duration::from_millis(500) * slowness());
        wait_until(&format!("{group} goes to whom it should"), SOON, || {
            let at_three = Capture::start(lab.underlay(), "n3", "udp portrange 51840-51843 and greater 150");
            send(one, ip(group), PORT + 1, group, 40);
            assert_eq!(listener.count(group), 40, "datagrams to {group} of 40");
            // There are also the answers of those who try the paths out.
            let copies = at_three.count();
            let as_it_should = if to_all { copies >= 40 } else { copies < 30 };
            if as_it_should { Ok(()) } else { Err(format!("{copies} packets to n3, which has no member")) }
        });
    }

    let resolved = |question: &[&str]| {
        let time = format!("+time={}", 2 * slowness());
        let mut dig = one.command("dig");
        let output = dig.args(["+short", "+tries=1", &time, "@10.70.0.1"]).args(question).output();
        String::from_utf8_lossy(&output.expect("dig can be run").stdout).trim().to_owned()
    };
    let resolves = |question: &[&str], expected: String| {
        wait_until(&format!("{question:?} is {expected}"), SOON, || {
            let answer = resolved(question);
            if answer == expected { Ok(()) } else { Err(answer) }
        });
    };
    resolves(&["c3.net.lanmesh"], address(&endpoints[2].1, 0));

    let there = wait_until("n2 is in the mesh", SOON, || mesh_of(lab.node(1), "n2"));
    let there = there["address"].as_str().expect("it has an address").to_owned();
    wait_until("the node itself is reached", SOON, || {
        let mut ping = lab.node(1).netns().command("ping");
        let output = ping
            .args(["-n", "-c", "1", "-W", &slowness().to_string(), &there])
            .output()
            .expect("ping can be run");
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stdout).into_owned())
        }
    });
    resolves(&["n2.mesh.lanmesh", "AAAA"], there);
}

/// Whether packets of exactly `mtu` bytes pass, and one byte more does not.
fn exactly(endpoints: &[(Container, Value)], mtu: u32) {
    let (one, to) = (&endpoints[0].0, &endpoints[1].1);
    for to in [address(to, 0), address(to, 1)] {
        wait_until(&format!("{mtu} bytes reach {to}"), SOON, || ping_exactly(one, &to, mtu));
        wait_until(&format!("{} bytes do not pass to {to}", mtu + 1), SOON, || {
            ping_exactly(one, &to, mtu + 1).map_or(Ok(()), |()| Err("they do".to_owned()))
        });
    }
}

#[test]
fn over_ipv4_exactly_1370_of_1500_bytes_pass() {
    let lab = lab!(2).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    assert_eq!(endpoints[1].1["mtu"], 1370);
    exactly(&endpoints, 1370);
}

#[test]
fn over_ipv6_exactly_1350_of_1500_bytes_pass() {
    let lab = lab!(LabConfig::over_ipv6(2)).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    assert_eq!(endpoints[1].1["mtu"], 1350);
    exactly(&endpoints, 1350);
}

#[test]
fn a_path_that_is_smaller_than_its_ends_is_said_with_its_size_and_no_more_once_it_is_whole() {
    let lab = lab!(2).cluster();
    encrypted(&lab, &BOTH);
    let problems = || {
        lab.node(1).lanmesh(["status", "--json"]).ok().map(|status| status["reconcile"]["errors"].to_string())
    };
    wait_until("n1 has tried the path", SOON, || {
        let mesh = mesh_of(lab.node(1), "n2")?;
        if mesh["carries"] == 1440 && mesh["mtu"] == 1440 { Ok(()) } else { Err(mesh.to_string()) }
    });
    assert_eq!(problems(), Ok("[]".to_owned()));
    // In the middle, where no node sees it, and nobody says that a packet was too large.
    lab.underlay().ip("link set n2 mtu 1400");
    let said = wait_until("n1 says that the path is smaller", SOON, || {
        let said = problems()?;
        if said.contains("n2") { Ok(said) } else { Err(said) }
    });
    let mesh = mesh_of(lab.node(1), "n2").expect("it is in the mesh");
    // 1400 less the tunnel's 60; WireGuard pads to a multiple of 16, and it is found out to 8 bytes.
    let carries = mesh["carries"].as_u64().expect("a number");
    assert!((1312..=1340).contains(&carries), "{mesh}");
    assert!(said.contains("1440") && said.contains(&carries.to_string()), "{said}");
    lab.underlay().ip("link set n2 mtu 1500");
    wait_until("that is over", SOON, || {
        let said = problems()?;
        if said == "[]" { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_network_is_refused_where_the_underlay_is_too_small_for_the_mesh() {
    let lab = lab!(LabConfig::mtus(&[1300])).cluster();
    let create = ["network", "create", "net", "--subnet", "10.70.0.0/24", "--encrypt", "wireguard"];
    let why = lab.node(1).lanmesh(create).refusal();
    for part in ["1300", "WireGuard", "at least 1340"] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

#[test]
fn nothing_is_left_when_the_last_encrypted_network_goes_and_when_a_node_leaves() {
    let lab = lab!(2).cluster();
    let endpoints = encrypted(&lab, &BOTH);
    lab.node(2).lanmesh(["leave"]).success();
    let left = |node: &Node| {
        let links = node.netns().links();
        let routes = node.netns().ip("-6 route show proto 76");
        let (processes, mounts) = (node.wireguard_processes(), node.mounts());
        if links.contains(&"lanmesh0".to_owned()) || !routes.is_empty() || !processes.is_empty() {
            return Err(format!("{links:?} {routes:?} {processes:?}"));
        }
        if mounts.iter().any(|mount| mount.ends_with("mesh")) { Err(format!("{mounts:?}")) } else { Ok(()) }
    };
    wait_until("nothing is left on n2", SOON, || left(lab.node(2)));
    assert!(
        !lab.node(1).wireguard_processes().is_empty()
            || std::path::Path::new("/sys/module/wireguard").exists()
    );
    lab.node(1).detach("net", "c1");
    drop(endpoints);
    lab.node(1).lanmesh(["network", "rm", "net"]).success();
    wait_until("nothing is left on n1", SOON, || left(lab.node(1)));
}

#[test]
fn a_node_that_cannot_be_reached_costs_the_ways_to_the_others_no_packet() {
    let lab = lab!(3).cluster();
    let ends = encrypted(&lab, &["--subnet", "10.70.0.0/24"]);
    let to = |n: usize| address(&ends[n - 1].1, 0);
    let from = &ends[1].0;
    // From here on the kernel of n2 refuses what is for n1, with an error to whoever sends it.
    lab.node(2).netns().ip(&format!("route add blackhole {}/32", lab.node(1).address()));
    let lost: Vec<Pings> = (0..4).map(|_| Pings::with_interval(from, &to(1), 600, "0.005")).collect();
    let (sent, received) = Pings::with_interval(from, &to(3), 600, "0.005").finish();
    assert_eq!(received, sent, "what is for n3 is lost with what is for n1");
    drop(lost);
    let told = lab.node(2).lanmesh(["status"]).success();
    assert!(!told.contains("nothing passes to n3"), "{told}");
}
