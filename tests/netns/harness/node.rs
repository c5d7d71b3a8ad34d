//! A node: a namespace, an agent in it, and the command that speaks to that agent.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::netns::{Netns, text};
use super::underlay::mounts_under;
use super::{Container, SOON, http, slowness, wait_until};

const LANMESH: &str = env!("CARGO_BIN_EXE_lanmesh");

/// A node. Its agent is killed by whoever drops the lab.
pub struct Node {
    name: String,
    number: usize,
    netns: Netns,
    mtu: u32,
    ipv6: bool,
    run_dir: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    /// TOML.
    config: RefCell<String>,
    agent: RefCell<Option<Child>>,
}

/// What the `lanmesh` command answered.
#[derive(Debug)]
pub struct Reply {
    command: String,
    output: Output,
}

impl Reply {
    /// The JSON that it printed, or why there is none: for [`wait_until`].
    pub fn ok(&self) -> Result<Value, String> {
        if !self.output.status.success() {
            return Err(self.to_string());
        }
        serde_json::from_slice(&self.output.stdout).map_err(|error| format!("no JSON ({error}): {self}"))
    }

    /// The JSON that it printed; fails the test if it failed.
    pub fn json(&self) -> Value {
        self.ok().unwrap_or_else(|why| panic!("{why}"))
    }

    /// What it printed; fails the test if it failed.
    pub fn success(&self) -> String {
        assert!(self.output.status.success(), "{self}");
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// The line on its standard error; fails the test if it was not refused in the way that the interface
    /// promises: status 1 (refused), 3 (not found) or 5 (not now), and one line.
    pub fn refusal(&self) -> String {
        let error = String::from_utf8_lossy(&self.output.stderr).trim().to_owned();
        assert!(matches!(self.output.status.code(), Some(1 | 3 | 5)), "{self}");
        assert_eq!(error.lines().count(), 1, "one line on stderr: {self}");
        error
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}", self.command, text(&self.output))
    }
}

impl Node {
    pub(super) fn new(number: usize, mtu: u32, ipv6: bool, dir: &Path, logs: &Path) -> Self {
        let name = format!("n{number}");
        let netns = Netns::new(&name);
        let run_dir = dir.join(&name).join("run");
        let data_dir = dir.join(&name).join("data");
        let log = logs.join(format!("{name}.log"));
        Self {
            name,
            number,
            netns,
            mtu,
            ipv6,
            run_dir,
            data_dir,
            log,
            config: RefCell::default(),
            agent: RefCell::new(None),
        }
    }

    /// Its name in the lab and in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in the lab, counted from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its address on the underlay, as it advertises it.
    pub fn address(&self) -> String {
        if self.ipv6 {
            format!("[2001:db8::{}]:7979", self.number)
        } else {
            format!("192.0.2.{}", self.number)
        }
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The MTU of its way to the underlay.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// The agent's run directory.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The agent's data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("lanmesh.sock")
    }

    /// Starts the agent; [`Node::wait_ready`] waits for it.
    pub fn start(&self) {
        self.start_under(&[]);
    }

    /// The same, under another program such as `["faketime", "+1h"]`.
    pub fn start_under(&self, wrapper: &[&str]) {
        self.launch(wrapper, Stdio::null());
    }

    /// Starts the agent with a socket that is open already, as a service manager passes it on: descriptor 3.
    pub fn start_with(&self, socket: &UnixListener) {
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
        let socket = OwnedFd::from(socket.try_clone().expect("a descriptor is free"));
        self.launch(&["sh", "-c", script, "sh"], socket.into());
    }

