//! One network as this node should have it, kept up to date by what changes in the cluster's view and in this node's own
//! endpoints. What it says of a change are the steps, where these follow from it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::entries::{Entries, Own, Reach};
use super::{World, counts, gateways, members, network_mtu, port, vtep};
use crate::local::LocalEndpoint;
use crate::model::{
    BroadcastMode, Encryption, EndpointName, Group, GroupAddr, Mac, MulticastMode, NetworkSpec, NetworkView,
    Node, NodeId, NodeState, Placement, SpoofingMode, ZeroconfMode,
};
use crate::multicast::{self, Receivers};
use crate::plan::{Action, DesiredNetwork, Relay, plan_groups_from};
use crate::reconcile::lost::Outranked;

/// How long a group that was joined just now goes on to the whole network. Hosts report a membership some 10 ms
/// after the program has it, and the members of one application begin together: without this, those that are
/// heard of last would miss what is sent meanwhile.
pub(in crate::reconcile) const HOLD: Duration = Duration::from_millis(250);

/// How long all groups go on to the whole network where it begins to snoop while it is in use. Its members are asked then, on each node
/// when that hears of it, and answer within a second (docs/decisions/multicast.md): of those that are heard of first the others would
/// be taken for all there are.
pub(in crate::reconcile) const LEARN: Duration = Duration::from_secs(3);

/// What is another in a network since it was last followed.
#[derive(Debug, PartialEq, Eq)]
pub enum Difference {
    /// Nothing.
    None,
    /// These operations, which follow from what is new; each is right whatever else is there.
    Steps(Vec<Action>),
    /// More than entries and interfaces: what is there has to be looked at.
    More,
}

/// One network as this node should have it.
#[derive(Debug)]
pub struct NetworkState {
    desired: DesiredNetwork,
    /// What it was when its interfaces were last worked out.
    spec: Arc<NetworkSpec>,
    entries: Entries,
    /// Every node has it, and hands on what is for endpoints of others.
    everywhere: bool,
    /// Where what is for the nodes themselves goes, where nodes are sent anything.
    relays: BTreeMap<Mac, IpAddr>,
    /// The other nodes' own addresses.
    nodes: BTreeMap<IpAddr, Mac>,
    /// Where probes for the other nodes go.
    probes: BTreeMap<Mac, IpAddr>,
    records: BTreeMap<EndpointName, LocalEndpoint>,
    /// Those of them that hold what they claim no more.
    losing: BTreeSet<EndpointName>,
    /// Whose groups were counted last, and this node's own.
    joined: Vec<(IpAddr, Arc<BTreeSet<Group>>)>,
    /// The VTEPs of the other nodes that have a router of multicast: all groups go there.
    routers: BTreeSet<IpAddr>,
    /// Where every group goes that somebody has joined.
    groups: BTreeMap<Group, Receivers>,
    /// Since when each is joined.
    since: BTreeMap<GroupAddr, Duration>,
    /// Until when no group has an entry, since members are just being asked.
    learned: Duration,
    /// When the next of them that was held back is fresh no more.
    pub next: Option<Duration>,
    /// What this node's endpoints are still to be told of addresses that are elsewhere now.
    pub unannounced: Vec<Action>,
    /// What cannot be as it should, for people.
    pub problem: Option<String>,
    /// The VTEPs of nodes of which it is not known yet what they have here.
    pub unheard: BTreeSet<IpAddr>,
}

