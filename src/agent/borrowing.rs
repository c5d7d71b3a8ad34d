//! Borrowing addresses: whom this node asks when it has none left, and what it says where nobody lends.
//!
//! Does not own: what is lent (`lending`), which address an endpoint gets (`taking`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, Owner, SubnetPlan, unowned, wanted};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::answers;
use super::lending::{Lender, busy, plan_of};
use crate::api::ApiError;
use crate::cluster::{Cluster, ClusterError};
use crate::local::BorrowedRange;
use crate::model::{ClusterView, LoanNumber, NetworkId, Node, NodeId, NodeState};
use crate::reconcile::Reconciler;

/// How long one that is asked may take: what lends writes to a disk, and may be about to attach something.
const ONE: Duration = Duration::from_secs(2);
/// How often one attach borrows: in each subnet, and again where others of this node were faster.
const TRIES: usize = 16;

/// What borrows for this node. Clones share it.
#[derive(Clone)]
pub struct Borrowing(Arc<Inner>);

struct Inner {
    cluster: Cluster,
    reconciler: Reconciler,
    lender: Lender,
    /// How long one that says nothing lives.
    patience: Duration,
    /// Held by the one that asks. Only those wait that would ask the same; they may find that it was enough for all.
    one: Arc<Mutex<()>>,
    /// How often something was borrowed.
    count: AtomicU64,
}

/// The loans for one request.
pub struct Borrows {
    borrowing: Borrowing,
    deadline: Instant,
    left: usize,
    /// How often something had been borrowed when an address was last looked for.
    seen: u64,
}

impl Borrowing {
    /// What borrows for a node in a cluster, which may lend to itself; `patience` is how long all that are asked for one
    /// request may take.
    pub fn new(cluster: Cluster, reconciler: Reconciler, lender: Lender, patience: Duration) -> Self {
        let (one, count) = (Arc::default(), AtomicU64::new(0));
        Self(Arc::new(Inner { cluster, reconciler, lender, patience, one, count }))
    }

    /// What a request that begins now may borrow.
    pub fn begin(&self) -> Borrows {
        Borrows {
            borrowing: self.clone(),
            deadline: Instant::now() + 2 * self.0.patience.max(ONE),
            left: TRIES,
            seen: self.0.count.load(Ordering::Acquire),
        }
    }
}

impl Borrows {
    /// Borrows addresses of a subnet in which this node has none left; `why` says that.
    ///
    /// # Errors
    /// Nobody lends any, or not in time. Says who did not answer, and what would help.
    pub async fn borrow(&mut self, network: NetworkId, subnet: IpNetwork, why: &str) -> Result<(), ApiError> {
        let too_late = || {
            ApiError::unavailable(format!(
                "{why}, and others of this node are asking for more: it takes too long"
            ))
            .hint("try again")
        };
        self.left = self.left.checked_sub(1).ok_or_else(too_late)?;
        let Borrowing(shared) = self.borrowing.clone();
        let one =
            timeout_at(self.deadline, Arc::clone(&shared.one).lock_owned()).await.map_err(|_| too_late())?;
        let count = shared.count.load(Ordering::Acquire);
        if std::mem::replace(&mut self.seen, count) != count {
            return Ok(());
        }
        let deadline = self.deadline;
        // To its end, whoever waits for it: what is asked for is either taken or given up.
        let asking = tokio::spawn(async move {
            let told = shared.ask(network, subnet, deadline).await;
            if matches!(told, Ok(Ok(()))) {
                shared.count.fetch_add(1, Ordering::AcqRel);
            }
            drop(one);
            told
        });
        match asking.await.map_err(|_| ApiError::from(ClusterError::Stopped))?? {
            Ok(()) => {
                self.seen = count + 1;
                Ok(())
            }
            Err(refusals) => Err(refusals.into_error(why, subnet)),
        }
    }
}

impl Inner {
    fn view(&self) -> Arc<ClusterView> {
        self.cluster.view().borrow().clone()
    }

    /// Asks one after another, until one lends.
    async fn ask(
        &self,
        network: NetworkId,
        subnet: IpNetwork,
        deadline: Instant,
    ) -> Result<Result<(), Refusals>, ApiError> {
        let view = self.view();
        let manager = self.cluster.manager().await?.map(|(manager, _)| manager);
        let Some(plan) = plan_of(&view, network, subnet) else { return Ok(Err(Refusals::default())) };
        let (lenders, mut refusals) = lenders(&view, network, &plan, manager);
        for lender in lenders {
            let name = answers::node_name(&view, &lender);
            if Instant::now() >= deadline {
                refusals.silent.push(name);
                continue;
            }
            let number: LoanNumber = rand::random();
            let wanted = {
                let mut work = self.reconciler.work().await;
                work.local.borrowed.asks(number);
                let own = work.local.endpoints.of_network(network);
                let used = own.filter(|own| own.endpoint.addresses.iter().any(|ip| subnet.contains(ip.ip())));
                u32::try_from(wanted(used.count() as u64)).unwrap_or(u32::MAX)
            };
            let told = if lender == view.me {
                Ok(self.lender.lend(view.me, number, (network, subnet), wanted).await)
            } else {
                let asked = self.cluster.ask_loan(lender, number, (network, subnet), wanted);
                timeout_at(deadline.min(Instant::now() + ONE), asked).await
            };
            let taken = match told {
                Ok(Ok(range)) => {
                    let taken = self.take(number, BorrowedRange { network, range, lender }).await;
                    if matches!(taken, Ok(true)) {
                        tracing::info!(%range, lender = %name, "borrowed");
                        return Ok(Ok(()));
                    }
                    refusals.said.push(format!("{name}: it may not lend {range}"));
                    taken.map(drop)
                }
                Ok(Err(why)) => {
                    refusals.said.push(format!("{name}: {why}"));
                    Ok(())
                }
                Err(_) => {
                    refusals.silent.push(name);
                    Ok(())
                }
            };
            // Whatever comes of it is given back once it is heard of.
            self.reconciler.work().await.local.borrowed.gives_up();
            taken?;
        }
        Ok(Err(refusals))
    }

