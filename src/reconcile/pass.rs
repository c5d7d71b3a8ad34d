//! A pass: what is new is followed, what is to be looked at is looked at, and each subject makes its steps.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::before::handing_on;
use super::desire::{World, is_settled};
use super::schedule::Passed;
use super::subject::{Announcement, Turn};
use super::subjects::{self, Subjects};
use super::{Happening, Lost, Reconciler, Work, lock};
use crate::clock::now_ms;
use crate::cluster::ClusterError;
use crate::kernel::{KernelError, KernelEvent};
use crate::local::LocalEndpoint;
use crate::model::{ClusterView, EndpointKey, NetworkId, NodeId};
use crate::plan::{Observed, Op};
use crate::state::StateError;

/// How long entries that nobody vouches for stay after a start, at most.
const SETTLE: Duration = Duration::from_secs(30);

/// Why an endpoint is not kept. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It cannot be remembered.
    #[error(transparent)]
    State(#[from] StateError),
    /// The others cannot be told.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// What a pass goes by, but for the endpoints of this node, which may be lost in it.
struct Basis {
    view: Arc<ClusterView>,
    gone: BTreeSet<NodeId>,
    silent: BTreeSet<NodeId>,
}

/// That a pass is going on, until it ends or is broken off.
struct Underway<'a>(&'a Mutex<Option<Instant>>);

