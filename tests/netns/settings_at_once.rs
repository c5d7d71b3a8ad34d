//! Settings of a network that are changed by several at once: at one node, or on both sides of a cut.

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::harness::{Container, Node, SOON, lab, ping, wait_until};
use crate::unicast::address;

fn texts(of: &Value) -> Vec<String> {
    of.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subnets(node: &Node) -> Vec<String> {
    texts(&node.lanmesh(["network", "inspect", "net", "--json"]).json()["subnets"])
}

/// That the endpoint has one address of each of these, and no other.
fn has_one_of_each(node: &Node, name: &str, subnets: &[String]) -> Result<(), String> {
    let all = node.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let one = all.as_array().into_iter().flatten().find(|one| one["name"] == name);
    let addresses = one.map(|one| texts(&one["addresses"])).unwrap_or_default();
    let parse = |text: &String| text.parse::<IpNetwork>().expect("a network");
    let within =
        |subnet: &String| addresses.iter().any(|address| parse(subnet).contains(parse(address).ip()));
    let right = addresses.len() == subnets.len() && subnets.iter().all(within);
    if right { Ok(()) } else { Err(format!("{addresses:?} in {subnets:?}")) }
}

#[test]
fn what_is_changed_at_one_node_at_the_same_moment_is_all_there() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.61.0.0/24"]);
    let changes: Vec<[String; 2]> = (0..6)
        .flat_map(|i| {
            let pool = format!("p{i}=10.61.0.{}-10.61.0.{}", 100 + 4 * i, 103 + 4 * i);
            [["--pool".to_owned(), pool], ["--reserve".to_owned(), format!("10.61.0.{}", 200 + i)]]
        })
        .collect();
    let begun =
        changes.iter().map(|[what, value]| lab.node(1).begin(&["network", "set", "net", what, value]));
    for mut command in begun.collect::<Vec<_>>() {
        assert!(command.wait().expect("was begun").success());
    }
    for node in lab.nodes() {
        wait_until("all of it is known", SOON, || {
            let found = node.lanmesh(["network", "inspect", "net", "--json"]).json();
            let text = found.to_string();
            let lacks = |[_, value]: &&[String; 2]| {
                let range = value.split_once('=').map_or(value.as_str(), |(_, range)| range);
                !text.contains(&format!("\"{range}"))
            };
            let lacking: Vec<_> = changes.iter().filter(lacks).collect();
            if lacking.is_empty() { Ok(()) } else { Err(format!("{lacking:?} in {text}")) }
        });
    }
}

#[test]
fn of_subnets_that_a_cut_had_two_sides_add_one_stays_and_every_endpoint_has_an_address_there() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.61.0.0/24"]);
    let containers = ["c1", "c2"].map(Container::named);
    let names = ["c1", "c2"];
    for ((node, name), container) in lab.nodes().iter().zip(names).zip(&containers) {
        node.attach("net", name, container);
    }
    for (n, name) in [1, 2].into_iter().zip(names) {
        lab.node(n).wait_endpoints("net", &["c1@n1", "c2@n2"]);
        has_one_of_each(lab.node(n), name, &subnets(lab.node(n))).expect("has what it was given");
    }
    lab.cut(lab.node(2));
    for (n, name, subnet) in [(1, "c1", "10.62.0.0/24"), (2, "c2", "10.63.0.0/24")] {
        lab.node(n).lanmesh(["network", "set", "net", "--add-subnet", subnet]).success();
        wait_until("its own endpoint has an address there", SOON, || {
            has_one_of_each(lab.node(n), name, &subnets(lab.node(n)))
        });
    }
    lab.heal(lab.node(2));
    wait_until("both know of one", SOON, || {
        let [one, two] = [1, 2].map(|n| subnets(lab.node(n)));
        if one == two && one.len() == 2 { Ok(()) } else { Err(format!("{one:?} {two:?}")) }
    });
    // An agent that starts before it has mended that finds an address in no subnet.
    for node in lab.nodes() {
        node.kill();
        node.start_and_wait();
    }
    let left = subnets(lab.node(1));
    wait_until("every endpoint has an address of each", SOON, || {
        for node in lab.nodes() {
            names.iter().try_for_each(|name| has_one_of_each(node, name, &left))?;
        }
        Ok(())
    });
    let inspected = lab.node(2).lanmesh(["endpoint", "inspect", "net", "c2", "--json"]).json();
    let to = address(&inspected, 1);
    wait_until("it is reached there", SOON, || ping(&containers[0], &to));
}

#[test]
fn a_subnet_without_a_block_for_each_node_is_refused() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.61.0.0/24"]);
    let refused = lab.node(1).lanmesh(["network", "set", "net", "--add-subnet", "10.62.0.0/30"]).refusal();
    assert!(refused.contains("room for 1 nodes") && refused.contains("node n2 has index 1"), "{refused}");
    let container = Container::named("c");
    lab.node(2).attach("net", "c", &container);
}

#[test]
fn an_endpoint_whose_address_the_other_side_of_a_cut_gave_to_nodes_is_named() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.61.0.0/24"]);
    let containers = ["c1", "c2"].map(Container::named);
    lab.node(1).attach("net", "c1", &containers[0]);
    lab.cut(lab.node(2));
    let attached = lab.node(2).attach("net", "c2", &containers[1]);
    let at = address(&attached, 0);
    let range = format!("{at}-10.61.0.60");
    lab.node(1).lanmesh(["network", "set", "net", "--node-addresses", &range]).success();
    lab.heal(lab.node(2));
    wait_until("n2 says so", SOON, || {
        let told = lab.node(2).lanmesh(["status"]).success();
        let named = told.contains("endpoint c2 of network net")
            && told.contains(&format!("{at}, which is for nodes"));
        if named { Ok(()) } else { Err(told) }
    });
    lab.node(2).detach("net", "c2");
    assert_ne!(address(&lab.node(2).attach("net", "c2", &containers[1]), 0), at);
    wait_until("all is well", SOON, || {
        let told = lab.node(2).lanmesh(["status"]).success();
        if told.contains("for nodes") { Err(told) } else { Ok(()) }
    });
}
