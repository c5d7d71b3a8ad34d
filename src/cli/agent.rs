//! `lanmesh agent`: the configuration, the log, and then the agent itself.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::CliError;
use crate::agent::Startup;
use crate::api::passed_on;
use crate::cluster::Protocols;
use crate::config::{Config, Flags, LogFormat, log_filter};
use crate::logs::{Filter, Journal, Limited};
use crate::model::Means;
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
    /// Speak these versions of the cluster's protocol, such as 2-3, as another release would
    #[arg(long, hide = true, env = "LANMESH_PROTOCOLS", value_name = "RANGE")]
    protocols: Option<Protocols>,
    /// Publish facts of a kind that no release knows, with this number
    #[arg(long, hide = true, env = "LANMESH_UNKNOWN_KIND", value_name = "N")]
    unknown_kind: Option<u16>,
    /// Do as on a kernel that lacks these
    #[arg(long, value_delimiter = ',', hide = true, env = "LANMESH_WITHOUT", value_name = "WHAT")]
    without: Vec<Means>,
}

pub(super) fn run(args: Args, socket: Option<PathBuf>) -> Result<(), CliError> {
    let Args { config, data_dir, run_dir, protocols, unknown_kind, without } = args;
    let flags = Flags { config, data_dir, run_dir, socket, protocols, unknown_kind, without };
    let config = Config::load(&flags)?;
    let log = start_log(&config);
    // Both before there is a second thread.
    let socket = passed_on()
        .map_err(|source| CliError::Io { what: "cannot take what was passed on".to_owned(), source })?;
    privileges::settle(config.write_group)?;
    if let Some(lacking) = privileges::lacking() {
        tracing::warn!("this agent lacks {lacking}: what needs it fails");
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { what: "cannot start".to_owned(), source })?
        .block_on(crate::agent::run(Startup { config, flags, log, socket }))?;
    Ok(())
}

/// Begins to write the log, as the configuration says; gives the way to change that.
pub(super) fn start_log(config: &Config) -> Filter {
    // The configuration was checked; RUST_LOG goes before it only if it is good as well.
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().and_then(|text| log_filter(&text).ok());
    let overruled = from_environment.is_some();
    let (filter, way) = Filter::layer(from_environment.unwrap_or_else(|| EnvFilter::new(&config.log)));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match (config.log_format, Journal::at_standard_error()) {
        (LogFormat::Text, Some(journal)) => journal.boxed(),
        (LogFormat::Text, None) => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        (LogFormat::Json, _) => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).with(Limited).init();
    if overruled { way.fixed() } else { way }
}
