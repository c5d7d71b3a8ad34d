//! Interfaces that are offered: who runs the container takes them.

use serde_json::{Value, json};

use crate::harness::{Container, Lab, Node, SOON, lab, ping, wait_until};

const NETWORK: [&str; 4] = ["--subnet", "10.83.0.0/24", "--subnet", "fd00:83::/64"];
const OFFERED: &str = "lmd0123456789ab";

fn begin(lab: Lab) -> (Lab, Container) {
    let lab = lab.cluster();
    lab.network("net", &NETWORK);
    let other = Container::named("other");
    lab.node(2).attach("net", "other", &other);
    (lab, other)
}

fn offer(node: &Node, name: &str) -> Value {
    node.lanmesh(["attach", "net", "--name", name, "--offer", "--ifname", OFFERED, "--json"]).json()
}

/// What an engine does with it.
fn take(node: &Node, container: &Container, answer: &Value) {
    node.netns().ip(&format!("link set {OFFERED} netns {} name eth5", container.path_text()));
    for address in answer["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        container.ip(&format!("address add {address} dev eth5{nodad}"));
    }
    container.ip("link set eth5 up");
}

fn nothing_to_do(node: &Node, when: &str) {
    wait_until(&format!("nothing is left to do {when}"), SOON, || {
        let plan = node.lanmesh(["plan", "--json"]).ok()?;
        if plan["operations"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(plan.to_string()) }
    });
}

#[test]
fn an_interface_that_is_offered_is_one_of_the_network_wherever_it_is_taken_and_the_agent_restarts() {
    let (lab, other) = begin(lab!(2));
    let node = lab.node(1);
    let answer = offer(node, "a");
    let link = &node.netns().ip_json(&format!("address show dev {OFFERED}"))[0];
    assert_eq!((&link["address"], &link["operstate"]), (&answer["mac"], &json!("DOWN")), "{link}");
    assert!(link["addr_info"].as_array().is_some_and(Vec::is_empty), "it has no address yet: {link}");
    nothing_to_do(node, "while it waits");
    assert_eq!(offer(node, "a"), answer, "the same again is the same");
    let container = Container::named("taker");
    take(node, &container, &answer);
    ping(&container, "10.83.0.1").expect("the gateway answers");
    let theirs = other.ip_json("address show dev eth0")[0]["addr_info"].clone();
    for address in theirs.as_array().into_iter().flatten().filter(|there| there["scope"] == "global") {
        let address = address["local"].as_str().unwrap_or_default();
        wait_until("the other node's endpoint answers", SOON, || ping(&container, address));
    }
    nothing_to_do(node, "when it was taken");
    node.kill();
    node.start_and_wait();
    nothing_to_do(node, "after a restart");
    ping(&container, "10.83.0.1").expect("it was left alone");
    // Given back, and taken away.
    container.ip("link set eth5 down");
    node.detach("net", "a");
    assert!(container.links().is_empty(), "{:?}", container.links());
}

#[test]
fn an_endpoint_that_was_offered_ends_with_its_interface_and_its_name_is_free_again() {
    let (lab, _other) = begin(lab!(2));
    let node = lab.node(1);
    let container = Container::named("taker");
    take(node, &container, &offer(node, "a"));
    lab.node(2).wait_endpoints("net", &["a@n1", "other@n2"]);
    drop(container);
    lab.node(2).wait_endpoints("net", &["other@n2"]);
    // One that nobody took goes by a hand on the node.
    offer(node, "a");
    lab.node(2).wait_endpoints("net", &["a@n1", "other@n2"]);
    node.netns().ip(&format!("link delete {OFFERED}"));
    lab.node(2).wait_endpoints("net", &["other@n2"]);
    assert!(node.netns().links().iter().all(|link| link != OFFERED));
}

#[test]
fn where_it_was_taken_can_be_told_and_then_a_change_of_the_mtu_reaches_it() {
    let (lab, _other) = begin(lab!(2));
    let node = lab.node(1);
    let container = Container::named("taker");
    take(node, &container, &offer(node, "a"));
    let mtu = || container.ip_json("link show dev eth5")[0]["mtu"].as_u64();
    let before = mtu().expect("it has one");
    let told = json!({"offer": true, "ifname": OFFERED, "netns": container.path_text()}).to_string();
    for _ in 0..2 {
        let (status, answer) = node.http("PUT", "/v1/networks/net/endpoints/a", &told);
        assert_eq!(status, 200, "{answer}");
    }
    node.lanmesh(["network", "set", "net", "--mtu", "1300"]).success();
    wait_until("it has the new MTU", SOON, || match mtu() {
        Some(1300) => Ok(()),
        other => Err(format!("{other:?} after {before}")),
    });
    node.lanmesh(["network", "set", "net", "--mtu", "auto"]).success();
    wait_until("it has the old one", SOON, || {
        if mtu() == Some(before) { Ok(()) } else { Err(format!("{:?}", mtu())) }
    });
    nothing_to_do(node, "when it was told");
    assert_eq!(container.links(), ["eth5"], "its name is the taker's business");
}

