//! Which networks' names are served: those that this node has, from the moment it has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dns::{Dns, Served};
use crate::kernel::Linux;
use crate::model::{ClusterView, NetworkId, NetworkSpec};

/// How long after a name server could not be started it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps a name server in every network that this node has.
pub struct Serving {
    /// The name servers.
    pub dns: Dns,
    /// Where the networks' namespaces are.
    pub kernel: Linux,
    /// What the networks are.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// The networks that this node has.
    pub present: watch::Receiver<BTreeSet<NetworkId>>,
    /// What the configuration says now.
    pub config: watch::Receiver<Arc<Config>>,
    /// What the networks are that are served.
    pub specs: BTreeMap<NetworkId, Arc<NetworkSpec>>,
}

fn is_other(view: &ClusterView, id: &NetworkId, spec: &Arc<NetworkSpec>) -> bool {
    view.networks.get(id).is_some_and(|network| network.spec != *spec)
}

impl Serving {
    /// Keeps at it until `stop`; then no name server is left.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
        self.dns.stop().await;
    }

    async fn follow(&mut self) {
        loop {
            let all_serve = self.serve().await;
            let retry = if all_serve { Duration::MAX } else { RETRY };
            let (present, view, specs) = (&mut self.present, &mut self.view, &self.specs);
            let config = &mut self.config;
            let mut is_read = false;
            // What a network's name server does may be set while it runs.
            let set = view.wait_for(|view| specs.iter().any(|(id, spec)| is_other(view, id, spec)));
            tokio::select! {
                // An error means that the reconciler is gone, and this is about to be stopped.
                changed = present.changed() => if changed.is_err() { return },
                set = set => if set.is_err() { return },
                read = config.changed() => if read.is_err() { return } else { is_read = true },
                () = tokio::time::sleep(retry) => {}
            }
            if is_read {
                self.configure().await;
            }
        }
    }

    async fn configure(&mut self) {
        let config = self.config.borrow_and_update().clone();
        self.dns.configure(config.dns_ttl, config.resolv_conf.clone()).await;
    }

    /// Whether every network that is there has its name server.
    async fn serve(&mut self) -> bool {
        let present = self.present.borrow_and_update().clone();
        let view = self.view.borrow().clone();
        let served: BTreeMap<NetworkId, Served> = present
            .iter()
            .filter_map(|id| {
                let network = view.networks.get(id)?;
                Some((*id, Served::new(&network.spec, self.kernel.namespace_path(*id))))
            })
            .collect();
        let specs = present.iter().filter_map(|id| Some((*id, view.networks.get(id)?.spec.clone())));
        self.specs = specs.collect();
        let failed = self.dns.serve(served).await;
        for (network, error) in &failed {
            tracing::warn!(%network, %error, "no name server; it is tried again");
        }
        // One that is there and not yet in the view comes with the next try.
        failed.is_empty() && present.iter().all(|id| view.networks.contains_key(id))
    }
}
