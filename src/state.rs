//! What this node must remember across a crash: a small durable map from keys to JSON values.
//!
//! Owns the file, its permissions and its format. What is kept under which key is the business of whoever
//! keeps it; keys are paths (`cluster/identity`, `endpoint/NETWORK/NAME`), so that one owner is one prefix.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const FILE: &str = "state.redb";

/// Why the state could not be read or written. A failed write changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be made, or the file in it cannot be opened.
    #[error("cannot open the state in {path}: {source}; check --data-dir and its permissions")]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// What the system or the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the file open.
    #[error("{path} is in use by another agent: stop it, or give this one its own --data-dir")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The store failed while reading or writing.
    #[error("the state in {path} cannot be used: {source}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What the store said.
        source: Box<redb::Error>,
    },
    /// A value is not what its key promises.
    #[error("the state's entry {key:?} is damaged ({source}): remove it by leaving and joining again")]
    Damaged {
        /// The key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A durable map from keys to JSON values. Clones share it. Calls block for about as long as an `fsync`.
#[derive(Clone)]
pub struct State {
    db: Arc<Database>,
    path: PathBuf,
}

/// Several changes that are made together or not at all.
#[derive(Debug, Default)]
pub struct Batch(Vec<(String, Option<Vec<u8>>)>);

impl Batch {
    /// Sets `key` to `value`.
    pub fn put<T: Serialize>(&mut self, key: impl Into<String>, value: &T) {
        // Our own plain values: a failure here would be a map with keys that are not text.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        self.0.push((key.into(), Some(bytes)));
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, key: impl Into<String>) {
        self.0.push((key.into(), None));
    }
}

impl State {
    /// Opens the state in `dir`, making both where they are not there, readable by their owner alone.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        let failed = |path: &Path, source| StateError::Open { path: path.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| failed(dir, error.into()))?;
        let db = match Database::create(&path) {
            Ok(db) => db,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StateError::InUse { path }),
            Err(error) => return Err(failed(&path, error.into())),
        };
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(|error| failed(&path, error.into()))?;
        let state = Self { db: Arc::new(db), path };
        // An empty commit makes the table, so that reading need not care whether it is there.
        state.write(Batch::default())?;
        Ok(state)
    }

    /// The value under `key`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.db.begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?.map(|bytes| bytes.value().to_vec()))
        };
        read().map_err(|error| self.failed(error))?.map(|bytes| parse(key, &bytes)).transpose()
    }

    /// Every key that starts with `prefix`, with its value, in the order of the keys.
    pub fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, StateError> {
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let table = self.db.begin_read()?.open_table(TABLE)?;
            let mut found = Vec::new();
            for entry in table.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(found)
        };
        let found = read().map_err(|error| self.failed(error))?;
        found
            .into_iter()
            .map(|(key, bytes)| {
                let value = parse(&key, &bytes)?;
                Ok((key, value))
            })
            .collect()
    }

    /// Sets `key` to `value`, durably.
    pub fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StateError> {
        let mut batch = Batch::default();
        batch.put(key, value);
        self.write(batch)
    }

    /// Removes `key`, durably.
    pub fn delete(&self, key: &str) -> Result<(), StateError> {
        let mut batch = Batch::default();
        batch.delete(key);
        self.write(batch)
    }

    /// Makes all changes of `batch`, durably, or none.
    pub fn write(&self, batch: Batch) -> Result<(), StateError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.db.begin_write()?;
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
        write().map_err(|error| self.failed(error))
    }

    /// Removes everything, durably: the node belongs to no cluster any more.
    pub fn clear(&self) -> Result<(), StateError> {
        let mut batch = Batch::default();
        for (key, _) in self.list::<serde_json::Value>("")? {
            batch.delete(key);
        }
        self.write(batch)
    }

    fn failed(&self, error: redb::Error) -> StateError {
        match error {
            redb::Error::DatabaseAlreadyOpen => StateError::InUse { path: self.path.clone() },
            source => StateError::Store { path: self.path.clone(), source: Box::new(source) },
        }
    }
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|source| StateError::Damaged { key: key.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let state = State::open(&dir.path().join("data")).expect("opens");
        (dir, state)
    }

    #[test]
    fn what_was_written_is_there_after_it_is_opened_again() {
        let (dir, state) = state();
        state.put("a/1", &"one").expect("writes");
        state.put("b/1", &2).expect("writes");
        drop(state);
        let state = State::open(&dir.path().join("data")).expect("opens again");
        assert_eq!(state.get::<String>("a/1").expect("reads"), Some("one".to_owned()));
        assert_eq!(state.list::<u32>("b/").expect("lists"), [("b/1".to_owned(), 2)]);
        state.delete("a/1").expect("deletes");
        assert_eq!(state.get::<String>("a/1").expect("reads"), None);
    }

    #[test]
    fn two_agents_cannot_share_one_state_and_are_told_so() {
        let (dir, _state) = state();
        let error = State::open(&dir.path().join("data")).err().expect("is refused");
        assert!(error.to_string().contains("--data-dir"), "{error}");
    }

    #[test]
    fn a_value_of_another_shape_is_an_error_that_names_its_key() {
        let (_dir, state) = state();
        state.put("a", &"text").expect("writes");
        let error = state.get::<u32>("a").expect_err("is no number");
        assert!(error.to_string().contains("\"a\""), "{error}");
    }

    #[test]
    fn nobody_else_may_read_the_file() {
        let (dir, _state) = state();
        let data = dir.path().join("data");
        for (path, mode) in [(data.clone(), 0o700), (data.join(FILE), 0o600)] {
            let found = std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
            assert_eq!(found, mode);
        }
    }
}
