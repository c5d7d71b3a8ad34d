//! What all nodes dropped: each counts its own, and whoever wants all asks each.

use super::super::each_node::own_name;
use super::super::session::Session;
use super::advice;
use crate::api::ApiError;
use crate::api::types::{DropAnswer, NodeDropsAnswer};
use crate::clock::millis;
use crate::cluster::{ToldDrop, ToldDrops};
use crate::model::{ClusterView, NodeName};

impl Session {
    /// What the nodes dropped, as each says: this one first.
    ///
    /// # Errors
    /// This node is just leaving.
    pub async fn node_drops(&self) -> Result<Vec<NodeDropsAnswer>, ApiError> {
        let view = self.view();
        let me = own_name(&view)?;
        let others = self.each_node(&view, |cluster, id| async move { cluster.fetch_drops(id).await });
        let (own, others) = tokio::join!(self.drops.find(), others);
        let told = others.into_iter().map(|(node, told)| match told {
            Ok(drops) => answer(&view, node, drops),
            Err(why) => NodeDropsAnswer { node, untold: Some(why), age_ms: 0, drops: Vec::new() },
        });
        Ok(std::iter::once(answer(&view, me, own)).chain(told).collect())
    }
}

/// Those of them that are of networks which there are.
fn answer(view: &ClusterView, node: NodeName, told: ToldDrops) -> NodeDropsAnswer {
    let drop = |ToldDrop { reason, network, endpoint, count }| {
        let network = match network {
            Some(network) => Some(view.networks.get(&network)?.spec.name.clone()),
            None => None,
        };
        let advice = advice::of(&reason).filter(|_| endpoint.is_none());
        let hint = advice.unwrap_or_default().to_owned();
        Some(DropAnswer { reason, network, endpoint, count, hint })
    };
    let drops = told.drops.into_iter().filter_map(drop).collect();
    NodeDropsAnswer { node, untold: None, age_ms: millis(told.age), drops }
}
