//! Zeroconf: what of mDNS crosses the underlay.

use std::net::IpAddr;

use crate::broadcast::endpoints;
use crate::harness::{Lab, Listener, lab, send};

/// The port of mDNS (RFC 6762 section 3).
const MDNS: u16 = 5353;

/// Sends 10 datagrams to `to` from a container on n1; how many of them one on n2 gets.
fn crossed(lab: &Lab, network: &str, to: &str) -> usize {
    let containers = endpoints(lab, 2);
    let group: IpAddr = to.parse().expect("is written right");
    let listener = Listener::open(&containers[1], MDNS, Some(group));
    send(&containers[0], group, MDNS, to, 10);
    let count = listener.count(to);
    for i in 1..=2 {
        lab.node(i).detach(network, &format!("c{i}"));
    }
    count
}

fn only_mdns_stays(lab: &Lab, mode: &str) {
    let subnets = ["--subnet", "10.82.0.0/24", "--subnet", "fd00:82::/64", "--zeroconf", mode];
    lab.network("net", &subnets);
    for (to, expected) in [("224.0.0.251", 0), ("ff02::fb", 0), ("239.1.2.3", 10), ("ff02::fa", 10)] {
        assert_eq!(crossed(lab, "net", to), expected, "datagrams to {to} that crossed of 10");
    }
}

#[test]
fn mdns_stays_on_its_node_where_zeroconf_is_off_and_other_groups_cross() {
    let lab = lab!(2).cluster();
    only_mdns_stays(&lab, "off");
}

#[test]
fn mdns_stays_on_its_node_without_the_filter_too() {
    for without in ["egress-filter", "egress-filter,vxlan-mdb"] {
        let lab = lab!(2);
        for node in lab.nodes() {
            node.kill();
            node.start_under(&["env", &format!("LANMESH_WITHOUT={without}")]);
            node.wait_ready();
        }
        only_mdns_stays(&lab.cluster(), "off");
    }
}
