//! `lanmesh network exec`: become a command inside a network's namespace.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::{CliError, Context, block_on};
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
    let file = File::open(&netns).map_err(|source| CliError::Io {
        what: format!("cannot open {} (run it as root, where the agent runs)", netns.display()),
        source,
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        let hint = match errno {
            Errno::EPERM => "run it as root",
            Errno::EINVAL => "it is no namespace any more: `lanmesh status` tells how the agent is",
            _ => "see setns(2)",
        };
        CliError::Other(format!("cannot enter {}: {errno}; {hint}", netns.display()))
    })?;
    let Some((program, rest)) = args.command.split_first() else {
        return Err(CliError::Other("no command was given".to_owned()));
    };
    let source = Command::new(program).args(rest).exec();
    Err(CliError::Io { what: format!("cannot run {}", program.display()), source })
}
