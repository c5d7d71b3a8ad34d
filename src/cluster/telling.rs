//! Asking another node what happened there.
//!
//! No fact: nobody needs it, and there is much of it. A node is asked while somebody looks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::handle::Cluster;
use super::streams;
use super::told::{self, Tell, Told, Untold};
use super::wire::Question;
use crate::model::{NodeId, NodeState};

/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cluster {
    /// Who tells others what happened on this node; the first that is named does.
    pub fn tell_events(&self, teller: Arc<dyn Tell>) {
        let _ = self.0.streams.teller.0.set(teller);
    }

    /// What happened on another node after its event `after`, no older than `since_ms` by its clock.
    ///
    /// # Errors
    /// It is not alive, does not answer within two seconds, or cannot tell.
    pub async fn fetch_events(&self, node: NodeId, after: u64, since_ms: u64) -> Result<Told, Untold> {
        self.told(node, told::question(after, since_ms), told::read).await
    }

    /// What a node that is alive answers within [`PATIENCE`], as `read` has it; `None` of that is no answer.
    pub(super) async fn told<T>(
        &self,
        node: NodeId,
        question: Question,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Untold> {
        let found = self.view().borrow().nodes.get(&node).map(|node| (node.address, node.state));
        let Some((address, NodeState::Alive)) = found else {
            return Err(Untold::Silent("it is not alive".to_owned()));
        };
        match timeout(PATIENCE, self.0.streams.question(node, address, question)).await {
            Ok(Ok(answer)) => read(&answer).ok_or_else(|| Untold::Silent(streams::no_answer().to_string())),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Unsupported => Err(Untold::Older),
            Ok(Err(error)) => Err(Untold::Silent(error.to_string())),
            Err(_) => Err(Untold::Silent("it takes too long".to_owned())),
        }
    }
}
