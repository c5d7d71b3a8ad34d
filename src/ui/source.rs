//! What is read of the agent, while somebody looks.
//!
//! The agent says when something changed, so nothing is asked for in vain; what is only counted is asked for every few seconds. How
//! long a reading took is rested for several times over: an agent that is busy is not kept busy by who looks at it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::foretell::Plans;
use super::picture::{Picture, Topic};
use crate::api::client::{Client, ClientError};
use crate::api::types::{EndpointAnswer, NetworkAnswer, NodeAnswer, NodeDropsAnswer};
use crate::clock::now_ms;

/// How often each is read where nothing is told of it.
const STATUS: Duration = Duration::from_secs(2);
const CLUSTER: Duration = Duration::from_secs(10);
const GROUPS: Duration = Duration::from_secs(5);
const PATHS: Duration = Duration::from_secs(5);
const DROPS: Duration = Duration::from_secs(5);
/// How much longer for each node, where each is asked.
const OF_NODE: Duration = Duration::from_millis(300);
/// The least rest between two readings, and how many times as long as one took.
const REST: Duration = Duration::from_millis(100);
const RESTS: u32 = 4;
/// How soon it is tried again where the agent does not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// How far back events are told to who looks first.
const PAST_MS: u64 = 3_600_000;
/// The DNS-SD services of so many networks are read.
const NETWORKS_MAX: usize = 256;

/// What all parts of a page share.
pub struct Source {
    client: Client,
    picture: Mutex<Picture>,
    /// The number of the newest change, for who waits.
    number: watch::Sender<u64>,
    /// How many look.
    looking: watch::Sender<usize>,
    status: Notify,
    cluster: Notify,
    groups: Notify,
    paths: Notify,
}

/// Somebody who looks; nothing is read while there is nobody.
pub struct Looker(Arc<Source>);

impl Looker {
    /// What he looks at.
    pub fn source(&self) -> &Source {
        &self.0
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.0.looking.send_modify(|looking| *looking -= 1);
    }
}

