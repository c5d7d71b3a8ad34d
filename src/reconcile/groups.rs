//! Multicast groups, which change more often than anything else and whose members must not wait: what is joined
//! here goes to the others. What they have joined comes to the kernel as other entries do (`subjects/networks.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Reconciler, lock};
use crate::kernel::ENDPOINT_GROUPS_MAX;
use crate::model::{EndpointName, GroupMember, MulticastMode, NetworkId};
use crate::multicast;

/// How long joins are gathered before they are looked up: they come in bursts.
const GATHER: Duration = Duration::from_millis(1);
/// How often memberships are looked up although nothing was heard.
const PERIOD: Duration = Duration::from_secs(30);
/// Looking them up takes at most one part in so many of the time, however large the network and however often they change.
const SHARE: u32 = 4;
/// What changes meanwhile waits no longer than this.
const WAIT_MAX: Duration = Duration::from_millis(200);

impl Reconciler {
    /// Publishes what is joined on this node until `stop`.
    pub async fn follow_groups(self, stop: CancellationToken) {
        let mut views = self.0.peers.view();
        let mut known = BTreeSet::new();
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                changed = self.0.kernel.memberships_changed() => changed,
                changed = views.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // What was joined before this node took part has not been published.
                    let mine = self.snooping();
                    let new = mine.difference(&known).copied().collect();
                    known = mine;
                    new
                }
                () = sleep(PERIOD) => self.snooping(),
            };
            if changed.is_empty() {
                continue;
            }
            sleep(GATHER).await;
            let mine = self.snooping();
            let begun = Instant::now();
            for network in changed.intersection(&mine) {
                self.publish_groups(*network).await;
            }
            let pause = (begun.elapsed() * (SHARE - 1)).min(WAIT_MAX);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// The networks that this node takes part in and that snoop.
    fn snooping(&self) -> BTreeSet<NetworkId> {
        let view = self.view();
        let Some(me) = view.myself() else { return BTreeSet::new() };
        let snoops = |id: &NetworkId| {
            view.networks
                .get(id)
                .is_some_and(|network| network.spec.options.multicast == MulticastMode::Snoop)
        };
        me.networks.iter().copied().filter(snoops).collect()
    }

    async fn publish_groups(&self, network: NetworkId) {
        let published = match self.0.kernel.memberships(network).await {
            Ok(memberships) => {
                self.note_crowded(network, &memberships);
                self.0.peers.set_members(network, multicast::by_endpoint(&memberships));
                let groups = multicast::to_publish(&memberships);
                self.0.peers.set_groups(network, groups).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = published {
            tracing::warn!(%network, error, "cannot publish what is joined here; it is tried again");
        }
    }

    /// Notes which endpoints have joined as many groups as are told apart, and says so of a new one.
    fn note_crowded(&self, network: NetworkId, memberships: &BTreeSet<GroupMember>) {
        let crowded = crowded(memberships);
        let mut known = lock(&self.0.crowded);
        for endpoint in crowded.iter().filter(|name| !known.contains(&(network, (*name).clone()))) {
            tracing::warn!(%network, %endpoint, "it has joined {ENDPOINT_GROUPS_MAX} groups: further ones go to every node");
        }
        known.retain(|(of, _)| *of != network);
        known.extend(crowded.into_iter().map(|endpoint| (network, endpoint)));
    }

    /// What is wrong with the memberships of this node's endpoints, for people.
    pub(super) fn crowded(&self) -> Vec<String> {
        let view = self.view();
        let known = lock(&self.0.crowded);
        let there = known.iter().filter_map(|(id, endpoint)| Some((view.networks.get(id)?, endpoint)));
        there
            .map(|(network, endpoint)| {
                format!(
                    "network {}: endpoint {endpoint} has joined {ENDPOINT_GROUPS_MAX} multicast groups, as many as are told \
                     apart; what it joins beyond that is sent to every node. Let it join fewer, or stop it",
                    network.spec.name
                )
            })
            .collect()
    }
}

/// The endpoints that have joined as many groups as are told apart.
fn crowded(memberships: &BTreeSet<GroupMember>) -> BTreeSet<EndpointName> {
    let mut counts: BTreeMap<&EndpointName, u32> = BTreeMap::new();
    for endpoint in memberships.iter().filter_map(|membership| membership.endpoint.as_ref()) {
        *counts.entry(endpoint).or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count >= ENDPOINT_GROUPS_MAX)
        .map(|(name, _)| name.clone())
        .collect()
}
