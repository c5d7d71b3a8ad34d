//! What was declared for an endpoint when it was attached stays, whatever another one announces by mDNS.

use serde_json::Value;

use crate::avahi::discover;
use crate::harness::{Container, LATER, Lab, Node, SOON, lab, need, wait_until};

/// Announces `Build farm` of `_distcc._tcp` on the own host, so often, each time at another port; argv is the own address
/// and how often.
const RIVAL: &str = r"
import socket, struct, sys, time
me, times = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(me))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
s.bind((me, 5353))
def name(*labels): return b''.join(bytes([len(l)]) + l for l in labels) + b'\x00'
def record(owner, kind, data, flush=0x8000): return owner + struct.pack('>HHIH', kind, 1 | flush, 120, len(data)) + data
kind, instance = name(b'_distcc', b'_tcp', b'local'), name(b'Build farm', b'_distcc', b'_tcp', b'local')
host = name(b'rival', b'local')
for port in range(times):
    answers = [record(kind, 12, instance, 0), record(instance, 33, struct.pack('>3H', 0, 0, 1000 + port) + host),
               record(instance, 16, b'\x00'), record(host, 1, socket.inet_aton(me))]
    s.sendto(struct.pack('>6H', 0, 0x8400, 0, len(answers), 0, 0) + b''.join(answers), ('224.0.0.251', 5353))
    time.sleep(0.02)
";

/// Waits until every node knows `Build farm` as what was declared for `farm`, and nothing else under that name.
fn wait_declared(lab: &Lab) {
    for node in lab.nodes() {
        wait_until(&format!("{} knows what was declared", node.name()), SOON, || {
            let found = discover(node, "_distcc._tcp")?;
            let of_farm = |service: &&Value| service["instance"] == "Build farm";
            match found.iter().filter(of_farm).collect::<Vec<_>>()[..] {
                [one] if one["endpoint"] == "farm" && one["declared"] == true && one["port"] == 3632 => {
                    Ok(())
                }
                _ => Err(format!("{found:?}")),
            }
        });
    }
}

fn alarms(node: &Node) -> Vec<String> {
    let events = node.lanmesh(["events", "--json"]).json();
    let alarms = events.as_array().expect("a list").iter().filter(|event| event["kind"] == "alarm");
    alarms.filter_map(|event| event["message"].as_str().map(str::to_owned)).collect()
}

/// A rival on `at` against what was declared on n1; it is there first, or it is not.
fn contest(mode: &str, at: usize, first: bool) {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.83.0.0/24", "--zeroconf", mode]);
    let (farm, rival) = (Container::named("farm"), Container::named("rival"));
    let attached = lab.node(at).attach("net", "rival", &rival);
    let own = attached["addresses"][0].as_str().and_then(|text| text.split('/').next()).expect("an address");
    let announce = |times: &str| {
        let done = rival.command("python3").args(["-c", RIVAL, own, times]).status();
        assert!(done.expect("python3 can be run").success());
    };
    if first {
        announce("5");
        wait_until("the rival is known", LATER, || match discover(lab.node(1), "_distcc._tcp")?.len() {
            1 => Ok(()),
            count => Err(format!("{count} services")),
        });
    }
    let declared = ["--advertise-service", "Build farm=_distcc._tcp:3632,jobs=4"];
    lab.node(1).try_attach("net", "farm", &farm, &declared).json();
    wait_declared(&lab);
    announce("100");
    wait_declared(&lab);
    let counted = |node: &Node, what: &str| {
        node.lanmesh(["status", "--json"]).json()["mdns"]["net"][what].as_u64().unwrap_or(0)
    };
    assert!(lab.nodes().iter().all(|node| counted(node, "renamed") == 0), "{mode} {at}");
    assert!(lab.nodes().iter().map(|node| counted(node, "contested")).sum::<u64>() > 0, "{mode} {at}");
    let named = format!("endpoint rival on node n{at} announces the service \"build farm\"");
    let all: Vec<String> = lab.nodes().iter().flat_map(alarms).collect();
    let told = all.iter().filter(|text| text.contains(&named) && text.contains("declared for endpoint farm"));
    // Once in a minute, by each node that notices.
    assert!((1..=4).contains(&told.count()), "{mode} {at}: {all:?}");
}

#[test]
fn an_endpoint_on_the_same_node_takes_nothing_that_was_declared() {
    need!("python3");
    contest("proxy", 1, false);
    contest("transparent", 1, true);
}

#[test]
fn nor_does_one_on_another_node() {
    need!("python3");
    contest("proxy", 2, true);
    contest("transparent", 2, false);
}
