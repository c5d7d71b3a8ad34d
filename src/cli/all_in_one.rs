//! Docker's plugin with the agent in it, for machines on which only Docker may install things.
//!
//! Owns: how the two start together, and how such a node gets into its cluster: nobody types `lanmesh join` there. Does not own
//! either of the two.

use std::path::PathBuf;
use std::time::Duration;

use lanmesh_docker::engine::Info;

use super::CliError;
use crate::agent::Startup;
use crate::api::address::{AdvertiseAddr, ManagerAddr};
use crate::api::client::Client;
use crate::api::types::{InitRequest, JoinRequest};
use crate::config::{Config, Flags};
use crate::docker::{self, Engine, Settings};
use crate::model::NodeName;
use crate::privileges;

/// How long it rests before it tries again to get into its cluster.
const REST: Duration = Duration::from_secs(2);
/// Instead of managers: make a cluster.
const NEW: &str = "new";

/// What `docker plugin set` says of the node. Docker gives what is not set as empty.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the agent keeps its state
    #[arg(long, env = "STATE", value_name = "DIR", default_value = "/var/lib/lanmesh")]
    data_dir: PathBuf,
    /// The managers to join, `HOST[:PORT]` and commas; or `new`, to make a cluster
    #[arg(long, env = "JOIN", value_name = "HOST[:PORT],…", default_value = "", hide_default_value = true)]
    join: String,
    /// The token that lets it join
    #[arg(long, env = "TOKEN", hide_env_values = true, default_value = "", hide_default_value = true)]
    token: String,
    /// Where the other nodes reach this one
    #[arg(long, env = "ADVERTISE", value_name = "IP[:PORT]", default_value = "", hide_default_value = true)]
    advertise: String,
    /// This node's name [default: what Docker calls the machine]
    #[arg(long, env = "NAME", default_value = "", hide_default_value = true)]
    name: String,
}

/// How the node gets into a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// Somebody else sees to it.
    Wait,
    /// It makes one.
    Make(AdvertiseAddr),
    /// It joins one.
    Join { managers: Vec<ManagerAddr>, token: String, advertise: Option<AdvertiseAddr> },
}

/// The value of a setting that may be empty.
fn given<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &str,
    text: &str,
) -> Result<Option<T>, CliError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| CliError::Usage(format!("{name}={text}: {error}")))
}

impl Args {
    fn entry(&self) -> Result<Entry, CliError> {
        let advertise = given("ADVERTISE", &self.advertise)?;
        match (self.join.as_str(), advertise, self.token.as_str()) {
            ("", _, "") => Ok(Entry::Wait),
            ("", ..) => Err(CliError::Usage(
                "there is a TOKEN and nobody to show it to: set JOIN to where a manager listens, HOST[:PORT]".to_owned(),
            )),
            (NEW, Some(advertise), _) => Ok(Entry::Make(advertise)),
            (NEW, None, _) => Err(CliError::Usage(
                "a new cluster needs to know where other nodes reach this one: set ADVERTISE to its address".to_owned(),
            )),
            (_, _, "") => Err(CliError::Usage(
                "nobody is let in without a token: set TOKEN to what `lanmesh token show` prints on a node of the cluster"
                    .to_owned(),
            )),
            (managers, advertise, token) => {
                let managers = managers.split(',').map(str::trim).filter(|manager| !manager.is_empty());
                let managers = managers.map(|manager| {
                    manager.parse().map_err(|error| CliError::Usage(format!("JOIN={manager}: {error}")))
                });
                let managers = managers.collect::<Result<_, _>>()?;
                Ok(Entry::Join { managers, token: token.to_owned(), advertise })
            }
        }
    }
}

