//! The seam between entries, which the store carries, and what they mean to this version.

use std::fmt::Debug;

use super::{FactKey, Kind};

/// How much of one kind a document, or the records of the whole cluster, may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) struct Limits {
    /// The longest value, in bytes.
    pub value: usize,
    /// How many entries.
    pub entries: usize,
    /// How many bytes, with keys and versions.
    pub bytes: usize,
}

impl Limits {
    /// Of kinds that this version does not know.
    pub const UNKNOWN: Self = Self { value: 64 << 10, entries: 16_384, bytes: 1 << 20 };
}

/// What became of an entry that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Outcome {
    /// It says what was known.
    Same,
    /// It is of a kind that this version does not know.
    Foreign,
    /// Something that is believed changed.
    Changed {
        /// Whether something was believed before.
        had: bool,
        /// Whether something is believed now.
        has: bool,
    },
    /// It is not believed, and nothing was before.
    Unsound,
}

/// What a document, or the records, mean to this version: the entries of the kinds that it knows, read and checked.
pub(in crate::cluster) trait Project: Debug + Clone + PartialEq {
    /// What the meaning depends on besides the entries.
    type About: Clone + PartialEq;

    /// Of no entries.
    fn begin(about: &Self::About) -> Self;

    /// How much of a kind there may be.
    fn limits(kind: Kind) -> Limits;

    /// Whether an entry would be believed: `Err` says why not. A kind that is not known is believed by nobody here, and
    /// may be said all the same.
    fn check(about: &Self::About, key: &FactKey, value: &[u8]) -> Result<(), &'static str>;

    /// Takes what is said under a key now; `None`: nothing. The one door: what is not sound never gets further, and in
    /// its place nothing is believed.
    fn set(&mut self, key: &FactKey, value: Option<&[u8]>) -> Outcome;
}
