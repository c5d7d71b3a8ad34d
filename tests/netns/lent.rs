//! A subnet can be used to its last address, whichever node its endpoints are on: nodes borrow of each other's blocks.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Container, LATER, Lab, Node, SOON, lab, ping, wait_until};

/// What is not used goes back after a while.
const GOES_BACK: Duration = Duration::from_secs(60);

/// Seven blocks of four.
const SMALL: [&str; 4] = ["--subnet", "10.84.0.0/27", "--block-size", "4"];

fn address(answer: &Value) -> String {
    let address = answer["addresses"][0].as_str().expect("an address");
    address.split('/').next().expect("is never empty").to_owned()
}

/// Attaches containers of these names; their addresses.
fn attach_all(node: &Node, names: impl IntoIterator<Item = String>) -> (Vec<String>, Vec<Container>) {
    let attach = |name: String| {
        let container = Container::named(&name);
        (address(&node.attach("net", &name, &container)), container)
    };
    names.into_iter().map(attach).unzip()
}

/// What is lent, as a node says it: the range, by whom, to whom.
fn lent(node: &Node) -> Result<BTreeSet<(String, String, String)>, String> {
    let plan = node.lanmesh(["ipam", "plan", "net", "--json"]).ok()?;
    let rows = plan["subnets"][0]["lent"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    Ok(rows.iter().map(|row| (text(row, "range"), text(row, "from"), text(row, "to"))).collect())
}

fn wait_lent(
    node: &Node,
    what: &str,
    time: Duration,
    test: impl Fn(&BTreeSet<(String, String, String)>) -> bool,
) {
    wait_until(what, time, || {
        let lent = lent(node)?;
        if test(&lent) { Ok(()) } else { Err(format!("{lent:?}")) }
    });
}

/// A cluster of all nodes of a lab, with one network.
fn cluster(lab: Lab, network: &[&str]) -> Lab {
    let lab = lab.cluster();
    lab.network("net", network);
    lab
}

#[test]
fn a_node_whose_block_is_full_borrows_keeps_it_when_its_agent_is_killed_and_gives_it_back() {
    let lab = cluster(lab!(3), &SMALL);
    let (n1, n2, n3) = (lab.node(1), lab.node(2), lab.node(3));
    let asking = Container::named("asking");
    n3.attach("net", "asking", &asking);
    let (addresses, _containers) = attach_all(n2, (0..6).map(|n| format!("b{n}")));
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 6, "{addresses:?}");
    let block = n2.lanmesh(["ipam", "plan", "net", "--json"]).json()["subnets"][0]["block"].to_string();
    assert_eq!(block, "[\"10.84.0.6-10.84.0.9\"]");
    for borrowed in &addresses[4..] {
        // Of the highest block, which is no node's.
        assert!(
            ["10.84.0.26", "10.84.0.27", "10.84.0.28", "10.84.0.29"].contains(&borrowed.as_str()),
            "{borrowed}"
        );
        wait_until("it is reached", SOON, || ping(&asking, borrowed));
    }
    for node in [n1, n2, n3] {
        wait_lent(node, "all know what is lent", SOON, |lent| {
            lent.len() == 2 && lent.iter().all(|(_, from, to)| (from.as_str(), to.as_str()) == ("n1", "n2"))
        });
    }
    let shown = n3.lanmesh(["ipam", "plan", "net"]).success();
    assert!(shown.contains("LENT") && shown.contains(addresses[5].as_str()), "{shown}");

    // An address of what is lent is granted by whoever has it alone, and the refusal says who that is.
    let other = Container::named("other");
    let why = n1.try_attach("net", "other", &other, &["--ip", &addresses[5]]).refusal();
    assert!(why.contains("n2"), "{why}");

    n2.kill();
    assert!(ping(&asking, &addresses[5]).is_ok(), "the traffic goes on");
    n2.start_and_wait();
    n2.wait_alive(3);
    wait_lent(n1, "it is lent still", SOON, |lent| lent.len() == 2);
    ping(&asking, &addresses[5]).expect("it is reached after the restart");
    // What it had it gets again.
    n2.detach("net", "b5");
    let again = Container::named("b5-again");
    assert_eq!(address(&n2.attach("net", "b5", &again)), addresses[5]);

    for name in ["b4", "b5"] {
        n2.detach("net", name);
    }
    for node in [n1, n3] {
        wait_lent(node, "all went back", GOES_BACK, BTreeSet::is_empty);
    }
    // By then somebody else can have it.
    let (addresses, _more) = attach_all(n3, (0..5).map(|n| format!("c{n}")));
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 5);
}

