//! What the kernel counted that keeps packets out, found out once for all who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kernel::{DropKind, Dropped, Linux, PortDrops, Refused};
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
    /// Asks the kernel. What it does not tell just now is as it was `last`: less would look as if the counting had begun anew.
    pub async fn find(kernel: Linux, networks: BTreeSet<NetworkId>, last: Option<Arc<Self>>) -> Self {
        let last = last.unwrap_or_default();
        let refused = kernel.refused().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "what was refused is not counted");
            last.refused
        });
        let told = kernel.dropped(networks.clone()).await;
        last.followed_by(refused, &networks, told)
    }

    fn followed_by(
        &self,
        refused: Refused,
        networks: &BTreeSet<NetworkId>,
        mut told: BTreeMap<NetworkId, Dropped>,
    ) -> Self {
        let mut found = Self { refused, ..Self::default() };
        for network in networks {
            let (drops, queries) = match told.remove(network) {
                Some(Dropped { frames, queries }) => (Some(frames), Some(queries)),
                None => (self.drops.get(network).cloned(), self.queries.get(network).cloned()),
            };
            found.drops.extend(drops.map(|drops| (*network, drops)));
            found.queries.extend(queries.map(|queries| (*network, queries)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_the_kernel_does_not_tell_the_last_stays_as_long_as_it_is_asked_for() {
        let [one, two, gone] = [1, 2, 3].map(|n| NetworkId::from_bytes([n; 8]));
        let port = PortName::of(&"web".parse().unwrap());
        let dropped = |count| Dropped {
            frames: BTreeMap::from([(port, [(DropKind::Mac, count)].into_iter().collect())]),
            queries: BTreeMap::from([(port, count)]),
        };
        let all = BTreeMap::from([(one, dropped(1)), (two, dropped(2)), (gone, dropped(3))]);
        let first =
            Counted::default().followed_by(Refused::default(), &BTreeSet::from([one, two, gone]), all);
        let told = BTreeMap::from([(one, dropped(10))]);
        let next = first.followed_by(first.refused, &BTreeSet::from([one, two]), told);
        let mac = |network: &NetworkId| next.drops.get(network).map(|ports| ports[&port].of(DropKind::Mac));
        assert_eq!([one, two, gone].map(|network| mac(&network)), [Some(10), Some(2), None]);
        let queries = |network: &NetworkId| next.queries.get(network).map(|ports| ports[&port]);
        assert_eq!([one, two, gone].map(|network| queries(&network)), [Some(10), Some(2), None]);
    }
}