impl<'a> Underway<'a> {
    fn new(since: &'a Mutex<Option<Instant>>) -> Self {
        *lock(since) = Some(Instant::now());
        Self(since)
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

impl Reconciler {
    /// The steps that a full pass would make now, a line each.
    pub async fn dry_run(&self) -> Result<Vec<String>, KernelError> {
        let mut work = self.work().await;
        let work = &mut *work;
        self.follow_alone(work).await;
        let mut lines = Vec::new();
        for row in work.subjects.rows() {
            lines.extend(row.dry_run(&*self.0.kernel).await?);
        }
        Ok(lines)
    }

    /// Lets every subject take up what is new, and leaves the rest to the next pass.
    pub(super) async fn follow_alone(&self, work: &mut Work) {
        let basis = self.basis(work).await;
        self.with_world(&basis, work, None, |subjects, world| {
            subjects.rows().into_iter().for_each(|row| row.follow(world));
        });
    }

    /// Gives an endpoint that is not yet kept its interface, and its network a place on this node where it has
    /// none. All or nothing.
    pub async fn bring_up(&self, work: &mut Work, record: &LocalEndpoint) -> Result<(), KernelError> {
        self.pass(work, false, &BTreeSet::new(), Some(record)).await;
        let failed = work.subjects.networks.take_failed();
        let is_its = |op: &Op| op.network == record.network && op.action.concerns(&record.endpoint);
        let failed = failed.into_iter().find(|(op, _)| is_its(op)).map(|(_, error)| error);
        match failed.or_else(|| work.subjects.networks.take_unseen(record.network)) {
            None => Ok(()),
            Some(error) => {
                self.catch_up(work).await;
                Err(error)
            }
        }
    }

    /// Makes a pass over what is new, such as that an endpoint of this node went.
    pub async fn catch_up(&self, work: &mut Work) {
        self.pass(work, false, &BTreeSet::new(), None).await;
        if work.subjects.rows().iter().any(|row| row.is_behind()) {
            self.0.behind.notify_one();
        }
    }

    /// Keeps an endpoint that was brought up, and tells the others. All or nothing, but for its interface.
    pub async fn keep(&self, work: &mut Work, record: &LocalEndpoint) -> Result<(), KeepError> {
        work.local.insert(record.clone())?;
        let name = || record.endpoint.name.clone();
        let mut told = self.0.peers.put_endpoint(record.network, record.endpoint.clone()).await;
        if told.is_ok() && !record.also.is_empty() {
            told = self.0.peers.set_also(record.network, name(), record.also.clone()).await;
        }
        if let Some(ports) = record.mesh_ports().filter(|_| told.is_ok()) {
            told = self.0.peers.set_mesh_ports(record.key(), ports).await;
        }
        if let Err(error) = told {
            work.local.remove(&record.key())?;
            // Of which the others may have heard a part.
            let _ = self.0.peers.remove_endpoint(record.network, name()).await;
            return Err(error.into());
        }
        Arc::make_mut(&mut *lock(&self.0.records)).insert(record.key(), Arc::new(record.clone()));
        Ok(())
    }

    /// Keeps whether an endpoint of this node takes no new connections, and tells the others.
    ///
    /// # Errors
    /// It could not be kept or published: it is what it was.
    pub async fn drain(&self, work: &mut Work, record: &LocalEndpoint) -> Result<(), KeepError> {
        let Some(before) = work.local.endpoints.get(&record.key()).cloned() else { return Ok(()) };
        work.local.insert(record.clone())?;
        let name = record.endpoint.name.clone();
        if let Err(error) = self.0.peers.set_draining(record.network, name, record.draining).await {
            work.local.insert(before)?;
            return Err(error.into());
        }
        Arc::make_mut(&mut *lock(&self.0.records)).insert(record.key(), Arc::new(record.clone()));
        self.catch_up(work).await;
        Ok(())
    }

    /// Keeps what an endpoint of this node, which is there, has become; the next pass brings it about in the kernel.
    ///
    /// # Errors
    /// It could not be kept or published: it is what it was.
    pub async fn change(&self, work: &mut Work, record: &LocalEndpoint) -> Result<(), KeepError> {
        let Some(before) = work.local.endpoints.get(&record.key()).cloned() else { return Ok(()) };
        work.local.insert(record.clone())?;
        if let Err(error) = self.0.peers.put_endpoint(record.network, record.endpoint.clone()).await {
            work.local.insert(before)?;
            return Err(error.into());
        }
        Arc::make_mut(&mut *lock(&self.0.records)).insert(record.key(), Arc::new(record.clone()));
        Ok(())
    }

    /// Drops an endpoint of this node everywhere but in the kernel, which the next pass sees to. The answer is
    /// whether it was there.
    pub async fn forget(&self, work: &mut Work, key: &EndpointKey) -> Result<bool, StateError> {
        if work.local.remove(key)?.is_none() {
            return Ok(false);
        }
        Arc::make_mut(&mut *lock(&self.0.records)).remove(key);
        let last = work.local.endpoints.of_network(key.network).next().is_none()
            && !self.view().everywhere_without(Some(key)).contains(&key.network);
        let published = if last {
            self.0.peers.leave_network(key.network).await
        } else {
            self.0.peers.remove_endpoint(key.network, key.name.clone()).await
        };
        if let Err(error) = published {
            tracing::warn!(network = %key.network, endpoint = %key.name, %error, "cannot take the endpoint back");
        }
        Ok(true)
    }

    /// Drops an endpoint of this node whose namespace cannot be entered any more, in the kernel too, as the next
    /// pass would. The answer is whether it was one.
    pub async fn lose_if_gone(&self, work: &mut Work, key: &EndpointKey) -> bool {
        if work.local.endpoints.get(key).is_none_or(LocalEndpoint::has_its_namespace) {
            return false;
        }
        self.lose(work, key, Lost::ContainerGone).await;
        self.catch_up(work).await;
        true
    }

    /// One pass as it is due: over everything, or over what is new. When the next one is.
    pub(super) async fn pass_due(&self, full: bool, heard: &BTreeSet<KernelEvent>) -> Passed {
        let mut work = self.work().await;
        let work = &mut *work;
        let was_settled = work.settled;
        self.settle(work);
        let full = full || (work.settled && !was_settled);
        if full {
            let view = self.view();
            if let Err(error) = work.local.retain_networks(|id| view.networks.contains_key(&id)) {
                tracing::warn!(%error, "cannot forget the leases of networks that are gone");
            }
        }
        self.pass(work, full, heard, None).await;
        let now = self.now();
        let rows = work.subjects.rows();
        let wake = rows.iter().filter_map(|row| row.wake()).min();
        let behind = rows.iter().any(|row| row.is_behind());
        let grace = work.next_grace(self.0.settings.grace).map(|left| now + left);
        let look = (!work.settled).then(|| now + self.0.settings.detect / 2);
        Passed { behind, wake: wake.into_iter().chain(grace).min(), look }
    }

    /// Notes when everybody has been heard. Until then entries for unknown endpoints stay: after a restart the
    /// kernel knows more than the agent.
    fn settle(&self, work: &mut Work) {
        let age = self.now();
        let heard = age >= 2 * self.0.settings.detect && is_settled(&self.view());
        work.settled |= heard || age >= SETTLE;
    }

    async fn basis(&self, work: &mut Work) -> Basis {
        if work.can.is_none() {
            work.can = Some(self.0.kernel.can().await);
        }
        if work.before.is_none() && !work.settled {
            // Where it cannot be seen now it is looked at again.
            work.before = handing_on(&*self.0.kernel).await.ok();
        }
        let view = self.view();
        let gone = work.gone(&view, self.0.settings.grace);
        Basis { view, gone, silent: self.0.silent.borrow().clone() }
    }

    /// Does something with the subjects and what they go by.
    fn with_world<T>(
        &self,
        basis: &Basis,
        work: &mut Work,
        extra: Option<&LocalEndpoint>,
        act: impl FnOnce(&mut Subjects, &World<'_>) -> T,
    ) -> T {
        // Taken apart: the subjects change, and what they go by does not.
        let Work { local, subjects, can, settled, before, .. } = work;
        let mut everywhere = basis.view.everywhere();
        if !*settled {
            let there = |network: &&NetworkId| basis.view.networks.contains_key(network);
            everywhere.extend(before.iter().flatten().filter(there));
        }
        let world = World {
            view: &basis.view,
            local: World::by_network(local.endpoints.iter().chain(extra)),
            everywhere,
            gone: &basis.gone,
            silent: &basis.silent,
            cluster: self.0.peers.id(),
            secret: self.0.peers.mesh_secret().borrow().clone(),
            vxlan_port: self.0.settings.vxlan_port,
            wireguard_port: self.0.settings.wireguard_port,
            outward_ports: self.0.settings.outward_ports,
            can_select: can.is_some_and(|can| can.select_groups),
            can_guard: can.is_some_and(|can| can.guard_underlay),
            settled: *settled,
            now: self.now(),
            published: Default::default(),
        };
        act(subjects, &world)
    }

    /// Lets every subject take up what is new. Endpoints that lost their ground by it are lost, and then it is
    /// followed again.
    async fn follow(&self, work: &mut Work, extra: Option<&LocalEndpoint>) {
        let basis = self.basis(work).await;
        loop {
            self.with_world(&basis, work, extra, |subjects, world| {
                subjects.rows().into_iter().for_each(|row| row.follow(world));
            });
            let displaced = work.subjects.networks.subject.displaced().clone();
            let mut lost = false;
            // One that is only about to be attached is its caller's to drop.
            let is_extra = |key: &EndpointKey| extra.is_some_and(|record| record.key() == *key);
            for (key, why) in displaced.into_iter().filter(|(key, _)| !is_extra(key)) {
                lost |= self.lose(work, &key, why).await;
            }
            if !lost {
                return;
            }
        }
    }

    /// One pass. What failed is reported, and tried again by the next one.
    async fn pass(
        &self,
        work: &mut Work,
        full: bool,
        heard: &BTreeSet<KernelEvent>,
        extra: Option<&LocalEndpoint>,
    ) {
        let (kernel, began) = (&*self.0.kernel, Instant::now());
        let _underway = Underway::new(&self.0.underway);
        for row in work.subjects.rows() {
            // Of a pass that was broken off.
            row.end();
            if full {
                row.doubt();
            }
            heard.iter().for_each(|event| row.hear(event));
        }
        work.subjects.networks.take_failed();
        self.follow(work, extra).await;
        let mut again = false;
        for row in work.subjects.rows() {
            again |= row.look(kernel).await;
        }
        if again {
            for key in work.subjects.networks.subject.take_vanished() {
                if extra.is_none_or(|record| record.key() != key) {
                    self.lose(work, &key, Lost::ContainerGone).await;
                }
            }
            self.follow(work, extra).await;
        }
        let mut done = 0;
        for row in work.subjects.rows() {
            done += row.turn(kernel, Turn::Make).await;
        }
        for row in work.subjects.rows().into_iter().rev() {
            done += row.turn(kernel, Turn::Clear).await;
        }
        let (mut errors, mut put_back) = (Vec::new(), Vec::new());
        for row in work.subjects.rows() {
            row.end();
            put_back.append(&mut row.take_put_back());
            if let Some(what) = row.announcement() {
                match self.announce(what.clone()).await {
                    Ok(()) => row.announced(what),
                    Err(error) => errors.push(format!("cannot tell the other nodes: {error}")),
                }
            }
            errors.extend(row.problems());
        }
        let present = work.subjects.networks.subject.present();
        self.0.present.send_if_modified(|known| {
            let changed = known != present;
            known.clone_from(present);
            changed
        });
        self.note_put_back(put_back);
        self.conclude(done, began.elapsed(), errors);
    }

    async fn announce(&self, what: Announcement) -> Result<(), ClusterError> {
        match what {
            Announcement::MeshKeys(keys) => self.0.peers.set_mesh(keys).await,
            Announcement::Networks { begin, end } => {
                for network in end {
                    self.0.peers.leave_network(network).await?;
                }
                for network in begin {
                    self.0.peers.take_part(network).await?;
                }
                Ok(())
            }
        }
    }

    /// Drops an endpoint that lost its ground, and says so; whether it was there.
    pub async fn lose(&self, work: &mut Work, key: &EndpointKey, why: Lost) -> bool {
        match self.forget(work, key).await {
            Ok(true) => {
                tracing::warn!(network = %key.network, endpoint = %key.name, %why, "endpoint lost");
                self.happened(Happening::EndpointLost { key: key.clone(), why });
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::error!(%error, "cannot drop an endpoint that is gone");
                false
            }
        }
    }

    fn conclude(&self, changes: usize, took: Duration, errors: Vec<String>) {
        let news = {
            let mut report = lock(&self.0.report);
            let news = report.errors != errors && !errors.is_empty();
            report.passes += 1;
            report.took += took;
            report.changes += changes as u64;
            report.last_ms = Some(now_ms());
            report.last_changes = changes;
            report.errors.clone_from(&errors);
            news
        };
        if changes > 0 {
            tracing::debug!(changes, "the kernel was brought to what is desired");
            self.happened(Happening::Changed { operations: changes });
        }
        if news {
            errors.iter().for_each(|error| tracing::error!("{error}"));
            self.happened(Happening::Failed { errors });
        }
    }
}

/// Those of `records` whose interface is not there and whose namespace cannot be entered any more.
pub fn vanished<'a>(
    records: impl Iterator<Item = &'a LocalEndpoint>,
    observed: &Observed,
) -> BTreeSet<EndpointKey> {
    let gone = |record: &'a LocalEndpoint| {
        subjects::vanished(std::iter::once(record), observed.networks.get(&record.network)).next()
    };
    records.filter_map(gone).collect()
}
