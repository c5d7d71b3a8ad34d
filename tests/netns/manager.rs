//! A manager that is lost is replaced.

use crate::harness::{Container, SOON, lab, ping, wait_until};
use crate::unicast::address;

#[test]
fn a_node_takes_the_lost_managers_role_and_lets_a_new_node_in_while_the_old_one_comes_back_to_nothing() {
    let lab = lab!(4);
    let [n1, n2, n3, n4] = [1, 2, 3, 4].map(|n| lab.node(n));
    let old = n1.init();
    n2.join(&old, n1);
    n3.join(&old, n1);
    n1.create_network("net", &["--subnet", "10.87.0.0/24"]);
    let (one, two) = (Container::named("c3"), Container::named("c4"));
    wait_until("n3 knows the network", SOON, || n3.lanmesh(["network", "inspect", "net", "--json"]).ok());
    let first = n3.attach("net", "c3", &one);
    let refused = n2.lanmesh(["manager", "recover"]).refusal();
    assert!(refused.contains("n1 (") && refused.contains("--force"), "{refused}");
    n1.kill();
    wait_until("n1 is dead for n2", SOON, || {
        match &n2.lanmesh(["node", "inspect", "n1", "--json"]).ok()?["state"] {
            state if *state == "dead" => Ok(()),
            state => Err(state.to_string()),
        }
    });
    let recovered = n2.lanmesh(["manager", "recover", "--json"]).json();
    let token = recovered["token"].as_str().expect("a token").to_owned();
    n4.join(&token, n2);
    wait_until("n4 knows the network", SOON, || n4.lanmesh(["network", "inspect", "net", "--json"]).ok());
    n4.attach("net", "c4", &two);
    let to = address(&first, 0);
    wait_until(&format!("{to} is reached from the new node"), SOON, || ping(&two, &to));
    n1.start();
    wait_until("n1 hears of its successor", SOON, || {
        let refused = n1.lanmesh(["token", "show"]);
        let told = refused.to_string().contains("n2 (");
        if told { Ok(()) } else { Err(refused.to_string()) }
    });
    let nodes = n1.lanmesh(["node", "ls", "--json"]).json();
    let nodes: Vec<_> = nodes.as_array().expect("a list").iter().collect();
    let managers: Vec<_> =
        nodes.iter().filter(|node| node["manager"] == true).map(|node| &node["name"]).collect();
    assert_eq!(managers, ["n2"]);
    let mut indexes: Vec<_> = nodes.iter().filter_map(|node| node["index"].as_u64()).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, [0, 1, 2, 3]);
}

#[test]
fn a_manager_that_left_is_asked_for_nothing_and_any_node_takes_its_role() {
    let lab = lab!(2).cluster();
    let (n1, n2) = (lab.node(1), lab.node(2));
    n1.lanmesh(["leave"]).success();
    wait_until("n2 knows that it left, and what to do", SOON, || {
        let refused = n2.lanmesh(["token", "show"]).refusal();
        let told = refused.contains("n1 has left") && refused.contains("lanmesh manager recover");
        if told { Ok(()) } else { Err(refused) }
    });
    n2.lanmesh(["manager", "recover"]).success();
    n2.lanmesh(["token", "show"]).success();
}
