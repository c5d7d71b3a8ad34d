//! What the underlay sees of an encrypted network: nothing. What it can put into one is in `strangers`.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::encrypted::{BOTH, all_reach_each_other, attach, devices, in_mesh};
use crate::harness::{Capture, Container, Lab, Node, SOON, lab, need, slowness, wait_until};
use crate::unicast::address;

const MARKER: &[u8] = b"nobody-may-read-this-on-the-way";
const PORT: u16 = 5680;

/// How often the marker is in a file.
fn markers(file: &Path) -> usize {
    let bytes = std::fs::read(file).expect("the capture was written");
    bytes.windows(MARKER.len()).filter(|window| *window == MARKER).count()
}

/// Sends the marker to everybody in the network, again and again, until `stop`. What cannot be sent is not. On a slow
/// machine it rests for longer than that alone asks for: all of it is encrypted and captured there too.
fn shout(from: &Container, to: &[String], stop: &AtomicBool) {
    from.within(|| {
        let four = UdpSocket::bind(("0.0.0.0", 0)).expect("a port is free");
        four.set_broadcast(true).expect("broadcast can be allowed");
        let six = UdpSocket::bind(("::", 0)).expect("a port is free");
        while !stop.load(Ordering::Relaxed) {
            for to in to {
                let to: IpAddr = to.parse().expect("an address");
                // While nothing leads there it fails, as it should.
                let _ = if to.is_ipv4() { &four } else { &six }.send_to(MARKER, (to, PORT));
            }
            std::thread::sleep(Duration::from_millis(5) * slowness().pow(2));
        }
    });
}

fn everybody(endpoints: &[(Container, Value)]) -> Vec<String> {
    let mut all: Vec<String> = ["10.70.0.255", "239.1.7.8", "224.0.0.251"].map(str::to_owned).into();
    for (_, answer) in endpoints {
        all.extend([address(answer, 0), address(answer, 1)]);
    }
    all
}

/// Deletes the WireGuard devices of a node.
fn delete_devices(node: &Node) {
    for (device, _) in devices(node) {
        let deleted = in_mesh(node, &["ip", "link", "delete", &device]);
        // That of a process that was just killed may go by itself meanwhile.
        let gone = String::from_utf8_lossy(&deleted.stderr).contains("Cannot find device");
        assert!(deleted.status.success() || gone, "{device}: {deleted:?}");
    }
}

#[test]
fn nothing_is_ever_readable_whatever_of_the_mesh_is_missing() {
    need!("tcpdump");
    let lab = lab!(4);
    lab.join_all(&[1, 2, 3]);
    let endpoints = encrypted_on(&lab, &[1, 2, 3]);
    let (everything, strange) = (lab.dir().join("everything.pcap"), lab.dir().join("strange.pcap"));
    let all = Capture::written(lab.underlay(), "any", "", &everything);
    // The mesh, what the nodes tell each other, and what every underlay has (MLD begins with a hop-by-hop header).
    let known = "not (udp portrange 51840-51843 or port 7979 or arp or icmp or icmp6 or ip6[6] = 0)";
    let others = Capture::written(lab.underlay(), "any", known, &strange);
    let stop = AtomicBool::new(false);
    let everybody = everybody(&endpoints);
    std::thread::scope(|scope| {
        for (container, _) in &endpoints {
            let (everybody, stop) = (&everybody, &stop);
            scope.spawn(move || shout(container, everybody, stop));
        }
        let finish = Finish(&stop);
        let (one, two) = (lab.node(1), lab.node(2));
        // A device is taken away, with the agent there.
        delete_devices(one);
        all_reach_each_other(&endpoints);
        // Its process is killed, where it has one.
        one.kill_wireguard();
        all_reach_each_other(&endpoints);
        // The agent is killed, and then the device goes: nobody makes it anew.
        one.kill();
        one.kill_wireguard();
        delete_devices(one);
        std::thread::sleep(Duration::from_secs(1));
        // The other side goes as well, and both come back.
        two.kill();
        two.kill_wireguard();
        delete_devices(two);
        one.start_and_wait();
        std::thread::sleep(Duration::from_secs(1));
        two.start_and_wait();
        all_reach_each_other(&endpoints);
        // A node comes; its peers have no key of it yet.
        let token = one.lanmesh(["token", "show", "--json"]).json();
        lab.node(4).join(token["token"].as_str().expect("a token"), one);
        let four = Container::named("c4");
        let answer = attach(lab.node(4), "c4", &four);
        wait_until("c4 is reached", SOON, || crate::harness::ping(&endpoints[0].0, &address(&answer, 0)));
        // One is shut out, which makes all keys anew.
        one.lanmesh(["node", "rm", "n3"]).success();
        std::thread::sleep(Duration::from_secs(3));
        drop(finish);
    });
    let (packets, strangers) = (all.count(), others.count());
    assert!(packets > 1000, "the capture sees what there is: {packets} packets");
    assert_eq!(markers(&everything), 0, "times the marker was readable");
    assert_eq!(strangers, 0, "packets that are neither the mesh's nor the nodes' own: {}", strange.display());
}

/// Ends the shouting, also when the test fails.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn encrypted_on(lab: &Lab, nodes: &[usize]) -> Vec<(Container, Value)> {
    lab.node(1).create_network("net", &[&BOTH[..], &["--encrypt", "wireguard"]].concat());
    let endpoints: Vec<_> = nodes
        .iter()
        .map(|n| {
            let container = Container::named(&format!("c{n}"));
            wait_until("the network is known", SOON, || {
                lab.node(*n).lanmesh(["network", "inspect", "net", "--json"]).ok()
            });
            let answer = attach(lab.node(*n), &format!("c{n}"), &container);
            (container, answer)
        })
        .collect();
    all_reach_each_other(&endpoints);
    endpoints
}
