//! Rules that somebody else takes away are back at once, however often he does it; and what others do to their own rules wakes nobody.

#![allow(clippy::unwrap_used, reason = "what is missing here is a failed test")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Container, Lab, Node, SOON, lab, slowness, wait_until};
use crate::published::{OUTSIDE, outside, tcp};
use crate::services::Server;

const PORT: u16 = 8000;
/// Long before everything is looked at anyway.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A node with a published port, and somebody outside who asks there.
struct Place {
    lab: Lab,
    client: PathBuf,
    _container: Container,
    _server: Server,
}

impl Place {
    fn new(lab: Lab) -> Self {
        lab.network("net", &["--subnet", "10.79.0.0/24"]);
        let client = outside(&lab);
        let container = Container::named("a");
        let server = Server::start(&container, "a", PORT);
        let more = ["--service", "web", "--publish", "8080:8000"];
        lab.node(1).try_attach("net", "a", &container, &more).success();
        lab.node(1).lanmesh(["service", "create", "net", "web", "--address", "10.79.0.250"]).success();
        lab.node(1).lanmesh(["attach", "net", "--name", "h", "--host"]).success();
        let place = Self { lab, client, _container: container, _server: server };
        wait_until("it is reached", SOON, || place.is_reached());
        place
    }

    fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// From outside by the published port, and from the node itself by the service's address.
    fn is_reached(&self) -> Result<(), String> {
        let from_outside = tcp(&self.client, "192.0.2.1:8080")?;
        let from_node = tcp(&self.node().netns().path(), "10.79.0.250:8000")?;
        let all = from_outside == format!("a {OUTSIDE}") && from_node.starts_with("a ");
        if all { Ok(()) } else { Err(format!("{from_outside}, {from_node}")) }
    }

    fn nft(&self, rules: &str) {
        let done = self.node().netns().command("nft").arg(rules).output().unwrap();
        assert!(done.status.success(), "{rules}: {done:?}");
    }

    fn passes(&self) -> u64 {
        let status = self.node().lanmesh(["status", "--json"]).json();
        status["reconcile"]["passes"].as_u64().unwrap()
    }
}

#[test]
fn what_is_flushed_is_back_at_once_on_the_node_and_in_a_network() {
    let place = Place::new(lab!(1).cluster());
    let namespace = std::fs::read_dir(place.node().run_dir().join("netns")).unwrap().next().unwrap().unwrap();
    let in_network = format!("--net={}", namespace.path().display());
    for round in 0..4 {
        match round % 2 {
            0 => place.nft("flush ruleset"),
            _ => {
                let mut flush = Command::new("nsenter");
                flush.args([in_network.as_str(), "nft", "flush", "ruleset"]);
                assert!(flush.status().unwrap().success());
            }
        }
        wait_until("it is back at once", AT_ONCE, || place.is_reached());
        wait_until("all of it", AT_ONCE, || {
            let plan = place.node().lanmesh(["plan"]).success();
            if plan == "There is nothing to change.\n" { Ok(()) } else { Err(plan) }
        });
    }
    let events = place.node().lanmesh(["events", "--json"]).json();
    let told = events.as_array().unwrap().iter().filter(|event| event["kind"] == "put_back").count();
    assert!(told >= 4, "{events}");
}

#[test]
fn who_flushes_without_end_keeps_nobody_busy_and_who_changes_his_own_rules_wakes_nobody() {
    let place = Place::new(lab!(1).cluster());
    // Until nothing of the beginning is left to be done.
    wait_until("it is quiet", SOON, || {
        let before = place.passes();
        std::thread::sleep(Duration::from_secs(2));
        let after = place.passes();
        if after == before { Ok(()) } else { Err(format!("{before} {after}")) }
    });
    let during = Duration::from_secs(4);
    let over_and_over = |rules: &str| {
        let before = place.passes();
        let begun = Instant::now();
        let mut times = 0;
        while begun.elapsed() < during {
            place.nft(rules);
            times += 1;
        }
        (times, place.passes() - before, begun.elapsed())
    };
    let (times, passes, _) = over_and_over("add table ip other { chain c { }; }; delete table ip other");
    // One over everything may fall in between.
    assert!(times > 20 && passes <= 2, "{passes} passes for {times} changes of others");
    let (times, passes, took) = over_and_over("flush ruleset");
    // Two a second, and each may be made again for what it made.
    let most = 4 * (took.as_secs() + 1) + 2;
    assert!(times > 20 && passes >= 2 && passes <= most, "{passes} passes for {times} flushes in {took:?}");
    wait_until("it is back when that ends", AT_ONCE * slowness(), || place.is_reached());
}
