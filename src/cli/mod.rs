//! The command line: each subcommand is a client of the socket and nothing more.
//!
//! Owns: flags, the text and tables that people read, exit codes. Does not own: anything an agent decides. The
//! commands that work without an agent are `ipam plan --subnet`, which computes, `agent` itself, the process that it
//! starts, and `cleanup`.

mod agent;
mod all_in_one;
mod attach;
mod capture;
mod cleanup;
mod cni;
mod desired;
mod detach;
mod discover;
mod docker;
mod doctor;
mod endpoint;
mod error;
mod events;
mod facts;
mod help;
mod init;
mod ipam;
mod join;
mod leave;
mod manager;
mod metrics;
mod multicast;
mod netavark;
mod network;
mod network_exec;
mod node;
mod options;
mod output;
mod plan;
mod programs;
mod reclaim;
mod reload;
mod resolve;
mod run;
mod secret;
mod service;
mod spec;
mod status;
#[cfg(test)]
mod tests;
mod token;
mod trace;
mod ui;
mod version;
mod wanted;
mod whois;
mod wireguard_userspace;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

pub use self::docker::{PluginCli, run_plugin};
pub use self::error::{CliError, ErrorReport};
pub use self::help::command;
pub use self::programs::{Program, run_cni, run_oci};
use crate::api::client::Client;
use crate::config::{DEFAULT_RUN_DIR, socket_in};

/// One LAN across the machines of a swarm.
#[derive(Debug, Parser)]
#[command(name = "lanmesh", version, about, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// The agent's socket [default: /run/lanmesh/lanmesh.sock]
    #[arg(long, global = true, env = "LANMESH_SOCKET", hide_env_values = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// How long the agent may take to answer, in seconds [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of this node
    Agent(agent::Args),
    /// Make a cluster with this node
    Init(init::Args),
    /// Join a cluster
    Join(join::Args),
    /// Leave the cluster
    Leave,
    /// Go on here as the node that stepped aside for a copy of itself, and make this machine its own
    Reclaim,
    /// Have the agent read its configuration again
    Reload,
    /// Show or replace the token that admits nodes
    #[command(subcommand)]
    Token(token::Command),
    /// Replace a manager that was lost, or the keys that it hands out
    #[command(subcommand)]
    Manager(manager::Command),
    /// List, inspect or shut out nodes
    #[command(subcommand)]
    Node(node::Command),
    /// Create, list, inspect or delete networks
    #[command(subcommand)]
    Network(network::Command),
    /// Attach a container, or this node, to a network
    Attach(attach::Args),
    /// Run a program as an endpoint of a network, in a network namespace of its own
    Run(run::Args),
    /// Detach an endpoint from a network
    Detach(detach::Args),
    /// List endpoints, or drain one
    #[command(subcommand)]
    Endpoint(endpoint::Command),
    /// Give services addresses, list or inspect them, or take their addresses away
    #[command(subcommand)]
    Service(service::Command),
    /// Say what an address, a MAC or a name is
    Whois(whois::Args),
    /// Show what stands in the way between two ends, hop by hop as the kernels of both nodes have it
    Trace(trace::Args),
    /// Write the frames of an endpoint or a network as pcap
    Capture(capture::Args),
    /// Show what this node carries for the cluster, by kind and writer
    Facts,
    /// List multicast groups and their members
    #[command(subcommand)]
    Multicast(multicast::Command),
    /// List the DNS-SD services of a network
    Discover(discover::Args),
    /// Compute addresses
    #[command(subcommand)]
    Ipam(ipam::Command),
    /// Show what the agent would change in the kernel now
    Plan,
    /// Get or put everything that this node is to have
    #[command(subcommand)]
    Desired(desired::Command),
    /// Show what this machine can do, and which way is taken instead
    Doctor,
    /// Show what this node lacks for Docker
    #[command(subcommand)]
    Docker(docker::Command),
    /// Let runtimes of containers use a network by CNI
    #[command(subcommand)]
    Cni(cni::Command),
    /// Let podman use networks by netavark
    #[command(subcommand)]
    Netavark(netavark::Command),
    /// Let this machine's own resolver ask the networks that the machine is in for their names
    Resolve(resolve::Args),
    /// Remove what former agents left in the kernel
    Cleanup(cleanup::Args),
    /// Show how the agent is
    Status(status::Args),
    /// Print what is counted, as Prometheus reads it
    Metrics,
    /// Show what happened
    Events(events::Args),
    /// Show what goes on in a browser: nodes, networks, ways, groups, services, events
    Ui(ui::Args),
    /// Show the versions of this command and of the agent
    Version,
    /// Be a WireGuard device: the agent runs this where the kernel has no WireGuard
    #[command(hide = true)]
    WireguardUserspace(wireguard_userspace::Args),
}

