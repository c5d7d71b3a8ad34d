//! A socket that a service manager opened and passes on.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::harness::{SOON, lab, stays, wait_until};

#[test]
fn a_command_waits_at_a_socket_that_is_passed_on_until_the_agent_is_there_again() {
    let lab = lab!(1);
    let node = lab.node(1);
    node.stop();
    assert!(!node.socket().exists(), "the agent takes its own away");
    let socket = UnixListener::bind(node.socket()).expect("nobody has it");
    fs::set_permissions(node.socket(), fs::Permissions::from_mode(0o600)).expect("is ours");
    let inode = || fs::symlink_metadata(node.socket()).map(|found| (found.ino(), found.mode() & 0o777)).ok();
    let (ours, _) = inode().expect("is there");
    node.start_with(&socket);
    node.wait_ready();
    assert_eq!(inode(), Some((ours, 0o666)), "the same one, open to others as by the configuration");
    // No program that the agent starts gets it.
    let flags = fs::read_to_string(format!("/proc/{}/fdinfo/3", node.pid())).expect("has a descriptor 3");
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).expect("has flags").trim();
    assert_ne!(u32::from_str_radix(flags, 8).expect("is octal") & 0o2_000_000, 0, "closed at exec: {flags}");

    for _ in 0..2 {
        node.stop();
        assert_eq!(inode(), Some((ours, 0o666)), "it stays");
        let mut waits = node.begin(&["status", "--json"]);
        stays("the command waits", Duration::from_secs(2), || match waits.try_wait() {
            Ok(None) => Ok(()),
            ended => Err(format!("{ended:?}")),
        });
        node.start_with(&socket);
        let status = wait_until("it is answered by the next agent", SOON, || {
            waits.try_wait().expect("our own child").ok_or_else(|| "it waits".to_owned())
        });
        assert!(status.success(), "{status}");
    }

    // One that is somewhere else than the configuration has it.
    node.stop();
    let elsewhere = lab.dir().join("elsewhere.sock");
    node.start_with(&UnixListener::bind(&elsewhere).expect("nobody has it"));
    wait_until("the agent says what is wrong", SOON, || {
        if node.log().contains("ListenStream=") { Ok(()) } else { Err(node.log()) }
    });
}
