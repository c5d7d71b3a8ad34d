//! Agents of two versions of the protocol in one cluster, and an upgrade of one node after the other.

use crate::harness::{Container, Lab, Node, Pings, SOON, lab, ping, wait_until};
use crate::unicast::address;

/// The number of a kind of facts that no release knows.
const UNKNOWN: u64 = 61_731;

/// Starts an agent as a later release would be: with another version of the protocol, and facts of another kind.
fn start_later(node: &Node) {
    let (protocols, kind) = ("LANMESH_PROTOCOLS=2-3", format!("LANMESH_UNKNOWN_KIND={UNKNOWN}"));
    node.start_under(&["env", protocols, &kind]);
    node.wait_ready();
}

/// Of whom a node carries facts that it does not know.
fn carries(node: &Node) -> Vec<String> {
    let facts = node.lanmesh(["facts", "--json"]).json();
    let all = facts.as_array().expect("a list").iter();
    let unknown = all.filter(|one| one["kind"].as_u64() == Some(UNKNOWN) && one["name"].is_null());
    unknown
        .map(|one| {
            format!("{} {}", one["place"].as_str().unwrap_or(""), one["writer"].as_str().unwrap_or(""))
        })
        .collect()
}

fn endpoints(lab: &Lab, containers: &[Container]) -> Vec<String> {
    lab.network("net", &["--subnet", "10.61.0.0/24"]);
    let attach = |(n, container)| address(&lab.node(n).attach("net", &format!("c{n}"), container), 0);
    (1..).zip(containers).map(attach).collect()
}

#[test]
fn one_of_a_later_version_works_with_the_others_and_they_carry_what_they_do_not_know() {
    let lab = lab!(3).cluster();
    let containers = ["c1", "c2", "c3"].map(Container::named);
    let addresses = endpoints(&lab, &containers);
    lab.node(2).kill();
    start_later(lab.node(2));
    for node in lab.nodes() {
        node.wait_alive(3);
        node.wait_endpoints("net", &["c1@n1", "c2@n2", "c3@n3"]);
    }
    for to in &addresses {
        wait_until("all are reached", SOON, || ping(&containers[0], to));
    }
    for node in [lab.node(1), lab.node(3)] {
        wait_until("what is not known is carried", SOON, || {
            let found = carries(node);
            let all = ["net n2", "node n2", "record n2"].iter().all(|one| found.iter().any(|f| f == one));
            if all { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    // The one that said it is away: who starts anew gets it from one that does not know what it is.
    lab.node(2).kill();
    lab.node(3).kill();
    lab.node(3).start_and_wait();
    wait_until("it is passed on", SOON, || {
        let found = carries(lab.node(3));
        if found.iter().any(|one| one == "net n2") { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn an_upgrade_of_one_node_after_the_other_loses_no_packet() {
    let lab = lab!(3).cluster();
    let containers = ["c1", "c2", "c3"].map(Container::named);
    let addresses = endpoints(&lab, &containers);
    for to in &addresses {
        wait_until("all are reached", SOON, || ping(&containers[0], to));
    }
    let pings: Vec<Pings> = addresses[1..].iter().map(|to| Pings::start(&containers[0], to, 400)).collect();
    for node in lab.nodes() {
        node.stop();
        start_later(node);
        lab.nodes().iter().for_each(|node| node.wait_alive(3));
        for node in lab.nodes() {
            node.wait_endpoints("net", &["c1@n1", "c2@n2", "c3@n3"]);
        }
    }
    for pings in pings {
        let (sent, received) = pings.finish();
        assert_eq!(sent - received, 0, "packets lost of {sent} during the upgrade");
    }
}

#[test]
fn a_node_of_a_version_that_nobody_here_speaks_is_told_which_side_to_upgrade() {
    let lab = lab!(2);
    let token = lab.node(1).init();
    lab.node(2).kill();
    lab.node(2).start_under(&["env", "LANMESH_PROTOCOLS=3-4"]);
    lab.node(2).wait_ready();
    let refused = lab.node(2).try_join(&token, lab.node(1), &[]).refusal();
    assert!(refused.contains("versions 3 to 4") && refused.contains("upgrade the other node"), "{refused}");
    assert!(lab.node(1).log().contains("upgrade this node"), "the one that refused says so too");
}
