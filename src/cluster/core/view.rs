//! What the core gives out: the view, and the states of the nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, millis};
use crate::cluster::ClusterEvent;
use crate::cluster::facts::Scope;
use crate::cluster::kinds::{Known, NodeFact};
use crate::cluster::ledger::Admission;
use crate::model::{ClusterView, NetworkView, Node, NodeId, NodeState};

impl Core {
    /// The view, if it is another one than when this was last asked.
    pub fn take_view(&mut self) -> Option<ClusterView> {
        if !std::mem::take(&mut self.view_changed) {
            return None;
        }
        if self.nodes.is_none() {
            self.nodes = Some(Arc::new(self.nodes()));
        }
        Some(self.view())
    }

    /// What this node knows now.
    pub fn view(&self) -> ClusterView {
        let nodes = self.nodes.clone().unwrap_or_else(|| Arc::new(self.nodes()));
        let conflicts = self.ledger.conflicts();
        let networks = self.ledger.networks().map(|spec| {
            let known: Vec<(NodeId, &Known)> = self
                .facts
                .all_known(Scope::Network(spec.id))
                .filter(|(writer, _)| self.ledger.is_member(*writer))
                .collect();
            let spec = Arc::clone(self.network(spec.id).unwrap_or(spec));
            let conflict = conflicts.contains(&spec.id);
            let endpoints = each(&known, |known| (!known.endpoints.is_empty()).then_some(&known.endpoints));
            let groups = each(&known, |known| (!known.groups.is_empty()).then_some(&known.groups));
            let zeroconf = each(&known, |known| (!known.zeroconf.is_empty()).then_some(&known.zeroconf));
            let draining = each(&known, |known| (!known.draining.is_empty()).then_some(&known.draining));
            let also = each(&known, |known| (!known.also.is_empty()).then_some(&known.also));
            let floating = each(&known, |known| (!known.floating.is_empty()).then_some(&known.floating));
            let heard = known.iter().map(|(writer, _)| *writer).collect();
            let view =
                NetworkView { spec, conflict, heard, endpoints, groups, zeroconf, draining, also, floating };
            (view.spec.id, view)
        });
        let services = Arc::clone(&self.agreed.known().services);
        let writers = self.facts.all_known(Scope::Node).filter(|(writer, _)| self.ledger.is_member(*writer));
        let writers: Vec<(NodeId, &Known)> = writers.collect();
        let loans = Arc::new(each(&writers, |known| (!known.loans.is_empty()).then_some(&known.loans)));
        let mesh_ports = Arc::new(each(&writers, |known| (!known.ports.is_empty()).then_some(&known.ports)));
        ClusterView { me: self.me, nodes, networks: networks.collect(), services, loans, mesh_ports }
    }

    fn nodes(&self) -> BTreeMap<NodeId, Node> {
        let labels = &self.agreed.known().labels;
        let node = |admission: &Admission| {
            let said = self.said(admission.node);
            Node {
                id: admission.node,
                name: admission.name.clone(),
                index: admission.index,
                address: said.map_or(admission.address, |fact| fact.address),
                vtep: said.map_or(admission.address.ip(), |fact| fact.vtep),
                underlay_mtu: said.map_or(1500, |fact| fact.underlay_mtu),
                networks: said.map(|fact| fact.networks.clone()).unwrap_or_default(),
                mesh: said.map(|fact| fact.mesh.clone()).unwrap_or_default(),
                labels: labels_of(labels, admission.node, said),
                state: self.states.get(&admission.node).copied().unwrap_or(NodeState::Suspect),
            }
        };
        // A run that steps aside for another one of the same node is no node of the cluster.
        let is_aside = |id: NodeId| id == self.me && self.told_out.is_some();
        let nodes = self.ledger.nodes().filter(|admission| !is_aside(admission.node));
        nodes.map(|admission| (admission.node, node(admission))).collect()
    }

