//! Network namespaces: entered ([`enter`]), and those that somebody else names by a path opened without waiting for anything, and
//! told apart.
//!
//! Whoever gives the path may mean a FIFO, a device, a mount that does not answer. So a path is only ever looked at on
//! a thread of its own, for a bounded time, and nothing is opened for reading before it is known to be a namespace.
//! Owns what can be wrong with such a path, and what makes two namespaces the same one. Does not own what is done in
//! a namespace (`kernel`), nor where those of the networks are.

mod cookie;
pub mod enter;
mod error;
mod look;
mod workers;

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use error::NamespaceError;
pub use look::process_of;

/// How long a path may take: what is there answers within microseconds, a file system that has gone never does.
const PATIENCE: Duration = Duration::from_secs(2);

/// What tells one network namespace from all others, also from those that were deleted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceId {
    /// A hash of the boot's id: after a reboot inodes and cookies are given again, often in the same order.
    pub boot: u64,
    /// The device number of the namespace file system.
    pub device: u64,
    /// The inode, unique among those that live: one that is made anew often has that of the last one.
    pub inode: u64,
    /// The cookie (`SO_NETNS_COOKIE`, Linux 5.14), which no other namespace of this boot ever had; absent where the
    /// kernel has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

impl NamespaceId {
    /// Of the namespace that `path` refers to now. Blocks, for two seconds at most.
    ///
    /// # Errors
    /// As [`Namespace::open`].
    pub fn of(path: &Path) -> Result<Self, NamespaceError> {
        Namespace::open(path).map(|namespace| namespace.id)
    }

    /// Whether both are of one namespace. A record from before there were cookies has to do with the rest.
    pub fn is(&self, other: &Self) -> bool {
        let cookies = self.cookie.zip(other.cookie).is_none_or(|(one, another)| one == another);
        (self.boot, self.device, self.inode) == (other.boot, other.device, other.inode) && cookies
    }
}

/// A network namespace that is open. As long as it is held, the namespace lives.
#[derive(Debug)]
pub struct Namespace {
    /// Its file, which can be entered.
    pub file: File,
    /// Which one it is.
    pub id: NamespaceId,
}

impl Namespace {
    /// Opens the one that `path` refers to now. Blocks, for two seconds at most.
    ///
    /// # Errors
    /// There is nothing, it is something else, it may not be entered, or it does not answer in time.
    pub fn open(path: &Path) -> Result<Self, NamespaceError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        // Who waits no longer needs no answer.
        look_at(path, move |found| drop(sender.send(found)))?;
        receiver.recv_timeout(PATIENCE).map_err(|_| NamespaceError::Late { path: path.to_owned() })?
    }

    /// The same, without blocking a thread of the runtime.
    ///
    /// # Errors
    /// As [`Namespace::open`].
    pub async fn open_aside(path: &Path) -> Result<Self, NamespaceError> {
        let (sender, receiver) = oneshot::channel();
        look_at(path, move |found| drop(sender.send(found)))?;
        let late = || NamespaceError::Late { path: path.to_owned() };
        tokio::time::timeout(PATIENCE, receiver).await.map_err(|_| late())?.map_err(|_| late())?
    }
}

/// Has a worker look at `path`, and tell what it found.
fn look_at(
    path: &Path,
    tell: impl FnOnce(Result<Namespace, NamespaceError>) + Send + 'static,
) -> Result<(), NamespaceError> {
    let place = look::Place::take().ok_or_else(|| NamespaceError::Busy { path: path.to_owned() })?;
    let owned = path.to_owned();
    let look = move || {
        let found = look::look(&owned);
        drop(place);
        tell(found);
    };
    workers::run(Box::new(look)).map_err(|source| NamespaceError::io("look at", path, &source))
}

#[cfg(test)]
mod tests;