impl NetworkState {
    /// As it is before anything is known of it.
    pub fn new(network: &NetworkView) -> Self {
        let spec = &network.spec;
        let desired = DesiredNetwork {
            id: spec.id,
            name: spec.name.to_string(),
            vni: spec.vni,
            port: 0,
            local: IpAddr::from([0, 0, 0, 0]),
            encrypted: false,
            mtu: 0,
            mac: Mac::of_bridge(&spec.id),
            probe: Mac([0; 6]),
            gateways: Vec::new(),
            multicast: spec.options.multicast,
            broadcast: true,
            mdns: true,
            remotes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            flood: BTreeSet::new(),
            groups: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
        Self {
            desired,
            spec: Arc::clone(spec),
            entries: Entries::default(),
            everywhere: false,
            relays: BTreeMap::new(),
            nodes: BTreeMap::new(),
            probes: BTreeMap::new(),
            records: BTreeMap::new(),
            losing: BTreeSet::new(),
            joined: Vec::new(),
            routers: BTreeSet::new(),
            groups: BTreeMap::new(),
            since: BTreeMap::new(),
            learned: Duration::ZERO,
            next: None,
            unannounced: Vec::new(),
            problem: None,
            unheard: BTreeSet::new(),
        }
    }

    /// How it should be; `None` where this node has no endpoint in it, and hands nothing on.
    pub fn desired(&self) -> Option<&DesiredNetwork> {
        // One that is held counts: it will be attached in a moment, and the others know of it.
        let holds = || self.records.values().any(|record| record.placement == Placement::Held);
        Some(&self.desired).filter(|desired| self.everywhere || !desired.ports.is_empty() || holds())
    }

    /// This node's endpoints in it.
    pub fn records(&self) -> impl Iterator<Item = &LocalEndpoint> {
        self.records.values()
    }

    /// This node's endpoints whose name, slot or address somebody else has a higher claim on, with who that is.
    pub fn displaced(&self, world: &World<'_>) -> Vec<(EndpointName, Outranked)> {
        let me = world.view.me;
        let lost = |name: &EndpointName| {
            let (node, by, what) = self.entries.lost_to(me, name)?;
            let node = world.view.nodes.get(&node).map_or_else(|| node.short(), |node| node.name.to_string());
            Some((name.clone(), Outranked { what, by: by.name.clone(), node, took_ms: by.took_ms }))
        };
        self.losing.iter().filter_map(lost).collect()
    }

    /// Takes up what is new.
    pub fn follow(&mut self, world: &World<'_>, network: &NetworkView) -> Difference {
        let Some(me) = world.view.myself() else { return Difference::None };
        let empty = BTreeMap::new();
        let local = world.local.get(&network.spec.id).unwrap_or(&empty);
        let changed = self.follow_records(world, local);
        self.follow_nodes(world, network);
        let more = self.follow_spec(world, me, network);
        let had_some = self.desired().is_some();
        let mut steps = self.entries.settle(&mut self.desired);
        steps.extend(self.follow_relays(world, me, network));
        steps.extend(self.follow_own_addresses(world, network));
        steps.extend(self.follow_probes(world, network));
        // What an interface may do can be set without anything else of the network being another.
        let set = *network.spec != *self.spec;
        self.spec = Arc::clone(&network.spec);
        self.follow_claims(world, &changed);
        let ports = self.follow_ports(world, network, changed, more || set);
        self.follow_groups(world, network, &mut steps);
        let comes_or_goes = had_some != self.desired().is_some();
        let (announced, mut steps): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|action| matches!(action, Action::Announce { .. }));
        // Whoever comes now has heard nothing else yet.
        if had_some {
            self.unannounced.extend(announced.iter().cloned());
            steps.extend(announced);
        }
        // An interface comes when what it is to reach is there, and goes before that does.
        let (gone, come): (Vec<_>, Vec<_>) =
            ports.into_iter().partition(|action| matches!(action, Action::DeletePort(_)));
        steps.splice(0..0, gone);
        steps.extend(come);
        if more || comes_or_goes {
            return Difference::More;
        }
        match steps.is_empty() {
            true => Difference::None,
            false => Difference::Steps(steps),
        }
    }

    /// The names of this node's endpoints that are new, other or gone.
    fn follow_records(
        &mut self,
        world: &World<'_>,
        local: &BTreeMap<&EndpointName, &LocalEndpoint>,
    ) -> BTreeSet<EndpointName> {
        let is_other = |record: &&&LocalEndpoint| self.records.get(&record.endpoint.name) != Some(**record);
        let new: Vec<LocalEndpoint> =
            local.values().filter(is_other).map(|record| (*record).clone()).collect();
        let gone = self.records.keys().filter(|name| !local.contains_key(name)).cloned();
        let mut changed: BTreeSet<EndpointName> = gone.collect();
        for name in &changed {
            self.records.remove(name);
            self.entries.take(world.view.me, name);
        }
        for record in new {
            let name = record.endpoint.name.clone();
            self.entries.put(world.view.me, record.endpoint.clone());
            changed.insert(name.clone());
            self.records.insert(name, record);
        }
        changed
    }