    /// Whether the view has no node that is not alive.
    #[cfg(test)]
    pub fn all_alive(&self) -> bool {
        let state = |admission: &Admission| self.states.get(&admission.node);
        self.ledger.nodes().all(|admission| state(admission) == Some(&NodeState::Alive))
    }

    /// What membership says of each node now. One that it has not heard of is not given up before there was
    /// time to hear of it.
    pub(super) fn observe(&self, now: Duration) -> BTreeMap<NodeId, NodeState> {
        let heard: BTreeMap<NodeId, NodeState> = self.membership.states().collect();
        let state = |node: NodeId| {
            if self.ledger.has_left(node) {
                return NodeState::Left;
            }
            if node == self.me {
                return NodeState::Alive;
            }
            heard.get(&node).copied().unwrap_or_else(|| match self.known_since.get(&node) {
                Some(since) if now < *since + self.timing.detect => NodeState::Suspect,
                _ => NodeState::Dead,
            })
        };
        self.ledger.nodes().map(|admission| (admission.node, state(admission.node))).collect()
    }

    /// `state`, or that it is a suspect, where a living node is said to be dead that was heard less than the time to
    /// refute ago: so fast nobody dies. Somebody who was cut off says so of those who did not hear him, and they refute.
    fn believed(&mut self, node: NodeId, state: NodeState, now: Duration) -> NodeState {
        let was_up = self.states.get(&node).is_some_and(|state| state.is_up());
        if state != NodeState::Dead || !was_up {
            self.doubted.remove(&node);
            return state;
        }
        let refute = self.membership.intervals().refute;
        let heard = self.heard.get(&node).map_or(now, |heard| *heard + refute);
        let until = *self.doubted.entry(node).or_insert(heard);
        if now >= until {
            self.doubted.remove(&node);
            return state;
        }
        self.states_due = Some(self.states_due.map_or(until, |due| due.min(until)));
        NodeState::Suspect
    }

    /// Tells of the states that changed, where that is due.
    pub(super) fn refresh_states(&mut self, now: Duration) {
        if self.states_due.is_none_or(|due| now < due) {
            return;
        }
        let observed = self.observe(now);
        let waiting = self.known_since.values().map(|since| *since + self.timing.detect);
        self.states_due = waiting.filter(|due| *due > now).min();
        self.stats.members = self.membership.count() as u64;
        for (node, state) in observed {
            let state = self.believed(node, state, now);
            if self.states.insert(node, state) == Some(state) {
                continue;
            }
            self.view_changed = true;
            self.nodes = None;
            let Some(admission) = self.ledger.node(node) else { continue };
            let name = admission.name.clone();
            let heard_ms = self.heard.get(&node).map(|heard| millis(now.saturating_sub(*heard)));
            self.event(match state {
                NodeState::Alive => ClusterEvent::NodeAlive { node, name },
                NodeState::Suspect => ClusterEvent::NodeSuspect { node, name, heard_ms },
                NodeState::Dead => ClusterEvent::NodeDead { node, name, heard_ms },
                NodeState::Left => ClusterEvent::NodeLeft { node, name },
            });
        }
    }
}

/// A part of what each node publishes in a network, where it publishes any.
fn each<T>(known: &[(NodeId, &Known)], part: impl Fn(&Known) -> Option<&Arc<T>>) -> BTreeMap<NodeId, Arc<T>> {
    known.iter().filter_map(|(writer, known)| Some((*writer, Arc::clone(part(known)?)))).collect()
}

/// What is said of a node: by itself, and by operators, who have the last word.
fn labels_of(
    labels: &BTreeMap<(NodeId, String), String>,
    node: NodeId,
    said: Option<&NodeFact>,
) -> BTreeMap<String, String> {
    let mut all = said.map(|fact| fact.traits.clone()).unwrap_or_default();
    let own = labels.range((node, String::new())..).take_while(|((of, _), _)| *of == node);
    all.extend(own.map(|((_, label), value)| (label.clone(), value.clone())));
    all
}
