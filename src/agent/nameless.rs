//! Names that endpoints were given and that others have, as events. An attach refuses them; two sides of a cut, each on its own,
//! could not.

use std::collections::BTreeSet;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{EventKind, EventLog, EventObject};
use crate::cluster::Cluster;
use crate::dns::{LostName, LostNames};
use crate::model::{ClusterView, NetworkId};

/// Tells of each such name once for as long as it is so, until `stop`.
pub async fn tell(
    log: EventLog,
    cluster: Cluster,
    mut lost: watch::Receiver<LostNames>,
    stop: CancellationToken,
) {
    let mut told: BTreeSet<(NetworkId, LostName)> = BTreeSet::new();
    lost.mark_changed();
    while let Some(Ok(())) = stop.run_until_cancelled(lost.changed()).await {
        let now: BTreeSet<_> = {
            let lost = lost.borrow_and_update();
            lost.iter().flat_map(|(id, names)| names.iter().map(|name| (*id, name.clone()))).collect()
        };
        let view = cluster.view().borrow().clone();
        for (id, name) in now.difference(&told) {
            let (object, text) = event(&view, *id, name);
            tracing::warn!(network = %id, "{text}");
            log.publish(EventKind::Alarm, object, text);
        }
        told = now;
    }
}

fn event(view: &ClusterView, id: NetworkId, lost: &LostName) -> (EventObject, String) {
    let LostName { endpoint, name, holder } = lost;
    let node = view.endpoint(&id, endpoint).and_then(|(node, _)| view.nodes.get(node));
    let node = node.map(|node| node.name.clone());
    let network = view.networks.get(&id).map(|network| network.spec.name.clone());
    let at = node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
    let text = format!(
        "DNS answers {name} with {holder}, and not with endpoint {endpoint}{at}, which was given that name too while nodes did \
         not hear each other: attach one of the two again under another name"
    );
    (EventObject { node, network, endpoint: Some(endpoint.clone()) }, text)
}
