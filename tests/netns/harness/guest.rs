//! Real software in a container: a network namespace with a host name, a `/run` and processes of its own, and Avahi if
//! it is wanted.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use super::node::end;
use super::{Container, Netns};

/// The first process: `$1` is the host name, `$2` "avahi" or "plain", `$3` the interface on which Avahi is.
const FIRST: &str = r#"
set -eu
hostname "$1"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/dbus /run/avahi-daemon
mkdir -m 1777 /run/tmp
chown avahi:avahi /run/avahi-daemon
ip link set lo up
printf 'hosts: files mdns_minimal [NOTFOUND=return]\n' >/run/nsswitch.conf
mount --bind /run/nsswitch.conf /etc/nsswitch.conf
# nss-mdns asks the name server first whether .local is somebody's domain.
echo 'nameserver 127.0.0.1' >/run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
printf '[server]\nhost-name=%s\nallow-interfaces=%s\nuse-ipv4=yes\nuse-ipv6=yes\n' "$1" "$3" >/run/avahi.conf
printf '[publish]\npublish-hinfo=no\npublish-workstation=no\n' >>/run/avahi.conf
if [ "$2" = avahi ]; then
    dbus-daemon --system --fork --nopidfile
    avahi-daemon --file /run/avahi.conf --no-chroot >/run/avahi.log 2>&1 &
    until [ -S /run/avahi-daemon/socket ]; do sleep 0.05; done
fi
echo ready
while :; do
    sleep 3600 &
    wait $! || true
done
"#;

/// A container with software in it. Everything in it ends when it is dropped.
pub struct Guest {
    container: Container,
    // Held so that the first process can go on writing.
    _stdout: BufReader<ChildStdout>,
}

impl Guest {
    /// One in which Avahi runs, on `eth0` alone.
    pub fn with_avahi(hostname: &str) -> Self {
        Self::start(hostname, "avahi", None)
    }

    /// One without a word of mDNS.
    pub fn plain(hostname: &str) -> Self {
        Self::start(hostname, "plain", None)
    }

    /// Software of a machine that is a member of a network itself, by this interface: it has no namespace of its own.
    pub fn on_machine(hostname: &str, machine: &Netns, ifname: &str) -> Self {
        Self::start(hostname, "avahi", Some((machine, ifname)))
    }

    fn start(hostname: &str, role: &str, machine: Option<(&Netns, &str)>) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        let ifname = match machine {
            Some((netns, ifname)) => {
                command.arg("nsenter").arg(format!("--net={}", netns.path().display())).arg("unshare");
                ifname
            }
            None => {
                command.args(["unshare", "--net"]);
                "eth0"
            }
        };
        let mut child = command
            .args(["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", FIRST, "guest", hostname, role, ifname])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        // From here on it is waited for, also when the test fails.
        let container = Container::of(child);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it prints text");
        assert_eq!(line.trim(), "ready", "the first process of {hostname}");
        Self { container, _stdout: stdout }
    }

    /// What is attached.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// `program`, to be run in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.container.pid();
        // The process that made the namespaces is itself in the outer one of processes.
        command.arg(format!("--target={pid}")).arg(format!("--pid=/proc/{pid}/ns/pid_for_children"));
        command.args(["--mount", "--uts", "--ipc", "--net", "--"]).arg(program);
        command.env("TMPDIR", "/run/tmp").env("HOME", "/run/tmp");
        command
    }

    /// Runs `bash -c SCRIPT` in it: what it printed, or why it failed, for [`super::wait_until`].
    pub fn sh(&self, script: &str) -> Result<String, String> {
        let output = self.output(script);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(super::netns::text(&output)) }
    }

    fn output(&self, script: &str) -> Output {
        self.command("bash").args(["-c", script]).output().expect("bash can be run")
    }

    /// Starts `bash -c SCRIPT` in it; it ends when what is answered is dropped.
    pub fn start_sh(&self, script: &str) -> Running {
        let mut command = self.command("setpriv");
        command.args(["--pdeathsig", "TERM", "bash", "-c", script]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Running { child: child.expect("bash can be run") }
    }

    /// What Avahi has logged.
    pub fn avahi_log(&self) -> String {
        self.sh("cat /run/avahi.log").unwrap_or_default()
    }
}

/// A program in a [`Guest`]. Write its script with `exec`, so that it is what ends.
pub struct Running {
    child: Child,
}

impl Running {
    /// Lets it end (SIGTERM), and gives what it printed.
    pub fn finish(mut self) -> String {
        self.terminate();
        let mut text = String::new();
        if let Some(stdout) = &mut self.child.stdout {
            stdout.read_to_string(&mut text).expect("it prints text");
        }
        text
    }
}

impl Running {
    /// SIGTERM for the program: it is the only child of what entered the namespaces for it.
    fn terminate(&self) {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // Fails only if it has just ended.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.terminate();
        end(&mut self.child);
    }
}
