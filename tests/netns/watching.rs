//! What a cluster shows of itself: metrics that Prometheus takes, events of all nodes at any of them, lines for journald, and a log
//! that is still while nothing happens.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Asker, Container, LATER, Node, SOON, lab, need, ping, stays, wait_until};
use crate::unicast::address;

/// Somebody who follows the events of all nodes at one of them, until he is dropped.
struct Follower {
    child: Child,
    output: PathBuf,
}

impl Follower {
    fn start(node: &Node, dir: &Path) -> Self {
        let output = dir.join("followed");
        let file = File::create(&output).expect("a file can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lanmesh"));
        command.args(["events", "--follow", "--json"]).env("LANMESH_SOCKET", node.socket());
        let child = command.stdout(file).stderr(Stdio::null()).spawn().expect("the command can be run");
        Self { child, output }
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        // The last line may not be whole yet.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until an event of this kind about this endpoint, or about none, has come from a node.
    fn wait(&self, kind: &str, endpoint: Option<&str>, told_by: &Node, times: usize) {
        let what = format!("{kind} of {endpoint:?} is told by {} {times} times", told_by.name());
        wait_until(&what, LATER, || {
            let events = self.events();
            let is_it = |event: &&Value| {
                event["kind"] == kind
                    && event["told_by"] == told_by.name()
                    && event["object"].get("endpoint").and_then(Value::as_str) == endpoint
            };
            let found = events.iter().filter(is_it).count();
            if found == times { Ok(()) } else { Err(format!("{found} times: {events:#?}")) }
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status and the body that `GET PATH` gives at a node's address.
fn scrape(from: &Node, to: &Node, method: &str, path: &str) -> Result<(u16, String), String> {
    let address = to.address();
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((address.as_str(), 9642))?;
        stream.set_read_timeout(Some(SOON))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: n\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let answer = crate::harness::within(&from.netns().path(), ask).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP: {answer}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(head)?;
    Ok((status, body.to_owned()))
}

/// The value of the sample of a node with this name and these labels, if it has one.
fn metric(node: &Node, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = node.lanmesh(["metrics", "--json"]).json();
    let is_it = |sample: &&Value| {
        sample["name"] == name && labels.iter().all(|(label, value)| sample["labels"][label] == *value)
    };
    samples.as_array().expect("a list").iter().find(is_it).and_then(|sample| sample["value"].as_f64())
}

/// The families of a page, or of the documentation, with their kinds.
fn families(text: &str) -> BTreeMap<String, String> {
    let of_page = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let of_docs = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        Some((cells.next()?.trim().trim_end_matches('`'), cells.next()?.trim()))
    });
    of_page.chain(of_docs).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

fn promtool() -> Option<PathBuf> {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/prometheus/usr/bin/promtool");
    ["/usr/bin/promtool", unpacked].into_iter().map(PathBuf::from).find(|path| path.is_file())
}

/// What promtool says of a page: its conventions, and whether it can be read.
fn lint(promtool: &Path, page: &str) {
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool can be run");
    child.stdin.take().expect("it is piped").write_all(page.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// Takes the place of journald: what came so far, as the fields of each line.
struct Journald {
    socket: UnixDatagram,
    lines: Vec<BTreeMap<String, String>>,
}

impl Journald {
    fn new() -> Self {
        let dir = Path::new("/run/systemd/journal");
        std::fs::create_dir_all(dir).expect("/run is the test's own");
        let socket = UnixDatagram::bind(dir.join("socket")).expect("nobody else is there");
        socket.set_nonblocking(true).expect("can be set");
        Self { socket, lines: Vec::new() }
    }

    fn lines(&mut self) -> &[BTreeMap<String, String>] {
        let mut buffer = vec![0; 1 << 18];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.lines.push(fields(&buffer[..length]));
        }
        &self.lines
    }
}

/// The fields of a datagram in which each has its length before it.
fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (name, rest) = (&bytes[..end], &bytes[end + 1..]);
        let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
        let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        found.insert(String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned());
        bytes = rest.strip_prefix(b"\n").expect("an end");
    }
    found
}

/// The lines of a node's log that are written at `info`: the tests let agents say more.
fn said(node: &Node) -> Vec<String> {
    let log = node.log();
    let is_shown = |line: &&str| {
        line.split_whitespace().nth(1).is_some_and(|level| matches!(level, "INFO" | "WARN" | "ERROR"))
    };
    log.lines().filter(is_shown).map(str::to_owned).collect()
}

/// Starts an agent as a service whose standard error journald reads.
const AS_SERVICE: &str =
    "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); export JOURNAL_STREAM; exec \"$@\"";

#[test]
fn what_a_cluster_does_is_told_by_every_node_in_figures_events_and_a_log_that_is_still() {
    need!();
    let Some(promtool) = promtool() else {
        need!("promtool");
        return;
    };
    let lab = lab!(3).cluster();
    let [one, two, three] = [lab.node(1), lab.node(2), lab.node(3)];
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let dir = tempfile::tempdir().expect("a directory can be made");
    let follower = Follower::start(three, dir.path());

    // Events of all nodes, from when each joined, at one that has nothing of the network, each once, also of one that is killed and comes back.
    let [c1, c2, c3] = ["c1", "c2", "c3"].map(Container::named);
    one.attach("net", "c1", &c1);
    let two_address = address(&two.attach("net", "c2", &c2), 0);
    follower.wait("endpoint_added", Some("c1"), one, 1);
    follower.wait("endpoint_added", Some("c2"), two, 1);
    two.kill();
    let mut journald = Journald::new();
    two.start_under(&["sh", "-c", AS_SERVICE, "sh"]);
    two.wait_ready();
    two.wait_alive(3);
    two.attach("net", "c3", &c3);
    follower.wait("agent_started", None, two, 1);
    follower.wait("endpoint_added", Some("c3"), two, 1);
    follower.wait("endpoint_added", Some("c2"), two, 1);
    let events = follower.events();
    let of = |teller: &Node| {
        let told =
            events.iter().filter(|event| event["told_by"] == teller.name() && event["kind"] != "lagged");
        told.map(|event| event["seq"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    for node in lab.nodes() {
        assert!(of(node).is_sorted_by(|a, b| a < b), "{}: {events:#?}", node.name());
    }
    let deaths =
        events.iter().filter(|event| event["kind"] == "node_changed" && event["object"]["node"] == "n2");
    assert!(deaths.clone().all(|event| event["told_by"] == "n3"), "{:#?}", deaths.collect::<Vec<_>>());

    // What happened before a crash is kept, and one node's events can be asked for at another.
    for (asked, node) in [(two, "self"), (one, "n2")] {
        let past = asked.lanmesh(["events", "--json", "--since", "1h", "--node", node]).json();
        let attached = |name: &str| {
            let events = past.as_array().expect("a list").iter();
            events.filter(|e| e["kind"] == "endpoint_added" && e["object"]["endpoint"] == name).count()
        };
        assert_eq!((attached("c2"), attached("c3")), (1, 1), "{node}: {past:#}");
    }
    let refused = one.lanmesh(["events", "--node", "n9"]).refusal();
    assert!(refused.contains("no node is called n9"), "{refused}");

    // Lines for journald, with their fields.
    wait_until("journald is told of the attach", SOON, || {
        let lines = journald.lines();
        let is_it = |line: &&BTreeMap<String, String>| {
            line.get("LANMESH_PATH").is_some_and(|path| path.ends_with("/endpoints/c3"))
                && line["PRIORITY"] == "6"
                && line["MESSAGE"].contains("done")
        };
        lines.iter().find(is_it).map(drop).ok_or_else(|| format!("{lines:#?}"))
    });

    // Metrics, at the socket and at an address.
    one.configure("metrics = \"192.0.2.1:9642\"\n");
    one.stop();
    one.start_and_wait();
    one.wait_alive(3);
    wait_until("c1 reaches c2", SOON, || ping(&c1, &two_address));
    let asker = Asker::new(&c1, "10.95.0.1");
    wait_until("c2 has a name", SOON, || {
        let answered = asker.ask("c2.net.lanmesh");
        if answered.addresses == Some(vec![two_address.parse().expect("an address")]) {
            Ok(())
        } else {
            Err(format!("{answered:?}"))
        }
    });
    asker.ask("c9.net.lanmesh");
    let of_c1 = [("network", "net"), ("endpoint", "c1"), ("direction", "sent")];
    wait_until("what c1 sent is counted, and what it asked", SOON, || {
        let packets = metric(one, "lanmesh_endpoint_packets_total", &of_c1);
        let names = ["noerror", "nxdomain"].map(|rcode| {
            metric(one, "lanmesh_dns_responses_total", &[("rcode", rcode)]).is_some_and(|count| count >= 1.0)
        });
        let took = metric(one, "lanmesh_dns_response_seconds_count", &[]).is_some_and(|count| count >= 2.0);
        let path = metric(one, "lanmesh_path_well", &[("network", "net"), ("node", "n2")]);
        let good = packets >= Some(1.0) && names == [true, true] && took && path == Some(1.0);
        if good { Ok(()) } else { Err(format!("{packets:?} {names:?} {took} {path:?}")) }
    });
    let (status, page) = wait_until("n2 scrapes n1", SOON, || scrape(two, one, "GET", "/metrics"));
    assert_eq!(status, 200, "{page}");
    lint(&promtool, &page);
    let documented = families(include_str!("../../docs/metrics.md"));
    assert_eq!(families(&page), documented);
    assert_eq!(scrape(two, one, "PUT", "/metrics").map(|(status, _)| status), Ok(405));
    assert_eq!(scrape(two, one, "GET", "/v1/status").map(|(status, _)| status), Ok(404));

    // Nobody writes a line while nothing happens, whoever looks.
    let settled = || {
        let status =
            lab.nodes().iter().map(|node| node.lanmesh(["status", "--json"]).json()["state"].clone());
        let states: Vec<Value> = status.collect();
        if states.iter().all(|state| state == "ready") { Ok(()) } else { Err(format!("{states:?}")) }
    };
    wait_until("all are well", LATER, settled);
    let before: Vec<usize> = lab.nodes().iter().map(|node| said(node).len()).collect();
    let told = journald.lines().len();
    stays("the logs of three nodes are still", Duration::from_secs(30), || {
        scrape(two, one, "GET", "/metrics")?;
        for (node, before) in lab.nodes().iter().zip(&before) {
            let lines = said(node);
            if lines.len() > *before {
                return Err(format!("{}: {:#?}", node.name(), &lines[*before..]));
            }
        }
        let new = journald.lines()[told..].iter().find(|line| line["PRIORITY"] != "7");
        new.map_or(Ok(()), |line| Err(format!("{line:?}")))
    });
}

/// Somebody who is told at once that something changed.
struct Notices {
    stream: UnixStream,
    text: String,
}

impl Notices {
    fn of(node: &Node, path: &str) -> Self {
        let mut stream = UnixStream::connect(node.socket()).expect("the agent listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: n\r\n\r\n").expect("it reads");
        stream.set_nonblocking(true).expect("can be set");
        Self { stream, text: String::new() }
    }

    /// The numbers of the notices so far.
    fn numbers(&mut self) -> Vec<u64> {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.stream.read(&mut buffer) {
            self.text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let lines = self.text.lines().filter(|line| line.starts_with("{\"number\""));
        let number = |line| serde_json::from_str::<Value>(line).ok()?["number"].as_u64();
        lines.filter_map(number).collect()
    }
}

#[test]
fn whoever_watches_is_told_at_once_that_something_changed_and_of_nothing_while_nothing_does() {
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.95.0.0/24"]);
    let [first, own] = ["first", "own"].map(Container::named);
    lab.node(2).attach("net", "first", &first);
    lab.node(1).attach("net", "own", &own);
    lab.node(1).wait_endpoints("net", &["first@n2", "own@n1"]);
    let mut once = Notices::of(lab.node(1), "/v1/changes");
    let mut notices = Notices::of(lab.node(1), "/v1/changes?follow=true");
    wait_until("a line comes at once", SOON, || {
        if notices.numbers().is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });
    // What the attach brought about has come to its end.
    let mut last = notices.numbers().len();
    wait_until("nothing is told any more", LATER, || {
        std::thread::sleep(Duration::from_secs(3));
        let now = notices.numbers().len();
        let told = now - std::mem::replace(&mut last, now);
        if told == 0 { Ok(()) } else { Err(format!("{told} more")) }
    });
    let steps: [(&str, &dyn Fn()); 3] = [
        ("an attach on another node", &|| {
            drop(lab.node(2).attach("net", "second", &Container::named("second")));
        }),
        ("a setting", &|| drop(lab.node(2).lanmesh(["network", "set", "net", "--dns-ttl", "7"]).success())),
        ("a label", &|| drop(lab.node(2).lanmesh(["node", "set", "n2", "--label", "k=v"]).success())),
    ];
    for (what, step) in steps {
        let before = notices.numbers().len();
        step();
        wait_until(&format!("{what} is told"), SOON, || {
            if notices.numbers().len() > before { Ok(()) } else { Err(notices.text.clone()) }
        });
    }
    assert_eq!(once.numbers().len(), 1, "who does not follow has the first line alone: {}", once.text);
    let numbers = notices.numbers();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
