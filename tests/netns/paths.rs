//! What a node says of the ways to the others: that all is well, and within half a minute what is not, with what to do.

use std::time::Duration;

use serde_json::Value;

use crate::encrypted::encrypted;
use crate::harness::{Container, Lab, LabConfig, Node, lab, need, stays, wait_until};

/// Within this time a fault is said, and said no more once it is mended.
pub const KNOWN: Duration = Duration::from_secs(30);

/// A plain network `net` with an endpoint on each node, all of whose ways are well.
pub fn plain(lab: &Lab) -> Vec<Container> {
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let containers: Vec<_> = lab
        .nodes()
        .iter()
        .map(|node| {
            let container = Container::named(&format!("c{}", node.number()));
            node.attach("net", &format!("c{}", node.number()), &container);
            container
        })
        .collect();
    wait_well(lab);
    containers
}

/// What a node says is wrong, each with what to do; but for what it may say of the whole machine, on which others work too.
pub fn problems(status: &Value) -> Vec<String> {
    let text = |problem: &Value| {
        let part = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", part("what"), part("hint"))
    };
    let all = status["problems"].as_array().into_iter().flatten().map(text);
    all.filter(|problem| !problem.contains(OF_THE_MACHINE)).collect()
}

/// What is said of the table of neighbours, which is one for all tests that run at the time.
pub const OF_THE_MACHINE: &str = "all network namespaces of this machine together";

/// Waits until every node says that nothing is wrong.
pub fn wait_well(lab: &Lab) {
    for node in lab.nodes() {
        let ways = lab.nodes().len() - 1;
        wait_until(&format!("{} says that all is well", node.name()), KNOWN, || {
            let status = node.lanmesh(["status", "--json"]).ok()?;
            let well = status["paths"]["tried"] == ways && status["paths"]["well"] == ways;
            let ready = status["state"] == "ready" || status["problems"] != serde_json::json!([]);
            if problems(&status).is_empty() && well && ready { Ok(()) } else { Err(status.to_string()) }
        });
    }
}

/// Waits until a node names a problem in whose text, with the hint, all of these are; that text.
pub fn wait_problem(node: &Node, parts: &[&str]) -> String {
    wait_until(&format!("{} says {parts:?}", node.name()), KNOWN, || {
        let status = node.lanmesh(["status", "--json"]).ok()?;
        let problems = problems(&status);
        let found = problems.iter().find(|text| parts.iter().all(|part| text.contains(part)));
        match found {
            Some(text) if status["state"] == "degraded" => Ok(text.clone()),
            _ => Err(format!("{}: {problems:?}", status["state"])),
        }
    })
}

/// Waits until a node says that nothing is wrong.
pub fn wait_no_problem(node: &Node) {
    wait_until("it is said no more", KNOWN, || {
        let problems = problems(&node.lanmesh(["status", "--json"]).ok()?);
        if problems.is_empty() { Ok(()) } else { Err(format!("{problems:?}")) }
    });
}

