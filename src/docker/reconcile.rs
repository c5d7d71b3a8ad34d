//! What Docker has against what we have.
//!
//! A dockerd that is killed says nothing of the containers it had, and a plugin that is killed between two calls has done the one
//! and not the other. So now and then every endpoint of Docker's is looked for in Docker. One that was not there twice, with a
//! while between, goes; one whose container runs has its namespace told to the agent, which then keeps it as any other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lanmesh_docker::engine::Container;

use super::driver::{Answer, Driver};
use crate::api::types::AttachRequest;
use crate::model::{EndpointName, NetworkName};

/// How often it is compared. Longer than any start of a container: what was missing twice is missing.
const EVERY: Duration = Duration::from_secs(45);
/// After the start: Docker itself may be starting, and so are its containers.
const FIRST: Duration = Duration::from_secs(10);
/// How many containers are asked about at a time; each may make us wait.
const ASKED: usize = 64;

/// An endpoint's name among all.
type Key = (NetworkName, EndpointName);

/// Compares for as long as it is not stopped.
pub(super) async fn run(driver: Arc<Driver>) {
    let mut missing = BTreeSet::new();
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = EVERY;
        match driver.compare(&missing).await {
            Ok(now) => missing = now,
            // What is not known is not missing.
            Err(error) => tracing::debug!(error, "cannot compare with Docker"),
        }
    }
}

/// What one look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// No container has them.
    pub missing: BTreeSet<Key>,
    /// The container that has them, by id.
    pub held: BTreeMap<Key, String>,
}

/// Which of our endpoints, each with its addresses, has a container.
pub(super) fn sort(ours: &BTreeMap<Key, Vec<String>>, containers: &[Container]) -> Found {
    let mut by_address = BTreeMap::new();
    for container in containers {
        for there in
            container.network_settings.networks.values().filter(|there| !there.endpoint_id.is_empty())
        {
            by_address.entry(there.ip_address.as_str()).or_insert_with(Vec::new).push(container);
        }
    }
    let mut found = Found::default();
    for (key, addresses) in ours {
        let holders = addresses.iter().filter_map(|address| by_address.get(address.as_str())).flatten();
        let mut named = holders
            .clone()
            .filter(|container| container.identity(&[]).is_ok_and(|identity| identity.name == key.1));
        match named.next().or_else(|| holders.clone().next()) {
            Some(container) => drop(found.held.insert(key.clone(), container.id.clone())),
            None => drop(found.missing.insert(key.clone())),
        }
    }
    found
}

impl Driver {
    /// Compares once. What was in `before` and is missing still goes; the answer is what is missing and stays so far.
    pub(super) async fn compare(&self, before: &BTreeSet<Key>) -> Answer<BTreeSet<Key>> {
        let ours = self.ours().await?;
        let me = self.me().await?.name;
        let endpoints = self.agent.endpoints(None).await.map_err(|error| error.to_string())?;
        let mine = endpoints.into_iter().filter(|endpoint| endpoint.node == me);
        let addresses = mine.filter_map(|endpoint| {
            let key = (endpoint.network, endpoint.name);
            let addresses = endpoint.addresses.iter().map(|address| address.ip().to_string()).collect();
            ours.contains_key(&key).then_some((key, addresses))
        });
        let found =
            sort(&addresses.collect(), &self.engine.containers().await.map_err(|error| error.to_string())?);
        for (network, name) in found.missing.intersection(before) {
            tracing::info!(%network, endpoint = %name, "Docker has no container for it: it goes");
            self.detach(network, name).await?;
        }
        let untold =
            found.held.iter().filter(|(key, _)| ours.get(*key).is_some_and(|there| there.netns.is_none()));
        for (key, id) in untold.take(ASKED) {
            if let Some(request) = ours.get(key) {
                self.tell_where(key, id, request).await;
            }
        }
        Ok(found.missing.difference(before).cloned().collect())
    }

    /// Tells the agent into which namespace an interface that was offered has been taken.
    async fn tell_where(&self, (network, name): &Key, id: &str, request: &AttachRequest) {
        // Docker does not answer for one that is just starting: next time.
        let Ok(container) = self.engine.container(id).await else { return };
        let sandbox = container.network_settings.sandbox_key;
        if sandbox.is_empty() {
            return;
        }
        let request = AttachRequest { netns: Some(PathBuf::from(sandbox)), ..request.clone() };
        if let Err(error) = self.agent.attach(network, name, &request).await {
            tracing::debug!(%network, endpoint = %name, %error, "cannot tell where it is");
        }
    }
}
