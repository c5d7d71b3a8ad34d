//! The networks that this node takes part in: each a part, known by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use super::Setup;
use crate::kernel::{Kernel, KernelError, KernelEvent};
use crate::local::LocalEndpoint;
use crate::model::{EndpointKey, Group, NetworkId, Placement};
use crate::multicast::{Receivers, Tally};
use crate::plan::{Action, Desired, DesiredNetwork, Observed, ObservedNetwork, Op, Plan, plan};
use crate::reconcile::Lost;
use crate::reconcile::desire::{Difference, NetworkState, World, keep_what_is_there};
use crate::reconcile::subject::{Announcement, Changes, Failed, Subject, Todo, Turn};

/// What the kernel was last told of where groups go.
#[derive(Debug, Default)]
struct Told {
    groups: BTreeMap<Group, Receivers>,
    flood: BTreeSet<IpAddr>,
}

/// The networks of this node.
#[derive(Debug, Default)]
pub struct Networks {
    states: BTreeMap<NetworkId, NetworkState>,
    /// Those that are in the kernel, as far as they are of use.
    present: BTreeSet<NetworkId>,
    told: BTreeMap<NetworkId, Told>,
    tallies: BTreeMap<NetworkId, Tally>,
    /// Endpoints of this node that another has the higher claim against, or whose network is gone.
    displaced: BTreeMap<EndpointKey, Lost>,
    /// Endpoints of this node whose interface is not there, and whose namespace cannot be entered any more.
    vanished: BTreeSet<EndpointKey>,
    settled: bool,
    /// The networks in which this node takes part, as it has said, because every node does.
    everywhere: BTreeSet<NetworkId>,
    /// What there is to say of that.
    news: Option<Announcement>,
}

impl Networks {
    /// Nothing is wanted yet.
    pub fn new(_setup: &Setup) -> Self {
        Self::default()
    }

    /// The networks that this node has.
    pub fn present(&self) -> &BTreeSet<NetworkId> {
        &self.present
    }

    /// The endpoints of this node that have lost their name, slot or an address to a higher claim, or their network.
    pub fn displaced(&self) -> &BTreeMap<EndpointKey, Lost> {
        &self.displaced
    }

    /// The endpoints of this node whose container was seen to be gone; each is told once.
    pub fn take_vanished(&mut self) -> BTreeSet<EndpointKey> {
        std::mem::take(&mut self.vanished)
    }

    /// What was sent to each group of these networks and came for it, and where it went; of what is not counted nothing, and of
    /// what the kernel does not tell just now what it told last.
    pub async fn tally(
        &mut self,
        kernel: &dyn Kernel,
        mut networks: BTreeSet<NetworkId>,
    ) -> BTreeMap<NetworkId, Tally> {
        networks.retain(|network| self.told.contains_key(network));
        for (network, counted) in kernel.group_traffic(networks.clone()).await {
            let Some(told) = self.told.get(&network) else { continue };
            self.tallies.entry(network).or_default().take(counted, &told.groups, &told.flood);
        }
        let tally = |network| Some((network, self.tallies.get(&network)?.clone()));
        networks.into_iter().filter_map(tally).collect()
    }

    /// A network as it should be; `None`: not at all.
    pub fn desired(&self, id: NetworkId) -> Option<&DesiredNetwork> {
        self.states.get(&id)?.desired()
    }
}

/// Those of `records` whose interface is not there and cannot be made again: their namespace cannot be entered any more.
pub fn vanished<'a>(
    records: impl Iterator<Item = &'a LocalEndpoint>,
    observed: Option<&ObservedNetwork>,
) -> impl Iterator<Item = EndpointKey> {
    let has_port = move |record: &LocalEndpoint| {
        observed.is_some_and(|network| network.ports.contains_key(&record.endpoint.name))
    };
    records.filter(move |record| !has_port(record) && !record.can_have_another()).map(LocalEndpoint::key)
}

/// Whether what goes to groups goes elsewhere after this.
fn redirects(op: &Op) -> bool {
    matches!(
        op.action,
        Action::AddGroup { .. }
            | Action::DeleteGroup { .. }
            | Action::AddFlood(_)
            | Action::DeleteFlood(_)
            | Action::CreateVxlan(_)
            | Action::SetVxlan(_)
    )
}

