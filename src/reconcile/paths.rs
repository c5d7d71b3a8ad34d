//! Whether what should fit into the tunnels to the other nodes does: a path that is smaller than its ends is said, not
//! suffered.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Reconciler, lock};
use crate::model::NodeId;

/// How often the paths are tried out, at least; and the share of it for each node, so that many do not add up.
const PERIOD: Duration = Duration::from_secs(10);
const PER_NODE: Duration = Duration::from_millis(200);

/// How large a packet passes to another node through the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshPath {
    /// What should, by the MTUs of both underlays, in bytes.
    pub mtu: u32,
    /// What did when it was last tried, and came back; 0: nothing.
    pub carries: u32,
}

impl Reconciler {
    /// How large a packet passes to each node that was last tried.
    pub fn mesh_paths(&self) -> BTreeMap<NodeId, MeshPath> {
        lock(&self.0.paths).clone()
    }

    /// What of that is less than it should be, for people, by the node.
    pub fn path_problems(&self) -> BTreeMap<NodeId, String> {
        let view = self.view();
        let small = self.mesh_paths().into_iter().filter_map(|(id, path)| {
            let node = view.nodes.get(&id).filter(|node| node.state.is_up())?;
            let MeshPath { mtu, carries } = path;
            let text = match carries {
                0 => format!(
                    "mesh: nothing passes to {} through its tunnel: let UDP to its WireGuard port ({}) pass",
                    node.name,
                    node.mesh.iter().map(|key| key.port.to_string()).collect::<Vec<_>>().join(", ")
                ),
                carries if carries < mtu => format!(
                    "mesh: packets of {mtu} bytes should pass to {} through its tunnel, and only {carries} do: \
                     something on the way between {} and this node has an MTU that is {} smaller; raise it there, \
                     or create networks with `--mtu {}`",
                    node.name,
                    node.vtep,
                    mtu - carries,
                    carries.saturating_sub(70)
                ),
                _ => return None,
            };
            Some((id, text))
        });
        small.collect()
    }

    /// Tries the paths out every so often, until `stop`.
    pub async fn follow_paths(self, stop: CancellationToken) {
        let mut views = self.0.peers.view();
        loop {
            let nodes = u32::try_from(self.view().nodes.len()).unwrap_or(u32::MAX);
            let period = PERIOD.max(PER_NODE.saturating_mul(nodes));
            let rest = async {
                sleep(PERIOD / 5).await;
                // News of nodes may have made a path; in between it is tried out less often.
                let _ = timeout(period.saturating_sub(PERIOD / 5), views.changed()).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = rest => {}
            }
            self.try_paths().await;
        }
    }

    async fn try_paths(&self) {
        let view = self.view();
        let (from, peers) = {
            let work = self.work().await;
            match work.subjects.mesh.subject.paths(&view) {
                Some(paths) => paths,
                None => {
                    lock(&self.0.paths).clear();
                    return;
                }
            }
        };
        let sizes = peers.iter().map(|(peer, (_, mtu))| (*peer, *mtu)).collect();
        let found = match self.0.kernel.try_mesh_paths(from, sizes).await {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "cannot try out the mesh");
                return;
            }
        };
        let paths = found.into_iter().filter_map(|(peer, carries)| {
            let (node, mtu) = peers.get(&peer)?;
            Some((*node, MeshPath { mtu: *mtu, carries }))
        });
        let before = self.path_problems();
        *lock(&self.0.paths) = paths.collect();
        for (_, problem) in self.path_problems().iter().filter(|(node, text)| before.get(node) != Some(text))
        {
            tracing::warn!("{problem}");
        }
    }
}
