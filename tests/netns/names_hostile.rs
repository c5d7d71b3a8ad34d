//! What one endpoint can do to the name server of the others: floods, connections that say nothing or nonsense.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Asker, Container, Lab, LabConfig, Node, lab, slowness, wait_until};

const GATEWAY: &str = "10.95.0.1";
const GATEWAYS: [&str; 2] = [GATEWAY, "fd00:95::1"];

/// A query for `a.net.lanmesh`.
const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x03net\x07lanmesh\0\0\x01\0\x01";

/// How many questions are asked beside a flood.
const QUESTIONS: usize = 200;
/// However slow a machine is: no flood goes on for longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Asks over both protocols and from many ports as fast as it goes, until `stop`; how many were sent.
fn flood(container: &Container, stop: &AtomicBool) -> u64 {
    container.within(|| {
        let socket = |number: usize| {
            let socket = UdpSocket::bind("[::]:0").expect("a socket can be made");
            let gateway = match GATEWAYS[number % 2] {
                v4 if !v4.contains(':') => format!("[::ffff:{v4}]:53"),
                v6 => format!("[{v6}]:53"),
            };
            socket.connect(&gateway).expect("the gateway is an address");
            socket.set_nonblocking(true).expect("a flag can be set");
            socket
        };
        let sockets: Vec<UdpSocket> = (0..16).map(socket).collect();
        let (begun, mut sent) = (Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) && begun.elapsed() < LONGEST {
            sent += sockets.iter().filter(|socket| socket.send(QUERY).is_ok()).count() as u64;
        }
        sent
    })
}

/// Connections to the name server that send `what` and then nothing, as many as it takes.
fn connections(container: &Container, what: &[u8]) -> Vec<TcpStream> {
    container.within(|| {
        let connect = |_| {
            let mut stream = TcpStream::connect((GATEWAY, 53)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout can be set");
            // It may be closed already.
            let _ = stream.write_all(what);
            Some(stream)
        };
        (0..100).filter_map(connect).collect()
    })
}

/// Asks over TCP; whether the answer is one.
fn answered_over_tcp(container: &Container) -> bool {
    container.within(|| {
        let mut stream = TcpStream::connect((GATEWAY, 53)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(15) * slowness())).expect("a timeout can be set");
        stream.write_all(&[&[0, QUERY.len() as u8], QUERY].concat()).expect("is sent");
        stream.shutdown(Shutdown::Write).expect("can be shut");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("is answered");
        answer.len() > 14 && answer[2..4] == QUERY[..2] && answer[9] == 1
    })
}

/// Waits until a question is answered.
fn answered(asker: &Asker) {
    wait_until("a question is answered", Duration::from_secs(20), || {
        asker.ask("b.net.lanmesh").addresses.ok_or_else(|| "silence".to_owned())
    });
}

/// One node with a network, and two endpoints of it.
fn two(lab: &Lab) -> [Container; 2] {
    lab.node(1).init();
    lab.network("net", &["--subnet", "10.95.0.0/24", "--subnet", "fd00:95::/64"]);
    ["a", "b"].map(|name| {
        let container = Container::named(name);
        lab.node(1).attach("net", name, &container);
        container
    })
}

/// What `good` is told while `bad` asks as fast as it can: how many of its questions had no answer.
fn lost_beside_a_flood(bad: &Container, good: &Container) -> usize {
    let asker = Asker::new(good, GATEWAY);
    // From now on nobody is alone.
    answered(&asker);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(bad, &stop));
        let mut lost = 0;
        for asked in 0..QUESTIONS {
            lost += usize::from(asker.ask("b.net.lanmesh").addresses.is_none());
            if flood.is_finished() || lost * 10 > QUESTIONS {
                lost += QUESTIONS - asked;
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join().expect("a flood ends");
        eprintln!("{sent} sent by the flood; {lost} of {QUESTIONS} questions lost");
        lost
    })
}

fn counter(node: &Node, name: &str) -> u64 {
    let counters = &node.lanmesh(["status", "--json"]).json()["counters"];
    counters[name].as_u64().unwrap_or_else(|| panic!("no {name} in {counters}"))
}

/// How many queries of each endpoint were dropped.
fn dropped(node: &Node) -> [u64; 2] {
    let endpoints = node.lanmesh(["endpoint", "ls", "--json"]).json();
    ["a", "b"].map(|name| {
        let found = endpoints.as_array().and_then(|all| all.iter().find(|endpoint| endpoint["name"] == name));
        found.expect("it is attached")["queries_dropped"].as_u64().unwrap_or(0)
    })
}

#[test]
fn a_flood_of_one_endpoint_is_dropped_by_the_kernel_and_the_others_get_their_answers() {
    let lab = lab!(LabConfig::alone(1));
    let node = lab.node(1);
    node.kill();
    // More than that any machine sends.
    node.configure("dns_rate = 1000\n");
    node.start_and_wait();
    let [bad, good] = two(&lab);
    let lost = lost_beside_a_flood(&bad, &good);
    // Whoever gets no answer asks again, so one is not much; a flood that gets through leaves every second one.
    assert!(lost * 20 <= QUESTIONS, "{lost} of {QUESTIONS} lost");
    let [of_bad, of_good] = dropped(node);
    assert!(of_bad > 0, "the flood was too small to say anything");
    assert_eq!(of_good, 0);
    assert_eq!(counter(node, "dns_limited_in_kernel"), of_bad);
    // An agent that starts again finds the rules right.
    node.kill();
    node.start_and_wait();
    assert_eq!(dropped(node), [of_bad, 0]);
    // And one that is told another rate makes others, which have counted nothing.
    node.kill();
    node.configure("dns_rate = 2000\n");
    node.start_and_wait();
    wait_until("the rules are others", Duration::from_secs(20), || match dropped(node) {
        [0, 0] => Ok(()),
        counted => Err(format!("{counted:?}")),
    });
}

#[test]
fn a_kernel_without_rules_on_bridges_leaves_floods_to_the_name_server_and_the_doctor_says_so() {
    let lab = lab!(LabConfig::alone(1));
    let node = lab.node(1);
    node.kill();
    node.configure("dns_rate = 200\n");
    node.start_under(&["env", "LANMESH_WITHOUT=query-limit"]);
    node.wait_ready();
    let [bad, good] = two(&lab);
    let doctor = node.lanmesh(["doctor", "--json"]).json();
    let checks = doctor["checks"].as_array().expect("a list");
    let found =
        checks.iter().find(|check| check["name"].as_str().is_some_and(|name| name.contains("DNS queries")));
    assert_eq!(found.expect("it is looked for")["state"], "fallback");
    lost_beside_a_flood(&bad, &good);
    assert!(counter(node, "dns_limited") > 0);
    assert_eq!((counter(node, "dns_limited_in_kernel"), dropped(node)), (0, [0, 0]));
}

#[test]
fn connections_that_say_nothing_or_nonsense_do_not_keep_others_from_being_answered() {
    let lab = lab!(LabConfig::alone(1));
    let [bad, good] = two(&lab);
    let asker = Asker::new(&good, GATEWAY);
    // One that says nothing, one that says it goes on, 64 kB of nothing, and what is no DNS.
    let nothing = [&[0xff, 0xff][..], &[0; 65_535]].concat();
    for what in [&b""[..], &[0xff, 0xff, 0], &nothing, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let held = connections(&bad, what);
        assert!(held.len() > 32, "more than one client may have: {}", held.len());
        assert!(answered_over_tcp(&good), "beside {} connections", held.len());
        answered(&asker);
    }
    assert!(counter(lab.node(1), "dns_closed") > 0);
}
