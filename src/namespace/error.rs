//! What can be wrong with a path to a network namespace.

use std::io;
use std::path::{Path, PathBuf};

use crate::errno::InWords;
use crate::shown::shown;

/// Why a path is no network namespace that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// There is nothing.
    #[error("there is no network namespace at {path}: is the container still running?")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The path is under /proc/PID, and the process is gone.
    #[error("process {pid} is gone, and its network namespace with it: is the container still running?")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// Something else is there.
    #[error(
        "{path} is {what} and not a network namespace: give a path like /run/netns/NAME or /proc/PID/ns/net"
    )]
    Other {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The path leads nowhere: links in a circle, or it is longer than a path can be.
    #[error("{path} leads nowhere: {why}; give a path like /run/netns/NAME or /proc/PID/ns/net")]
    Astray {
        /// The path, cut where it is long.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// The agent may not look at it or enter it.
    #[error(
        "the agent may not {what} {path}: run it as root, or with CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
    )]
    NotPermitted {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// The file system that it is on does not answer.
    #[error("{path} does not answer: the file system that it is on hangs; give another path")]
    Late {
        /// The path.
        path: PathBuf,
    },
    /// Too many paths that do not answer are being waited for.
    #[error(
        "{path} is not looked at: too many other paths do not answer; try again when their file systems do"
    )]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot {what} {path}: {why}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

impl NamespaceError {
    pub(super) fn io(what: &'static str, path: &Path, source: &io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), why: InWords(source).to_string() }
    }

    pub(super) fn astray(path: &Path, why: &'static str) -> Self {
        Self::Astray { path: shown(&path.to_string_lossy()), why }
    }
}
