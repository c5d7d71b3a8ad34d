//! What an endpoint announces by mDNS reaches who asks on another node as it would on one wire: the same records and the same
//! asker on a plain wire, in a transparent network and in one with the proxy.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::harness::{Container, Place, Program, SOON, lab, need, wait_until};
use crate::unicast::address;

const ANNOUNCER: &str = concat!(include_str!("software/mdns.py"), include_str!("software/announcer.py"));
const ASKER: &str = concat!(include_str!("software/mdns.py"), include_str!("software/asker.py"));

const A: u16 = 1;
const CNAME: u16 = 5;
const NULL: u16 = 10;
const PTR: u16 = 12;
const HINFO: u16 = 13;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const SVCB: u16 = 64;
const URI: u16 = 256;
const PRIVATE: u16 = 0xff01;

/// A record: name, type, whether it is unique, seconds, data.
type Record = (&'static str, u16, bool, u32, Vec<u8>);

/// A name as it is on the wire.
fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Vec<u8> {
    [&priority.to_be_bytes()[..], &weight.to_be_bytes(), &port.to_be_bytes(), &name(target)].concat()
}

fn txt(strings: &[&str]) -> Vec<u8> {
    strings.iter().flat_map(|text| [&[text.len() as u8], text.as_bytes()].concat()).collect()
}

/// All kinds of records that devices were seen to announce, those of an endpoint with this address.
fn records(own: [u8; 4]) -> Vec<Record> {
    let [a, b, c, d] = own;
    let reverse: &'static str = format!("{d}.{c}.{b}.{a}.in-addr.arpa").leak();
    let pointer = |owner, to| (owner, PTR, false, 4500, name(to));
    vec![
        // As most have it.
        pointer("_services._dns-sd._udp.local", "_http._tcp.local"),
        pointer("_http._tcp.local", "Usual._http._tcp.local"),
        pointer("_printer._sub._http._tcp.local", "Usual._http._tcp.local"),
        ("Usual._http._tcp.local", SRV, true, 120, srv(3, 4, 80, "usual.local")),
        ("Usual._http._tcp.local", TXT, true, 4500, txt(&["path=/", "pdl=application/pdf,image/urf"])),
        ("usual.local", A, true, 120, own.to_vec()),
        ("usual.local", HINFO, true, 120, txt(&["ARM", "LINUX"])),
        (reverse, PTR, true, 120, name("usual.local")),
        // A host.
        ("usual.local", TXT, true, 4500, txt(&["room=2"])),
        ("abroad.local", A, true, 120, vec![192, 0, 2, 7]),
        ("abroad.local", AAAA, true, 120, [&[0xfd, 0, 0, 0x77][..], &[0; 11], &[7]].concat()),
        ("host.example.org", A, true, 120, own.to_vec()),
        ("bare", A, true, 120, own.to_vec()),
        ("alias.local", CNAME, true, 120, name("usual.local")),
        ("out.local", CNAME, true, 120, name("www.example.org")),
        // Services in other shapes.
        ("Lonely._http._tcp.local", SRV, true, 120, srv(0, 0, 81, "usual.local")),
        pointer("_p2p._udp.local", "peer._p2p._udp.local"),
        ("peer._p2p._udp.local", TXT, true, 4500, txt(&["dnsaddr=/ip4/10.0.0.1"])),
        ("usual._device-info._tcp.local", TXT, true, 4500, txt(&["model=MacPro6,1"])),
        pointer("b._dns-sd._udp.local", "example.org"),
        pointer("_Upper._tcp.local", "Big._Upper._tcp.local"),
        ("Big._Upper._tcp.local", SRV, true, 120, srv(0, 0, 82, "usual.local")),
        ("Big._Upper._tcp.local", TXT, true, 4500, vec![0]),
        pointer("_self._tcp.local", "Me._self._tcp.local"),
        ("Me._self._tcp.local", SRV, false, 120, srv(0, 0, 83, "Me._self._tcp.local")),
        ("Me._self._tcp.local", A, false, 120, own.to_vec()),
        pointer("_glob._tcp.local", "There._glob._tcp.local"),
        ("There._glob._tcp.local", SRV, true, 120, srv(1, 2, 84, "host.example.org")),
        pointer("_label._tcp.local", "Short._label._tcp.local"),
        ("Short._label._tcp.local", SRV, true, 120, srv(0, 0, 85, "bare")),
        // Of other types.
        ("Usual._http._tcp.local", SVCB, true, 120, [&[0, 1][..], &name("usual.local")].concat()),
        ("usual.local", URI, true, 120, b"\0\x01\0\x01http://usual.local/".to_vec()),
        ("usual.local", PRIVATE, false, 10, b"anything".to_vec()),
        ("usual.local", NULL, false, 10, b"null".to_vec()),
    ]
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Has the records announced in `from`, which has the address `own`, until it is dropped.
fn announce(from: &Container, own: [u8; 4]) -> Program {
    let own_text = Ipv4Addr::from(own).to_string();
    let arguments = records(own).into_iter().map(|(name, kind, unique, ttl, data)| {
        format!("{name}|{kind}|{}|{ttl}|{}", u8::from(unique), hex(&data))
    });
    let command = ["python3", "-c", ANNOUNCER, &own_text].map(str::to_owned).into_iter().chain(arguments);
    Program::start(Place { container: from, hostname: "announcer", own: &[] }, command.collect::<Vec<_>>())
}

/// Waits until `at` hears all of them, as they were sent.
fn wait_heard(what: &str, at: &Container, address: &str, own: [u8; 4]) {
    let all = records(own);
    let expected: BTreeSet<String> =
        all.iter().map(|(name, kind, _, _, data)| format!("{name}|{kind}|{}", hex(data))).collect();
    let asked: BTreeSet<String> = all.iter().map(|(name, kind, ..)| format!("{name}|{kind}")).collect();
    wait_until(&format!("{what}: all {} records are heard", expected.len()), SOON * 2, || {
        let mut command = at.command("python3");
        let output = command.args(["-c", ASKER, address, "4"]).args(&asked).output();
        let output = output.map_err(|error| error.to_string())?;
        let heard = String::from_utf8_lossy(&output.stdout).into_owned();
        let heard: BTreeSet<String> = heard.lines().map(str::to_owned).collect();
        let missing: Vec<_> = expected.difference(&heard).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("{missing:#?} of {heard:#?}, {}", String::from_utf8_lossy(&output.stderr)))
    });
}

fn carried(mode: &str) {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24", "--zeroconf", mode]);
    let (there, here) = (Container::named("there"), Container::named("here"));
    let own = address(&lab.node(1).attach("net", "there", &there), 0);
    let own = own.parse::<Ipv4Addr>().expect("an IPv4 address").octets();
    let asking = address(&lab.node(2).attach("net", "here", &here), 0);
    let announcer = announce(&there, own);
    wait_heard(mode, &here, &asking, own);
    // What people browse for is listed, in whatever shape it was announced.
    wait_until("the services are listed", SOON, || {
        let list = lab.node(2).lanmesh(["discover", "net", "--json"]).ok()?;
        let line = |one: &serde_json::Value| {
            let text = |key: &str| one[key].as_str().unwrap_or("?").to_owned();
            let [priority, weight, port] = ["priority", "weight", "port"].map(|key| one[key].to_string());
            let (kind, instance, host) = (text("type"), text("instance"), text("host"));
            format!("{kind} {instance} {host} {priority} {weight} {port} {}", one["addresses"])
        };
        let listed: Vec<String> = list.as_array().into_iter().flatten().map(line).collect();
        let at = format!("[\"{}\"]", Ipv4Addr::from(own));
        let expected = [
            format!("_glob._tcp There host.example.org. 1 2 84 {at}"),
            format!("_http._tcp Usual usual 3 4 80 {at}"),
            format!("_label._tcp Short bare. 0 0 85 {at}"),
            "_p2p._udp peer  0 0 0 []".to_owned(),
            format!("_self._tcp Me Me._self._tcp 0 0 83 {at}"),
            format!("_upper._tcp Big usual 0 0 82 {at}"),
        ];
        if listed == expected { Ok(()) } else { Err(format!("{listed:#?}")) }
    });
    let dig = |name: &str| here.command("dig").args(["+short", "@10.82.0.1", name, "SRV"]).output();
    for (name, answer) in [
        ("Usual._http._tcp.net.lanmesh", "3 4 80 there.net.lanmesh.\n"),
        ("There._glob._tcp.net.lanmesh", "1 2 84 host.example.org.\n"),
    ] {
        let output = dig(name).expect("dig can be run");
        assert_eq!(String::from_utf8_lossy(&output.stdout), answer, "{name}");
    }
    assert!(!announcer.output().contains("Traceback"), "{}", announcer.output());
    let counted = lab.node(1).lanmesh(["status", "--json"]).json()["mdns"]["net"].clone();
    let dropped = |(what, _): &(&String, &serde_json::Value)| what.starts_with("dropped_");
    let dropped = counted.as_object().expect("there are counters").iter().find(dropped);
    assert_eq!(dropped, None, "{counted}");
}

#[test]
fn on_a_plain_wire_all_that_a_device_announces_is_heard() {
    need!("python3");
    let _lab = lab!(1);
    let (there, here) = (Container::named("there"), Container::named("here"));
    there.ip("link add eth0 type veth peer name eth0 netns c-here");
    for (container, address) in [(&there, "10.83.0.2/24"), (&here, "10.83.0.3/24")] {
        container.ip(&format!("address add {address} dev eth0"));
        container.ip("link set eth0 up");
        container.ip("route add 224.0.0.0/4 dev eth0");
    }
    let _announcer = announce(&there, [10, 83, 0, 2]);
    wait_heard("a wire", &here, "10.83.0.3", [10, 83, 0, 2]);
}

#[test]
fn in_a_transparent_network_it_is_heard_on_the_other_node() {
    need!("python3", "dig");
    carried("transparent");
}

#[test]
fn so_it_is_in_a_network_with_the_proxy() {
    need!("python3", "dig");
    carried("proxy");
}

/// On a wire nobody answers for it any more. Behind the proxy the agent of its node hears of the questions, and looks.
#[test]
fn a_program_that_was_killed_is_found_out_when_somebody_on_another_node_asks_for_it() {
    need!("python3");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24", "--zeroconf", "proxy"]);
    let (there, here) = (Container::named("there"), Container::named("here"));
    let own: Ipv4Addr = address(&lab.node(1).attach("net", "there", &there), 0).parse().expect("an address");
    let asking = address(&lab.node(2).attach("net", "here", &here), 0);
    let announcer = announce(&there, own.octets());
    let listed = || lab.node(2).lanmesh(["discover", "net", "--json"]).ok().map(|list| list.to_string());
    wait_until("it is listed", SOON, || match listed()? {
        list if list.contains("Usual") && list.contains("There") => Ok(()),
        list => Err(list),
    });
    // It says no goodbye, and its shortest time to live of those that matter is two minutes.
    drop(announcer);
    let asked: BTreeSet<String> =
        records(own.octets()).iter().map(|(name, kind, ..)| format!("{name}|{kind}")).collect();
    wait_until("it is gone", SOON * 4, || {
        let mut command = here.command("python3");
        let output = command.args(["-c", ASKER, &asking, "3"]).args(&asked).output();
        output.map_err(|error| error.to_string())?;
        match listed()? {
            list if list == "[]" => Ok(()),
            list => Err(list),
        }
    });
}
