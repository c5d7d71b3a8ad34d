//! Telling another node that somebody here has asked for records of its endpoints by mDNS, so that it looks whether they still
//! answer: where mDNS stays on its node, nobody there hears it.
//!
//! No fact, and no question whose answer matters: what does not get there is told again when it is asked for again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::timeout;

use super::handle::Cluster;
use super::looks::{self, Look};
use crate::model::{NodeId, NodeState};

/// How long telling one may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cluster {
    /// What others tell from now on.
    pub fn looks(&self) -> broadcast::Receiver<Arc<Look>> {
        self.0.streams.looks.heard.subscribe()
    }

    /// Tells a node, if it lives and not too much is told already. Does not wait.
    pub fn look(&self, node: NodeId, look: Look) {
        let streams = Arc::clone(&self.0.streams);
        let view = self.view().borrow().clone();
        let address =
            view.nodes.get(&node).filter(|node| node.state == NodeState::Alive).map(|node| node.address);
        let permit = Arc::clone(&streams.looks.telling).try_acquire_owned();
        let (Some(address), Ok(permit)) = (address, permit) else { return };
        let tasks = streams.tasks.clone();
        tasks.spawn(async move {
            let _permit = permit;
            match timeout(PATIENCE, streams.question(node, address, looks::question(look))).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%node, %error, "cannot be told to look"),
                Err(_) => tracing::debug!(%node, "takes long to be told to look"),
            }
        });
    }
}
