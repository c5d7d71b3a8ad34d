//! What the core gives out: the view, and the states of the nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use crate::cluster::ClusterEvent;
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
            let endpoints = self
                .facts
                .endpoints(spec.id)
                .filter(|(writer, endpoints)| !endpoints.is_empty() && self.ledger.is_member(*writer))
                .map(|(writer, endpoints)| (writer, Arc::clone(endpoints)))
                .collect();
            let conflict = conflicts.contains(&spec.id);
            let groups = self
                .facts
                .groups(spec.id)
                .filter(|(writer, groups)| !groups.is_empty() && self.ledger.is_member(*writer))
                .map(|(writer, groups)| (writer, Arc::clone(groups)))
                .collect();
            let zeroconf = self
                .facts
                .zeroconf(spec.id)
                .filter(|(writer, facts)| !facts.is_empty() && self.ledger.is_member(*writer))
                .map(|(writer, facts)| (writer, Arc::clone(facts)))
                .collect();
            (spec.id, NetworkView { spec: Arc::clone(spec), conflict, endpoints, groups, zeroconf })
        });
        ClusterView { me: self.me, nodes, networks: networks.collect() }
    }

    fn nodes(&self) -> BTreeMap<NodeId, Node> {
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
                state: self.states.get(&admission.node).copied().unwrap_or(NodeState::Suspect),
            }
        };
        self.ledger.nodes().map(|admission| (admission.node, node(admission))).collect()
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
            self.event(match state {
                NodeState::Alive => ClusterEvent::NodeAlive { node, name },
                NodeState::Suspect => ClusterEvent::NodeSuspect { node, name },
                NodeState::Dead => ClusterEvent::NodeDead { node, name },
                NodeState::Left => ClusterEvent::NodeLeft { node, name },
            });
        }
    }
}
