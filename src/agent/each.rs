//! A task for each network that this node has, from the moment it has it until it has it no more.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::NetworkId;

/// Keeps one going in each of the networks `present`, as `begin` makes it, until `stop`; when this returns all have ended. `gone`
/// is told of a network that went, not of those that there are at the end.
pub async fn network<F: Future<Output = ()> + Send + 'static>(
    mut present: watch::Receiver<BTreeSet<NetworkId>>,
    stop: &CancellationToken,
    begin: impl Fn(NetworkId) -> F,
    gone: impl Fn(NetworkId),
) {
    let mut running: BTreeMap<NetworkId, CancellationToken> = BTreeMap::new();
    let tasks = TaskTracker::new();
    loop {
        let now = present.borrow_and_update().clone();
        running.retain(|id, token| {
            let stays = now.contains(id);
            if !stays {
                token.cancel();
                gone(*id);
            }
            stays
        });
        for id in now {
            running.entry(id).or_insert_with(|| {
                let token = stop.child_token();
                tasks.spawn({
                    let (ending, task) = (token.clone(), begin(id));
                    async move { ending.run_until_cancelled(task).await }
                });
                token
            });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            // An error means that the reconciler is gone, and this is about to be stopped.
            changed = present.changed() => if changed.is_err() { break },
        }
    }
    stop.cancelled().await;
    tasks.close();
    tasks.wait().await;
}
