//! Zeroconf in proxy mode where it is hard: names that two hosts want, nodes that die, packets that lie, and software
//! that is not Avahi.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::avahi::{browse, discover, guests, wait_seen};
use crate::harness::{Guest, LabConfig, Node, SOON, lab, need, wait_until};

const SUBNET: [&str; 2] = ["--subnet", "10.82.0.0/24"];

/// How often the Avahi of these guests took another host name.
fn renamings(guests: &[Guest]) -> usize {
    guests.iter().map(|guest| guest.avahi_log().matches("Host name conflict, retrying with").count()).sum()
}

fn resolved(guest: &Guest, name: &str) -> Result<String, String> {
    let line = guest.sh(&format!("timeout 6 avahi-resolve -4 --name {name}"))?;
    line.split_whitespace().last().map(str::to_owned).ok_or(format!("{name} is not known"))
}

#[test]
fn of_two_hosts_with_one_name_one_takes_another_once_and_then_it_is_quiet() {
    need!("avahi-daemon", "avahi-resolve", "dbus-daemon");
    let lab = lab!(3).cluster();
    lab.network("net", &[&SUBNET[..], &["--zeroconf", "proxy"]].concat());
    let mut addresses = Vec::new();
    let twins: Vec<_> = (1..=2)
        .map(|i| {
            let twin = Guest::with_avahi("twin");
            let answer = lab.node(i).attach("net", &format!("c{i}"), twin.container());
            let address = answer["addresses"][0].as_str().and_then(|text| text.split('/').next());
            addresses.push(address.expect("an address").to_owned());
            twin
        })
        .collect();
    let third = Guest::with_avahi("third");
    lab.node(3).attach("net", "c3", third.container());
    addresses.sort();
    wait_until("both are found, under two names", SOON * 2, || {
        let mut found = vec![resolved(&third, "twin.local")?, resolved(&third, "twin-2.local")?];
        found.sort();
        if found == addresses { Ok(()) } else { Err(format!("{found:?}")) }
    });
    assert_eq!(renamings(&twins), 1);
    // That nothing happens any more can only be waited for.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(renamings(&twins), 1);
    assert_eq!(renamings(std::slice::from_ref(&third)), 0);
}

#[test]
fn a_node_that_dies_takes_its_services_with_it_and_one_that_comes_back_brings_them() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon");
    let lab = lab!(LabConfig::alone(3)).cluster();
    let guests = guests(&lab, "proxy", &SUBNET, 3);
    let plain = Guest::plain("plain");
    let declare = ["--advertise-service", "Declared=_http._tcp:80,path=/"];
    lab.node(2).try_attach("net", "plain", plain.container(), &declare).success();
    let publish = "exec avahi-publish --service printer _ipp._tcp 631 --subtype _color._sub._ipp._tcp";
    let _printer = guests[1].start_sh(publish);
    let seen = || -> Result<(), String> {
        // By its subtype: nobody can be asked for his, so a restarted agent has to remember it.
        let printer = browse(&guests[0], "_color._sub._ipp._tcp")?;
        let declared = browse(&guests[0], "_http._tcp")?;
        let listed = discover(lab.node(3), "_ipp._tcp")?.len() + discover(lab.node(3), "_http._tcp")?.len();
        let both = printer.iter().any(|line| line.starts_with("IPv4 printer h2.local"))
            && declared.iter().any(|line| line.starts_with("IPv4 Declared"));
        if both && listed == 2 { Ok(()) } else { Err(format!("{printer:?} {declared:?} {listed} listed")) }
    };
    wait_until("the services of n2 are seen", SOON, seen);
    let watching = guests[0].start_sh("exec avahi-browse --parsable _ipp._tcp");
    lab.cut(lab.node(2));
    lab.node(2).kill();
    let begin = Instant::now();
    wait_until("they are listed no more", SOON, || {
        match discover(lab.node(3), "_ipp._tcp")?.len() + discover(lab.node(3), "_http._tcp")?.len() {
            0 => Ok(()),
            other => Err(format!("{other} are listed")),
        }
    });
    // Half a second for the command that asks.
    assert!(begin.elapsed() < Duration::from_millis(2500), "listed no more after {:?}", begin.elapsed());
    wait_seen(&guests[0], "_ipp._tcp", &[]);
    wait_seen(&guests[0], "_http._tcp", &[]);
    // A goodbye counts after a second (RFC 6762 section 10.1), and the command that asks takes one, too.
    assert!(begin.elapsed() < Duration::from_millis(6500), "seen no more after {:?}", begin.elapsed());
    let text = watching.finish();
    assert!(text.contains("-;eth0;IPv4;printer"), "whoever browses is told: {text}");
    lab.heal(lab.node(2));
    lab.node(2).start_and_wait();
    wait_until("they are seen again", SOON, seen);
}

