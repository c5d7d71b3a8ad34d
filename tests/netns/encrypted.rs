//! Encrypted networks: what a plain one does, and nothing of it readable on the underlay.

use crate::harness::{Container, Lab, SOON, lab, need, ping, wait_until};
use crate::unicast::address;

/// An encrypted network `net` with the endpoint cI on each node nI, which all reach each other; their addresses.
pub fn encrypted(lab: &Lab, subnets: &[&str]) -> Vec<(Container, String)> {
    lab.network("net", &[subnets, &["--encrypt", "wireguard"]].concat());
    let mut endpoints = Vec::new();
    for node in lab.nodes() {
        let name = format!("c{}", node.number());
        let container = Container::named(&name);
        let answer = wait_until(&format!("{name} is attached"), SOON, || {
            node.try_attach("net", &name, &container, &[]).ok()
        });
        endpoints.push((container, address(&answer, 0)));
    }
    for (from, _) in &endpoints {
        for (_, to) in &endpoints {
            wait_until(&format!("{to} is reached"), SOON, || ping(from, to));
        }
    }
    endpoints
}

#[test]
fn endpoints_on_three_nodes_reach_each_other() {
    need!("tcpdump");
    let lab = lab!(3).cluster();
    encrypted(&lab, &["--subnet", "10.70.0.0/24", "--subnet", "fd00:70::/64"]);
}
