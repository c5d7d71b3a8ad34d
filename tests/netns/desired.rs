//! A node's whole desired state as one document.

use serde_json::{Value, json};

use crate::harness::{Container, Node, SOON, lab, ping, wait_until};
use crate::unicast::address;

/// Puts `document` and gives what was done: (network, endpoint, action).
fn put(node: &Node, document: &Value) -> Vec<(String, String, String)> {
    let (status, answer) = node.http("PUT", "/v1/desired", &document.to_string());
    assert_eq!((status, &answer["failed"]), (200, &json!(0)), "{answer}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = answer["items"].as_array().expect("a list").iter();
    items.map(|item| (text(&item["network"]), text(&item["endpoint"]), text(&item["action"]))).collect()
}

fn has(items: &[(String, String, String)], network: &str, endpoint: &str, action: &str) -> bool {
    items.contains(&(network.to_owned(), endpoint.to_owned(), action.to_owned()))
}

#[test]
fn a_desired_state_is_made_so_and_made_so_again_without_a_change() {
    let lab = lab!(2).cluster();
    let (a, b, there) = (Container::named("a"), Container::named("b"), Container::named("there"));
    let network = json!({"net": {"subnets": ["10.93.0.0/24"]}});
    let netns = |container: &Container| json!({"netns": container.path_text()});
    let first = json!({"networks": network, "endpoints": {"net": {"a": netns(&a), "b": netns(&b)}}});
    let done = put(lab.node(1), &first);
    assert!(has(&done, "net", "", "created") && has(&done, "net", "a", "attached"), "{done:?}");
    let again = put(lab.node(1), &first);
    assert!(again.iter().all(|(_, _, action)| action == "kept"), "{again:?}");
    wait_until("n2 knows the network", SOON, || {
        lab.node(2).lanmesh(["network", "inspect", "net", "--json"]).ok()
    });
    let to = address(&lab.node(2).attach("net", "there", &there), 0);
    wait_until("a reaches the other node", SOON, || ping(&a, &to));
    // One that is not named is detached; those of other nodes are not this node's business.
    let second = json!({"networks": network, "endpoints": {"net": {"a": netns(&a)}}});
    let done = put(lab.node(1), &second);
    assert!(has(&done, "net", "a", "kept") && has(&done, "net", "b", "detached"), "{done:?}");
    assert!(b.links().is_empty());
    for node in lab.nodes() {
        node.wait_endpoints("net", &["a@n1", "there@n2"]);
    }
    put(lab.node(1), &json!({}));
    assert!(a.links().is_empty());
    lab.node(2).wait_endpoints("net", &["there@n2"]);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let lab = lab!(1).cluster();
    let container = Container::named("a");
    let document = json!({
        "networks": {"net": {"subnets": ["10.93.0.0/24"]}},
        "endpoints": {"net": {"a": {"netns": container.path_text()}}},
    });
    let (status, answer) = lab.node(1).http("PUT", "/v1/desired?dry_run=true", &document.to_string());
    assert_eq!((status, &answer["dry_run"]), (200, &json!(true)), "{answer}");
    assert!(container.links().is_empty());
    assert_eq!(lab.node(1).lanmesh(["network", "ls", "--json"]).json(), json!([]));
}

#[test]
fn a_document_that_is_wrong_is_refused_whole_and_names_the_field() {
    let lab = lab!(1).cluster();
    for (document, field) in [
        (json!({"networks": {"net": {"subnets": ["nonsense"]}}}), "subnets"),
        (json!({"networks": {"net": {"subnets": ["10.93.0.0/24"], "colour": 1}}}), "colour"),
        (json!({"endpoints": {"net": {"a": {"netns": "/run/netns/a", "slot": "x"}}}}), "slot"),
    ] {
        let (status, answer) = lab.node(1).http("PUT", "/v1/desired", &document.to_string());
        assert_eq!(status, 400, "{answer}");
        assert!(answer["error"].to_string().contains(field), "{field}: {answer}");
    }
    let (status, answer) = lab.node(1).http("PUT", "/v1/desired", "{");
    assert_eq!(status, 400, "{answer}");
    assert_eq!(lab.node(1).lanmesh(["network", "ls", "--json"]).json(), json!([]));
}