    fn follow_nodes(&mut self, world: &World<'_>, network: &NetworkView) {
        let reached = |node: &Node| match counts(node, world.gone) {
            true => Reach::At {
                vtep: vtep(world.cluster, &network.spec, node),
                flood: !world.silent.contains(&node.id),
            },
            false => Reach::Nowhere,
        };
        let mut there = BTreeSet::from([world.view.me]);
        for (id, endpoints) in network.endpoints.iter().filter(|(id, _)| **id != world.view.me) {
            let node = world.view.nodes.get(id).filter(|node| node.state != NodeState::Left);
            let Some(node) = node else { continue };
            there.insert(*id);
            let (own, reach): (&Own, _) = (endpoints, reached(node));
            if !self.entries.has(*id, own, reach) {
                self.entries.set(*id, Arc::clone(own), reach);
            }
        }
        let gone: Vec<_> = self.entries.nodes().filter(|node| !there.contains(node)).collect();
        gone.into_iter().for_each(|node| self.entries.remove(node));
        self.entries.set_yields(network.spec.options.spoofing == SpoofingMode::Allow);
        let silent = |node: &NodeId| !there.contains(node) || !network.floating.contains_key(node);
        let silent: Vec<_> = self.entries.saying().filter(silent).collect();
        silent.into_iter().for_each(|node| self.entries.hush(node));
        for (node, said) in network.floating.iter().filter(|(node, _)| there.contains(node)) {
            self.entries.say(*node, said);
        }
        let unheard = world.view.unheard(network.spec.id);
        self.unheard = unheard.map(|node| vtep(world.cluster, &network.spec, node)).collect();
    }

    /// The steps for what is handed on from node to node: the MAC of each, and what stands for all of them.
    fn follow_relays(&mut self, world: &World<'_>, me: &Node, network: &NetworkView) -> Vec<Action> {
        let spec = &network.spec;
        let mut relays = BTreeMap::new();
        self.everywhere = world.everywhere.contains(&spec.id);
        if self.everywhere || spec.options.node_addresses.is_some() {
            let members = members(world.view, spec.id, world.gone);
            relays.extend(members.map(|node| (Mac::of_node(node.index), vtep(world.cluster, spec, node))));
        }
        let own = Mac::of_node(me.index);
        let mut steps = lead(&mut self.desired.remotes, &mut self.relays, relays);
        for address in Relay::OTHERS {
            let speaks = spec.subnets.iter().any(|subnet| subnet.is_ipv6() == address.is_ipv6());
            if speaks && self.everywhere {
                if self.desired.neighbours.insert(address, own) != Some(own) {
                    steps.push(Action::PutNeighbour { address, mac: own });
                }
            } else if self.desired.neighbours.remove(&address).is_some() {
                steps.push(Action::DeleteNeighbour(address));
            }
        }
        steps
    }

    /// The steps for the other nodes' own addresses: the MAC of each.
    fn follow_own_addresses(&mut self, world: &World<'_>, network: &NetworkView) -> Vec<Action> {
        let spec = &network.spec;
        let others = members(world.view, spec.id, world.gone).filter(|node| node.id != world.view.me);
        let nodes = spec.addresses_of_nodes(others.map(|node| node.index)).into_iter();
        let nodes = nodes.map(|(address, index)| (address, Mac::of_node(index))).collect();
        let was = std::mem::replace(&mut self.nodes, nodes);
        let mut steps = Vec::new();
        for (address, mac) in &self.nodes {
            let there = self.desired.neighbours.get(address);
            if there == Some(mac) || (there.is_some() && was.get(address) == Some(mac)) {
                continue;
            }
            self.desired.neighbours.insert(*address, *mac);
            steps.push(Action::PutNeighbour { address: *address, mac: *mac });
        }
        for (address, mac) in was.iter().filter(|(address, _)| !self.nodes.contains_key(address)) {
            // Unless somebody else has it by now.
            if self.desired.neighbours.get(address) == Some(mac) {
                self.desired.neighbours.remove(address);
                steps.push(Action::DeleteNeighbour(*address));
            }
        }
        steps
    }

    /// The steps for what is sent to see whether it arrives: the MAC of each other node.
    fn follow_probes(&mut self, world: &World<'_>, network: &NetworkView) -> Vec<Action> {
        let spec = &network.spec;
        let others = members(world.view, spec.id, world.gone).filter(|node| node.id != world.view.me);
        let probes =
            others.map(|node| (Mac::of_probe(node.index), vtep(world.cluster, spec, node))).collect();
        lead(&mut self.desired.remotes, &mut self.probes, probes)
    }

