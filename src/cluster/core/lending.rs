//! What this node lends of a network's addresses: its own block's, and as the manager those of blocks that are no node's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use lanmesh_ipam::{NetworkPlan, Owner};

use super::{Core, Persist};
use crate::cluster::ClusterError;
use crate::cluster::facts::Scope;
use crate::cluster::kinds::LoanKind;
use crate::model::{Loan, LoanNumber, NetworkId, NodeIndex};

impl Core {
    /// Publishes what a node that starts has lent.
    pub(super) fn begin_lending(&mut self, loans: BTreeMap<LoanNumber, Loan>) {
        for (number, loan) in loans {
            self.put::<LoanKind>(Scope::Node, &number, Some(&loan));
        }
    }

    /// What this node has lent.
    pub fn lent(&self) -> BTreeMap<LoanNumber, Loan> {
        self.facts.known(Scope::Node, self.me).map(|known| (*known.loans).clone()).unwrap_or_default()
    }

    /// What is to be written down before a loan is made. One that was made under its number is made again, as it was.
    ///
    /// # Errors
    /// It is not this node's to lend, or there is no room for it.
    pub fn may_lend(
        &self,
        number: LoanNumber,
        loan: Loan,
    ) -> Result<(Vec<Persist>, Option<Loan>), ClusterError> {
        let lent = self.lent();
        if let Some(known) = lent.get(&number) {
            let same = known.to == loan.to && known.network == loan.network;
            return if same {
                Ok((Vec::new(), Some(*known)))
            } else {
                Err(not_lent("its number is another's"))
            };
        }
        if !self.ledger.is_member(loan.to) {
            return Err(ClusterError::NoSuchNode(loan.to.to_string()));
        }
        if self.why_out().is_some() || self.overruled_by().is_some() {
            return Err(not_lent("this node's index is another's"));
        }
        let plan = self.plan_of(loan.network).ok_or(ClusterError::NoSuchNetwork(loan.network))?;
        let blocks = blocks(&plan, &loan).ok_or_else(|| not_lent("it lies in no block"))?;
        if blocks.start() != blocks.end() || !self.lends(NodeIndex(*blocks.start())) {
            return Err(not_lent("it is another node's to lend"));
        }
        if lent.values().any(|other| other.network == loan.network && overlap(other, &loan)) {
            return Err(not_lent("a part of it is lent already"));
        }
        self.check::<LoanKind>(Scope::Node, &number, &loan)?;
        Ok((vec![Persist::Lent(number, loan)], None))
    }

    /// Makes a loan that [`Core::may_lend`] has let pass.
    pub fn lend(&mut self, number: LoanNumber, loan: &Loan, now: Duration) {
        self.say_that::<LoanKind>(Scope::Node, &number, Some(loan), now);
    }

    /// Ends loans of this node.
    pub fn take_back(&mut self, numbers: &BTreeSet<LoanNumber>, now: Duration) {
        for number in numbers {
            self.say_that::<LoanKind>(Scope::Node, number, None, now);
        }
    }

    /// The indexes of which something is lent in any network, by anybody that this node has heard of.
    pub fn lent_blocks(&self) -> Vec<RangeInclusive<u32>> {
        let mut plans: BTreeMap<NetworkId, Option<NetworkPlan>> = BTreeMap::new();
        let loans = self.facts.all_known(Scope::Node).flat_map(|(_, known)| known.loans.values());
        let lent = loans.filter_map(|loan| {
            let plan = plans.entry(loan.network).or_insert_with(|| self.plan_of(loan.network));
            blocks(plan.as_ref()?, loan)
        });
        lent.collect()
    }

    /// Whether this node lends of an index's block: it is its own, or no node's and this node the manager.
    fn lends(&self, index: NodeIndex) -> bool {
        let mut owners =
            self.ledger.nodes().filter(|node| self.ledger.is_member(node.node) && node.index == index);
        match owners.next() {
            Some(owner) => owner.node == self.me,
            None => self.is_manager(),
        }
    }

    fn plan_of(&self, network: NetworkId) -> Option<NetworkPlan> {
        NetworkPlan::new(self.network(network)?.subnet_configs()).ok()
    }
}

/// The indexes of the blocks that a loan touches: mostly one, several where the plan of its network was changed. `None`
/// where an end of it lies in no block.
fn blocks(plan: &NetworkPlan, loan: &Loan) -> Option<RangeInclusive<u32>> {
    let [first, last] = [loan.range.first(), loan.range.last()].map(|end| match plan.owner(end) {
        Owner::Block(index) => Some(index),
        _ => None,
    });
    Some(first?..=last?)
}

fn overlap(a: &Loan, b: &Loan) -> bool {
    a.range.contains(b.range.first()) || b.range.contains(a.range.first())
}

fn not_lent(why: &'static str) -> ClusterError {
    ClusterError::Unsound { what: "loan", why }
}
