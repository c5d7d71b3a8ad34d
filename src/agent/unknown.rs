//! Facts of a kind that no release knows, to see that they are carried (`LANMESH_UNKNOWN_KIND`).

use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;

/// Publishes facts of a kind that no release knows, in every network that this node takes part in, until it is stopped.
pub async fn publish(cluster: Cluster, kind: u16, stop: CancellationToken) {
    let mut view = cluster.view();
    loop {
        let version = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
        if let Err(error) = cluster.publish_unknown(kind, version).await {
            tracing::warn!(kind, %error, "cannot publish what nobody knows");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}
