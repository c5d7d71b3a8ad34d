//! Nodes and containers as network namespaces, for the tests of the kernel part.
//!
//! Owns: making them, looking into them, and removing them. Node 0, 1, … are joined by one bridge, as 192.0.2.1,
//! 192.0.2.2, … and 2001:db8::1, …

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;

use lanmesh::kernel::{KernelConfig, KernelError, Linux};
use lanmesh::model::{EndpointName, Mac, MulticastMode, NetworkId, NodeIndex, Placement, Vni};
use lanmesh::plan::{Desired, DesiredNetwork, DesiredPort, Op, Plan, plan};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

/// Runs `work` on a thread in the namespace `netns`.
pub fn within<T: Send + 'static>(netns: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{netns}")).expect("the namespace is there");
    let thread = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).expect("enters");
        work()
    });
    thread.join().expect("does not panic")
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `ip`, in a namespace or, with an empty name, in none.
pub fn ip(netns: &str, arguments: &str) -> String {
    let mut all = if netns.is_empty() { vec![] } else { vec!["-n", netns] };
    all.extend(arguments.split_whitespace());
    run("ip", &all)
}

/// Makes new interfaces in the namespace `netns` have no IPv6.
pub fn without_ipv6(netns: &str) {
    let set = || std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    within(netns, set).expect("writes");
}

/// Whether `address` answers a ping from the namespace `netns`.
pub fn reach(netns: &str, address: &str) -> bool {
    ping(netns, address, &[])
}

/// Whether `address` answers before the kernel would ask for its MAC a second time, which is after a second.
pub fn first_packet_reaches(netns: &str, address: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, "ping", "-n", "-q", "-c", "1", "-W", "0.5", address]);
    command.stdout(Stdio::null()).status().expect("is installed").success()
}

/// Whether an unfragmented packet of `size` bytes gets through.
pub fn reach_sized(netns: &str, address: &str, size: u32) -> bool {
    ping(netns, address, &["-M", "do", "-s", &(size - 28).to_string()])
}

fn ping(netns: &str, address: &str, options: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, "ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "1"]);
    command.args(options).arg(address).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("is installed").success()
}

/// Whether a datagram to `group` gets from one container to the other as soon as that has joined.
pub fn multicast(from: &str, to: &str, group: &str) -> bool {
    multicast_of(from, to, group, 1)
}

/// Whether one of some datagrams to `group` does, of which the last is sent half a second after the other has joined.
pub fn multicast_soon(from: &str, to: &str, group: &str) -> bool {
    multicast_of(from, to, group, 10)
}