/// What every subcommand has at hand.
#[derive(Debug)]
struct Context {
    client: Client,
    json: bool,
}

impl Cli {
    /// Whether one JSON document is wanted.
    pub fn json(&self) -> bool {
        self.json
    }
}

/// Runs a command. An error is for one line on stderr and the exit status that it has.
pub fn run(cli: Cli) -> Result<(), CliError> {
    let command = match cli.command {
        Command::Agent(args) => return agent::run(args, cli.socket),
        Command::WireguardUserspace(args) => return wireguard_userspace::run(&args),
        Command::Cleanup(args) => return cleanup::run(&args, cli.json),
        Command::Join(ref args) if args.secret.is_shown() => {
            secret::hide();
            cli.command
        }
        command => command,
    };
    let socket = cli.socket.unwrap_or_else(|| socket_in(DEFAULT_RUN_DIR.as_ref()));
    let client = Client::new(socket);
    let client = match cli.timeout {
        Some(seconds) => client.patient(Duration::from_secs(seconds.into())),
        None => client,
    };
    let context = Context { client, json: cli.json };
    match command {
        Command::Network(network::Command::Exec(args)) => network_exec::run(&context, &args),
        Command::Run(args) => run::run(&context, args),
        command => block_on(dispatch(&context, command)),
    }
}

/// Runs `future` on this thread.
fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { what: "cannot start".to_owned(), source })?
        .block_on(future)
}

async fn dispatch(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Init(args) => init::run(context, args).await,
        Command::Join(args) => join::run(context, args).await,
        Command::Leave => leave::run(context).await,
        Command::Reclaim => reclaim::run(context).await,
        Command::Reload => reload::run(context).await,
        Command::Token(command) => token::run(context, &command).await,
        Command::Manager(command) => manager::run(context, &command).await,
        Command::Node(command) => node::run(context, &command).await,
        Command::Network(command) => network::run(context, command).await,
        Command::Attach(args) => attach::run(context, args).await,
        Command::Detach(args) => detach::run(context, &args).await,
        Command::Endpoint(command) => endpoint::run(context, &command).await,
        Command::Service(command) => service::run(context, command).await,
        Command::Whois(args) => whois::run(context, &args).await,
        Command::Trace(args) => trace::run(context, &args).await,
        Command::Capture(args) => capture::run(context, &args).await,
        Command::Facts => facts::run(context).await,
        Command::Multicast(command) => multicast::run(context, &command).await,
        Command::Discover(args) => discover::run(context, &args).await,
        Command::Ipam(ipam::Command::Plan(args)) => ipam::run(context, &args).await,
        Command::Plan => plan::run(context).await,
        Command::Desired(command) => desired::run(context, &command).await,
        Command::Doctor => doctor::run(context).await,
        Command::Docker(command) => docker::run(context, &command).await,
        Command::Cni(command) => cni::run(context, &command).await,
        Command::Netavark(command) => netavark::run(context, command).await,
        Command::Resolve(args) => resolve::run(context, &args).await,
        Command::Status(args) => status::run(context, &args).await,
        Command::Metrics => metrics::run(context).await,
        Command::Events(args) => events::run(context, &args).await,
        Command::Ui(args) => ui::run(context, &args).await,
        Command::Version => version::run(context).await,
        // Ran before the runtime was made.
        Command::Agent(_) | Command::Run(_) | Command::Cleanup(_) | Command::WireguardUserspace(_) => Ok(()),
    }
}
