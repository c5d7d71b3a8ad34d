//! What a node lacks for Docker to drive it.

use std::path::Path;

use lanmesh_docker::engine::{Info, Network};
use lanmesh_docker::vip;
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
    let mut items = vec![
        item("the agent is in a cluster", cluster),
        item("Docker answers", version),
        item("the plugin is there", plugin(&plugins, in_swarm)),
        item(
            "networks of Docker's that are lanmesh's",
            Ok(if names.is_empty() { "none yet".to_owned() } else { names.join(", ") }),
        ),
    ];
    if info.is_ok_and(|info| info.swarm.control_available) {
        items.push(item("virtual addresses of the swarm's services", vips(agent, &engine, &networks).await));
    }
    items
}

/// Whether those that are to be real are.
async fn vips(agent: &Client, engine: &Engine, networks: &[Network]) -> Result<String, (String, String)> {
    let no_answer = |error: String| ("no answer".to_owned(), error);
    let services = engine.services().await.map_err(|error| no_answer(error.to_string()))?;
    let there = agent.service_addresses(None).await.map_err(|error| no_answer(error.to_string()))?;
    let ours = super::driver::networks_of_ours(networks);
    let wanted = vip::wanted(&services, |id| ours.get(id));
    let there = super::driver::addresses_of(&there);
    let real = |(key, address): &(&vip::Key, &std::net::IpAddr)| {
        there.get(*key).is_some_and(|at| at.contains(address))
    };
    let (real, others): (Vec<_>, Vec<_>) = wanted.addresses.iter().partition(real);
    let first = others
        .first()
        .map(|((network, service), address)| format!("{address} of {service} in {network} is not"));
    let first =
        first.or_else(|| wanted.refused.keys().next().map(|service| format!("that of {service} is not")));
    match first {
        None if real.is_empty() => Ok("none yet".to_owned()),
        None => Ok(format!("{} real", real.len())),
        Some(first) => {
            let left = vip::plan(&wanted.addresses, &vip::Addresses::new(), &there).left;
            let todo = left.into_values().chain(wanted.refused.into_values()).next().unwrap_or_else(|| {
                "wait some seconds; if that does not help, the plugin's log on the manager that leads says why".to_owned()
            });
            Err((format!("{} real, {first}", real.len()), todo))
        }
    }
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
