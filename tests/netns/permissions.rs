//! Who may do what at the socket.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Lab, lab};

/// A copy of the command where everybody can reach it: a home directory may be closed.
fn reachable_command(lab: &Lab) -> PathBuf {
    let copy = lab.dir().join("lanmesh");
    std::fs::copy(env!("CARGO_BIN_EXE_lanmesh"), &copy).expect("our own directory has room");
    copy
}

#[test]
fn a_user_without_rights_may_read_and_is_told_why_not_to_write() {
    let lab = lab!(1).cluster();
    lab.network("net", &["--subnet", "10.94.0.0/24"]);
    let lanmesh = reachable_command(&lab);
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs", "--"]);
        command.arg(&lanmesh).env("LANMESH_SOCKET", lab.node(1).socket()).args(arguments);
        let output = command.output().expect("the command can be run");
        let [answer, error] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code(), error, answer)
    };
    for read in [&["status"][..], &["node", "ls"], &["network", "ls"], &["endpoint", "ls"]] {
        let (status, error, _) = as_nobody(read);
        assert_eq!(status, Some(0), "{read:?}: {error}");
    }
    // Who knows the number of a plain network, and can send from a node's address, can write into it.
    let number = |json: &str| {
        let networks: serde_json::Value = serde_json::from_str(json).expect("it is JSON");
        networks[0]["vni"].as_u64()
    };
    let all = lab.node(1).lanmesh(["network", "ls", "--json"]).success();
    let vni = number(&all).expect("whoever may write sees it").to_string();
    for read in [&["network", "ls", "--json"][..], &["network", "ls"], &["network", "inspect", "net"]] {
        let (status, error, answer) = as_nobody(read);
        assert_eq!(status, Some(0), "{read:?}: {error}");
        assert!(answer.contains("net") && !answer.contains(&vni), "{read:?}: {answer}");
    }
    for write in [
        &["network", "create", "mine", "--subnet", "10.95.0.0/24"][..],
        &["network", "rm", "net"],
        &["attach", "net", "--name", "a", "--host"],
        &["leave"],
        // Whoever has the token can make a node that may do everything.
        &["token", "show"],
        &["token", "rotate"],
        // It names the numbers of networks.
        &["plan"],
    ] {
        let (status, error, _) = as_nobody(write);
        assert_eq!(status, Some(1), "{write:?}: {error}");
        assert!(error.contains("65534") && error.contains("root"), "says who, and who may: {error}");
        assert_eq!(error.trim().lines().count(), 1, "{error}");
    }
    let networks = lab.node(1).lanmesh(["network", "ls", "--json"]).json();
    assert_eq!(networks.as_array().map(Vec::len), Some(1), "{networks}");
    assert!(lab.node(1).runs());
}
