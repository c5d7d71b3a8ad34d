//! The MTU inside follows from the underlay.

use crate::harness::{Container, Lab, LabConfig, SOON, lab, ping, ping_exactly, wait_until};
use crate::unicast::address;

/// What VXLAN over IPv4 takes (RFC 7348 section 5).
const OVERHEAD: u32 = 50;

/// Whether packets of exactly the MTU pass between c1 on n1 and c2 on n2, and one byte more does not.
fn exactly_the_mtu_passes(lab: &Lab, expected: u32) {
    lab.network("net", &["--subnet", "10.84.0.0/24", "--subnet", "fd00:84::/64"]);
    let (one, two) = (Container::named("c1"), Container::named("c2"));
    lab.node(1).attach("net", "c1", &one);
    let answer = lab.node(2).attach("net", "c2", &two);
    assert_eq!(answer["mtu"], expected);
    for to in [address(&answer, 0), address(&answer, 1)] {
        wait_until(&format!("{to} is reached"), SOON, || ping(&one, &to));
        // The network may have shrunk with the second node.
        wait_until(&format!("{expected} bytes reach {to}"), SOON, || ping_exactly(&one, &to, expected));
        wait_until(&format!("{} bytes do not pass to {to}", expected + 1), SOON, || {
            match ping_exactly(&one, &to, expected + 1) {
                Ok(()) => Err("they do".to_owned()),
                Err(_) => Ok(()),
            }
        });
    }
}

#[test]
fn on_an_underlay_of_1400_bytes_exactly_1350_pass() {
    exactly_the_mtu_passes(&lab!(LabConfig::mtus(&[1400, 1400])).cluster(), 1400 - OVERHEAD);
}

#[test]
fn on_an_underlay_of_9000_bytes_exactly_8950_pass() {
    exactly_the_mtu_passes(&lab!(LabConfig::mtus(&[9000, 9000])).cluster(), 9000 - OVERHEAD);
}

#[test]
fn the_node_with_the_smallest_underlay_decides_for_the_network() {
    exactly_the_mtu_passes(&lab!(LabConfig::mtus(&[9000, 1500])).cluster(), 1500 - OVERHEAD);
}

/// Whether a refusal names the family, the MTU of the underlay, what is left of it, and what is needed.
fn names_the_numbers(why: &str) {
    for part in ["IPv6", "1300", "1250", "1280"] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

#[test]
fn a_network_with_ipv6_is_not_created_where_the_underlay_is_too_small_for_it() {
    let lab = lab!(LabConfig::mtus(&[1300])).cluster();
    names_the_numbers(
        &lab.node(1).lanmesh(["network", "create", "six", "--subnet", "fd00:84::/64"]).refusal(),
    );
    lab.network("four", &["--subnet", "10.84.0.0/24"]);
    let container = Container::named("c1");
    assert_eq!(lab.node(1).attach("four", "c1", &container)["mtu"], 1250);
}

#[test]
fn an_underlay_that_shrank_changes_no_answer_about_what_was_there_before() {
    let lab = lab!(1).cluster();
    let n1 = lab.node(1);
    let six = ["network", "create", "six", "--subnet", "fd00:84::/64", "--json"];
    let created = n1.lanmesh(six).json();
    let (one, two) = (Container::named("c1"), Container::named("c2"));
    let attached = n1.attach("six", "c1", &one);
    n1.netns().ip("link set eth0 mtu 1300");
    wait_until("the agent sees the smaller underlay", SOON, || {
        match n1.lanmesh(["node", "inspect", "n1", "--json"]).ok()?["underlay_mtu"].as_u64() {
            Some(1300) => Ok(()),
            mtu => Err(format!("{mtu:?}")),
        }
    });
    let mut again = n1.attach("six", "c1", &one);
    assert_eq!(again["mtu"], 1280, "what IPv6 needs at least");
    again["mtu"] = attached["mtu"].clone();
    assert_eq!(again, attached);
    assert_eq!(n1.lanmesh(six).json()["id"], created["id"]);
    // What is new is measured by what the underlay is now.
    names_the_numbers(&n1.try_attach("six", "c2", &two, &[]).refusal());
}

#[test]
fn a_network_with_ipv6_can_be_created_although_another_nodes_underlay_is_too_small_for_it() {
    let lab = lab!(LabConfig::mtus(&[1500, 1300])).cluster();
    lab.network("six", &["--subnet", "fd00:84::/64"]);
    names_the_numbers(
        &lab.node(2).lanmesh(["network", "create", "seven", "--subnet", "fd00:85::/64"]).refusal(),
    );
}

#[test]
fn a_node_whose_underlay_is_too_small_for_ipv6_cannot_attach_and_the_others_are_not_hurt() {
    let lab = lab!(LabConfig::mtus(&[1500, 1300]));
    let (one, two) = (Container::named("c1"), Container::named("c2"));
    // The network is there before the node comes.
    let token = lab.node(1).init();
    lab.node(1).create_network("six", &["--subnet", "fd00:84::/64"]);
    assert_eq!(lab.node(1).attach("six", "c1", &one)["mtu"], 1450);
    lab.node(2).join(&token, lab.node(1));
    wait_until("n2 knows the network", SOON, || {
        lab.node(2).lanmesh(["network", "inspect", "six", "--json"]).ok()
    });
    names_the_numbers(&lab.node(2).try_attach("six", "c2", &two, &[]).refusal());
    assert!(two.links().is_empty(), "nothing is left in the container");
    lab.node(1).wait_endpoints("six", &["c1@n1"]);
    assert_eq!(one.ip_json("link show dev eth0")[0]["mtu"], 1450);
}

#[test]
fn an_address_on_the_loopback_has_the_mtu_of_the_way_to_the_others() {
    let lab = lab!(2);
    let (n1, n2) = (lab.node(1), lab.node(2));
    n1.netns().ip("address add 198.51.100.1/32 dev lo");
    n2.netns().ip(&format!("route add 198.51.100.1/32 via {}", n1.address()));
    let init = ["init", "--advertise", "198.51.100.1", "--name", "n1", "--json"];
    let token = n1.lanmesh(init).json()["token"].as_str().expect("a token").to_owned();
    n2.lanmesh(["join", "--token", &token, "198.51.100.1", "--advertise", &n2.address(), "--name", "n2"])
        .success();
    lab.network("net", &["--subnet", "10.84.0.0/24"]);
    let (one, two) = (Container::named("c1"), Container::named("c2"));
    assert_eq!(n1.attach("net", "c1", &one)["mtu"], 1500 - OVERHEAD);
    let answer = n2.attach("net", "c2", &two);
    assert_eq!(answer["mtu"], 1500 - OVERHEAD);
    let to = address(&answer, 0);
    wait_until("a whole packet passes", SOON, || ping_exactly(&one, &to, 1500 - OVERHEAD));

    // The way shrinks, and the address is still on the loopback.
    n1.netns().ip("link set eth0 mtu 1400");
    wait_until("the network shrinks", SOON, || ping_exactly(&one, &to, 1400 - OVERHEAD));
    wait_until("on the other node too", SOON, || {
        match two.ip_json("link show dev eth0")[0]["mtu"].as_u64() {
            Some(1350) => Ok(()),
            mtu => Err(format!("{mtu:?}")),
        }
    });

    // A restart neither forgets it nor tells of another in between.
    n1.kill();
    n1.start_and_wait();
    assert_eq!(n1.lanmesh(["node", "inspect", "n1", "--json"]).json()["underlay_mtu"], 1400);
}