    fn launch(&self, wrapper: &[&str], stdin: Stdio) {
        assert!(self.agent.borrow().is_none(), "the agent of {} runs already", self.name);
        std::fs::create_dir_all(&self.run_dir).expect("the run directory can be made");
        let log =
            OpenOptions::new().create(true).append(true).open(&self.log).expect("the log can be written");
        // The agent goes when this thread goes, however that comes about.
        let mut command = self.netns.command("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(wrapper);
        command.arg(LANMESH).arg("agent").arg("--data-dir").arg(&self.data_dir);
        command.arg("--run-dir").arg(&self.run_dir).arg("--socket").arg(self.socket());
        if let Some(path) = self.write_config() {
            command.arg("--config").arg(path);
        }
        command.env("RUST_LOG", "lanmesh=debug").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.stdin(stdin).stdout(log.try_clone().expect("a descriptor is free")).stderr(log);
        // A group of its own, so that a wrapper and what it started end together.
        command.process_group(0);
        *self.agent.borrow_mut() = Some(command.spawn().expect("the agent can be started"));
    }

    /// Writes the file with the configuration, if there is any to write.
    pub fn write_config(&self) -> Option<PathBuf> {
        let mut config = self.config.borrow().clone();
        if slowness() > 1 {
            config.push_str(&format!("detect_ms = {}\n", 2000 * slowness()));
        }
        let path = self.run_dir.join("agent.toml");
        (!config.is_empty()).then(|| {
            std::fs::write(&path, config).expect("the run directory is ours");
            path
        })
    }

    /// Sets the configuration with which the agent is started from now on.
    pub fn configure(&self, toml: &str) {
        toml.clone_into(&mut self.config.borrow_mut());
    }

    /// Waits until the agent answers at its socket.
    pub fn wait_ready(&self) {
        wait_until(&format!("the agent of {} answers", self.name), SOON, || {
            if let Some(Ok(Some(status))) = self.agent.borrow_mut().as_mut().map(Child::try_wait) {
                panic!("the agent of {} has ended: {status}", self.name);
            }
            self.lanmesh(["status", "--json"]).ok()
        });
    }

    /// Starts the agent and waits until it answers.
    pub fn start_and_wait(&self) {
        self.start();
        self.wait_ready();
    }

    /// The process of the agent, or of the wrapper that it was started under and that became it.
    pub fn pid(&self) -> u32 {
        self.agent.borrow().as_ref().expect("the agent runs").id()
    }

    /// Whether the agent runs.
    pub fn runs(&self) -> bool {
        matches!(self.agent.borrow_mut().as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// SIGKILL for the agent, and the wait for its end. Nothing if it does not run.
    pub fn kill(&self) {
        if let Some(mut agent) = self.agent.borrow_mut().take() {
            end_group(&mut agent);
            // Under a wrapper the agent is not our child: it may be a moment behind.
            wait_until(&format!("the agent of {} ends", self.name), SOON, || {
                UnixStream::connect(self.socket()).map_or(Ok(()), |_| Err("it answers".to_owned()))
            });
        }
    }

    /// The WireGuard processes of this node, which outlive its agent.
    pub fn wireguard_processes(&self) -> Vec<u32> {
        let ours = self.run_dir.to_string_lossy().into_owned();
        let is_one = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            words.get(1).is_some_and(|word| word == "wireguard-userspace")
                && words.iter().any(|word| Path::new(&**word).starts_with(&ours))
        };
        let all = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect()
    }

    /// SIGKILL for those.
    pub fn kill_wireguard(&self) {
        let killed = self.wireguard_processes();
        for pid in &killed {
            let pid = Pid::from_raw(i32::try_from(*pid).expect("pids are small"));
            // It may have ended just now.
            let _ = kill(pid, Signal::SIGKILL);
        }
        wait_until(&format!("the WireGuard processes of {} end", self.name), SOON, || {
            // The agent, if it runs, has started others by now.
            let mut left = self.wireguard_processes();
            left.retain(|pid| killed.contains(pid));
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// SIGTERM for the agent, and the wait for its end, which has to be a good one.
    pub fn stop(&self) {
        let mut agent = self.agent.borrow_mut().take().expect("the agent runs");
        let pid = i32::try_from(agent.id()).expect("pids are small");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child can be signalled");
        let status = wait_until(&format!("the agent of {} stops", self.name), SOON, || {
            agent.try_wait().expect("our own child can be waited for").ok_or_else(|| "it runs".to_owned())
        });
        assert!(status.success(), "the agent of {} ended with {status}", self.name);
    }

    /// The `lanmesh` command, speaking to this node's agent.
    pub fn lanmesh<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Reply {
        self.command_with(LANMESH, arguments)
    }

    /// Begins the command and does not wait for it.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(LANMESH);
        command.env("LANMESH_SOCKET", self.socket()).args(arguments).stdout(Stdio::null());
        command.spawn().expect("the command can be run")
    }

    /// The same with another path to the command.
    pub fn command_with<S: AsRef<OsStr>>(
        &self,
        lanmesh: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Reply {
        let mut command = Command::new(lanmesh);
        command.env("LANMESH_SOCKET", self.socket()).args(arguments);
        let words = command.get_args().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let output = command.output().expect("the command can be run");
        Reply { command: format!("{}: lanmesh {words}", self.name), output }
    }

    /// What the agent answers to this request at its socket, with the status.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        http::request(&self.socket(), method, path, body)
    }

    /// `init`; the token.
    pub fn init(&self) -> String {
        let answer = self.lanmesh(["init", "--advertise", &self.address(), "--name", &self.name, "--json"]);
        answer.json()["token"].as_str().expect("init answers with a token").to_owned()
    }

    /// `join` at `manager`, which has to succeed.
    pub fn join(&self, token: &str, manager: &Self) {
        self.try_join(token, manager, &[]).success();
    }

    /// `join` at `manager` with further arguments.
    pub fn try_join(&self, token: &str, manager: &Self, more: &[&str]) -> Reply {
        let (at, me) = (manager.address(), self.address());
        let arguments = ["join", "--token", token, &at, "--advertise", &me];
        let name: &[&str] = if more.contains(&"--name") { &[] } else { &["--name", &self.name] };
        self.lanmesh(arguments.iter().chain(name).chain(more))
    }

    /// What this node says of all nodes: (name, state).
    pub fn nodes(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let nodes = self.lanmesh(["node", "ls", "--json"]).json();
        let nodes = nodes.as_array().expect("node ls answers with a list").iter();
        nodes.map(|node| (text(&node["name"]), text(&node["state"]))).collect()
    }

    /// What this node says of `other`; "unknown" if it knows no such node.
    pub fn state_of(&self, other: &Self) -> String {
        let nodes = self.nodes();
        let found = nodes.into_iter().find(|(name, _)| name == other.name());
        found.map_or_else(|| "unknown".to_owned(), |(_, state)| state)
    }

    /// Waits until this node sees exactly so many nodes, all alive.
    pub fn wait_alive(&self, count: usize) {
        wait_until(&format!("{} sees {count} nodes, all alive", self.name), SOON, || {
            let nodes = self.nodes();
            let alive = nodes.iter().filter(|(_, state)| state == "alive").count();
            if alive == count && nodes.len() == count { Ok(()) } else { Err(format!("{nodes:?}")) }
        });
    }

    /// Creates a network.
    pub fn create_network(&self, name: &str, arguments: &[&str]) {
        self.lanmesh(["network", "create", name].iter().chain(arguments)).success();
    }

    /// Attaches a container, which has to succeed, and gives the answer.
    pub fn attach(&self, network: &str, name: &str, container: &Container) -> Value {
        self.try_attach(network, name, container, &[]).json()
    }

    /// Attaches a container with further arguments.
    pub fn try_attach(&self, network: &str, name: &str, container: &Container, more: &[&str]) -> Reply {
        let arguments = ["attach", network, "--name", name, "--netns", container.path_text(), "--json"];
        self.lanmesh(arguments.iter().chain(more))
    }

    /// Detaches an endpoint, which has to succeed.
    pub fn detach(&self, network: &str, name: &str) {
        self.lanmesh(["detach", network, name]).success();
    }

    /// The names of the endpoints that this node knows in a network, sorted; with the node of each.
    pub fn endpoints(&self, network: &str) -> Result<Vec<String>, String> {
        let list = self.lanmesh(["endpoint", "ls", network, "--json"]).ok()?;
        let list = list.as_array().ok_or_else(|| format!("no list: {list}"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut names: Vec<_> =
            list.iter().map(|e| format!("{}@{}", text(&e["name"]), text(&e["node"]))).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until this node knows exactly these endpoints (`NAME@NODE`) in a network.
    pub fn wait_endpoints(&self, network: &str, expected: &[&str]) {
        let what = format!("{} knows the endpoints {expected:?} of {network} and no others", self.name);
        wait_until(&what, SOON, || {
            let found = self.endpoints(network)?;
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    /// Runs a command in the network's namespace on this node, as `lanmesh network exec` does.
    pub fn network_exec(&self, network: &str, command: &[&str]) -> Reply {
        self.lanmesh(["network", "exec", network, "--"].iter().chain(command))
    }

    /// The names of the links in the network's namespace on this node, sorted.
    pub fn network_links(&self, network: &str) -> Vec<String> {
        let links = self.network_exec(network, &["ip", "-j", "link", "show"]).json();
        let links = links.as_array().expect("ip answers with a list").iter();
        let mut names: Vec<_> =
            links.map(|link| link["ifname"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    /// What is mounted below the run directory.
    pub fn mounts(&self) -> Vec<PathBuf> {
        mounts_under(&self.run_dir)
    }

    /// The agent's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Prints the end of the agent's log.
    pub(super) fn show_log(&self) {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("--- {} ({} lines of log, the last of them:)", self.name, lines.len());
        for line in &lines[lines.len().saturating_sub(40)..] {
            eprintln!("{line}");
        }
    }

    /// A command line that enters the node.
    pub(super) fn nsenter_line(&self) -> String {
        let agent = self.agent.borrow();
        let socket = self.socket();
        match agent.as_ref() {
            Some(agent) => format!(
                "nsenter --target {} --mount --net env LANMESH_SOCKET={} bash",
                agent.id(),
                socket.display()
            ),
            None => format!(
                "nsenter --target {} --mount bash, then ip netns exec {} bash (no agent runs)",
                std::process::id(),
                self.name
            ),
        }
    }
}

/// SIGKILL for a child and what else is in its process group, and the wait for the end.
fn end_group(leader: &mut Child) {
    if let Ok(None) = leader.try_wait() {
        let group = i32::try_from(leader.id()).expect("pids are small");
        // Fails only if all of it has just ended.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    end(leader);
}

/// SIGKILL, and the wait for the end.
pub(super) fn end(child: &mut Child) {
    // Both fail only for a child that has ended.
    let _ = child.kill();
    let _ = child.wait();
}
