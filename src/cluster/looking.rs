//! Telling another node that somebody here has asked for records of its endpoints by mDNS, so that it looks whether they still
//! answer: where mDNS stays on its node, nobody there hears it.
//!
//! No fact, and no question whose answer matters: what does not get there is told again when it is asked for again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::timeout;

use super::handle::Cluster;
use super::looks::{self, Look};
use super::streams::{self, Streams};
use super::wire::{MAX_FRAME, Reply, Request};
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
            match timeout(PATIENCE, streams.tell_to_look(node, address, look)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%node, %error, "cannot be told to look"),
                Err(_) => tracing::debug!(%node, "takes long to be told to look"),
            }
        });
    }
}

impl Streams {
    async fn tell_to_look(&self, peer: NodeId, address: SocketAddr, look: Look) -> io::Result<()> {
        let _permit = self.outbound.acquire().await.map_err(io::Error::other)?;
        let mut talk = self.connect(peer, address).await?;
        talk.say(&Request::Ask(looks::question(look))).await?;
        match talk.hear::<Reply>(MAX_FRAME).await? {
            Reply::Answer(_) => Ok(()),
            other => Err(streams::unexpected(&other)),
        }
    }
}
