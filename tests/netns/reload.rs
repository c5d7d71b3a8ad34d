//! The configuration, read again while the agent runs.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Container, Node, Pings, Resolver, SOON, lab, need, wait_until};
use crate::names_settings::wait_dig;
use crate::unicast::address;

/// Writes the configuration of a running agent anew.
fn rewritten(node: &Node, toml: &str) {
    node.configure(toml);
    node.write_config().expect("there is something to write");
}

/// What a question for metrics at an address of the node's gets.
fn scraped(node: &Node, address: &str) -> Result<(), String> {
    let page = format!("http://{address}/metrics");
    let output = node.netns().command("curl").args(["-sS", "--max-time", "5", &page]).output();
    let output = output.expect("curl can be started");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn what_can_change_does_without_a_packet_lost_what_cannot_is_named_and_an_error_changes_nothing() {
    need!("dig", "curl");
    let lab = lab!(1);
    let node = lab.node(1);
    let [first_conf, second_conf] = ["31", "32"].map(|last| {
        let file = lab.dir().join(format!("{last}.conf"));
        std::fs::write(&file, format!("nameserver 127.0.0.{last}\n")).expect("a file can be written");
        file.display().to_string()
    });
    let _first = Resolver::start(node, "127.0.0.31", [198, 51, 100, 1]);
    let _second = Resolver::start(node, "127.0.0.32", [198, 51, 100, 2]);
    node.kill();
    let before = format!("resolv_conf = \"{first_conf}\"\ndns_ttl_s = 7\nmetrics = \"192.0.2.1:9642\"\n");
    node.configure(&before);
    // The harness has the log decided by the environment, as long as it says nothing else.
    node.start_under(&["env", "-u", "RUST_LOG"]);
    node.wait_ready();
    node.init();
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let (one, two) = (Container::named("one"), Container::named("two"));
    node.attach("net", "one", &one);
    let to = address(&node.attach("net", "two", &two), 0);
    wait_dig(&one, &["www.example.org"], "A 198.51.100.1");
    wait_dig(&one, &["+noall", "+answer", "two.net.lanmesh"], "two.net.lanmesh. 7 IN A");
    wait_until("metrics are served", SOON, || scraped(node, "192.0.2.1:9642"));
    assert!(!node.log().contains("DEBUG"), "{}", node.log());

    let pings = Pings::start(&one, &to, 100);
    let after = format!(
        "resolv_conf = \"{second_conf}\"\ndns_ttl_s = 9\nmetrics = \"127.0.0.1:9642\"\nlog = \"debug\"\nport = 7980\n"
    );
    rewritten(node, &after);
    let told = node.lanmesh(["reload", "--json"]).json();
    assert_eq!(told["changed"], json!(["log", "dns_ttl_s", "metrics", "resolv_conf"]), "{told}");
    assert_eq!((&told["restart"], &told["overruled"]), (&json!(["port"]), &json!([])), "{told}");
    wait_dig(&one, &["www.example.org"], "A 198.51.100.2");
    wait_dig(&one, &["+noall", "+answer", "two.net.lanmesh"], "two.net.lanmesh. 9 IN A");
    wait_until("metrics are served elsewhere", SOON, || scraped(node, "127.0.0.1:9642"));
    assert!(scraped(node, "192.0.2.1:9642").is_err(), "and not where they were");
    let three = Container::named("three");
    node.attach("net", "three", &three);
    wait_until("the log has details", SOON, || {
        if node.log().contains("DEBUG") { Ok(()) } else { Err(node.log()) }
    });

    // A file with an error: by command, and by a signal, which can only say it in the log.
    rewritten(node, "dns_ttl_s = 11\nlog = \"loud\"\n");
    let refused = node.lanmesh(["reload"]).refusal();
    assert!(
        refused.contains("agent.toml:2: log: \"loud\"") && refused.contains("nothing was changed"),
        "{refused}"
    );
    let signal = || kill(Pid::from_raw(i32::try_from(node.pid()).expect("pids are small")), Signal::SIGHUP);
    signal().expect("our own child can be signalled");
    wait_until("both are events", SOON, || {
        let events = node.lanmesh(["events", "--kind", "agent_configured"]).success();
        let count = events.matches("the configuration is as it was: ").count();
        if count == 2 { Ok(()) } else { Err(events) }
    });
    wait_dig(&one, &["+noall", "+answer", "two.net.lanmesh"], "two.net.lanmesh. 9 IN A");
    scraped(node, "127.0.0.1:9642").expect("metrics are where they were");

    rewritten(node, &after.replace("dns_ttl_s = 9", "dns_ttl_s = 12"));
    signal().expect("our own child can be signalled");
    wait_dig(&one, &["+noall", "+answer", "two.net.lanmesh"], "two.net.lanmesh. 12 IN A");
    // A file that is gone is an error too.
    std::fs::remove_file(node.run_dir().join("agent.toml")).expect("it is there");
    assert!(node.lanmesh(["reload"]).refusal().contains("cannot read"));
    assert_eq!(pings.finish(), (100, 100), "pings sent and answered");
}

#[test]
fn the_environment_goes_before_the_file_and_whoever_reads_it_again_is_told() {
    let lab = lab!(1);
    let node = lab.node(1);
    node.kill();
    node.configure("log = \"warn\"\n");
    node.start_and_wait();
    rewritten(node, "log = \"info\"\n");
    let told = node.lanmesh(["reload", "--json"]).json();
    assert_eq!((&told["changed"], &told["overruled"]), (&json!([]), &json!(["log"])), "{told}");
    let told = node.lanmesh(["reload"]).success();
    assert!(told.contains("agent.toml: nothing changes"), "{told}");
}
