//! Avahi on three nodes, in each mode of zeroconf: what it finds, resolves and forgets.

use serde_json::Value;

use crate::harness::{Capture, Guest, Lab, Node, SOON, lab, need, wait_until};
use crate::multicast::copies;

const BOTH: [&str; 4] = ["--subnet", "10.82.0.0/24", "--subnet", "fd00:82::/64"];

/// A network in which zeroconf travels like this, and guests h1 … on the nodes 1 … of the lab, with Avahi.
pub fn guests(lab: &Lab, mode: &str, subnets: &[&str], count: usize) -> Vec<Guest> {
    lab.network("net", &[subnets, &["--zeroconf", mode]].concat());
    (1..=count)
        .map(|i| {
            let guest = Guest::with_avahi(&format!("h{i}"));
            lab.node(i).attach("net", &format!("c{i}"), guest.container());
            guest
        })
        .collect()
}

/// What `guest` sees of a type: `FAMILY INSTANCE HOST ADDRESS PORT TXT` for each service that it resolves.
pub fn browse(guest: &Guest, kind: &str) -> Result<Vec<String>, String> {
    let text = guest.sh(&format!("timeout 10 avahi-browse --resolve --parsable --terminate {kind}"))?;
    let resolved = text.lines().filter(|line| line.starts_with('='));
    let mut found: Vec<_> = resolved
        .map(|line| {
            let parts: Vec<_> = line.split(';').collect();
            [parts[2], parts[3], parts[6], parts[7], parts[8], parts[9]].join(" ")
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Waits until `guest` sees exactly `expected` of a type; of each only how it begins is compared.
pub fn wait_seen(guest: &Guest, kind: &str, expected: &[&str]) {
    wait_until(&format!("Avahi sees {expected:?} of {kind}"), SOON, || {
        let found = browse(guest, kind)?;
        let alike = found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
        if alike { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// What a node says of the services of a type.
pub fn discover(node: &Node, kind: &str) -> Result<Vec<Value>, String> {
    let list = node.lanmesh(["discover", "net", kind, "--json"]).ok()?;
    list.as_array().cloned().ok_or_else(|| format!("no list: {list}"))
}

/// Counts what of mDNS crosses the underlay, at the first node.
pub fn mdns_captures(lab: &Lab) -> Vec<Capture> {
    let start = |group| Capture::start(lab.underlay(), "n1", &copies(group));
    vec![start("224.0.0.251"), start("ff02::fb")]
}

fn resolve(guest: &Guest, database: &str, name: &str) -> Result<String, String> {
    let line = guest.sh(&format!("timeout 6 getent {database} {name}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

fn wait_resolved(guest: &Guest, database: &str, name: &str, address: &str) {
    wait_until(&format!("{name} is {address} ({database})"), SOON, || {
        match resolve(guest, database, name)? {
            found if found == address => Ok(()),
            found => Err(found),
        }
    });
}

fn software_finds_itself(mode: &str) {
    let lab = lab!(3).cluster();
    let counts = mdns_captures(&lab);
    let guests = guests(&lab, mode, &BOTH, 3);
    let of = |i: usize| {
        let list = lab.node(i).lanmesh(["endpoint", "ls", "net", "--json"]).json();
        let mine = list.as_array().and_then(|l| l.iter().find(|e| e["name"] == format!("c{i}")).cloned());
        let mine = mine.expect("it is attached");
        [0, 1].map(|at| {
            let text = mine["addresses"][at].as_str().expect("is text");
            text.split('/').next().expect("an address").to_owned()
        })
    };
    let [v4, v6] = of(1);
    let publish = "exec avahi-publish --service 'Printer one' _ipp._tcp 631 rp=printers/one \
                   --subtype _color._sub._ipp._tcp";
    let printer = guests[0].start_sh(publish);
    let expected = ["IPv4 Printer\\032one h1.local", "IPv6 Printer\\032one h1.local"];
    for guest in &guests[1..] {
        wait_seen(guest, "_ipp._tcp", &expected);
        wait_seen(guest, "_color._sub._ipp._tcp", &expected);
    }
    for node in &lab.nodes()[1..] {
        wait_until(&format!("{} lists the printer", node.name()), SOON, || {
            let found = discover(node, "_color._sub._ipp._tcp")?;
            let addresses = serde_json::json!([v4, v6]);
            match found.as_slice() {
                [one]
                    if one["instance"] == "Printer one"
                        && one["node"] == "n1"
                        && one["endpoint"] == "c1"
                        && one["host"] == "h1"
                        && one["port"] == 631
                        && one["addresses"] == addresses
                        && one["txt"] == serde_json::json!(["rp=printers/one"]) =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        });
    }
    let dig = "dig +short @10.82.0.1 _ipp._tcp.net.lanmesh PTR; dig +short @10.82.0.1 \
               'Printer one._ipp._tcp.net.lanmesh' SRV";
    let answer = guests[2].sh(dig).expect("dig can be run");
    assert_eq!(answer, "Printer\\032one._ipp._tcp.net.lanmesh.\n0 0 631 c1.net.lanmesh.\n");
    let found = browse(&guests[2], "_ipp._tcp").expect("it was seen");
    assert!(found.iter().all(|line| line.contains(" 631 ") && line.contains("rp=printers/one")), "{found:?}");
    wait_resolved(&guests[2], "ahostsv4", "h1.local", &v4);
    wait_resolved(&guests[1], "ahostsv6", "h1.local", &v6);
    for address in [&v4, &v6] {
        wait_until(&format!("{address} has the name h1.local"), SOON, || {
            let line = guests[2].sh(&format!("avahi-resolve --address {address}"))?;
            if line.contains("h1.local") { Ok(()) } else { Err(line) }
        });
    }
    printer.finish();
    for guest in &guests[1..] {
        wait_seen(guest, "_ipp._tcp", &[]);
    }
    assert_eq!(discover(lab.node(3), "_ipp._tcp"), Ok(Vec::new()));
    let crossed: Vec<_> = counts.into_iter().map(Capture::count).collect();
    if mode == "transparent" {
        assert!(crossed.iter().all(|count| *count > 0), "the captures see what there is: {crossed:?}");
    } else {
        assert_eq!(crossed, [0, 0], "datagrams of mDNS on the underlay");
    }
}

#[test]
fn avahi_finds_and_resolves_what_is_on_other_nodes() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "tcpdump", "dig", "libnss_mdns_minimal.so.2");
    software_finds_itself("transparent");
}

#[test]
fn with_zeroconf_proxied_avahi_finds_the_same_and_no_mdns_crosses_the_underlay() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "tcpdump", "dig", "libnss_mdns_minimal.so.2");
    software_finds_itself("proxy");
}

#[test]
fn a_proxy_answers_in_a_network_of_one_family_and_with_multicast_off() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon");
    for (subnet, expected) in
        [("fd00:82::/64", "IPv6 printer h1.local"), ("10.82.0.0/24", "IPv4 printer h1.local")]
    {
        let lab = lab!(2).cluster();
        let guests = guests(&lab, "proxy", &["--subnet", subnet, "--multicast", "off"], 2);
        let _printer = guests[0].start_sh("exec avahi-publish --service printer _ipp._tcp 631");
        wait_until(&format!("{expected} is seen"), SOON, || {
            let found = browse(&guests[1], "_ipp._tcp")?;
            let seen = found.iter().any(|line| line.starts_with(expected));
            if seen { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}

#[test]
fn with_zeroconf_off_avahi_finds_what_is_on_its_own_node_alone() {
    need!("avahi-daemon", "avahi-browse", "dbus-daemon", "tcpdump");
    let lab = lab!(2).cluster();
    let counts = mdns_captures(&lab);
    let guests = guests(&lab, "off", &BOTH, 2);
    let beside = Guest::with_avahi("beside");
    lab.node(1).attach("net", "beside", beside.container());
    let _printer = guests[0].start_sh("exec avahi-publish --service printer _ipp._tcp 631");
    wait_seen(&beside, "_ipp._tcp", &["IPv4 printer", "IPv6 printer"]);
    assert_eq!(browse(&guests[1], "_ipp._tcp").expect("Avahi answers"), [""; 0]);
    assert!(resolve(&guests[1], "ahostsv4", "h1.local").is_err());
    assert_eq!(counts.into_iter().map(Capture::count).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(lab.node(1).lanmesh(["discover", "net", "--json"]).json(), serde_json::json!([]));
}
