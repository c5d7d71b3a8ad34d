//! What one endpoint can do to the name server of the others: floods, connections that say nothing or nonsense.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::harness::{Asker, Container, LabConfig, lab, slowness};

const GATEWAY: &str = "10.95.0.1";
const LENGTH: Duration = Duration::from_secs(3);

/// A query for `a.net.lanmesh`.
const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x03net\x07lanmesh\0\0\x01\0\x01";

/// Asks from many ports as fast as it goes, for a while; how many were sent.
fn flood(container: &Container) -> u64 {
    container.within(|| {
        let sockets: Vec<UdpSocket> = (0..16)
            .map(|_| {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket can be made");
                socket.connect((GATEWAY, 53)).expect("the gateway is an address");
                socket.set_nonblocking(true).expect("a flag can be set");
                socket
            })
            .collect();
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < LENGTH {
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

/// Whether a question over TCP is answered.
fn answered_over_tcp(container: &Container) -> bool {
    container.within(|| {
        let mut stream = TcpStream::connect((GATEWAY, 53)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(5) * slowness())).expect("a timeout can be set");
        stream.write_all(&[&[0, QUERY.len() as u8], QUERY].concat()).expect("is sent");
        stream.shutdown(Shutdown::Write).expect("can be shut");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("is answered");
        answer.len() > 14 && answer[2..4] == QUERY[..2] && answer[9] == 1
    })
}

#[test]
fn one_endpoint_cannot_take_the_name_server_from_the_others() {
    let lab = lab!(LabConfig::alone(1));
    lab.node(1).init();
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let [bad, good] = ["a", "b"].map(|name| {
        let container = Container::named(name);
        lab.node(1).attach("net", name, &container);
        container
    });
    let asker = Asker::new(&good, GATEWAY);
    let (sent, answers) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&bad));
        let mut answers = Vec::new();
        while !flood.is_finished() {
            answers.push(asker.ask("b.net.lanmesh").addresses);
            std::thread::sleep(Duration::from_millis(10));
        }
        (flood.join().expect("a flood ends"), answers)
    });
    let lost = answers.iter().filter(|answer| answer.is_none()).count();
    let counters = &lab.node(1).lanmesh(["status", "--json"]).json()["counters"];
    eprintln!("{sent} sent by the flood; {lost} of {} questions lost; {counters}", answers.len());
    assert!(
        counters["dns_limited"].as_u64() > Some(0),
        "the flood was too small to say anything: {counters}"
    );
    // Whoever gets no answer asks again. Where a flood has a core of its own and the server has to share, the kernel
    // drops more than now and then.
    assert!(lost * 2 <= answers.len(), "{lost} of {} lost beside {sent}", answers.len());
    // One that says nothing, one that says it goes on, 64 kB of nothing, and what is no DNS.
    let nothing = [&[0xff, 0xff][..], &[0; 65_535]].concat();
    for what in [&b""[..], &[0xff, 0xff, 0], &nothing, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let held = connections(&bad, what);
        assert!(held.len() > 32, "more than one client may have");
        assert!(answered_over_tcp(&good), "beside {} connections", held.len());
        assert!(asker.ask("b.net.lanmesh").addresses.is_some());
    }
}
