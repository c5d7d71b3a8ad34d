//! `lanmesh docker`: what a node lacks for Docker; and Docker's plugin itself, which is this binary under another name.

use std::path::PathBuf;

use clap::Parser;

use super::{CliError, Context, all_in_one, block_on, output};
use crate::docker::{self, Scope, Settings};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show what this node lacks for Docker to drive it
    Setup(SetupArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct SetupArgs {
    /// Docker's own socket
    #[arg(long, value_name = "PATH", default_value = "/run/docker.sock")]
    docker: PathBuf,
}

pub(super) async fn run(context: &Context, command: &Command) -> Result<(), CliError> {
    let Command::Setup(args) = command;
    let items = docker::look(&context.client, &args.docker).await;
    if context.json {
        output::json(&items)?;
    } else {
        let rows = items.iter().map(|item| {
            [
                item.what.to_owned(),
                if item.ok { "ok" } else { "missing" }.to_owned(),
                item.found.clone(),
                item.todo.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        });
        output::print(&output::table(["WHAT", "STATE", "FOUND", "TO DO"], rows))?;
    }
    match items.iter().find(|item| !item.ok) {
        None => Ok(()),
        Some(item) => Err(CliError::Other(format!(
            "{} is missing: {}",
            item.what,
            item.todo.as_deref().unwrap_or("see above")
        ))),
    }
}

/// Where Docker's networks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ScopeArg {
    /// In the swarm
    Global,
    /// On this node, without a swarm
    Local,
}

/// Docker's plugin: it speaks Docker's plugin protocol, and has the agent do what is asked.
#[derive(Debug, Parser)]
#[command(name = docker::PROGRAM, version)]
pub struct PluginCli {
    /// Where Docker asks
    #[arg(long, env = "LISTEN", default_value = "/run/docker/plugins/lanmesh.sock")]
    listen: PathBuf,
    /// The agent's socket
    #[arg(long, env = "AGENT", default_value = "/run/lanmesh/lanmesh.sock")]
    agent: PathBuf,
    /// Docker's own socket
    #[arg(long, env = "DOCKER", default_value = "/run/docker.sock")]
    docker: PathBuf,
    /// Whether Docker keeps networks in the swarm or on this node
    #[arg(long, env = "SCOPE", value_enum, default_value_t = ScopeArg::Global)]
    scope: ScopeArg,
    /// Be the agent of this node as well
    #[arg(long)]
    all_in_one: bool,
    #[command(flatten)]
    whole: all_in_one::Args,
}

/// Is Docker's plugin until it is told to stop.
///
/// # Errors
/// Its socket cannot be made.
pub fn run_plugin(cli: PluginCli) -> Result<(), CliError> {
    let scope = match cli.scope {
        ScopeArg::Global => Scope::Global,
        ScopeArg::Local => Scope::Local,
    };
    let settings = Settings { listen: cli.listen.clone(), agent: cli.agent, engine: cli.docker, scope };
    if cli.all_in_one {
        return all_in_one::run(&cli.whole, settings);
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .without_time()
        .with_writer(std::io::stderr)
        .init();
    let what = format!("cannot answer Docker at {}", cli.listen.display());
    block_on(async { docker::run(settings).await.map_err(|source| CliError::Io { what, source }) })
}
