//! What an endpoint of a node that answers has (its name, its slot, an address) is nobody else's, unless it is taken over;
//! then whoever loses it is told who has it now.

use serde_json::{Value, json};

use crate::harness::{Container, Lab, Node, SOON, lab, wait_until};

const NETWORK: [&str; 4] = ["--subnet", "10.83.0.0/24", "--pool", "web=10.83.0.100-10.83.0.109"];

/// Waits for the event of a node that an endpoint of its own is lost, and gives what it says of the reason.
fn lost(node: &Node, endpoint: &str) -> String {
    wait_until(&format!("{} says that {endpoint} is lost", node.name()), SOON, || {
        let events = node.lanmesh(["events", "--json"]).ok()?;
        let of_it =
            events.as_array().into_iter().flatten().filter(|event| {
                event["kind"] == "endpoint_removed" && event["object"]["endpoint"] == endpoint
            });
        let texts: Vec<_> = of_it.filter_map(|event| event["message"].as_str()).collect();
        texts
            .iter()
            .find_map(|text| text.split_once(" is lost: ").map(|(_, why)| why.to_owned()))
            .ok_or_else(|| format!("{texts:?}"))
    })
}

fn gone_from(container: &Container) {
    wait_until("its interface is gone", SOON, || match container.links() {
        links if links.is_empty() => Ok(()),
        links => Err(format!("{links:?}")),
    });
}

/// What is claimed twice: what it is called, the first endpoint and its options, the second one's, and what a refusal
/// and an event name.
const CASES: [(&str, [&str; 2], &[&str], &str); 4] = [
    ("a name", ["a", "a"], &[], "a"),
    (
        "a slot with an address of its own",
        ["web-3", "other"],
        &["--service", "web", "--slot", "3"],
        "slot 3 of web",
    ),
    ("a slot without a pool", ["db-1", "db-one"], &["--service", "db", "--slot", "1"], "slot 1 of db"),
    ("an address", ["x", "y"], &["--service", "web", "--ip", "10.83.0.105"], "10.83.0.105"),
];

#[test]
fn what_a_living_node_has_is_refused_with_its_holder_and_taken_over_only_by_who_says_so() {
    let lab = lab!(2).cluster();
    lab.network("net", &NETWORK);
    let [one, two] = [lab.node(1), lab.node(2)];
    for (what, [first, second], more, named) in CASES {
        let (here, there) = (Container::named("here"), Container::named("there"));
        one.try_attach("net", first, &here, more).json();
        two.wait_endpoints("net", &[&format!("{first}@n1")]);
        let why = two.try_attach("net", second, &there, more).refusal();
        for part in [named, &format!("endpoint {first}"), "n1", "--take"] {
            assert!(why.contains(part), "{what}: {part} is not in: {why}");
        }
        assert!(there.links().is_empty() && !here.links().is_empty(), "{what}: nothing was done");
        let taking: Vec<&str> = more.iter().copied().chain(["--take"]).collect();
        two.try_attach("net", second, &there, &taking).json();
        let why = lost(one, first);
        let told = [named, &format!("taken over by endpoint {second} on node n2 at 2")];
        assert!(told.iter().all(|part| why.contains(part)), "{what}: {why}");
        gone_from(&here);
        assert!(!there.links().is_empty());
        for node in lab.nodes() {
            node.wait_endpoints("net", &[&format!("{second}@n2")]);
        }
        assert!(one.log().contains(&why), "{what}: a line in the log too");
        // Asked for again it is there, and nothing is taken.
        two.try_attach("net", second, &there, more).json();
        two.detach("net", second);
        one.wait_endpoints("net", &[]);
    }
}

#[test]
fn on_one_node_it_is_the_same() {
    let lab = lab!(1).cluster();
    lab.network("net", &NETWORK);
    let node = lab.node(1);
    for (what, [first, second], more, named) in CASES {
        let (old, new) = (Container::named("old"), Container::named("new"));
        node.try_attach("net", first, &old, more).json();
        let why = node.try_attach("net", second, &new, more).refusal();
        assert!(why.contains(&format!("endpoint {first}")) && why.contains("--take"), "{what}: {why}");
        // What fails takes nothing from anybody.
        let nowhere: Vec<&str> = more.iter().copied().chain(["--take", "--ip", "10.83.0.1"]).collect();
        node.try_attach("net", second, &new, &nowhere).refusal();
        assert!(!old.links().is_empty() && new.links().is_empty(), "{what}");
        let taking: Vec<&str> = more.iter().copied().chain(["--take"]).collect();
        node.try_attach("net", second, &new, &taking).json();
        let why = lost(node, first);
        assert!(why.contains(named) && why.contains(&format!("{second} on node n1")), "{what}: {why}");
        gone_from(&old);
        node.wait_endpoints("net", &[&format!("{second}@n1")]);
        node.detach("net", second);
    }
}

