//! The underlay and the nodes on it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::netns::{Netns, run};
use super::requirements::logs;
use super::slots::Slot;
use super::{Node, SOON, wait_until};

/// What a lab is like.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// The MTU of each node's way to the underlay; so many nodes there are.
    pub mtus: Vec<u32>,
    /// No other test runs meanwhile.
    pub alone: bool,
    /// The nodes speak IPv6 with each other.
    pub ipv6: bool,
}

impl From<usize> for LabConfig {
    fn from(nodes: usize) -> Self {
        Self { mtus: vec![1500; nodes], alone: false, ipv6: false }
    }
}

impl LabConfig {
    /// So many nodes, and no other test meanwhile: for what measures time or takes all cores.
    pub fn alone(nodes: usize) -> Self {
        Self { alone: true, ..nodes.into() }
    }

    /// So many nodes on an IPv6 underlay.
    pub fn over_ipv6(nodes: usize) -> Self {
        Self { ipv6: true, ..nodes.into() }
    }

    /// Nodes with these MTUs.
    pub fn mtus(mtus: &[u32]) -> Self {
        Self { mtus: mtus.to_vec(), alone: false, ipv6: false }
    }
}

/// An underlay with nodes n1, n2 and so on. On drop everything is gone.
pub struct Lab {
    nodes: Vec<Node>,
    underlay: Netns,
    dir: TempDir,
    logs: PathBuf,
    // Given back last.
    _slot: Slot,
}

impl Lab {
    /// The underlay and nodes with running agents, in no cluster.
    pub fn start(test: &str, config: LabConfig) -> Self {
        let slot = if config.alone { Slot::all() } else { Slot::any() };
        own_run_directory();
        let logs = logs().join(test.replace("::", "/"));
        // An earlier run's: it may not be there.
        let _ = std::fs::remove_dir_all(&logs);
        std::fs::create_dir_all(&logs).expect("the directory of the logs can be made");
        // In the /run that nobody else sees: then what an agent mounts there is gone with this test, and nobody
        // outside shares the directory. A socket's path must stay below 108 bytes, so not the whole name.
        let short: String = test.rsplit("::").next().unwrap_or(test).chars().take(24).collect();
        let dir = tempfile::Builder::new()
            .prefix(&format!("lanmesh-{short}-"))
            .tempdir_in("/run")
            .expect("a temporary directory can be made");
        // Whoever has no right to write has to reach the sockets all the same.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("our own directory");
        let underlay = Netns::new("underlay");
        underlay.ip("link add br0 type bridge mcast_snooping 0");
        underlay.ip("link set br0 up");
        let mut lab = Self { nodes: Vec::new(), underlay, dir, logs, _slot: slot };
        for (i, mtu) in config.mtus.iter().enumerate() {
            lab.add_node(i + 1, *mtu, config.ipv6);
        }
        for node in &lab.nodes {
            node.start();
        }
        for node in &lab.nodes {
            node.wait_ready();
        }
        lab
    }

    /// The same, with all nodes in one cluster that n1 made; node nI has index I - 1.
    pub fn cluster(self) -> Self {
        self.join_all(&(1..=self.nodes.len()).collect::<Vec<_>>());
        self
    }

    /// Puts these nodes into one cluster that the first of them makes.
    pub fn join_all(&self, numbers: &[usize]) {
        let Some((first, others)) = numbers.split_first() else { return };
        let manager = self.node(*first);
        let token = manager.init();
        for number in others {
            self.node(*number).join(&token, manager);
        }
        for number in numbers {
            self.node(*number).wait_alive(numbers.len());
        }
    }

    /// Node `number`, counted from 1.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The namespace in the middle, where node nI's link is called nI.
    pub fn underlay(&self) -> &Netns {
        &self.underlay
    }

    /// A directory that goes away with the lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Drops every packet from and to a node, without a sign of it at the node.
    pub fn cut(&self, node: &Node) {
        run("bridge", ["-n", self.underlay.name(), "link", "set", "dev", node.name(), "state", "0"]);
    }

    /// Ends that.
    pub fn heal(&self, node: &Node) {
        run("bridge", ["-n", self.underlay.name(), "link", "set", "dev", node.name(), "state", "3"]);
    }

    /// Creates a network on n1 and waits until every node of n1's cluster knows it.
    pub fn network(&self, name: &str, arguments: &[&str]) {
        self.node(1).create_network(name, arguments);
        for node in &self.nodes {
            wait_until(&format!("{} knows network {name}", node.name()), SOON, || {
                node.lanmesh(["network", "inspect", name, "--json"]).ok()
            });
        }
    }

    /// What a reboot of a node does: everything in its kernel and its run directory is gone, its data
    /// directory stays. The agent has to be started again.
    pub fn reboot(&self, node: &Node) {
        node.kill();
        node.kill_wireguard();
        unmount_under(node.run_dir());
        std::fs::remove_dir_all(node.run_dir()).expect("the run directory is ours");
        node.netns().remake();
        wait_until("the link to the underlay is gone", SOON, || {
            let links = self.underlay.links();
            if links.iter().any(|link| link == node.name()) { Err(format!("{links:?}")) } else { Ok(()) }
        });
        self.wire(node);
    }

    /// Connects a node's namespace to the underlay, with 192.0.2.NUMBER and 2001:db8::NUMBER.
    fn wire(&self, node: &Node) {
        let (name, number, mtu) = (node.name(), node.number(), node.mtu());
        self.underlay
            .ip(&format!("link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}"));
        self.underlay.ip(&format!("link set {name} master br0 up"));
        node.netns().ip(&format!("address add 192.0.2.{number}/24 dev eth0"));
        if mtu >= 1280 {
            node.netns().ip(&format!("address add 2001:db8::{number}/64 dev eth0 nodad"));
        }
        node.netns().ip("link set eth0 up");
    }

    fn add_node(&mut self, number: usize, mtu: u32, ipv6: bool) {
        let node = Node::new(number, mtu, ipv6, self.dir.path(), &self.logs);
        self.wire(&node);
        self.nodes.push(node);
    }

    fn show_for_debugging(&self) {
        for node in &self.nodes {
            node.show_log();
        }
        eprintln!("the agents' logs are in {}", self.logs.display());
        if std::env::var_os("LANMESH_TEST_KEEP").is_some() {
            for node in &self.nodes {
                eprintln!("{}: {}", node.name(), node.nsenter_line());
            }
            eprintln!("LANMESH_TEST_KEEP is set: all of it stays until this process ends (Ctrl-C)");
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_for_debugging();
        }
        for node in &self.nodes {
            node.kill();
            node.kill_wireguard();
        }
        unmount_under(self.dir.path());
    }
}

/// Gives this thread, and all that it starts, a mount namespace with an empty `/run` and `/dev/shm`.
fn own_run_directory() {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("root may make a mount namespace");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts can be made private");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .expect("a tmpfs can be mounted on /run");
    std::fs::create_dir("/run/netns").expect("the new /run is empty");
    // Where `faketime` keeps its clock; killed, it leaves it there.
    mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("a tmpfs can be mounted on /dev/shm");
}

/// What is mounted below `dir` in this thread's mount namespace.
pub fn mounts_under(dir: &Path) -> Vec<PathBuf> {
    let info = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("/proc is mounted");
    // proc(5): the fifth field is the mount point.
    info.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(dir))
        .collect()
}

fn unmount_under(dir: &Path) {
    for mount in mounts_under(dir).iter().rev() {
        // A failure shows as a directory that cannot be removed.
        let _ = umount2(mount, MntFlags::MNT_DETACH);
    }
}
