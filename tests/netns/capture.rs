//! `lanmesh capture`: frames of an endpoint of this node and of another, and of a network, as tcpdump reads them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Container, Lab, Node, SOON, lab, need, ping, wait_until};
use crate::paths::plain;
use crate::unicast::address;

/// More seconds than a clock has.
const ENDLESS: &str = "18446744073709551615";

/// A capture that runs, and its file.
struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// Begins one, and returns when it listens.
    fn begin(lab: &Lab, node: &Node, arguments: &[&str]) -> Self {
        let file = lab.dir().join("capture.pcap");
        // What a former one left says nothing of this one.
        let _ = std::fs::remove_file(&file);
        let mut command = Command::new(env!("CARGO_BIN_EXE_lanmesh"));
        command.env("LANMESH_SOCKET", node.socket()).arg("capture").args(arguments).arg("--write").arg(&file);
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be run");
        let capture = Self { child, file };
        wait_until("it listens", SOON, || match std::fs::metadata(&capture.file) {
            // The header is written once the socket is open.
            Ok(file) if file.len() >= 24 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture
    }

    /// Waits until it ends by itself, and gives what tcpdump reads.
    fn end(mut self) -> Vec<String> {
        let status = wait_until("it ends", SOON, || {
            self.child.try_wait().expect("our own child").ok_or_else(|| "it runs".to_owned())
        });
        assert!(status.success(), "{status}");
        read(&self.file)
    }
}

/// The lines that tcpdump prints of a file.
fn read(file: &Path) -> Vec<String> {
    let output = Command::new("tcpdump").args(["-n", "-e", "-r"]).arg(file).output().expect("it can be run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

fn reach(from: &Container, to: &str) {
    wait_until("it is reached", SOON, || ping(from, to));
}

#[test]
fn frames_of_an_endpoint_here_or_elsewhere_and_of_a_network_are_what_tcpdump_reads() {
    need!("tcpdump");
    let lab = lab!(2).cluster();
    let containers = plain(&lab);
    let one = lab.node(1);
    let list = one.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    let of = |name: &str| {
        let found = list.as_array().into_iter().flatten().find(|endpoint| endpoint["name"] == name);
        address(found.expect("it is there"), 0)
    };
    let (own, there) = (of("c1"), of("c2"));
    reach(&containers[0], &there);
    // The endpoint of this node, and then the other node's, whose frames come through the cluster.
    for (endpoint, filter) in [("c1", "icmp"), ("net/c2", "icmp and host")] {
        let filter = if endpoint == "c1" { filter.to_owned() } else { format!("{filter} {own}") };
        let capture = Capture::begin(&lab, one, &[endpoint, &filter, "--count", "4"]);
        reach(&containers[0], &there);
        reach(&containers[0], &there);
        let lines = capture.end();
        let shown = format!("{own} > {there}: ICMP echo request");
        assert_eq!(
            (lines.len(), count(&lines, &shown), count(&lines, "ICMP echo reply")),
            (4, 2, 2),
            "{lines:?}"
        );
    }
    // Of a network each frame comes once, whichever ports it passes; one that is cut is still read.
    let capture =
        Capture::begin(&lab, one, &["net", "icmp", "--count", "2", "--snaplen", "64", "--seconds", ENDLESS]);
    reach(&containers[0], &there);
    let lines = capture.end();
    assert_eq!((count(&lines, "echo request"), count(&lines, "echo reply")), (1, 1), "{lines:?}");
    // It ends by itself where nothing comes, and what cannot be is refused.
    assert_eq!(
        Capture::begin(&lab, one, &["net", "tcp port 9", "--seconds", "1"]).end(),
        Vec::<String>::new()
    );
    let file = lab.dir().join("refused.pcap");
    let file = file.to_str().expect("our own paths are text");
    let refusal = one.lanmesh(["capture", "nobody", "--write", file]).refusal();
    assert!(refusal.contains("nobody is \"nobody\""), "{refusal}");
    let usage = one.lanmesh(["capture", "c1", "porty 53", "--write", file]).to_string();
    assert!(
        usage.contains("nothing can be made of \"porty\"") && usage.contains("exit status: 2"),
        "{usage}"
    );
    assert!(!Path::new(file).exists(), "nothing is written of what is refused");
    // A node may keep to itself what its endpoints send.
    let two = lab.node(2);
    two.kill();
    two.configure("captures_for_others = false\n");
    two.start_and_wait();
    wait_until("nothing is handed out", SOON, || {
        let refusal = one.lanmesh(["capture", "net/c2", "--count", "1", "--write", file]).to_string();
        if refusal.contains("captures_for_others is false") { Ok(()) } else { Err(refusal) }
    });
}
