//! Loans of addresses: the kind of fact, and the questions that borrowers ask.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use serde::{Deserialize, Serialize};

use super::Stands;
use crate::model::{Loan as PresentLoan, LoanNumber, NetworkId, NodeId};

/// A loan; its number is the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Loan {
    network: [u8; 8],
    first: IpAddr,
    last: IpAddr,
    to: [u8; 16],
}

/// What a node asks for that has no addresses left in a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct LoanWish {
    pub number: u64,
    pub network: [u8; 8],
    pub subnet: (IpAddr, u8),
    /// How many addresses it wants at most.
    pub wanted: u32,
}

/// What it is answered: a range, or why there is none, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct LoanAnswer {
    pub range: Option<(IpAddr, IpAddr)>,
    pub why: String,
}

/// What a node has borrowed, and the sum of its ledger, which says what it knows of who is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct LoansHeld {
    pub ledger: u64,
    /// Each with its number.
    pub borrowed: Vec<(u64, Loan)>,
}

impl Stands<PresentLoan> for Loan {
    fn of(loan: &PresentLoan) -> Self {
        let PresentLoan { network, range, to } = loan;
        Self { network: *network.as_bytes(), first: range.first(), last: range.last(), to: *to.as_bytes() }
    }

    fn present(self) -> Option<PresentLoan> {
        Some(PresentLoan {
            network: NetworkId::from_bytes(self.network),
            range: AddrRange::new(self.first, self.last).ok()?,
            to: NodeId::from_bytes(self.to),
        })
    }
}

impl LoanWish {
    pub fn subnet(&self) -> Option<IpNetwork> {
        IpNetwork::new(self.subnet.0, self.subnet.1).ok()
    }
}

/// Loans by number, as they travel.
pub(in crate::cluster) fn loans(loans: &BTreeMap<LoanNumber, PresentLoan>) -> Vec<(u64, Loan)> {
    loans.iter().map(|(number, loan)| (*number, Loan::of(loan))).collect()
}
