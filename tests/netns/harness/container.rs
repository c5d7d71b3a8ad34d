//! What stands in for a container: a network namespace, with a name or held by a process.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::netns::{Netns, enter, within};
use super::node::end;
use super::{SOON, wait_until};

/// A network namespace to attach.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Named(Netns),
    Process(Child),
}

impl Container {
    /// One that lives until it is dropped, under a path in `/run/netns`.
    pub fn named(name: &str) -> Self {
        let netns = Netns::new(format!("c-{name}"));
        Self { path: netns.path(), kind: Kind::Named(netns) }
    }

    /// One that lives as long as its only process.
    pub fn process() -> Self {
        Self::sleeping(Command::new("setpriv").args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "sleep",
            "infinity",
        ]))
    }

    /// The same namespace, held by a further process: as what a container leaves running does.
    pub fn held_longer(&self) -> Self {
        Self::sleeping(self.command("setpriv").args(["--pdeathsig", "KILL", "sleep", "infinity"]))
    }

    fn sleeping(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn().expect("a process can be started");
        let pid = child.id();
        // From here on it is waited for, also when the test fails.
        let this = Self::of(child);
        wait_until("the container's process has its own namespace and runs", SOON, || {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|e| e.to_string())?;
            if comm.trim() == "sleep" { Ok(()) } else { Err(comm) }
        });
        this
    }

    /// One that lives as long as `child`, which has a namespace of its own or is about to make it.
    pub(super) fn of(child: Child) -> Self {
        Self { path: format!("/proc/{}/ns/net", child.id()).into(), kind: Kind::Process(child) }
    }

    /// Deletes it with all that is in it, and makes it anew at the same path.
    ///
    /// # Panics
    /// It has a process and no name.
    pub fn remake(&self) {
        match &self.kind {
            Kind::Named(netns) => netns.remake(),
            Kind::Process(_) => panic!("{} has no name", self.path.display()),
        }
    }

    /// The path of its namespace, as an argument.
    pub fn path_text(&self) -> &str {
        self.path.to_str().expect("our own paths are text")
    }

    /// The process that holds it.
    ///
    /// # Panics
    /// It has a name and no process.
    pub fn pid(&self) -> u32 {
        match &self.kind {
            Kind::Process(child) => child.id(),
            Kind::Named(_) => panic!("{} has no process", self.path.display()),
        }
    }

    /// `program`, to be run in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        enter(&self.path, program.as_ref())
    }

    /// Runs `work` in it, on a thread of its own.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.path, work)
    }

    /// Runs `ip ARGUMENTS` in it, fails the test if that fails, and gives what it printed.
    pub fn ip(&self, arguments: &str) -> String {
        let output = self.command("ip").args(arguments.split_whitespace()).output().expect("ip can be run");
        assert!(output.status.success(), "ip {arguments}: {}", super::netns::text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ip -j ARGUMENTS` in it, as JSON.
    pub fn ip_json(&self, arguments: &str) -> Vec<serde_json::Value> {
        let text = self.ip(&format!("-j {arguments}"));
        if text.trim().is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(&text).expect("ip answers JSON")
        }
    }

    /// The names of its links other than the loopback.
    pub fn links(&self) -> Vec<String> {
        let name = |link: &serde_json::Value| link["ifname"].as_str().unwrap_or_default().to_owned();
        self.ip_json("link show").iter().map(name).filter(|name| name != "lo").collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Kind::Process(child) = &mut self.kind {
            end(child);
        }
    }
}
