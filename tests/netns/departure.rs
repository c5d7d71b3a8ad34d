//! What browsers live to see when a node dies and comes back, and when only its agent starts again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::avahi::{discover, guests};
use crate::harness::{Capture, Guest, LATER, Lab, LabConfig, Running, SOON, lab, need, slowness, wait_until};
use crate::multicast::BOTH;

/// Notes in `/run/tmp/KIND` when the Avahi of `guest` sees services of a type come and go.
fn watch(guest: &Guest, kind: &str) -> Running {
    guest.start_sh(&format!(
        "stdbuf -oL avahi-browse --parsable {kind} | while read -r line; do echo \"$EPOCHREALTIME;$line\"; done \
         >/run/tmp/{kind}"
    ))
}

/// When what begins so was seen, in seconds since 1970: `+;eth0;IPv4;NAME`, or `-` for what went.
fn seen(guest: &Guest, kind: &str, what: &str) -> Result<Vec<f64>, String> {
    let text = guest.sh(&format!("cat /run/tmp/{kind}"))?;
    let line = |line: &str| {
        let (at, rest) = line.split_once(';')?;
        if rest.starts_with(&format!("{what};")) { at.parse().ok() } else { None }
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Waits until all of these were seen so often, by all; when the last was.
fn wait_all(guests: &[&Guest], kind: &str, sign: char, names: &[&str], times: usize, limit: Duration) -> f64 {
    wait_until(&format!("{sign} {names:?} of {kind}, {times} times"), limit, || {
        let mut last = 0_f64;
        for (guest, name) in guests.iter().flat_map(|guest| names.iter().map(move |name| (guest, name))) {
            for family in ["IPv4", "IPv6"] {
                let found = seen(guest, kind, &format!("{sign};eth0;{family};{name}"))?;
                if found.len() < times {
                    return Err(format!("{name} over {family}: {found:?}"));
                }
                last = last.max(found[times - 1]);
            }
        }
        Ok(last)
    })
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs_f64()
}

/// Responses from the agents of n1 and n3, which have the gateway's address, that cross the underlay: VXLAN and Ethernet
/// take 22 bytes, and the flags of the message are the third and fourth byte behind the inner IP and UDP.
fn responses_of_agents(lab: &Lab) -> Capture {
    let filter = "udp port 4789 and not src host 192.0.2.2 and udp[28:2] = 0x0800 and udp[42:4] = 0x0a520001 and \
                  udp[46:4] = 0xe00000fb and udp[60:2] = 0x8400";
    Capture::start(lab.underlay(), "n1", filter)
}

fn a_dead_node_goes(mode: &str) {
    let lab = lab!(LabConfig::alone(3)).cluster();
    let guests = guests(&lab, mode, &BOTH, 3);
    let plain = Guest::plain("plain");
    let declare = ["--advertise-service", "Declared=_ipp._tcp:631"];
    lab.node(2).try_attach("net", "plain", plain.container(), &declare).success();
    let _dies = guests[1].start_sh("exec avahi-publish --service Heard _ipp._tcp 631");
    let _lives = guests[2].start_sh("exec avahi-publish --service Living _ipp._tcp 631");
    let others = [&guests[0], &guests[2]];
    let _watching = others.map(|guest| watch(guest, "_ipp._tcp"));
    wait_all(&others, "_ipp._tcp", '+', &["Heard", "Declared", "Living"], 1, SOON);
    // What a node's agent has not told the others of yet, nobody can take back in its place.
    for node in [lab.node(1), lab.node(3)] {
        wait_until("the agents that stay know of the services too", SOON, || {
            match discover(node, "_ipp._tcp")?.len() {
                3 => Ok(()),
                other => Err(format!("{other} of 3")),
            }
        });
    }
    let crossing = responses_of_agents(&lab);
    lab.cut(lab.node(2));
    lab.node(2).kill();
    let (killed, begin) = (now(), Instant::now());
    wait_until("n1 gives n2 up", SOON, || match lab.node(1).state_of(lab.node(2)).as_str() {
        "dead" => Ok(()),
        other => Err(other.to_owned()),
    });
    let known = begin.elapsed().as_secs_f64();
    let gone = wait_all(&others, "_ipp._tcp", '-', &["Heard", "Declared"], 1, SOON) - killed;
    eprintln!(
        "{mode}: n2 is given up {known:.2} s after its end, and every browser has seen its services go after {gone:.2} s"
    );
    // Two seconds until it is known, and one that a goodbye takes (RFC 6762 section 10.1); the rest is for a busy machine.
    assert!(gone < 8.0 * f64::from(slowness()), "{mode}: gone after {gone:.2} s");
    assert_eq!(crossing.count(), 0, "{mode}: goodbyes stay on their nodes");
    assert_eq!(seen(&guests[0], "_ipp._tcp", "-;eth0;IPv4;Living"), Ok(Vec::new()), "what lives stays");
    let healed = now();
    lab.heal(lab.node(2));
    lab.node(2).start_and_wait();
    let back = wait_all(&others, "_ipp._tcp", '+', &["Heard", "Declared"], 2, LATER) - healed;
    eprintln!("{mode}: seen again {back:.2} s after the agent was started");
    assert_eq!(seen(&guests[0], "_ipp._tcp", "-;eth0;IPv4;Living"), Ok(Vec::new()), "what lives stays");
}

#[test]
fn browsers_see_the_services_of_a_dead_node_go_and_come_back() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "tcpdump", "stdbuf");
    a_dead_node_goes("transparent");
}

