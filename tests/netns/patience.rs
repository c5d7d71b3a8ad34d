//! What is promised is promised from all that is in use, and who is asked and says nothing holds up nobody else.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Container, Lab, Node, SOON, lab, slowness, wait_until};

const NETWORK: [&str; 2] = ["--subnet", "10.83.0.0/24"];

fn signal(node: &Node, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(node.pid()).expect("pids are small"));
    kill(pid, signal).expect("our own child can be signalled");
}

fn three_nodes(lab: Lab) -> Lab {
    let lab = lab.cluster();
    lab.network("net", &NETWORK);
    lab
}

/// Waits until a node knows that another takes part in `net`, and nothing of what is there.
fn wait_takes_part(node: &Node, other: &str) {
    wait_until(&format!("{} knows that {other} takes part", node.name()), SOON, || {
        let found = node.lanmesh(["node", "inspect", other, "--json"]).ok()?;
        let networks = found["networks"].as_array().cloned().unwrap_or_default();
        if networks.contains(&Value::from("net")) { Ok(()) } else { Err(found.to_string()) }
    });
}

#[test]
fn neither_the_first_endpoint_in_a_network_nor_the_next_right_behind_it_gets_what_is_in_use_elsewhere() {
    for round in 0..3 {
        let lab = three_nodes(lab!(3));
        let [one, two] = [lab.node(2), lab.node(3)];
        let containers: Vec<_> = ["a", "b", "c", "d"].map(Container::named).into();
        let taken = one.attach("net", "taken", &containers[0]);
        let address = taken["addresses"][0].as_str().and_then(|text| text.split('/').next());
        let address = address.expect("an address").to_owned();
        wait_takes_part(two, "n2");
        // It is new there: whatever is known of the network is known from now on.
        if round > 0 {
            two.attach("net", "first", &containers[1]);
        }
        let refused = two.try_attach("net", "taken", &containers[2], &[]).refusal();
        assert!(refused.contains("endpoint taken is on node n2"), "{refused}");
        let refused = two.try_attach("net", "other", &containers[3], &["--ip", &address]).refusal();
        assert!(refused.contains(&address), "{refused}");
        one.wait_endpoints("net", if round > 0 { &["first@n3", "taken@n2"] } else { &["taken@n2"] });
    }
}

#[test]
fn an_attach_that_waits_for_a_node_which_says_nothing_holds_up_nobody_and_ends() {
    let lab = three_nodes(lab!(3));
    lab.network("own", &["--subnet", "10.84.0.0/24"]);
    let [one, silent] = [lab.node(1), lab.node(2)];
    let containers: Vec<_> = ["a", "b", "c"].map(Container::named).into();
    silent.attach("net", "a", &containers[0]);
    one.attach("own", "mine", &containers[1]);
    wait_takes_part(one, "n2");
    // Its kernel takes connections on, and nobody reads what comes.
    signal(silent, Signal::SIGSTOP);
    let begun = Instant::now();
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_lanmesh"))
        .env("LANMESH_SOCKET", one.socket())
        .args(["attach", "net", "--name", "b", "--netns", containers[2].path_text(), "--json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command can be run");
    std::thread::sleep(Duration::from_millis(200));
    let meanwhile = Instant::now();
    let status = one.lanmesh(["status", "--json"]).json();
    assert_eq!(status["endpoints"], 1);
    assert!(status["age_ms"].as_u64().is_some(), "{status}");
    one.lanmesh(["node", "ls", "--json"]).json();
    one.detach("own", "mine");
    let took = meanwhile.elapsed();
    let answered = waiting.try_wait().expect("our own child can be waited for").is_some();
    assert!(!answered || begun.elapsed() > Duration::from_secs(1), "it was not waited for");
    assert!(took < Duration::from_millis(1500) * slowness(), "status, node ls and detach took {took:?}");
    let ended = waiting.wait_with_output().expect("our own child can be waited for");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4) * slowness(), "it took {took:?}");
    // By then it may have been given up; then what it has is known not to be in use any more.
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() || text.contains("not known yet"), "{text}");
    signal(silent, Signal::SIGCONT);
    wait_until("both are there", SOON, || one.try_attach("net", "b", &containers[2], &[]).ok().map(drop));
    one.wait_endpoints("net", &["a@n2", "b@n1"]);
}
