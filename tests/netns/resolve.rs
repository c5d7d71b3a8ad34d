//! The machine's own resolver, which is told of the networks that the machine is in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::harness::{Node, lab};

/// `lanmesh resolve` as on the node's machine, with a directory of programs of its own.
fn resolve(node: &Node, programs: &str, more: &[&str]) -> Output {
    // By env: what is started at once would be looked for there too.
    let mut command = node.netns().command("env");
    command.arg(format!("PATH={programs}")).arg(env!("CARGO_BIN_EXE_lanmesh"));
    command.env("LANMESH_SOCKET", node.socket()).arg("resolve").args(more);
    command.output().expect("the command can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_resolver_of_a_machine_is_told_of_the_networks_that_it_is_in_and_of_no_others() {
    let lab = lab!(1).cluster();
    let node = lab.node(1);
    for (network, subnet) in [("red", "10.95.0.0/24"), ("blue", "10.96.0.0/24"), ("other", "10.97.0.0/24")] {
        lab.network(network, &["--subnet", subnet]);
    }
    let programs = lab.dir().join("programs");
    fs::create_dir(&programs).expect("is new");
    let path = programs.to_str().expect("is text");
    let none = resolve(node, path, &[]);
    assert!(none.status.success() && text(&none.stdout).contains("in no network"), "{none:?}");
    node.lanmesh(["attach", "red", "--name", "n1", "--host"]).success();
    node.lanmesh(["attach", "blue", "--name", "n1", "--host", "--ifname", "azure"]).success();

    // A machine without resolved is told what to do instead.
    let absent = resolve(node, path, &["red"]);
    let said = text(&absent.stderr);
    assert!(absent.status.code() == Some(1) && said.contains("no systemd-resolved"), "{absent:?}");
    assert!(said.contains("10.95.0.1") && said.contains("red.lanmesh"), "{said}");

    // Programs in their places, which note what they are asked.
    let noted = lab.dir().join("noted");
    let stand_in = |name: &str, script: &str| {
        let program = programs.join(name);
        fs::write(&program, format!("#!/bin/sh\n{script} >>{}\n", noted.display())).expect("can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("is ours");
    };
    // openresolv's is asked where there is no resolved.
    stand_in("resolvconf", "{ echo \"$@\"; while read -r line; do echo \"$line\"; done; }");
    let asked = |more: &[&str]| {
        let _ = fs::remove_file(&noted);
        let output = resolve(node, path, more);
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(&noted).unwrap_or_default()
    };
    assert_eq!(asked(&["red"]), "-p -a lm-red\nnameserver 10.95.0.1\ndomain red.lanmesh\n");
    assert_eq!(asked(&["red", "--undo"]), "-f -d lm-red\n");
    stand_in("resolvectl", "[ \"$2\" != bad ] || { echo no such link >&2; exit 1; }\necho \"$@\"");
    let blue = "dns azure 10.96.0.1\ndomain azure blue.lanmesh\ndefault-route azure no\n";
    let red = "dns lm-red 10.95.0.1\ndomain lm-red red.lanmesh\ndefault-route lm-red no\n";
    assert_eq!(asked(&[]), format!("{blue}{red}"));
    assert_eq!(asked(&["red"]), red);
    assert_eq!(asked(&["red", "--undo"]), "revert lm-red\n");
    let refused = resolve(node, path, &["other"]);
    assert!(
        refused.status.code() == Some(1) && text(&refused.stderr).contains("not in other"),
        "{refused:?}"
    );

    // What it says is passed on.
    node.lanmesh(["detach", "blue", "n1"]).success();
    node.lanmesh(["attach", "blue", "--name", "n1", "--host", "--ifname", "bad"]).success();
    let failed = resolve(node, path, &["blue"]);
    assert!(text(&failed.stderr).contains("resolvectl dns bad 10.96.0.1 fails: no such link"), "{failed:?}");
}
