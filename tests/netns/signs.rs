//! What on a machine itself keeps frames from passing, each made for real: within half a minute a line says what it is and
//! what to do, and it goes when that is done.

use std::io::Write as _;
use std::process::Stdio;

use crate::harness::{Container, LabConfig, Node, SOON, lab, need, ping, wait_until};
use crate::paths::{KNOWN, OF_THE_MACHINE, plain, wait_no_problem, wait_problem, wait_well};
use crate::unicast::address;

/// Runs a command in a node, which has to succeed.
fn run(node: &Node, command: &[&str]) {
    let output = node.netns().command(command[0]).args(&command[1..]).output().expect("it can be run");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// The address of an endpoint.
fn address_of(node: &Node, name: &str) -> String {
    let list = node.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let found = list.as_array().expect("a list").iter().find(|endpoint| endpoint["name"] == name);
    address(found.unwrap_or_else(|| panic!("no {name}: {list}")), 0)
}

/// Waits until an event of this kind says something.
fn wait_event(node: &Node, kind: &str, part: &str) {
    wait_until(&format!("an event {kind} says {part:?}"), SOON, || {
        let events = node.lanmesh(["events", "--json"]).ok()?;
        let said: Vec<String> = events
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["kind"] == kind)
            .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
            .collect();
        if said.iter().any(|text| text.contains(part)) { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

#[test]
fn rules_that_are_flushed_and_a_port_that_is_pulled_down_are_put_back_and_it_is_said() {
    need!("nft");
    let lab = lab!(2).cluster();
    let containers = plain(&lab);
    let one = lab.node(1);
    let to = address_of(lab.node(2), "c2");
    run(one, &["nft", "flush", "ruleset"]);
    wait_problem(
        one,
        &["something else changed what lanmesh keeps in the kernel", "guard", "put back", "a firewall"],
    );
    wait_event(one, "put_back", "guard");
    let port = one.network_links("net").into_iter().find(|name| name.starts_with("lm")).expect("a port");
    one.network_exec("net", &["ip", "link", "set", &port, "down"]).success();
    wait_problem(one, &["network net: endpoint c1", "2 times"]);
    wait_until("c2 is reached again", SOON, || ping(&containers[0], &to));
    assert_eq!(one.lanmesh(["plan"]).success(), "There is nothing to change.\n");
}

#[test]
fn an_address_that_is_changed_in_a_container_is_put_back_and_an_interface_that_is_down_there_is_said() {
    let lab = lab!(2).cluster();
    let containers = plain(&lab);
    let (one, to) = (lab.node(1), address_of(lab.node(2), "c2"));
    let own = address_of(one, "c1");
    containers[0].ip("address add 10.95.0.200/24 dev eth0");
    wait_until("n1 says that it put it back", KNOWN, || {
        // Once more where it was put back because the agent had something to do there anyway: then nothing is said.
        let taken = ["address", "del", &format!("{own}/24"), "dev", "eth0"];
        containers[0].command("ip").args(taken).output().expect("ip can be run");
        let problems = one.lanmesh(["status", "--json"]).ok()?["problems"].to_string();
        let said =
            problems.contains("something else changed") && problems.contains("network net: endpoint c1");
        if said { Ok(()) } else { Err(problems) }
    });
    wait_until("c2 is reached again", SOON, || ping(&containers[0], &to));
    containers[0].ip("link set eth0 down");
    wait_problem(
        one,
        &["network net: the interface of endpoint c1 is down in its container", "ip link set eth0 up"],
    );
    wait_event(one, "problem", "c1 is down");
    containers[0].ip("link set eth0 up");
    wait_event(one, "problem", "no more: network net: the interface of endpoint c1");
}

#[test]
fn bridged_frames_that_a_firewall_drops_are_said_with_its_table() {
    need!("nft");
    let lab = lab!(1).cluster();
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let (one, two) = (Container::named("c1"), Container::named("c2"));
    let node = lab.node(1);
    node.attach("net", "c1", &one);
    let to = address(&node.attach("net", "c2", &two), 0);
    wait_until("c2 is reached", SOON, || ping(&one, &to));
    // As `iptables -P FORWARD DROP` does, with br_netfilter.
    let forward = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";
    node.network_exec("net", &["nft", forward]).success();
    node.network_exec("net", &["sh", "-c", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables"])
        .success();
    wait_until("c2 is reached no more", SOON, || {
        ping(&one, &to).map_or(Ok(()), |()| Err("it is".to_owned()))
    });
    wait_problem(node, &["network net", "the table ip filter", "nft delete table ip filter"]);
    wait_event(node, "problem", "ip filter");
    // One of the two ways that it names.
    node.network_exec("net", &["sh", "-c", "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables"])
        .success();
    wait_event(node, "problem", "no more: network net");
    wait_until("c2 is reached", SOON, || ping(&one, &to));
}

#[test]
fn a_table_of_neighbours_that_is_full_is_said() {
    let lab = lab!(LabConfig::alone(2)).cluster();
    let _containers = plain(&lab);
    let full = Container::named("full");
    // More than there is room for in all namespaces of the machine, for the blink of an eye.
    let limit: u32 = std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    full.ip("link add v0 type veth peer name v1");
    full.ip("link set v0 up");
    let lines = (0..limit + 50).map(|i| {
        format!(
            "neigh add 10.{}.{}.{} lladdr 02:00:00:00:00:01 dev v0 nud stale\n",
            100 + (i >> 16),
            i >> 8 & 0xff,
            i & 0xff
        )
    });
    let lines: String = lines.collect();
    let mut batch = full.command("ip");
    batch.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut batch = batch.spawn().expect("ip can be run");
    batch.stdin.take().expect("is piped").write_all(lines.as_bytes()).expect("it reads");
    batch.wait().expect("it ends");
    drop(full);
    let one = lab.node(1);
    let said = wait_until("n1 says so", KNOWN, || {
        let status = one.lanmesh(["status"]).success();
        status.lines().find(|line| line.contains(OF_THE_MACHINE)).map(str::to_owned).ok_or(status)
    });
    assert!(said.contains("table of ipv4 neighbours is full") && said.contains("gc_thresh3"), "{said}");
    wait_event(lab.node(1), "problem", "neighbours is full");
    wait_well(&lab);
}

#[test]
fn packets_that_rp_filter_drops_are_said_with_the_interfaces() {
    let lab = lab!(2).cluster();
    let _containers = plain(&lab);
    let one = lab.node(1);
    lab.underlay().ip("link add n1b type veth peer name eth1 netns n1");
    lab.underlay().ip("link set n1b master br0 up");
    one.netns().ip("link set eth1 up");
    let set = |value: &str| {
        run(
            one,
            &[
                "sh",
                "-c",
                &format!("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {value} > $f; done"),
            ],
        );
    };
    set("1");
    // The other one goes on sending to where it always did.
    let mac = one.netns().ip_json("link show dev eth0")[0]["address"].as_str().expect("a MAC").to_owned();
    lab.node(2).netns().ip(&format!("neigh replace 192.0.2.1 lladdr {mac} dev eth0 nud permanent"));
    one.netns().ip("route add 192.0.2.2/32 dev eth1");
    wait_problem(one, &["packets are dropped at", "eth0", "rp_filter=2"]);
    wait_event(one, "problem", "packets are dropped at");
    set("2");
    wait_well(&lab);
}

#[test]
fn a_clock_that_is_off_is_said_on_both_sides() {
    need!("faketime");
    let lab = lab!(2).cluster();
    let _containers = plain(&lab);
    let two = lab.node(2);
    two.kill();
    two.start_under(&["faketime", "-f", "+90s"]);
    two.wait_ready();
    wait_problem(lab.node(1), &["the clock of node n2 is 90 s ahead of this node's", "time server"]);
    wait_problem(two, &["the clock of node n1 is 90 s behind this node's"]);
    two.kill();
    two.start_and_wait();
    wait_well(&lab);
}

#[test]
fn a_stranger_with_the_number_of_a_network_is_said() {
    let lab = lab!(3);
    lab.join_all(&[1, 2]);
    let one = lab.node(1);
    one.create_network("net", &["--subnet", "10.95.0.0/24"]);
    let container = Container::named("c1");
    one.attach("net", "c1", &container);
    let vni = one.lanmesh(["network", "inspect", "net", "--json"]).json()["vni"].to_string();
    let stranger = lab.node(3);
    stranger
        .netns()
        .ip(&format!("link add x type vxlan id {vni} dstport 4789 remote 192.0.2.1 local 192.0.2.3"));
    stranger.netns().ip("address add 10.95.0.250/24 dev x");
    stranger.netns().ip("link set x up");
    let mut pings = stranger
        .netns()
        .command("ping")
        .args(["-i", "0.5", "10.95.0.2"])
        .stdout(Stdio::null())
        .spawn()
        .expect("ping");
    wait_problem(one, &["come from somebody who is no node", "tcpdump"]);
    pings.kill().expect("our own child");
    pings.wait().expect("our own child");
    // Its system may have something to say by itself.
    stranger.netns().ip("link del x");
    wait_no_problem(one);
}

#[test]
fn a_device_of_somebody_elses_that_has_the_number_or_the_port_is_said() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let two = lab.node(2);
    two.lanmesh(["attach", "net", "--name", "host", "--host"]).success();
    let vni = two.lanmesh(["network", "inspect", "net", "--json"]).json()["vni"].to_string();
    lab.reboot(two);
    two.netns().ip(&format!("link add x type vxlan id {vni} dstport 4789 remote 192.0.2.1 local 192.0.2.2"));
    two.start_and_wait();
    let said = wait_problem(two, &["net", &vni]);
    assert!(said.contains("4789") || said.contains("VXLAN"), "{said}");
    two.netns().ip("link del x");
    wait_no_problem(two);
}
