//! The name server in a namespace, asked by the clients that people have: dig, kdig, getent; and by hostile ones.
//!
//! Needs root, `ip`, `dig` and `kdig`. Without them the tests say SKIP, and under CI they fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lanmesh::dns::{Dns, DnsConfig, Limits, Served, resolv_conf};
use lanmesh::model::{ClusterView, NetworkId, NodeState};
use lanmesh_zone::testing::{Lab, NETWORK};
use nix::sched::{CloneFlags, setns};
use tokio::sync::watch;

const GATEWAY: &str = "10.10.0.1";
const CLIENT: &str = "10.10.0.2";

/// Says why a test cannot run, where it need not.
fn missing() -> Option<String> {
    let tool = |name: &str| Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    let there = |name: &str| tool(name).is_ok_and(|output| output.status.success());
    let lacking = ["ip", "ss", "dig", "kdig", "getent"].into_iter().find(|name| !there(name));
    let why = match (nix::unistd::geteuid().is_root(), lacking) {
        (false, _) => "it needs root".to_owned(),
        (true, Some(name)) => format!("it needs {name} (bind9-dnsutils, knot-dnsutils, iproute2)"),
        (true, None) => return None,
    };
    assert!(std::env::var_os("CI").is_none(), "{why}");
    Some(why)
}

/// Begins a test, or skips it.
macro_rules! room {
    ($name:literal, $endpoints:expr, $config:expr) => {
        match missing() {
            Some(why) => {
                eprintln!("SKIP: {why}");
                return;
            }
            None => Room::new($name, lab($endpoints), $config).await,
        }
    };
}

fn lab(endpoints: u8) -> Lab {
    let mut lab = Lab::new(&["10.10.0.0/24", "fd00:10::/64"]);
    for i in 1..=endpoints {
        let addresses = [format!("10.10.0.{}", 10 + i), format!("fd00:10::{i}")];
        lab.endpoint(1 + i % 2, &format!("cc-{i}"), &[&addresses[0], &addresses[1]], |e| {
            e.service = Some("cc".parse().expect("a name"));
            e.slot = Some(i.into());
            e.services = vec!["_distcc._tcp:3632,jobs=4".parse().expect("a service")];
        });
    }
    lab
}

/// A namespace with the gateway's addresses and a name server on them.
struct Room {
    netns: String,
    lab: Lab,
    view: watch::Sender<Arc<ClusterView>>,
    dns: Dns,
}

fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

impl Room {
    async fn new(name: &str, lab: Lab, config: DnsConfig) -> Self {
        let netns = format!("ld-{name}-{}", std::process::id());
        run(&format!("ip netns add {netns} && ip -n {netns} link set lo up"));
        for address in ["10.10.0.1/24", "10.10.0.2/24", "10.10.0.3/24", "192.0.2.9/32", "fd00:10::1/64"] {
            run(&format!("ip -n {netns} address add {address} dev lo"));
        }
        let (view, receiver) = watch::channel(Arc::new(lab.view()));
        let room = Self { netns, lab, view, dns: Dns::new(config, receiver) };
        let failed = room.dns.serve(room.wanted()).await;
        assert!(failed.is_empty(), "{failed:?}");
        room
    }

