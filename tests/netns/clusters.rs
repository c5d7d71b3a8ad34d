//! Several clusters on one underlay.

use crate::harness::{Capture, Container, SOON, ask, lab, need, wait_until};
use crate::harness::{LabConfig, Responder};
use crate::unicast::address;

#[test]
fn two_clusters_side_by_side_on_one_underlay_do_not_meet() {
    need!("tcpdump");
    let lab = lab!(LabConfig::from(4));
    lab.join_all(&[1, 2]);
    lab.join_all(&[3, 4]);
    for (first, text) in [(1, "first"), (3, "second")] {
        // One name, one subnet, and the same endpoints in both.
        lab.node(first).create_network("net", &["--subnet", "10.86.0.0/24", "--block-size", "32"]);
        let name = lab.node(first).lanmesh(["network", "ls", "--json"]).json();
        assert_eq!(name.as_array().map(Vec::len), Some(1), "{text} knows its own network only: {name}");
    }
    let containers: Vec<_> = (1..=4).map(|i| Container::named(&format!("c{i}"))).collect();
    let mut responders = Vec::new();
    for (clients, text) in [(1, "first"), (3, "second")] {
        let (client, server) = (lab.node(clients), lab.node(clients + 1));
        wait_until("the other node knows the network", SOON, || {
            server.lanmesh(["network", "inspect", "net", "--json"]).ok()
        });
        client.attach("net", "client", &containers[clients - 1]);
        let answer = server.attach("net", "server", &containers[clients]);
        responders.push(Responder::start(&containers[clients], 5603, text));
        let to = address(&answer, 0);
        let from = &containers[clients - 1];
        let who = wait_until("the server answers", SOON, || ask(from, &to, 5603));
        assert_eq!(who, text, "the answer comes from the client's own cluster");
    }
    // Sealed or not, nothing goes from one to the other.
    let across = "(src host 192.0.2.1 or src host 192.0.2.2) and (dst host 192.0.2.3 or dst host 192.0.2.4)";
    let capture = Capture::start(lab.underlay(), "br0", across);
    for i in [1, 2, 3, 4] {
        lab.node(i).wait_alive(2);
    }
    assert_eq!(capture.count(), 0, "packets between the clusters");
}

#[test]
fn two_networks_that_got_one_name_during_a_cut_are_both_shown_and_the_older_owns_the_name() {
    let lab = lab!(2).cluster();
    lab.cut(lab.node(2));
    lab.node(1).create_network("net", &["--subnet", "10.86.0.0/24"]);
    lab.node(2).create_network("net", &["--subnet", "10.87.0.0/24"]);
    lab.heal(lab.node(2));
    for node in lab.nodes() {
        wait_until(&format!("{} shows the younger one in conflict", node.name()), SOON, || {
            let list = node.lanmesh(["network", "ls", "--json"]).ok()?;
            let mut shown: Vec<_> = list
                .as_array()
                .ok_or("no list")?
                .iter()
                .map(|network| (network["subnets"][0].to_string(), network["conflict"].to_string()))
                .collect();
            shown.sort();
            let expected = [("\"10.86.0.0/24\"", "false"), ("\"10.87.0.0/24\"", "true")]
                .map(|(subnet, conflict)| (subnet.to_owned(), conflict.to_owned()));
            if shown == expected { Ok(()) } else { Err(format!("{shown:?}")) }
        });
    }
}