/// What a node says of the way to another, and why.
fn path(node: &Node, other: &str) -> (String, String) {
    let nodes = node.lanmesh(["node", "ls", "--json"]).json();
    let nodes = nodes.as_array().expect("a list");
    let found =
        nodes.iter().find(|node| node["name"] == other).unwrap_or_else(|| panic!("no {other}: {nodes:?}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("path"), text("reason"))
}

/// What the events of changed paths say, in order.
fn events(node: &Node) -> Vec<String> {
    let events = node.lanmesh(["events", "--json"]).json();
    let of_it = events.as_array().expect("a list").iter().filter(|event| event["kind"] == "path_changed");
    of_it.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Runs nft in a node.
fn nft(node: &Node, rules: &str) {
    let done = node.netns().command("nft").arg(rules).status();
    assert!(done.is_ok_and(|status| status.success()), "nft {rules}");
}

/// Drops at a node what matches, until [`mend`].
fn drop_at(node: &Node, matches: &str) {
    nft(
        node,
        &format!("table ip fault {{ chain in {{ type filter hook input priority 0; {matches} drop; }}; }}"),
    );
}

fn mend(node: &Node) {
    nft(node, "delete table ip fault");
}

#[test]
fn when_all_is_well_one_line_says_so_and_node_ls_too() {
    let lab = lab!(2).cluster();
    let says = |line: &str| {
        wait_until(&format!("n1 says {line:?}"), KNOWN, || {
            let status = lab.node(1).lanmesh(["status"]).success();
            let said = status.lines().any(|said| said == line) && !status.contains("problem:");
            if said { Ok(()) } else { Err(status) }
        });
    };
    says("health:    nothing is wrong; no other node shares a network with this one");
    let containers = plain(&lab);
    says("health:    nothing is wrong: whole packets pass both ways on the way to the other node");
    let table = lab.node(1).lanmesh(["node", "ls"]).success();
    assert!(table.lines().next().is_some_and(|line| line.contains("PATH")), "{table}");
    assert_eq!(path(lab.node(1), "n2"), ("ok".to_owned(), String::new()));
    assert_eq!(path(lab.node(1), "n1").0, "", "there is no way to itself");
    assert_eq!(events(lab.node(1)), Vec::<String>::new());
    drop(containers);
}

#[test]
fn vxlan_that_a_firewall_drops_is_said_on_both_sides_and_when_it_passes_again_no_more() {
    need!("nft");
    let lab = lab!(2).cluster();
    let _containers = plain(&lab);
    let (one, two) = (lab.node(1), lab.node(2));
    for node in [one, two] {
        drop_at(node, "udp dport 4789");
    }
    for (node, other) in [(one, "n2"), (two, "n1")] {
        wait_problem(
            node,
            &["network net", "nothing arrives from node", other, "its agent answers", "port 4789"],
        );
        let (state, reason) = path(node, other);
        assert!(state == "down" && reason.contains("nothing arrives from"), "{state}: {reason}");
        let status = node.lanmesh(["status"]).success();
        assert!(status.contains("below; 0 of 1 ways to other nodes carry whole packets"), "{status}");
        assert!(status.lines().any(|line| line.starts_with("problem:") && line.contains("4789")), "{status}");
        wait_until("an event says so", KNOWN, || match events(node) {
            said if said.len() == 1 => Ok(()),
            said => Err(format!("{said:?}")),
        });
        let doctor = node.lanmesh(["doctor"]).success();
        assert!(doctor.contains("the ways to the other nodes") && doctor.contains("4789"), "{doctor}");
    }
    for node in [one, two] {
        mend(node);
    }
    wait_well(&lab);
    wait_until("an event says so", KNOWN, || match events(one) {
        said if said.len() == 2 && said[1].contains("pass to node n2 and back again") => Ok(()),
        said => Err(format!("{said:?}")),
    });
}

#[test]
fn one_direction_that_is_lost_is_told_from_the_other() {
    need!("nft");
    let lab = lab!(3).cluster();
    let _containers = plain(&lab);
    drop_at(lab.node(2), "ip saddr 192.0.2.1 udp dport 4789");
    wait_problem(
        lab.node(1),
        &["nothing that this node sends arrives at node n2", "UDP from 192.0.2.1 to 192.0.2.2"],
    );
    wait_problem(
        lab.node(2),
        &["nothing arrives from node n1", "UDP from 192.0.2.1 to 192.0.2.2", "here at input"],
    );
    // The third has nothing to say of it.
    assert_eq!(problems(&lab.node(3).lanmesh(["status", "--json"]).json()), Vec::<String>::new());
    assert_eq!(path(lab.node(1), "n3").0, "ok");
    mend(lab.node(2));
    wait_well(&lab);
}

#[test]
fn a_path_that_is_smaller_than_its_ends_is_said_with_the_size_that_passes() {
    let lab = lab!(2).cluster();
    let _containers = plain(&lab);
    lab.underlay().ip("link set n2 mtu 1400");
    for (node, other) in [(lab.node(1), "n2"), (lab.node(2), "n1")] {
        let said = wait_problem(node, &["packets of 1450 bytes do not pass to node", other, "--mtu 13"]);
        let carries: u32 =
            said.rsplit(' ').next().and_then(|size| size.trim_end_matches('`').parse().ok()).unwrap_or(0);
        // What is between here is as small as it says but for a tag (IEEE 802.1Q) that it has room for.
        assert!((1342..=1354).contains(&carries), "{said}");
        let (state, reason) = path(node, other);
        assert!(state == "degraded" && reason.contains("1450"), "{state}: {reason}");
    }
    // What it says to do helps.
    lab.node(1).lanmesh(["network", "set", "net", "--mtu", "1340"]).success();
    wait_well(&lab);
    // And what it says to mend does too.
    lab.underlay().ip("link set n2 mtu 1500");
    lab.node(1).lanmesh(["network", "set", "net", "--mtu", "1450"]).success();
    wait_well(&lab);
}

#[test]
fn a_tunnel_that_a_firewall_drops_is_said_and_names_its_port() {
    need!("nft");
    let lab = lab!(2).cluster();
    let endpoints = encrypted(&lab, &["--subnet", "10.95.0.0/24"]);
    wait_well(&lab);
    for node in lab.nodes() {
        drop_at(node, "udp dport 51840-51843");
    }
    for (node, other) in [(lab.node(1), "n2"), (lab.node(2), "n1")] {
        wait_problem(node, &[other, "5184"]);
        wait_until("the way is down", KNOWN, || match path(node, other) {
            (state, reason) if state == "down" && !reason.is_empty() => Ok(()),
            path => Err(format!("{path:?}")),
        });
    }
    for node in lab.nodes() {
        mend(node);
    }
    wait_well(&lab);
    drop(endpoints);
}

#[test]
fn one_direction_of_a_tunnel_that_is_lost_is_told_from_the_other() {
    need!("nft");
    let lab = lab!(2).cluster();
    let endpoints = encrypted(&lab, &["--subnet", "10.95.0.0/24"]);
    wait_well(&lab);
    drop_at(lab.node(2), "ip saddr 192.0.2.1 udp dport 51840-51843");
    wait_problem(
        lab.node(1),
        &["nothing that this node sends arrives at node n2", "UDP from 192.0.2.1 to 192.0.2.2", "5184"],
    );
    wait_problem(lab.node(2), &["n1", "5184"]);
    mend(lab.node(2));
    wait_well(&lab);
    drop(endpoints);
}

#[test]
fn over_ipv6_and_through_a_smaller_tunnel_it_is_the_same() {
    let lab = lab!(LabConfig::over_ipv6(2)).cluster();
    let endpoints = encrypted(&lab, &["--subnet", "10.95.0.0/24"]);
    wait_well(&lab);
    lab.underlay().ip("link set n1 mtu 1400");
    for node in lab.nodes() {
        wait_problem(node, &["bytes", "--mtu"]);
    }
    lab.underlay().ip("link set n1 mtu 1500");
    wait_well(&lab);
    drop(endpoints);
}

#[test]
fn a_node_that_may_not_answer_probes_is_not_called_ill() {
    let lab = lab!(2);
    let two = lab.node(2);
    two.kill();
    two.start_under(&["setpriv", "--bounding-set=-net_raw", "--inh-caps=-all", "--"]);
    two.wait_ready();
    let lab = lab.cluster();
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let containers = ["c1", "c2"].map(Container::named);
    for (node, container) in lab.nodes().iter().zip(&containers) {
        node.attach("net", &format!("c{}", node.number()), container);
    }
    let doctor = lab.node(2).lanmesh(["doctor"]).success();
    assert!(doctor.contains("CAP_NET_RAW (to try out whether frames pass"), "{doctor}");
    stays("nobody says that anything is wrong", Duration::from_secs(20), || {
        let said: Vec<_> = lab
            .nodes()
            .iter()
            .flat_map(|node| problems(&node.lanmesh(["status", "--json"]).json()))
            .collect();
        if said.is_empty() { Ok(()) } else { Err(format!("{said:?}")) }
    });
    assert_eq!(path(lab.node(1), "n2").0, "");
    assert!(lab.node(2).log().contains("is not tried out"), "the log says so");
}

#[test]
fn nothing_is_said_while_nodes_and_endpoints_come_and_go() {
    let lab = lab!(3).cluster();
    let containers = plain(&lab);
    lab.node(2).kill();
    lab.node(3).detach("net", "c3");
    lab.node(2).start_and_wait();
    lab.node(3).attach("net", "c3", &containers[2]);
    lab.node(1).kill();
    lab.node(1).start_and_wait();
    stays("nobody says anything of a way", Duration::from_secs(15), || {
        let said: Vec<_> = lab.nodes().iter().map(events).collect();
        if said.iter().all(Vec::is_empty) { Ok(()) } else { Err(format!("{said:?}")) }
    });
    wait_well(&lab);
}

#[test]
fn any_node_tells_the_ways_of_all_as_each_says_of_its_own_and_why_one_does_not() {
    need!("nft");
    let lab = lab!(3).cluster();
    let _containers = plain(&lab);
    let told = |node: &Node| node.lanmesh(["node", "paths", "--json"]).json();
    let state = |ways: &Value, from: &str, to: &str| {
        let of_node = ways.as_array().into_iter().flatten().find(|node| node["node"] == from);
        let paths = of_node.and_then(|node| node["paths"].as_array()).into_iter().flatten();
        paths
            .filter(|way| way["to"] == to)
            .map(|way| way["state"].as_str().unwrap_or_default().to_owned())
            .next()
    };
    let names = ["n1", "n2", "n3"];
    let ways = told(lab.node(3));
    assert_eq!(ways[0]["node"], "n3", "the asked one first: {ways:#}");
    for from in names {
        for to in names.iter().filter(|to| **to != from) {
            assert_eq!(state(&ways, from, to).as_deref(), Some("whole"), "{from} to {to}: {ways:#}");
        }
    }
    // What n2 sends to n1 is lost: both say so of their own, and the third tells it of both.
    drop_at(lab.node(1), "ip saddr 192.0.2.2 udp dport 4789");
    wait_until("it is told of both sides", KNOWN, || {
        let ways = told(lab.node(3));
        let both = (state(&ways, "n1", "n2"), state(&ways, "n2", "n1"));
        let is = (both.0.as_deref(), both.1.as_deref());
        if is == (Some("silent"), Some("unheard")) { Ok(()) } else { Err(ways.to_string()) }
    });
    assert_eq!(state(&told(lab.node(3)), "n3", "n1").as_deref(), Some("whole"));
    mend(lab.node(1));
    lab.node(2).kill();
    wait_until("the dead one does not say", KNOWN, || {
        let ways = told(lab.node(3));
        let dead = ways.as_array().into_iter().flatten().find(|node| node["node"] == "n2");
        let why = dead.and_then(|node| node["untold"].as_str()).unwrap_or_default();
        if why.is_empty() { Err(ways.to_string()) } else { Ok(()) }
    });
    let one = lab.node(3).lanmesh(["node", "paths", "n1", "--json"]).json();
    assert_eq!(one.as_array().map(Vec::len), Some(1), "{one}");
}
