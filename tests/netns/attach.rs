//! Attaching and detaching: what it answers, what it leaves, and who hears of it.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Container, Lab, Node, SOON, lab, ping, wait_until};
use crate::unicast::address;

const NETWORK: [&str; 4] = ["--subnet", "10.81.0.0/24", "--subnet", "fd00:81::/64"];

fn two_nodes() -> impl FnOnce(Lab) -> Lab {
    |lab| {
        let lab = lab.cluster();
        lab.network("net", &NETWORK);
        lab
    }
}

#[test]
fn an_endpoint_is_seen_by_every_node_until_it_is_detached() {
    let lab = lab!(3).cluster();
    lab.network("net", &NETWORK);
    let containers = [Container::named("a"), Container::named("b"), Container::named("c")];
    for (i, (node, name)) in lab.nodes().iter().zip(["a", "b", "c"]).enumerate() {
        node.attach("net", name, &containers[i]);
    }
    for node in lab.nodes() {
        node.wait_endpoints("net", &["a@n1", "b@n2", "c@n3"]);
    }
    lab.node(2).detach("net", "b");
    for node in lab.nodes() {
        node.wait_endpoints("net", &["a@n1", "c@n3"]);
    }
    assert!(containers[1].links().is_empty(), "detaching leaves nothing in the container");
}

