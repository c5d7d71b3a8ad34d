//! What an agent that runs may do on its machine, what it is told when that is not enough, and that a service manager
//! hears of it.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Container, Node, SOON, lab, ping, wait_until};
use crate::unicast::address;

/// Those that docs/decisions/privileges.md lists, by their numbers in linux/capability.h: NET_BIND_SERVICE, NET_ADMIN,
/// NET_RAW, SYS_CHROOT, SYS_PTRACE, SYS_ADMIN, SYS_NICE.
const KEPT: [u32; 7] = [10, 12, 13, 18, 19, 21, 23];
/// DAC_READ_SEARCH, for an agent that is not root.
const READ_SEARCH: u32 = 2;
/// Nobody (and no other process here) has this user.
const USER: &str = "64646";

fn mask(capabilities: impl IntoIterator<Item = u32>) -> String {
    format!("{:016x}", capabilities.into_iter().fold(0u64, |mask, bit| mask | 1 << bit))
}

/// The value of a line of /proc/PID/status, of every thread of the agent; fails the test where they differ.
fn status(node: &Node, key: &str) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).expect("the agent runs");
    let mut values: Vec<_> = tasks
        .flatten()
        // A thread may end meanwhile.
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.trim_start_matches(':').trim().to_owned()
        })
        .collect();
    values.dedup();
    assert_eq!(values.len(), 1, "{key} is the same in all threads: {values:?}");
    values.remove(0)
}

/// What the doctor says of one thing.
pub fn check<'a>(doctor: &'a Value, name: &str) -> &'a Value {
    let checks = doctor["checks"].as_array().expect("a list");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {doctor}"))
}

/// Gives the agent's directories to a user. The networks that are mounted there are nobody's to give.
fn give(node: &Node, user: &str) {
    let mut command = Command::new("chown");
    command.args(["-R", "--silent", &format!("{user}:{user}")]).args([node.run_dir(), node.data_dir()]);
    command.status().expect("chown can be run");
}

/// Kills the agent and starts it as another user with these capabilities, as a service manager does.
fn restart_as_user(node: &Node, capabilities: &str) {
    node.kill();
    give(node, USER);
    let (inheritable, ambient) =
        (format!("--inh-caps={capabilities}"), format!("--ambient-caps={capabilities}"));
    let user = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", &inheritable, &ambient, "--"];
    node.start_under(&user);
    node.wait_ready();
}

#[test]
fn an_agent_that_runs_has_the_capabilities_that_are_documented_and_no_others() {
    let lab = lab!(1);
    let node = lab.node(1);
    for (key, expected) in [
        ("CapEff", mask(KEPT)),
        ("CapPrm", mask(KEPT)),
        ("CapBnd", mask(KEPT)),
        ("CapInh", mask([])),
        ("CapAmb", mask([])),
        ("NoNewPrivs", "1".to_owned()),
    ] {
        assert_eq!(status(node, key), expected, "{key}");
    }
    let doctor = node.lanmesh(["doctor", "--json"]).json();
    let found = check(&doctor, "the agent's capabilities");
    assert_eq!(found["state"], "ok", "{found}");
}