#[test]
fn with_zeroconf_proxied_browsers_see_the_services_of_a_dead_node_go_and_come_back() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "tcpdump", "stdbuf");
    a_dead_node_goes("proxy");
}

#[test]
fn where_only_an_agent_is_dead_the_services_of_its_endpoints_go_on_for_browsers() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "stdbuf");
    let lab = lab!(2).cluster();
    let guests = guests(&lab, "transparent", &BOTH, 2);
    let _printer = guests[1].start_sh("exec avahi-publish --service Heard _ipp._tcp 631");
    let browser = [&guests[0]];
    let _watching = watch(browser[0], "_ipp._tcp");
    wait_all(&browser, "_ipp._tcp", '+', &["Heard"], 1, SOON);
    lab.node(2).kill();
    wait_until("n1 gives n2 up", SOON, || match lab.node(1).state_of(lab.node(2)).as_str() {
        "dead" => Ok(()),
        other => Err(other.to_owned()),
    });
    // A goodbye takes a second; what was said anew by then never went.
    std::thread::sleep(Duration::from_secs(3) * slowness());
    wait_until("it is there after all", SOON, || {
        let times = |sign: &str, family: &str| {
            Ok::<_, String>(seen(browser[0], "_ipp._tcp", &format!("{sign};eth0;{family};Heard"))?.len())
        };
        for family in ["IPv4", "IPv6"] {
            let (came, went) = (times("+", family)?, times("-", family)?);
            if came <= went {
                return Err(format!("over {family} it came {came} times and went {went} times"));
            }
        }
        Ok(())
    });
}

/// Prints `TTL TYPE NAME` of each record that is multicast in a response, and where a PTR record points to; argv is the
/// address to listen at.
const LISTENER: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('', 5353))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('224.0.0.251') + socket.inet_aton(sys.argv[1]))
def name(data, at):
    labels, end = [], None
    while data[at]:
        if data[at] >= 0xc0:
            end = end or at + 2
            at = struct.unpack_from('>H', data, at)[0] & 0x3fff
        else:
            labels.append(data[at + 1:at + 1 + data[at]].decode())
            at += 1 + data[at]
    return '.'.join(labels), end or at + 1
print('listening', flush=True)
while True:
    data = s.recv(9000)
    flags, questions, *counts = struct.unpack_from('>5H', data, 2)
    if not flags & 0x8000: continue
    at = 12
    for _ in range(questions): at = name(data, at)[1] + 4
    for _ in range(sum(counts)):
        owner, at = name(data, at)
        kind, _, ttl, length = struct.unpack_from('>HHIH', data, at)
        print(ttl, kind, owner, name(data, at + 10)[0] if kind == 12 else '', flush=True)
        at += 10 + length
