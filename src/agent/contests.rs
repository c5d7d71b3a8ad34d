//! Who announces by mDNS what was declared for another endpoint, as an event.

use crate::api::{EventKind, EventLog, EventObject};
use crate::model::{ClusterView, NetworkId, ZeroconfKey};
use crate::zeroconf::Contest;

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
