//! `lanmesh agent`: the configuration, the log, and then the agent itself.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::CliError;
use crate::config::{Config, Flags, LogFormat};
use crate::privileges;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A TOML file; flags go before what it says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the state is kept [default: /var/lib/lanmesh]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the socket and the networks' namespaces are [default: /run/lanmesh]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Do as on a kernel that lacks these
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        hide = true,
        env = "LANMESH_WITHOUT",
        value_name = "WHAT"
    )]
    without: Vec<WithoutArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WithoutArg {
    /// Groups in VXLAN devices (kernel 6.4)
    VxlanMdb,
    /// Filters at egress (kernel 5.16)
    EgressFilter,
    /// Rules at ingress that keep endpoints to their addresses
    PortGuard,
    /// Rules on bridges that keep an endpoint's queries to a rate
    QueryLimit,
    /// Rules at input that keep strangers on the underlay out of plain networks
    UnderlayGuard,
    /// WireGuard in the kernel
    Wireguard,
}

pub(super) fn run(args: Args, socket: Option<PathBuf>) -> Result<(), CliError> {
    let Args { config, data_dir, run_dir, without } = args;
    let config = Config::load(&Flags {
        config,
        data_dir,
        run_dir,
        socket,
        without_vxlan_mdb: without.contains(&WithoutArg::VxlanMdb),
        without_egress_filter: without.contains(&WithoutArg::EgressFilter),
        without_port_guard: without.contains(&WithoutArg::PortGuard),
        without_query_limit: without.contains(&WithoutArg::QueryLimit),
        without_underlay_guard: without.contains(&WithoutArg::UnderlayGuard),
        without_wireguard: without.contains(&WithoutArg::Wireguard),
    })?;
    start_log(&config);
    // Before there is a second thread.
    privileges::settle(config.write_group)?;
    if let Some(lacking) = privileges::lacking() {
        tracing::warn!("this agent lacks {lacking}: what needs it fails");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { what: "cannot start".to_owned(), source })?
        .block_on(crate::agent::run(config))?;
    Ok(())
}

fn start_log(config: &Config) {
    // The configuration was checked; RUST_LOG goes before it only if it is good as well.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&config.log));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
