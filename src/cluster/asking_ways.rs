//! Asking another node how the ways from it to the others are: each node knows only its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::handle::Cluster;
use super::streams;
use super::told::Untold;
use super::ways::{self, TellWays, ToldWay};
use crate::model::{NodeId, NodeState};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

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
        let found = self.view().borrow().nodes.get(&node).map(|node| (node.address, node.state));
        let Some((address, NodeState::Alive)) = found else {
            return Err(Untold::Silent("it is not alive".to_owned()));
        };
        let asked = self.0.streams.question(node, address, ways::question());
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                ways::read(&answer).ok_or_else(|| Untold::Silent(streams::no_answer().to_string()))
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Unsupported => Err(Untold::Older),
            Ok(Err(error)) => Err(Untold::Silent(error.to_string())),
            Err(_) => Err(Untold::Silent("it takes too long".to_owned())),
        }
    }
}
