//! Calls by name, and what all of them have at hand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lanmesh_docker::book::{Book, NetworkEntry};
use lanmesh_docker::options::{IpamOptions, NetworkWish};
use lanmesh_docker::protocol::{
    ACTIVATION, AddressSpaces, IpamCapabilities, NetworkCapabilities, OfEndpoint, OperInfo, Scope,
};
use lanmesh_docker::tokens::Tokens;
use lanmesh_docker::{GLOBAL_SPACE, LOCAL_SPACE, engine, vip};
use lanmesh_ipam::stable_hash;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::Engine;
use super::news::News;
use super::served::Served;
use crate::api::client::{Client, ClientError};
use crate::api::types::{AttachRequest, ClusterAnswer, EndpointAnswer, NetworkAnswer, ServiceAddressAnswer};
use crate::api::{ApiError, ErrorKind};
use crate::model::{EndpointName, NetworkName};

/// What a call comes to: a body, or why not.
pub(super) type Answer<T> = Result<T, String>;

/// An endpoint's name among all.
pub(super) type Key = (NetworkName, EndpointName);
/// This node's endpoints that are Docker's, as they were attached.
pub(super) type Ours = BTreeMap<Key, AttachRequest>;

/// The owner of what is held for Docker.
pub(super) const HOLDER: &str = "docker";
/// How long the agent is waited for.
const AGENT_PATIENCE: Duration = Duration::from_secs(15);
/// How long a network that a leader has just created is waited for on another node.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);
const NEWS_POLL: Duration = Duration::from_millis(50);

/// Answers Docker's calls.
pub struct Driver {
    pub(super) agent: Client,
    pub(super) engine: Engine,
    pub(super) scope: Scope,
    book: Mutex<Book>,
    /// By the ids of the pools that this node has given tokens from. A leader asks for one at a time.
    pub(super) tokens: tokio::sync::Mutex<BTreeMap<String, Tokens>>,
    /// When the plugin began.
    pub(super) begun: tokio::time::Instant,
    /// What Docker has said that happened.
    pub(super) news: News,
    /// The addresses of services that are real.
    pub(super) served: tokio::sync::Mutex<Served>,
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(|error| format!("this call cannot be understood: {error}"))
}

fn text<T: Serialize>(answer: Answer<T>) -> Option<Answer<Vec<u8>>> {
    Some(answer.and_then(|answer| serde_json::to_vec(&answer).map_err(|error| error.to_string())))
}

/// A call that has nothing to say.
#[derive(Serialize)]
pub(super) struct Nothing {}

macro_rules! calls {
    ($driver:ident, $name:ident, $body:ident, { $($path:literal => $answer:expr,)+ } { $($takes:literal => $method:ident,)+ }) => {
        match $name {
            $($path => text(Ok($answer)),)+
            $($takes => match read($body) {
                Ok(call) => text($driver.$method(call).await),
                Err(error) => Some(Err(error)),
            },)+
            _ => None,
        }
    };
}

impl Driver {
    /// A driver that asks this agent and this Docker.
    pub fn new(agent: Client, engine: Engine, scope: Scope) -> Self {
        let agent = agent.patient(AGENT_PATIENCE);
        let (book, news) = (Mutex::default(), News::default());
        let (tokens, served) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        let begun = tokio::time::Instant::now();
        Self { agent, engine, scope, book, tokens, begun, news, served }
    }

    /// Answers the call `name`; `None` where there is none of this name.
    pub(super) async fn answer(&self, name: &str, body: &[u8]) -> Option<Answer<Vec<u8>>> {
        calls!(self, name, body, {
            "/Plugin.Activate" => ACTIVATION,
            "/NetworkDriver.GetCapabilities" =>
                NetworkCapabilities { scope: self.scope, connectivity_scope: Scope::Global },
            "/IpamDriver.GetCapabilities" =>
                IpamCapabilities { requires_mac_address: false, requires_request_replay: false },
            "/IpamDriver.GetDefaultAddressSpaces" => AddressSpaces {
                local_default_address_space: LOCAL_SPACE,
                global_default_address_space: GLOBAL_SPACE,
            },
            // The nodes know each other without Docker, and ports are published by its own bridge.
            "/NetworkDriver.DiscoverNew" => Nothing {},
            "/NetworkDriver.DiscoverDelete" => Nothing {},
            "/NetworkDriver.ProgramExternalConnectivity" => Nothing {},
            "/NetworkDriver.RevokeExternalConnectivity" => Nothing {},
            // Docker has moved the interface back, or the container took it along. It is removed with the endpoint.
            "/NetworkDriver.Leave" => Nothing {},
        } {
            "/NetworkDriver.AllocateNetwork" => allocate_network,
            "/NetworkDriver.FreeNetwork" => free_network,
            "/NetworkDriver.CreateNetwork" => create_network,
            "/NetworkDriver.DeleteNetwork" => delete_network,
            "/NetworkDriver.CreateEndpoint" => create_endpoint,
            "/NetworkDriver.EndpointOperInfo" => describe,
            "/NetworkDriver.Join" => join,
            "/NetworkDriver.DeleteEndpoint" => delete_endpoint,
            "/IpamDriver.RequestPool" => request_pool,
            "/IpamDriver.ReleasePool" => release_pool,
            "/IpamDriver.RequestAddress" => request_address,
            "/IpamDriver.ReleaseAddress" => release_address,
        })
    }