#[test]
fn what_an_attach_and_a_detach_do_by_themselves_is_what_a_pass_over_everything_would_do() {
    let lab = two_nodes()(lab!(2));
    let containers = ["a", "b", "c"].map(Container::named);
    lab.node(2).attach("net", "c", &containers[2]);
    let node = lab.node(1);
    node.attach("net", "a", &containers[0]);
    let nothing_to_do = |when: &str| {
        wait_until(&format!("nothing is left to do {when}"), SOON, || {
            let plan = node.lanmesh(["plan", "--json"]).ok()?;
            if plan["operations"].as_array().is_some_and(Vec::is_empty) {
                Ok(())
            } else {
                Err(plan.to_string())
            }
        });
    };
    // Groups are joined on the other node whenever that is.
    let nothing_at_once = |round: usize| {
        let plan = node.lanmesh(["plan", "--json"]).json();
        let operations = plan["operations"].as_array().into_iter().flatten().filter_map(Value::as_str);
        assert_eq!(operations.filter(|line| !line.contains("group")).count(), 0, "round {round}: {plan}");
    };
    nothing_to_do("after the first");
    for round in 0..3 {
        // The plan is asked for at once, and again when the cluster has told of it.
        node.attach("net", "b", &containers[1]);
        nothing_at_once(round);
        nothing_to_do("after an attach");
        node.detach("net", "b");
        nothing_at_once(round);
        assert!(containers[1].links().is_empty(), "round {round}");
    }
    // The last one takes its network with it.
    node.detach("net", "a");
    nothing_to_do("after the last");
    assert_eq!(node.mounts(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_change_is_known_on_the_other_nodes_within_a_second() {
    let lab = lab!(crate::harness::LabConfig::alone(3)).cluster();
    lab.network("net", &NETWORK);
    // Every node has a part in the network, so that it is one of those concerned.
    let containers: Vec<_> = (1..=3).map(|i| Container::named(&format!("c{i}"))).collect();
    for (i, container) in containers.iter().enumerate() {
        lab.node(i + 1).attach("net", &format!("c{}", i + 1), container);
    }
    for node in lab.nodes() {
        node.wait_endpoints("net", &["c1@n1", "c2@n2", "c3@n3"]);
    }
    let late = Container::named("late");
    lab.node(1).attach("net", "late", &late);
    wait_until("n2 and n3 know the new endpoint", Duration::from_secs(1), || {
        let known = [2, 3].map(|i| lab.node(i).endpoints("net"));
        let all = known.iter().flatten().all(|list| list.contains(&"late@n1".to_owned()));
        if all { Ok(()) } else { Err(format!("{known:?}")) }
    });
}

#[test]
fn what_attach_answers_is_what_the_container_has() {
    let lab = two_nodes()(lab!(1));
    let container = Container::named("a");
    let answer = lab.node(1).attach("net", "a", &container);
    assert_eq!((answer["name"].as_str(), answer["network"].as_str()), (Some("a"), Some("net")));
    assert_eq!(answer["ifname"], "eth0");
    let links = container.ip_json("address show dev eth0");
    let link = &links[0];
    assert_eq!(link["address"], answer["mac"]);
    assert_eq!(link["mtu"], answer["mtu"]);
    assert_eq!(answer["mtu"], 1450);
    assert!(link["flags"].to_string().contains("\"UP\""), "{link}");
    let infos = link["addr_info"].as_array().expect("a list").iter().filter(|info| info["scope"] == "global");
    let has: Vec<_> = infos
        .map(|info| format!("{}/{}", info["local"].as_str().unwrap_or("?"), info["prefixlen"]))
        .collect();
    let answered: Vec<_> =
        answer["addresses"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(has, answered);
}

#[test]
fn attaching_the_same_again_gives_the_same_answer_and_changes_nothing() {
    let lab = two_nodes()(lab!(1));
    let container = Container::named("a");
    let first = lab.node(1).attach("net", "a", &container);
    let links = container.ip_json("link show");
    assert_eq!(lab.node(1).attach("net", "a", &container), first);
    assert_eq!(container.ip_json("link show"), links, "the interface is the same one");
}

#[test]
fn a_different_endpoint_under_a_name_that_is_taken_is_refused() {
    let lab = two_nodes()(lab!(2));
    let (mine, other) = (Container::named("mine"), Container::named("other"));
    let first = lab.node(1).attach("net", "a", &mine);
    let why = lab.node(1).try_attach("net", "a", &other, &[]).refusal();
    assert!(why.contains('a'), "{why}");
    let why = lab.node(1).try_attach("net", "a", &mine, &["--ifname", "eth7"]).refusal();
    assert!(!why.is_empty());
    assert!(other.links().is_empty(), "the other container has nothing of it");
    assert_eq!(mine.links(), ["eth0"]);
    assert_eq!(lab.node(1).attach("net", "a", &mine), first, "the first one is as it was");
    lab.node(2).wait_endpoints("net", &["a@n1"]);
    let why = lab.node(2).try_attach("net", "a", &other, &[]).refusal();
    assert!(why.contains("n1"), "names the node that has it: {why}");
}

/// What an attach may leave behind: the links of the network's namespace, of the node and of the container.
fn kernel(node: &Node, container: &Container) -> (Vec<String>, Vec<String>, Vec<String>) {
    (node.network_links("net"), node.netns().links(), container.links())
}

#[test]
fn an_attach_that_fails_half_way_leaves_nothing_behind() {
    let lab = two_nodes()(lab!(1));
    let node = lab.node(1);
    // So that the network is on the node already and only the endpoint is at stake.
    let first = Container::named("first");
    node.attach("net", "first", &first);
    let container = Container::named("a");
    // In the way: the name that the new interface wants.
    container.ip("link add eth0 type bridge");
    let before = kernel(node, &container);
    let why = node.try_attach("net", "a", &container, &[]).refusal();
    assert!(why.contains("eth0"), "{why}");
    assert_eq!(kernel(node, &container), before, "links before and after");
    assert_eq!(node.endpoints("net"), Ok(vec!["first@n1".to_owned()]));
    container.ip("link delete eth0");
    node.attach("net", "a", &container);
}

#[test]
fn attaching_to_what_is_no_namespace_is_refused_with_the_reason_and_leaves_nothing() {
    let lab = two_nodes()(lab!(1));
    let node = lab.node(1);
    let first = Container::named("first");
    node.attach("net", "first", &first);
    let before = kernel(node, &first);
    let gone = Container::process();
    let path = gone.path_text().to_owned();
    drop(gone);
    let file = lab.dir().join("file");
    std::fs::write(&file, "no namespace").expect("our own directory");
    for path in ["/run/netns/never-was", &path, file.to_str().expect("our own path")] {
        let why = node.lanmesh(["attach", "net", "--name", "a", "--netns", path]).refusal();
        assert!(why.contains(path) || why.contains("process"), "says what is no namespace: {why}");
    }
    for ifname in ["a-name-that-is-too-long", "a/b"] {
        let why = node.try_attach("net", "a", &first, &["--ifname", ifname]);
        // A name that can never be is wrong usage or is refused by the agent.
        assert!(why.ok().is_err(), "{why}");
    }
    assert_eq!(kernel(node, &first), before);
    assert_eq!(node.endpoints("net"), Ok(vec!["first@n1".to_owned()]));
}

#[test]
fn a_container_can_be_named_by_its_process() {
    let lab = two_nodes()(lab!(2));
    let (by_pid, by_path) = (Container::process(), Container::named("path"));
    let pid = by_pid.pid().to_string();
    let answer = lab.node(1).lanmesh(["attach", "net", "--name", "p", "--pid", &pid, "--json"]).json();
    lab.node(2).attach("net", "q", &by_path);
    wait_until("q reaches p", SOON, || ping(&by_path, &address(&answer, 0)));
}

#[test]
fn a_node_itself_can_be_an_endpoint() {
    let lab = two_nodes()(lab!(2));
    let container = Container::named("a");
    let answer = lab
        .node(1)
        .lanmesh(["attach", "net", "--name", "host1", "--host", "--ifname", "lan0", "--json"])
        .json();
    lab.node(2).attach("net", "a", &container);
    assert!(lab.node(1).netns().links().contains(&"lan0".to_owned()));
    wait_until("a reaches the node", SOON, || ping(&container, &address(&answer, 0)));
    lab.node(1).detach("net", "host1");
    assert!(!lab.node(1).netns().links().contains(&"lan0".to_owned()));
}

#[test]
fn a_container_that_dies_without_a_detach_disappears_everywhere() {
    let lab = two_nodes()(lab!(2));
    let (dying, staying) = (Container::process(), Container::named("b"));
    lab.node(1).attach("net", "dying", &dying);
    lab.node(2).attach("net", "staying", &staying);
    for node in lab.nodes() {
        node.wait_endpoints("net", &["dying@n1", "staying@n2"]);
    }
    drop(dying);
    for node in lab.nodes() {
        node.wait_endpoints("net", &["staying@n2"]);
    }
}

#[test]
fn the_next_container_takes_the_name_over_as_soon_as_the_first_one_cannot_be_entered() {
    let lab = two_nodes()(lab!(1));
    let first = Container::process();
    let before = lab.node(1).attach("net", "a", &first);
    // The kernel takes nothing away by itself.
    let left = first.held_longer();
    drop(first);
    let next = Container::named("next");
    let after = lab.node(1).attach("net", "a", &next);
    assert_eq!(after["addresses"], before["addresses"]);
    assert_eq!(next.links(), ["eth0"]);
    assert!(
        left.links().is_empty(),
        "what is left of the first has nothing of the network: {:?}",
        left.links()
    );
}
