//! Who announces by mDNS what was declared for another endpoint, or what is not carried to other nodes, as an event.

use crate::api::{EventKind, EventLog, EventObject};
use crate::model::{ClusterView, NetworkId, ZeroconfKey};
use crate::zeroconf::{Contest, Uncarried};

/// Tells of a contest in a network. The engine says how often.
pub fn tell(log: &EventLog, view: &ClusterView, id: NetworkId, contest: &Contest) {
    let Contest { key, endpoint, by } = contest;
    let network = view.networks.get(&id).map(|network| network.spec.name.clone());
    let node = view.endpoint(&id, by).and_then(|(node, _)| view.nodes.get(node));
    let node = node.map(|node| node.name.clone());
    let what = match key {
        ZeroconfKey::Service { kind, instance } => format!("the service {instance:?} ({kind})"),
        ZeroconfKey::Host(host) => format!("the host name {host:?}"),
        ZeroconfKey::Records { name, .. } => {
            let labels: Vec<_> = name.iter().map(|label| String::from_utf8_lossy(label)).collect();
            format!("records of {:?}", labels.join("."))
        }
    };
    let at = node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
    let text = format!(
        "endpoint {by}{at} announces {what}, which was declared for endpoint {endpoint}: it stays as it was declared"
    );
    tracing::warn!(network = %id, "{text}");
    log.publish(EventKind::Alarm, EventObject { node, network, endpoint: Some(by.clone()) }, text);
}

/// Tells of what an endpoint of this node announces in vain. The engine says it once of each.
pub fn tell_uncarried(log: &EventLog, view: &ClusterView, id: NetworkId, what: &Uncarried) {
    let Uncarried { endpoint, name, kind } = what;
    let network = view.networks.get(&id).map(|network| network.spec.name.clone());
    let text = format!(
        "endpoint {endpoint} announces {name} ({kind}), which is too large, or more than is kept of one endpoint: the other \
         nodes do not hear of it. Let it announce less, or let mDNS itself travel with `--zeroconf transparent`"
    );
    tracing::warn!(network = %id, "{text}");
    let node = view.myself().map(|me| me.name.clone());
    log.publish(EventKind::Alarm, EventObject { node, network, endpoint: Some(endpoint.clone()) }, text);
}
