//! Services with addresses of their own: who is reached, from where, and what becomes of connections when endpoints come, go,
//! drain or die.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Container, LATER, Lab, Node, SOON, lab, ping, wait_until, within};

const PORT: u16 = 8000;
/// What a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Says its name and who asks, over TCP for each line of one connection, and over UDP, until it is dropped. IPv4 and IPv6.
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub fn start(container: &Container, name: &str, port: u16) -> Self {
        Self::start_in(Path::new(container.path_text()), name, port)
    }

    /// The same in any namespace.
    pub fn start_in(netns: &Path, name: &str, port: u16) -> Self {
        let (name, says): (Arc<str>, Arc<str>) = (name.into(), name.into());
        let stop = Arc::new(AtomicBool::new(false));
        let (listener, udp) = within(netns, || {
            let any = SocketAddr::new("::".parse().unwrap(), port);
            (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap())
        });
        listener.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (ends, ended) = (stop.clone(), stop.clone());
        let tcp = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, from)) => {
                        let (ends, name) = (ends.clone(), name.clone());
                        std::thread::spawn(move || answer(stream, &name, from, &ends));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        let udp = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((_, from)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(format!("{says} {}", plain(from.ip())).as_bytes(), from);
                }
            }
        });
        Self { stop, threads: vec![tcp, udp] }
    }
}