/// Sends what nobody should: argv is an address of this host to send from, and one of another host.
const HOSTILE: &str = r#"
import socket, struct, sys, time
me, other = sys.argv[1:3]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(me))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
s.bind((me, 5353))
to = ('224.0.0.251', 5353)
def header(flags, questions=0, answers=0): return struct.pack('>6H', 0, flags, questions, answers, 0, 0)
def name(*labels): return b''.join(bytes([len(l)]) + l for l in labels) + b'\x00'
def a(owner, address): return owner + struct.pack('>HHIH', 1, 0x8001, 120, 4) + socket.inet_aton(address)
host = name(b'h1', b'local')
def ptr(i):
    target = name(b'x%d' % i, b'_x', b'_tcp', b'local')
    return name(b'_x', b'_tcp', b'local') + struct.pack('>HHIH', 12, 1, 4500, len(target)) + target
# Truncated, looping, with more records than it has, too long, a response that was never asked for on another port.
s.sendto(header(0x8400, 0, 1)[:7], to)
s.sendto(header(0x8400, 0, 1) + host[:4], to)
s.sendto(header(0, 1) + b'\xc0\x0c\x00\x01\x00\x01', to)
s.sendto(header(0x8400, 0, 10000), to)
s.sendto(header(0x8400, 0, 65535) + a(host, me) * 300, to)
s.sendto(header(0x8400, 0, 400) + a(host, me) * 400, to)
s.sendto(b'\xff' * 20000, to)
other_port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other_port.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(me))
other_port.sendto(header(0x8400, 0, 1) + a(host, me), to)
# Another host's name with our address, with its own, and a goodbye for it.
s.sendto(header(0x8400, 0, 1) + a(host, me), to)
s.sendto(header(0x8400, 0, 1) + a(host, other), to)
s.sendto(header(0x8400, 0, 1) + host + struct.pack('>HHIH', 1, 0x8001, 0, 4) + socket.inet_aton(other), to)
# 10,000 records, in as many packets as it takes.
for first in range(0, 10000, 20):
    s.sendto(header(0x8400, 0, 20) + b''.join(ptr(i) for i in range(first, first + 20)), to)
    time.sleep(0.004)
"#;

fn counters(node: &Node) -> Value {
    node.lanmesh(["status", "--json"]).json()["mdns"]["net"].clone()
}