    fn wanted(&self) -> BTreeMap<NetworkId, Served> {
        let spec = self.lab.view().networks[&NETWORK].spec.clone();
        BTreeMap::from([(NETWORK, Served::new(&spec, self.path()))])
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.netns)
    }

    /// What `command` prints in the namespace.
    async fn run(&self, command: &str) -> String {
        let command = format!("ip netns exec {} {command}", self.netns);
        tokio::task::spawn_blocking(move || run(&command)).await.expect("runs")
    }

    async fn dig(&self, question: &str) -> String {
        self.run(&format!("dig -b {CLIENT} @{GATEWAY} +timeout=10 +tries=1 {question}")).await
    }

    /// Does `work` on a thread in the namespace.
    async fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(self.path()).expect("the namespace is there");
        let thread = std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("enters");
            work()
        });
        tokio::task::spawn_blocking(move || thread.join().expect("does not panic")).await.expect("runs")
    }

    fn learn(&self, lab: &Lab) {
        self.view.send_replace(Arc::new(lab.view()));
    }

    /// Waits until `question` is answered like this.
    async fn becomes(&self, question: &str, answer: &str) -> Duration {
        let begun = Instant::now();
        loop {
            let now = self.dig(question).await;
            if now == answer {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{question} is still {now:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.netns]).status();
        let _ = std::fs::remove_dir_all(PathBuf::from("/etc/netns").join(&self.netns));
    }
}

