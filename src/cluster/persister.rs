//! Writes what the core wants remembered, on a thread of its own and in order, so that no disk keeps a probe waiting.
//!
//! What could not be written is tried again: the others know it. What is to be known to others only once it is written has a
//! way of its own ([`Persister::first`]), and is not tried again.
//!
//! What waits to be written is bounded by what there is to remember: of two values of one thing the later one is all that is
//! kept. A disk that stands still for an hour costs no more memory than one that stands still for a second.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info};

use super::core::Persist;
use super::facts::FactKey;
use super::{ClusterError, store};
use crate::model::{LoanNumber, NodeId};
use crate::state::{State, StateError};

/// So many changes may wait before it is looked which of them are of no use any more.
const LOOSE: usize = 1024;
/// How soon it is tried again to write what could not be written.
const AGAIN: Duration = Duration::from_secs(1);

type Waiter = oneshot::Sender<Result<(), StateError>>;

/// The way to the thread. Clones share it.
#[derive(Clone)]
pub(super) struct Persister(Arc<Way>);

/// With it the thread ends.
struct Way(Arc<Shared>);

impl Drop for Way {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    changes: Vec<Persist>,
    /// More than this, and it is looked again which are of no use.
    limit: usize,
    /// Who waits until all before him is durable.
    waiting: Vec<Waiter>,
    /// What is to be written before it is so, each by itself, and who waits for that.
    firsts: Vec<(Vec<Persist>, Waiter)>,
    stopped: bool,
}

/// What a change is of. Of two with one place the later one counts.
#[derive(PartialEq, Eq, Hash)]
enum Place {
    Claim(String),
    Keys,
    Peer(NodeId),
    Incarnation,
    Authority,
    Rotated,
    Record(FactKey),
    Owed(NodeId),
    Paid,
    Loan(LoanNumber),
    Cleared,
}

impl Place {
    fn of(change: &Persist) -> Self {
        match change {
            Persist::Claim(claim) => Self::Claim(claim.key()),
            Persist::Keys(_) => Self::Keys,
            Persist::Peer(node, _) => Self::Peer(*node),
            Persist::Incarnation(_) => Self::Incarnation,
            Persist::Authority(_) | Persist::SteppedDown => Self::Authority,
            Persist::Rotated(_) => Self::Rotated,
            Persist::Record(record) => Self::Record(record.key.clone()),
            Persist::Forget(key) => Self::Record(key.clone()),
            Persist::Owed(node) => Self::Owed(*node),
            Persist::Paid => Self::Paid,
            Persist::Lent(number, _) | Persist::TakenBack(number) => Self::Loan(*number),
            Persist::Cleared(_) => Self::Cleared,
        }
    }
}

impl Queue {
    fn add(&mut self, changes: Vec<Persist>) {
        self.changes.extend(changes);
        if self.changes.len() > self.limit.max(LOOSE) {
            self.compact();
            self.limit = 2 * self.changes.len();
        }
    }

    /// Takes changes back that were taken out of it and not written; those that came meanwhile are later.
    fn give_back(&mut self, changes: Vec<Persist>) {
        let later = std::mem::replace(&mut self.changes, changes);
        self.add(later);
    }

    /// Whether there is something to do, where changes may be written or not before their time.
    fn calls(&self, changes_too: bool) -> bool {
        self.stopped
            || !self.waiting.is_empty()
            || !self.firsts.is_empty()
            || (changes_too && !self.changes.is_empty())
    }

    /// Drops what a later change makes of no use. The others stay in their order.
    fn compact(&mut self) {
        let mut later = HashSet::new();
        let mut kept: Vec<Persist> = std::mem::take(&mut self.changes)
            .into_iter()
            .rev()
            .filter(|change| later.insert(Place::of(change)))
            .collect();
        kept.reverse();
        self.changes = kept;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere leaves no change halfway in.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.wake.notify_one();
    }
}

