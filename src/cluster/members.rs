//! Asking the other nodes which of their endpoints are members of multicast groups.
//!
//! No fact: nobody needs it to send what he sends, and it changes more often than what others need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handle::Cluster;
use super::joined::{self, Members};
use super::streams;
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
                asked.spawn(async move {
                    let answer = streams.question(id, address, joined::question(network)).await;
                    (id, answer.and_then(|answer| joined::read(&answer).ok_or_else(streams::no_answer)))
                });
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
