//! Clusters that form by multicast.

use super::{containers, place};
use crate::harness::{Program, lab, need};

#[test]
fn corosync_forms_a_cluster_of_three_nodes_by_multicast() {
    need!("corosync");
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    let made = containers(&lab, "net");
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut config =
        "totem {\n version: 2\n cluster_name: net\n transport: udp\n token: 3000\n interface {\n \
        mcastaddr: 239.255.1.1\n mcastport: 5405\n }\n}\nlogging {\n to_stderr: yes\n to_syslog: no\n}\n\
        quorum {\n provider: corosync_votequorum\n}\nnodelist {\n"
            .to_owned();
    for (number, (_, address)) in (1..).zip(&made) {
        config += &format!(" node {{\n ring0_addr: {address}\n name: host{number}\n nodeid: {number}\n }}\n");
    }
    config += "}\n";
    let path = dir.path().join("corosync.conf");
    std::fs::write(&path, config).expect("a file can be written");
    let own = ["/run", "/var/lib/corosync", "/dev/shm"];
    let start = |number| {
        let path = path.to_str().expect("our own paths are text");
        Program::start(place(&made, number, &own), ["corosync", "-f", "-c", path])
    };
    let mut cluster: Vec<_> = (1..=3).map(start).collect();
    for program in &mut cluster {
        program.wait_output("all three are members", |output| {
            output.contains("Members[3]: 1 2 3").then_some(())
        });
    }
    // One that goes is missed, and found again when it is back, by the others as they are.
    drop(cluster.pop());
    cluster[0].wait_output("the third is missed", |output| output.contains("Members left: 3").then_some(()));
    cluster.push(start(3));
    cluster[2].wait_output("all three again", |output| output.contains("Members[3]: 1 2 3").then_some(()));
}

#[test]
fn participants_of_dds_find_each_other_and_those_of_a_network_without_multicast_do_not() {
    need!("ddsperf");
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.82.0.0/24"]);
    lab.network("deaf", &["--subnet", "10.83.0.0/24", "--multicast", "off"]);
    let (made, deaf) = (containers(&lab, "net"), containers(&lab, "deaf"));
    let own = ["/run"];
    let run = |made, number, mode: &[&str]| {
        let begin = ["ddsperf", "-D", "60"];
        Program::start(place(made, number, &own), begin.iter().chain(mode))
    };
    let mut publisher = run(&made, 1, &["pub", "20Hz"]);
    let mut subscriber = run(&made, 2, &["sub"]);
    let mut alone = run(&deaf, 1, &["pub", "20Hz"]);
    let other = run(&deaf, 2, &["sub"]);
    publisher.wait_output("it finds host2", |output| found(output, "host2"));
    subscriber.wait_output("it finds host1", |output| found(output, "host1"));
    subscriber.wait_output("samples arrive", |output| {
        output.lines().any(|line| line.contains("total ") && !line.contains("total 0 ")).then_some(())
    });
    // By now the others have had the same time: they know themselves, and nobody else.
    alone.wait_output("it knows itself", |output| found(output, "host1"));
    assert_eq!(found(&alone.output(), "host2"), None, "{}", alone.output());
    assert_eq!(found(&other.output(), "host1"), None, "{}", other.output());
}

/// Whether a participant on that host has shown up.
fn found(output: &str, host: &str) -> Option<()> {
    let participant = format!("participant {host}:");
    output.lines().any(|line| line.contains(&participant) && line.contains("new")).then_some(())
}
