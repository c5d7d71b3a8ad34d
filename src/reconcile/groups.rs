//! Multicast groups, which change more often than anything else and whose members must not wait: what is joined
//! here goes to the others, and what they have joined goes to the kernel without a look at all the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Reconciler, Scope, Work};
use crate::kernel::{ENDPOINT_GROUPS_MAX, KernelError};
use crate::model::{EndpointName, Group, GroupAddr, Membership, MulticastMode, NetworkId};
use crate::multicast::{self, Tally};
use crate::plan::{Action, Desired, DesiredNetwork, Plan, plan_groups};

/// How long joins are gathered before they are looked up: they come in bursts.
const GATHER: Duration = Duration::from_millis(1);
/// How often memberships are looked up although nothing was heard.
const PERIOD: Duration = Duration::from_secs(30);

/// How long a group that was joined just now goes on to the whole network. Hosts report a membership some 10 ms
/// after the program has it, and the members of one application begin together: without this, those that are
/// heard of last would miss what is sent meanwhile.
const HOLD: Duration = Duration::from_millis(250);

/// The groups that were joined just now, and since when.
#[derive(Debug, Default)]
pub(super) struct FreshGroups {
    since: BTreeMap<(NetworkId, GroupAddr), Instant>,
    next: Option<Instant>,
}

impl FreshGroups {
    /// Takes from `desired` the entries of groups that were joined less than [`HOLD`] before `now`, but for those
    /// in `applied`.
    pub fn hold_back(
        &mut self,
        desired: &mut Desired,
        applied: &BTreeMap<NetworkId, DesiredNetwork>,
        now: Instant,
    ) {
        let mut joined = BTreeMap::new();
        self.next = None;
        for (id, network) in &mut desired.networks {
            let there = applied.get(id).map(|applied| &applied.groups);
            network.groups.retain(|group, _| {
                let key = (*id, group.address());
                let since = self.since.get(&key).copied().unwrap_or(now);
                joined.insert(key, since);
                let any = Group::any_source(group.address());
                let end = since + HOLD;
                let due = now >= end || there.is_some_and(|there| there.contains_key(&any));
                if !due {
                    self.next = Some(self.next.map_or(end, |next| next.min(end)));
                }
                due
            });
        }
        self.since = joined;
    }

    /// When the next of those that were held back is fresh no more.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }
}

impl Reconciler {
    /// Publishes what is joined on this node until `stop`.
    pub async fn follow_groups(self, stop: CancellationToken) {
        let mut views = self.0.cluster.view();
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
            for network in changed.intersection(&mine) {
                self.publish_groups(*network).await;
            }
        }
    }

    /// The networks that this node takes part in and that snoop.
    fn snooping(&self) -> BTreeSet<NetworkId> {
        let view = self.view();
        let Some(me) = view.myself() else { return BTreeSet::new() };
        let snoops = |id: &NetworkId| {
            view.networks.get(id).is_some_and(|network| network.spec.multicast == MulticastMode::Snoop)
        };
        me.networks.iter().copied().filter(snoops).collect()
    }

    async fn publish_groups(&self, network: NetworkId) {
        let published = match self.0.kernel.memberships(network).await {
            Ok(memberships) => {
                self.note_crowded(network, &memberships);
                self.0.cluster.set_members(network, multicast::by_endpoint(&memberships));
                let groups = multicast::to_publish(&memberships);
                self.0.cluster.set_groups(network, groups).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = published {
            tracing::warn!(%network, error, "cannot publish what is joined here; it is tried again");
        }
    }

    /// Notes which endpoints have joined as many groups as are told apart, and says so of a new one.
    fn note_crowded(&self, network: NetworkId, memberships: &BTreeSet<Membership>) {
        let crowded = crowded(memberships);
        let mut known = self.0.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        for endpoint in crowded.iter().filter(|name| !known.contains(&(network, (*name).clone()))) {
            tracing::warn!(%network, %endpoint, "it has joined {ENDPOINT_GROUPS_MAX} groups: further ones go to every node");
        }
        known.retain(|(of, _)| *of != network);
        known.extend(crowded.into_iter().map(|endpoint| (network, endpoint)));
    }

    /// What is wrong with the memberships of this node's endpoints, for people.
    pub(super) fn crowded(&self) -> Vec<String> {
        let view = self.view();
        let known = self.0.crowded.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Credits what was sent so far to where it went, for the networks in which `plan` changes where groups go.
    pub(super) async fn tally_before(&self, work: &mut Work, plan: &Plan) {
        let changes = |action: &Action| {
            matches!(
                action,
                Action::AddGroup { .. }
                    | Action::DeleteGroup { .. }
                    | Action::AddFlood(_)
                    | Action::DeleteFlood(_)
                    | Action::CreateVxlan(_)
                    | Action::SetVxlan(_)
            )
        };
        let networks: BTreeSet<NetworkId> =
            plan.ops.iter().filter(|op| changes(&op.action)).map(|op| op.network).collect();
        for network in networks {
            self.tally(work, network).await;
        }
        work.tallies.retain(|network, _| work.applied.contains_key(network));
    }

    /// What was sent to each group of a network and came for it, and where it went; `None` where it is not counted.
    pub async fn tally<'a>(&self, work: &'a mut Work, network: NetworkId) -> Option<&'a Tally> {
        let applied = work.applied.get(&network)?;
        match self.0.kernel.group_traffic(network).await {
            Ok(counted) => {
                let tally = work.tallies.entry(network).or_default();
                tally.take(counted, &applied.groups, &applied.flood);
                Some(tally)
            }
            Err(error) => {
                tracing::debug!(%network, %error, "what was sent to groups is not counted");
                None
            }
        }
    }

    /// The networks in `scope` that should differ from what the last pass left only in their groups, and the
    /// steps that lead there.
    pub(super) async fn regroup(
        &self,
        work: &Work,
        desired: &Desired,
        scope: &Scope,
    ) -> Result<BTreeMap<NetworkId, Plan>, KernelError> {
        let mut plans = BTreeMap::new();
        // Before everybody was heard, what is there matters too.
        let (Scope::Changed(also), true) = (scope, work.settled) else { return Ok(plans) };
        for (id, want) in desired.networks.iter().filter(|(id, _)| !also.contains(id)) {
            let only_groups = work
                .applied
                .get(id)
                .is_some_and(|applied| applied.groups != want.groups && want.is_but_for_groups(applied));
            if only_groups && let Some(groups) = self.0.kernel.observe_groups(*id).await? {
                plans.insert(*id, plan_groups(want, &groups));
            }
        }
        Ok(plans)
    }
}

/// The endpoints that have joined as many groups as are told apart.
fn crowded(memberships: &BTreeSet<Membership>) -> BTreeSet<EndpointName> {
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

#[cfg(test)]
mod tests;
