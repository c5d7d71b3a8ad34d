//! What changes on a living network, on every node, and takes no packet away; and what is said of nodes.

use serde_json::Value;

use crate::harness::{Container, Pings, SOON, lab, ping, wait_until};
use crate::unicast::address;

fn inspected(node: &crate::harness::Node) -> Value {
    node.lanmesh(["network", "inspect", "net", "--json"]).json()
}

#[test]
fn each_option_is_set_on_every_node_and_no_packet_of_a_running_stream_is_lost() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.60.0.0/24"]);
    let containers = ["c1", "c2"].map(Container::named);
    let answers = [1, 2].map(|n| lab.node(n).attach("net", &format!("c{n}"), &containers[n - 1]));
    let to = address(&answers[1], 0);
    wait_until("they reach each other", SOON, || ping(&containers[0], &to));
    let pings = Pings::start(&containers[0], &to, 200);
    for (option, json, value) in [
        ("--multicast", "multicast", "flood"),
        ("--multicast", "multicast", "off"),
        ("--multicast", "multicast", "snoop"),
        ("--broadcast", "broadcast", "off"),
        ("--zeroconf", "zeroconf", "proxy"),
        ("--spoofing", "spoofing", "allow"),
        ("--spoofing", "spoofing", "deny"),
        ("--dns-forward", "dns_forward", "off"),
        ("--dns-ttl", "dns_ttl", "9"),
        ("--mtu", "mtu", "1300"),
    ] {
        lab.node(1).lanmesh(["network", "set", "net", option, value]).success();
        wait_until(&format!("{option} {value} is known on n2"), SOON, || {
            let found = inspected(lab.node(2))[json].clone();
            let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            if text == value { Ok(()) } else { Err(text) }
        });
        for node in lab.nodes() {
            wait_until(&format!("{} has brought {option} {value} about", node.name()), SOON, || {
                let plan = node.lanmesh(["plan"]).success();
                if plan.contains("nothing to change") { Ok(()) } else { Err(plan) }
            });
        }
    }
    let (sent, received) = pings.finish();
    assert_eq!(sent - received, 0, "packets lost of {sent} while settings changed");
    for (n, container) in [1, 2].iter().zip(&containers) {
        wait_until("the interface has the new MTU", SOON, || {
            let link = container.ip("link show eth0");
            if link.contains("mtu 1300") { Ok(()) } else { Err(format!("n{n}: {link}")) }
        });
    }
    // It is durable, and what it was created with otherwise stays.
    lab.node(2).kill();
    lab.node(2).start_and_wait();
    let found = inspected(lab.node(2));
    assert_eq!((&found["zeroconf"], &found["mtu"]), (&"proxy".into(), &1300.into()), "{found}");
    assert_eq!(found["encrypt"], "none");
    let refused = lab.node(1).lanmesh(["network", "set", "gone", "--multicast", "off"]).refusal();
    assert!(refused.contains("gone"), "{refused}");
}

#[test]
fn a_subnet_that_is_added_gives_those_that_are_there_an_address_and_takes_none() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.60.0.0/24"]);
    let containers = ["c1", "c2"].map(Container::named);
    let answers = [1, 2].map(|n| lab.node(n).attach("net", &format!("c{n}"), &containers[n - 1]));
    let to = address(&answers[1], 0);
    wait_until("they reach each other", SOON, || ping(&containers[0], &to));
    let pings = Pings::start(&containers[0], &to, 160);
    lab.node(2).lanmesh(["network", "set", "net", "--add-subnet", "fd00:60::/64"]).success();
    let addresses = |name: &str| {
        let all = lab.node(1).lanmesh(["endpoint", "ls", "net", "--json"]).json();
        let found = all.as_array().expect("a list").iter().find(|one| one["name"] == name).cloned();
        found.expect("is there")["addresses"].as_array().expect("a list").clone()
    };
    wait_until("both have an address of each subnet", SOON, || {
        let both = [addresses("c1"), addresses("c2")];
        if both.iter().all(|of| of.len() == 2) { Ok(()) } else { Err(format!("{both:?}")) }
    });
    let second =
        addresses("c2")[1].as_str().expect("a text").split('/').next().expect("an address").to_owned();
    assert!(second.starts_with("fd00:60::"), "{second}");
    wait_until("the new address is reached", SOON, || ping(&containers[0], &second));
    let (sent, received) = pings.finish();
    assert_eq!(sent - received, 0, "packets lost of {sent} while a subnet was added");
    // One that comes afterwards has both as well, and the addresses are those that can be computed beforehand.
    let c3 = Container::named("c3");
    let answer = lab.node(1).attach("net", "c3", &c3);
    assert_eq!(answer["addresses"].as_array().map(Vec::len), Some(2), "{answer}");
    let plan = ["ipam", "plan", "net", "--node-index", "1", "--name", "c2", "--json"];
    let planned = lab.node(1).lanmesh(plan).json().to_string();
    assert!(planned.contains(&second) && planned.contains(&to), "{planned}");
}

#[test]
fn a_range_that_somebody_is_in_is_refused_with_his_name_and_others_are_taken() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.60.0.0/24"]);
    let c1 = Container::named("c1");
    let answer = lab.node(2).attach("net", "c1", &c1);
    let taken = address(&answer, 0);
    for what in
        [["--reserve".to_owned(), taken.clone()], ["--pool".to_owned(), format!("web={taken}-{taken}")]]
    {
        let arguments = ["network", "set", "net", &what[0], &what[1]];
        let refused = lab.node(1).lanmesh(arguments).refusal();
        assert!(refused.contains("c1") && refused.contains(&taken) && refused.contains("n2"), "{refused}");
    }
    lab.node(1).lanmesh(["network", "set", "net", "--pool", "web=10.60.0.200-10.60.0.209"]).success();
    let c2 = Container::named("c2");
    let more = ["--service", "web", "--slot", "3"];
    let slot = lab.node(1).try_attach("net", "w3", &c2, &more).json();
    assert_eq!(address(&slot, 0), "10.60.0.203");
    let refused = lab.node(1).lanmesh(["network", "set", "net", "--pool", "web="]).refusal();
    assert!(refused.contains("w3"), "{refused}");
}

#[test]
fn labels_of_any_node_are_set_on_any_and_tell_nodes_apart() {
    let lab = lab!(3).cluster();
    lab.node(1)
        .lanmesh(["node", "set", "n3", "--label", "storage=ssd", "--label", "region=us-east"])
        .success();
    let listed = |filters: &[&str]| {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let arguments: Vec<&str> = ["node", "ls", "--json"].into_iter().chain(filters).collect();
        let nodes = lab.node(2).lanmesh(arguments).json();
        let names = nodes.as_array().expect("a list").iter().map(|node| node["name"].to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    wait_until("n2 knows", SOON, || match listed(&["label=storage=ssd", "label=region"]).as_str() {
        "\"n3\"" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(listed(&["label=storage=hdd"]), "");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel has a release");
    let kernel = format!("label=kernel={}", kernel.trim());
    assert_eq!(listed(&[&kernel, "label=os=linux", "label=arch"]).split(' ').count(), 3);
    lab.node(3).lanmesh(["node", "set", "n3", "--label", "storage="]).success();
    wait_until("it is taken back", SOON, || match listed(&["label=storage"]).as_str() {
        "" => Ok(()),
        other => Err(other.to_owned()),
    });
    let refused = lab.node(1).lanmesh(["node", "set", "n9", "--label", "a=b"]).refusal();
    assert!(refused.contains("n9"), "{refused}");
}
