//! mDNS that nobody should send, over IPv4 and IPv6: broken, too long, too much, from elsewhere, in the name of others. It is
//! counted and dropped, costs the agent a bounded amount of memory, and the others do not notice.

use serde_json::Value;

use crate::avahi::{browse, discover, guests};
use crate::harness::{Guest, LATER, Lab, Node, SOON, lab, need, wait_until};
use crate::multicast::BOTH;
use crate::proxy::renamings;

/// Sends what nobody should: argv is an address of this host to send from, one of another host, one that is in no subnet
/// of the network, a number from which what is announced without end is counted, and to where. The others are this host's, too.
const HOSTILE: &str = r#"
import socket, struct, sys, time
me, other, outside = sys.argv[1:4]
start, endless = int(sys.argv[4]), int(sys.argv[5])
six = ':' in me
index = socket.if_nametoindex('eth0')
to = ('ff02::fb', 5353, 0, index) if six else ('224.0.0.251', 5353)
def opened(address, port=5353):
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if six:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        s.bind((address, port, 0, index))
    else:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        s.bind((address, port))
    return s
s = opened(me)
def header(flags, questions=0, answers=0): return struct.pack('>6H', 0, flags, questions, answers, 0, 0)
def name(*labels): return b''.join(bytes([len(l)]) + l for l in labels) + b'\x00'
def address(owner, text, ttl=120):
    data = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)
    return owner + struct.pack('>HHIH', 28 if six else 1, 0x8001, ttl, len(data)) + data
host, kind = name(b'h1', b'local'), name(b'_x', b'_tcp', b'local')
def ptr(i, owner=kind):
    target = b'\x0ax%09d\xc0\x0c' % i
    # Not for long: Avahi keeps 4096 records, and who is on this host's bridge hears all of these.
    return owner + struct.pack('>HHIH', 12, 1, 15, len(target)) + target
# Truncated, looping, with more records than it has, too long, a response on another port.
s.sendto(header(0x8400, 0, 1)[:7], to)
s.sendto(header(0x8400, 0, 1) + host[:4], to)
s.sendto(header(0, 1) + b'\xc0\x0c\x00\x01\x00\x01', to)
s.sendto(header(0, 2) + b'\xc0\x12\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01', to)
s.sendto(header(0x8400, 0, 10000), to)
s.sendto(header(0x8400, 0, 65535) + address(host, me) * 300, to)
s.sendto(b'\xff' * 20000, to)
opened(me, 0).sendto(header(0x8400, 0, 1) + address(host, me), to)
# As many records as fit: the shortest there are, with pointers to one name, and in the longest datagram.
s.sendto(header(0x8400, 0, 816) + (b'\x00' + struct.pack('>HHIH', 1, 1, 120, 0)) * 816, to)
fit = (9000 - 12 - len(ptr(0))) // len(ptr(0, b'\xc0\x0c'))
s.sendto(header(0x8400, 0, fit + 1) + ptr(start) + b''.join(ptr(start + i, b'\xc0\x0c') for i in range(fit)), to)
s.sendto(header(0x8400, 0, 4000) + (b'\x00' + struct.pack('>HHIH', 1, 1, 120, 0)) * 4000 + b'\x00' * 21000, to)
# Another host's name with our address, with its own, and a goodbye for it.
s.sendto(header(0x8400, 0, 1) + address(host, me), to)
s.sendto(header(0x8400, 0, 1) + address(host, other), to)
s.sendto(header(0x8400, 0, 1) + address(host, other, 0), to)
# The same from that host's address, and from one that is nobody's.
for source in (other, outside):
    liar = opened(source)
    for _ in range(5): liar.sendto(header(0x8400, 0, 1) + address(host, other, 0), to)
# So many records, in as many packets as it takes.
for first in range(start, start + endless, 20):
    s.sendto(header(0x8400, 0, 20) + ptr(first) + b''.join(ptr(i, b'\xc0\x0c') for i in range(first + 1, first + 20)), to)
    time.sleep(0.004)
"#;

fn counters(node: &Node) -> Value {
    node.lanmesh(["status", "--json"]).json()["mdns"]["net"].clone()
}