/// Whether a network is of no use after this has failed: its entries and interfaces come and go by themselves.
fn breaks(op: &Op) -> bool {
    matches!(op.action, Action::CreateNamespace | Action::PutBridge { .. } | Action::AddGateway(_))
}

#[async_trait]
impl Subject for Networks {
    type Key = NetworkId;
    /// `None`: it has no namespace here.
    type Observed = Option<ObservedNetwork>;
    type Step = Op;

    const NAME: &'static str = "networks";

    async fn list(kernel: &dyn Kernel) -> Result<BTreeSet<NetworkId>, KernelError> {
        kernel.networks().await
    }

    async fn observe(kernel: &dyn Kernel, id: NetworkId) -> Result<Self::Observed, KernelError> {
        kernel.observe_network(id).await
    }

    async fn carry_out(kernel: &dyn Kernel, _: NetworkId, steps: Vec<Op>) -> Failed<Op> {
        kernel.apply(&Plan { ops: steps }).await.failed
    }

    fn removal(id: NetworkId, _have: &Self::Observed) -> Vec<Op> {
        // A file that a crash left without a namespace is ours, too.
        vec![Op { network: id, action: Action::DeleteNetwork }]
    }

    fn concerned(&self, event: &KernelEvent) -> BTreeSet<NetworkId> {
        let of = match event {
            // Whether the container went too is found out when it is looked at.
            KernelEvent::PortGone { network, .. } | KernelEvent::LinkChanged { network } => Some(*network),
            KernelEvent::RulesChanged { network } => *network,
            _ => None,
        };
        of.into_iter().collect()
    }

    fn follow(&mut self, world: &World<'_>) -> Changes<Self> {
        let mut changes = Changes::<Self>::new();
        self.settled = world.settled;
        self.displaced.clear();
        let Some(me) = world.view.myself() else {
            // Nothing can be said of what this node should have.
            return changes;
        };
        let wanted = world.networks();
        let begin: BTreeSet<_> = world.everywhere.difference(&me.networks).copied().collect();
        // That is why it takes part where it has nothing, also where that was before it was started.
        self.everywhere.extend(me.networks.iter().filter(|id| !world.local.contains_key(id)));
        self.everywhere.extend(world.everywhere.intersection(&me.networks));
        let end: BTreeSet<_> = self.everywhere.difference(&wanted).copied().collect();
        self.everywhere.retain(|id| world.everywhere.contains(id) || end.contains(id));
        self.news = Some(Announcement::Networks { begin, end })
            .filter(|news| *news != Announcement::Networks { begin: [].into(), end: [].into() });
        for id in &wanted {
            let Some(network) = world.view.networks.get(id) else {
                let records = world.local.get(id).into_iter().flat_map(|records| records.values());
                self.displaced.extend(records.map(|record| (record.key(), Lost::NetworkGone)));
                continue;
            };
            let state = self.states.entry(*id).or_insert_with(|| NetworkState::new(network));
            let difference = state.follow(world, network);
            let displaced = state.displaced(world).into_iter();
            self.displaced.extend(
                displaced.map(|(name, by)| (EndpointKey { network: *id, name }, Lost::Outranked(by))),
            );
            match difference {
                Difference::None => {}
                Difference::Steps(_) if state.desired().is_none() => {}
                // A group that gets an entry is kept from those who have not said yet that they joined it.
                Difference::Steps(steps) if world.settled || !steps.iter().any(Action::is_of_group) => {
                    let ops = steps.into_iter().map(|action| Op { network: *id, action });
                    changes.insert(*id, Todo::Steps(ops.collect()));
                }
                Difference::Steps(_) | Difference::More => drop(changes.insert(*id, Todo::Look)),
            }
        }
        let unwanted = |id: &NetworkId| !wanted.contains(id) || !world.view.networks.contains_key(id);
        let gone: Vec<NetworkId> = self.states.keys().copied().filter(unwanted).collect();
        for id in gone {
            self.states.remove(&id);
            changes.insert(id, Todo::Steps(Self::removal(id, &None)));
        }
        changes
    }

    fn learn(&mut self, key: NetworkId, have: &Self::Observed) -> bool {
        let Some(state) = self.states.get(&key) else { return false };
        let before = self.vanished.len();
        self.vanished.extend(vanished(state.records(), have.as_ref()));
        self.vanished.len() > before
    }

