//! Counting packets on the underlay.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Container, Netns, slowness};

/// A capture that runs until it is asked for its count.
pub struct Capture {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Capture {
    /// Starts to count what matches `filter` (pcap-filter(7)) on a link, and returns when it counts.
    pub fn start(netns: &Netns, link: &str, filter: &str) -> Self {
        Self::with(netns.command("setpriv"), link, filter, Path::new("/dev/null"))
    }

    /// The same in a container.
    pub fn within(container: &Container, link: &str, filter: &str) -> Self {
        Self::with(container.command("setpriv"), link, filter, Path::new("/dev/null"))
    }

    /// Starts to write what matches `filter` on a link, `any` included, to a file, and returns when it does.
    pub fn written(netns: &Netns, link: &str, filter: &str, file: &Path) -> Self {
        Self::with(netns.command("setpriv"), link, filter, file)
    }

    fn with(mut command: Command, link: &str, filter: &str, file: &Path) -> Self {
        command.args(["--pdeathsig", "KILL", "tcpdump", "--immediate-mode", "-n", "-p", "-i", link]);
        // Where it cannot change its user it could not write the file.
        command.args(["-U", "-Z", "root", "-w"]).arg(file).arg(filter);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump can be started");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut seen = String::new();
        // It says so once its socket is open.
        while !seen.contains("listening on") {
            let before = seen.len();
            stderr.read_line(&mut seen).expect("tcpdump prints text");
            assert!(seen.len() > before, "tcpdump does not start: {seen}");
        }
        Self { child, stderr }
    }

    /// How many packets there were.
    pub fn count(mut self) -> u64 {
        // What was sent just now may not have been counted yet; there is nothing to ask.
        std::thread::sleep(Duration::from_millis(200) * slowness());
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("pids are small"));
        kill(pid, Signal::SIGINT).expect("our own child can be signalled");
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).expect("tcpdump prints text");
        self.child.wait().expect("our own child can be waited for");
        let line = text.lines().find(|line| line.contains("captured"));
        line.and_then(|line| line.split(' ').next())
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| panic!("tcpdump counts nothing: {text}"))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        super::node::end(&mut self.child);
    }
}
