//! Which endpoints are members of multicast groups, as their own node says when it is asked.
//!
//! Owns: what this node answers, and asking the others. No fact: nobody needs it to send what he sends, and it changes
//! more often than what others need.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handle::{Cluster, lock};
use super::streams::{self, Streams};
use super::wire::{MAX_FRAME, Reply, Request};
use crate::model::{EndpointName, Group, NetworkId, NodeId, NodeState};

/// The endpoints of one node that are members of each group.
pub type Members = BTreeMap<Group, BTreeSet<EndpointName>>;

/// How long all that are asked may take together.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most memberships that are told: with the longest names they fit one message.
const TOLD_MAX: usize = 32_768;

/// What this node answers, by network.
#[derive(Debug, Default)]
pub(super) struct Joined(Mutex<BTreeMap<NetworkId, Arc<Members>>>);

impl Joined {
    /// What is said of a network.
    pub fn of(&self, network: NetworkId) -> Arc<Members> {
        lock(&self.0).get(&network).cloned().unwrap_or_default()
    }
}

impl Cluster {
    /// Which endpoints of this node are members of which groups of a network, for others who ask.
    pub fn set_members(&self, network: NetworkId, mut members: Members) {
        let mut left = TOLD_MAX;
        members.retain(|_, endpoints| {
            let fits = endpoints.len() <= left;
            left = left.saturating_sub(endpoints.len());
            fits
        });
        let known = self.view().borrow().clone();
        let mut joined = lock(&self.0.streams.joined.0);
        joined.retain(|network, _| known.networks.contains_key(network));
        joined.insert(network, Arc::new(members));
    }

    /// The same of those of `nodes` that live and answer within two seconds.
    pub async fn fetch_members(
        &self,
        network: NetworkId,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> BTreeMap<NodeId, Members> {
        let view = self.view().borrow().clone();
        let mut asked = JoinSet::new();
        for node in nodes.into_iter().filter_map(|id| view.nodes.get(&id)) {
            if node.id != view.me && node.state == NodeState::Alive {
                let (id, address, streams) = (node.id, node.address, Arc::clone(&self.0.streams));
                asked.spawn(async move { (id, streams.members(id, address, network).await) });
            }
        }
        let mut found = BTreeMap::new();
        let answers = async {
            while let Some(answer) = asked.join_next().await {
                match answer {
                    Ok((node, Ok(members))) => drop(found.insert(node, members)),
                    Ok((node, Err(error))) => {
                        tracing::debug!(%node, %error, "does not say who its members are");
                    }
                    Err(_) => {}
                }
            }
        };
        // Who has not answered by then is left out.
        let _ = timeout(PATIENCE, answers).await;
        found
    }
}

impl Streams {
    async fn members(&self, peer: NodeId, address: SocketAddr, network: NetworkId) -> io::Result<Members> {
        let _permit = self.outbound.acquire().await.map_err(io::Error::other)?;
        let mut stream = self.connect(peer, address).await?;
        streams::send(&mut stream, &Request::Members(network)).await?;
        match streams::receive::<Reply>(&mut stream, MAX_FRAME).await? {
            Ok(Reply::Members(members)) => Ok(members),
            other => Err(streams::unexpected(&other)),
        }
    }
}