#[test]
fn without_root_it_attaches_containers_by_path_and_process_and_takes_up_what_was_there() {
    const ALL: &str =
        "+net_admin,+net_raw,+sys_admin,+sys_ptrace,+sys_chroot,+net_bind_service,+sys_nice,+dac_read_search";
    let lab = lab!(2).cluster();
    lab.network("net", &["--subnet", "10.91.0.0/24", "--subnet", "fd00:91::/64"]);
    let (by_path, by_process, other) = (Container::named("p"), Container::process(), Container::named("o"));
    let to = address(&lab.node(2).attach("net", "other", &other), 0);
    let node = lab.node(1);
    let early = Container::named("early");
    node.attach("net", "early", &early);
    restart_as_user(node, ALL);
    assert_eq!(status(node, "Uid").split_whitespace().collect::<Vec<_>>(), [USER; 4]);
    let kept = mask(KEPT.into_iter().chain([READ_SEARCH]));
    for (key, expected) in [("CapEff", &kept), ("CapPrm", &kept), ("CapAmb", &mask([]))] {
        assert_eq!(&status(node, key), expected, "{key}");
    }
    node.attach("net", "p", &by_path);
    let pid = by_process.pid().to_string();
    node.lanmesh(["attach", "net", "--name", "q", "--pid", &pid]).success();
    for container in [&early, &by_path, &by_process] {
        wait_until("the other node's endpoint is reached", SOON, || ping(container, &to));
    }
    node.detach("net", "p");
    // A network that it makes and removes all by itself.
    lab.network("more", &["--subnet", "10.92.0.0/24"]);
    node.attach("more", "p", &by_path);
    node.detach("more", "p");
    node.lanmesh(["network", "rm", "more"]).success();
    assert!(by_path.links().is_empty());
    // And as root again.
    node.kill();
    give(node, "0");
    node.start_and_wait();
    wait_until("the other node's endpoint is reached", SOON, || ping(&early, &to));
}

#[test]
fn an_agent_that_lacks_a_capability_says_which_and_one_that_can_do_nothing_does_not_start() {
    let lab = lab!(1);
    let node = lab.node(1);
    restart_as_user(
        node,
        "+net_admin,+net_raw,+sys_admin,+sys_chroot,+net_bind_service,+sys_nice,+dac_read_search",
    );
    let doctor = node.lanmesh(["doctor", "--json"]).json();
    let found = check(&doctor, "the agent's capabilities");
    assert_eq!(found["state"], "fallback", "{found}");
    let said = found["found"].as_str().expect("a text");
    assert!(said.contains("CAP_SYS_PTRACE (to open the namespaces of containers' processes)"), "{said}");
    assert!(node.log().contains("CAP_SYS_PTRACE"), "the log says so too");
    // Of a process that is not its own it may not even know the namespace.
    node.init();
    node.create_network("net", &["--subnet", "10.91.0.0/24"]);
    let process = Container::process();
    let refused =
        node.lanmesh(["attach", "net", "--name", "q", "--pid", &process.pid().to_string()]).refusal();
    assert!(refused.contains("may not") && refused.contains("CAP_SYS_PTRACE"), "{refused}");
    node.kill();

    let mut command = Command::new("setpriv");
    command.args([
        "--inh-caps=-all",
        "--bounding-set=-net_admin",
        "--",
        env!("CARGO_BIN_EXE_lanmesh"),
        "agent",
    ]);
    command.arg("--data-dir").arg(node.data_dir()).arg("--run-dir").arg(node.run_dir());
    let output = command.output().expect("setpriv can be run");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.trim().lines().count() == 1 && error.contains("lacks CAP_NET_ADMIN (to make"), "{error}");
}

#[test]
fn a_service_manager_hears_when_the_agent_serves_that_it_lives_and_that_it_stops() {
    let lab = lab!(1).cluster();
    let node = lab.node(1);
    lab.network("net", &["--subnet", "10.91.0.0/24"]);
    let container = Container::named("a");
    node.attach("net", "a", &container);
    node.kill();
    let path = lab.dir().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket can be made");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
    let hear = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a message, and in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let to = format!("NOTIFY_SOCKET={}", path.display());
    node.start_under(&["env", &to, "WATCHDOG_USEC=400000"]);
    assert!(hear().starts_with("READY=1\n"));
    // From then on it answers at the first try, and has what was there.
    let endpoints = node.lanmesh(["endpoint", "ls", "net", "--json"]).json();
    assert_eq!(endpoints[0]["name"], "a", "{endpoints}");
    assert_eq!((hear(), hear()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    node.stop();
    let last = std::iter::repeat_with(hear).find(|text| text != "WATCHDOG=1").expect("goes on for ever");
    assert!(last.starts_with("STOPPING=1\n"), "{last}");
}
