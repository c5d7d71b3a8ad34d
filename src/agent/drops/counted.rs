//! What the kernel counted that keeps packets out, found out once for all who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::fresh::Fresh;
use crate::kernel::{DropKind, Dropped, Linux, PortDrops, Refused};
use crate::model::NetworkId;
use crate::reconcile::Reconciler;

/// How old it may be, how much older for each port, and how old however many there are.
const AGE: Duration = Duration::from_millis(200);
const AGE_OF_PORT: Duration = Duration::from_millis(10);
const AGE_MAX: Duration = Duration::from_secs(10);
/// How long it is waited for what is newer where that is of no great use, and for what the kernel says first.
const PATIENCE: Duration = Duration::from_millis(10);
const FIRST_PATIENCE: Duration = Duration::from_millis(500);

/// Asks the kernel for it. Clones share what it said.
#[derive(Clone)]
pub struct Counting {
    kernel: Linux,
    reconciler: Reconciler,
    /// What it said last.
    pub(in super::super) found: Fresh<Counted>,
    started: Instant,
}

impl Counting {
    /// Of the networks that this reconciler has.
    pub fn new(kernel: Linux, reconciler: Reconciler) -> Self {
        Self { kernel, reconciler, found: Fresh::default(), started: Instant::now() }
    }

    /// What it counted, and how old that is. Does not wait for a kernel that hangs, and waits hardly where something is known.
    pub async fn counted(&self) -> (Arc<Counted>, Duration) {
        self.within(PATIENCE).await
    }

    /// The same, where what is new is worth so long a wait. To ask anew takes a small part of the time, however many ports there
    /// are.
    pub async fn within(&self, patience: Duration) -> (Arc<Counted>, Duration) {
        let last = self.found.last();
        let (ports, patience) = match &last {
            Some(last) => (last.dropped.values().map(|dropped| dropped.frames.len()).sum(), patience),
            None => (0, FIRST_PATIENCE.max(patience)),
        };
        let of_ports = AGE_OF_PORT.saturating_mul(u32::try_from(ports).unwrap_or(u32::MAX));
        let age = AGE.saturating_add(of_ports).min(AGE_MAX);
        let count =
            || Counted::find(self.kernel.clone(), self.reconciler.present().borrow().clone(), last.clone());
        let found = self.found.get(age, patience, count).await;
        found.unwrap_or_else(|| (Arc::default(), self.started.elapsed()))
    }
}

/// What the status calls what was dropped of this kind.
pub fn at_port(kind: DropKind) -> String {
    format!("port_dropped_{}", kind.name())
}

/// What was dropped on this node.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// What came from the underlay.
    pub refused: Refused,
    /// What the endpoints sent that was dropped, by network.
    pub dropped: BTreeMap<NetworkId, Dropped>,
}

impl Counted {
    /// Asks the kernel. What it does not tell just now is as it was `last`: less would look as if the counting had begun anew.
    async fn find(kernel: Linux, networks: BTreeSet<NetworkId>, last: Option<Arc<Self>>) -> Self {
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
        let now = |network: &NetworkId| {
            let dropped = told.remove(network).or_else(|| self.dropped.get(network).cloned());
            dropped.map(|dropped| (*network, dropped))
        };
        Self { refused, dropped: networks.iter().filter_map(now).collect() }
    }

    /// As the counters of the status: sums by name.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let mut of_kinds: BTreeMap<DropKind, u64> = DropKind::ALL.map(|kind| (kind, 0)).into();
        let of_ports = self.dropped.values().flat_map(|dropped| dropped.frames.values());
        for (kind, count) in of_ports.flat_map(PortDrops::some) {
            *of_kinds.entry(kind).or_default() += count;
        }
        let limited = self.dropped.values().flat_map(|dropped| dropped.queries.values()).sum();
        let Refused { vxlan, forged, mesh } = self.refused;
        let sums = [
            ("underlay_vxlan_refused", vxlan),
            ("underlay_vxlan_forged", forged),
            ("underlay_mesh_refused", mesh),
            ("dns_limited_in_kernel", limited),
        ];
        let sums = sums.map(|(name, count)| (name.to_owned(), count));
        let of_kinds = of_kinds.into_iter().map(|(kind, count)| (at_port(kind), count));
        sums.into_iter().chain(of_kinds).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PortName;

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
        let counts = |network: &NetworkId| {
            let Dropped { frames, queries } = next.dropped.get(network)?;
            Some((frames[&port].of(DropKind::Mac), queries[&port]))
        };
        assert_eq!([one, two, gone].map(|network| counts(&network)), [Some((10, 10)), Some((2, 2)), None]);
    }
}