fn answer(mut stream: TcpStream, name: &str, from: SocketAddr, ends: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut byte = [0];
    while !ends.load(Ordering::Relaxed) {
        match stream.read(&mut byte) {
            Ok(0) => return,
            Ok(_) if stream.write_all(format!("{name} {}\n", plain(from.ip())).as_bytes()).is_err() => return,
            _ => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// An address of IPv4 that is written as one of IPv6 as what it is.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// A connection that stays.
struct Connection(TcpStream);

impl Connection {
    fn open(from: &Container, to: IpAddr, port: u16) -> Result<Self, String> {
        let stream = from.within(|| TcpStream::connect_timeout(&SocketAddr::new(to, port), PATIENCE));
        let stream = stream.map_err(|error| format!("connect to {to}: {error}"))?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Ok(Self(stream))
    }

    /// Who answers, and whom he says he is asked by.
    fn ask(&mut self) -> Result<(String, String), String> {
        self.0.write_all(b"?").map_err(|error| error.to_string())?;
        let mut text = String::new();
        while !text.ends_with('\n') {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(1) => text.push(char::from(byte[0])),
                Ok(_) => return Err("it is closed".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
        let (name, from) = text.trim().split_once(' ').unwrap();
        Ok((name.to_owned(), from.to_owned()))
    }
}

fn tcp(from: &Container, to: IpAddr, port: u16) -> Result<(String, String), String> {
    Connection::open(from, to, port)?.ask()
}

fn udp_socket(from: &Container, to: IpAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
    let socket = from.within(|| UdpSocket::bind((any, 0)).unwrap());
    from.within(|| socket.connect((to, PORT)).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

fn udp(socket: &UdpSocket) -> Result<String, String> {
    let mut buffer = [0; 64];
    socket.send(b"?").map_err(|error| error.to_string())?;
    let length = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A service `web` on the nodes of a lab, `w1` on n1 and so on, and a client `c` on n1.
struct Place {
    lab: Lab,
    client: Container,
    own: Value,
    workers: Vec<Option<(Container, Server)>>,
    service: Vec<IpAddr>,
}

const NAMES: [&str; 4] = ["w1", "w2", "w3", "w4"];

fn attach(node: &Node, name: &str, more: &[&str]) -> Container {
    let container = Container::named(name);
    node.try_attach("net", name, &container, more).success();
    container
}

impl Place {
    fn new(lab: Lab, create: &[&str], more: &[&str]) -> Self {
        lab.network("net", &[&["--subnet", "10.72.0.0/24", "--subnet", "fd72::/64"], create].concat());
        let client = Container::named("c");
        let own = lab.node(1).attach("net", "c", &client);
        let answer =
            lab.node(1).lanmesh([&["service", "create", "net", "web", "--json"], more].concat()).json();
        let service = answer["addresses"].as_array().unwrap().iter();
        let service = service.map(|address| address.as_str().unwrap().parse().unwrap()).collect();
        Self { lab, client, own, workers: (0..NAMES.len()).map(|_| None).collect(), service }
    }

    /// An endpoint on the node with its number, or on the second.
    fn begin(&mut self, n: usize) {
        let node = self.lab.nodes().get(n - 1).unwrap_or(self.lab.node(2));
        let container = attach(node, NAMES[n - 1], &["--service", "web"]);
        let server = Server::start(&container, NAMES[n - 1], PORT);
        self.workers[n - 1] = Some((container, server));
    }

    fn wait_endpoints(&self, node: usize, states: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            states.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect();
        wait_until("the node knows the service's endpoints", SOON, || {
            let answer = self.lab.node(node).lanmesh(["service", "inspect", "net", "web", "--json"]).ok()?;
            let told = answer["endpoints"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let found = told.map(|one| (text(&one["name"]), text(&one["state"]))).collect();
            if expected == found { Ok(()) } else { Err(answer.to_string()) }
        });
    }

    /// Which of them answer to a number of new connections.
    fn reached(&self, count: usize) -> BTreeMap<String, usize> {
        let mut reached = BTreeMap::new();
        for _ in 0..count {
            let (name, _) = tcp(&self.client, self.service[0], PORT).unwrap();
            *reached.entry(name).or_default() += 1;
        }
        reached
    }
}

fn everybody_is_reached(lab: Lab, create: &[&str]) {
    let mut place = Place::new(lab, create, &["--port", "80:8000"]);
    (1..=3).for_each(|n| place.begin(n));
    place.wait_endpoints(1, &[("w1", "up"), ("w2", "up"), ("w3", "up")]);
    let own: Vec<String> = place.own["addresses"].as_array().unwrap().iter().map(address_of).collect();
    for (service, own) in place.service.iter().zip(&own) {
        for port in [PORT, 80] {
            let mut reached = BTreeMap::new();
            for _ in 0..60 {
                let (name, from) = tcp(&place.client, *service, port).unwrap();
                assert_eq!(from, *own, "the endpoint sees who asks");
                *reached.entry(name).or_insert(0) += 1;
            }
            assert_eq!(reached.len(), 3, "{service} port {port}: {reached:?}");
        }
        assert!(udp(&udp_socket(&place.client, *service)).unwrap().ends_with(own.as_str()));
        ping(&place.client, &service.to_string()).unwrap();
    }
    // From an endpoint of it, to itself also.
    let (container, _) = place.workers[1].as_ref().unwrap();
    let reached: BTreeMap<String, ()> =
        (0..60).map(|_| (tcp(container, place.service[0], PORT).unwrap().0, ())).collect();
    assert_eq!(reached.len(), 3, "{reached:?}");
}

fn address_of(address: &Value) -> String {
    address.as_str().unwrap().split('/').next().unwrap().to_owned()
}

#[test]
fn every_endpoint_is_reached_by_tcp_udp_and_ping_over_both_families_and_sees_who_asks() {
    everybody_is_reached(lab!(3).cluster(), &[]);
}

#[test]
fn so_it_is_in_an_encrypted_network() {
    everybody_is_reached(lab!(3).cluster(), &["--encrypt", "wireguard"]);
}

#[test]
fn connections_stay_where_they_are_until_their_endpoint_goes_and_drained_ones_to_their_end() {
    let mut place = Place::new(lab!(3).cluster(), &[], &[]);
    let service = place.service[0];
    // Refused at once, and not stuck: the same port afterwards.
    let early = udp_socket(&place.client, service);
    let begun = Instant::now();
    let told = tcp(&place.client, service, PORT).unwrap_err();
    assert!(told.contains("refused"), "{told} after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(1), "refused without a wait");
    udp(&early).unwrap_err();
    place.begin(1);
    place.begin(2);
    place.wait_endpoints(1, &[("w1", "up"), ("w2", "up")]);
    wait_until("a flow that began with nobody there goes on", SOON, || udp(&early));
    let mut held: BTreeMap<String, Connection> = BTreeMap::new();
    for _ in 0..40 {
        let mut connection = Connection::open(&place.client, service, PORT).unwrap();
        let (name, _) = connection.ask().unwrap();
        held.insert(name, connection);
    }
    assert_eq!(held.len(), 2);
    place.begin(3);
    place.wait_endpoints(1, &[("w1", "up"), ("w2", "up"), ("w3", "up")]);
    wait_until("the new one is reached", SOON, || {
        if place.reached(20).contains_key("w3") { Ok(()) } else { Err("not yet".to_owned()) }
    });
    for (name, connection) in &mut held {
        assert_eq!(connection.ask().unwrap().0, *name, "it stays where it was");
    }
    place.lab.node(2).lanmesh(["endpoint", "drain", "net", "w2"]).success();
    place.wait_endpoints(1, &[("w1", "up"), ("w2", "draining"), ("w3", "up")]);
    wait_until("no new ones", SOON, || {
        let reached = place.reached(20);
        if reached.contains_key("w2") { Err(format!("{reached:?}")) } else { Ok(()) }
    });
    assert_eq!(held.get_mut("w2").unwrap().ask().unwrap().0, "w2", "old ones live on");
    place.lab.node(2).detach("net", "w2");
    let mut moved = held.remove("w2").unwrap();
    let begun = Instant::now();
    moved.0.set_read_timeout(Some(SOON)).unwrap();
    // One that waits is told.
    let told = moved.0.read(&mut [0]).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(4), "{told} after {:?}", begun.elapsed());
    assert_eq!(held.get_mut("w1").unwrap().ask().unwrap().0, "w1", "others are left alone");
}

#[test]
fn of_a_node_that_dies_what_waits_is_told_and_datagrams_go_elsewhere() {
    let mut place = Place::new(lab!(3).cluster(), &[], &[]);
    let service = place.service[0];
    (2..=3).for_each(|n| place.begin(n));
    place.wait_endpoints(1, &[("w2", "up"), ("w3", "up")]);
    let mut held: BTreeMap<String, (Connection, UdpSocket)> = BTreeMap::new();
    for _ in 0..60 {
        let mut connection = Connection::open(&place.client, service, PORT).unwrap();
        let (name, _) = connection.ask().unwrap();
        let socket = udp_socket(&place.client, service);
        // The first answers may be lost: a node that has just come into the network knows nobody there yet.
        if udp(&socket).is_ok_and(|answer| answer.starts_with(&name)) {
            held.insert(name, (connection, socket));
        }
    }
    let (mut dead, datagrams) = held.remove("w3").unwrap();
    let (mut alive, _) = held.remove("w2").unwrap();
    place.lab.node(3).kill();
    place.lab.cut(place.lab.node(3));
    let begun = Instant::now();
    dead.0.set_read_timeout(Some(SOON)).unwrap();
    let told = dead.0.read(&mut [0]).unwrap_err();
    println!("told after {:?}: {told}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(6), "{told} after {:?}", begun.elapsed());
    let answer = udp(&datagrams).unwrap();
    assert!(answer.starts_with("w2"), "{answer}");
    assert_eq!(alive.ask().unwrap().0, "w2");
    assert_eq!(place.reached(20).len(), 1);
}

#[test]
fn a_client_that_is_kept_stays_and_a_ruleset_that_was_flushed_comes_back() {
    let mut place = Place::new(lab!(2).cluster(), &[], &["--affinity", "source"]);
    (1..=2).for_each(|n| place.begin(n));
    place.wait_endpoints(1, &[("w1", "up"), ("w2", "up")]);
    let first = place.reached(10);
    assert_eq!(first.len(), 1, "{first:?}");
    place.begin(3);
    place.begin(4);
    place.wait_endpoints(1, &[("w1", "up"), ("w2", "up"), ("w3", "up"), ("w4", "up")]);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(place.reached(10), first);
    place.lab.node(1).kill();
    place.lab.node(1).start_and_wait();
    assert_eq!(place.reached(10), first);
    assert!(place.client.command("nft").args(["flush", "ruleset"]).status().unwrap().success());
    wait_until("it comes back", Duration::from_secs(45), || {
        tcp(&place.client, place.service[0], PORT).map(drop)
    });
    place.lab.node(1).detach("net", "c");
    let left = place.client.command("nft").args(["list", "tables"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains("lanmesh"), "{left:?}");
}

#[test]
fn nobody_gets_the_address_of_a_service_and_its_name_leads_there() {
    let mut place = Place::new(lab!(2).cluster(), &[], &["--address", "10.72.0.250"]);
    assert_eq!(place.service[0].to_string(), "10.72.0.250");
    place.begin(2);
    let node = place.lab.node(1);
    let other = Container::named("other");
    let refusal = node.try_attach("net", "other", &other, &["--ip", "10.72.0.250"]).refusal();
    assert!(refusal.contains("service web has 10.72.0.250"), "{refusal}");
    let second = ["service", "create", "net", "db", "--address", "10.72.0.250"];
    let refusal = node.lanmesh(second).refusal();
    assert!(refusal.contains("service web has 10.72.0.250"), "{refusal}");
    let foretold = node.lanmesh(["service", "rm", "net", "web", "--json"]).json();
    assert_eq!(foretold["removed"], true);
    assert!(node.lanmesh(["service", "inspect", "net", "web"]).refusal().contains("service create"));
}

#[test]
fn who_owns_the_table_in_a_container_keeps_its_own_services_alone_and_is_named_with_the_endpoint() {
    let lab = lab!(1).cluster();
    lab.network("net", &["--subnet", "10.79.0.0/24"]);
    let one = lab.node(1);
    let (first, second) = (Container::named("a"), Container::named("b"));
    let _server = Server::start(&second, "b", 80);
    one.lanmesh(["service", "create", "net", "web"]).success();
    one.attach("net", "a", &first);
    let table = wait_until("it has its table", SOON, || {
        let listed = first.command("nft").args(["list", "tables"]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let name = listed.split_whitespace().find(|word| word.starts_with("lanmesh-services-"));
        name.map(str::to_owned).ok_or(listed)
    });
    let mut owner =
        first.command("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut says = owner.stdin.take().unwrap();
    writeln!(says, "delete table inet {table}; add table inet {table} {{ flags owner; }}").unwrap();
    wait_until("it is his", SOON, || {
        let listed = first.command("nft").args(["list", "ruleset"]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        if listed.contains("owner") { Ok(()) } else { Err(listed) }
    });
    one.try_attach("net", "b", &second, &["--service", "web"]).success();
    let told = wait_until("it is said", SOON, || {
        let status = one.lanmesh(["status"]).success();
        let told = status.lines().find(|line| line.starts_with("error:")).map(str::to_owned);
        told.ok_or(status)
    });
    for words in
        ["network net: endpoint a: services", "since a process owns a table of this name", "end that process"]
    {
        assert!(told.contains(words), "{told}");
    }
    assert!(!told.contains("as root"), "{told}");
    let plan = one.lanmesh(["plan"]).success();
    assert!(plan.starts_with("network net: endpoint a: services"), "{plan}");
    // The others have theirs, and once the table is free it is ours again.
    let inspected = one.lanmesh(["service", "inspect", "net", "web"]).json();
    let address: IpAddr = inspected["addresses"][0].as_str().unwrap().parse().unwrap();
    let asked = || tcp(&second, address, 80);
    wait_until("the other is served", SOON, asked);
    drop(says);
    owner.wait().unwrap();
    wait_until("so is he", LATER, || tcp(&first, address, 80));
    wait_until("nothing is wrong any more", SOON, || {
        let status = one.lanmesh(["status"]).success();
        if status.contains("error:") { Err(status) } else { Ok(()) }
    });
}
