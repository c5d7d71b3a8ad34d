//! The ways back of a container that is published in several networks: what is asked of one of its addresses is answered from there.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Container, SOON, lab, wait_until, within};
use crate::published::{OUTSIDE, OUTSIDE6, at, outside, own, udp};

/// Answers datagrams at one address of a container with the sender's.
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(container: &Container, address: &str, port: u16) -> Self {
        let socket = within(Path::new(container.path_text()), || UdpSocket::bind(at(address, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                    // Where there is no way back nobody hears it.
                    let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn a_socket_at_one_address_answers_from_there_whatever_else_is_published_at_its_port() {
    let lab = lab!(1).cluster();
    let client = outside(&lab);
    let one = lab.node(1);
    // As Docker has it: another interface, which is asked by who is on the node's side of it.
    let container = Container::named("a");
    let far = Path::new(container.path_text()).file_name().unwrap().to_str().unwrap();
    one.netns().ip(&format!("link add docker0 type veth peer name eth9 netns {far}"));
    one.netns().ip("address add 172.30.0.1/24 dev docker0");
    one.netns().ip("link set docker0 up");
    container.ip("address add 172.30.0.2/24 dev eth9");
    container.ip("link set eth9 up");
    container.ip("route add default via 172.30.0.1");
    one.netns().ip("address add 198.51.100.7/32 dev lo");

    let mut echoes = vec![Echo::start(&container, "172.30.0.2", 8000)];
    let networks = [("first", "10.77.0.0/24", "fd77::/64"), ("second", "10.78.0.0/24", "fd78::/64")];
    for (i, (network, subnet, subnet6)) in networks.into_iter().enumerate() {
        lab.network(network, &["--subnet", subnet, "--subnet", subnet6]);
        let port = format!("{}:8000/udp", 8080 + i);
        let answer = one
            .try_attach(network, "a", &container, &["--ifname", &format!("eth{i}"), "--publish", &port])
            .json();
        echoes.extend([false, true].map(|ipv6| Echo::start(&container, &own(&answer, ipv6), 8000)));
    }
    for port in [8080, 8081] {
        for (here, seen) in [("192.0.2.1", OUTSIDE), ("2001:db8::1", OUTSIDE6)] {
            wait_until(&format!("{here} answers at {port}"), SOON, || {
                match udp(&client, &at(here, port), 1) {
                    Ok(answer) if answer == seen => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
        }
    }
    let socket = within(&one.netns().path(), || UdpSocket::bind("198.51.100.7:0").unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.connect("172.30.0.2:8000").unwrap();
    socket.send(b"?").unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"198.51.100.7");
    drop(echoes);
    for (network, ..) in networks {
        one.detach(network, "a");
    }
    for family in ["-4", "-6"] {
        let rules = container.ip(&format!("{family} rule show"));
        assert!(!rules.contains("760"), "{rules}");
    }
}
