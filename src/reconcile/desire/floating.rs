//! What nodes say to be at their endpoints although it was not given to them, and which of several that say so of one thing
//! is right.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Floating, FloatingKey, Floatings, NodeId};

/// What is said of one network.
#[derive(Debug, Default)]
pub struct Said {
    nodes: BTreeMap<NodeId, Arc<Floatings>>,
    by_key: BTreeMap<FloatingKey, BTreeMap<NodeId, Floating>>,
}

impl Said {
    /// The nodes that say something.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.keys().copied()
    }

    /// What a node says.
    pub fn of(&self, node: NodeId) -> impl Iterator<Item = &FloatingKey> {
        self.nodes.get(&node).into_iter().flat_map(|said| said.keys())
    }

    /// What all say.
    pub fn keys(&self) -> impl Iterator<Item = &FloatingKey> {
        self.by_key.keys()
    }

    /// A node says this, and nothing else; of what that may be another is the answer.
    pub fn set(&mut self, node: NodeId, said: &Arc<Floatings>) -> Vec<FloatingKey> {
        if self.nodes.get(&node).is_some_and(|known| Arc::ptr_eq(known, said)) {
            return Vec::new();
        }
        let had = self.nodes.insert(node, Arc::clone(said)).unwrap_or_default();
        let gone = had.keys().filter(|key| !said.contains_key(key));
        let new = said.iter().filter(|(key, floating)| had.get(key) != Some(floating)).map(|(key, _)| key);
        let changed: Vec<FloatingKey> = gone.chain(new).copied().collect();
        for key in &changed {
            let of_key = self.by_key.entry(*key).or_default();
            match said.get(key) {
                Some(floating) => drop(of_key.insert(node, floating.clone())),
                None => drop(of_key.remove(&node)),
            }
            if of_key.is_empty() {
                self.by_key.remove(key);
            }
        }
        changed
    }

    /// A node says nothing.
    pub fn remove(&mut self, node: NodeId) -> Vec<FloatingKey> {
        let changed = self.set(node, &Arc::default());
        self.nodes.remove(&node);
        changed
    }

    /// Who is right of those nodes that `count`, and what it says.
    pub fn right(&self, key: &FloatingKey, count: impl Fn(NodeId) -> bool) -> Option<(NodeId, &Floating)> {
        let said = self.by_key.get(key)?.iter().map(|(node, floating)| (*node, floating));
        said.filter(|(node, _)| count(*node)).max_by_key(|(node, floating)| floating.rank(*node))
    }
}
