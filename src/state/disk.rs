//! The file itself: one table of an embedded database, whose faults end here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use zeroize::Zeroizing;

use super::{Batch, Kept, StateError};
use crate::fault;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
/// Whether a node knows who it is hangs on this entry.
const IDENTITY: &str = "cluster/identity";

/// An open file. There until it is dropped.
pub(super) struct Disk(Option<Database>);

/// What went wrong with the file.
#[derive(Debug)]
pub(super) enum DiskError {
    /// Another process has it.
    InUse,
    /// Another release wrote it.
    OtherRelease(u8),
    /// The system refused.
    Io(io::Error),
    /// What is in it cannot be right.
    Damaged(String),
}

impl DiskError {
    /// With the path, and where the file is damaged with what can still be read.
    pub fn at(self, path: &Path) -> StateError {
        let path = path.to_owned();
        match self {
            Self::InUse => StateError::InUse { path },
            Self::OtherRelease(format) => StateError::OtherRelease { path, format },
            Self::Io(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => StateError::Full { path },
                Some(
                    Errno::EACCES
                    | Errno::EPERM
                    | Errno::EROFS
                    | Errno::ENOENT
                    | Errno::ENOTDIR
                    | Errno::ELOOP,
                ) => StateError::Open { path, source: error },
                _ => StateError::Failed { path, source: error },
            },
            Self::Damaged(what) => {
                let kept = readable(&path);
                StateError::Damaged { path, what, kept }
            }
        }
    }
}

impl From<redb::Error> for DiskError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::UpgradeRequired(format) => Self::OtherRelease(format),
            // What the file has of its own length and what it says of it do not agree.
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                Self::Damaged("it ends too early, or is no state of lanmesh at all".to_owned())
            }
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::PreviousIo => Self::Io(io::Error::other("an earlier access failed")),
            redb::Error::Corrupted(what) => Self::Damaged(what),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs what the database library does; where it panics, the file is damaged.
fn guarded<T>(work: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    fault::contained(work).unwrap_or_else(|panic| {
        tracing::debug!(panic, "the database library gave up");
        Err(DiskError::Damaged("its pages contradict each other".to_owned()))
    })
}

fn database(error: DatabaseError) -> DiskError {
    redb::Error::from(error).into()
}

impl Disk {
    /// Opens the file, or makes it; with all that is in it.
    pub fn open(path: &Path) -> Result<(Self, Kept), DiskError> {
        let mut options = OpenOptions::new();
        // Whoever may write in the directory must not make us write elsewhere, or wait.
        options.read(true).write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::make(path),
            Err(error) => return Err(error.into()),
        };
        if file.metadata()?.len() == 0 {
            return Err(DiskError::Damaged("it is empty".to_owned()));
        }
        guarded(|| {
            let mut disk = Self(Some(Builder::new().create_file(file).map_err(database)?));
            // A disk that gives back something else than was written shows only here, or never.
            if let Some(db) = &mut disk.0
                && !db.check_integrity().map_err(database)?
            {
                tracing::warn!(path = %path.display(), "the state was not closed well, and was put in order");
            }
            let kept = disk.read()?;
            Ok((disk, kept))
        })
    }

    /// Makes the file under another name first: one that is there is whole.
    fn make(path: &Path) -> Result<(Self, Kept), DiskError> {
        let begun = PathBuf::from(format!("{}.new", path.display()));
        match std::fs::remove_file(&begun) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&begun)?;
        let disk = guarded(|| {
            let disk = Self(Some(Builder::new().create_file(file).map_err(database)?));
            disk.write(&Batch::default())?;
            Ok(disk)
        })?;
        std::fs::rename(&begun, path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok((disk, Kept::new()))
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.0.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    fn read(&self) -> Result<Kept, DiskError> {
        let read = || -> Result<Kept, redb::Error> {
            let table = self.database()?.begin_read()?.open_table(TABLE)?;
            let mut kept = Kept::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                kept.insert(key.value().to_owned(), Zeroizing::new(value.value().to_vec()));
            }
            Ok(kept)
        };
        read().map_err(DiskError::from)
    }

    /// Makes all changes, durably. After an error this file is not to be used any more.
    pub fn write(&self, batch: &Batch) -> Result<(), DiskError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database()?.begin_write()?;
            {
                let mut table = transaction.open_table(TABLE)?;
                for (key, value) in &batch.0 {
                    match value {
                        Some(bytes) => drop(table.insert(key.as_str(), bytes.as_slice())?),
                        None => drop(table.remove(key.as_str())?),
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        guarded(|| write().map_err(DiskError::from))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // To close it is to write, which fails as any other access may, and panics as well.
        if let Err(panic) = fault::contained(|| drop(self.0.take())) {
            tracing::debug!(panic, "the database library could not close the file");
        }
    }
}

/// What of a damaged file can still be read, in words.
fn readable(path: &Path) -> String {
    let found = fault::contained(|| -> Result<(u64, u64, bool), redb::Error> {
        let db = Builder::new().open_read_only(path)?;
        let table = db.begin_read()?.open_table(TABLE)?;
        let (mut good, mut endpoints, mut identity) = (0, 0, false);
        for entry in table.iter()? {
            let (key, value) = entry?;
            if serde_json::from_slice::<serde::de::IgnoredAny>(value.value()).is_ok() {
                good += 1;
                endpoints += u64::from(key.value().starts_with("endpoint/"));
                identity |= key.value() == IDENTITY;
            }
        }
        Ok((good, endpoints, identity))
    });
    match found {
        Ok(Ok((good, endpoints, identity))) => format!(
            "{good} of its entries can still be read, those of {endpoints} endpoints and {} among them",
            if identity { "this node's identity" } else { "not this node's identity" }
        ),
        _ => "nothing of it can be read".to_owned(),
    }
}
