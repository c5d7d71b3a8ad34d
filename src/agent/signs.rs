//! What on this machine keeps frames from passing, as far as it shows in what the kernel counts and is set to: looked at every
//! few seconds, and told when it begins and when it ends. What it means is in `seen`.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::health::{Health, lock};
use super::seen::{Seen, Signs};
use crate::api::{EventKind, EventLog, EventObject};
use crate::cluster::Cluster;
use crate::health::Problem;
use crate::kernel::{Linux, Refused};
use crate::model::{ClusterView, NetworkId, NodeId, NodeState};
use crate::reconcile::Reconciler;

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(5);
/// For how many nodes a route is looked for each time.
const PEERS: usize = 64;

/// What is watched, and where it is told.
pub struct Watched {
    /// For the names of things, and who answers.
    pub cluster: Cluster,
    /// This node's kernel.
    pub kernel: Linux,
    /// For which networks there are, and this node's endpoints.
    pub reconciler: Reconciler,
    /// Where it is told.
    pub events: EventLog,
}

impl Health {
    /// Watches it until `stop`.
    pub async fn watch(self, watched: Watched, stop: CancellationToken) {
        let mut seen = Seen::default();
        let look = async {
            loop {
                self.look(&watched, &mut seen).await;
                sleep(PERIOD).await;
            }
        };
        stop.run_until_cancelled(look).await;
    }

    async fn look(&self, watched: &Watched, seen: &mut Seen) {
        let kernel = &watched.kernel;
        // What cannot be read says nothing; why is of no use to anybody but who looks for a fault of ours.
        match kernel.node_signs().await {
            Ok(signs) => seen.note_node(signs, self.now()),
            Err(error) => tracing::debug!(%error, "the kernel's counts are not read"),
        }
        if let Ok(Refused { vxlan, .. }) = kernel.refused().await {
            seen.note_refused(vxlan, self.now());
        }
        let present = watched.reconciler.present().borrow().clone();
        for network in seen.due(&present) {
            match kernel.network_signs(network).await {
                Ok(signs) => seen.note_network(network, signs, self.now()),
                Err(error) => tracing::debug!(%network, %error, "the settings of a network are not read"),
            }
        }
        let view = watched.cluster.view().borrow().clone();
        let unrouted = self.unrouted(kernel, &view).await;
        *lock(&self.0.unrouted) = unrouted;
        let silent =
            view.nodes.values().any(|node| matches!(node.state, NodeState::Suspect | NodeState::Dead));
        let ill = silent || self.ways().iter().any(|(_, way)| way.verdict.is_bad());
        if ill && seen.drops_senders() {
            seen.strict = kernel.strict_interfaces().await.unwrap_or_default();
        }
        let signs = seen.signs(&view, &watched.reconciler.records(), ill);
        let before = std::mem::replace(&mut *lock(&self.0.signs), signs.clone());
        let (problems, before): (Vec<_>, Vec<_>) = (signs.all().collect(), before.all().collect());
        let is_in = |list: &[Problem], problem: &Problem| list.iter().any(|other| other.what == problem.what);
        for new in problems.iter().filter(|problem| !is_in(&before, problem)) {
            let text = format!("{}: {}", new.what, new.hint);
            tracing::warn!("{text}");
            watched.events.publish(EventKind::Problem, EventObject::default(), text);
        }
        for old in before.iter().filter(|problem| !is_in(&problems, problem)) {
            let text = format!("no more: {}", old.what);
            tracing::info!("{text}");
            watched.events.publish(EventKind::Problem, EventObject::default(), text);
        }
    }

    /// The nodes over the ways to which nothing passes, and to which no route leads.
    async fn unrouted(&self, kernel: &Linux, view: &ClusterView) -> BTreeSet<NodeId> {
        let mut unrouted = BTreeSet::new();
        let dead = self.ways().into_iter().filter(|(_, way)| way.verdict.is_dead());
        let peers: BTreeSet<NodeId> = dead.map(|(key, _)| key.peer).collect();
        let Some(me) = view.myself() else { return unrouted };
        for node in peers.into_iter().take(PEERS).filter_map(|peer| view.nodes.get(&peer)) {
            if let Ok(None) = kernel.way_out(me.vtep, node.vtep).await {
                unrouted.insert(node.id);
            }
        }
        unrouted
    }

    /// What keeps frames of one network from passing on this machine now, as far as it shows while `work` is done; and of what the
    /// machine counts as a whole, what showed lately.
    pub async fn signs_while<T>(
        &self,
        (cluster, kernel, reconciler): (&Cluster, &Linux, &Reconciler),
        network: NetworkId,
        work: impl Future<Output = T>,
    ) -> (T, Signs) {
        let mut seen = Seen::default();
        if let Ok(before) = kernel.node_signs().await {
            seen.note_node(before, self.now());
        }
        let done = work.await;
        if let Ok(after) = kernel.node_signs().await {
            seen.note_node(after, self.now());
        }
        seen.note_network(network, kernel.network_signs(network).await.unwrap_or_default(), self.now());
        if seen.drops_senders() {
            seen.strict = kernel.strict_interfaces().await.unwrap_or_default();
        }
        let view = cluster.view().borrow().clone();
        let mut signs = seen.signs(&view, &reconciler.records(), true);
        let known = lock(&self.0.signs);
        signs.neighbours.extend(
            known.neighbours.iter().filter(|_| signs.neighbours.is_empty()).cloned().collect::<Vec<_>>(),
        );
        signs.strangers.clone_from(&known.strangers);
        drop(known);
        (done, signs)
    }
}
