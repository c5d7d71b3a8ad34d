//! Asking the other nodes which of their endpoints are members of multicast groups.
//!
//! No fact: nobody needs it to send what he sends, and it changes more often than what others need.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handle::Cluster;
use super::joined::{self, Members};
use super::streams::{self, Streams};
use super::wire::{MAX_FRAME, Reply, Request};
use crate::model::{NetworkId, NodeId, NodeState};

/// How long all that are asked may take together.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cluster {
    /// Which endpoints of this node are members of which groups of a network, for others who ask.
    pub fn set_members(&self, network: NetworkId, members: Members) {
        self.0.streams.joined.set(network, members, &self.view().borrow().clone());
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
        let mut talk = self.connect(peer, address).await?;
        let question = joined::question(network);
        talk.say(&Request::Ask(question)).await?;
        match talk.hear::<Reply>(MAX_FRAME).await? {
            Reply::Answer(answer) => joined::read(&answer)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no answer at all")),
            other => Err(streams::unexpected(&other)),
        }
    }
}
