//! `lanmesh network exec`: become a command inside a network's namespace.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::{CliError, Context, block_on};
use crate::errno::words;
use crate::model::NetworkName;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The network
    network: NetworkName,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Returns only when it fails: otherwise the process has become the command, and its status is the command's.
pub(super) fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let network = block_on(async { Ok(context.client.network(&args.network).await?) })?;
    let Some(netns) = network.netns else {
        return Err(CliError::Other(format!(
            "this node has no part in {}: attach an endpoint to it here first",
            args.network
        )));
    };
    become_in(&netns, &args.command)
}

/// Enters the namespace and becomes the command.
fn become_in(netns: &Path, command: &[OsString]) -> Result<(), CliError> {
    let file = File::open(netns).map_err(|source| CliError::Io {
        what: format!("cannot open {} (run it as root, where the agent runs)", netns.display()),
        source,
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        let hint = match errno {
            Errno::EPERM => "run it as root",
            Errno::EINVAL => "it is no namespace any more: `lanmesh status` tells how the agent is",
            _ => "see setns(2)",
        };
        CliError::Other(format!("cannot enter {}: {}; {hint}", netns.display(), words(errno)))
    })?;
    let Some((program, rest)) = command.split_first() else {
        return Err(CliError::Other("no command was given".to_owned()));
    };
    let source = Command::new(program).args(rest).exec();
    Err(CliError::Io { what: format!("cannot run {}", program.display()), source })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Set for the process that becomes the command: the namespace.
    const NETNS: &str = "LANMESH_TEST_NETNS";
    const THIS_TEST: &str =
        "cli::network_exec::tests::the_command_runs_in_the_namespace_and_its_status_is_ours";

    #[test]
    fn the_command_runs_in_the_namespace_and_its_status_is_ours() {
        if let Some(netns) = std::env::var_os(NETNS) {
            let command = ["sh", "-c", "readlink /proc/self/ns/net; exit 7"].map(OsString::from);
            let error = become_in(Path::new(&netns), &command).expect_err("comes back only to fail");
            panic!("{error}");
        }
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP: only root can make a namespace");
            return;
        }
        // A namespace that lives as long as the thread that made it.
        let (made, wait) = (mpsc::channel(), mpsc::channel::<()>());
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("makes a namespace");
            let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
            made.0.send(path).expect("is awaited");
            let _ = wait.1.recv();
        });
        let path = made.1.recv().expect("was made");
        let wanted = std::fs::read_link(&path).expect("is a namespace");
        assert_ne!(wanted, std::fs::read_link("/proc/self/ns/net").expect("is a namespace"));
        let mut child = Command::new("/proc/self/exe");
        let out = child.args(["--exact", "--nocapture", THIS_TEST]).env(NETNS, &path).output().expect("runs");
        drop(wait.0);
        thread.join().expect("ends");
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(text.contains(&wanted.display().to_string()), "{text}");
        assert_eq!(out.status.code(), Some(7));
    }

    #[test]
    fn a_path_that_is_no_namespace_is_an_error_that_names_it() {
        let error = become_in(Path::new("/dev/null"), &["true".into()]).expect_err("is no namespace");
        assert!(error.to_string().contains("/dev/null"), "{error}");
        let error = become_in(Path::new("/absent"), &["true".into()]).expect_err("is not there");
        assert!(error.to_string().contains("/absent"), "{error}");
    }
}