fn no_forwarding_needed() -> DnsConfig {
    DnsConfig { resolv_conf: "/nonexistent".into(), ..DnsConfig::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_finds_everything_that_a_network_has() {
    let room = room!("dig", 2, no_forwarding_needed());
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines.join(" ")
    };
    for (question, answer) in [
        ("+short cc-1.buildnet.lanmesh A", "10.10.0.11"),
        ("+short cc-1.buildnet.lanmesh AAAA", "fd00:10::1"),
        ("+short CC-1.BuildNet.lanmesh A", "10.10.0.11"),
        ("+short +tcp cc.buildnet.lanmesh A", "10.10.0.11 10.10.0.12"),
        ("+short tasks.cc.buildnet.lanmesh A", "10.10.0.11 10.10.0.12"),
        ("+short 2.cc.buildnet.lanmesh A", "10.10.0.12"),
        ("+short cc-2. A", "10.10.0.12"),
        ("+short -x 10.10.0.12", "cc-2.buildnet.lanmesh."),
        ("+short -x fd00:10::2", "cc-2.buildnet.lanmesh."),
        ("+short buildnet.lanmesh NS", "buildnet.lanmesh."),
        ("+short n1.nodes.lanmesh A", "192.0.2.1"),
        ("+short cc-1._distcc._tcp.buildnet.lanmesh SRV", "0 0 3632 cc-1.buildnet.lanmesh."),
        ("+short cc-1._distcc._tcp.buildnet.lanmesh TXT", "\"jobs=4\""),
        ("+short _services._dns-sd._udp.buildnet.lanmesh PTR", "_distcc._tcp.buildnet.lanmesh."),
    ] {
        assert_eq!(sorted(room.dig(question).await), answer, "{question}");
    }
    for (question, code) in [("nobody.buildnet.lanmesh", "NXDOMAIN"), ("cc.buildnet.lanmesh MX", "NOERROR")] {
        let text = room.dig(question).await;
        assert!(
            text.contains(&format!("status: {code}")) && text.contains("ANSWER: 0, AUTHORITY: 1"),
            "{text}"
        );
        assert!(text.contains("flags: qr aa rd"), "{text}");
    }
    let v6 = room.run("dig -b fd00:10::1 @fd00:10::1 +short cc-1.buildnet.lanmesh AAAA").await;
    assert_eq!(v6, "fd00:10::1");
    let kdig = room.run(&format!("kdig @{GATEWAY} -b {CLIENT} +tcp +keepopen +short cc-1.buildnet.lanmesh AAAA cc-2.buildnet.lanmesh AAAA")).await;
    assert_eq!(kdig, "fd00:10::1\nfd00:10::2");
    let outside = room.run(&format!("dig -b 192.0.2.9 @{GATEWAY} cc-1.buildnet.lanmesh")).await;
    assert!(outside.contains("status: REFUSED"), "{outside}");
    room.dns.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_find_names_through_the_c_library() {
    let room = room!("getent", 2, no_forwarding_needed());
    let conf = PathBuf::from("/etc/netns").join(&room.netns).join("resolv.conf");
    let gateways = [GATEWAY.parse().expect("an address")];
    let text = resolv_conf(&room.lab.name, &gateways);
    lanmesh::beneath::write(lanmesh::beneath::Tree::Whole, &conf, text.as_bytes()).expect("writes");
    let found = |text: String| text.split_whitespace().next().map(str::to_owned);
    for (name, address) in
        [("cc-1", "10.10.0.11"), ("2.cc", "10.10.0.12"), ("cc-2.buildnet.lanmesh", "10.10.0.12")]
    {
        let text = room.run(&format!("getent ahostsv4 {name}")).await;
        assert_eq!(found(text).as_deref(), Some(address), "{name}");
    }
    let text = room.run("getent ahosts tasks.cc").await;
    for address in ["10.10.0.11", "10.10.0.12", "fd00:10::1", "fd00:10::2"] {
        assert!(text.contains(address), "{text}");
    }
    assert!(room.run("getent hosts 10.10.0.12").await.ends_with("cc-2.buildnet.lanmesh"));
    room.dns.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_fit_is_asked_for_again_over_tcp() {
    let room = room!("tcp", 100, no_forwarding_needed());
    let text = room.dig("+ignore +bufsize=512 cc.buildnet.lanmesh").await;
    assert!(text.contains("flags: qr aa tc rd"), "{text}");
    let text = room.dig("+bufsize=512 cc.buildnet.lanmesh").await;
    assert!(text.contains("ANSWER: 100,") && text.contains("(TCP)"), "{text}");
    room.dns.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_come_and_go_with_the_cluster_and_a_dead_node() {
    let room = room!("follow", 1, no_forwarding_needed());
    let question = "+short cc.buildnet.lanmesh";
    assert_eq!(room.dig(question).await, "10.10.0.11");
    let mut more = room.lab.clone();
    more.endpoint(3, "late", &["10.10.0.50"], |_| {});
    room.learn(&more);
    let took = room.becomes("+short late.buildnet.lanmesh", "10.10.0.50").await;
    eprintln!("a new name was found after {took:?}, most of it dig's own");
    more.set_state(2, NodeState::Dead);
    room.learn(&more);
    room.becomes(question, "").await;
    more.set_state(2, NodeState::Alive);
    room.learn(&more);
    room.becomes(question, "10.10.0.11").await;
    room.dns.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stop_nothing_listens_and_serving_again_works() {
    let room = room!("stop", 1, no_forwarding_needed());
    assert_eq!(room.dns.serving().await, [NETWORK]);
    let before = room.run("ss -Hlunt").await;
    assert!(before.contains("10.10.0.1:53") && before.contains("[fd00:10::1]:53"), "{before}");
    // The same again changes nothing; a connection of before lives on.
    let mut open = room
        .inside(|| {
            let mut stream = TcpStream::connect((GATEWAY, 53)).expect("connects");
            ask_over(&mut stream);
            stream
        })
        .await;
    assert!(room.dns.serve(room.wanted()).await.is_empty());
    tokio::task::spawn_blocking(move || ask_over(&mut open)).await.expect("is answered");
    room.dns.stop().await;
    assert_eq!(room.run("ss -Hlunt").await, "");
    assert_eq!(room.run("ss -Hnt state established").await, "");
    assert!(room.dns.serve(room.wanted()).await.is_empty());
    assert_eq!(room.dig("+short cc-1.buildnet.lanmesh").await, "10.10.0.11");
    room.dns.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_without_its_namespace_is_told_of_and_the_others_are_served() {
    let room = room!("missing", 1, no_forwarding_needed());
    let mut wanted = room.wanted();
    let mut other = wanted[&NETWORK].clone();
    other.namespace = "/run/netns/ld-nowhere".into();
    wanted.insert(NetworkId::from_bytes([9; 8]), other);
    assert_eq!(room.dns.serve(wanted).await.len(), 1);
    assert_eq!(room.dig("+short cc-1.buildnet.lanmesh").await, "10.10.0.11");
    room.dns.stop().await;
}

/// A query for `cc-1.buildnet.lanmesh. A` with this id, framed for TCP.
fn query(id: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in ["cc-1", "buildnet", "lanmesh", ""] {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 1, 0, 1]);
    [(query.len() as u16).to_be_bytes().to_vec(), query].concat()
}

/// Asks and checks that the answer has the question's id and one record.
fn ask_over(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sets");
    stream.write_all(&query(7)).expect("is sent");
    let mut len = [0; 2];
    stream.read_exact(&mut len).expect("is answered");
    let mut answer = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut answer).expect("is answered");
    assert_eq!((answer[..2].to_vec(), answer[7]), (7_u16.to_be_bytes().to_vec(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_many_and_senseless_connections_are_closed_and_hurt_nobody() {
    let limits = Limits {
        tcp_timeout: Duration::from_secs(1),
        connections: 12,
        connections_per_client: 8,
        ..Limits::default()
    };
    let room = room!("hostile", 1, DnsConfig { limits, ..no_forwarding_needed() });
    room.inside(|| {
        let connect = |from: &str| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            socket.bind(&SocketAddr::new(from.parse().expect("an address"), 0).into()).expect("binds");
            let to: SocketAddr = (GATEWAY.parse::<IpAddr>().expect("an address"), 53).into();
            socket.connect(&to.into()).expect("connects");
            let stream: TcpStream = socket.into();
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sets");
            stream
        };
        let closed = |stream: &mut TcpStream| matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_));
        // Several at once on one connection.
        let mut stream = connect(CLIENT);
        stream.write_all(&(0..100).flat_map(query).collect::<Vec<u8>>()).expect("is sent");
        stream.shutdown(std::net::Shutdown::Write).expect("shuts");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("is answered");
        let mut ids: Vec<u16> =
            all.chunks(all.len() / 100).map(|c| u16::from_be_bytes([c[2], c[3]])).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..100).collect::<Vec<u16>>());
        // More than one client may have.
        let mut many: Vec<TcpStream> = (0..20).map(|_| connect(CLIENT)).collect();
        assert!(closed(&mut many[15]));
        ask_over(&mut connect("10.10.0.3"));
        drop(many);
        // A byte now and then.
        std::thread::sleep(Duration::from_millis(100));
        let mut slow = connect(CLIENT);
        let begun = Instant::now();
        // The first two are a length that it will not get to for half an hour.
        while begun.elapsed() < Duration::from_secs(30) && slow.write_all(&[0x40]).is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
        let lasted = begun.elapsed();
        assert!((Duration::from_millis(900)..Duration::from_secs(30)).contains(&lasted), "{lasted:?}");
        // 64 kB of nothing, and of something else.
        let mut large = connect(CLIENT);
        large.write_all(&[&[0xff, 0xff][..], &[0; 65535]].concat()).expect("is sent");
        // An answer with a code: the header is one of a query.
        let mut answer = [0; 14];
        large.read_exact(&mut answer).expect("is answered");
        assert_eq!(answer[5] & 0x0f, 1, "FORMERR");
        let mut web = connect(CLIENT);
        web.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("is sent");
        assert!(closed(&mut web));
        ask_over(&mut connect(CLIENT));
    })
    .await;
    assert_eq!(room.dig("+short cc-1.buildnet.lanmesh").await, "10.10.0.11");
    room.dns.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_one_client_does_not_take_the_answers_of_another() {
    let limits = Limits { rate: 300, burst: 300, ..Limits::default() };
    let room = room!("flood", 1, DnsConfig { limits, ..no_forwarding_needed() });
    let (answered, lost) = room
        .inside(|| {
            let enough = Arc::new(AtomicBool::new(false));
            let stop = enough.clone();
            let flood = std::thread::spawn(move || {
                let socket = UdpSocket::bind("10.10.0.3:0").expect("binds");
                socket.connect((GATEWAY, 53)).expect("connects");
                let begun = Instant::now();
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(60) {
                    for _ in 0..20 {
                        let _ = socket.send(&query(1)[2..]);
                    }
                    sent += 20;
                    std::thread::sleep(Duration::from_micros(500));
                }
                sent
            });
            let socket = UdpSocket::bind((CLIENT, 0)).expect("binds");
            socket.connect((GATEWAY, 53)).expect("connects");
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("sets");
            let (mut answered, mut lost) = (0, 0);
            while answered + lost < 100 && lost <= 5 {
                socket.send(&query(2)[2..]).expect("is sent");
                match socket.recv(&mut [0; 512]) {
                    Ok(_) => answered += 1,
                    Err(_) => lost += 1,
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            enough.store(true, Ordering::Relaxed);
            eprintln!("{} sent by the flood", flood.join().expect("ends"));
            (answered, lost)
        })
        .await;
    // Here the queue of the socket is one for all, as where the kernel cannot limit who asks.
    assert!(lost <= 5, "{answered} answered, {lost} lost");
    let counters = room.dns.counters();
    assert!(counters.limited > 0, "{counters:?}");
    room.dns.stop().await;
}

/// A resolver of the node: answers every question after a while with 198.51.100.7, and says what it was asked.
fn resolver(address: &str, delay: Duration) -> std::sync::mpsc::Receiver<String> {
    use hickory_proto::op::{Message, MessageType, OpCode};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{RData, Record};

    let socket = UdpSocket::bind((address, 53)).expect("binds");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let asked = Message::from_vec(&buffer[..len]).expect("a query");
            let name = asked.queries[0].name().clone();
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            answer.add_query(asked.queries[0].clone());
            let data = RData::A(A([198, 51, 100, 7].into()));
            answer.add_answer(Record::from_rdata(name.clone(), 60, data));
            std::thread::sleep(delay);
            socket.send_to(&answer.to_vec().expect("can be written"), from).expect("is sent");
            if sender.send(name.to_string()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_from_outside_are_asked_for_and_do_not_hold_up_those_behind_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let conf = dir.path().join("resolv.conf");
    std::fs::write(&conf, "nameserver 127.77.0.53\n").expect("writes");
    let room = room!("outside", 1, DnsConfig { resolv_conf: conf, ..DnsConfig::default() });
    let asked = resolver("127.77.0.53", Duration::from_millis(600));
    assert_eq!(room.dig("+short www.example.org").await, "198.51.100.7");
    let kept = room.dig("www.example.org").await;
    assert!(kept.contains("flags: qr rd ra;") && kept.contains("198.51.100.7"), "{kept}");
    // Behind a question that takes a while, on the same connection.
    let ids = room
        .inside(|| {
            let mut stream = TcpStream::connect((GATEWAY, 53)).expect("connects");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sets");
            let mut slow = query(1);
            let at = slow.iter().rposition(|byte| *byte == b'l').expect("lanmesh");
            slow[at] = b'x';
            stream.write_all(&[slow, query(2)].concat()).expect("is sent");
            [0, 0].map(|_| {
                let mut len = [0; 2];
                stream.read_exact(&mut len).expect("is answered");
                let mut answer = vec![0; u16::from_be_bytes(len).into()];
                stream.read_exact(&mut answer).expect("is answered");
                answer[1]
            })
        })
        .await;
    assert_eq!(ids, [2, 1]);
    // Nothing of ours, or of a network that we do not have, is asked for outside.
    for name in ["nobody.buildnet.lanmesh", "a.othernet.lanmesh", "nobody.", "-x 10.10.0.99", "x.local"] {
        room.dig(name).await;
    }
    // Whoever is slow is asked twice.
    let asked: BTreeSet<String> = asked.try_iter().collect();
    assert_eq!(asked.iter().collect::<Vec<_>>(), ["cc-1.buildnet.xanmesh.", "www.example.org."]);
    room.dns.stop().await;
}
