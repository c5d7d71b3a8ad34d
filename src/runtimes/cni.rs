//! The CNI plugin: one call of a runtime, done and answered.

use std::path::{Path, PathBuf};

use lanmesh_runtimes::cni::{Call, Command, Config, Error, code, reply, supported, version_in};
use serde_json::{Value, json};

use super::owned::AttachError;
use super::{CNI_PROGRAM, inside, owned};
use crate::api::ErrorKind;
use crate::api::client::{Client, ClientError};
use crate::config::{DEFAULT_RUN_DIR, socket_in};
use crate::model::NetworkName;

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self(match error {
            ClientError::Refused(refused) => {
                let code = match refused.kind {
                    ErrorKind::Unavailable | ErrorKind::Timeout => code::LATER,
                    _ => code::REFUSED,
                };
                Error::new(code, refused.message).hint(refused.hint.unwrap_or_default())
            }
            ClientError::NoAgent(_) | ClientError::Late { .. } | ClientError::Broken { .. } => {
                Error::new(code::LATER, error.to_string())
            }
            ClientError::Denied { .. } => Error::new(code::IO, error.to_string()),
        })
    }
}

impl From<inside::InsideError> for Failure {
    fn from(error: inside::InsideError) -> Self {
        Self(Error::new(code::IO, error.to_string()))
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Agent(error) => error.into(),
            AttachError::Inside(error) => error.into(),
            AttachError::Mac { .. } => {
                Self(Error::new(code::CONFIG, error.to_string()).hint("ask for the address alone"))
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// Why a call failed, from wherever.
struct Failure(Error);

/// Does what a runtime asks: `variable` knows the environment, `input` is what came on standard input. What is to be printed, if
/// anything, and whether it succeeded.
pub async fn answer(variable: impl Fn(&str) -> Option<String>, input: &[u8]) -> (Option<Value>, bool) {
    let version = version_in(input).unwrap_or_default();
    match answered(variable, input, &version).await {
        Ok(answer) => (answer, true),
        Err(Failure(error)) => (Some(error.reply(&version)), false),
    }
}

async fn answered(
    variable: impl Fn(&str) -> Option<String>,
    input: &[u8],
    version: &str,
) -> Result<Option<Value>, Failure> {
    let socket = variable("LANMESH_SOCKET").map(PathBuf::from);
    let call = Call::read(variable)?;
    if call.command == Command::Version {
        return Ok(Some(supported(version)));
    }
    let config = Config::read(input)?;
    config.knows(call.command)?;
    let socket = config.socket.clone().or(socket).unwrap_or_else(|| socket_in(DEFAULT_RUN_DIR.as_ref()));
    let client = Client::new(socket);
    match call.command {
        Command::Add => add(&client, &call, &config).await.map(Some),
        Command::Del => {
            let owner = call.owner(&config.name);
            owned::detach(&client, |there| there.owner == owner.as_str()).await?;
            Ok(None)
        }
        Command::Check => check(&client, &call, &config).await.map(|()| None),
        Command::Status => status(&client, &config.network).await.map(|()| None),
        Command::Gc => {
            let (network, valid) = (call.owner(&config.name), config.valid_owners());
            let is_valid = |owner: &str| valid.iter().any(|valid| valid.as_str() == owner);
            let is_over =
                |there: &owned::Owned| network.is_same_network(&there.owner) && !is_valid(&there.owner);
            owned::detach(&client, is_over).await?;
            Ok(None)
        }
        Command::Version => Ok(None),
    }
}

/// The namespace of a call that has to have one, and the interface's name in it.
fn place<'a>(call: &'a Call, config: &'a Config) -> Result<(&'a Path, &'a str), Error> {
    let missing = || Error::new(code::ENVIRONMENT, "CNI_NETNS is not set");
    Ok((call.netns.as_deref().ok_or_else(missing)?, config.ifname.as_deref().unwrap_or(&call.ifname)))
}

async fn add(client: &Client, call: &Call, config: &Config) -> Result<Value, Failure> {
    let mut wish = config.wish(call)?;
    let owner = call.owner(&config.name);
    let (netns, ifname) = place(call, config)?;
    let there = owned::all(client).await?;
    if let Some(same) = there.iter().find(|there| there.owner == owner.as_str()) {
        let its_own = same.request.netns.as_deref() == Some(netns);
        if its_own && inside::interface(netns, ifname).await?.is_some() {
            return Err(Error::new(
                code::ATTACHED,
                format!(
                    "{} of container {} is attached to {} already",
                    call.ifname, call.container, config.name
                ),
            )
            .hint("DEL comes before another ADD")
            .into());
        }
        // Of a container that ended without a word.
        client.detach(&same.network, &same.name).await?;
    }
    let second = |there: &owned::Owned| {
        owner.is_same_container(&there.owner) && there.owner != owner.as_str() && there.name == wish.name
    };
    if there.iter().any(second) {
        wish.name = crate::model::EndpointName::of_text(&format!("{}-{}", wish.name, call.ifname));
    }
    let place = owned::Place {
        netns: netns.to_owned(),
        ifname,
        holds_ports: is_of_podman(),
        is_default_gateway: config.is_default_gateway,
    };
    let made = owned::attach(client, &config.network, wish, &owner, place).await?;
    Ok(reply(config, &owned::as_made(made, netns)))
}

/// Whether podman runs this. It listens at a container's ports by itself, as other runtimes do not.
fn is_of_podman() -> bool {
    let parent = format!("/proc/{}/comm", nix::unistd::getppid());
    std::fs::read_to_string(parent).is_ok_and(|comm| comm.trim_end() == "podman")
}

async fn check(client: &Client, call: &Call, config: &Config) -> Result<(), Failure> {
    let (netns, ifname) = place(call, config)?;
    let owner = call.owner(&config.name);
    let there = owned::all(client).await?.into_iter().find(|there| there.owner == owner.as_str());
    let Some(there) = there else {
        return Err(Error::new(
            code::UNKNOWN_CONTAINER,
            format!("{} of container {} is not attached to {}", call.ifname, call.container, config.name),
        )
        .into());
    };
    let differs = |msg: String| {
        Failure(Error::new(code::DIFFERS, msg).hint("`lanmesh plan` shows what the agent is about to mend"))
    };
    let Some(interface) = inside::interface(netns, ifname).await? else {
        return Err(differs(format!("there is no {ifname} in {}", netns.display())));
    };
    if !interface.up {
        return Err(differs(format!("{ifname} in {} is down", netns.display())));
    }
    let endpoint = client.endpoint(&there.network, &there.name).await?;
    let missing = endpoint
        .addresses
        .iter()
        .map(ipnetwork::IpNetwork::ip)
        .find(|own| !interface.addresses.contains(own));
    if let Some(address) = missing {
        return Err(differs(format!("{ifname} in {} has no address {address}", netns.display())));
    }
    // What the runtime was told: that it is the same endpoint.
    let told = config.previous.iter().flat_map(|previous| previous["ips"].as_array().into_iter().flatten());
    let told: Vec<&str> = told.filter_map(|ip| ip["address"].as_str()).collect();
    let untold =
        endpoint.addresses.iter().find(|own| !told.is_empty() && !told.contains(&own.to_string().as_str()));
    match untold {
        Some(address) => Err(differs(format!(
            "{ifname} has {address}, which is not what was answered when it was attached"
        ))),
        None => Ok(()),
    }
}

async fn status(client: &Client, network: &NetworkName) -> Result<(), Failure> {
    let unavailable = |Failure(error): Failure| Failure(Error { code: code::UNAVAILABLE, ..error });
    let status = client.status().await.map_err(|error| unavailable(error.into()))?;
    if status.cluster.is_none() {
        let error = Error::new(code::UNAVAILABLE, "this node belongs to no cluster of lanmesh");
        return Err(error.hint("run `lanmesh init` or `lanmesh join` on it").into());
    }
    client.network(network).await.map_err(|error| unavailable(error.into()))?;
    if status.nodes.suspect > 0 {
        let msg = format!("{} nodes of the cluster do not answer", status.nodes.suspect);
        return Err(Error::new(code::LIMITED, msg).hint("`lanmesh node ls` shows which").into());
    }
    Ok(())
}

/// The configuration list by which runtimes use a network: what `lanmesh cni install` writes.
pub fn conflist(
    name: &str,
    network: &NetworkName,
    version: &str,
    socket: &Path,
    is_default_gateway: bool,
) -> Value {
    let mut plugin = json!({
        "type": CNI_PROGRAM,
        "network": network,
        "capabilities": { "ips": true, "mac": true, "aliases": true, "portMappings": true },
    });
    if socket != socket_in(DEFAULT_RUN_DIR.as_ref()) {
        plugin["socket"] = socket.display().to_string().into();
    }
    if is_default_gateway {
        plugin["isDefaultGateway"] = true.into();
    }
    json!({ "cniVersion": version, "name": name, "plugins": [plugin] })
}