impl Source {
    /// What the agent of this client says. Nothing is read until somebody looks.
    pub fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            picture: Mutex::default(),
            number: watch::Sender::new(0),
            looking: watch::Sender::new(0),
            status: Notify::new(),
            cluster: Notify::new(),
            groups: Notify::new(),
            paths: Notify::new(),
        })
    }

    /// The agent.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What is known now.
    pub fn picture(&self) -> MutexGuard<'_, Picture> {
        // Changed in steps each of which leaves it whole.
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }

    /// Somebody looks from now on.
    pub fn look(self: &Arc<Self>) -> Looker {
        self.looking.send_modify(|looking| *looking += 1);
        Looker(self.clone())
    }

    /// Reads while somebody looks. Never ends by itself.
    pub async fn run(self: Arc<Self>) {
        let cluster = self.keep(CLUSTER, &self.cluster, || self.read_cluster());
        let status = self.keep(STATUS, &self.status, || self.read_status());
        let groups = self.keep(GROUPS, &self.groups, || self.read_groups());
        let paths = self.keep(PATHS, &self.paths, || self.read_paths());
        // Of what is only counted nobody tells.
        let untold = Notify::new();
        let drops = self.keep(DROPS, &untold, || self.read_drops());
        tokio::join!(cluster, status, groups, paths, drops, self.follow_changes(), self.follow_events());
    }

    async fn somebody(&self) {
        // The sender is in here: it cannot have gone.
        let _ = self.looking.subscribe().wait_for(|looking| *looking > 0).await;
    }

    async fn nobody(&self) {
        let _ = self.looking.subscribe().wait_for(|looking| *looking == 0).await;
    }

    /// Reads something again and again: when there is news, or after `every` and what the reading adds to that.
    async fn keep<F: Future<Output = Duration>>(&self, every: Duration, news: &Notify, read: impl Fn() -> F) {
        loop {
            self.somebody().await;
            let begun = Instant::now();
            let more = read().await;
            sleep(REST.max(begun.elapsed() * RESTS)).await;
            let _ = timeout(every + more, news.notified()).await;
        }
    }

    fn set(&self, topic: Topic, read: Result<BTreeMap<String, Value>, ClientError>) {
        let number = {
            let mut picture = self.picture();
            match read {
                Ok(things) => picture.set(topic, things, now_ms()),
                Err(error) => picture.failed(topic, error.to_string()),
            }
            picture.number()
        };
        self.tell(number);
    }

    fn tell(&self, number: u64) {
        self.number.send_if_modified(|known| std::mem::replace(known, number) != number);
    }

    async fn list(&self, path: &str) -> Result<Vec<Value>, ClientError> {
        let bytes = self.client.document(path).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Broken {
            path: self.client.path().to_owned(),
            why: error.to_string(),
        })
    }

    async fn read_status(&self) -> Duration {
        let read = async {
            let status = self.client.status().await?;
            Ok(BTreeMap::from([("agent".to_owned(), serde_json::to_value(status).unwrap_or_default())]))
        };
        self.set(Topic::Status, read.await);
        Duration::ZERO
    }

    async fn read_groups(&self) -> Duration {
        let key = |group: &Value| joined([&group["network"], &group["group"], &group["source"]]);
        let read = self.list("/v1/multicast").await;
        self.set(Topic::Groups, read.map(|groups| by_key(groups, key)));
        Duration::ZERO
    }

    async fn read_paths(&self) -> Duration {
        let read = self.list("/v1/paths").await;
        let nodes = read.as_ref().map_or(0, Vec::len);
        self.set(Topic::Paths, read.map(|nodes| by_key(nodes, |node| joined([&node["node"]]))));
        OF_NODE * u32::try_from(nodes).unwrap_or(u32::MAX)
    }

    async fn read_drops(&self) -> Duration {
        let read = self.client.node_drops().await;
        let nodes = read.as_ref().map_or(0, Vec::len);
        self.set(Topic::Drops, read.map(|nodes| counts(&nodes)));
        OF_NODE * u32::try_from(nodes).unwrap_or(u32::MAX)
    }

    /// What nodes tell each other: it is all here, and read in one go so that it fits together.
    async fn read_cluster(&self) -> Duration {
        let read = async {
            let networks = self.client.networks().await?;
            let nodes = self.client.nodes().await?;
            let endpoints = self.client.endpoints(None).await?;
            Ok::<_, ClientError>((networks, nodes, endpoints))
        };
        let (networks, nodes, endpoints) = match read.await {
            Ok(read) => read,
            Err(error) => {
                let why = error.to_string();
                let number = {
                    let mut picture = self.picture();
                    for topic in
                        [Topic::Nodes, Topic::Networks, Topic::Endpoints, Topic::Addresses, Topic::Services]
                    {
                        picture.failed(topic, why.clone());
                    }
                    picture.number()
                };
                self.tell(number);
                return Duration::ZERO;
            }
        };
        let (of_networks, of_endpoints) = planned(&networks, &nodes, &endpoints);
        self.set(Topic::Networks, Ok(of_networks));
        self.set(Topic::Nodes, Ok(by_key(values(&nodes), |node| joined([&node["name"]]))));
        self.set(Topic::Endpoints, Ok(of_endpoints));
        let named = self.list("/v1/service-addresses").await;
        let key = |service: &Value| joined([&service["network"], &service["name"]]);
        self.set(Topic::Addresses, named.map(|named| by_key(named, key)));
        let mut found = Ok(Vec::new());
        let heard = networks.iter().filter(|network| !network.conflict).take(NETWORKS_MAX);
        let asked = heard.map(|network| async move {
            self.list(&format!("/v1/networks/{}/services", network.name)).await
        });
        for services in join_all(asked).await {
            found = match (found, services) {
                (Ok(mut all), Ok(services)) => {
                    all.extend(services);
                    Ok(all)
                }
                // A network that has just gone has none.
                (found, Err(ClientError::Refused(_))) => found,
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
        let key = |service: &Value| {
            joined([
                &service["network"],
                &service["type"],
                &service["instance"],
                &service["node"],
                &service["endpoint"],
            ])
        };
        self.set(Topic::Services, found.map(|found| by_key(found, key)));
        Duration::ZERO
    }

    async fn follow_changes(&self) {
        loop {
            self.somebody().await;
            let follow = async {
                let mut changes = self.client.changes().await?;
                while changes.line().await?.is_some() {
                    self.cluster.notify_one();
                    self.groups.notify_one();
                }
                Ok::<_, ClientError>(())
            };
            tokio::select! {
                // What keeps it from being followed the readings say.
                _ = follow => sleep(AGAIN).await,
                () = self.nobody() => {}
            }
        }
    }

    async fn follow_events(&self) {
        loop {
            self.somebody().await;
            let since = self.picture().newest_event_ms();
            let since = since.map_or_else(|| now_ms().saturating_sub(PAST_MS), |newest| newest + 1);
            let follow = async {
                let mut events = self.client.watch("all", since, true).await?;
                while let Some(event) = events.next().await? {
                    use crate::api::EventKind::{NodeChanged, PathChanged, Problem, PutBack};
                    // Of networks in which the agent's node takes no part only this tells that there is something new.
                    self.cluster.notify_one();
                    self.groups.notify_one();
                    if matches!(event.kind, PathChanged | NodeChanged) {
                        self.paths.notify_one();
                    }
                    if matches!(event.kind, PathChanged | NodeChanged | Problem | PutBack) {
                        self.status.notify_one();
                    }
                    let number = {
                        let mut picture = self.picture();
                        picture.event(serde_json::to_value(&event).unwrap_or_default());
                        picture.number()
                    };
                    self.tell(number);
                }
                Ok::<_, ClientError>(())
            };
            tokio::select! {
                _ = follow => sleep(AGAIN).await,
                () = self.nobody() => {}
            }
        }
    }
}

/// Each count by itself, so that one that grows is all that is told anew. Those of nothing are told of the agent's own node alone,
/// for who wants to see what there can be.
fn counts(nodes: &[NodeDropsAnswer]) -> BTreeMap<String, Value> {
    let mut counts = BTreeMap::new();
    for (number, NodeDropsAnswer { node, untold, drops, .. }) in nodes.iter().enumerate() {
        if let Some(why) = untold {
            counts.insert(node.to_string(), json!({ "node": node, "untold": why }));
        }
        for drop in drops.iter().filter(|drop| number == 0 || drop.count > 0) {
            let mut value = serde_json::to_value(drop).unwrap_or_default();
            let key = joined([&json!(node), &value["reason"], &value["network"], &value["endpoint"]]);
            value["node"] = json!(node);
            counts.insert(key, value);
        }
    }
    counts
}

/// Networks and endpoints, with what the address plan says of them.
fn planned(
    networks: &[NetworkAnswer],
    nodes: &[NodeAnswer],
    endpoints: &[EndpointAnswer],
) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
    let plans = Plans::new(networks, nodes);
    let mut of_networks = BTreeMap::new();
    for network in networks {
        let mut value = serde_json::to_value(network).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            // Whoever knows it can write into a plain network from the underlay.
            fields.remove("vni");
            fields.insert(
                "blocks".to_owned(),
                serde_json::to_value(plans.blocks(&network.name)).unwrap_or_default(),
            );
        }
        let key = match network.conflict {
            false => network.name.to_string(),
            true => format!("{} {}", network.name, network.id),
        };
        of_networks.insert(key, value);
    }
    let mut of_endpoints = BTreeMap::new();
    for endpoint in endpoints {
        let mut value = serde_json::to_value(endpoint).unwrap_or_default();
        if let (Some(fields), Some(foretold)) = (value.as_object_mut(), plans.of(endpoint)) {
            fields.insert("foretold".to_owned(), foretold);
        }
        let key = format!("{}/{}", endpoint.network, endpoint.name);
        // Two nodes may have given one name while they did not hear each other.
        let key = if of_endpoints.contains_key(&key) { format!("{key}/{}", endpoint.node) } else { key };
        of_endpoints.insert(key, value);
    }
    (of_networks, of_endpoints)
}

fn values<T: serde::Serialize>(things: &[T]) -> Vec<Value> {
    things.iter().map(|thing| serde_json::to_value(thing).unwrap_or_default()).collect()
}

/// Texts with a slash between them; what is no text is left out.
fn joined<const N: usize>(parts: [&Value; N]) -> String {
    parts.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/")
}

fn by_key(things: Vec<Value>, key: impl Fn(&Value) -> String) -> BTreeMap<String, Value> {
    things.into_iter().map(|thing| (key(&thing), thing)).collect()
}