/// What an agent has in memory, in KiB.
fn memory(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn endpoint(lab: &Lab, node: usize, name: &str) -> Value {
    let list = lab.node(node).lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let found = list.as_array().and_then(|list| list.iter().find(|found| found["name"] == name).cloned());
    found.expect("it is attached")
}

/// The addresses of an endpoint, IPv4 and IPv6.
fn addresses(lab: &Lab, node: usize, name: &str) -> [String; 2] {
    let found = endpoint(lab, node, name);
    [0, 1].map(|at| {
        let text = found["addresses"][at].as_str().expect("is text");
        text.split('/').next().expect("an address").to_owned()
    })
}

fn wait_printer(guest: &Guest) {
    wait_until("the printer is seen", LATER, || {
        let found = browse(guest, "_ipp._tcp")?;
        let both = ["IPv4 printer h1.local", "IPv6 printer h1.local"];
        let seen = both.iter().all(|begin| found.iter().any(|line| line.starts_with(begin)));
        if seen { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Waits until a node has counted all of these.
fn wait_counted(node: &Node, wrong: &[&str]) {
    wait_until("all that is wrong is counted", SOON, || {
        let counters = counters(node);
        let missing: Vec<_> = wrong.iter().filter(|why| counters[**why].as_u64().unwrap_or(0) == 0).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} of {counters}")) }
    });
}

#[test]
fn hostile_packets_are_counted_and_hurt_nobody() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "python3");
    let lab = lab!(4);
    // On n3 nothing but the engine looks at who sends.
    lab.node(3).kill();
    lab.node(3).start_under(&["env", "LANMESH_WITHOUT=port-guard"]);
    lab.node(3).wait_ready();
    let lab = lab.cluster();
    let guests = guests(&lab, "proxy", &BOTH, 4);
    let _printer = guests[0].start_sh("exec avahi-publish --service printer _ipp._tcp 631");
    wait_printer(&guests[3]);
    let others = addresses(&lab, 1, "c1");
    let outside = ["10.99.0.7".to_owned(), "2001:db8:66::7".to_owned()];
    let attackers = [(2, "attacker2"), (3, "attacker3")].map(|(node, name)| {
        let attacker = Guest::plain(name);
        lab.node(node).attach("net", name, attacker.container());
        for address in others.iter().chain(&outside) {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            attacker
                .sh(&format!("ip address add {address} dev eth0 {nodad}"))
                .expect("it can take an address");
        }
        attacker.sh(&format!("cat >/run/tmp/hostile.py <<'END'\n{HOSTILE}\nEND")).expect("it is written");
        (node, name, attacker)
    });
    let flood = |(node, name, attacker): &(usize, &str, Guest), start: u32, endless: u32| {
        let own = addresses(&lab, *node, name);
        for ((me, other), outside) in own.iter().zip(&others).zip(&outside) {
            let line = format!("python3 /run/tmp/hostile.py {me} {other} {outside} {start} {endless}");
            attacker.sh(&line).expect("all of it can be sent");
        }
    };
    let [guarded, unguarded] = &attackers;
    let n2 = lab.node(2);
    let (logged, before) = (n2.log().len(), memory(n2));
    flood(guarded, 0, 10_000);
    let once = memory(n2);
    flood(guarded, 1_000_000, 10_000);
    let twice = memory(n2);
    eprintln!("{before} KiB before, {once} after, and {twice} after as much again");
    assert!(once.saturating_sub(before) < 32 << 10, "{before} KiB before, {once} KiB after");
    assert!(twice.saturating_sub(once) < 8 << 10, "{once} KiB after once, {twice} KiB after twice");
    assert!(n2.log().len() - logged < 200_000, "the log is not filled");
    // Whoever says that it is another is told so, and counted as a conflict.
    let wrong = ["malformed", "oversized", "too_many_records", "wrong_port", "foreign_address", "too_much"];
    let wrong: Vec<String> = wrong.iter().map(|why| format!("dropped_{why}")).collect();
    wait_counted(n2, &wrong.iter().map(String::as_str).chain(["conflicts"]).collect::<Vec<_>>());
    flood(unguarded, 0, 0);
    // Five from each wrong address, in each of two floods, in each family.
    let spoofed = endpoint(&lab, 2, "attacker2")["spoofed"].as_u64();
    assert!(spoofed >= Some(40), "{spoofed:?} packets from addresses that are not its own");
    wait_counted(lab.node(3), &["dropped_unknown_sender", "dropped_crossed"]);
    for node in lab.nodes() {
        assert!(node.runs());
        let services = discover(node, "_x._tcp").expect("it answers");
        assert!(services.len() < 2000, "{} services of one endpoint", services.len());
    }
    // Who is on a bridge with a liar hears the lies too. They do not get further.
    wait_printer(&guests[1]);
    wait_printer(&guests[3]);
    for (option, address) in ["-4", "-6"].iter().zip(&others) {
        wait_until("h1 is where it was", SOON, || {
            let line = guests[3].sh(&format!("timeout 6 avahi-resolve {option} --name h1.local"))?;
            if line.split_whitespace().last() == Some(address) { Ok(()) } else { Err(line) }
        });
    }
    assert_eq!(renamings(&guests), 0);
}