    async fn describe(&self, call: OfEndpoint) -> Answer<OperInfo> {
        let mut told = OperInfo::default();
        if let Some(entry) = self.book().endpoint(&call.endpoint_id) {
            told.value.insert("lanmesh.network".to_owned(), entry.network.to_string());
            told.value.insert("lanmesh.endpoint".to_owned(), entry.name.to_string());
        }
        Ok(told)
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        // Its parts are independent: a panic elsewhere leaves none of them half-written.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node, as the cluster knows it.
    pub(super) async fn me(&self) -> Answer<ClusterAnswer> {
        let cluster = self.agent.status().await.map_err(|error| error.to_string())?.cluster;
        cluster.ok_or_else(|| {
            "this node belongs to no cluster of lanmesh: run `lanmesh init` or `lanmesh join` on it"
                .to_owned()
        })
    }

    /// A network, if there is one of this name.
    pub(super) async fn find(&self, name: &NetworkName) -> Answer<Option<NetworkAnswer>> {
        match self.agent.network(name).await {
            Ok(network) => Ok(Some(network)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A network that another node may just have created.
    pub(super) async fn expect(&self, name: &NetworkName) -> Answer<NetworkAnswer> {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(network) = self.find(name).await? {
                return Ok(network);
            }
            if begun.elapsed() > NEWS_PATIENCE {
                return Err(format!(
                    "this node knows no network {name}: is it in the same cluster of lanmesh as the swarm's managers? \
                     `lanmesh node ls` tells"
                ));
            }
            tokio::time::sleep(NEWS_POLL).await;
        }
    }

    /// Which of our networks one of Docker's is: as was noted, or as Docker says.
    pub(super) async fn network_of(&self, id: &str) -> Answer<NetworkEntry> {
        if let Some(entry) = self.book().network(id) {
            return Ok(entry.clone());
        }
        let there = self.engine.network(id).await.map_err(|error| error.to_string())?;
        let entry = entry_of(&there).ok_or_else(|| format!("Docker's network {id} is none of lanmesh"))?;
        self.book().note_network(id, entry.clone());
        Ok(entry)
    }

    /// This node's endpoint of Docker's that has this address.
    pub(super) async fn endpoint_at(
        &self,
        network: &NetworkName,
        address: IpAddr,
    ) -> Answer<Option<EndpointAnswer>> {
        let me = self.me().await?.name;
        let there = match self.agent.endpoints(Some(network)).await {
            Ok(there) => there,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let has = |endpoint: &EndpointAnswer| endpoint.addresses.iter().any(|there| there.ip() == address);
        let Some(found) = there.into_iter().find(|endpoint| endpoint.node == me && has(endpoint)) else {
            return Ok(None);
        };
        let ours = self.ours().await?;
        Ok(ours.contains_key(&(network.clone(), found.name.clone())).then_some(found))
    }

    /// This node's endpoints that are Docker's, those that are only held among them.
    pub(super) async fn ours(&self) -> Answer<Ours> {
        let desired = self.agent.desired().await.map_err(|error| error.to_string())?;
        let all = desired.endpoints.into_iter().flat_map(|(network, endpoints)| {
            endpoints.into_iter().map(move |(name, request)| ((network.clone(), name), request))
        });
        let ours = all.filter(|((network, name), request)| {
            let held = request.hold && request.owner.as_deref() == Some(HOLDER);
            held || (request.offer && request.ifname.as_deref() == Some(ifname(network, name).as_str()))
        });
        Ok(ours.collect())
    }

    /// Detaches; what is not there, or another node's, is left.
    pub(super) async fn detach(&self, network: &NetworkName, name: &EndpointName) -> Answer<()> {
        match self.agent.detach(network, name).await {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Which of our networks one of Docker's is, if it is one.
pub(super) fn entry_of(network: &engine::Network) -> Option<NetworkEntry> {
    let values = |options: &BTreeMap<String, String>| {
        options.iter().map(|(k, v)| (k.clone(), serde_json::Value::from(v.as_str()))).collect()
    };
    let wish = NetworkWish::read(&values(&network.options)).ok()?;
    let name = wish
        .network
        .or_else(|| IpamOptions::read(&values(&network.ipam.options)).ok().map(|ipam| ipam.network))?;
    Some(NetworkEntry { network: name, routes: wish.routes })
}

/// Which of Docker's networks are ours, by id.
pub(super) fn networks_of_ours(networks: &[engine::Network]) -> BTreeMap<&str, NetworkName> {
    networks.iter().filter_map(|network| Some((network.id.as_str(), entry_of(network)?.network))).collect()
}

/// The addresses of services, by network and name; also those that another service has by right.
pub(super) fn addresses_of(services: &[ServiceAddressAnswer]) -> BTreeMap<vip::Key, Vec<IpAddr>> {
    let of = |service: &ServiceAddressAnswer| {
        let addresses = [&service.addresses[..], &service.lost].concat();
        ((service.network.clone(), service.name.clone()), addresses)
    };
    services.iter().map(of).collect()
}

/// What an endpoint's interface is called until Docker takes it: one name for one endpoint, of at most 15 letters.
pub(super) fn ifname(network: &NetworkName, name: &EndpointName) -> String {
    format!("lmd{:012x}", stable_hash(format!("{network}/{name}").as_bytes()) >> 16)
}

fn refused_as(error: &ClientError, kind: ErrorKind) -> bool {
    matches!(error, ClientError::Refused(ApiError { kind: is, .. }) if *is == kind)
}

pub(super) fn is_not_found(error: &ClientError) -> bool {
    refused_as(error, ErrorKind::NotFound)
}

pub(super) fn is_conflict(error: &ClientError) -> bool {
    refused_as(error, ErrorKind::Conflict)
}
