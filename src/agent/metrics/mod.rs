//! The metrics of this agent: every part that has some, one after another.
//!
//! Owns: which parts there are, and what only the agent knows of (its process, this node's place among the others, what the
//! kernel counts). Does not own: how metrics are written (`metrics`), nor what other rooms count, which write it themselves.

mod cluster;
mod kernel;
mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Agent;
use super::session::Session;
use crate::metrics::{Collect, Page};
use crate::model::{ClusterView, NetworkId, NetworkView};

pub use kernel::{Meter, Metered};

/// How old the page may be, and how long somebody waits for a newer one.
const AGE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

impl Agent {
    /// All metrics as text, found out once for all who ask within a second.
    pub async fn page(&self) -> Option<Arc<String>> {
        let write = || {
            let agent = self.clone();
            async move { agent.write_page().await }
        };
        self.metrics.get(AGE, PATIENCE, write).await.map(|(page, _)| page)
    }

    async fn write_page(&self) -> String {
        let session = self.session.read().await.clone();
        let process = process::Process::now(self.started);
        // As long as the one before, mostly.
        let mut page = Page::with_room(self.metrics.last().map_or(0, |page| page.len()));
        process.collect(&mut page);
        page.gauge(
            "lanmesh_in_cluster",
            "Whether this node belongs to a cluster; if not, the rest is absent.",
        )
        .value(u8::from(session.is_some()));
        self.context.events.collect(&mut page);
        let Some(session) = session else { return page.into_text() };
        let view = session.view();
        let networks = labels(&view);
        let of_cluster = cluster::OfCluster::new(&session, &view, &networks).await;
        let (counted, age) = session.counting.counted().await;
        let metered = session.metered().await;
        let of_kernel =
            kernel::OfKernel { view: &view, networks: &networks, counted: &counted, metered: &metered, age };
        let (stats, report) = (session.cluster.stats(), session.reconciler.report());
        let parts: [&dyn Collect; 6] =
            [&of_cluster, &stats, &report, &of_kernel, &session.dns, &session.mdns];
        parts.into_iter().for_each(|part| part.collect(&mut page));
        page.into_text()
    }
}

/// What each network is called in a label. Of two with one name, of which only the older has it by right, the other has its
/// id too.
fn labels(view: &ClusterView) -> BTreeMap<NetworkId, String> {
    let label = |network: &NetworkView| match network.conflict {
        false => network.spec.name.to_string(),
        true => format!("{} {}", network.spec.name, network.spec.id),
    };
    view.networks.iter().map(|(id, network)| (*id, label(network))).collect()
}

impl Session {
    /// What passed, and what was dropped, as sums that only grow. Does not wait for a kernel that hangs.
    async fn metered(&self) -> Arc<Metered> {
        let (counted, _) = self.counting.counted().await;
        let measure = || {
            let source = kernel::Source {
                kernel: self.kernel().clone(),
                reconciler: self.reconciler.clone(),
                view: self.view(),
                cluster: self.cluster.id().to_owned(),
                counted: Arc::clone(&counted),
                meter: Arc::clone(&self.meter),
            };
            async move { source.measure().await }
        };
        let found = self.metered.get(AGE, kernel::PATIENCE, measure).await;
        found.map_or_else(Arc::default, |(metered, _)| metered)
    }
}