    fn wanted(&self) -> BTreeSet<NetworkId> {
        self.states.iter().filter(|(_, state)| state.desired().is_some()).map(|(id, _)| *id).collect()
    }

    fn goes(&self, key: NetworkId) -> bool {
        self.desired(key).is_none()
    }

    fn turns(&self, _: NetworkId) -> &'static [Turn] {
        &[Turn::Make]
    }

    fn plan(&self, id: NetworkId, have: &Self::Observed, _turn: Turn) -> Vec<Op> {
        let mut want = self.desired(id).cloned();
        if want.is_none() {
            return Self::removal(id, have);
        }
        if let (Some(want), Some(have), Some(state)) = (&mut want, have, self.states.get(&id))
            && !self.settled
        {
            keep_what_is_there(want, have, &state.unheard);
        }
        let desired = Desired { networks: want.map(|want| (id, want)).into_iter().collect() };
        let observed = Observed { networks: have.clone().map(|have| (id, have)).into_iter().collect() };
        let mut ops = plan(&desired, &observed).ops;
        let unannounced = self.states.get(&id).into_iter().flat_map(|state| &state.unannounced);
        ops.extend(unannounced.map(|action| Op { network: id, action: action.clone() }));
        ops
    }

    async fn before(&mut self, kernel: &dyn Kernel, id: NetworkId, steps: &[Op]) -> Result<(), String> {
        // What was sent so far is credited to where it went.
        if steps.iter().any(redirects) {
            self.tally(kernel, BTreeSet::from([id])).await;
        }
        Ok(())
    }

    async fn after(&mut self, id: NetworkId, failed: &[(Op, KernelError)]) -> Result<(), String> {
        if let Some(state) = self.states.get_mut(&id) {
            // What failed of it is not tried again: somebody may have said otherwise meanwhile.
            state.unannounced.clear();
        }
        match self.states.get(&id).and_then(NetworkState::desired) {
            Some(desired) => {
                if failed.iter().any(|(op, _)| breaks(op)) {
                    self.present.remove(&id);
                } else {
                    self.present.insert(id);
                }
                let told = self.told.entry(id).or_default();
                if failed.is_empty() && (told.groups != desired.groups || told.flood != desired.flood) {
                    told.groups.clone_from(&desired.groups);
                    told.flood.clone_from(&desired.flood);
                }
            }
            None => {
                self.present.remove(&id);
                self.told.remove(&id);
                self.tallies.remove(&id);
            }
        }
        Ok(())
    }

    fn announcement(&self) -> Option<Announcement> {
        self.news.clone()
    }

    fn announced(&mut self, what: Announcement) {
        if let Announcement::Networks { begin, end } = what {
            self.everywhere.extend(begin);
            self.everywhere.retain(|id| !end.contains(id));
            self.news = None;
        }
    }

    fn problems(&self) -> Vec<String> {
        self.states.values().filter_map(|state| state.problem.clone()).collect()
    }

    fn wake(&self) -> Option<Duration> {
        self.states.values().filter_map(|state| state.next).min()
    }

    fn undoes(op: &Op) -> bool {
        match &op.action {
            Action::CreateNamespace
            | Action::PutBridge { .. }
            | Action::AddGateway(_)
            | Action::CreateVxlan(_)
            | Action::SetVxlan(_)
            | Action::PutNeighbour { .. }
            | Action::PutRemote { .. }
            | Action::AddFlood(_)
            | Action::AddPort(_) => true,
            // What is offered is set by whoever takes it.
            Action::SetPort(port) => !matches!(port.placement, Placement::Offered(_)),
            // Too much does no harm; groups come and go with their members, and what is announced is not kept.
            Action::DeleteNetwork
            | Action::DeleteGateway(_)
            | Action::DeleteVxlan
            | Action::DeleteNeighbour(_)
            | Action::DeleteRemote(_)
            | Action::DeleteFlood(_)
            | Action::AddGroup { .. }
            | Action::DeleteGroup { .. }
            | Action::Announce { .. }
            | Action::DeletePort(_)
            | Action::DeleteHalfMade(_) => false,
        }
    }

    fn describe(op: &Op) -> String {
        match &op.action {
            Action::AddPort(port) | Action::SetPort(port) => format!("{} endpoint {}", op.network, port.name),
            _ => op.to_string(),
        }
    }
}
