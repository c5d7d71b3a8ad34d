//! What of a name server can be set: where other names are asked for and whether at all, how long answers are kept; and
//! what of one network is told in another.

use serde_json::json;

use crate::harness::{Asker, Container, Resolver, SOON, lab, need, wait_until};
use crate::unicast::address;

const GATEWAY: &str = "10.95.0.1";

/// What dig prints for a question, one line of words.
fn dig(client: &Container, question: &[&str]) -> String {
    let output = client.command("dig").args(["@10.95.0.1", "+timeout=1", "+tries=1"]).args(question).output();
    let output = output.expect("dig can be started");
    String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Waits until dig prints what is expected, asked at [`GATEWAY`].
pub fn wait_dig(client: &Container, question: &[&str], expected: &str) {
    wait_until(&format!("{question:?} is answered with {expected}"), SOON, || {
        let answer = dig(client, question);
        if answer.contains(expected) { Ok(()) } else { Err(answer) }
    });
}

#[test]
fn other_names_are_asked_for_where_the_configuration_says_and_not_at_all_where_the_network_says_so() {
    need!("dig");
    let lab = lab!(1);
    let node = lab.node(1);
    let file = lab.dir().join("upstream.conf");
    std::fs::write(&file, "nameserver 127.0.0.31\n").expect("a file can be written");
    node.kill();
    node.configure(&format!("resolv_conf = \"{}\"\ndns_ttl_s = 7\n", file.display()));
    node.start_and_wait();
    node.init();
    let _first = Resolver::start(node, "127.0.0.31", [198, 51, 100, 1]);
    let second = Resolver::start(node, "127.0.0.32", [198, 51, 100, 2]);
    let (one, two) = (Container::named("one"), Container::named("two"));
    lab.network("open", &["--subnet", "10.95.0.0/24"]);
    lab.network("closed", &["--subnet", "10.95.0.0/24", "--dns-forward", "off", "--dns-ttl", "30"]);
    let told = node.try_attach("open", "one", &one, &[]).json();
    assert_eq!((&told["dns"], &told["search"]), (&json!([GATEWAY]), &json!(["open.lanmesh"])));
    node.attach("closed", "two", &two);
    wait_dig(&one, &["www.example.org"], "A 198.51.100.1");
    wait_dig(&two, &["www.example.org"], "status: REFUSED");
    // Their own names are answered in both, each with its TTL.
    wait_dig(&one, &["+noall", "+answer", "one.open.lanmesh"], "one.open.lanmesh. 7 IN A");
    wait_dig(&two, &["+noall", "+answer", "two.closed.lanmesh"], "two.closed.lanmesh. 30 IN A");
    // The configuration is followed, and a server that is silent is passed over.
    std::fs::write(&file, "nameserver 127.0.0.33\nnameserver 127.0.0.32\n").expect("a file can be written");
    wait_dig(&one, &["www.example.org"], "A 198.51.100.2");
    // Nothing of ours was asked for there.
    for name in ["nobody.open.lanmesh", "one.closed.lanmesh", "nobody.", "printer.local"] {
        wait_dig(&one, &[name], "status: NXDOMAIN");
    }
    wait_dig(&one, &["-x", "10.95.0.99"], "status: NXDOMAIN");
    assert!(second.asked().iter().all(|name| name.ends_with("example.org.")), "{:?}", second.asked());
    // What was created once is not created otherwise.
    let again = ["network", "create", "closed", "--subnet", "10.95.0.0/24"];
    assert!(node.lanmesh(again).refusal().contains("dns_"), "it says what differs");
    let json = node.lanmesh(["network", "inspect", "closed", "--json"]).json();
    assert_eq!((&json["dns_forward"], &json["dns_ttl"]), (&"off".into(), &30.into()));
}

#[test]
fn a_network_tells_nothing_of_another_and_whoever_is_in_neither_is_told_nothing() {
    need!("dig");
    let lab = lab!(2).cluster();
    for network in ["red", "blue"] {
        lab.network(network, &["--subnet", "10.95.0.0/24"]);
    }
    let containers = ["secret", "red", "blue"].map(Container::named);
    let more = ["--service", "web", "--slot", "1", "--advertise-service", "_http._tcp:80"];
    let secret = address(&lab.node(2).try_attach("red", "secret", &containers[0], &more).json(), 0);
    lab.node(1).attach("red", "red", &containers[1]);
    lab.node(1).attach("blue", "blue", &containers[2]);
    let [_, red, blue] = &containers;
    wait_dig(red, &["+short", "secret.red.lanmesh"], &secret);
    for name in ["secret", "web", "tasks.web", "1.web", "secret._http._tcp", "_http._tcp"] {
        for network in ["red", "blue"] {
            for kind in ["A", "AAAA", "SRV", "TXT", "PTR", "ANY"] {
                let name = format!("{name}.{network}.lanmesh");
                wait_dig(blue, &["-t", kind, &name], "status: NXDOMAIN");
            }
        }
    }
    wait_dig(blue, &["secret."], "status: NXDOMAIN");
    wait_dig(blue, &["-x", &secret], "status: NXDOMAIN");
    let types = dig(blue, &["-t", "PTR", "_services._dns-sd._udp.blue.lanmesh"]);
    assert!(types.contains("status: NOERROR") && !types.contains("_http"), "{types}");
    // An address that is not of the network.
    red.ip("address add 203.0.113.7/32 dev eth0");
    let answer = dig(red, &["-b", "203.0.113.7", "secret.red.lanmesh"]);
    assert!(!answer.contains(&secret) && !answer.contains("NOERROR"), "{answer}");
    assert_eq!(Asker::new(red, GATEWAY).ask("secret.red.lanmesh").addresses, Some(vec![secret]));
}