#[test]
fn who_tells_too_late_where_it_was_taken_attaches_nothing() {
    let (lab, _other) = begin(lab!(2));
    let node = lab.node(1);
    let container = Container::named("taker");
    let tell = |addresses: &[&str]| {
        let told = json!({
            "offer": true, "ifname": OFFERED, "netns": container.path_text(), "if_present": true, "addresses": addresses,
        });
        node.http("PUT", "/v1/networks/net/endpoints/a", &told.to_string())
    };
    take(node, &container, &offer(node, "a"));
    let (status, answer) = tell(&[]);
    assert_eq!(status, 200, "{answer}");
    node.detach("net", "a");
    let (status, answer) = tell(&[]);
    assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("not_found")), "{answer}");
    // Nor does it change one of that name that is another by now, or has none of its addresses.
    offer(node, "a");
    let (status, answer) = tell(&["10.83.0.77"]);
    assert_eq!(status, 409, "{answer}");
    node.detach("net", "a");
    nothing_to_do(node, "when all is gone");
    lab.node(2).wait_endpoints("net", &["other@n2"]);
}

#[test]
fn the_address_of_a_service_leads_to_its_endpoint_from_where_the_interface_was_taken_whatever_it_is_called() {
    let (lab, _other) = begin(lab!(2));
    let node = lab.node(1);
    let server = Container::named("server");
    lab.node(2).try_attach("net", "server", &server, &["--service", "web"]).json();
    let service = node.lanmesh(["service", "create", "net", "web", "--json"]).json();
    let container = Container::named("taker");
    take(node, &container, &offer(node, "a"));
    let told = json!({"offer": true, "ifname": OFFERED, "netns": container.path_text()}).to_string();
    assert_eq!(node.http("PUT", "/v1/networks/net/endpoints/a", &told).0, 200);
    let addresses: Vec<&str> =
        service["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(addresses.len(), 2, "{service}");
    for address in &addresses {
        wait_until("the service answers", SOON, || ping(&container, address));
    }
    nothing_to_do(node, "when it leads there");
    node.kill();
    node.start_and_wait();
    nothing_to_do(node, "after a restart");
    ping(&container, addresses[0]).expect("it was left alone");
    node.lanmesh(["service", "rm", "net", "web"]).success();
    wait_until("nothing leads there", SOON, || match ping(&container, addresses[0]) {
        Ok(()) => Err("it answers".to_owned()),
        Err(_) => Ok(()),
    });
}

#[test]
fn what_is_offered_needs_a_name_that_is_free_and_is_not_offered_and_on_the_node_at_once() {
    let (lab, _other) = begin(lab!(2));
    let node = lab.node(1);
    for (body, field) in [
        (json!({"offer": true}), "ifname"),
        (json!({"offer": true, "ifname": "lo"}), "ifname"),
        (json!({"offer": true, "host": true, "ifname": "x0"}), "host"),
        (json!({"offer": true, "ifname": "x0", "netns": "relative"}), "netns"),
    ] {
        let (status, answer) = node.http("PUT", "/v1/networks/net/endpoints/b", &body.to_string());
        assert_eq!((status, &answer["error"]["field"]), (400, &json!(field)), "{body}: {answer}");
    }
    offer(node, "a");
    let refusal = node.lanmesh(["attach", "net", "--name", "b", "--offer", "--ifname", OFFERED]).refusal();
    assert!(refusal.contains(OFFERED), "{refusal}");
    let container = Container::named("taker");
    let refusal = node.try_attach("net", "a", &container, &[]).refusal();
    assert!(refusal.contains("netns"), "one that is offered is not moved by another's request: {refusal}");
    node.wait_endpoints("net", &["a@n1", "other@n2"]);
}

#[test]
fn what_is_only_held_has_an_address_and_no_interface_until_its_container_is_attached() {
    let (lab, other) = begin(lab!(2));
    let node = lab.node(1);
    let links = node.netns().links();
    let hold = || node.lanmesh(["attach", "net", "--name", "a", "--hold", "--json"]);
    let answer = hold().json();
    assert_eq!(hold().json(), answer, "the same again is the same");
    lab.node(2).wait_endpoints("net", &["a@n1", "other@n2"]);
    assert_eq!(node.netns().links(), links);
    nothing_to_do(node, "while it is held");
    let said = node.lanmesh(["trace", "a", "other"]).to_string();
    assert!(said.contains("of endpoint a only the name and the addresses are held"), "{said}");
    let refused = node.lanmesh(["attach", "net", "--name", "b", "--hold", "--publish", "80:80"]).refusal();
    assert!(refused.contains("publish: has no meaning with hold"), "{refused}");
    node.kill();
    node.start_and_wait();
    assert_eq!(hold().json(), answer, "it is held after a restart");
    let next = Container::named("next");
    let its = node.attach("net", "next", &next);
    assert_ne!(its["addresses"][0], answer["addresses"][0]);
    // Under its own name, at the addresses that were said.
    let container = Container::named("a");
    let address =
        answer["addresses"][0].as_str().and_then(|text| text.split('/').next()).expect("an address");
    let of_container = ["attach", "net", "--name", "cc", "--netns", container.path_text(), "--ip", address];
    let refused = node.lanmesh(of_container).refusal();
    assert!(refused.contains(address), "it is nobody else's: {refused}");
    node.detach("net", "a");
    node.lanmesh(of_container).success();
    wait_until("it is reached", SOON, || ping(&other, address));
    lab.node(2).wait_endpoints("net", &["cc@n1", "next@n1", "other@n2"]);
}
