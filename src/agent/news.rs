//! From what happens in the cluster and on this node to the events that the socket offers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::answers::named;
use super::presence::{Presence, Told, runs_twice};
use crate::api::{EventKind, EventLog, EventObject};
use crate::cluster::{Cluster, ClusterEvent};
use crate::model::{ClusterView, EndpointName, NetworkId, NetworkName, NodeId, NodeName};
use crate::reconcile::Happening;

/// How often it is looked whether something that was told together has ended.
const LOOK: Duration = Duration::from_secs(5);

/// Writes down what happens until `stop`.
pub async fn tell(
    log: EventLog,
    cluster: Cluster,
    mut happenings: mpsc::Receiver<Happening>,
    (presence, detect): (Presence, Duration),
    stop: CancellationToken,
) {
    let started = Instant::now();
    let mut look = tokio::time::interval(LOOK);
    let mut events = cluster.events();
    let view = || cluster.view().borrow().clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => {
                    if let Some(told) = presence.hear(&event, detect, started.elapsed()) {
                        tell_presence(&log, told);
                    }
                    tell_event(&log, &view(), event);
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let text = format!("{missed} events of the cluster came too fast to be written down");
                    log.publish(EventKind::Lagged, EventObject::default(), text);
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = look.tick() => {
                presence.tick(started.elapsed()).into_iter().for_each(|told| tell_presence(&log, told));
            }
            happening = happenings.recv() => match happening {
                Some(happening) => tell_happening(&log, &view(), happening),
                None => return,
            },
        }
    }
}

fn tell_presence(log: &EventLog, told: Told) {
    let Told { node, text, grave, logged } = told;
    match (logged, grave) {
        (true, true) => tracing::warn!(%node, "node {text}"),
        (true, false) => tracing::info!(%node, "node {text}"),
        (false, _) => tracing::debug!(%node, "node {text}"),
    }
    let text = format!("node {node} {text}");
    log.publish(EventKind::NodeChanged, EventObject { node: Some(node), ..EventObject::default() }, text);
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
        // Told together where there are many: `presence`.
        ClusterEvent::NodeAlive { .. } | ClusterEvent::NodeSuspect { .. } | ClusterEvent::NodeDead { .. } => {
        }
        ClusterEvent::NodeLeft { name, .. } => {
            tracing::info!(node = %name, "node left");
            node(EventKind::NodeRemoved, name, "left");
        }
        ClusterEvent::NodeRemoved { name, .. } => {
            tracing::info!(node = %name, "node was removed");
            node(EventKind::NodeRemoved, name, "was removed");
        }
        ClusterEvent::ManagerChanged { node: id, name } => {
            let called = name.as_ref().map_or_else(|| id.short(), NodeName::to_string);
            tracing::warn!(node = %called, "node is the manager");
            let object = EventObject { node: name, ..EventObject::default() };
            log.publish(EventKind::ManagerChanged, object, format!("node {called} is the manager"));
        }
        ClusterEvent::NodeAdmittedTwice { node: id, name, other } => {
            let text = format!(
                "two nodes were let in under one id ({id}): {name} and {other}; one of them is where it does not \
                 belong: remove both (`lanmesh node rm`) and let the right one join again"
            );
            log.publish(EventKind::Alarm, EventObject { node: Some(name), ..EventObject::default() }, text);
        }
        ClusterEvent::RunsTwice { here, there, since_ms, goes_on, because } => {
            let text = runs_twice(here, there, since_ms, goes_on, because);
            tracing::error!("{text}");
            let name = view.myself().map(|node| node.name.clone());
            log.publish(EventKind::Alarm, EventObject { node: name, ..EventObject::default() }, text);
        }
        ClusterEvent::NodeSaysTooMuch { node: id, name } => {
            let called = name.as_ref().map_or_else(|| id.short(), NodeName::to_string);
            let text = format!("node {called} publishes more than a node may: nothing of that is believed");
            log.publish(EventKind::Alarm, EventObject { node: name, ..EventObject::default() }, text);
        }
        ClusterEvent::SpeaksOtherwise { from, apart } => {
            let text = format!("{from} cannot be understood: {apart}");
            log.publish(EventKind::Alarm, EventObject::default(), text);
        }
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
        Happening::PutBack { steps } => {
            let text = format!(
                "something else had changed what is kept in the kernel, put back: {}",
                named(view, &steps.join("; "))
            );
            log.publish(EventKind::PutBack, EventObject::default(), text);
        }
        Happening::Missed(missed) => {
            let text = format!("{missed} happenings on this node came too fast to be written down");
            log.publish(EventKind::Lagged, EventObject::default(), text);
        }
        Happening::Failed { errors } => {
            let text = named(view, &errors.join("; "));
            log.publish(EventKind::ReconcileFailed, EventObject::default(), text);
        }
    }
}

fn name_of_network(view: &ClusterView, id: NetworkId) -> Option<NetworkName> {
    view.networks.get(&id).map(|network| network.spec.name.clone())
}
