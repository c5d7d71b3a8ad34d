//! Lending addresses: the loans that this node makes, and asking others for theirs.
//!
//! Owns: that a loan is durable before anybody hears of it, the questions and their bounds. Does not own: what may be lent
//! (`core`), which part of a block is free, and what a borrower makes of an answer (the agent).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ClusterError;
use super::core::{Core, Persist, ToClear};
use super::desk::{LoanRequest, LoanWish, LoansHeld};
use super::handle::Cluster;
use super::plain::plain;
use super::streams::{self, Streams};
use super::v2::{self, Stands};
use super::wire::Question;
use crate::model::{Loan, LoanNumber, NetworkId, NodeId};

/// Asked: a [`v2::LoanWish`]; answered: a [`v2::LoanAnswer`].
const LEND: u16 = 2;
/// Asked: the number of a loan that the asker has no more; answered: whether it has ended.
const TAKE_BACK: u16 = 3;
/// Asked: nothing; answered: a [`v2::LoansHeld`].
const HELD: u16 = 4;
/// Asked: the number of a loan and the [`v2::Loan`], which the asker has and the lender does not speak of; answered: whether the
/// lender knows of it now.
const REMIND: u16 = 5;
/// Asked: the number of a loan and the [`v2::Loan`] that the asker has of it, of fewer addresses than were lent; answered: whether
/// it is no more than that now.
const NARROW: u16 = 6;

/// How long each may take that is asked what it has borrowed.
const HELD_WITHIN: Duration = Duration::from_secs(5);
/// The longest reason that is believed, in characters.
const REASON_MAX: usize = 300;

impl Streams {
    /// The answer to a question about loans, which a member has asked; `None` where it is none of these, or makes no sense.
    pub(super) async fn answer_of_loans(
        self: &Arc<Self>,
        peer: NodeId,
        question: &Question,
    ) -> Option<Bytes> {
        match question.number {
            LEND => {
                let wish: v2::LoanWish = v2::unpack(&question.body)?;
                let (number, network) = (wish.number, NetworkId::from_bytes(wish.network));
                let (subnet, wanted) = (wish.subnet()?, wish.wanted);
                let told = self.ask_of_loans(peer, |answer| LoanWish::Lend {
                    number,
                    network,
                    subnet,
                    wanted,
                    answer,
                });
                let told = told.await.unwrap_or_else(|| Err("it is busy".to_owned()));
                let (range, why) = match told {
                    Ok(range) => (Some((range.first(), range.last())), String::new()),
                    Err(why) => (None, why),
                };
                Some(v2::pack(&v2::LoanAnswer { range, why }))
            }
            TAKE_BACK => {
                let number: u64 = v2::unpack(&question.body)?;
                Some(v2::pack(&self.take_back(Some(peer), BTreeSet::from([number])).await.is_ok()))
            }
            NARROW => {
                let (number, loan): (u64, v2::Loan) = v2::unpack(&question.body)?;
                let keep = loan.present()?.range;
                Some(v2::pack(&self.narrow(peer, number, keep).await.is_ok()))
            }
            REMIND => {
                let (number, loan): (u64, v2::Loan) = v2::unpack(&question.body)?;
                let Loan { network, range, .. } = loan.present()?;
                let told =
                    self.ask_of_loans(peer, |answer| LoanWish::Remember { number, network, range, answer });
                Some(v2::pack(&told.await.unwrap_or(false)))
            }
            HELD => {
                // First the ledger: what is borrowed after it is told is borrowed of nobody who is gone by it.
                let ledger = self.link.with(|core, _| core.ledger().hash()).await.ok()?;
                let borrowed = self.ask_of_loans(peer, LoanWish::Borrowed).await?;
                Some(v2::pack(&v2::LoansHeld { ledger, borrowed: v2::loans(&borrowed) }))
            }
            _ => None,
        }
    }

    /// What this node's agent answers to `from`; `None` where it does not in time, or too many wait already.
    async fn ask_of_loans<T>(
        &self,
        from: NodeId,
        wish: impl FnOnce(oneshot::Sender<T>) -> LoanWish,
    ) -> Option<T> {
        self.loans.ask(|answer| LoanRequest { from, wish: wish(answer) }).await
    }

