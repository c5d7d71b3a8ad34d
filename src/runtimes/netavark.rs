//! The plugin of netavark: one call of podman, done and answered.

use std::path::{Path, PathBuf};

use lanmesh_docker::options::NetworkWish;
use lanmesh_runtimes::netavark::{Container, Network, info, status};
use serde_json::{Value, json};

use super::owned::{self, AttachError};
use crate::api::ErrorKind;
use crate::api::client::{Client, ClientError};
use crate::api::ranges::Ranges;
use crate::api::types::NetworkRequest;
use crate::model::NetworkName;

/// What podman asks.
#[derive(Debug, Clone)]
pub enum Netavark {
    /// A network is to be made.
    Create,
    /// A container gets its interface, in the namespace at this path.
    Setup(PathBuf),
    /// A container loses it.
    Teardown,
    /// Which version this is.
    Info,
}

/// Does what podman asks: what is to be printed, if anything, and whether it succeeded.
pub async fn answer_netavark(client: &Client, command: &Netavark, input: &[u8]) -> (Option<Value>, bool) {
    match answered(client, command, input).await {
        Ok(answer) => (answer, true),
        Err(error) => (Some(json!({ "error": error })), false),
    }
}

async fn answered(client: &Client, command: &Netavark, input: &[u8]) -> Result<Option<Value>, String> {
    let broken =
        |error: serde_json::Error| format!("what came on standard input cannot be understood: {error}");
    match command {
        Netavark::Info => Ok(Some(info(env!("CARGO_PKG_VERSION")))),
        Netavark::Create => {
            let whole: Value = serde_json::from_slice(input).map_err(broken)?;
            let network: Network = serde_json::from_value(whole.clone()).map_err(broken)?;
            create(client, &network).await?;
            Ok(Some(whole))
        }
        Netavark::Setup(netns) => {
            let container: Container = serde_json::from_slice(input).map_err(broken)?;
            setup(client, &container, netns).await.map(Some)
        }
        Netavark::Teardown => {
            let container: Container = serde_json::from_slice(input).map_err(broken)?;
            let owner = container.owner();
            owned::detach(client, |there| there.owner == owner.as_str()).await.map_err(told)?;
            Ok(None)
        }
    }
}

/// An error of the agent, with what to do about it, for a user of podman.
fn told(error: ClientError) -> String {
    match error {
        ClientError::Refused(error) => match error.hint {
            Some(hint) => format!("{}; {hint}", error.message),
            None => error.message,
        },
        ClientError::Denied { .. } if is_in_a_user_namespace() => {
            "rootless podman may not attach containers to networks of this machine: run podman as root"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// Whether users here are others outside, as for rootless podman.
fn is_in_a_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole: Vec<&str> = map.split_whitespace().collect();
    !whole.is_empty() && whole != ["0", "0", "4294967295"]
}

fn wish_of(network: &Network) -> Result<(NetworkName, NetworkWish), String> {
    let options = network.options.iter().flatten();
    let options = options.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let wish = NetworkWish::read(&options).map_err(|error| error.to_string())?;
    let name = wish.network.clone().map_or_else(|| network.network(), Ok)?;
    Ok((name, wish))
}

/// Sees to it that the network of lanmesh exists, where it can be made.
async fn create(client: &Client, network: &Network) -> Result<(), String> {
    if network.subnets.as_ref().is_some_and(|subnets| !subnets.is_empty()) {
        return Err("podman would choose the addresses by itself with --subnet: leave it out, and give --opt subnet=… to make \
                    a network of lanmesh"
            .to_owned());
    }
    let (name, wish) = wish_of(network)?;
    match client.network(&name).await {
        Ok(_) => return Ok(()),
        Err(ClientError::Refused(error)) if error.kind == ErrorKind::NotFound => {}
        Err(error) => return Err(told(error)),
    }
    if wish.subnets.is_empty() {
        return Err(format!(
            "there is no network {name} of lanmesh: create it, or give --opt subnet=… to have it made"
        ));
    }
    let request = NetworkRequest {
        subnets: wish.subnets,
        gateways: wish.gateways,
        pools: wish.pools.into_iter().map(|(service, ranges)| (service, Ranges(ranges))).collect(),
        reserve: wish.reserve,
        block_size: wish.block_size,
        ..NetworkRequest::default()
    };
    client.create_network(&name, &request.with(wish.options)).await.map(drop).map_err(told)
}

async fn setup(client: &Client, container: &Container, netns: &Path) -> Result<Value, String> {
    let (network, options) = wish_of(&container.network)?;
    let wish = container.wish()?;
    let owner = container.owner();
    // Of a container that ended without a word.
    owned::detach(client, |there| there.owner == owner.as_str()).await.map_err(told)?;
    let place = owned::Place {
        netns: netns.to_owned(),
        ifname: container.ifname(),
        holds_ports: true,
        is_default_gateway: options.routes,
    };
    let made = owned::attach(client, &network, wish, &owner, place).await.map_err(|error| match error {
        AttachError::Agent(error) => told(error),
        other => other.to_string(),
    })?;
    Ok(status(container, &owned::as_made(made, netns)))
}
