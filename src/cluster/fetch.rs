//! What there is in a network on every node: from the view where this node takes part, else asked of one that does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ClusterError;
use super::facts::{Delta, Doc, Scope};
use super::handle::Cluster;
use super::kinds::{About, Known};
use crate::model::{
    Endpoint, EndpointName, Group, NetworkId, NetworkSpec, NetworkView, NodeId, ZeroconfFact, ZeroconfKey,
};

/// How long all who are asked what there is in a network may take together.
const FETCH_PATIENCE: Duration = Duration::from_secs(2);

/// What each node has in one network.
pub type NetworkEndpoints = BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>>;

/// What is joined on each node in one network.
pub type NetworkGroups = BTreeMap<NodeId, Arc<BTreeSet<Group>>>;

/// What mDNS brought to light on each node in one network.
pub type NetworkZeroconf = BTreeMap<NodeId, Arc<BTreeMap<ZeroconfKey, ZeroconfFact>>>;

impl Cluster {
    /// The endpoints of a network on every node; asked of a live node that has it, where this one does not.
    pub async fn fetch_endpoints(&self, network: NetworkId) -> Result<NetworkEndpoints, ClusterError> {
        let fetched = self.fetch(network, |known| &known.endpoints, |known| known.endpoints.clone()).await?;
        Ok(fetched.into_iter().filter(|(_, endpoints)| !endpoints.is_empty()).collect())
    }

    /// The endpoints of a network on every node, as `peer` says, which has some itself.
    pub async fn ask_endpoints(
        &self,
        peer: NodeId,
        network: NetworkId,
    ) -> Result<NetworkEndpoints, ClusterError> {
        let address = self.view().borrow().nodes.get(&peer).map(|node| node.address);
        let address = address.ok_or_else(|| ClusterError::NoSuchNode(peer.to_string()))?;
        let deltas = self.0.streams.fetch(peer, address, network).await;
        let deltas = deltas.map_err(|_| ClusterError::NoAnswer { network, asked: 1 })?;
        let view = self.view().borrow().clone();
        let here = view.networks.get(&network).ok_or(ClusterError::NoSuchNetwork(network))?;
        let found = documents(&here.spec, &deltas, &|known: &Known| &known.endpoints);
        Ok(found.into_iter().filter(|(_, endpoints)| !endpoints.is_empty()).collect())
    }

    /// The multicast groups that are joined on every node of a network; asked like [`Cluster::fetch_endpoints`].
    pub async fn fetch_groups(&self, network: NetworkId) -> Result<NetworkGroups, ClusterError> {
        let fetched = self.fetch(network, |known| &known.groups, |known| known.groups.clone()).await?;
        Ok(fetched.into_iter().filter(|(_, groups)| !groups.is_empty()).collect())
    }

    /// What mDNS brought to light on every node of a network; asked like [`Cluster::fetch_endpoints`].
    pub async fn fetch_zeroconf(&self, network: NetworkId) -> Result<NetworkZeroconf, ClusterError> {
        let fetched = self.fetch(network, |known| &known.zeroconf, |known| known.zeroconf.clone()).await?;
        Ok(fetched.into_iter().filter(|(_, facts)| !facts.is_empty()).collect())
    }

    /// A part of every node's document in a network: `known` of the view where this node takes part, else `part`
    /// of what a live node that does answers. Of those that have been heard of here, and of this node itself, it is what is
    /// known here: who is asked may not have heard yet of what has just been written.
    async fn fetch<T>(
        &self,
        network: NetworkId,
        part: impl Fn(&Known) -> &Arc<T>,
        known: impl Fn(&NetworkView) -> BTreeMap<NodeId, Arc<T>>,
    ) -> Result<BTreeMap<NodeId, Arc<T>>, ClusterError> {
        let view = self.view().borrow().clone();
        let here = view.networks.get(&network).ok_or(ClusterError::NoSuchNetwork(network))?;
        let takes_part = view.myself().is_some_and(|me| me.networks.contains(&network));
        let unheard: BTreeSet<NodeId> = view.unheard(network).map(|node| node.id).collect();
        if takes_part && unheard.is_empty() {
            return Ok(known(here));
        }
        let holders = self.0.link.with(move |core, _| core.holders(network)).await?;
        let asked = holders.len();
        // All of them together: whoever asks waits.
        let answered = tokio::time::timeout(FETCH_PATIENCE, async {
            for (peer, address) in holders {
                let Ok(deltas) = self.0.streams.fetch(peer, address, network).await else { continue };
                return Some(documents(&here.spec, &deltas, &part));
            }
            None
        });
        let told = match answered.await {
            Ok(Some(told)) => told,
            _ if asked == 0 => BTreeMap::new(),
            _ => return Err(ClusterError::NoAnswer { network, asked }),
        };
        let heard_here = |node: &NodeId| *node == view.me || (takes_part && !unheard.contains(node));
        Ok(joined(told, known(here), heard_here))
    }
}

/// What is `known` here of those that have been `heard` of here, and what was `told` of the others.
fn joined<T>(
    told: BTreeMap<NodeId, T>,
    known: BTreeMap<NodeId, T>,
    heard: impl Fn(&NodeId) -> bool,
) -> BTreeMap<NodeId, T> {
    let told = told.into_iter().filter(|(node, _)| !heard(node));
    told.chain(known.into_iter().filter(|(node, _)| heard(node))).collect()
}

/// A part of each document of a network that a node has told.
fn documents<T>(
    spec: &Arc<NetworkSpec>,
    deltas: &[Delta],
    part: &impl Fn(&Known) -> &Arc<T>,
) -> BTreeMap<NodeId, Arc<T>> {
    let told = deltas.iter().filter(|delta| delta.is_sound()).map(|delta| {
        let (writer, scope) = (delta.writer, Scope::Network(spec.id));
        let mut doc = Doc::<Known>::unknown(&About { writer, scope, network: Some(Arc::clone(spec)) });
        doc.apply(delta);
        (writer, Arc::clone(part(doc.known())))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_has_itself_is_not_hidden_by_one_that_has_not_heard_of_it() {
        let [me, heard, unheard] = [1, 2, 3].map(|n| NodeId::from_bytes([n; 16]));
        let told = BTreeMap::from([(me, "old"), (heard, "old"), (unheard, "told")]);
        let known = BTreeMap::from([(me, "new"), (heard, "new")]);
        let both = joined(told.clone(), known.clone(), |node| *node != unheard);
        assert_eq!(both, BTreeMap::from([(me, "new"), (heard, "new"), (unheard, "told")]));
        // Where it takes no part, only its own counts; and it may have none any more.
        let others = joined(told, BTreeMap::from([(heard, "new")]), |node| *node == me);
        assert_eq!(others, BTreeMap::from([(heard, "old"), (unheard, "told")]));
    }
}
