//! What this node lends of a network's addresses: its own block's, and as the manager those of blocks that are no node's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use lanmesh_ipam::{AddrRange, NetworkPlan, Owner};
use serde::{Deserialize, Serialize};

use super::{Core, Persist};
use crate::cluster::ClusterError;
use crate::cluster::facts::Scope;
use crate::cluster::join::gate::Indexes;
use crate::cluster::kinds::LoanKind;
use crate::cluster::ledger::Admission;
use crate::model::{Loan, LoanNumber, NetworkId, NodeId, NodeIndex};

/// The term of a cluster's first manager.
const FIRST_TERM: u64 = 1;

/// The most loans of one node.
const MOST: usize = 8192;

/// Of whom the manager knows what they lent before they were gone, or had to lend no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Cleared {
    /// The term in which it asked: since then it knows what the managers before it lent.
    pub term: u64,
    /// The nodes that were gone then.
    pub gone: BTreeSet<NodeId>,
}

/// What the manager has to ask before it lends.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct ToClear {
    /// What it knows once all have answered.
    pub cleared: Cleared,
    /// The sum of the ledger that says who is gone: whoever has another one may know of others.
    pub ledger: u64,
    /// Who is to be asked.
    pub ask: BTreeSet<NodeId>,
}

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
        if self.room() == 0 {
            return Err(ClusterError::TooLarge { would: MOST + 1, max: MOST });
        }
        self.check::<LoanKind>(Scope::Node, &number, &loan)?;
        Ok((vec![Persist::Lent(number, loan)], None))
    }

    /// Makes a loan that [`Core::may_lend`] has let pass.
    pub fn lend(&mut self, number: LoanNumber, loan: &Loan, now: Duration) {
        self.say_that::<LoanKind>(Scope::Node, &number, Some(loan), now);
    }

    /// What is to be written down before a loan of `to` is one of no more than `keep`, and what it is then. `None`: there is no
    /// such loan, or it is that already.
    pub fn may_narrow(
        &self,
        number: LoanNumber,
        to: NodeId,
        keep: &AddrRange,
    ) -> (Vec<Persist>, Option<Loan>) {
        let known = self.lent().get(&number).copied().filter(|loan| loan.to == to);
        let narrower = known.and_then(|loan| Some(Loan { range: loan.range.intersection(keep)?, ..loan }));
        let narrower = narrower.filter(|loan| known != Some(*loan));
        (narrower.map(|loan| Persist::Lent(number, loan)).into_iter().collect(), narrower)
    }

    /// Ends loans of this node.
    pub fn take_back(&mut self, numbers: &BTreeSet<LoanNumber>, now: Duration) {
        for number in numbers {
            self.say_that::<LoanKind>(Scope::Node, number, None, now);
        }
    }

    /// The indexes of which something is lent in any network, by anybody that this node has heard of.
    fn lent_blocks(&self) -> Vec<RangeInclusive<u32>> {
        let mut plans = Plans::default();
        let loans = self.facts.all_known(Scope::Node).flat_map(|(_, known)| known.loans.values());
        let lent = loans.filter_map(|loan| blocks(plans.get(self, loan.network)?, loan));
        lent.collect()
    }

    /// Whether this node lends of an index's block: it is its own, or no node's and this node the manager, which knows what
    /// is lent of it.
    fn lends(&self, index: NodeIndex) -> bool {
        match self.of_cluster().find(|node| node.index == index) {
            Some(owner) => owner.node == self.me,
            None => self.is_manager() && self.is_clear() && !self.unclear().any(|gone| gone.index == index),
        }
    }

    /// The nodes of the cluster, without those that are gone.
    fn of_cluster(&self) -> impl Iterator<Item = &Admission> {
        self.ledger.nodes().filter(|node| self.ledger.is_member(node.node))
    }

    /// Those who are gone of whom it is not known what they lent, and so what is free of their blocks.
    fn unclear(&self) -> impl Iterator<Item = &Admission> {
        let all = self.ledger.admissions();
        all.filter(|node| !self.ledger.is_member(node.node) && !self.cleared.gone.contains(&node.node))
    }

    fn term(&self) -> u64 {
        self.ledger.manager().map_or(0, |(term, _)| term)
    }

    /// Whether this node, the manager, knows what the managers before it lent: there was none, or all were asked.
    fn is_clear(&self) -> bool {
        self.term() <= FIRST_TERM || self.cleared.term == self.term()
    }

    /// The indexes whose block is not the manager's to lend: a node's, or those of nodes that are gone and of whom it is
    /// not known what they lent. `None`: nothing is known yet of what was lent before this node was the manager.
    pub fn owned(&self) -> Option<BTreeSet<u32>> {
        let owned = self.of_cluster().chain(self.unclear()).map(|node| node.index.0);
        self.is_clear().then(|| owned.collect())
    }

    /// What decides, beside the ledger, which index a node gets.
    pub fn indexes(&self) -> Indexes {
        let forgotten = if self.is_clear() { self.cleared.gone.clone() } else { BTreeSet::new() };
        Indexes { lent: self.lent_blocks(), forgotten }
    }

    /// What the manager has yet to learn, and of whom; `None` where there is nothing, or this node is not the manager.
    pub fn to_clear(&self) -> Option<ToClear> {
        if !self.is_manager() || (self.is_clear() && self.unclear().next().is_none()) {
            return None;
        }
        let gone = self.ledger.admissions().filter(|node| !self.ledger.is_member(node.node));
        let cleared = Cleared { term: self.term(), gone: gone.map(|node| node.node).collect() };
        let ask = self.of_cluster().map(|node| node.node).filter(|node| *node != self.me).collect();
        Some(ToClear { cleared, ledger: self.ledger.hash(), ask })
    }

    /// What is to be written down before the manager knows what was lent by those who are gone, of which all nodes said what
    /// they have; and what of that it has lent itself from then on.
    ///
    /// # Errors
    /// It is more than a node can lend.
    pub fn may_clear(
        &self,
        cleared: &Cleared,
        borrowed: BTreeMap<LoanNumber, Loan>,
    ) -> Result<(Vec<Persist>, BTreeMap<LoanNumber, Loan>), ClusterError> {
        let all = self.facts.all_known(Scope::Node).filter(|(writer, _)| self.ledger.is_member(*writer));
        let known: BTreeSet<LoanNumber> = all.flat_map(|(_, known)| known.loans.keys().copied()).collect();
        let owned: BTreeSet<u32> = self.of_cluster().map(|node| node.index.0).collect();
        let mut plans = Plans::default();
        let mut is_nobodys = |loan: &Loan| {
            let blocks = plans.get(self, loan.network).and_then(|plan| blocks(plan, loan));
            blocks.is_some_and(|blocks| !owned.contains(blocks.start()) && !owned.contains(blocks.end()))
        };
        let inherited: BTreeMap<LoanNumber, Loan> = borrowed
            .into_iter()
            .filter(|(number, loan)| !known.contains(number) && self.ledger.is_member(loan.to))
            .filter(|(_, loan)| is_nobodys(loan))
            .collect();
        if inherited.len() > self.room() {
            return Err(ClusterError::TooLarge { would: inherited.len(), max: self.room() });
        }
        let mut changes = kept(&inherited);
        changes.push(Persist::Cleared(cleared.clone()));
        Ok((changes, inherited))
    }

    /// How many loans this node can still make: far fewer than others believe.
    fn room(&self) -> usize {
        MOST.saturating_sub(self.lent().len())
    }

    /// All nodes have said what they have.
    pub fn clear(&mut self, cleared: Cleared, inherited: &BTreeMap<LoanNumber, Loan>, now: Duration) {
        self.cleared = cleared;
        self.inherit(inherited, now);
    }

    /// What a node that is to go has lent to others, by what it said, and what is to be written down before the manager has
    /// lent that from then on.
    pub fn may_inherit(&self, from: NodeId) -> (Vec<Persist>, BTreeMap<LoanNumber, Loan>) {
        let said =
            self.facts.known(Scope::Node, from).map(|known| (*known.loans).clone()).unwrap_or_default();
        let stays = |loan: &Loan| loan.to != from && self.ledger.is_member(loan.to);
        // Of what there is no room for the manager hears by those who have it.
        let inherited = said.into_iter().filter(|(_, loan)| stays(loan)).take(self.room()).collect();
        (kept(&inherited), inherited)
    }

    /// From now on this node has lent these.
    pub fn inherit(&mut self, loans: &BTreeMap<LoanNumber, Loan>, now: Duration) {
        for (number, loan) in loans {
            self.lend(*number, loan, now);
        }
    }

    fn plan_of(&self, network: NetworkId) -> Option<NetworkPlan> {
        NetworkPlan::new(self.network(network)?.subnet_configs()).ok()
    }
}

/// The plans of networks, each worked out once.
#[derive(Default)]
struct Plans(BTreeMap<NetworkId, Option<NetworkPlan>>);

impl Plans {
    fn get(&mut self, core: &Core, network: NetworkId) -> Option<&NetworkPlan> {
        self.0.entry(network).or_insert_with(|| core.plan_of(network)).as_ref()
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

fn kept(loans: &BTreeMap<LoanNumber, Loan>) -> Vec<Persist> {
    loans.iter().map(|(number, loan)| Persist::Lent(*number, *loan)).collect()
}

fn overlap(a: &Loan, b: &Loan) -> bool {
    a.range.contains(b.range.first()) || b.range.contains(a.range.first())
}

fn not_lent(why: &'static str) -> ClusterError {
    ClusterError::Unsound { what: "loan", why }
}
