//! Lending addresses: what others ask of this node, and what goes back that nobody uses.
//!
//! Does not own: whom this node asks itself (`borrowing`), that a loan is durable (`cluster`, `local`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, NetworkPlan, SubnetPlan, unowned};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::answers;
use crate::cluster::{Cluster, ClusterError, LoanRequest, LoanWish};
use crate::local::{BorrowedRange, LocalEndpoint};
use crate::model::{ClusterView, Loan, LoanNumber, NetworkId, NodeId, NodeState};
use crate::reconcile::Reconciler;
use crate::state::StateError;

/// How often it is looked for what goes back.
const ROUND: Duration = Duration::from_secs(5);
/// How long a part stays that no endpoint uses: a container that is made anew is there again by then.
const IDLE: Duration = Duration::from_secs(15);
/// How long a lender may take to hear that it has something back.
const PATIENCE: Duration = Duration::from_secs(2);
/// How seldom those are asked who did not say what they have.
const SELDOM: Duration = Duration::from_secs(60);
/// How many loans lenders are reminded of in one round.
const AT_ONCE: usize = 16;

/// Between which addresses of each loan endpoints of this node have been, and since when that has not changed.
type Idle = BTreeMap<LoanNumber, (Option<AddrRange>, Instant)>;

/// What lends this node's addresses. Clones share it.
#[derive(Clone)]
pub struct Lender {
    /// The node's cluster.
    cluster: Cluster,
    /// What has its endpoints.
    reconciler: Reconciler,
    /// Who could not be asked what it has of blocks that are no node's any more.
    silent: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl Lender {
    /// What lends the addresses of a node in a cluster.
    pub fn new(cluster: Cluster, reconciler: Reconciler) -> Self {
        Self { cluster, reconciler, silent: Arc::default() }
    }

    /// Answers what others ask, and sees to it that what is not used goes back, until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let Some(requests) = self.cluster.loan_requests() else { return };
        let (answering, tidying) = (self.clone().answer(requests), self.tidy());
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(answering, tidying); } => {}
        }
    }

    async fn answer(self, mut requests: mpsc::Receiver<LoanRequest>) {
        while let Some(LoanRequest { from, wish }) = requests.recv().await {
            match wish {
                // Whoever waits no longer gets nothing: it would only have to give it back.
                LoanWish::Lend { answer, .. } if answer.is_closed() => {}
                LoanWish::Lend { number, network, subnet, wanted, answer } => {
                    let _ = answer.send(self.lend(from, number, (network, subnet), wanted).await);
                }
                LoanWish::Remember { number, network, range, answer } => {
                    let _ = answer.send(self.remember(number, Loan { network, range, to: from }).await);
                }
                LoanWish::Borrowed(answer) => {
                    let me = self.cluster.me();
                    let work = self.reconciler.work().await;
                    let loan = |&BorrowedRange { network, range, .. }: &_| Loan { network, range, to: me };
                    let all = work.local.borrowed.all().iter();
                    let _ = answer.send(all.map(|(number, borrowed)| (*number, loan(borrowed))).collect());
                }
            }
        }
    }

    /// Lends addresses to a node: of the blocks of nobody where this node is the manager, else of its own block.
    ///
    /// # Errors
    /// Why not, for a person.
    pub async fn lend(
        &self,
        to: NodeId,
        number: LoanNumber,
        (network, subnet): (NetworkId, IpNetwork),
        wanted: u32,
    ) -> Result<AddrRange, String> {
        // Nothing is attached meanwhile: what is free stays so until it is lent.
        let mut work = self.reconciler.work().await;
        let view = self.cluster.view().borrow().clone();
        let (Some(known), Some(me)) = (view.networks.get(&network), view.myself()) else {
            return Err("it knows of no such network".to_owned());
        };
        let plan = plan_of(&view, network, subnet).ok_or("it knows of no such subnet")?;
        let busy = busy(&view, network);
        let manager = self.cluster.manager().await.map_err(|error| error.to_string())?;
        let is_manager = manager.is_some_and(|(manager, _)| manager == view.me);
        let owned = if is_manager { self.cluster.owned_blocks().await } else { Ok(None) };
        let owned = owned.map_err(|error| error.to_string())?;
        let of_nobody = owned
            .as_ref()
            .and_then(|owned| unowned(&plan, |index| owned.contains(&index), &busy, wanted.into()));
        let range = match of_nobody {
            Some(range) => range,
            None if to == view.me => {
                let none = || "all blocks that are no node's are lent".to_owned();
                return Err(self.unclear(&view, is_manager && owned.is_none()).unwrap_or_else(none));
            }
            None => {
                let opened = work.local.open_leases(&known.spec, me.index, &view);
                opened.map_err(|error| error.to_string())?;
                let taken = busy.iter().filter(|range| range.first() == range.last()).map(AddrRange::first);
                let spare = work.local.leases.spare(network, subnet, wanted.into(), taken);
                let none = || "it has none to spare".to_owned();
                spare
                    .ok_or_else(|| self.unclear(&view, is_manager && owned.is_none()).unwrap_or_else(none))?
            }
        };
        let lent = self.cluster.lend(number, Loan { network, range, to }).await;
        let lent = lent.map_err(|error| error.to_string())?;
        let name = answers::node_name(&view, &to);
        tracing::info!(network = %known.spec.name, range = %lent.range, to = %name, "lent");
        Ok(lent.range)
    }

    /// Knows again of a loan that somebody has: after this node was set back to an older state. Whether it does.
    async fn remember(&self, number: LoanNumber, loan: Loan) -> bool {
        let work = self.reconciler.work().await;
        if used(work.local.endpoints.of_network(loan.network), &loan.range).is_some() {
            let view = self.cluster.view().borrow().clone();
            let name = answers::node_name(&view, &loan.to);
            tracing::warn!(range = %loan.range, node = %name, "a node has borrowed what an endpoint of this one uses");
            return false;
        }
        self.cluster.lend(number, loan).await.is_ok()
    }

    /// Why this node, where it is the manager, does not lend of all blocks that are no node's; `about_to`: it has yet to ask.
    fn unclear(&self, view: &ClusterView, about_to: bool) -> Option<String> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let who = answers::some_of(silent.iter().map(|node| answers::node_name(view, node)));
        let why = match (silent.is_empty(), about_to) {
            (true, false) => return None,
            (true, true) => "it is about to ask".to_owned(),
            (false, _) => format!("{who} did not say"),
        };
        Some(format!("it does not know yet what others have of the blocks of nodes that are gone: {why}"))
    }

    async fn tidy(self) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = Idle::new();
        let (mut orphans, mut unsaid) = (BTreeSet::new(), BTreeSet::new());
        let (mut wait, mut next) = (ROUND, Instant::now());
        loop {
            rounds.tick().await;
            match self.drop_idle(&mut idle).await {
                Ok(strays) => self.tell(strays).await,
                Err(error) => tracing::warn!(%error, "cannot give back what is not used"),
            }
            self.remind(&mut unsaid).await;
            if Instant::now() >= next {
                wait = if self.clear().await { ROUND } else { (2 * wait).min(SELDOM) };
                next = Instant::now() + wait;
            }
            if let Err(error) = self.take_back_orphans(&mut orphans).await {
                tracing::warn!(%error, "cannot take back what was lent to a node that is gone");
            }
        }
    }

    /// As the manager, learns what was lent by nodes that are gone; whether there is nothing left to learn. Those who could
    /// be asked and did not say are asked less often: they may be of a release that lends nothing.
    async fn clear(&self) -> bool {
        let silent = match self.cluster.clear_blocks().await {
            Ok(silent) => silent,
            Err(error) => {
                tracing::warn!(%error, "cannot note what was lent by nodes that are gone");
                return false;
            }
        };
        let view = self.cluster.view().borrow().clone();
        let asked_in_vain = silent.iter().any(|node| view.is_up(node));
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = silent;
        !asked_in_vain
    }

    /// Drops what no endpoint has used for a while: whole loans, and the ends of others. The answer is what lenders are to be
    /// told that this node does not have.
    async fn drop_idle(
        &self,
        idle: &mut Idle,
    ) -> Result<Vec<(NodeId, LoanNumber, Option<Loan>)>, StateError> {
        let mut work = self.reconciler.work().await;
        let view = self.cluster.view().borrow().clone();
        let all = work.local.borrowed.all().clone();
        idle.retain(|number, _| all.contains_key(number));
        let mut strays = work.local.borrowed.strays(&view);
        for (number, borrowed) in all {
            let gone = !view.networks.contains_key(&borrowed.network);
            let used =
                used(work.local.endpoints.of_network(borrowed.network), &borrowed.range).filter(|_| !gone);
            let (as_now, since) = idle.entry(number).or_insert_with(|| (used, Instant::now()));
            if *as_now != used {
                (*as_now, *since) = (used, Instant::now());
            }
            let due = gone || since.elapsed() >= IDLE;
            match used {
                None if due => {
                    work.local.drop_borrowed(number)?;
                    strays.push((borrowed.lender, number));
                }
                Some(used) if due && used != borrowed.range => work.local.narrow_borrowed(number, used)?,
                _ => {}
            }
        }
        let me = view.me;
        let wider = work.local.borrowed.wider(&view).into_iter().map(|(number, has)| {
            let BorrowedRange { network, range, lender } = has;
            (lender, number, Some(Loan { network, range, to: me }))
        });
        Ok(strays.into_iter().map(|(lender, number)| (lender, number, None)).chain(wider).collect())
    }

    /// Reminds lenders of what this node has of them and they do not speak of, as in the round before: they were set back to
    /// an older state, and would give it to somebody else.
    async fn remind(&self, before: &mut BTreeSet<LoanNumber>) {
        let all = self.reconciler.work().await.local.borrowed.all().clone();
        let view = self.cluster.view().borrow().clone();
        let said: BTreeSet<LoanNumber> =
            view.loans.values().flat_map(|loans| loans.keys().copied()).collect();
        let unsaid = all.into_iter().filter(|(number, _)| !said.contains(number));
        let unsaid: BTreeMap<LoanNumber, BorrowedRange> = unsaid.collect();
        let due = unsaid.iter().filter(|(number, _)| before.contains(number));
        for (number, BorrowedRange { network, range, lender }) in due.take(AT_ONCE) {
            let loan = Loan { network: *network, range: *range, to: view.me };
            if *lender == view.me {
                let _ = self.cluster.lend(*number, loan).await;
            } else if view.is_up(lender) {
                let _ = timeout(PATIENCE, self.cluster.remind(*lender, *number, &loan)).await;
            }
        }
        *before = unsaid.into_keys().collect();
    }

    /// Tells lenders what this node does not have, or has less of. Who does not hear it hears it in a later round, as long as it says that
    /// this node has it.
    async fn tell(&self, strays: Vec<(NodeId, LoanNumber, Option<Loan>)>) {
        let view = self.cluster.view().borrow().clone();
        let mut silent = BTreeSet::new();
        for (lender, number, has) in strays {
            if !view.is_up(&lender) || silent.contains(&lender) {
                continue;
            }
            let tell = async {
                match has {
                    Some(loan) => self.cluster.narrow(lender, number, &loan).await,
                    None if lender == view.me => self.cluster.take_back([number].into()).await.is_ok(),
                    None => self.cluster.give_back(lender, number).await,
                }
            };
            if !timeout(PATIENCE, tell).await.unwrap_or(false) {
                silent.insert(lender);
            }
        }
    }

    /// Takes back what was lent to nodes that belong to the cluster no more, or in networks that are gone; what was so in the
    /// round before, so that whoever is just hearing of it has.
    async fn take_back_orphans(&self, before: &mut BTreeSet<LoanNumber>) -> Result<(), ClusterError> {
        let view = self.cluster.view().borrow().clone();
        let is_gone = |loan: &Loan| {
            let member = view.nodes.get(&loan.to).is_some_and(|node| node.state != NodeState::Left);
            !member || !view.networks.contains_key(&loan.network)
        };
        let own = view.loans.get(&view.me).into_iter().flat_map(|loans| loans.iter());
        let orphans: BTreeSet<LoanNumber> =
            own.filter(|(_, loan)| is_gone(loan)).map(|(number, _)| *number).collect();
        let due: BTreeSet<LoanNumber> = orphans.intersection(before).copied().collect();
        *before = orphans;
        if due.is_empty() { Ok(()) } else { self.cluster.take_back(due).await }
    }
}

