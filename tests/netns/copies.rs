//! A machine that was copied: of two agents with one identity exactly one goes on, and both say so.

use serde_json::Value;

use crate::harness::{Container, LATER, Node, SOON, lab, ping, wait_until};
use crate::unicast::address;

fn status(node: &Node) -> Value {
    node.lanmesh(["status", "--json"]).json()
}

fn alarms(node: &Node) -> Vec<String> {
    let events = node.lanmesh(["events", "--json"]).json();
    let alarms = events.as_array().expect("a list").iter().filter(|event| event["kind"] == "alarm");
    alarms.filter_map(|event| event["message"].as_str().map(str::to_owned)).collect()
}

fn copy_state(from: &Node, to: &Node) {
    for entry in std::fs::read_dir(from.data_dir()).expect("it has state").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), to.data_dir().join(entry.file_name())).expect("it can be copied");
        }
    }
}

#[test]
fn of_a_node_and_a_copy_of_its_machine_the_node_goes_on_and_the_copy_steps_aside() {
    let lab = lab!(4);
    lab.join_all(&[1, 2, 3]);
    lab.node(1).create_network("net", &["--subnet", "10.83.0.0/24"]);
    for node in &lab.nodes()[..3] {
        wait_until("it knows the network", SOON, || {
            node.lanmesh(["network", "inspect", "net", "--json"]).ok()
        });
    }
    let [two, copy] = [lab.node(2), lab.node(4)];
    let (here, there) = (Container::named("here"), Container::named("there"));
    let to = address(&two.attach("net", "here", &here), 0);
    lab.node(3).attach("net", "there", &there);
    wait_until("they reach each other", SOON, || ping(&there, &to));
    copy.stop();
    two.stop();
    copy_state(two, copy);
    two.start_and_wait();
    for node in [1, 3] {
        lab.node(node).wait_alive(3);
    }
    // Whole seconds tell who was there first.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    copy.start_and_wait();
    let out = wait_until("the copy steps aside", LATER, || match status(copy) {
        status if status["out"]["reason"] == "aside" => Ok(status["out"].clone()),
        status => Err(format!("{} {}", status["state"], status["reconcile"]["errors"])),
    });
    let text = out["text"].as_str().unwrap_or_default();
    assert!(text.contains("node n2 of cluster") && text.contains("was there first"), "{out}");
    assert!(out["hint"].as_str().unwrap_or_default().contains("lanmesh reclaim"), "{out}");
    // The other goes on, and says that it was twice there.
    for node in [1, 2, 3] {
        lab.node(node).wait_alive(3);
    }
    let found = lab.node(1).lanmesh(["node", "inspect", "n2", "--json"]).json();
    assert!(found["address"].as_str().is_some_and(|at| at.starts_with("192.0.2.2:")), "{found}");
    wait_until("they reach each other as before", SOON, || ping(&there, &to));
    let told = alarms(two);
    let twice: Vec<_> = told.iter().filter(|text| text.contains("runs twice")).collect();
    assert!(
        matches!(twice[..], [text] if text.contains("192.0.2.2") && text.contains("this one goes on")),
        "{told:?}"
    );
    assert!(status(two)["reconcile"]["errors"].to_string().contains("runs twice"), "{}", status(two));
    // A start of its agent, or of its machine, does not bring it back.
    copy.stop();
    copy.start_and_wait();
    assert_eq!(status(copy)["out"]["reason"], "aside");
    let why = copy.lanmesh(["node", "ls"]).refusal();
    assert!(why.contains("stepped aside"), "{why}");
    // The one is gone for good: the other takes its place, when it is told to.
    two.kill();
    copy.lanmesh(["reclaim"]).success();
    wait_until("n1 knows n2 at the other machine", LATER, || {
        let found = lab.node(1).lanmesh(["node", "inspect", "n2", "--json"]).ok()?;
        let there = found["address"].as_str().is_some_and(|at| at.starts_with("192.0.2.4:"));
        if there && found["state"] == "alive" { Ok(()) } else { Err(found.to_string()) }
    });
    // (Of one laboratory's two machines both have the container: its interface is the other's here.)
    wait_until("it takes its place", LATER, || match status(copy) {
        status if status["out"].is_null() && status["reconcile"]["passes"].as_u64() > Some(0) => Ok(()),
        status => Err(status.to_string()),
    });
}

#[test]
fn a_copy_that_leaves_is_a_machine_of_its_own_and_the_node_stays() {
    let lab = lab!(3);
    lab.join_all(&[1, 2]);
    let [two, copy] = [lab.node(2), lab.node(3)];
    copy.stop();
    two.stop();
    copy_state(two, copy);
    two.start_and_wait();
    lab.node(1).wait_alive(2);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    copy.start_and_wait();
    wait_until("the copy steps aside", LATER, || match status(copy) {
        status if status["out"]["reason"] == "aside" => Ok(()),
        status => Err(status.to_string()),
    });
    copy.lanmesh(["leave"]).success();
    assert_eq!(status(copy)["out"], Value::Null);
    let token = lab.node(1).lanmesh(["token", "show", "--json"]).json()["token"]
        .as_str()
        .expect("it is text")
        .to_owned();
    copy.join(&token, lab.node(1));
    for node in lab.nodes() {
        node.wait_alive(3);
    }
}
