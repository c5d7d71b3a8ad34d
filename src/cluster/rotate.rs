//! New gossip keys: on a schedule, when somebody asks, and when a node is removed.
//!
//! Owns: when the manager makes a key, and what the agent learns of the secrets that follow from it. Does not own: how
//! keys reach the others (`core`), which are good when (`seal`).

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::core::{Core, Persist};
use super::gossip_key::GossipKey;
use super::handle::{Cluster, Inner};
use super::{ClusterError, store};
use crate::clock::now_ms;
use crate::mesh::MeshSecret;
use crate::model::{MeshKey, NodeId};
use crate::state::State;

/// The longest wait between two looks at the clock, which may be set, and stands still while a machine sleeps.
const LOOK: Duration = Duration::from_secs(60);
/// How long after a key could not be made it is tried again.
const RETRY: Duration = Duration::from_secs(5);

impl Cluster {
    /// Makes a new gossip key, from which the mesh's next secret follows, and hands it out. Manager only.
    pub async fn rotate_keys(&self) -> Result<(), ClusterError> {
        self.hand_out_next(false, vec![Persist::Rotated(now_ms())]).await
    }

    /// Makes the next gossip key and hands it out, once it is written down with `besides`; `void` as in
    /// [`Gate::next_key`](super::join::gate::Gate::next_key).
    ///
    /// # Errors
    /// This node is not the manager, or it cannot be written down: then there is no such key.
    async fn hand_out_next(&self, void: bool, besides: Vec<Persist>) -> Result<(), ClusterError> {
        let key = self.next_key(void).await?;
        let prepare = move |core: &Core, _| {
            let mut changes = core.with_key(&key);
            changes.extend(besides);
            Ok::<_, ClusterError>((changes, key))
        };
        self.0.streams.durably(prepare, Core::hand_out).await
    }

    /// The number of the newest gossip key that this node has.
    pub async fn key_epoch(&self) -> Result<u32, ClusterError> {
        self.0.link.with(|core, _| core.key_epoch().0).await
    }

    /// The newest secret of the mesh; changes when a rotation begins.
    pub fn mesh_secret(&self) -> watch::Receiver<Option<MeshSecret>> {
        self.0.mesh.clone()
    }

    /// Publishes under which keys this node can be reached in the mesh.
    pub async fn set_mesh(&self, keys: Vec<MeshKey>) -> Result<(), ClusterError> {
        self.0.link.with(move |core, now| core.set_mesh(keys, now)).await?
    }

    async fn manages(&self) -> Result<bool, ClusterError> {
        self.0.link.with(|core, _| core.is_manager()).await
    }

    /// The next gossip key; `void` as in [`Gate::next_key`](super::join::gate::Gate::next_key).
    pub(super) async fn next_key(&self, void: bool) -> Result<GossipKey, ClusterError> {
        let held = self.0.link.with(|core, _| core.key_epoch()).await?;
        self.with_gate(|gate| gate.next_key(held, void)).await
    }

    /// Rotates for as long as this node is the manager: every `period`, where there is one, and when a node left, as it
    /// would be shut out; also one that left before this node started, or was the manager. The task ends with the cluster.
    pub(super) fn rotate_when_due(&self, period: Option<Duration>) {
        let cluster = Arc::downgrade(&self.0);
        let (stop, state) = (self.0.streams.stop.clone(), self.0.state.clone());
        let left = Arc::clone(&self.0.streams.left);
        let mut settled = self.0.streams.settled.clone();
        self.0.streams.tasks.spawn(async move {
            // A key that is handed out before anybody is known to be there has to be fetched by each.
            tokio::select! {
                () = stop.cancelled() => return,
                _ = settled.wait_for(|settled| *settled) => {}
            }
            loop {
                let owed = store::owed(&state).unwrap_or_else(|error| {
                    warn!(%error, "cannot tell whether a node left with the gossip keys that are good now");
                    Vec::new()
                });
                let is_due = period.is_some_and(|period| due(&state, period).is_zero());
                if (!owed.is_empty() || is_due) && !rotate(&cluster, &owed).await {
                    return;
                }
                let wait = period.map_or(LOOK, |period| due(&state, period).min(LOOK));
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = left.notified() => {
                        // What is owed is written by then.
                        let written = cluster.upgrade().map(Cluster);
                        let Some(written) = written else { return };
                        if written.0.streams.persister.barrier().await.is_err() {
                            return;
                        }
                    }
                    () = tokio::time::sleep(wait) => {}
                }
            }
        });
    }

    /// Makes a new gossip key that voids all others, so that nodes that left can read nothing more.
    async fn rotate_after_leave(&self, owed: &[NodeId]) -> Result<(), ClusterError> {
        self.hand_out_next(true, Vec::new()).await?;
        // Of those alone: another may have left meanwhile.
        Ok(store::paid(&self.0.state, owed)?)
    }
}

/// Makes a new gossip key; `owed` are the nodes that left with those that are good now. `false` where the cluster has
/// stopped.
async fn rotate(cluster: &Weak<Inner>, owed: &[NodeId]) -> bool {
    let Some(cluster) = cluster.upgrade().map(Cluster) else { return false };
    let rotated = match cluster.manages().await {
        // It is looked at again later, in case this node becomes the manager.
        Ok(false) => return true,
        Ok(true) if owed.is_empty() => cluster.rotate_keys().await,
        Ok(true) => cluster.rotate_after_leave(owed).await,
        Err(error) => Err(error),
    };
    match rotated {
        Ok(()) if owed.is_empty() => info!("made a new gossip key, as its time had come"),
        Ok(()) => info!("made a new gossip key, as a node left"),
        Err(ClusterError::Stopped) => return false,
        Err(error) => {
            warn!(%error, "cannot make a new gossip key");
            tokio::time::sleep(RETRY).await;
        }
    }
    true
}

/// How long until the next rotation, by the wall clock. One that went back begins the period anew.
fn due(state: &State, period: Duration) -> Duration {
    let now = now_ms();
    let last = match store::last_rotated(state) {
        Ok(Some(last)) if last <= now => last,
        found => {
            if let Err(error) = found.map_or_else(Err, |_| store::rotated(state, now)) {
                warn!(%error, "cannot tell when the gossip key was made");
            }
            now
        }
    };
    period.saturating_sub(Duration::from_millis(now - last))
}
