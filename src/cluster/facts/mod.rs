//! What every writer publishes, versioned per writer, and what all of them write together: entries of bytes, whose
//! meaning is somebody else's business.
//!
//! Owns: the shape of entries, how a document changes and how one copy of it catches up with another, the bounds of
//! what a writer may publish, and the records that the last writer wins. Does not own: what an entry means (`kinds`), who
//! may see what (`core`), how it travels (`wire`), what lasts beyond its writer for good (`ledger`).
//!
//! A writer publishes one document for everybody (scope [`Scope::Node`]) and one for each network it takes part
//! in. All of its documents draw their versions from one counter, so that of any two of its changes it is known
//! which came later. A start of the agent is a new incarnation, which beats every version of an older one.
//!
//! Entries of kinds that this version does not know are merged, bounded and passed on like all others; so are values
//! that make no sense here. What is believed is decided in one place, [`Project::set`], for own facts as for others'.

mod doc;
mod project;
mod records;
mod stamp;
mod store;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{NetworkId, NodeId};

pub(super) use doc::{Applied, Doc};
pub(super) use project::{Limits, Outcome, Project};
pub(super) use records::{Merged, Record, Records};
pub use stamp::MAX_AHEAD;
pub(super) use stamp::Stamp;
pub(super) use store::{Change, FactStore};

/// Which start of its agent a writer is in; counted durably, so that it only grows.
pub(super) type Incarnation = u64;

/// A place in the sequence of a writer's changes, from 1 in each incarnation.
pub(super) type Version = u64;

/// The most bytes that one document may take when it is encoded.
pub(super) const MAX_DOC_BYTES: usize = 3 << 20;

/// The longest key, in bytes.
pub(super) const MAX_KEY: usize = 1024;

/// The number of a kind, on the wire and on disk. One that was used is never given to another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Kind(pub u16);

/// Whom a document concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Scope {
    /// Everybody.
    Node,
    /// The nodes that take part in a network.
    Network(NetworkId),
}

/// What an entry is about, within its document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct FactKey {
    /// What kind of thing.
    pub kind: Kind,
    /// Which, in the kind's own encoding.
    pub key: Bytes,
}

/// One line of a digest: how far a copy of a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Whose document.
    pub writer: NodeId,
    /// Which start of its writer; 0 where nothing is known.
    pub incarnation: Incarnation,
    /// The highest version in it.
    pub version: Version,
}

/// A fact, or that there is none any more, with the version that made it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// What it is about.
    pub key: FactKey,
    /// Since which version.
    pub version: Version,
    /// What is said, in the kind's own encoding; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// What brings a copy of a document from version `base` to `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delta {
    /// Whose document.
    pub writer: NodeId,
    /// Which of its documents.
    pub scope: Scope,
    /// Which start of its writer.
    pub incarnation: Incarnation,
    /// The lowest version of a copy that this can be applied to; 0 means that it is the whole document.
    pub base: Version,
    /// The version that the copy has afterwards.
    pub version: Version,
    /// The changes after `base`; of a whole document, all facts and no tombstone.
    pub entries: Vec<Entry>,
}

impl Delta {
    /// Whether its parts fit each other, as far as one can see without the document and without knowing what the
    /// entries mean.
    pub(super) fn is_sound(&self) -> bool {
        self.base <= self.version
            && self.entries.iter().all(|entry| {
                entry.version > self.base && entry.version <= self.version && entry.key.key.len() <= MAX_KEY
            })
    }
}
