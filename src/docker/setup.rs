//! What a node lacks for Docker to drive it.

use std::path::Path;

use lanmesh_docker::engine::Network;
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use crate::api::client::Client;

/// The name that `scripts/docker-plugin` gives the plugin, without its tag.
const PLUGIN: &str = "lanmesh";

/// One thing that has to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What.
    pub what: &'static str,
    /// Whether it is.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do where it is not.
    pub todo: Option<String>,
}

fn item(what: &'static str, looked: Result<String, (String, String)>) -> Item {
    match looked {
        Ok(found) => Item { what, ok: true, found, todo: None },
        Err((found, todo)) => Item { what, ok: false, found, todo: Some(todo) },
    }
}

/// A plugin in Docker's list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Plugin {
    name: String,
    enabled: bool,
    settings: PluginSettings,
}

/// How it is set.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PluginSettings {
    env: Option<Vec<String>>,
}

/// What `GET /info` says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Info {
    server_version: String,
    swarm: Swarm,
}

/// Of the swarm.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Swarm {
    local_node_state: String,
}

/// Everything that has to be there, in the order in which to see to it.
pub async fn look(agent: &Client, docker: &Path) -> Vec<Item> {
    let engine = Engine::new(docker.to_owned());
    let cluster = match agent.status().await {
        Ok(status) => match status.cluster {
            Some(cluster) => Ok(format!("{}, index {}", cluster.name, cluster.index)),
            None => Err((
                "in no cluster".to_owned(),
                "run `lanmesh init`, or `lanmesh join` with the token".to_owned(),
            )),
        },
        Err(error) => Err(("no answer".to_owned(), error.to_string())),
    };
    let info = engine.get::<Info>("/info").await;
    let version = match &info {
        Ok(info) => docker_version(&info.server_version),
        Err(error) => Err(("no answer".to_owned(), error.to_string())),
    };
    let in_swarm = info.as_ref().is_ok_and(|info| info.swarm.local_node_state == "active");
    let plugins = engine.get::<Vec<Plugin>>("/plugins").await.unwrap_or_default();
    let networks = engine.networks().await.unwrap_or_default();
    let ours = networks.iter().filter(|network| super::driver::entry_of(network).is_some());
    let names: Vec<&str> = ours.map(|network: &Network| network.name.as_str()).collect();
    vec![
        item("the agent is in a cluster", cluster),
        item("Docker answers", version),
        item("the plugin is there", plugin(&plugins, in_swarm)),
        item(
            "networks of Docker's that are lanmesh's",
            Ok(if names.is_empty() { "none yet".to_owned() } else { names.join(", ") }),
        ),
    ]
}

/// Some releases cannot have plugins that drive networks.
fn docker_version(version: &str) -> Result<String, (String, String)> {
    if version.starts_with("29.0.") {
        return Err((version.to_owned(), "Docker 29.0 fails with network plugins: upgrade it".to_owned()));
    }
    Ok(version.to_owned())
}

fn plugin(plugins: &[Plugin], in_swarm: bool) -> Result<String, (String, String)> {
    let found = plugins.iter().find(|plugin| plugin.name.split(':').next() == Some(PLUGIN));
    let Some(plugin) = found else {
        return Err(("none".to_owned(), "run scripts/docker-plugin on this node".to_owned()));
    };
    if !plugin.enabled {
        return Err((
            format!("{}, not enabled", plugin.name),
            format!("run `docker plugin enable {}`", plugin.name),
        ));
    }
    let scope =
        plugin.settings.env.iter().flatten().find_map(|set| set.strip_prefix("SCOPE=")).unwrap_or("global");
    match (scope, in_swarm) {
        ("local", true) => Err((
            format!("{}, for a node without a swarm", plugin.name),
            format!(
                "run `docker plugin disable {0}`, `docker plugin set {0} SCOPE=global` and `docker plugin enable {0}`",
                plugin.name
            ),
        )),
        ("global", false) => Err((
            format!("{}, for a swarm", plugin.name),
            format!(
                "run `docker swarm join`, or without a swarm `docker plugin disable {0}`, `docker plugin set {0} SCOPE=local` \
                 and `docker plugin enable {0}`",
                plugin.name
            ),
        )),
        _ => Ok(format!("{}, enabled", plugin.name)),
    }
}
