//! Asking another node how the ways from it to the others are: each node knows only its own.

use std::sync::Arc;

use super::handle::Cluster;
use super::told::Untold;
use super::ways::{self, TellWays, ToldWay};
use crate::model::NodeId;

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
}
