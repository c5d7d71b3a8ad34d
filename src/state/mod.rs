//! What this node must remember across a crash: a small durable map from keys to JSON values.
//!
//! Owns the file, its permissions and its format. What is kept under which key is the business of whoever
//! keeps it; keys are paths (`cluster/identity`, `endpoint/NETWORK/NAME`), so that one owner is one prefix.
//!
//! All of it is in memory too: reading does not touch the disk, so that a disk that fails later takes nothing away, and a
//! file that is damaged is found out when it is opened and not in the middle of something.

mod disk;
mod error;
mod journal;
mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use zeroize::Zeroizing;

use self::disk::{Disk, DiskError};

pub use error::StateError;
pub use journal::Journal;

/// What is kept: keys are among it.
type Kept = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// A durable map from keys to JSON values. Clones share it. Writing blocks for about as long as an `fsync`.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// What is on the disk, as far as we know.
    kept: RwLock<Kept>,
    /// Nothing after an error: what the store would do next is anybody's guess, so the next write opens it anew.
    disk: Mutex<Option<Disk>>,
}

/// Several changes that are made together or not at all: of each key the last.
#[derive(Debug, Default)]
pub struct Batch(BTreeMap<String, Option<Zeroizing<Vec<u8>>>>);

impl Batch {
    /// Sets `key` to `value`.
    pub fn put<T: Serialize>(&mut self, key: impl Into<String>, value: &T) {
        // Our own plain values: a failure here would be a map with keys that are not text.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        self.0.insert(key.into(), Some(Zeroizing::new(bytes)));
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, key: impl Into<String>) {
        self.0.insert(key.into(), None);
    }
}

impl State {
    /// Opens the state in `dir`, making both where they are not there, readable by their owner alone.
    ///
    /// # Errors
    /// The directory or the file cannot be used, another agent uses it, or what is in it is damaged.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let path = place::prepare(dir)?;
        let (disk, kept) = Disk::open(&path).map_err(|error| error.at(&path))?;
        Ok(Self::of(path, disk, kept))
    }

    fn of(path: PathBuf, disk: Disk, kept: Kept) -> Self {
        Self(Arc::new(Inner { path, kept: RwLock::new(kept), disk: Mutex::new(Some(disk)) }))
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// It is no `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
        self.0.read(|kept| kept.get(key).map(|bytes| parse(key, bytes)).transpose())
    }

    /// Every key that starts with `prefix`, with its value, in the order of the keys.
    ///
    /// # Errors
    /// One of them is no `T`.
    pub fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, StateError> {
        self.0.read(|kept| {
            let found = kept.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            found.map(|(key, bytes)| Ok((key.clone(), parse(key, bytes)?))).collect()
        })
    }

    /// Sets `key` to `value`, durably.
    ///
    /// # Errors
    /// As [`State::write`].
    pub fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StateError> {
        let mut batch = Batch::default();
        batch.put(key, value);
        self.write(batch)
    }

    /// Removes `key`, durably.
    ///
    /// # Errors
    /// As [`State::write`].
    pub fn delete(&self, key: &str) -> Result<(), StateError> {
        let mut batch = Batch::default();
        batch.delete(key);
        self.write(batch)
    }

    /// Makes all changes of `batch`, durably, or none.
    ///
    /// # Errors
    /// The disk failed or is full. Nothing was changed, and the next write tries the disk anew.
    pub fn write(&self, batch: Batch) -> Result<(), StateError> {
        // What is so already costs no access.
        let changes = self.0.read(|kept| batch.0.iter().any(|(key, value)| kept.get(key) != value.as_ref()));
        if changes { apart(|| self.write_here(batch)) } else { Ok(()) }
    }

    fn write_here(&self, mut batch: Batch) -> Result<(), StateError> {
        let mut disk = self.0.disk();
        self.0.read(|kept| batch.0.retain(|key, value| kept.get(key) != value.as_ref()));
        if batch.0.is_empty() {
            return Ok(());
        }
        let failed = |error: DiskError| error.at(&self.0.path);
        let usable = match disk.take() {
            Some(usable) => usable,
            None => self.open_anew().map_err(failed)?,
        };
        usable.write(&batch).map_err(failed)?;
        *disk = Some(usable);
        let mut kept = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch.0 {
            match value {
                Some(bytes) => kept.insert(key, bytes),
                None => kept.remove(&key),
            };
        }
        Ok(())
    }

    /// Removes everything, durably: the node belongs to no cluster any more.
    ///
    /// # Errors
    /// As [`State::write`].
    pub fn clear(&self) -> Result<(), StateError> {
        let keys = self.0.read(|kept| kept.keys().cloned().collect::<Vec<_>>());
        self.write(Batch(keys.into_iter().map(|key| (key, None)).collect()))
    }

    /// Opens the file after an error, and makes it hold what we know. The write that failed may have reached the disk and
    /// only its confirmation was lost: whoever asked for it was told that nothing had changed.
    fn open_anew(&self) -> Result<Disk, DiskError> {
        let (disk, found) = Disk::open(&self.0.path)?;
        let undo = self.0.read(|kept| {
            let gone = found.keys().filter(|key| !kept.contains_key(*key)).map(|key| (key.clone(), None));
            let changed = kept.iter().filter(|(key, value)| found.get(*key) != Some(*value));
            Batch(gone.chain(changed.map(|(key, value)| (key.clone(), Some(value.clone())))).collect())
        });
        if !undo.0.is_empty() {
            disk.write(&undo)?;
        }
        tracing::info!(path = %self.0.path.display(), "the state can be written again");
        Ok(disk)
    }
}

/// Does what waits for the disk. On a thread of the runtime the other tasks of that thread go to another first.
fn apart<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

impl Inner {
    fn disk(&self) -> MutexGuard<'_, Option<Disk>> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&Kept) -> T) -> T {
        read(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|source| StateError::Entry { key: key.to_owned(), source })
}