    /// Ends loans of this node: of `to` alone, or whoever has them.
    pub(super) async fn take_back(
        self: &Arc<Self>,
        to: Option<NodeId>,
        numbers: BTreeSet<LoanNumber>,
    ) -> Result<(), ClusterError> {
        let prepare = move |core: &Core, _| {
            let its = |number: &LoanNumber, loans: &BTreeMap<LoanNumber, Loan>| {
                loans.get(number).is_some_and(|loan| to.is_none_or(|to| to == loan.to))
            };
            let lent = core.lent();
            let numbers: BTreeSet<_> = numbers.into_iter().filter(|number| its(number, &lent)).collect();
            let changes: Vec<Persist> = numbers.iter().copied().map(Persist::TakenBack).collect();
            Ok::<_, ClusterError>((changes, numbers))
        };
        self.durably(prepare, |core, numbers, now| core.take_back(&numbers, now)).await
    }

    /// A loan of `to` is of no more than these addresses from now on.
    pub(super) async fn narrow(
        self: &Arc<Self>,
        to: NodeId,
        number: LoanNumber,
        keep: AddrRange,
    ) -> Result<(), ClusterError> {
        let prepare = move |core: &Core, _| Ok::<_, ClusterError>(core.may_narrow(number, to, &keep));
        let commit = move |core: &mut Core, narrower: Option<Loan>, now| {
            if let Some(loan) = narrower {
                core.lend(number, &loan, now);
            }
        };
        self.durably(prepare, commit).await
    }
}

impl Cluster {
    /// What others ask of this node's agent; there is one who takes it.
    pub fn loan_requests(&self) -> Option<mpsc::Receiver<LoanRequest>> {
        self.0.streams.loans.requests()
    }

    /// Lends a part of this node's block, or as the manager of a block that is no node's. Durable, and known to whoever
    /// listens, when this returns. What was lent under this number before is the answer where there was such.
    ///
    /// # Errors
    /// It is not this node's to lend, or to lend to that node; or it cannot be written down. Then nothing is lent.
    pub async fn lend(&self, number: LoanNumber, loan: Loan) -> Result<Loan, ClusterError> {
        let prepare = move |core: &Core, _| {
            let (changes, known) = core.may_lend(number, loan)?;
            Ok::<_, ClusterError>((changes, known.unwrap_or(loan)))
        };
        let commit = move |core: &mut Core, loan: Loan, now| {
            core.lend(number, &loan, now);
            loan
        };
        self.0.streams.durably(prepare, commit).await
    }

    /// Ends loans of this node, whoever has them. Those that there are not are passed over.
    ///
    /// # Errors
    /// That cannot be written down: they stay.
    pub async fn take_back(&self, numbers: BTreeSet<LoanNumber>) -> Result<(), ClusterError> {
        self.0.streams.take_back(None, numbers).await
    }

    /// Asks a node to lend addresses of a subnet. Waits for as long as it takes: the caller has a deadline.
    ///
    /// # Errors
    /// Why it does not, for a person.
    pub async fn ask_loan(
        &self,
        lender: NodeId,
        number: LoanNumber,
        (network, subnet): (NetworkId, IpNetwork),
        wanted: u32,
    ) -> Result<AddrRange, String> {
        let wish = v2::LoanWish {
            number,
            network: *network.as_bytes(),
            subnet: (subnet.network(), subnet.prefix()),
            wanted,
        };
        let question = Question { number: LEND, body: v2::pack(&wish) };
        let answer: v2::LoanAnswer =
            self.question(lender, question).await.map_err(|error| error.to_string())?;
        match answer.range {
            Some((first, last)) => AddrRange::new(first, last).map_err(|error| error.to_string()),
            None => Err(plain(&answer.why, REASON_MAX)),
        }
    }

    /// Tells a lender that this node does not have a loan any more; whether it has ended there.
    pub async fn give_back(&self, lender: NodeId, number: LoanNumber) -> bool {
        let question = Question { number: TAKE_BACK, body: v2::pack(&number) };
        self.question(lender, question).await.unwrap_or(false)
    }

    /// Tells a lender that this node has less of a loan than was lent; whether it is no more than that there now.
    pub async fn narrow(&self, lender: NodeId, number: LoanNumber, loan: &Loan) -> bool {
        if lender == self.me() {
            return self.0.streams.narrow(lender, number, loan.range).await.is_ok();
        }
        let question = Question { number: NARROW, body: v2::pack(&(number, v2::Loan::of(loan))) };
        self.question(lender, question).await.unwrap_or(false)
    }

