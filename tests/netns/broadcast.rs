//! Broadcast and multicast: who gets it, and who does not.

use std::net::IpAddr;

use crate::harness::{Capture, Container, Lab, Listener, SOON, lab, need, ping, send, wait_until};
use crate::unicast::address;

const PORT: u16 = 5601;

/// What goes to more than one: limited and directed broadcast, and groups of every scope.
const TARGETS: [&str; 6] =
    ["255.255.255.255", "10.82.0.255", "224.0.0.251", "239.1.2.3", "ff02::fb", "ff15::82"];

fn target(text: &str) -> (IpAddr, Option<IpAddr>) {
    let address: IpAddr = text.parse().expect("is written right");
    (address, address.is_multicast().then_some(address))
}

/// Containers c1 to cN on nodes n1 to nN that reach each other.
pub fn endpoints(lab: &Lab, count: usize) -> Vec<Container> {
    let mut containers = Vec::new();
    let mut addresses = Vec::new();
    for i in 1..=count {
        let container = Container::named(&format!("c{i}"));
        let answer = lab.node(i).attach("net", &format!("c{i}"), &container);
        addresses.push(address(&answer, 0));
        containers.push(container);
    }
    for from in &containers {
        for to in &addresses {
            wait_until(&format!("{to} is reached"), SOON, || ping(from, to));
        }
    }
    containers
}

/// Sends 10 datagrams to `to` from the first container; how many of them each of the others gets.
fn received(containers: &[Container], to: &str) -> Vec<usize> {
    let (address, group) = target(to);
    let listeners: Vec<_> = containers[1..].iter().map(|c| Listener::open(c, PORT, group)).collect();
    send(&containers[0], address, PORT, to, 10);
    listeners.iter().map(|listener| listener.count(to)).collect()
}

#[test]
fn broadcast_and_multicast_reach_every_node_with_an_endpoint() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24", "--subnet", "fd00:82::/64"]);
    let containers = endpoints(&lab, 3);
    for to in TARGETS {
        assert_eq!(received(&containers, to), [10, 10], "datagrams to {to} that c2 and c3 got of 10");
    }
}

#[test]
fn flooded_multicast_reaches_every_node_with_an_endpoint() {
    let lab = lab!(3).cluster();
    let subnets = ["--subnet", "10.82.0.0/24", "--subnet", "fd00:82::/64", "--multicast", "flood"];
    lab.network("net", &subnets);
    let containers = endpoints(&lab, 3);
    for to in TARGETS {
        assert_eq!(received(&containers, to), [10, 10], "datagrams to {to} that c2 and c3 got of 10");
    }
}

#[test]
fn a_node_without_an_endpoint_gets_no_packet_of_the_network() {
    need!("tcpdump");
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let mut containers = endpoints(&lab, 2);
    let spared = Capture::start(lab.underlay(), "n3", "udp port 4789");
    let served = Capture::start(lab.underlay(), "n2", "udp port 4789");
    assert_eq!(received(&containers, "10.82.0.255"), [10]);
    assert_eq!(received(&containers, "224.0.0.251"), [10]);
    assert!(served.count() >= 20, "the captures see what there is");
    assert_eq!(spared.count(), 0, "packets of the network at the node that has no part in it");
    // As soon as it has an endpoint it gets them.
    let third = Container::named("c3");
    let answer = lab.node(3).attach("net", "c3", &third);
    wait_until("c1 reaches c3", SOON, || ping(&containers[0], &address(&answer, 0)));
    containers.push(third);
    assert_eq!(received(&containers, "10.82.0.255"), [10, 10]);
    // And with its last endpoint it gets none.
    lab.node(3).detach("net", "c3");
    lab.node(1).wait_endpoints("net", &["c1@n1", "c2@n2"]);
    containers.pop();
    wait_until("n3 gets no more packets of the network", SOON, || {
        let spared = Capture::start(lab.underlay(), "n3", "udp port 4789");
        send(&containers[0], target("10.82.0.255").0, PORT, "x", 10);
        match spared.count() {
            0 => Ok(()),
            count => Err(format!("{count} packets")),
        }
    });
}

#[test]
fn with_multicast_off_groups_stay_on_their_node_and_unicast_goes_on() {
    let lab = lab!(2).cluster();
    let subnets = ["--subnet", "10.82.0.0/24", "--subnet", "fd00:82::/64", "--multicast", "off"];
    lab.network("net", &subnets);
    // `endpoints` has seen to it that unicast works.
    let containers = endpoints(&lab, 2);
    for to in TARGETS.into_iter().filter(|to| target(to).1.is_some()) {
        assert_eq!(received(&containers, to), [0], "datagrams to {to} that crossed to c2");
    }
}
