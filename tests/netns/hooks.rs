//! The hook of OCI runtimes, run as they run it: with the state of a container on standard input.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Container, Node, lab, ping};

fn hook(node: &Node, state: &Value) -> Result<(), String> {
    let path = node.run_dir().join("lanmesh-oci");
    // It may have been made before.
    let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lanmesh"), &path);
    let mut command = Command::new(path);
    command
        .env("LANMESH_SOCKET", node.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the hook runs");
    child.stdin.take().expect("is piped").write_all(state.to_string().as_bytes()).expect("the hook reads");
    let output = child.wait_with_output().expect("the hook ends");
    assert!(output.stdout.is_empty(), "a runtime does not expect it to print");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn a_container_gets_what_its_annotations_say_and_loses_it_when_it_stops() {
    let lab = lab!(1).cluster();
    lab.network("net", &["--subnet", "10.89.0.0/24"]);
    lab.network("back", &["--subnet", "10.90.0.0/24"]);
    let node = lab.node(1);
    let bundle = tempfile::tempdir().expect("a directory can be made");
    std::fs::create_dir_all(bundle.path().join("rootfs/etc")).expect("a directory can be made");
    std::fs::write(bundle.path().join("config.json"), r#"{"root":{"path":"rootfs"}}"#)
        .expect("can be written");
    let container = Container::process();
    let state = |status: &str, pid: u32, annotations: Value| json!({ "ociVersion": "1.0.2", "id": "c1", "status": status, "pid": pid, "bundle": bundle.path(), "annotations": annotations });
    // Whose annotations say nothing of lanmesh is left alone.
    hook(node, &state("creating", container.pid(), json!({ "other": "x" }))).expect("nothing is asked");
    assert!(container.links().is_empty());
    let wants = json!({
        "lanmesh.network": "net,back", "lanmesh.name": "web", "lanmesh.ip": "10.89.0.9",
        "lanmesh.default-gateway": "true", "lanmesh.resolv-conf": "/etc/resolv.conf",
    });
    hook(node, &state("creating", container.pid(), wants.clone())).expect("is attached");
    assert_eq!(container.links(), ["eth0", "eth1"]);
    ping(&container, "10.89.0.1").expect("the gateway answers");
    assert!(container.ip("route show default").contains("10.89.0.1"));
    let written = std::fs::read_to_string(bundle.path().join("rootfs/etc/resolv.conf")).expect("was written");
    assert!(written.contains("10.89.0.1"), "{written}");
    assert_eq!(node.endpoints("net").expect("is listed"), ["web@n1"]);
    for _ in 0..2 {
        hook(node, &state("stopped", 0, wants.clone())).expect("is detached");
    }
    assert!(
        node.endpoints("net").expect("is listed").is_empty()
            && node.endpoints("back").expect("is listed").is_empty()
    );
    // One network that is not there: nothing is left in the other.
    let wrong = state("creating", container.pid(), json!({ "lanmesh.network": "net,absent" }));
    let error = hook(node, &wrong).expect_err("there is no such network");
    assert!(error.contains("absent"), "{error}");
    assert!(node.endpoints("net").expect("is listed").is_empty() && container.links().is_empty());
    let error = hook(node, &json!({ "x": 1 })).expect_err("is no state");
    assert!(error.contains("no state"), "{error}");
}