    /// Tells a lender, which does not speak of it, of a loan that this node has; whether it knows of it now.
    pub async fn remind(&self, lender: NodeId, number: LoanNumber, loan: &Loan) -> bool {
        let question = Question { number: REMIND, body: v2::pack(&(number, v2::Loan::of(loan))) };
        self.question(lender, question).await.unwrap_or(false)
    }

    /// What a node has borrowed.
    ///
    /// # Errors
    /// It does not answer, or is of a release that lends nothing.
    pub async fn ask_loans_held(&self, node: NodeId) -> io::Result<LoansHeld> {
        let question = Question { number: HELD, body: Bytes::new() };
        let told: v2::LoansHeld = self.question(node, question).await?;
        let present = |loans: Vec<(u64, v2::Loan)>| {
            let own = |loan: v2::Loan| loan.present().filter(|loan| loan.to == node);
            let loans = loans.into_iter().map(|(number, loan)| Some((number, own(loan)?)));
            loans.collect::<Option<_>>().ok_or_else(|| io::Error::other("no loans at all"))
        };
        Ok(LoansHeld { ledger: told.ledger, borrowed: present(told.borrowed)? })
    }

    /// The indexes whose block this node, as the manager, may not lend; `None` while it does not know what was lent before
    /// it became the manager.
    pub async fn owned_blocks(&self) -> Result<Option<BTreeSet<u32>>, ClusterError> {
        self.0.link.with(|core, _| core.owned()).await
    }

    /// Learns, where this node is the manager, what all nodes have that was lent by those who are gone: before that nothing
    /// of the blocks of these is lent, and their indexes are given to nobody by themselves. Who could not say is the answer;
    /// where somebody could not, nothing was learned.
    ///
    /// # Errors
    /// It cannot be written down.
    pub async fn clear_blocks(&self) -> Result<BTreeSet<NodeId>, ClusterError> {
        let asked = self.0.link.with(|core, _| core.to_clear()).await?;
        let Some(ToClear { cleared, ledger, ask }) = asked else { return Ok(BTreeSet::new()) };
        let view = self.view().borrow().clone();
        let down: BTreeSet<NodeId> = ask.iter().copied().filter(|node| !view.is_up(node)).collect();
        if !down.is_empty() {
            return Ok(down);
        }
        let mut answers = JoinSet::new();
        for node in ask {
            let cluster = self.clone();
            answers.spawn(async move { (node, timeout(HELD_WITHIN, cluster.ask_loans_held(node)).await) });
        }
        // Its own like that of any other: after it was known who is gone.
        let own = self.0.streams.ask_of_loans(self.me(), LoanWish::Borrowed).await;
        let mut silent = BTreeSet::new();
        let mut borrowed = own.unwrap_or_else(|| {
            silent.insert(self.me());
            BTreeMap::new()
        });
        while let Some(answer) = answers.join_next().await {
            match answer {
                Ok((_, Ok(Ok(held)))) if held.ledger == ledger => borrowed.extend(held.borrowed),
                Ok((node, _)) => drop(silent.insert(node)),
                Err(_) => return Err(ClusterError::Stopped),
            }
        }
        if silent.is_empty() {
            let prepare = move |core: &Core, _| {
                let (changes, inherited) = core.may_clear(&cleared, borrowed)?;
                Ok::<_, ClusterError>((changes, (cleared, inherited)))
            };
            let commit = |core: &mut Core, (cleared, inherited), now| core.clear(cleared, &inherited, now);
            self.0.streams.durably(prepare, commit).await?;
        }
        Ok(silent)
    }

    /// What a node answers to a question. Waits for as long as it takes: the caller has a deadline.
    pub(super) async fn question<T: DeserializeOwned>(
        &self,
        node: NodeId,
        question: Question,
    ) -> io::Result<T> {
        let address = self.view().borrow().nodes.get(&node).map(|node| node.address);
        let address = address.ok_or_else(|| io::Error::other("it is no node of the cluster"))?;
        let answer = self.0.streams.question(node, address, question).await?;
        v2::unpack(&answer).ok_or_else(streams::no_answer)
    }
}
