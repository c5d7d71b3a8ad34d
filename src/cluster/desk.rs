//! Where what others ask is handed to the agent, and its answer waited for: about loans, and what takes a look at the kernel.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::drops::ToldDrops;
use crate::capture::{Filter, Packet};
use crate::model::{EndpointName, Errand, Hop, Loan, LoanNumber, NetworkId, NodeId};

/// How many requests about loans wait for the agent.
const LOANS_WAITING: usize = 32;
/// How long it may take over one.
const LOAN_WITHIN: Duration = Duration::from_secs(3);

/// How many errands of others wait for the agent, and how long it may take over one.
const TRACES_WAITING: usize = 8;
const TRACE_WITHIN: Duration = Duration::from_secs(6);
/// How many polls of captures wait for the agent, and how long it may take over one.
const CAPTURES_WAITING: usize = 16;
const CAPTURE_WITHIN: Duration = Duration::from_secs(4);
/// How many wait to be told what this node dropped, and how long it may take to find out.
const DROPS_WAITING: usize = 16;
const DROPS_WITHIN: Duration = Duration::from_millis(1500);

/// What another node asks of this one's agent about loans.
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

/// What another node asks of this one's agent about a path.
#[derive(Debug)]
pub struct TraceRequest {
    /// What is to be looked at.
    pub errand: Errand,
    /// What was found.
    pub answer: oneshot::Sender<Vec<Hop>>,
}

/// What somebody wants to listen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureSpec {
    /// In which network.
    pub network: NetworkId,
    /// At which endpoint; `None`: whatever comes into the network on that node.
    pub endpoint: Option<EndpointName>,
    /// Which frames.
    pub filter: Filter,
    /// How many bytes of each, at most.
    pub snaplen: u32,
}

/// What came of it, since it was last asked for.
#[derive(Debug, Default)]
pub struct Captured {
    /// The frames.
    pub packets: Vec<Packet>,
    /// How many were lost.
    pub lost: u64,
    /// Why there will be no more, if so.
    pub end: Option<String>,
}

impl Captured {
    /// That there will be no more.
    pub fn ended(why: impl Into<String>) -> Self {
        Self { end: Some(why.into()), ..Self::default() }
    }
}

/// What another node asks of this one's agent about a capture.
#[derive(Debug)]
pub struct CaptureRequest {
    /// Who asks, as its certificate says, and the number that it has drawn.
    pub key: (NodeId, u64),
    /// What is to be listened to.
    pub spec: CaptureSpec,
    /// What came.
    pub answer: oneshot::Sender<Captured>,
}

/// That another node wants to know what this one dropped.
#[derive(Debug)]
pub struct DropsRequest {
    /// What it did.
    pub answer: oneshot::Sender<ToldDrops>,
}

/// Where requests of one kind come in and the agent takes them.
pub(super) struct Desk<R> {
    requests: mpsc::Sender<R>,
    taken: Mutex<Option<mpsc::Receiver<R>>>,
    within: Duration,
}

impl Desk<LoanRequest> {
    /// That of loans.
    pub fn of_loans() -> Self {
        Self::new(LOANS_WAITING, LOAN_WITHIN)
    }
}

impl Desk<TraceRequest> {
    /// That of errands.
    pub fn of_traces() -> Self {
        Self::new(TRACES_WAITING, TRACE_WITHIN)
    }
}

impl Desk<CaptureRequest> {
    /// That of captures.
    pub fn of_captures() -> Self {
        Self::new(CAPTURES_WAITING, CAPTURE_WITHIN)
    }
}

impl Desk<DropsRequest> {
    /// That of what was dropped.
    pub fn of_drops() -> Self {
        Self::new(DROPS_WAITING, DROPS_WITHIN)
    }
}

impl<R> Desk<R> {
    /// One at which so many requests wait for the agent (further ones are refused: they try elsewhere, or again), and which lets
    /// it take so long over each.
    pub fn new(waiting: usize, within: Duration) -> Self {
        let (requests, taken) = mpsc::channel(waiting);
        Self { requests, taken: Mutex::new(Some(taken)), within }
    }

    /// What comes in; once, for the one who takes it.
    pub fn requests(&self) -> Option<mpsc::Receiver<R>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the agent answers; `None` where it does not in time, or too many wait already.
    pub async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> R) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.requests.try_send(request(sender)).ok()?;
        timeout(self.within, receiver).await.ok()?.ok()
    }
}
