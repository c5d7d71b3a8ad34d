//! A part of a network's addresses that one node lent to another.

use std::collections::BTreeMap;
use std::sync::Arc;

use lanmesh_ipam::AddrRange;
use serde::{Deserialize, Serialize};

use super::{NetworkId, NodeId};

/// The number of a loan: drawn by the borrower when it asks, and never used again.
pub type LoanNumber = u64;

/// A part of a network's addresses that one node, its lender, lent to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// In which network.
    pub network: NetworkId,
    /// Which addresses; what is set apart in between belongs to nobody, as everywhere.
    pub range: AddrRange,
    /// Who has them now.
    pub to: NodeId,
}

/// What each node lent, by number.
pub type Loans = BTreeMap<NodeId, Arc<BTreeMap<LoanNumber, Loan>>>;