    /// What is the same for the network as a whole; whether any of it is another.
    fn follow_spec(&mut self, world: &World<'_>, me: &Node, network: &NetworkView) -> bool {
        let spec = &network.spec;
        let (mtu, problem) = match network_mtu(spec, members(world.view, spec.id, world.gone)) {
            Ok(mtu) => (mtu, None),
            Err(error) => (error.needed, Some(format!("network {}: {error}", spec.name))),
        };
        let own = spec.node_addresses(me.index);
        self.problem = problem.or_else(|| homeless(me, spec, own.len()));
        let was = &mut self.desired;
        let is = DesiredNetwork {
            id: spec.id,
            name: spec.name.to_string(),
            vni: spec.vni,
            port: world.vxlan_port,
            local: vtep(world.cluster, spec, me),
            encrypted: spec.options.encrypt == Encryption::Wireguard,
            mtu,
            mac: Mac::of_bridge(&spec.id),
            probe: Mac::of_probe(me.index),
            gateways: gateways(spec).into_iter().chain(own.into_iter().map(IpNetwork::from)).collect(),
            multicast: spec.options.multicast,
            broadcast: spec.options.broadcast == BroadcastMode::On,
            mdns: spec.options.zeroconf == ZeroconfMode::Transparent,
            remotes: std::mem::take(&mut was.remotes),
            neighbours: std::mem::take(&mut was.neighbours),
            flood: std::mem::take(&mut was.flood),
            groups: std::mem::take(&mut was.groups),
            ports: std::mem::take(&mut was.ports),
        };
        // What is left of it: the same for the network as a whole.
        let before = std::mem::replace(was, is);
        if (before.multicast, was.multicast) != (MulticastMode::Snoop, MulticastMode::Snoop) {
            self.learned = world.now + LEARN;
        }
        let DesiredNetwork { id, name, vni, port, local, encrypted, mtu, mac, probe, gateways, .. } = &before;
        let same = (id, name, vni, port, local) == (&was.id, &was.name, &was.vni, &was.port, &was.local)
            && (encrypted, mtu, mac) == (&was.encrypted, &was.mtu, &was.mac)
            && (probe, gateways) == (&was.probe, &was.gateways)
            && (before.multicast, before.broadcast, before.mdns) == (was.multicast, was.broadcast, was.mdns);
        !same
    }

    /// Who of this node's endpoints holds what it claims, of those that changed and those that somebody else's claim touched.
    fn follow_claims(&mut self, world: &World<'_>, changed: &BTreeSet<EndpointName>) {
        let me = world.view.me;
        for name in changed.iter().chain(self.entries.settled(me)) {
            if self.records.contains_key(name) && !self.entries.holds(&me, name) {
                self.losing.insert(name.clone());
            } else {
                self.losing.remove(name);
            }
        }
    }

    /// The steps for the interfaces of endpoints that changed, or that hold what they claim no more, or now; of all
    /// of them where the network as a whole is another.
    fn follow_ports(
        &mut self,
        world: &World<'_>,
        network: &NetworkView,
        mut changed: BTreeSet<EndpointName>,
        all: bool,
    ) -> Vec<Action> {
        changed.extend(self.entries.settled(world.view.me).cloned());
        if all {
            changed.extend(self.records.keys().cloned());
        }
        let mut steps = Vec::new();
        for name in changed {
            let record = self.records.get(&name).filter(|record| record.placement != Placement::Held);
            let record = record.filter(|_| self.entries.holds(&world.view.me, &name));
            let is = record.map(|record| port(record, &network.spec, self.desired.mtu));
            match (self.desired.ports.get(&name), is) {
                (Some(was), Some(is)) if *was == is => {}
                (was, Some(is)) => {
                    let action = if was.is_none() { Action::AddPort } else { Action::SetPort };
                    steps.push(action(is.clone()));
                    self.desired.ports.insert(name, is);
                }
                (Some(_), None) => {
                    self.desired.ports.remove(&name);
                    steps.push(Action::DeletePort(name));
                }
                (None, None) => {}
            }
        }
        steps
    }

