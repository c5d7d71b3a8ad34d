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
    /// of what a live node that does answers.
    async fn fetch<T>(
        &self,
        network: NetworkId,
        part: impl Fn(&Known) -> &Arc<T>,
        known: impl Fn(&NetworkView) -> BTreeMap<NodeId, Arc<T>>,
    ) -> Result<BTreeMap<NodeId, Arc<T>>, ClusterError> {
        let view = self.view().borrow().clone();
        let here = view.networks.get(&network).ok_or(ClusterError::NoSuchNetwork(network))?;
        let takes_part = view.myself().is_some_and(|me| me.networks.contains(&network));
        if takes_part && view.unheard(network).next().is_none() {
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
        if let Ok(Some(found)) = answered.await {
            return Ok(found);
        }
        if asked == 0 { Ok(BTreeMap::new()) } else { Err(ClusterError::NoAnswer { network, asked }) }
    }
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
