//! Software of others that runs in a container.

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::container::Container;
use super::node::end;
use super::wait_until;

/// A program in a container, in mount, UTS and PID namespaces of its own: what it puts into the background goes with
/// it. Killed on drop.
pub struct Program {
    child: Child,
    output: PathBuf,
    name: String,
    _dir: TempDir,
}

/// What a program finds where it runs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The container.
    pub container: &'a Container,
    /// The host name.
    pub hostname: &'a str,
    /// The directories that are empty and its own: where it keeps what must not meet that of another container.
    pub own: &'a [&'a str],
}

impl Program {
    /// Starts `command` (program and arguments).
    pub fn start<S: AsRef<OsStr>>(place: Place<'_>, command: impl IntoIterator<Item = S>) -> Self {
        const SETUP: &str = r#"hostname "$1"; shift
            while [ "$1" != -- ]; do mkdir -p "$1"; mount -t tmpfs -o mode=777 tmpfs "$1"; shift; done
            shift; exec "$@""#;
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let output = dir.path().join("output");
        let log = File::create(&output).expect("a file can be made");
        let mut line = place.container.command("setpriv");
        line.args(["--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]);
        line.args(["--mount-proc", "sh", "-ec", SETUP, "sh"]);
        line.arg(place.hostname).args(place.own).arg("--").args(command);
        let words: Vec<_> = line.get_args().map(OsStr::to_string_lossy).collect();
        let name = words.rsplit(|word| word == "--").next().unwrap_or_default().join(" ");
        // Some of it stops when its input ends: it has one that does not.
        line.stdin(Stdio::piped()).stdout(log.try_clone().expect("a descriptor is free")).stderr(log);
        let child = line.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { child, output, name, _dir: dir }
    }

    /// What it has printed on both outputs.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits until it has printed something that `found` makes something of, and gives that.
    pub fn wait_output<T>(&mut self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        wait_until(&format!("{}: {what}", self.name), super::LATER, || {
            let ended = self.child.try_wait().expect("our own child can be waited for");
            let output = self.output();
            match (found(&output), ended) {
                (Some(found), _) => Ok(found),
                (None, Some(status)) => panic!("{} ended ({status}) without: {what}\n{output}", self.name),
                (None, None) => Err(output),
            }
        })
    }

    /// Waits for its end; whether that was a good one, and what it printed.
    pub fn wait_end(&mut self) -> (bool, String) {
        let status = wait_until(&format!("{} ends", self.name), super::LATER, || {
            self.child.try_wait().expect("our own child can be waited for").ok_or_else(|| self.output())
        });
        (status.success(), self.output())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The first process in there ends with us unless it takes another user's rights, as a resolver does; and all others with it.
        let id = self.child.id();
        let there = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for first in there.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(first), Signal::SIGKILL);
        }
        end(&mut self.child);
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.name, self.output());
        }
    }
}