/// From the lowest to the highest address of a range that endpoints have; `None` where they have none.
fn used<'a>(endpoints: impl Iterator<Item = &'a LocalEndpoint>, range: &AddrRange) -> Option<AddrRange> {
    let all = endpoints.flat_map(|own| &own.endpoint.addresses).map(IpNetwork::ip);
    let all: BTreeSet<IpAddr> = all.filter(|address| range.contains(*address)).collect();
    AddrRange::new(*all.first()?, *all.last()?).ok()
}

/// The plan of a network's subnet.
pub fn plan_of(view: &ClusterView, network: NetworkId, subnet: IpNetwork) -> Option<SubnetPlan> {
    let plan = NetworkPlan::new(view.networks.get(&network)?.spec.subnet_configs()).ok()?;
    plan.subnets().iter().find(|plan| plan.subnet() == subnet).cloned()
}

/// What is lent in a network, and what endpoints and services have, as far as it is known here.
pub fn busy(view: &ClusterView, network: NetworkId) -> Vec<AddrRange> {
    let single = |ip: IpAddr| AddrRange::new(ip, ip).ok();
    let lent = view.loans_of(network).map(|(_, _, loan)| loan.range);
    let known = view.networks.get(&network).into_iter().flat_map(|network| network.endpoints.values());
    let endpoints = known.flat_map(|endpoints| endpoints.values()).flat_map(|endpoint| &endpoint.addresses);
    let services = view.service_addresses(network).into_keys();
    let used = endpoints.map(IpNetwork::ip).chain(services.collect::<Vec<_>>()).filter_map(single);
    lent.chain(used).collect()
}
