//! Zeroconf: what of mDNS crosses the underlay.

use std::net::IpAddr;
use std::time::Duration;

use crate::broadcast::endpoints;
use crate::harness::{Lab, Listener, lab, need, send};

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

/// Sends 10 datagrams of text to a group, from the bridge of the namespace that it runs in.
const SEND: &str = r#"
import socket, sys, time
to = sys.argv[1]
v6 = ':' in to
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'br0')
for _ in range(10):
    s.sendto(to.encode(), (to, 5353, 0, socket.if_nametoindex('br0')) if v6 else (to, 5353))
    time.sleep(0.005)
"#;

#[test]
fn what_a_node_itself_sends_to_a_group_reaches_endpoints_everywhere_once_although_all_bridges_are_alike() {
    need!("python3");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24", "--subnet", "fd00:82::/64"]);
    let containers = endpoints(&lab, 2);
    for to in ["224.0.0.251", "ff02::fb"] {
        let group: IpAddr = to.parse().expect("is written right");
        let listeners: Vec<_> = containers.iter().map(|c| Listener::open(c, MDNS, Some(group))).collect();
        // A group that was joined just now is known everywhere after this.
        std::thread::sleep(Duration::from_millis(500));
        lab.node(1).network_exec("net", &["python3", "-c", SEND, to]).success();
        let counts: Vec<_> = listeners.iter().map(|listener| listener.count(to)).collect();
        assert_eq!(counts, [10, 10], "datagrams from n1 to {to} that c1 and c2 got of 10");
    }
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
