//! `lanmesh run`: programs that are endpoints of their own.

use std::process::{Command, Stdio};

use crate::harness::{Container, Lab, Node, SOON, lab, ping, wait_until};

fn begin(lab: Lab) -> Lab {
    let lab = lab.cluster();
    lab.network("net", &["--subnet", "10.88.0.0/24", "--subnet", "fd00:88::/64"]);
    lab
}

fn run(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanmesh"));
    command.env("LANMESH_SOCKET", node.socket()).args(["run", "net"]).args(arguments);
    command
}

#[test]
fn a_program_is_an_endpoint_while_it_runs_and_its_status_is_the_commands() {
    let lab = begin(lab!(2));
    let (node, other) = (lab.node(1), Container::named("other"));
    lab.node(2).attach("net", "other", &other);
    // It reaches others by their names, has a loopback, and nothing of the machine's network.
    let script = "ip -o link show | wc -l; ping -c 1 -W 2 127.0.0.1 >/dev/null && \
                  for n in 1 2 3 4 5; do ping -c 1 -W 2 other >/dev/null && exit 7; sleep 1; done";
    let output =
        run(node, &["--name", "prog", "--service", "tool", "--", "sh", "-c", script]).output().expect("runs");
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2", "lo and eth0");
    assert_eq!(node.endpoints("net").expect("is listed"), ["other@n2"]);

    let mut child =
        run(node, &["--name", "prog", "--ip", "10.88.0.9", "--", "sleep", "60"]).spawn().expect("runs");
    wait_until("the other node reaches it", SOON, || ping(&other, "10.88.0.9"));
    // What ends the command ends the program, and the endpoint.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .expect("is told");
    assert_eq!(child.wait().expect("ends").code(), Some(143));
    lab.node(2).wait_endpoints("net", &["other@n2"]);
}

#[test]
fn a_command_that_is_killed_leaves_its_program_in_the_network_until_that_ends() {
    let lab = begin(lab!(1));
    let node = lab.node(1);
    let mut child = run(node, &["--name", "prog", "--", "sh", "-c", "echo $$; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut line = String::new();
    let mut output = std::io::BufReader::new(child.stdout.take().expect("is piped"));
    std::io::BufRead::read_line(&mut output, &mut line).expect("it says who it is");
    let program = nix::unistd::Pid::from_raw(line.trim().parse().expect("a process"));
    child.kill().expect("is killed");
    child.wait().expect("has ended");
    assert_eq!(node.endpoints("net").expect("is listed"), ["prog@n1"]);
    nix::sys::signal::kill(program, nix::sys::signal::Signal::SIGKILL).expect("is there");
    node.wait_endpoints("net", &[]);
}

#[test]
fn what_cannot_begin_leaves_nothing_and_says_why() {
    let lab = begin(lab!(1));
    let node = lab.node(1);
    let refused = |arguments: &[&str], tells: &str| {
        let output = run(node, arguments).output().expect("runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(tells), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    };
    refused(&["--", "/absent/program"], "/absent/program");
    refused(&["--ip", "192.0.2.1", "--", "true"], "192.0.2.1");
    assert!(node.endpoints("net").expect("is listed").is_empty());
    // A name of its own is made for whoever gives none.
    let output = run(node, &["--", "cat", "/etc/resolv.conf"]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("nameserver 10.88.0.1") && text.contains("search net.lanmesh"), "{text}");
    assert!(!std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default().contains("10.88.0.1"));
}
