//! A node whose address on the underlay changes: the others hear it from the node itself, and everything follows.

use serde_json::Value;

use crate::encrypted::{BOTH, encrypted};
use crate::harness::{Container, Lab, LabConfig, Node, SOON, lab, ping, wait_until};
use crate::unicast::address;

/// Gives a node's interface another address in the place of the one that it has.
fn change(node: &Node, from: &str, to: &str) {
    let (netns, length) = (node.netns(), if from.contains(':') { "64" } else { "24" });
    netns.ip(&format!("address delete {from}/{length} dev eth0"));
    let nodad = if from.contains(':') { "nodad" } else { "" };
    netns.ip(&format!("address add {to}/{length} dev eth0 {nodad}"));
}

/// Waits until every node says that `of` is at `address`, and that all are alive.
fn wait_known(lab: &Lab, of: &Node, address: &str) {
    for node in lab.nodes() {
        wait_until(&format!("{} knows {} at {address}", node.name(), of.name()), SOON, || {
            let found = node.lanmesh(["node", "inspect", of.name(), "--json"]).ok()?;
            let at = found["address"].as_str().is_some_and(|at| at.contains(address));
            if at && found["vtep"] == address { Ok(()) } else { Err(found.to_string()) }
        });
        node.wait_alive(lab.nodes().len());
    }
}

/// Waits until the endpoints on both nodes reach each other both ways.
fn wait_reached(endpoints: &[(Container, Value)]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let to = address(&endpoints[to].1, 0);
        wait_until(&format!("{to} is reached"), SOON, || ping(&endpoints[from].0, &to));
    }
}

/// A plain and an encrypted network, each with an endpoint on n1 and on n2.
fn networks(lab: &Lab) -> [Vec<(Container, Value)>; 2] {
    let secret = encrypted(lab, &BOTH);
    lab.network("plain", &["--subnet", "10.71.0.0/24"]);
    let attach = |node: &Node| {
        let container = Container::named(&format!("plain{}", node.number()));
        let answer = node.attach("plain", &format!("p{}", node.number()), &container);
        (container, answer)
    };
    [secret, lab.nodes().iter().map(attach).collect()]
}

fn plain_and_encrypted_networks_follow(lab: &Lab, prefix: &str) {
    let networks = networks(lab);
    // A node, and the manager.
    for (node, from, to) in [(2, "2", "22"), (1, "1", "11")] {
        let node = lab.node(node);
        change(node, &format!("{prefix}{from}"), &format!("{prefix}{to}"));
        wait_known(lab, node, &format!("{prefix}{to}"));
        networks.iter().for_each(|endpoints| wait_reached(endpoints));
    }
    // While the agent was away.
    lab.node(2).kill();
    change(lab.node(2), &format!("{prefix}22"), &format!("{prefix}32"));
    lab.node(2).start_and_wait();
    wait_known(lab, lab.node(2), &format!("{prefix}32"));
    networks.iter().for_each(|endpoints| wait_reached(endpoints));
}

#[test]
fn plain_and_encrypted_networks_follow_a_node_to_its_new_address() {
    plain_and_encrypted_networks_follow(&lab!(2).cluster(), "192.0.2.");
}

#[test]
fn they_follow_it_on_an_ipv6_underlay_too() {
    plain_and_encrypted_networks_follow(&lab!(LabConfig::over_ipv6(2)).cluster(), "2001:db8::");
}

#[test]
fn a_node_that_is_not_to_follow_is_given_up_until_it_may_and_then_remembers_where_it_is() {
    let lab = lab!(2);
    let two = lab.node(2);
    two.kill();
    two.configure("follow_address = false\n");
    two.start_and_wait();
    let lab = lab.cluster();
    let two = lab.node(2);
    change(two, "192.0.2.2", "192.0.2.22");
    wait_until("n2 is dead for n1", SOON, || match lab.node(1).state_of(two).as_str() {
        "dead" => Ok(()),
        state => Err(state.to_owned()),
    });
    two.kill();
    two.configure("");
    two.start_and_wait();
    wait_known(&lab, two, "192.0.2.22");
    two.kill();
    two.start_and_wait();
    wait_known(&lab, two, "192.0.2.22");
}
