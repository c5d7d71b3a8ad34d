//! One run directory, one agent; and what a former one left is found and removed, but nothing that anybody has.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::harness::{Container, Node, SOON, lab, need, wait_until};

const LANMESH: &str = env!("CARGO_BIN_EXE_lanmesh");

/// A second agent on a node, with a data directory and a socket of its own.
struct Second {
    child: Child,
    socket: String,
}

impl Second {
    fn command(node: &Node, run_dir: &Path, dir: &Path) -> (Command, String) {
        let socket = dir.join("second.sock").to_str().expect("text").to_owned();
        let mut command = node.netns().command("setpriv");
        command.args(["--pdeathsig", "KILL", "--", LANMESH, "agent", "--socket", &socket]);
        command.arg("--run-dir").arg(run_dir).arg("--data-dir").arg(dir.join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        (command, socket)
    }

    fn start(node: &Node, run_dir: &Path, dir: &Path) -> Self {
        let (mut command, socket) = Self::command(node, run_dir, dir);
        let child = command.stderr(Stdio::null()).spawn().expect("starts");
        let second = Self { child, socket };
        wait_until("the second agent answers", SOON, || {
            second.lanmesh(node, &["status", "--json"]).map(drop)
        });
        second
    }

    fn lanmesh(&self, node: &Node, arguments: &[&str]) -> Result<Value, String> {
        let mut command = node.netns().command(LANMESH);
        let output = command.args(arguments).args(["--socket", &self.socket]).output().expect("runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn cleanup(node: &Node, arguments: &[&str]) -> Value {
    let mut command = node.netns().command(LANMESH);
    let Output { status, stdout, stderr } =
        command.args(["cleanup", "--json"]).args(arguments).output().expect("runs");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).expect("is JSON")
}

fn tables(node: &Node) -> Vec<String> {
    let output = node.netns().command("nft").args(["list", "tables"]).output().expect("nft runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| line.contains("lanmesh-")).map(str::to_owned).collect()
}

#[test]
fn a_second_agent_on_one_run_directory_is_refused_and_told_who_has_it() {
    let lab = lab!(1).cluster();
    let node = lab.node(1);
    lab.network("net", &["--subnet", "10.97.0.0/24"]);
    let container = Container::named("a");
    node.attach("net", "a", &container);
    let before = node.network_links("net");
    let (mut command, _) = Second::command(node, node.run_dir(), lab.dir());
    let output = command.output().expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let (pid, socket) = (node.pid().to_string(), node.socket());
    for part in [pid.as_str(), socket.to_str().expect("text"), "--run-dir"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(node.network_links("net"), before);
    assert_eq!(container.links(), ["eth0"]);
}

#[test]
fn what_a_former_agent_left_is_found_and_removed_and_nothing_of_one_that_lives() {
    need!("nft");
    let lab = lab!(1).cluster();
    let node = lab.node(1);
    lab.network("net", &["--subnet", "10.97.1.0/24"]);
    let (mine, theirs) = (Container::named("mine"), Container::named("theirs"));
    node.attach("net", "mine", &mine);
    let alive = cleanup(node, &[]);
    assert_eq!(alive["leftovers"], Value::Array(vec![]), "nothing of an agent that runs: {alive}");
    assert_eq!(mine.links(), ["eth0"]);
    node.kill();
    let run_dir = lab.dir().join("second");
    let second = Second::start(node, &run_dir, lab.dir());
    second.lanmesh(node, &["init", "--advertise", &node.address(), "--name", "n2", "--json"]).expect("inits");
    second
        .lanmesh(node, &["network", "create", "net", "--subnet", "10.97.2.0/24", "--json"])
        .expect("creates");
    let attach = ["attach", "net", "--name", "t", "--netns", theirs.path_text(), "--json"];
    second.lanmesh(node, &attach).expect("attaches");
    wait_until("both have their tables", SOON, || match tables(node).len() {
        2 => Ok(()),
        _ => Err(format!("{:?}", tables(node))),
    });
    let doctor = second.lanmesh(node, &["doctor", "--json"]).expect("answers").to_string();
    assert!(doctor.contains("lanmesh cleanup"), "{doctor}");
    let dry = cleanup(node, &["--dry-run"]);
    let text = dry["leftovers"].to_string();
    assert!(text.contains(node.run_dir().to_str().expect("text")), "{dry}");
    assert_eq!((mine.links(), tables(node).len()), (vec!["eth0".to_owned()], 2), "only said");
    cleanup(node, &[]);
    assert!(mine.links().is_empty() && node.mounts().is_empty());
    assert_eq!((theirs.links(), tables(node).len()), (vec!["eth0".to_owned()], 1));
    assert_eq!(cleanup(node, &[])["leftovers"], Value::Array(vec![]));
    drop(second);
    cleanup(node, &[]);
    assert!(theirs.links().is_empty());
    assert_eq!(tables(node), Vec::<String>::new());
}
