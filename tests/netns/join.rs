//! Who is let in, and what the others are told: on the node that joins, and in the manager's log.

use std::time::Duration;

use crate::harness::{Lab, Node, SOON, lab, need, wait_until};

/// Whether the manager's log has a line with all of `parts`.
fn logged(manager: &Node, parts: &[&str]) {
    wait_until(&format!("the log of {} says {parts:?}", manager.name()), SOON, || {
        let log = manager.log();
        let found = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        if found { Ok(()) } else { Err("it does not".to_owned()) }
    });
}

/// n2 is in no cluster, and n1 sees itself alone.
fn nobody_came(lab: &Lab) {
    assert_eq!(lab.node(2).lanmesh(["status", "--json"]).json()["state"], "no_cluster");
    assert_eq!(lab.node(1).nodes().len(), 1);
}

#[test]
fn a_text_that_is_no_token_is_refused_before_anything_is_sent() {
    let lab = lab!(2);
    let token = lab.node(1).init();
    let middle = token.len() / 2;
    let other = if token.as_bytes()[middle] == b'a' { "b" } else { "a" };
    let altered = format!("{}{other}{}", &token[..middle], &token[middle + 1..]);
    for bad in ["x", &token[..token.len() - 1], &altered] {
        let why = lab.node(2).try_join(bad, lab.node(1), &[]).refusal();
        assert!(why.contains("token"), "{why}");
    }
    nobody_came(&lab);
}

#[test]
fn the_token_of_another_cluster_shows_that_the_manager_is_not_the_one_it_names() {
    let lab = lab!(3);
    lab.node(1).init();
    let foreign = lab.node(3).init();
    let why = lab.node(2).try_join(&foreign, lab.node(1), &[]).refusal();
    assert!(why.contains("certificate") && why.contains("192.0.2.1"), "{why}");
    nobody_came(&lab);
}

#[test]
fn a_token_that_was_rotated_out_is_refused_on_both_sides_and_the_new_one_admits() {
    let lab = lab!(2);
    let old = lab.node(1).init();
    let new = lab.node(1).lanmesh(["token", "rotate", "--json"]).json()["token"].clone();
    let new = new.as_str().expect("a token is text");
    assert_ne!(old, new);
    let why = lab.node(2).try_join(&old, lab.node(1), &[]).refusal();
    assert!(why.contains("rotated") && why.contains("token show"), "{why}");
    logged(lab.node(1), &["rotated", "192.0.2.2"]);
    nobody_came(&lab);
    assert_eq!(lab.node(1).lanmesh(["token", "show", "--json"]).json()["token"], new);
    lab.node(2).join(new, lab.node(1));
    lab.node(1).wait_alive(2);
}

#[test]
fn an_index_or_a_name_that_is_taken_is_refused_on_both_sides() {
    let lab = lab!(2);
    let token = lab.node(1).init();
    let why = lab.node(2).try_join(&token, lab.node(1), &["--index", "0"]).refusal();
    assert!(why.contains("index 0") && why.contains("n1"), "{why}");
    logged(lab.node(1), &["index 0", "192.0.2.2"]);
    let why = lab.node(2).try_join(&token, lab.node(1), &["--name", "n1"]).refusal();
    assert!(why.contains("n1") && why.contains("--name"), "{why}");
    nobody_came(&lab);
    lab.node(2).try_join(&token, lab.node(1), &["--index", "7"]).success();
    let nodes = lab.node(2).lanmesh(["node", "inspect", "n2", "--json"]).json();
    assert_eq!(nodes["index"], 7);
}

#[test]
fn a_node_whose_clock_is_far_off_is_refused_on_both_sides_with_both_times() {
    need!("faketime");
    let lab = lab!(2);
    let token = lab.node(1).init();
    let joining = lab.node(2);
    joining.kill();
    joining.start_under(&["faketime", "-f", "+2h"]);
    joining.wait_ready();
    let why = joining.try_join(&token, lab.node(1), &[]).refusal();
    assert!(why.contains("clock"), "{why}");
    logged(lab.node(1), &["clock", "192.0.2.2"]);
    nobody_came(&lab);
    joining.kill();
    joining.start_and_wait();
    joining.join(&token, lab.node(1));
    lab.node(1).wait_alive(2);
}

#[test]
fn a_node_in_a_cluster_does_not_join_another_and_says_how_to_leave() {
    let lab = lab!(3);
    lab.join_all(&[1, 2]);
    let token = lab.node(3).init();
    let why = lab.node(2).try_join(&token, lab.node(3), &[]).refusal();
    assert!(why.contains("leave"), "{why}");
    lab.node(1).wait_alive(2);
}

#[test]
fn joining_where_nobody_listens_fails_in_time_and_says_where() {
    let lab = lab!(2);
    let token = lab.node(1).init();
    lab.node(1).kill();
    let begin = std::time::Instant::now();
    let why = lab.node(2).try_join(&token, lab.node(1), &[]).refusal();
    assert!(why.contains("192.0.2.1"), "{why}");
    assert!(begin.elapsed() < Duration::from_secs(30), "after {:?}", begin.elapsed());
}

#[test]
fn many_nodes_that_join_at_once_all_get_an_index_of_their_own() {
    let lab = lab!(5);
    let token = lab.node(1).init();
    // Each command in a process of its own, all at the same time.
    let mut joining: Vec<_> = lab.nodes()[1..]
        .iter()
        .map(|node| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lanmesh"));
            command.env("LANMESH_SOCKET", node.socket());
            command.args(["join", "--token", &token, "192.0.2.1", "--advertise", &node.address()]);
            command.args(["--name", node.name()]).stdout(std::process::Stdio::null());
            command.spawn().expect("the command can be started")
        })
        .collect();
    for child in &mut joining {
        assert!(child.wait().expect("our own child").success(), "a join failed");
    }
    for node in lab.nodes() {
        node.wait_alive(5);
    }
    let nodes = lab.node(5).lanmesh(["node", "ls", "--json"]).json();
    let mut indexes: Vec<_> =
        nodes.as_array().expect("a list").iter().filter_map(|node| node["index"].as_u64()).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, [0, 1, 2, 3, 4]);
}
