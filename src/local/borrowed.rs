//! What this node has borrowed of other nodes' addresses.
//!
//! Owns that it is durable before it is used, and gone durably before the lender is told. Does not own who lends, nor how
//! lenders are asked (the agent).

use std::collections::BTreeMap;

use lanmesh_ipam::{AddrRange, Borrower};
use serde::{Deserialize, Serialize};

use crate::model::{ClusterView, LoanNumber, NetworkId, NodeId};
use crate::state::{Batch, State, StateError};

const PREFIX: &str = "borrowed/";

/// A part of a network's addresses that this node has of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BorrowedRange {
    /// In which network.
    pub network: NetworkId,
    /// Which addresses.
    pub range: AddrRange,
    /// Who lent them.
    pub lender: NodeId,
}

/// What this node has borrowed, and what it asks for.
pub struct Borrowed {
    state: State,
    borrower: Borrower<BorrowedRange>,
}

impl Borrowed {
    pub(super) fn load(state: State) -> Result<Self, StateError> {
        let kept = state.list::<BorrowedRange>(PREFIX)?;
        let number = |key: &str| LoanNumber::from_str_radix(key.strip_prefix(PREFIX)?, 16).ok();
        let has = kept.into_iter().filter_map(|(key, range)| Some((number(&key)?, range))).collect();
        Ok(Self { state, borrower: Borrower::new(has) })
    }

    /// What it has, by number.
    pub fn all(&self) -> &BTreeMap<LoanNumber, BorrowedRange> {
        self.borrower.has()
    }

    /// What it has in a network.
    pub fn of_network(&self, network: NetworkId) -> impl Iterator<Item = AddrRange> + '_ {
        self.all().values().filter(move |borrowed| borrowed.network == network).map(|borrowed| borrowed.range)
    }

    /// Asks for a loan of this number; one that was asked for before is given up.
    pub fn asks(&mut self, number: LoanNumber) {
        self.borrower.asks(number);
    }

    /// Waits for no answer any more: one that comes late is not taken.
    pub fn gives_up(&mut self) {
        self.borrower.gives_up();
    }

    /// Takes what was lent, durably; `false` where it was given up meanwhile.
    ///
    /// # Errors
    /// It cannot be kept, and is not taken.
    pub fn takes(&mut self, number: LoanNumber, borrowed: BorrowedRange) -> Result<bool, StateError> {
        if !self.borrower.is_asking(number) {
            return Ok(false);
        }
        self.state.put(&key(number), &borrowed)?;
        Ok(self.borrower.takes(number, borrowed))
    }

    /// The loans that lenders say this node has, and that it does not have: they are to be told.
    pub fn strays(&self, view: &ClusterView) -> Vec<(NodeId, LoanNumber)> {
        let to_me = view.loans.iter().flat_map(|(lender, loans)| {
            let mine = loans.iter().filter(|(_, loan)| loan.to == view.me);
            mine.map(|(number, _)| (*number, *lender))
        });
        let lenders: BTreeMap<LoanNumber, NodeId> = to_me.collect();
        let strays = self.borrower.strays(lenders.keys().copied());
        strays.map(|number| (lenders[&number], number)).collect()
    }

    /// The loans of which lenders say that they are of more than this node has of them: with what it has.
    pub fn wider(&self, view: &ClusterView) -> Vec<(LoanNumber, BorrowedRange)> {
        let said = |lender: &NodeId, number| Some(view.loans.get(lender)?.get(number)?.range);
        let is_wider =
            |said: AddrRange, has: &AddrRange| said != *has && said.intersection(has) == Some(*has);
        let all = self
            .all()
            .iter()
            .filter(|(number, has)| said(&has.lender, number).is_some_and(|said| is_wider(said, &has.range)));
        all.map(|(number, has)| (*number, *has)).collect()
    }

    /// Has no more than `range` of a loan, and with it makes the other changes of `batch`.
    ///
    /// # Errors
    /// That cannot be kept: it still has all of it.
    pub(super) fn narrows(
        &mut self,
        number: LoanNumber,
        range: AddrRange,
        mut batch: Batch,
    ) -> Result<(), StateError> {
        let Some(borrowed) = self.all().get(&number) else { return Ok(()) };
        let narrower = BorrowedRange { range, ..*borrowed };
        batch.put(key(number), &narrower);
        self.state.write(batch)?;
        self.borrower.narrows(number, narrower);
        Ok(())
    }

    /// Drops a loan, and with it makes the other changes of `batch`.
    ///
    /// # Errors
    /// That cannot be kept: it still has it.
    pub(super) fn drops(&mut self, number: LoanNumber, mut batch: Batch) -> Result<(), StateError> {
        batch.delete(key(number));
        self.state.write(batch)?;
        self.borrower.drops(number);
        Ok(())
    }
}

fn key(number: LoanNumber) -> String {
    format!("{PREFIX}{number:016x}")
}