#[test]
fn the_sixteenth_node_in_a_subnet_with_fifteen_blocks_and_the_seventeenth_container_on_one_have_addresses() {
    let lab = cluster(lab!(17), &["--subnet", "10.84.0.0/24"]);
    let (first, last) = (lab.node(1), lab.node(17));
    let (mut addresses, containers) = attach_all(lab.node(16), ["s".to_owned()]);
    let (more, late) = attach_all(last, (0..2).map(|n| format!("l{n}")));
    addresses.extend(more);
    let (more, _many) = attach_all(first, (0..17).map(|n| format!("m{n}")));
    addresses.extend(more);
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 20, "{addresses:?}");
    wait_until("they reach each other", SOON, || ping(&containers[0], &addresses[2]));
    wait_until("they reach the first node", SOON, || ping(&late[1], &addresses[19]));
}

#[test]
fn twenty_nodes_have_five_endpoints_each_in_a_subnet_with_fifteen_blocks() {
    let lab = cluster(lab!(20), &["--subnet", "10.84.0.0/24"]);
    let (mut addresses, mut containers) = (BTreeSet::new(), Vec::new());
    for nth in 0..5 {
        for node in lab.nodes() {
            let (more, here) = attach_all(node, [format!("e{}-{nth}", node.number())]);
            addresses.extend(more);
            containers.extend(here);
        }
    }
    assert_eq!(addresses.len(), 100, "{addresses:?}");
}

#[test]
fn two_hundred_endpoints_are_on_one_of_cluster() {
    let lab = cluster(lab!(3), &["--subnet", "10.84.0.0/24"]);
    let (addresses, _containers) = attach_all(lab.node(2), (0..200).map(|n| format!("e{n}")));
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 200, "{addresses:?}");
    wait_lent(lab.node(3), "it has them by few loans", SOON, |lent| !lent.is_empty() && lent.len() < 40);
}

#[test]
fn what_is_left_of_a_loan_goes_back_and_the_rest_of_it_is_used_on() {
    let lab = cluster(lab!(2), &["--subnet", "10.84.0.0/26", "--block-size", "8"]);
    let (n1, n2) = (lab.node(1), lab.node(2));
    // A node with eight asks for two.
    let (addresses, _containers) = attach_all(n2, (0..9).map(|n| format!("b{n}")));
    let last = addresses.last().expect("there are nine").clone();
    wait_lent(n1, "two are lent", SOON, |lent| {
        lent.iter().all(|(range, ..)| range.contains('-')) && lent.len() == 1
    });
    let one = BTreeSet::from([(last.clone(), "n1".to_owned(), "n2".to_owned())]);
    wait_lent(n1, "the other one went back", GOES_BACK, |lent| *lent == one);
    n2.kill();
    n2.start_and_wait();
    n2.wait_alive(2);
    let (more, _more) = attach_all(n2, ["b9".to_owned()]);
    assert!(!addresses.contains(&more[0]), "{addresses:?} {more:?}");
    n2.detach("net", "b8");
    let again = Container::named("b8-again");
    assert_eq!(address(&n2.attach("net", "b8", &again)), last);
}