fn multicast_of(from: &str, to: &str, group: &str, datagrams: u32) -> bool {
    let group: std::net::Ipv4Addr = group.parse().expect("a group");
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    let (ready, is_ready) = mpsc::channel();
    let to = to.to_owned();
    let hears = std::thread::spawn(move || {
        within(&to, move || {
            let socket = UdpSocket::bind((any, 9999)).expect("binds");
            socket.join_multicast_v4(&group, &any).expect("joins");
            socket.set_read_timeout(Some(std::time::Duration::from_millis(700))).expect("sets");
            ready.send(()).expect("is waited for");
            socket.recv(&mut [0; 16]).is_ok()
        })
    });
    is_ready.recv().expect("the listener starts");
    within(from, move || {
        let socket = UdpSocket::bind((any, 0)).expect("binds");
        for _ in 0..datagrams {
            socket.send_to(b"x", (group, 9999)).expect("sends");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    hears.join().expect("does not panic")
}

/// `bridge`, inside a network of a node.
pub fn bridge(node: &Node, network: NetworkId, arguments: &str) {
    let path = node.kernel.namespace_path(network);
    let net = format!("--net={}", path.display());
    let mut all = vec![net.as_str(), "bridge"];
    all.extend(arguments.split_whitespace());
    run("nsenter", &all);
}

/// An endpoint's name.
pub fn name(text: &str) -> EndpointName {
    text.parse().expect("a name")
}

/// A network without endpoints: 10.10.0.0/24 and fd00:10::/64.
pub fn network(node: &Node, number: u8) -> DesiredNetwork {
    let id = NetworkId::from_bytes([number; 8]);
    DesiredNetwork {
        id,
        name: format!("net-{number}"),
        vni: Vni::try_from(0x80_0000 + u32::from(number)).expect("a VNI"),
        port: 4789,
        local: node.vtep,
        encrypted: false,
        mtu: 1450,
        mac: Mac::of_bridge(&id),
        probe: node.probe(),
        gateways: ["10.10.0.1/24", "fd00:10::1/64"].map(|g| g.parse().expect("a network")).into(),
        multicast: MulticastMode::Flood,
        broadcast: true,
        mdns: true,
        remotes: BTreeMap::new(),
        neighbours: BTreeMap::new(),
        flood: BTreeSet::new(),
        groups: BTreeMap::new(),
        ports: BTreeMap::new(),
    }
}

/// One network and nothing else.
pub fn network_of(network: &DesiredNetwork) -> Desired {
    Desired { networks: BTreeMap::from([(network.id, network.clone())]) }
}

/// An endpoint at 10.10.0.`last` and fd00:10::`last`.
pub fn port(endpoint: &str, container: &str, last: u8) -> DesiredPort {
    let addresses = [format!("10.10.0.{last}/24"), format!("fd00:10::{last}/64")];
    DesiredPort {
        name: name(endpoint),
        placement: Placement::Netns(PathBuf::from(format!("/run/netns/{container}"))),
        ifname: "eth0".to_owned(),
        mac: Mac::of_endpoint([10, 10, 0, last].into()),
        addresses: addresses.map(|address| address.parse().expect("a network")).into(),
        mtu: 1450,
        guarded: true,
        also: Default::default(),
        gateways: Vec::new(),
    }
}

/// A node: a namespace with an underlay, and a kernel handle that takes it for its own.
pub struct Node {
    /// The namespace's name.
    pub name: String,
    /// The handle.
    pub kernel: Linux,
    /// Its IPv4 address on the underlay.
    pub vtep: IpAddr,
    dir: TempDir,
}

impl Node {
    /// Where it hears probes.
    pub fn probe(&self) -> Mac {
        let last = match self.vtep {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        Mac::of_probe(NodeIndex(last.into()))
    }

    fn open(name: &str, dir: &TempDir) -> Linux {
        let run_dir = dir.path().to_owned();
        let config = KernelConfig { run_dir, without: Default::default(), queries_per_s: 20_000 };
        within(name, move || Linux::open(config)).expect("opens")
    }

    /// A second handle on the same node, as a restarted agent has it.
    pub fn another_kernel(&self) -> Linux {
        Self::open(&self.name, &self.dir)
    }

    /// Makes it so; all of it succeeds, and then nothing is left to do. What was done.
    pub async fn make(&self, desired: &Desired) -> Plan {
        let observed = self.kernel.observe().await.expect("observes");
        let todo = plan(desired, &observed);
        let applied = self.kernel.apply(&todo).await;
        assert!(applied.failed.is_empty(), "{:#?}", applied.failed);
        assert_eq!(applied.done, todo.ops.len());
        let observed = self.kernel.observe().await.expect("observes");
        assert_eq!(plan(desired, &observed).to_string(), "", "{observed:#?}");
        todo
    }

    /// Tries to make it so. What failed.
    pub async fn try_make(&self, desired: &Desired) -> Vec<(Op, KernelError)> {
        let observed = self.kernel.observe().await.expect("observes");
        self.kernel.apply(&plan(desired, &observed)).await.failed
    }

    /// `ip`, inside a network.
    pub fn inside(&self, network: NetworkId, arguments: &str) -> String {
        let net = format!("--net={}", self.kernel.namespace_path(network).display());
        let mut all = vec![net.as_str(), "ip"];
        all.extend(arguments.split_whitespace());
        run("nsenter", &all)
    }

    /// A socket on this node.
    pub fn bind_udp(&self, port: u16) -> UdpSocket {
        within(&self.name, move || UdpSocket::bind(("0.0.0.0", port)).expect("is free"))
    }
}

/// The nodes and containers of one test.
pub struct Lab {
    /// The nodes.
    pub nodes: Vec<Node>,
    prefix: String,
    namespaces: Mutex<Vec<String>>,
}

impl Lab {
    /// `count` nodes; `None`, after saying why, where there is no permission to make them.
    pub fn new(test: &str, count: u8, mtu: u32) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI has to give it");
            println!("SKIP: needs root to make network namespaces");
            return None;
        }
        let mut lab = Self { nodes: Vec::new(), prefix: format!("lk-{test}"), namespaces: Mutex::default() };
        let switch = lab.container("sw");
        ip(&switch, "link add br0 mtu 9000 type bridge");
        ip(&switch, "link set br0 up");
        for i in 1..=count {
            let node = lab.container(&format!("n{i}"));
            ip(&node, &format!("link add up0 mtu {mtu} type veth peer name p{i} mtu {mtu} netns {switch}"));
            ip(&node, &format!("addr add 192.0.2.{i}/24 dev up0"));
            ip(&node, &format!("addr add 2001:db8::{i}/64 dev up0 nodad"));
            ip(&node, "link set up0 up");
            ip(&switch, &format!("link set p{i} up master br0"));
            let dir = tempfile::tempdir().expect("a temporary directory");
            let kernel = Node::open(&node, &dir);
            lab.nodes.push(Node { name: node, kernel, vtep: [192, 0, 2, i].into(), dir });
        }
        Some(lab)
    }

    /// A new namespace; its name.
    pub fn container(&self, name: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        let mut namespaces = self.namespaces.lock().expect("no other test panicked");
        if !namespaces.contains(&name) {
            // One that an interrupted run left.
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
            ip("", &format!("netns add {name}"));
            ip(&name, "link set lo up");
            namespaces.push(name.clone());
        }
        name
    }

    /// Network `number` with one container on each of two nodes, at 10.10.0.11 and 10.10.0.12. Their names, and
    /// what each node should have.
    pub fn pair(&self, number: u8) -> (Vec<String>, Vec<DesiredNetwork>) {
        let containers: Vec<_> = (0..2).map(|i| self.container(&format!("c{number}{i}"))).collect();
        let ports: Vec<_> = (0..2)
            .map(|i| port(&format!("e{i}"), &containers[i], 11 + u8::try_from(i).expect("small")))
            .collect();
        let wants = (0..2).map(|i| {
            let mut want = network(&self.nodes[i], number);
            let (mine, other) = (&ports[i], &ports[1 - i]);
            let neighbours = ports.iter().flat_map(|p| p.addresses.iter().map(|a| (a.ip(), p.mac)));
            want.neighbours = neighbours.collect();
            want.remotes.insert(other.mac, self.nodes[1 - i].vtep);
            want.flood.insert(self.nodes[1 - i].vtep);
            want.ports.insert(mine.name.clone(), mine.clone());
            want
        });
        let wants = wants.collect();
        (containers, wants)
    }

    /// Starts to capture what VXLAN carries on a node's underlay.
    pub fn capture(&self, node: &Node) -> Capture {
        let mut child = Command::new("ip")
            .args([
                "netns", "exec", &node.name, "tcpdump", "-l", "-n", "-e", "-i", "up0", "udp", "port", "4789",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump is installed");
        // It says so when it listens.
        let mut lines = BufReader::new(child.stderr.take().expect("is piped")).lines();
        let listens = lines.any(|line| line.is_ok_and(|line| line.contains("listening")));
        assert!(listens, "tcpdump does not start");
        std::thread::spawn(move || lines.for_each(drop));
        Capture(child)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::env::var_os("LANMESH_KEEP").is_some() {
            let dirs = self.nodes.iter().map(|node| (&node.name, node.dir.path()));
            println!("kept, nsenter --net=FILE takes you into: {:?}", dirs.collect::<Vec<_>>());
            return;
        }
        for node in &self.nodes {
            for entry in std::fs::read_dir(node.dir.path().join("netns")).into_iter().flatten().flatten() {
                let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
            }
            // What the kernel part mounts there goes with the last network, which a test may leave.
            let _ = umount2(&node.dir.path().join("netns"), MntFlags::MNT_DETACH);
        }
        for name in self.namespaces.lock().iter().flat_map(|names| names.iter()) {
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

/// A running tcpdump.
pub struct Capture(Child);

impl Capture {
    /// Ends it; one line for each packet, and the inner packet on a line of its own.
    pub fn stop(mut self) -> Vec<String> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::SIGINT).expect("is running");
        let lines = BufReader::new(self.0.stdout.take().expect("is piped")).lines();
        let lines = lines.map(|line| line.expect("is text")).collect();
        let _ = self.0.wait();
        lines
    }
}
