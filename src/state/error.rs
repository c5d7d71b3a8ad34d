//! Why the state could not be read or written.

use std::io;
use std::path::PathBuf;

use crate::errno::InWords;

/// Why the state could not be read or written. A failed write changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be made, or the file in it cannot be opened.
    #[error("cannot open the state in {path}: {}; check --data-dir and its permissions", InWords(source))]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name of the file belongs to something else.
    #[error("{path} is no file of ours but {what}: move it away, or give another --data-dir")]
    NoFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Another process has the file open.
    #[error("{path} is in use by another agent: stop it, or give this one its own --data-dir")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Another release wrote it.
    #[error(
        "the state in {path} was written by another release of lanmesh (format {format}): run that release"
    )]
    OtherRelease {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u8,
    },
    /// The disk is full.
    #[error("the disk with {path} is full: nothing was changed; make room and try again")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The disk failed.
    #[error(
        "the disk failed while {path} was used ({}): nothing was changed; look at the kernel's log",
        InWords(source)
    )]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in the file cannot be right.
    #[error(
        "the state in {path} is damaged: {what}; {kept}. Keep a copy of the file and restore it from a backup; without one, \
         move it away, remove this node on the manager (`lanmesh node rm`) and let it join again, or, if it was the \
         manager, run `lanmesh manager recover` on another node first. The networks go on in the kernel until an agent starts \
         without this file"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What of it can still be read.
        kept: String,
    },
    /// A value is not what its key promises.
    #[error("the state's entry {key:?} is damaged ({source}): leave the cluster and join it again")]
    Entry {
        /// The key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}
