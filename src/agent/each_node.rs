//! The same asked of each other node, for what it alone knows.
//!
//! Owns: whom to ask, and how long that may take.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::session::Session;
use crate::api::ApiError;
use crate::cluster::{Cluster, Untold};
use crate::model::{ClusterView, NodeId, NodeName, NodeState};

/// How many nodes are asked at once, and how long all of them may take together.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(8);

/// This node's name, as long as it has a place in its cluster.
///
/// # Errors
/// It is just leaving.
pub fn own_name(view: &ClusterView) -> Result<NodeName, ApiError> {
    let me = view.myself().ok_or_else(|| ApiError::unavailable("this node is leaving its cluster"))?;
    Ok(me.name.clone())
}

impl Session {
    /// What each other node answers to `ask`, by index, or why it does not, in words.
    pub async fn each_node<T, F: Future<Output = Result<T, Untold>>>(
        &self,
        view: &ClusterView,
        ask: impl Fn(Cluster, NodeId) -> F,
    ) -> Vec<(NodeName, Result<T, String>)> {
        let others = view.nodes.values().filter(|node| node.id != view.me);
        let mut others: Vec<_> =
            others.map(|node| (node.index, node.id, node.state, node.name.clone())).collect();
        others.sort_by_key(|(index, id, ..)| (*index, *id));
        let until = Instant::now() + PATIENCE;
        let asked = others.into_iter().map(|(_, id, state, name)| {
            let answer = (state == NodeState::Alive).then(|| ask(self.cluster.clone(), id));
            async move {
                let told = match answer {
                    Some(answer) => timeout_at(until, answer).await,
                    None => Ok(Err(Untold::Silent("it is not alive".to_owned()))),
                };
                let told = match told {
                    Ok(Ok(told)) => Ok(told),
                    Ok(Err(Untold::Older)) => Err("it is of a release that does not tell".to_owned()),
                    Ok(Err(Untold::Silent(why))) => Err(why),
                    Err(_) => Err("it takes too long".to_owned()),
                };
                (name, told)
            }
        });
        stream::iter(asked).buffered(AT_ONCE).collect().await
    }
}