    fn follow_groups(&mut self, world: &World<'_>, network: &NetworkView, steps: &mut Vec<Action>) {
        let spec = &network.spec;
        let (mut joined, mut routers) = (Vec::new(), BTreeSet::new());
        let selective = world.can_select && spec.options.multicast == MulticastMode::Snoop;
        if selective {
            let at = |id: &NodeId| {
                let counts = |node: &&Node| counts(node, world.gone) && !world.silent.contains(id);
                let node = world.view.nodes.get(id).filter(|_| *id != world.view.me).filter(counts)?;
                Some(vtep(world.cluster, spec, node))
            };
            joined
                .extend(network.groups.iter().filter_map(|(id, groups)| Some((at(id)?, Arc::clone(groups)))));
            let routing = network.also.iter().filter(|(_, also)| also.values().any(|also| also.routes));
            routers.extend(routing.filter_map(|(id, _)| at(id)));
            // Of no node: what is joined here.
            let here = network.groups.get(&world.view.me).cloned().unwrap_or_default();
            joined.push((IpAddr::from([0, 0, 0, 0]), here));
        }
        let same = |(a, b): (&(IpAddr, Arc<_>), &(IpAddr, Arc<_>))| a.0 == b.0 && Arc::ptr_eq(&a.1, &b.1);
        let same = joined.len() == self.joined.len() && joined.iter().zip(&self.joined).all(same);
        if !same || routers != self.routers {
            self.groups = match joined.split_last() {
                Some(((_, here), others)) => {
                    multicast::entries(others.iter().map(|(vtep, groups)| (*vtep, groups.as_ref())), here)
                }
                None => BTreeMap::new(),
            };
            if spec.options.zeroconf != ZeroconfMode::Transparent {
                // Each node's own bridge is a member; where nothing else keeps mDNS back, an entry would let it out.
                self.groups.retain(|group, _| !group.address().is_mdns());
            }
            for receivers in self.groups.values_mut() {
                receivers.extend(&routers);
            }
            (self.joined, self.routers) = (joined, routers);
        } else if self.next.is_none_or(|next| world.now < next) {
            return;
        }
        let due = self.not_fresh(world.now);
        let was = std::mem::replace(&mut self.desired.groups, due);
        if was != self.desired.groups {
            steps.extend(plan_groups_from(&self.desired, &was).ops.into_iter().map(|op| op.action));
        }
    }

    /// The groups but for those that were joined less than [`HOLD`] ago and have no entry yet.
    fn not_fresh(&mut self, now: Duration) -> BTreeMap<Group, Receivers> {
        let mut since = BTreeMap::new();
        let mut due = BTreeMap::new();
        self.next = None;
        for (group, receivers) in &self.groups {
            let address = group.address();
            let joined = *since.entry(address).or_insert(self.since.get(&address).copied().unwrap_or(now));
            let end = (joined + HOLD).max(self.learned);
            if now >= end || self.desired.groups.contains_key(&Group::any_source(address)) {
                due.insert(*group, receivers.clone());
            } else {
                self.next = Some(self.next.map_or(end, |next| next.min(end)));
            }
        }
        self.since = since;
        due
    }
}

/// What is to be said where a node has fewer addresses of its own in a network than there are ranges for them.
fn homeless(me: &Node, spec: &NetworkSpec, own: usize) -> Option<String> {
    let ranges: Vec<String> = spec.node_ranges().map(|range| range.to_string()).collect();
    (own < ranges.len()).then(|| {
        format!(
            "network {name}: node {} has no address of its own of each family, since its index is {} and the range for nodes ({}) \
             ends before that: set a larger one with `lanmesh network set {name} --node-addresses RANGE`",
            me.name,
            me.index,
            ranges.join(","),
            name = spec.name
        )
    })
}

/// Makes `remotes` lead to where `is` says instead of where `was` did; the steps that do the same in the kernel.
fn lead(
    remotes: &mut BTreeMap<Mac, IpAddr>,
    was: &mut BTreeMap<Mac, IpAddr>,
    is: BTreeMap<Mac, IpAddr>,
) -> Vec<Action> {
    let was = std::mem::replace(was, is.clone());
    let mut steps = Vec::new();
    for (mac, vtep) in is.iter().filter(|(mac, vtep)| was.get(mac) != Some(*vtep)) {
        remotes.insert(*mac, *vtep);
        steps.push(Action::PutRemote { mac: *mac, vtep: *vtep });
    }
    for mac in was.keys().filter(|mac| !is.contains_key(mac)) {
        remotes.remove(mac);
        steps.push(Action::DeleteRemote(*mac));
    }
    steps
}