#[test]
fn one_node_has_all_that_the_others_do_not_use_and_is_then_told_that_the_subnet_is_full() {
    let lab = cluster(lab!(3), &SMALL);
    let (mut addresses, _one) = attach_all(lab.node(1), ["a".to_owned()]);
    let (more, _two) = attach_all(lab.node(3), ["b".to_owned()]);
    addresses.extend(more);
    // All of the seven blocks of four.
    let (more, _three) = attach_all(lab.node(2), (0..26).map(|n| format!("e{n}")));
    addresses.extend(more);
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 28, "{addresses:?}");
    let last = Container::named("last");
    let why = lab.node(2).try_attach("net", "last", &last, &[]).refusal();
    for part in ["full", "4 of 4", "no node has addresses of 10.84.0.0/27", "--add-subnet"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(last.links().is_empty());
    lab.node(1).detach("net", "a");
    wait_until("it has the one that became free", SOON, || {
        lab.node(2).try_attach("net", "last", &last, &[]).ok()
    });
    // Blocks of four of an added subnet are as full: each endpoint gets an address there all the same.
    lab.node(1).lanmesh(["network", "set", "net", "--add-subnet", "10.85.0.0/24"]).success();
    wait_until("every endpoint has an address of the added subnet", LATER, || {
        let endpoints = lab.node(2).lanmesh(["endpoint", "ls", "net", "--json"]).ok()?;
        let all = endpoints.as_array().cloned().unwrap_or_default();
        let added = all.iter().filter_map(|endpoint| endpoint["addresses"][1].as_str());
        let added: BTreeSet<&str> = added.collect();
        if added.len() == 28 { Ok(()) } else { Err(format!("{} of {} have one", added.len(), all.len())) }
    });
}

#[test]
fn a_lender_that_is_set_back_to_an_older_state_hears_of_what_it_has_lent() {
    let lab = cluster(lab!(2), &SMALL);
    let (n1, n2) = (lab.node(1), lab.node(2));
    let run = |script: &str| {
        let copied = Command::new("sh").args(["-c", script]).status().expect("there is a shell");
        assert!(copied.success(), "{script}");
    };
    let (data, copy) = (n1.data_dir().display().to_string(), lab.dir().join("older").display().to_string());
    n1.stop();
    run(&format!("cp -a {data} {copy}"));
    n1.start_and_wait();
    n1.wait_alive(2);
    n2.wait_alive(2);
    let (addresses, _containers) = attach_all(n2, (0..5).map(|n| format!("b{n}")));
    wait_lent(n1, "it is lent", SOON, |lent| lent.len() == 1);
    n1.stop();
    run(&format!("rm -rf {data} && mv {copy} {data}"));
    n1.start_and_wait();
    assert_eq!(lent(n1).expect("it answers"), BTreeSet::new(), "its state is the older one");
    wait_lent(n1, "it has heard of it", LATER, |lent| lent.len() == 1);
    let (more, _more) = attach_all(n1, (0..6).map(|n| format!("a{n}")));
    assert!(more.iter().all(|address| !addresses.contains(address)), "{more:?} {addresses:?}");
}

#[test]
fn a_node_without_a_block_borrows_and_where_who_could_lend_is_away_the_error_says_who() {
    // Two blocks of six for three nodes.
    let lab = cluster(lab!(3), &["--subnet", "10.84.0.0/28", "--block-size", "6"]);
    let (n1, n2, n3) = (lab.node(1), lab.node(2), lab.node(3));
    let (mut addresses, _first) = attach_all(n3, ["a".to_owned()]);
    // The manager is away: n2 lends of its own block.
    n1.kill();
    wait_until(
        "n1 is given up",
        SOON,
        || {
            if n3.state_of(n1) == "dead" { Ok(()) } else { Err(n3.state_of(n1)) }
        },
    );
    let (more, _second) = attach_all(n3, ["b".to_owned()]);
    addresses.extend(more);
    wait_lent(n3, "n2 lends", SOON, |lent| {
        lent.iter().any(|(_, from, to)| (from.as_str(), to.as_str()) == ("n2", "n3"))
    });
    lab.cut(n2);
    wait_until(
        "n2 is given up",
        SOON,
        || {
            if n3.state_of(n2) == "dead" { Ok(()) } else { Err(n3.state_of(n2)) }
        },
    );
    let container = Container::named("c");
    let why = n3.try_attach("net", "c", &container, &[]).refusal();
    for part in ["does not answer", "n1", "n2", "bring it back"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(container.links().is_empty());
    lab.heal(n2);
    n1.start_and_wait();
    n1.wait_alive(3);
    n3.wait_alive(3);
    addresses.push(address(&n3.attach("net", "c", &container)));
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 3, "{addresses:?}");
    // What it still has of its block n2 gives to its own.
    let (more, _third) = attach_all(n2, ["d".to_owned()]);
    assert!(!addresses.contains(&more[0]), "{addresses:?} {more:?}");
}
