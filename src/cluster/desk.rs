//! Where what others ask about loans is handed to the agent, and its answer waited for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::model::{Loan, LoanNumber, NetworkId, NodeId};

/// How many requests of others wait for the agent. Further ones are refused: they try elsewhere, or again.
const WAITING: usize = 32;
/// How long the agent may take. Whoever asks waits no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What another node asks of this one's agent.
#[derive(Debug)]
pub struct LoanRequest {
    /// Who asks, as its certificate says.
    pub from: NodeId,
    /// What.
    pub wish: LoanWish,
}

/// What may be asked.
#[derive(Debug)]
pub enum LoanWish {
    /// To lend addresses.
    Lend {
        /// The number of the loan, which the asker has drawn.
        number: LoanNumber,
        /// In which network.
        network: NetworkId,
        /// Of which of its subnets.
        subnet: IpNetwork,
        /// How many at most.
        wanted: u32,
        /// What was lent, or why nothing was, for a person.
        answer: oneshot::Sender<Result<AddrRange, String>>,
    },
    /// To know again of a loan that the asker has.
    Remember {
        /// Its number.
        number: LoanNumber,
        /// In which network.
        network: NetworkId,
        /// Which addresses.
        range: AddrRange,
        /// Whether it does.
        answer: oneshot::Sender<bool>,
    },
    /// What this node has borrowed.
    Borrowed(oneshot::Sender<BTreeMap<LoanNumber, Loan>>),
}

/// What a node has borrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoansHeld {
    /// The sum of its ledger before it looked: where it is that of another node, both know of the same nodes, of those that
    /// are gone too, and of the same manager.
    pub ledger: u64,
    /// What it has borrowed.
    pub borrowed: BTreeMap<LoanNumber, Loan>,
}

/// Where the requests of others come in and the agent takes them.
pub(super) struct Desk {
    requests: mpsc::Sender<LoanRequest>,
    taken: Mutex<Option<mpsc::Receiver<LoanRequest>>>,
}

impl Default for Desk {
    fn default() -> Self {
        let (requests, taken) = mpsc::channel(WAITING);
        Self { requests, taken: Mutex::new(Some(taken)) }
    }
}

impl Desk {
    /// What comes in; once, for the one who takes it.
    pub fn requests(&self) -> Option<mpsc::Receiver<LoanRequest>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the agent answers; `None` where it does not in time, or too many wait already.
    pub async fn ask<T>(&self, from: NodeId, wish: impl FnOnce(oneshot::Sender<T>) -> LoanWish) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.requests.try_send(LoanRequest { from, wish: wish(sender) }).ok()?;
        timeout(ANSWER_WITHIN, receiver).await.ok()?.ok()
    }
}