"#;

#[test]
fn an_agent_that_starts_again_makes_nothing_go_that_never_went() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "python3", "stdbuf");
    for mode in ["proxy", "transparent"] {
        let lab = lab!(2);
        for node in lab.nodes() {
            // So long that nobody gives up the one that starts again.
            node.kill();
            node.configure("detect_ms = 60000\n");
            node.start();
        }
        for node in lab.nodes() {
            node.wait_ready();
        }
        let lab = lab.cluster();
        let guests = guests(&lab, mode, &["--subnet", "10.82.0.0/24"], 2);
        let plain = Guest::plain("plain");
        let declare = ["--advertise-service", "Declared=_http._tcp,_api:80,path=/"];
        lab.node(2).try_attach("net", "plain", plain.container(), &declare).success();
        let publish = "exec avahi-publish --service Heard _ipp._tcp 631 --subtype _color._sub._ipp._tcp";
        let _printer = guests[1].start_sh(publish);
        let ear = Guest::plain("ear");
        let answer = lab.node(1).attach("net", "ear", ear.container());
        let me = answer["addresses"][0].as_str().and_then(|text| text.split('/').next()).expect("an address");
        let listen = format!(
            "cat >/run/tmp/listen.py <<'END'\n{LISTENER}\nEND\nexec python3 /run/tmp/listen.py {me} >/run/tmp/heard"
        );
        let _listening = ear.start_sh(&listen);
        let heard = || ear.sh("cat /run/tmp/heard");
        wait_until("it listens", SOON, || {
            heard()?.contains("listening").then_some(()).ok_or_else(String::new)
        });
        let browser = &guests[0];
        let _watching = ["_ipp._tcp", "_http._tcp"].map(|kind| watch(browser, kind));
        let there = |kind: &str, name: &str| {
            wait_until(&format!("{name} is seen"), SOON, || {
                let found = seen(browser, kind, &format!("+;eth0;IPv4;{name}"))?;
                if found.is_empty() { Err("it is not".to_owned()) } else { Ok(()) }
            });
        };
        there("_ipp._tcp", "Heard");
        there("_http._tcp", "Declared");
        // The last that h2 has is its link-local address.
        wait_until("all of h2 is said", SOON, || {
            let said = heard()?;
            if said.contains(" 28 h2.local") { Ok(()) } else { Err(said) }
        });
        // What was published is kept on disk a second later.
        std::thread::sleep(Duration::from_secs(3) * slowness());
        for node in [2, 1] {
            let before = heard().expect("it can be read").lines().count();
            lab.node(node).kill();
            lab.node(node).start_and_wait();
            // What is declared now is seen after all that the start brought about.
            let (name, late) = (format!("late{node}"), Guest::plain("late"));
            let declare = format!("{name}=_http._tcp:80");
            let declare = ["--advertise-service", &declare];
            lab.node(2).try_attach("net", &name, late.container(), &declare).success();
            there("_http._tcp", &name);
            let said = heard().expect("it can be read");
            let goodbye = |line: &&str| line.starts_with("0 ") && !line.contains("late");
            let goodbyes: Vec<&str> = said.lines().skip(before).filter(goodbye).collect();
            assert_eq!(goodbyes, [""; 0], "{mode}: after n{node} was started again: {said}");
            for (kind, name) in [("_ipp._tcp", "Heard"), ("_http._tcp", "Declared")] {
                let gone = seen(browser, kind, &format!("-;eth0;IPv4;{name}"));
                assert_eq!(gone, Ok(Vec::new()), "{mode}: {name}, after n{node} was started again");
            }
            lab.node(2).detach("net", &name);
            // It hears goodbyes, where there are some.
            wait_until("its goodbye is heard", SOON, || {
                let said = heard()?;
                let goodbye = said.lines().any(|line| line.starts_with("0 ") && line.contains(&name));
                if goodbye { Ok(()) } else { Err(said) }
            });
        }
    }
}