/// Is agent and plugin until both are told to stop.
pub(super) fn run(args: &Args, settings: Settings) -> Result<(), CliError> {
    let (entry, name) = (args.entry()?, given::<NodeName>("NAME", &args.name)?);
    let flags = Flags {
        data_dir: Some(args.data_dir.clone()),
        run_dir: settings.agent.parent().map(PathBuf::from),
        socket: Some(settings.agent.clone()),
        ..Flags::default()
    };
    let config = Config::load(&flags)?;
    let log = super::agent::start_log(&config);
    if let Err(error) = privileges::open_settings() {
        tracing::warn!("the kernel's network settings stay as Docker has closed them: {error}");
    }
    // Before there is a second thread.
    privileges::settle(config.write_group)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| CliError::Io { what: "cannot start".to_owned(), source })?;
    let what = format!("cannot answer Docker at {}", settings.listen.display());
    let newcomer = Newcomer {
        client: Client::new(settings.agent.clone()),
        engine: Engine::new(settings.engine.clone()),
        entry,
        name,
    };
    runtime.block_on(async {
        let entering = tokio::spawn(newcomer.enter());
        let agent = async {
            crate::agent::run(Startup { config, flags, log, socket: None }).await.map_err(CliError::from)
        };
        let plugin = async { docker::run(settings).await.map_err(|source| CliError::Io { what, source }) };
        let ended = tokio::try_join!(agent, plugin);
        entering.abort();
        ended.map(drop)
    })
}

/// A node that may not be in its cluster yet.
struct Newcomer {
    client: Client,
    engine: Engine,
    entry: Entry,
    name: Option<NodeName>,
}

impl Newcomer {
    /// Tries until it is in a cluster. Each reason why it is not is said once.
    async fn enter(self) {
        if self.entry == Entry::Wait {
            return;
        }
        let mut told = String::new();
        loop {
            match self.attempt().await {
                Ok(()) => return,
                Err(why) if why == told => {}
                Err(why) => {
                    tracing::warn!("not in a cluster yet: {why}");
                    told = why;
                }
            }
            tokio::time::sleep(REST).await;
        }
    }

    async fn attempt(&self) -> Result<(), String> {
        let status = self.client.status().await.map_err(|error| error.to_string())?;
        if let Some(cluster) = status.cluster {
            tracing::info!(node = %cluster.name, index = %cluster.index, "in a cluster");
            return Ok(());
        }
        let name = Some(self.name().await?);
        match &self.entry {
            Entry::Wait => Ok(()),
            Entry::Make(advertise) => {
                let made = self.client.init(&InitRequest { advertise: Some(*advertise), name }).await;
                made.map(drop).map_err(|error| error.to_string())
            }
            Entry::Join { managers, token, advertise } => {
                let mut last = "JOIN names no manager".to_owned();
                for manager in managers {
                    let request = JoinRequest {
                        token: token.clone(),
                        manager: manager.clone(),
                        advertise: *advertise,
                        name: name.clone(),
                        index: None,
                    };
                    match self.client.join(&request).await {
                        Ok(_) => return Ok(()),
                        Err(error) => last = error.to_string(),
                    }
                }
                Err(last)
            }
        }
    }

    /// As it was set, or as Docker calls the machine: the plugin's own host name is one that Docker made up.
    async fn name(&self) -> Result<NodeName, String> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let info = self.engine.get::<Info>("/info").await.map_err(|error| error.to_string())?;
        let host = info.name.split('.').next().unwrap_or_default();
        host.parse().map_err(|error| format!("the machine's name {host:?} does not do, so set NAME: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(join: &str, token: &str, advertise: &str) -> Args {
        Args {
            data_dir: PathBuf::new(),
            join: join.to_owned(),
            token: token.to_owned(),
            advertise: advertise.to_owned(),
            name: String::new(),
        }
    }

    #[test]
    fn a_node_waits_makes_a_cluster_or_joins_one() {
        assert_eq!(args("", "", "192.0.2.1").entry().unwrap(), Entry::Wait);
        let made = args(NEW, "", "192.0.2.1").entry().unwrap();
        assert_eq!(made, Entry::Make("192.0.2.1".parse().unwrap()));
        let joins = args("192.0.2.1, node:7000,", "LMT1-x", "").entry().unwrap();
        let managers = vec!["192.0.2.1".parse().unwrap(), "node:7000".parse().unwrap()];
        assert_eq!(joins, Entry::Join { managers, token: "LMT1-x".to_owned(), advertise: None });
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_setting_that_is_wrong() {
        for (join, token, advertise, tells) in [
            ("", "LMT1-x", "", "JOIN"),
            (NEW, "", "", "ADVERTISE"),
            ("192.0.2.1", "", "", "TOKEN"),
            ("192.0.2.1:x", "LMT1-x", "", "JOIN=192.0.2.1:x"),
            ("192.0.2.1", "LMT1-x", "here", "ADVERTISE=here"),
        ] {
            let error = args(join, token, advertise).entry().unwrap_err().to_string();
            assert!(error.contains(tells), "{error}");
        }
    }
}
