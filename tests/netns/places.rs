//! Where an interface may go: whatever a caller names, the agent neither waits for it nor takes it for something else.

use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{Container, LATER, Lab, Node, lab, wait_until};

const LANMESH: &str = env!("CARGO_BIN_EXE_lanmesh");

fn with_network(lab: Lab) -> Lab {
    let lab = lab.cluster();
    lab.network("net", &["--subnet", "10.84.0.0/24"]);
    lab
}

/// Why `path` is refused, which has to be at once.
fn refused(node: &Node, path: &str) -> String {
    let begun = Instant::now();
    let why = node.lanmesh(["attach", "net", "--name", "x", "--netns", path]).refusal();
    assert!(begun.elapsed() < Duration::from_secs(2), "{why} after {:?}", begun.elapsed());
    why
}

#[test]
fn what_is_no_namespace_is_refused_at_once_and_nobody_else_waits() {
    let lab = with_network(lab!(1));
    let node = lab.node(1);
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = dir.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
    let circle = dir.path().join("circle");
    std::os::unix::fs::symlink(&circle, &circle).expect("a circle");
    for (path, what) in [
        (fifo.to_str().expect("text"), "is a FIFO"),
        ("/dev/zero", "is a device"),
        (dir.path().to_str().expect("text"), "is a directory"),
        (circle.to_str().expect("text"), "go in a circle"),
        ("/proc/self/ns/mnt", "a namespace of another kind"),
        ("/proc/4194305/ns/net", "process 4194305 is gone"),
        ("/proc/1/environ", "is a file"),
    ] {
        let why = refused(node, path);
        assert!(why.contains(what), "{path}: {why}");
    }
    // The same in a whole desired state.
    let body = serde_json::json!({"endpoints": {"net": {"x": {"netns": fifo}}}}).to_string();
    let begun = Instant::now();
    let (status, answer) = node.http("PUT", "/v1/desired", &body);
    assert_eq!((status, &answer["failed"]), (200, &1.into()), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    node.attach("net", "a", &Container::named("a"));
}

#[test]
fn the_nodes_own_namespaces_are_no_containers_whatever_they_are_called() {
    let lab = with_network(lab!(1));
    let node = lab.node(1);
    let container = Container::named("a");
    node.attach("net", "a", &container);
    let links = node.netns().links();
    let own = node.netns().path();
    let linked = std::env::temp_dir().join(format!("lanmesh-own-{}", std::process::id()));
    std::os::unix::fs::symlink(&own, &linked).expect("a link");
    let of_agent = format!("/proc/{}/ns/net", node.pid());
    for path in [own.to_str().expect("text"), linked.to_str().expect("text"), &of_agent] {
        let why = refused(node, path);
        assert!(why.contains("node's own network namespace") && why.contains("--host"), "{path}: {why}");
    }
    std::fs::remove_file(&linked).expect("removes");
    let pid = node.pid().to_string();
    let why = node.lanmesh(["attach", "net", "--name", "x", "--pid", &pid]).refusal();
    assert!(why.contains("--host"), "{why}");
    let inside = node.lanmesh(["network", "inspect", "net", "--json"]).json();
    let why = refused(node, inside["netns"].as_str().expect("it has one here"));
    assert!(why.contains("the namespace of network net itself"), "{why}");
    assert_eq!(node.netns().links(), links, "nothing was made");
}

#[test]
fn proc_self_is_the_callers_and_not_the_agents() {
    let lab = with_network(lab!(1));
    let node = lab.node(1);
    let container = Container::named("self");
    let enter = format!("--net={}", container.path_text());
    let attach = |path: &str| {
        let words = [&enter, "--", LANMESH, "attach", "net", "--name", "me", "--json", "--netns", path];
        node.command_with("nsenter", words)
    };
    attach("/proc/self/ns/net").json();
    assert_eq!(container.links(), ["eth0"]);
    node.detach("net", "me");
    let why = attach("/proc/thread-self/ns/net").refusal();
    assert!(why.contains("thread-self"), "{why}");
}

#[test]
fn a_namespace_made_anew_at_the_same_path_gets_nothing_of_the_old_one() {
    let lab = with_network(lab!(1));
    let node = lab.node(1);
    let kept = Container::named("kept");
    node.attach("net", "kept", &kept);
    let container = Container::named("anew");
    for round in 0..3 {
        let name = format!("anew{round}");
        node.attach("net", &name, &container);
        node.stop();
        container.remake();
        node.start_and_wait();
        wait_until("the endpoint whose container went is gone", LATER, || {
            let found = node.endpoints("net")?;
            if found == ["kept@n1"] { Ok(()) } else { Err(format!("{found:?}")) }
        });
        assert!(container.links().is_empty(), "round {round}: {:?}", container.links());
    }
    assert_eq!(kept.links(), ["eth0"]);
}
