//! What a test needs of the machine, and what happens where it is not there.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The commands that every test here uses.
const COMMANDS: [&str; 6] = ["ip", "bridge", "nsenter", "unshare", "setpriv", "ping"];

/// The directory of the agents' logs, one directory for each test in it.
pub fn logs() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("netns-logs")
}

/// Whether the test cannot run here. Says so, and writes it to `netns-logs/skipped`, because the test
/// framework knows no skipped tests and counts them as passed; `scripts/test` sets the count right. Under CI
/// (the variable is set) a missing thing fails the test.
pub fn missing(test: &str, commands: &[&str]) -> bool {
    static COMMON: OnceLock<Option<String>> = OnceLock::new();
    let lacking = |command: &&str| !has_command(command);
    let why = COMMON.get_or_init(common).clone().or_else(|| {
        commands.iter().copied().find(|command| lacking(command)).map(|command| format!("no {command}"))
    });
    let Some(why) = why else { return false };
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run here: {why} (and CI must have it)");
    // Past the capture of the test framework, which would hide it.
    let line = format!("SKIP {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    let written = std::fs::create_dir_all(logs())
        .and_then(|()| OpenOptions::new().create(true).append(true).open(logs().join("skipped")))
        .and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the list of skipped tests can be written");
    true
}

fn common() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    if let Some(command) = COMMANDS.iter().find(|command| !has_command(command)) {
        return Some(format!("no {command} command"));
    }
    // In a namespace that ends with the command.
    let vxlan = Command::new("unshare")
        .args(["--net", "ip", "link", "add", "type", "vxlan", "id", "8388609", "dstport", "4789"])
        .stderr(Stdio::null())
        .status();
    match vxlan {
        Ok(status) if status.success() => None,
        _ => Some("this kernel makes no VXLAN device (module vxlan), or no network namespace".to_owned()),
    }
}

/// Whether a command is there; or a library, `lib….so.N`; or a module of Python, `python3-NAME`.
fn has_command(command: &str) -> bool {
    let succeeds = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    if command.starts_with("lib") {
        return succeeds("sh", &["-c", "ldconfig -p | grep -qF \"$0\"", command]);
    }
    if let Some(module) = command.strip_prefix("python3-") {
        return succeeds("/usr/bin/python3", &["-I", "-c", &format!("import {module}")]);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(command).is_file())
}
