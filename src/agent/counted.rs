//! What the kernel counted that keeps packets out, found out once for all who ask.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::{DropKind, Linux, PortDrops, Refused};
use crate::model::NetworkId;
use crate::plan::PortName;

/// What was dropped on this node.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// What came from the underlay.
    pub refused: Refused,
    /// What the endpoints sent and may not send, by network and port.
    pub drops: BTreeMap<NetworkId, BTreeMap<PortName, PortDrops>>,
    /// DNS queries that were too many, by network and port.
    pub queries: BTreeMap<NetworkId, BTreeMap<PortName, u64>>,
}

impl Counted {
    /// Asks the kernel. A network that goes just now has nothing to say.
    pub async fn find(kernel: Linux, networks: BTreeSet<NetworkId>) -> Self {
        let refused = kernel.refused().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "what was refused is not counted");
            Refused::default()
        });
        let mut found = Self { refused, ..Self::default() };
        for (network, dropped) in kernel.dropped(networks).await {
            found.drops.insert(network, dropped.frames);
            found.queries.insert(network, dropped.queries);
        }
        found
    }

    /// As the counters of the status: sums by name.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let mut of_kinds: BTreeMap<DropKind, u64> = DropKind::ALL.map(|kind| (kind, 0)).into();
        for (kind, count) in self.drops.values().flat_map(BTreeMap::values).flat_map(PortDrops::some) {
            *of_kinds.entry(kind).or_default() += count;
        }
        let limited = self.queries.values().flat_map(BTreeMap::values).sum();
        let Refused { vxlan, forged, mesh } = self.refused;
        let sums = [
            ("underlay_vxlan_refused", vxlan),
            ("underlay_vxlan_forged", forged),
            ("underlay_mesh_refused", mesh),
            ("dns_limited_in_kernel", limited),
        ];
        let sums = sums.map(|(name, count)| (name.to_owned(), count));
        let of_kinds =
            of_kinds.into_iter().map(|(kind, count)| (format!("port_dropped_{}", kind.name()), count));
        sums.into_iter().chain(of_kinds).collect()
    }
}
