//! Lines of the pages, typed as somebody types them who is logged in to a node.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::mount::{MsFlags, mount};

use crate::harness::{Lab, Node};

/// A shell on the node that runs these lines.
pub fn shell(node: &Node, lines: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_lanmesh")).parent().expect("is in a directory");
    let own = programs(node);
    let path = format!("{}:{}:{}", own.display(), path.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = node.netns().command("unshare");
    command.env("PATH", path).env("LANMESH_SOCKET", node.socket());
    let script = "hostname \"$0\"; exec sh -ec \"$1\"";
    command.args(["--uts", "sh", "-ec", script, node.name(), lines]);
    command
}

/// Runs the lines.
pub fn typed(node: &Node, lines: &str) -> Output {
    shell(node, lines).output().expect("a shell can be started")
}

/// Runs the lines, which have to succeed, and gives what they print.
pub fn done(node: &Node, lines: &str) -> String {
    tried(node, lines).unwrap_or_else(|why| panic!("{why}"))
}

/// The same, for `wait_until`.
pub fn tried(node: &Node, lines: &str) -> Result<String, String> {
    let output = typed(node, lines);
    if !output.status.success() {
        return Err(format!("{lines}: {output:?}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts the agent anew on what is a machine of its own: with a name, and with a way elsewhere.
pub fn machine(node: &Node) {
    node.kill();
    let script = format!("hostname {}; exec \"$@\"", node.name());
    node.start_under(&["unshare", "--uts", "sh", "-c", &script, "sh"]);
    node.wait_ready();
    node.netns().ip("route add default via 192.0.2.99");
}

fn programs(node: &Node) -> std::path::PathBuf {
    node.run_dir().with_file_name("programs")
}

/// A program of this name for whoever types on the node, in the place of one that the machine has not.
pub fn stand_in(node: &Node, name: &str, script: &str) {
    let dir = programs(node);
    std::fs::create_dir_all(&dir).expect("a directory can be made");
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("can be written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("is ours");
}

/// Lets this test write to a directory of the machine's: what it writes is seen here alone, and goes with the lab.
pub fn own(lab: &Lab, directory: &str) {
    let dir = lab.dir().join(format!("over{}", directory.replace('/', "-")));
    let [upper, work] = ["upper", "work"].map(|name| dir.join(name));
    for dir in [&upper, &work] {
        std::fs::create_dir_all(dir).expect("a directory can be made");
    }
    let options = format!("lowerdir={directory},upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), directory, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .unwrap_or_else(|error| panic!("an overlay on {directory}: {error}"));
}