fn put(node: &Node, document: &Value) -> Value {
    let (status, answer) = node.http("PUT", "/v1/desired", &document.to_string());
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn a_desired_state_takes_over_what_it_says_and_is_told_of_the_rest() {
    let lab = lab!(2).cluster();
    lab.network("net", &NETWORK);
    let containers = ["w1", "w2", "v1", "v2"].map(Container::named);
    let document = |slots: &[(&Container, u32)], take: bool| {
        let endpoint = |(container, slot): &(&Container, u32)| {
            let request =
                json!({"netns": container.path_text(), "service": "web", "slot": slot, "take": take});
            (format!("web-{slot}"), request)
        };
        let endpoints: serde_json::Map<String, Value> = slots.iter().map(endpoint).collect();
        json!({"endpoints": {"net": endpoints}})
    };
    assert_eq!(put(lab.node(1), &document(&[(&containers[0], 1), (&containers[1], 2)], false))["failed"], 0);
    let moved = [(&containers[2], 1), (&containers[3], 2)];
    let refused = put(lab.node(2), &document(&moved, false));
    assert_eq!(refused["failed"], 2, "{refused}");
    assert!(refused["items"][0]["error"].to_string().contains("on node n1"), "{refused}");
    lab.node(1).wait_endpoints("net", &["web-1@n1", "web-2@n1"]);
    assert_eq!(put(lab.node(2), &document(&moved, true))["failed"], 0);
    for node in lab.nodes() {
        node.wait_endpoints("net", &["web-1@n2", "web-2@n2"]);
    }
    assert!(lost(lab.node(1), "web-2").contains("endpoint web-2 on node n2"));
    // It is there: said again, with or without, nothing is another.
    for take in [true, false] {
        let again = put(lab.node(2), &document(&moved, take));
        let actions = again["items"].as_array().expect("a list").iter().map(|item| &item["action"]);
        assert!(actions.into_iter().all(|action| action == "kept"), "{again}");
    }
}

fn dead(on: &Node, other: &Node) {
    wait_until(&format!("{} is dead for {}", other.name(), on.name()), SOON, || {
        match on.state_of(other).as_str() {
            "dead" => Ok(()),
            state => Err(state.to_owned()),
        }
    });
}

fn cut_in_two(lab: Lab) -> Lab {
    let lab = lab.cluster();
    lab.network("net", &NETWORK);
    lab.cut(lab.node(2));
    dead(lab.node(1), lab.node(2));
    dead(lab.node(2), lab.node(1));
    lab
}

#[test]
fn of_two_that_a_cut_made_one_stays_and_the_other_is_told_that_it_was_the_cut() {
    let lab = cut_in_two(lab!(2));
    let containers = ["c1", "c2"].map(Container::named);
    for (node, container) in lab.nodes().iter().zip(&containers) {
        node.attach("net", "c", container);
    }
    lab.heal(lab.node(2));
    let (mut stayed, mut told) = (0, 0);
    lab.node(1).wait_alive(2);
    wait_until("one of them is left", SOON, || {
        let left = lab.nodes().iter().zip(&containers).filter(|(_, container)| !container.links().is_empty());
        if left.count() == 1 { Ok(()) } else { Err("both are there".to_owned()) }
    });
    for (node, container) in lab.nodes().iter().zip(&containers) {
        if container.links().is_empty() {
            let why = lost(node, "c");
            assert!(why.contains("the name c too") && why.contains("did not hear each other"), "{why}");
            told += 1;
        } else {
            node.wait_endpoints("net", &[&format!("c@{}", node.name())]);
            stayed += 1;
        }
    }
    assert_eq!((stayed, told), (1, 1));
}
