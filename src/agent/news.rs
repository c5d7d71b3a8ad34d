//! From what happens in the cluster and on this node to the events that the socket offers.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::api::{EventKind, EventLog, EventObject};
use crate::cluster::{Cluster, ClusterEvent};
use crate::model::{ClusterView, EndpointName, NetworkId, NetworkName, NodeId, NodeName};
use crate::reconcile::Happening;

/// Writes down what happens until `stop`.
pub async fn tell(
    log: EventLog,
    cluster: Cluster,
    mut happenings: mpsc::UnboundedReceiver<Happening>,
    stop: CancellationToken,
) {
    let mut events = cluster.events();
    let view = || cluster.view().borrow().clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => tell_event(&log, &view(), event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let text = format!("{missed} events of the cluster came too fast to be written down");
                    log.publish(EventKind::Lagged, EventObject::default(), text);
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            happening = happenings.recv() => match happening {
                Some(happening) => tell_happening(&log, &view(), happening),
                None => return,
            },
        }
    }
}

fn tell_event(log: &EventLog, view: &Arc<ClusterView>, event: ClusterEvent) {
    let node = |kind, name: NodeName, what: &str| {
        let text = format!("node {name} {what}");
        log.publish(kind, EventObject { node: Some(name), ..EventObject::default() }, text);
    };
    let network = |kind, name: NetworkName, what: &str| {
        let text = format!("network {name} was {what}");
        log.publish(kind, EventObject { network: Some(name), ..EventObject::default() }, text);
    };
    let endpoint = |kind, id: NetworkId, at: NodeId, name: EndpointName, what: &str| {
        let network = name_of_network(view, id);
        let node = view.nodes.get(&at).map(|node| node.name.clone());
        let place = node.as_ref().map_or_else(|| at.short(), NodeName::to_string);
        let text = format!("endpoint {name} {what} on {place}");
        log.publish(kind, EventObject { node, network, endpoint: Some(name) }, text);
    };
    match event {
        ClusterEvent::NodeJoined { name, .. } => node(EventKind::NodeAdded, name, "was let in"),
        ClusterEvent::NodeAlive { name, .. } => node(EventKind::NodeChanged, name, "answers"),
        ClusterEvent::NodeSuspect { name, .. } => {
            node(EventKind::NodeChanged, name, "has not answered lately");
        }
        ClusterEvent::NodeDead { name, .. } => node(EventKind::NodeChanged, name, "is dead"),
        ClusterEvent::NodeLeft { name, .. } => node(EventKind::NodeRemoved, name, "left"),
        ClusterEvent::NodeRemoved { name, .. } => node(EventKind::NodeRemoved, name, "was removed"),
        ClusterEvent::NetworkCreated { name, .. } => network(EventKind::NetworkAdded, name, "created"),
        ClusterEvent::NetworkDeleted { name, .. } => network(EventKind::NetworkRemoved, name, "deleted"),
        ClusterEvent::EndpointAdded { network, node, name } => {
            endpoint(EventKind::EndpointAdded, network, node, name, "was attached");
        }
        ClusterEvent::EndpointChanged { network, node, name } => {
            endpoint(EventKind::EndpointChanged, network, node, name, "changed");
        }
        ClusterEvent::EndpointRemoved { network, node, name } => {
            endpoint(EventKind::EndpointRemoved, network, node, name, "was detached");
        }
    }
}

fn tell_happening(log: &EventLog, view: &Arc<ClusterView>, happening: Happening) {
    match happening {
        Happening::EndpointLost { key, why } => {
            let object = EventObject {
                node: view.myself().map(|node| node.name.clone()),
                network: name_of_network(view, key.network),
                endpoint: Some(key.name.clone()),
            };
            log.publish(EventKind::EndpointRemoved, object, format!("endpoint {} is lost: {why}", key.name));
        }
        Happening::Changed { operations } => {
            let text = format!("{operations} operations brought the kernel to what is desired");
            log.publish(EventKind::Reconciled, EventObject::default(), text);
        }
        Happening::Failed { errors } => {
            log.publish(EventKind::ReconcileFailed, EventObject::default(), errors.join("; "));
        }
    }
}

fn name_of_network(view: &ClusterView, id: NetworkId) -> Option<NetworkName> {
    view.networks.get(&id).map(|network| network.spec.name.clone())
}
