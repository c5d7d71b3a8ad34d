//! What somebody without a key, or without rights, can make an agent do: little, and nobody else waits for it.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Container, lab, need, slowness, wait_until};

#[test]
fn a_stranger_who_knocks_without_end_fills_no_log_and_it_says_what_was_left_out() {
    let lab = lab!(2);
    let (node, stranger) = (lab.node(1), lab.node(2));
    let token = node.init();
    // The right cluster and a wrong secret.
    let (rest, last) = token.split_at(token.len() - 1);
    let wrong = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    let lines = || node.log().lines().filter(|line| !line.contains("DEBUG")).count();
    let (before, begun) = (lines(), Instant::now());
    let knocks = 120;
    for _ in 0..knocks {
        stranger.try_join(&wrong, node, &[]).refusal();
    }
    // As many as are let through at once, then one a second; a few lines of other places.
    let most = 40 + begun.elapsed().as_secs() as usize;
    let written = lines() - before;
    assert!(written >= 30 && written <= most, "{written} lines in {:?}", begun.elapsed());
    if most < knocks {
        wait_until("the log says what was left out", Duration::from_secs(20), || {
            if node.log().contains("lines were left out") { Ok(()) } else { Err("nothing yet".to_owned()) }
        });
    }
}

#[test]
fn readers_who_ask_for_what_is_costly_without_end_delay_no_attach() {
    need!("curl");
    let lab = lab!(1).cluster();
    let node = lab.node(1);
    lab.network("net", &["--subnet", "10.98.0.0/24"]);
    let first = Container::named("first");
    node.attach("net", "first", &first);
    let one = |name: &str| {
        let container = Container::named(name);
        let begun = Instant::now();
        node.attach("net", name, &container);
        let took = begun.elapsed();
        node.detach("net", name);
        took
    };
    let alone = (0..5).map(|n| one(&format!("alone{n}"))).max().expect("five");
    let mut readers: Vec<_> = (0..60).map(|_| asking_as_nobody(&node.socket())).collect();
    wait_until("nobody's questions are answered", Duration::from_secs(20), || {
        let status = asking_once_as_nobody(&node.socket());
        if status == "200" { Ok(()) } else { Err(status) }
    });
    // The middle one: of five some are behind sixty processes on the same processors, and all would be behind a lock.
    let mut beside: Vec<_> = (0..5).map(|n| one(&format!("beside{n}"))).collect();
    beside.sort();
    let beside = beside[2];
    let asking = readers.iter_mut().map(Child::try_wait).filter(|ended| matches!(ended, Ok(None))).count();
    for reader in &mut readers {
        let _ = reader.kill();
        let _ = reader.wait();
    }
    assert!(asking > 30, "{asking} still asked");
    let most = alone * 6 + Duration::from_millis(300) * slowness();
    assert!(beside < most, "{beside:?} beside them, {alone:?} alone");
}

/// curl, as a user without rights.
fn as_nobody(socket: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--",
        "curl",
        "-s",
    ]);
    command.arg("--unix-socket").arg(socket).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn asking_once_as_nobody(socket: &Path) -> String {
    let mut command = as_nobody(socket);
    command.args(["-o", "/dev/null", "-w", "%{http_code}", "http://lanmesh/v1/doctor"]);
    String::from_utf8_lossy(&command.output().expect("curl runs").stdout).into_owned()
}

/// Asks for what is costly, on one connection, for as long as it takes.
fn asking_as_nobody(socket: &Path) -> Child {
    let mut command = as_nobody(socket);
    for _ in 0..3000 {
        command.args(["http://lanmesh/v1/plan", "http://lanmesh/v1/doctor", "http://lanmesh/v1/multicast"]);
    }
    command.stdout(Stdio::null()).spawn().expect("curl can be started")
}

#[test]
fn the_command_that_is_printed_joins_and_shows_the_token_to_nobody() {
    let lab = lab!(2);
    let (first, second) = (lab.node(1), lab.node(2));
    first.init();
    let shown = first.lanmesh(["token", "show", "--json"]).json();
    let (token, join) = (shown["token"].as_str().expect("text"), shown["join"].as_str().expect("text"));
    assert!(join.contains("lanmesh join --token - "), "{join}");
    let lanmesh = env!("CARGO_BIN_EXE_lanmesh");
    // As a shell runs it that reads the line: the token is in no process's arguments.
    let line = join.replace("| lanmesh ", &format!("| '{lanmesh}' "));
    let line = format!("{line} --advertise {} --name n2\n", second.address());
    let mut shell = Command::new("sh");
    shell.env("LANMESH_SOCKET", second.socket()).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    shell.stdin.take().expect("a pipe").write_all(line.as_bytes()).expect("reads");
    assert!(shell.wait().expect("ends").success());
    first.wait_alive(2);
    second.lanmesh(["leave"]).success();
    // Given as an argument, it is there for a moment only: the first connection is made without.
    let blocked = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let at = format!("127.0.0.1:{}", blocked.local_addr().expect("is bound").port());
    let mut join = Command::new(lanmesh);
    join.env("LANMESH_SOCKET", second.socket())
        .args(["join", "--token", token, &at, "--name", "n2", "--wait"]);
    let mut join = join.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let line = format!("/proc/{}/cmdline", join.id());
    let hidden = std::panic::catch_unwind(|| {
        wait_until("the token is in no argument", Duration::from_secs(5), || {
            let words = std::fs::read(&line).map_err(|error| error.to_string())?;
            let words = String::from_utf8_lossy(&words).into_owned();
            if words.contains("--wait") && !words.contains(token) { Ok(()) } else { Err(words) }
        });
    });
    let _ = join.kill();
    let _ = join.wait();
    assert!(hidden.is_ok(), "the token stands in the process list");
}
