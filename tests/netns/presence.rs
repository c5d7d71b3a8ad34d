//! What a node says of itself and of others that do not answer: why, who did it, and what to do.

use serde_json::Value;

use crate::harness::{LATER, Node, SOON, lab, need, wait_until};

fn status(node: &Node) -> Value {
    node.lanmesh(["status", "--json"]).json()
}

fn events(node: &Node, about: &str) -> Vec<String> {
    let events = node.lanmesh(["events", "--json"]).json();
    let of_it = events.as_array().expect("a list").iter().filter(|event| event["object"]["node"] == about);
    of_it.filter_map(|event| event["message"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_removed_node_says_who_removed_it_and_what_to_do_also_after_a_restart() {
    let lab = lab!(2).cluster();
    let [one, two] = [lab.node(1), lab.node(2)];
    one.lanmesh(["node", "rm", "n2"]).success();
    let out = wait_until("n2 knows that it is out", LATER, || match status(two)["out"].clone() {
        Value::Null => Err("nothing".to_owned()),
        out => Ok(out),
    });
    let named = |out: &Value| {
        let text = out["text"].as_str().unwrap_or_default();
        out["reason"] == "removed"
            && text.contains("`lanmesh node rm n2` at n1")
            && text.contains("told so at 2")
    };
    assert!(named(&out) && out["hint"].as_str().is_some_and(|hint| hint.contains("lanmesh join")), "{out}");
    assert_eq!(status(two)["state"], "no_cluster");
    let doctor = two.lanmesh(["doctor", "--json"]).json();
    let check = doctor["checks"].as_array().and_then(|checks| {
        checks.iter().find(|check| check["name"] == "this node's place in its cluster").cloned()
    });
    assert!(check.is_some_and(|check| check["found"].to_string().contains("was removed")), "{doctor}");
    let why = two.lanmesh(["node", "ls"]).refusal();
    assert!(why.contains("was removed"), "{why}");
    two.stop();
    two.start_and_wait();
    assert!(named(&status(two)["out"]), "{}", status(two));
    let token =
        one.lanmesh(["token", "show", "--json"]).json()["token"].as_str().expect("it is text").to_owned();
    two.join(&token, one);
    assert_eq!(status(two)["out"], Value::Null);
}

#[test]
fn a_node_without_its_address_on_the_underlay_is_not_ready_and_says_what_is_missing() {
    let lab = lab!(2).cluster();
    let two = lab.node(2);
    two.netns().ip("address delete 192.0.2.2/24 dev eth0");
    wait_until("n2 says so", LATER, || {
        let status = status(two);
        let told = status["reconcile"]["errors"].to_string();
        let named = told.contains("192.0.2.2, is on none of its interfaces") && told.contains("give it back");
        if named && status["state"] == "degraded" { Ok(()) } else { Err(status.to_string()) }
    });
    two.netns().ip("address add 192.0.2.2/24 dev eth0");
    wait_until("it is ready again", LATER, || match status(two) {
        status if status["state"] == "ready" => Ok(()),
        status => Err(status.to_string()),
    });
}

#[test]
fn a_death_and_a_return_are_lines_in_the_log() {
    let lab = lab!(2).cluster();
    let [one, two] = [lab.node(1), lab.node(2)];
    two.kill();
    wait_until("n2 is dead", SOON, || match one.state_of(two).as_str() {
        "dead" => Ok(()),
        state => Err(state.to_owned()),
    });
    two.start_and_wait();
    one.wait_alive(2);
    let logged = |what: &str| one.log().lines().any(|line| line.contains(what) && line.contains("n2"));
    wait_until("both are in the log", SOON, || {
        if logged("node is dead") && logged("node is back, after") { Ok(()) } else { Err(one.log()) }
    });
    two.lanmesh(["leave"]).success();
    wait_until("that it left too", SOON, || if logged("node left") { Ok(()) } else { Err(one.log()) });
}

fn nft(node: &Node, rules: &str) {
    let done = node.netns().command("nft").arg(rules).status();
    assert!(done.expect("nft can be run").success(), "{rules}");
}

#[test]
fn a_port_that_is_closed_in_one_direction_is_named_and_does_not_fill_the_events() {
    need!("nft");
    let lab = lab!(3).cluster();
    let [one, three] = [lab.node(1), lab.node(3)];
    // n3 hears nobody, and is heard by all.
    let closed =
        "table inet closed { chain input { type filter hook input priority 0; udp dport 7979 drop; }; }";
    nft(three, closed);
    wait_until("n1 says that n3 does not hear it", LATER, || {
        let told = status(one)["reconcile"]["errors"].to_string();
        let named =
            told.contains("node n3 is heard here and does not hear this node") && told.contains("7979");
        if named { Ok(()) } else { Err(format!("{told} {:?}", events(one, "n3"))) }
    });
    std::thread::sleep(std::time::Duration::from_secs(20));
    let told = events(one, "n3");
    assert!(told.len() < 20, "{} events: {told:?}", told.len());
    nft(three, "delete table inet closed");
    one.wait_alive(3);
    wait_until("it is no problem any more", std::time::Duration::from_secs(90), || {
        let told = status(one)["reconcile"]["errors"].to_string();
        if told.contains("n3 is heard") { Err(told) } else { Ok(()) }
    });
}
