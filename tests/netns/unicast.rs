//! Unicast between endpoints, and what of it the underlay sees.

use serde_json::Value;

use crate::harness::{Capture, Container, Lab, SOON, lab, need, ping, wait_until};

/// The address without the prefix length of an attach answer's subnet `i`.
pub fn address(answer: &Value, i: usize) -> String {
    let text = answer["addresses"][i].as_str().unwrap_or_else(|| panic!("no address {i}: {answer}"));
    text.split('/').next().unwrap_or(text).to_owned()
}

/// One endpoint `cI` on each node nI of the lab, and the answers to their attaching.
fn one_endpoint_each(lab: &Lab, network: &str) -> Vec<(Container, Value)> {
    let attach = |(i, node): (usize, &crate::harness::Node)| {
        let name = format!("c{}", i + 1);
        let container = Container::named(&format!("{network}-{name}"));
        let answer = node.attach(network, &name, &container);
        (container, answer)
    };
    lab.nodes().iter().enumerate().map(attach).collect()
}

fn every_pair_pings(endpoints: &[(Container, Value)], subnets: usize) {
    for (i, (from, _)) in endpoints.iter().enumerate() {
        for (j, (_, to)) in endpoints.iter().enumerate().filter(|(j, _)| *j != i) {
            for subnet in 0..subnets {
                let to = address(to, subnet);
                let what = format!("c{} reaches c{} at {to}", i + 1, j + 1);
                wait_until(&what, SOON, || ping(from, &to));
            }
        }
    }
}

#[test]
fn every_pair_of_endpoints_on_three_nodes_reaches_each_other_over_ipv4() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.80.0.0/24"]);
    every_pair_pings(&one_endpoint_each(&lab, "net"), 1);
}

#[test]
fn every_pair_of_endpoints_on_three_nodes_reaches_each_other_over_ipv6() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "fd00:80::/64"]);
    every_pair_pings(&one_endpoint_each(&lab, "net"), 1);
}

#[test]
fn an_endpoint_of_a_network_with_both_families_is_reached_over_both() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.80.0.0/24", "--subnet", "fd00:80::/64"]);
    every_pair_pings(&one_endpoint_each(&lab, "net"), 2);
}

#[test]
fn two_endpoints_on_one_node_reach_each_other_and_their_gateway() {
    let lab = lab!(1).cluster();
    lab.network("net", &["--subnet", "10.80.0.0/24", "--subnet", "fd00:80::/64"]);
    let (one, two) = (Container::named("one"), Container::named("two"));
    lab.node(1).attach("net", "one", &one);
    let answer = lab.node(1).attach("net", "two", &two);
    for i in 0..2 {
        ping(&one, &address(&answer, i)).expect("the other endpoint answers");
        let gateway = answer["gateways"][i].as_str().expect("there is a gateway for each subnet");
        ping(&one, gateway).expect("the gateway answers");
    }
}

#[test]
fn the_gateway_answers_on_every_node_and_nothing_of_that_crosses_the_underlay() {
    need!("tcpdump");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.80.0.0/24"]);
    let endpoints = one_endpoint_each(&lab, "net");
    every_pair_pings(&endpoints, 1);
    // Inner ICMP: 8 bytes of UDP, 8 of VXLAN, 14 of Ethernet; the protocol is the tenth byte of the IP header.
    let capture =
        Capture::start(lab.underlay(), "n1", "udp port 4789 and udp[28:2] = 0x0800 and udp[39] = 1");
    for (container, answer) in &endpoints {
        ping(container, answer["gateway"].as_str().expect("there is a gateway"))
            .expect("the gateway answers");
    }
    assert_eq!(capture.count(), 0, "the gateway's answers came from another node");
}

#[test]
fn neither_arp_nor_neighbour_discovery_between_endpoints_is_seen_on_the_underlay() {
    need!("tcpdump");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.80.0.0/24", "--subnet", "fd00:80::/64"]);
    // The inner EtherType; for IPv6 the next header (ICMPv6) and its type (RFC 4861: 135 and 136).
    let arp = "udp port 4789 and udp[28:2] = 0x0806";
    let discovery =
        "udp port 4789 and udp[28:2] = 0x86dd and udp[36] = 58 and udp[70] >= 135 and udp[70] <= 136";
    let echo = "udp port 4789 and ((udp[28:2] = 0x0800 and udp[39] = 1) or \
                (udp[28:2] = 0x86dd and udp[36] = 58 and udp[70] >= 128 and udp[70] <= 129))";
    let captures = [arp, discovery, echo].map(|filter| Capture::start(lab.underlay(), "n1", filter));
    let endpoints = one_endpoint_each(&lab, "net");
    every_pair_pings(&endpoints, 2);
    let [arp, discovery, echo] = captures.map(Capture::count);
    assert!(echo >= 8, "the captures see what is inside: {echo} echo packets of at least 8");
    assert_eq!((arp, discovery), (0, 0), "ARP and neighbour discovery packets on the underlay");
}
