//! What a node may hand out of a subnet: its block, less what of it others have, and what it has of others'.

use crate::part::Part;
use crate::{AddrRange, MAX_BLOCK_SIZE, SubnetPlan};

/// How a node's addresses differ from its block. Ranges may be of any subnet: each takes what is its own. What is set
/// apart in between belongs to nobody, as everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// What others have of the node's block, whoever lent it.
    pub lent: Vec<AddrRange>,
    /// What the node has of other blocks.
    pub borrowed: Vec<AddrRange>,
}

/// The parts of the node with `index`: its block first, if there is one, then what it borrowed, lowest first. No
/// address is in two of them.
pub(crate) fn parts(plan: &SubnetPlan, index: u32, share: &Share) -> Vec<Part> {
    let spans = |ranges: &[AddrRange]| {
        let mut spans: Vec<_> = ranges.iter().filter_map(|range| plan.ordinals_in(range)).collect();
        spans.sort_unstable();
        spans
    };
    let own = plan.block_ordinals(index);
    let mut parts: Vec<Part> = own.map(|own| Part::new(own, spans(&share.lent))).into_iter().collect();
    let mut taken: Vec<(u128, u128)> = own.into_iter().collect();
    for (first, last) in spans(&share.borrowed) {
        let last = last.min(first + u128::from(MAX_BLOCK_SIZE) - 1);
        // Where a changed plan lays one over the other, the earlier has it.
        parts.push(Part::new((first, last), taken.iter().copied()));
        taken.push((first, last));
    }
    parts
}