    /// Keeps what was lent; `false` where the lender may not lend it, by what is known now.
    async fn take(&self, number: LoanNumber, borrowed: BorrowedRange) -> Result<bool, ApiError> {
        let mut work = self.reconciler.work().await;
        // Behind the lock: who asks what this node has is told of it, or knows as much of who is gone.
        let manager = self.cluster.manager().await?.map(|(manager, _)| manager);
        let view = self.view();
        let BorrowedRange { network, range, lender } = borrowed;
        let subnets = view.networks.get(&network).into_iter().flat_map(|network| &network.spec.subnets);
        let subnet = subnets.copied().find(|subnet| subnet.contains(range.first()));
        let plan = subnet.and_then(|subnet| plan_of(&view, network, subnet));
        if !plan.is_some_and(|plan| may_lend(&view, &plan, manager, lender, range)) {
            return Ok(false);
        }
        Ok(work.local.borrowed.takes(number, borrowed)?)
    }
}

/// Whether a range is a node's to lend: of its own block, or of one that is no node's and the manager's.
fn may_lend(
    view: &ClusterView,
    plan: &SubnetPlan,
    manager: Option<NodeId>,
    lender: NodeId,
    range: AddrRange,
) -> bool {
    let block = |ip| if let Owner::Block(index) = plan.owner(ip) { Some(index) } else { None };
    match (block(range.first()), block(range.last())) {
        (Some(first), Some(last)) if first == last => match owner(view, first) {
            Some(owner) => owner.id == lender,
            None => manager == Some(lender),
        },
        _ => false,
    }
}

/// The node whose block it is.
pub fn owner(view: &ClusterView, index: u32) -> Option<&Node> {
    view.nodes.values().find(|node| node.index.0 == index && node.state != NodeState::Left)
}

/// Why nobody lends.
#[derive(Debug, Default)]
struct Refusals {
    /// Who said what.
    said: Vec<String>,
    /// Who did not answer, or is known not to.
    silent: Vec<String>,
    /// Who hands out the blocks of nobody, does not answer, and may have some.
    manager: Option<String>,
}

impl Refusals {
    fn into_error(self, why: &str, subnet: IpNetwork) -> ApiError {
        let Self { said, silent, manager } = self;
        let add = "detach endpoints, or add a subnet (`lanmesh network set NETWORK --add-subnet CIDR`)";
        let said = if said.is_empty() { String::new() } else { format!(" ({})", answers::some_of(said)) };
        if silent.is_empty() && manager.is_none() {
            let text = format!("{why}; no node has addresses of {subnet} to lend{said}");
            return ApiError::conflict(text).at("addresses").hint(add);
        }
        let manager =
            manager.map(|manager| format!("{manager}, the manager, which lends the blocks of no node"));
        let away = answers::some_of(manager.into_iter().chain(silent));
        let text = format!("{why}, and who could lend of {subnet} does not answer: {away}{said}");
        ApiError::unavailable(text).hint(format!("bring it back, then try again; or {add}"))
    }
}

/// Whom to ask, in this order: the manager, where there are blocks of nobody; then those who have most to spare. And those who
/// could lend and are known not to answer.
fn lenders(
    view: &ClusterView,
    network: NetworkId,
    plan: &SubnetPlan,
    manager: Option<NodeId>,
) -> (Vec<NodeId>, Refusals) {
    let busy = busy(view, network);
    let mut refusals = Refusals::default();
    let mut lenders = Vec::new();
    if unowned(plan, |index| owner(view, index).is_some(), &busy, 1).is_some()
        && let Some(manager) = manager
    {
        if view.is_up(&manager) {
            lenders.push(manager);
        } else {
            refusals.manager = Some(answers::node_name(view, &manager));
        }
    }
    let mut owners: Vec<(u64, &Node)> = view
        .nodes
        .values()
        .filter(|node| node.id != view.me && node.state != NodeState::Left && !lenders.contains(&node.id))
        .filter_map(|node| Some((plan.free_in_block(node.index.0, &busy).filter(|free| *free > 0)?, node)))
        .collect();
    owners.sort_by_key(|(free, node)| (std::cmp::Reverse(*free), node.id));
    for (_, node) in owners {
        if view.is_up(&node.id) {
            lenders.push(node.id);
        } else {
            refusals.silent.push(node.name.to_string());
        }
    }
    (lenders, refusals)
}
