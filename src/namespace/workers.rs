//! Threads for what no thread of the runtime may do, kept for a while for the next piece of work: to make one costs more than most of
//! what is done on it.
//!
//! A worker begins in the namespaces of the thread that made it, is back in them before it takes up anything else, and works for
//! threads in the same ones only. Idle, it holds no other namespace. One that cannot go back, or whose work panics, ends.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SendError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// How many wait for work at most.
const KEPT: usize = 16;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const NET: &str = "/proc/thread-self/ns/net";
const MOUNTS: &str = "/proc/thread-self/ns/mnt";

/// A piece of work.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// The namespaces of a thread, each by its device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    net: (u64, u64),
    mounts: (u64, u64),
}

impl Home {
    /// Those of the calling thread.
    fn here() -> io::Result<Self> {
        let identity = |path: &str| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
        Ok(Self { net: identity(NET)?, mounts: identity(MOUNTS)? })
    }
}

/// A worker that waits.
struct Waiting {
    number: u64,
    home: Home,
    sender: Sender<Work>,
}

/// Those that wait. The last to come is the first to go: its memory is still warm.
static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());
static NUMBERS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What a worker does when its work is answered; `None` on any other thread.
    static AFTERWARDS: RefCell<Option<Vec<Work>>> = const { RefCell::new(None) };
}

fn waiting() -> MutexGuard<'static, Vec<Waiting>> {
    // A list of independent items: a panic leaves none of them half-written.
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a worker do it.
///
/// # Errors
/// There can be no further thread.
pub(super) fn run(work: Work) -> io::Result<()> {
    let home = Home::here()?;
    let found = {
        let mut waiting = waiting();
        let last = waiting.iter().rposition(|worker| worker.home == home);
        last.map(|place| waiting.remove(place))
    };
    let Some(worker) = found else { return begin(home, work) };
    match worker.sender.send(work) {
        Ok(()) => Ok(()),
        // It ended in this moment.
        Err(SendError(work)) => begin(home, work),
    }
}

fn begin(home: Home, work: Work) -> io::Result<()> {
    let worker = std::thread::Builder::new().name("lanmesh-aside".to_owned());
    worker.spawn(move || work_on(home, work)).map(drop)
}

/// On a worker: does this when what it is doing has been answered, and it is in its own namespaces again. On any other thread it
/// has another one do it, or does it now where there can be none.
pub fn afterwards(work: impl FnOnce() + Send + 'static) {
    let work: Work = Box::new(work);
    let left = AFTERWARDS.with_borrow_mut(|list| match list {
        Some(list) => {
            list.push(work);
            None
        }
        None => Some(work),
    });
    if let Some(work) = left {
        let thread = std::thread::Builder::new().name("lanmesh-after".to_owned());
        // Where no thread can be had, what was to be dropped in there has been.
        let _ = thread.spawn(work);
    }
}

fn work_on(home: Home, mut work: Work) {
    let Ok(net) = File::open(NET) else { return work() };
    AFTERWARDS.set(Some(Vec::new()));
    loop {
        work();
        let back =
            setns(&net, CloneFlags::CLONE_NEWNET).is_ok() && Home::here().is_ok_and(|here| here == home);
        let after = AFTERWARDS.with_borrow_mut(|list| list.as_mut().map(std::mem::take));
        after.into_iter().flatten().for_each(|work| work());
        if !back {
            return;
        }
        let Some(next) = wait(home) else { return };
        work = next;
    }
}

/// Waits for the next piece of work; `None` where there are enough workers, or nothing comes.
fn wait(home: Home) -> Option<Work> {
    let (sender, receiver) = mpsc::channel();
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    {
        let mut waiting = waiting();
        if waiting.len() >= KEPT {
            return None;
        }
        waiting.push(Waiting { number, home, sender });
    }
    match receiver.recv_timeout(PATIENCE) {
        Ok(work) => Some(work),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            let mut waiting = waiting();
            let before = waiting.len();
            waiting.retain(|worker| worker.number != number);
            let gone = waiting.len() < before;
            drop(waiting);
            // Who took it from the list has work for it, or has given it up.
            if gone { None } else { receiver.recv().ok() }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::unshare;

    use super::*;

    /// What `work` gives on a worker, with the worker's number as a thread.
    fn done<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (T, i32) {
        let (sender, receiver) = mpsc::channel();
        let work = move || sender.send((work(), nix::unistd::gettid().as_raw())).expect("is awaited");
        run(Box::new(work)).expect("there are threads");
        receiver.recv().expect("is done")
    }

    #[test]
    fn a_worker_is_kept_and_one_whose_work_panics_is_not_missed() {
        let seen: std::collections::BTreeSet<i32> = (0..200).map(|_| done(|| ()).1).collect();
        assert!(seen.len() < 100, "{} threads for 200 pieces of work", seen.len());
        run(Box::new(|| panic!("on purpose"))).expect("there are threads");
        assert_eq!(done(|| 7).0, 7);
    }

    #[test]
    fn a_worker_is_at_home_again_whatever_its_work_did() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP a_worker_is_at_home_again_whatever_its_work_did: not root");
            return;
        }
        let home = Home::here().expect("has one");
        for flags in [CloneFlags::CLONE_NEWNET, CloneFlags::CLONE_NEWNS].into_iter().cycle().take(40) {
            let (elsewhere, _) = done(move || {
                unshare(flags).expect("another namespace");
                Home::here().expect("has one")
            });
            assert_ne!(elsewhere, home);
            for _ in 0..3 {
                assert_eq!(done(|| Home::here().expect("has one")).0, home);
            }
        }
        // A thread elsewhere gets its own.
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("another namespace");
            let here = Home::here().expect("has one");
            assert_eq!(done(|| Home::here().expect("has one")).0, here);
        })
        .join()
        .expect("ends well");
    }

    #[test]
    fn what_is_done_afterwards_waits_for_nobody_and_is_done() {
        let (sender, receiver) = mpsc::channel();
        let ((), worker) = done(move || {
            afterwards(move || sender.send(nix::unistd::gettid().as_raw()).expect("is awaited"));
        });
        assert_eq!(receiver.recv(), Ok(worker), "by the same worker");
        let (sender, receiver) = mpsc::channel();
        afterwards(move || sender.send(()).expect("is awaited"));
        assert_eq!(receiver.recv(), Ok(()));
    }
}
