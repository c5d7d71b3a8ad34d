//! What Docker has against what we have.
//!
//! A dockerd that is killed says nothing of the containers it had, and a plugin that is killed between two calls has done the one
//! and not the other. So now and then every endpoint of Docker's is looked for in Docker. One that was not there twice, with a
//! while between, goes. One whose container runs has its namespace told to the agent, which then keeps it as any other, and makes
//! the addresses of services lead from there to their endpoints: that is not left for so long, but done when the container starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lanmesh_docker::engine::Container;
use tokio::task::JoinSet;

use super::driver::{Answer, Driver, Key, Ours};
use super::news::Pace;
use crate::api::types::AttachRequest;

/// How often it is compared. Longer than any start of a container: what was missing twice is missing.
const EVERY: Duration = Duration::from_secs(45);
/// After the start: Docker itself may be starting, and so are its containers.
const FIRST: Duration = Duration::from_secs(10);
/// How long a network's last endpoints are left alone.
const AGAIN: Duration = Duration::from_secs(2);
/// How many containers are asked about at a time; each may make us wait.
const ASKED: usize = 64;
/// What containers are that have a namespace which Docker tells: it does not answer for one that is just starting.
const RUN: [&str; 2] = ["running", "paused"];

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

/// Removes the networks that are to go after their last endpoints, for as long as it is not stopped.
pub(super) async fn clear(driver: Arc<Driver>) {
    let mut asked = BTreeMap::new();
    loop {
        let left = driver.remove_freed(&mut asked).await.unwrap_or_else(|error| {
            tracing::debug!(error, "cannot look for networks that are to go");
            true
        });
        tokio::select! {
            () = tokio::time::sleep(if left { AGAIN } else { EVERY }) => {}
            () = driver.news.freed.notified() => {}
        }
    }
}

/// Tells the agent where its interfaces have been taken, for as long as it is not stopped.
pub(super) async fn tell(driver: Arc<Driver>) {
    let mut pace = Pace::new(EVERY);
    loop {
        pace.turn(&driver.news.containers).await;
        if let Err(error) = tell_all(&driver).await {
            tracing::debug!(error, "cannot tell where containers are");
        }
    }
}

async fn tell_all(driver: &Arc<Driver>) -> Answer<()> {
    let untold = driver.untold().await?;
    // Whoever has to be waited for holds up nobody else.
    let mut telling = JoinSet::new();
    for (key, id, request) in untold {
        if telling.len() >= ASKED {
            telling.join_next().await;
        }
        let driver = Arc::clone(driver);
        telling.spawn(async move { driver.tell_where(&key, &id, &request).await });
    }
    while telling.join_next().await.is_some() {}
    Ok(())
}

/// What one look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// No container has them.
    pub missing: BTreeSet<Key>,
    /// The container that runs and has them, by id.
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
            Some(container) if RUN.contains(&container.state.as_str()) => {
                found.held.insert(key.clone(), container.id.clone());
            }
            Some(_) => {}
            None => drop(found.missing.insert(key.clone())),
        }
    }
    found
}

impl Driver {
    /// Compares once. What was in `before` and is missing still goes; the answer is what is missing and stays so far.
    pub(super) async fn compare(&self, before: &BTreeSet<Key>) -> Answer<BTreeSet<Key>> {
        let ours = self.ours().await?;
        let found = self.look(&ours).await?;
        for (network, name) in found.missing.intersection(before) {
            tracing::info!(%network, endpoint = %name, "Docker has no container for it: it goes");
            self.detach(network, name).await?;
        }
        Ok(found.missing.difference(before).cloned().collect())
    }

    /// Which of `ours` are where nobody has told the agent, each with the container that has it.
    async fn untold(&self) -> Answer<Vec<(Key, String, AttachRequest)>> {
        let mut ours = self.ours().await?;
        ours.retain(|_, request| request.netns.is_none() && !request.hold);
        if ours.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.look(&ours).await?.held;
        let request = |(key, id)| ours.get(&key).cloned().map(|request| (key, id, request));
        Ok(held.into_iter().filter_map(request).collect())
    }

    async fn look(&self, ours: &Ours) -> Answer<Found> {
        let me = self.me().await?.name;
        let endpoints = self.agent.endpoints(None).await.map_err(|error| error.to_string())?;
        let mine = endpoints.into_iter().filter(|endpoint| endpoint.node == me);
        let addresses = mine.filter_map(|endpoint| {
            let key = (endpoint.network, endpoint.name);
            let addresses = endpoint.addresses.iter().map(|address| address.ip().to_string()).collect();
            ours.contains_key(&key).then_some((key, addresses))
        });
        let containers = self.engine.containers().await.map_err(|error| error.to_string())?;
        Ok(sort(&addresses.collect(), &containers))
    }

    /// Tells the agent into which namespace an interface that was offered has been taken.
    async fn tell_where(&self, (network, name): &Key, id: &str, request: &AttachRequest) {
        // It may have ended meanwhile.
        let Ok(container) = self.engine.container(id).await else { return };
        let sandbox = container.network_settings.sandbox_key;
        if sandbox.is_empty() {
            return;
        }
        // And Docker may have taken it from the network meanwhile.
        let request =
            AttachRequest { netns: Some(PathBuf::from(sandbox)), if_present: true, ..request.clone() };
        if let Err(error) = self.agent.attach(network, name, &request).await {
            tracing::debug!(%network, endpoint = %name, %error, "cannot tell where it is");
        }
    }
}
