//! `lanmesh wireguard-userspace`: a WireGuard device in a process, which the agent starts and ends.

use std::io;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::CliError;
use crate::agent;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the device is called
    device: String,
    /// Where to listen for what to do
    #[arg(long, value_name = "PATH")]
    at: PathBuf,
    /// The network namespace that the device is made in
    #[arg(long, value_name = "PATH")]
    netns: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    // What the agent logs says enough of it; this is for what goes wrong.
    let filter = EnvFilter::new("warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    agent::serve_wireguard(&args.device, &args.at, &args.netns)?;
    Ok(())
}
