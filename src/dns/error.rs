//! Why there is no name server.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::errno::InWords;
use crate::model::NetworkId;

/// Why a network has no name server. The others have theirs.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The namespace could not be entered.
    #[error(
        "cannot enter {path} for its name server: {}; it is tried again with the next pass",
        InWords(source)
    )]
    Namespace {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A socket could not be made.
    #[error("cannot listen on {address} for DNS: {}; stop what else listens there", InWords(source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The system gives no threads.
    #[error(
        "no threads for the name servers: {}; raise the limit of tasks (`TasksMax=` in a unit)",
        InWords(_0)
    )]
    Threads(std::io::Error),
    /// The cluster has no such network.
    #[error("network {0} is not known (any more): it is tried again with the next pass")]
    Unknown(NetworkId),
}
