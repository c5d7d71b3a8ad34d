//! Network namespaces with a name in the test's own `/run/netns`, and work done in them.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sched::{CloneFlags, setns};

/// A network namespace; deleted on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        run("ip", ["netns", "add", &name]);
        run("ip", ["-n", &name, "link", "set", "lo", "up"]);
        Self { name }
    }

    /// Deletes it with all that is in it, and makes it anew.
    pub fn remake(&self) {
        run("ip", ["netns", "delete", &self.name]);
        run("ip", ["netns", "add", &self.name]);
        run("ip", ["-n", &self.name, "link", "set", "lo", "up"]);
    }

    /// Its name for `ip -n`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// `program`, to be run in it. Not `ip netns exec`, which would give it a mount namespace of its own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        enter(&self.path(), program.as_ref())
    }

    /// Runs `ip -n NAME ARGUMENTS` and fails the test if that fails.
    pub fn ip(&self, arguments: &str) -> String {
        run("ip", ["-n", &self.name].into_iter().chain(arguments.split_whitespace()))
    }

    /// `ip -n NAME -j ARGUMENTS` as JSON.
    pub fn ip_json(&self, arguments: &str) -> Vec<serde_json::Value> {
        let text = self.ip(&format!("-j {arguments}"));
        if text.trim().is_empty() {
            return Vec::new();
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("ip answers no JSON ({error}): {text}"))
    }

    /// The names of its links, sorted.
    pub fn links(&self) -> Vec<String> {
        let name = |link: &serde_json::Value| link["ifname"].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<_> = self.ip_json("link show").iter().map(name).collect();
        names.sort();
        names
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["netns", "delete", &self.name]).output();
        // It is gone already where a test deleted it.
        drop(deleted);
    }
}

/// `program`, to be run in the network namespace at `path`.
pub fn enter(path: &Path, program: &OsStr) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path.display())).arg("--").arg(program);
    command
}

/// Runs `work` in the network namespace at `path`, on a thread of its own: a socket that it makes stays there.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(path).unwrap_or_else(|error| panic!("no namespace at {}: {error}", path.display()));
    let done = std::thread::scope(|scope| {
        let entered = move || {
            setns(&file, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
            work()
        };
        scope.spawn(entered).join()
    });
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a command, fails the test if it fails, and gives what it printed.
pub fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command printed on both outputs, for messages.
pub fn text(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{}, {}", output.status, both.concat().trim())
}