#[test]
fn hostile_packets_are_counted_and_hurt_nobody() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "python3");
    let lab = lab!(3).cluster();
    let guests = guests(&lab, "proxy", &SUBNET, 3);
    let _printer = guests[0].start_sh("exec avahi-publish --service printer _ipp._tcp 631");
    wait_seen_v4(&guests[2]);
    let address = |name: &str| {
        let list = lab.node(1).lanmesh(["endpoint", "ls", "net", "--json"]).json();
        let found =
            list.as_array().and_then(|l| l.iter().find(|e| e["name"] == name).cloned()).expect("attached");
        found["addresses"][0].as_str().and_then(|t| t.split('/').next()).expect("an address").to_owned()
    };
    let attacker = Guest::plain("attacker");
    lab.node(2).attach("net", "attacker", attacker.container());
    let before = lab.node(2).log().len();
    let (me, other) = (address("attacker"), address("c1"));
    attacker
        .sh(&format!(
            "cat >/run/tmp/hostile.py <<'END'\n{HOSTILE}\nEND\npython3 /run/tmp/hostile.py {me} {other}"
        ))
        .expect("all of it can be sent");
    // Whoever says that it is another is told so, and counted as a conflict.
    let wrong = [
        "dropped_malformed",
        "dropped_oversized",
        "dropped_too_many_records",
        "dropped_wrong_port",
        "dropped_foreign_address",
        "dropped_too_much",
        "conflicts",
    ];
    wait_until("all that is wrong is counted", SOON, || {
        let counters = counters(lab.node(2));
        let missing: Vec<_> = wrong.iter().filter(|why| counters[**why].as_u64().unwrap_or(0) == 0).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} of {counters}")) }
    });
    assert!(lab.node(2).log().len() - before < 100_000, "the log is not filled");
    for node in lab.nodes() {
        assert!(node.runs());
        let services = discover(node, "_x._tcp").expect("it answers");
        assert!(services.len() < 2000, "{} services of one endpoint", services.len());
    }
    wait_seen_v4(&guests[1]);
    wait_seen_v4(&guests[2]);
    wait_until("h1 is where it was", SOON, || match resolved(&guests[2], "h1.local")? {
        found if found == other => Ok(()),
        found => Err(found),
    });
    assert_eq!(renamings(&guests), 0);
}

fn wait_seen_v4(guest: &Guest) {
    wait_until("the printer is seen", SOON, || {
        let found = browse(guest, "_ipp._tcp")?;
        let seen = found.iter().any(|line| line.starts_with("IPv4 printer h1.local"));
        if seen { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// A browser that knows nothing of Avahi: prints `INSTANCE HOST ADDRESSES PORT TXT` of each service of a type.
const BROWSER: &str = r#"
import sys, time
from zeroconf import ServiceBrowser, Zeroconf
class Listener:
    def add_service(self, zc, kind, name):
        info = zc.get_service_info(kind, name, 5000)
        if info:
            print(name[:-len(kind) - 1], info.server, ','.join(sorted(info.parsed_addresses())), info.port,
                  dict(info.properties), flush=True)
    def update_service(self, zc, kind, name): pass
    def remove_service(self, zc, kind, name): print('gone', name[:-len(kind) - 1], flush=True)
zc = Zeroconf(interfaces=[sys.argv[2]])
ServiceBrowser(zc, sys.argv[1], Listener())
time.sleep(60)
"#;

#[test]
fn another_implementation_of_mdns_sees_what_is_heard_and_what_is_declared_and_when_it_goes() {
    need!("avahi-daemon", "dbus-daemon", "python3-zeroconf");
    for mode in ["proxy", "transparent"] {
        let lab = lab!(2).cluster();
        let guests = guests(&lab, mode, &SUBNET, 1);
        let silent = Guest::plain("silent");
        let declare = ["--advertise-service", "Declared one=_http._tcp,_api:8080,path=/x,flag"];
        lab.node(1).try_attach("net", "silent", silent.container(), &declare).success();
        let _page = guests[0].start_sh("exec avahi-publish --service Heard _http._tcp 80 path=/");
        let browser = Guest::plain("browser");
        let answer = lab.node(2).attach("net", "browser", browser.container());
        let me = answer["addresses"][0].as_str().and_then(|text| text.split('/').next()).expect("an address");
        let watch = |out: &str| {
            format!(
                "cat >/run/tmp/browse.py <<'END'\n{BROWSER}\nEND\n\
                 exec /usr/bin/python3 /run/tmp/browse.py _http._tcp.local. {me} >/run/tmp/{out}"
            )
        };
        let watching = browser.start_sh(&watch("seen"));
        let printed = |parts: &[&str]| {
            let text = browser.sh("cat /run/tmp/seen")?;
            let all = parts.iter().all(|part| text.contains(part));
            if all { Ok(()) } else { Err(text) }
        };
        wait_until("both are seen", SOON, || {
            printed(&[
                "Heard h1.local.",
                "Declared one silent.local.",
                " 8080 ",
                "b'path': b'/x'",
                "b'flag': None",
            ])
        });
        lab.node(1).detach("net", "silent");
        wait_until("one is gone", SOON, || printed(&["gone Declared one"]));
        drop(watching);
    }
}
