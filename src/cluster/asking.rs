//! Asking another node for what it alone knows: how the ways from it to the others are, and what it dropped.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::desk::DropsRequest;
use super::drops::{self, ToldDrops};
use super::handle::Cluster;
use super::streams::Streams;
use super::told::Untold;
use super::ways::{self, TellWays, ToldWay};
use super::wire::Question;
use crate::model::NodeId;

impl Streams {
    /// The answer to the question what this node dropped; `None` where it is another one, or the agent is busy.
    pub(super) async fn answer_of_drops(&self, question: &Question) -> Option<Bytes> {
        if !drops::is_asked(question) {
            return None;
        }
        self.drops.ask(|answer| DropsRequest { answer }).await.map(drops::on_wire)
    }
}

impl Cluster {
    /// Who tells others how the ways from this node are; the first that is named does.
    pub fn tell_ways(&self, teller: Arc<dyn TellWays>) {
        let _ = self.0.streams.ways.0.set(teller);
    }

    /// How the ways from another node are.
    ///
    /// # Errors
    /// It is not alive, does not answer within two seconds, or cannot tell.
    pub async fn fetch_ways(&self, node: NodeId) -> Result<Vec<ToldWay>, Untold> {
        self.told(node, ways::question(), ways::read).await
    }

    /// Others that want to know what this node dropped; there is one who takes them.
    pub fn drops_requests(&self) -> Option<mpsc::Receiver<DropsRequest>> {
        self.0.streams.drops.requests()
    }

    /// What another node dropped.
    ///
    /// # Errors
    /// As for [`fetch_ways`](Self::fetch_ways).
    pub async fn fetch_drops(&self, node: NodeId) -> Result<ToldDrops, Untold> {
        self.told(node, drops::question(), drops::read).await
    }
}
