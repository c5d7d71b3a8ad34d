//! From what both ends of each path say to one list, and which of all that is wrong is the one to begin with.

use crate::model::{Hop, Wrong};

/// What the two nodes say of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// The node that it begins at, and what that says.
    pub begin: (String, Vec<Hop>),
    /// The node that it ends at, and what that says.
    pub end: (String, Vec<Hop>),
}

/// A part of a path, and which node says what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The node.
    pub node: String,
    /// What it says.
    pub hop: Hop,
}

/// All that was said, in the order of the paths; what is the same on several of them, once.
pub fn conclude(legs: Vec<Leg>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (node, hops) in legs.into_iter().flat_map(|leg| [leg.begin, leg.end]) {
        for hop in hops {
            let step = Step { node: node.clone(), hop };
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
    }
    steps
}

/// What is wrong and says most: what keeps frames from passing before that they do not pass, and of these the first on the way.
pub fn first(steps: &[Step]) -> Option<&Wrong> {
    steps.iter().flat_map(|step| &step.hop.wrong).min_by_key(|wrong| wrong.weight)
}