impl Persister {
    /// Starts the thread; it ends when it is stopped, or with the last clone.
    pub fn start(state: State) -> Result<(Self, JoinHandle<()>), ClusterError> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("lanmesh-state".to_owned())
            .spawn(move || write_all(&state, &own))
            .map_err(ClusterError::Thread)?;
        Ok((Self(Arc::new(Way(shared))), thread))
    }

    /// Hands changes over, to be written after all before them.
    pub fn write(&self, changes: Vec<Persist>) {
        if !changes.is_empty() {
            let Way(shared) = &*self.0;
            shared.lock().add(changes);
            shared.wake.notify_one();
        }
    }

    /// Ends the thread, and its hold on the state, when what was handed over before is written.
    pub fn stop(&self) {
        self.0.0.stop();
    }

    /// Writes something down before it is so.
    ///
    /// # Errors
    /// It is not written, and will not be.
    pub async fn first(&self, changes: Vec<Persist>) -> Result<(), ClusterError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.wait(|queue, waiter| queue.firsts.push((changes, waiter))).await
    }

    /// Returns when everything that was handed over before is durable.
    ///
    /// # Errors
    /// It could not be written yet; that is tried on.
    pub async fn barrier(&self) -> Result<(), ClusterError> {
        self.wait(|queue, waiter| queue.waiting.push(waiter)).await
    }

    async fn wait(&self, ask: impl FnOnce(&mut Queue, Waiter)) -> Result<(), ClusterError> {
        let (sender, receiver) = oneshot::channel();
        let Way(shared) = &*self.0;
        {
            let mut queue = shared.lock();
            if queue.stopped {
                return Err(ClusterError::Stopped);
            }
            ask(&mut queue, sender);
        }
        shared.wake.notify_one();
        receiver.await.map_err(|_| ClusterError::Stopped)??;
        Ok(())
    }
}

fn write_all(state: &State, shared: &Shared) {
    // Since the last try failed: when the next is due.
    let mut again: Option<Instant> = None;
    loop {
        let mut queue = shared.lock();
        loop {
            let rest = again.map(|again| again.saturating_duration_since(Instant::now()));
            if queue.calls(rest.is_none_or(|rest| rest.is_zero())) {
                break;
            }
            queue = match rest {
                None => shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(rest) => {
                    let waited = shared.wake.wait_timeout(queue, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        // All that is there goes into one commit.
        let (changes, waiting) = (std::mem::take(&mut queue.changes), std::mem::take(&mut queue.waiting));
        let (firsts, stopped) = (std::mem::take(&mut queue.firsts), queue.stopped);
        drop(queue);
        let mut failed = false;
        if !changes.is_empty()
            && let Err(error) = store::save(state, &changes)
        {
            failed = true;
            if again.is_none() {
                error!(%error, "cannot remember changes of the cluster; it is tried every second");
            }
        }
        for waiter in waiting {
            // Each has an error of its own.
            let saved = if failed { store::save(state, &changes) } else { Ok(()) };
            failed = saved.is_err();
            let _ = waiter.send(saved);
        }
        if failed {
            shared.lock().give_back(changes);
            again = Some(Instant::now() + AGAIN);
        } else if again.take().is_some() {
            info!("the changes of the cluster are remembered again");
        }
        for (changes, waiter) in firsts {
            let _ = waiter.send(store::save(state, &changes));
        }
        if stopped {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::facts::Kind;

    fn forgotten(key: u8) -> Persist {
        Persist::Forget(FactKey { kind: Kind(7), key: vec![key].into() })
    }

    #[test]
    fn what_waits_is_bounded_by_what_there_is_to_remember_and_keeps_its_order() {
        let mut queue = Queue::default();
        let node = NodeId::from_bytes([1; 16]);
        for _ in 0..1000 {
            queue.add((0..100).map(forgotten).collect());
            queue.add(vec![Persist::Owed(node), Persist::Paid]);
        }
        assert!(queue.changes.len() <= 2 * LOOSE, "{}", queue.changes.len());
        queue.compact();
        assert_eq!(queue.changes.len(), 102);
        assert_eq!(queue.changes[queue.changes.len() - 2..], [Persist::Owed(node), Persist::Paid]);
    }

    #[test]
    fn what_could_not_be_written_comes_before_what_came_meanwhile() {
        let mut queue = Queue::default();
        queue.add(vec![forgotten(3)]);
        queue.give_back(vec![forgotten(1), forgotten(2)]);
        assert_eq!(queue.changes, [1, 2, 3].map(forgotten));
        assert!(queue.calls(true) && !queue.calls(false));
    }

    #[tokio::test]
    async fn who_waits_is_told_that_it_is_durable_and_after_the_stop_that_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let (persister, thread) = Persister::start(state.clone()).unwrap();
        let node = NodeId::from_bytes([1; 16]);
        persister.write(vec![Persist::Owed(node)]);
        persister.barrier().await.unwrap();
        assert_eq!(store::owed(&state).unwrap(), [node]);
        // What is owed and paid at once is not owed.
        persister.write(vec![Persist::Owed(NodeId::from_bytes([2; 16])), Persist::Paid]);
        persister.stop();
        thread.join().unwrap();
        assert_eq!(store::owed(&state).unwrap(), []);
        persister.barrier().await.unwrap_err();
    }
}
