//! What operators ask every day: who has this address, what is where, how to begin.

use crate::harness::{Container, lab};

#[test]
fn an_address_a_mac_and_a_name_are_told_from_any_node() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let containers = [Container::named("c1"), Container::named("c2")];
    let first = lab.node(1).try_attach("net", "Web-1", &containers[0], &["--alias", "www"]).json();
    let slot = ["--service", "db", "--slot", "3"];
    lab.node(2).try_attach("net", "d", &containers[1], &slot).success();
    let address = first["addresses"][0].as_str().and_then(|text| text.split('/').next()).expect("an address");
    let mac = first["mac"].as_str().expect("a MAC");
    for node in lab.nodes() {
        let whois = |what: &str| {
            let known = node.lanmesh(["whois", what, "--json"]).json();
            let line = |one: &serde_json::Value| {
                let text = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
                [text("what"), text("network"), text("name"), text("node")].join(" ")
            };
            known.as_array().expect("a list").iter().map(line).collect::<Vec<_>>().join(", ")
        };
        for what in [address, mac, "web-1", "WWW"] {
            assert_eq!(whois(what), "endpoint net web-1 n1", "{what}");
        }
        assert_eq!(whois("3.db"), "endpoint net d n2");
        assert_eq!(whois("db"), "endpoint net d n2");
        assert_eq!(whois("10.82.0.1"), "gateway net net -");
        assert_eq!(whois("n2"), "node - n2 n2");
        let why = node.lanmesh(["whois", "10.82.0.77"]).refusal();
        assert!(why.contains("nobody is \"10.82.0.77\"") && why.contains("ipam plan"), "{why}");
        let listed = node.lanmesh(["endpoint", "list", "net", "--node", "n2", "--json"]).json();
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        assert_eq!(node.lanmesh(["endpoint", "inspect", "net", "d"]).json()["slot"], 3);
        let inspected = node.lanmesh(["network", "inspect", "net"]).json();
        let names: Vec<_> =
            inspected["endpoints"].as_array().into_iter().flatten().map(|e| &e["name"]).collect();
        assert_eq!(names, ["d", "web-1"], "{inspected}");
        let events =
            node.lanmesh(["events", "--kind", "endpoint_added", "--network", "net", "--since", "1h"]);
        assert_eq!(events.success().lines().count(), 2);
    }
}

#[test]
fn where_zeroconf_is_off_a_list_of_services_says_so() {
    let lab = lab!(1).cluster();
    let node = lab.node(1);
    for (name, mode, is_said) in [("quiet", "off", true), ("open", "proxy", false)] {
        node.create_network(name, &["--subnet", "10.83.0.0/24", "--zeroconf", mode]);
        let said = node.lanmesh(["discover", name]).to_string();
        assert_eq!(said.contains(&format!("zeroconf of {name} is off")), is_said, "{said}");
        node.lanmesh(["network", "delete", name]).success();
    }
}

#[test]
fn a_cluster_begins_at_the_address_by_which_the_node_sends_elsewhere() {
    let lab = lab!(1);
    let node = lab.node(1);
    let why = node.lanmesh(["init"]).refusal();
    assert!(why.contains("has no route to elsewhere") && why.contains("--advertise"), "{why}");
    node.netns().ip("route add default via 192.0.2.99");
    let said = node.lanmesh(["init"]).success();
    assert!(said.contains("Others reach it at 192.0.2.1:7979;") && said.contains("lanmesh join"), "{said}");
    let status = node.lanmesh(["status", "--json"]).json();
    assert_eq!(status["cluster"]["address"], "192.0.2.1:7979");
}
