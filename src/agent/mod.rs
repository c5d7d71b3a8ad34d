//! The agent: puts the parts together, serves the socket, and stops in good order.
//!
//! Owns: what a request at the socket means (`backend`, `attach`, `networks`), the node's time in a cluster
//! (`session`), readiness and shutdown. Does not own: HTTP and permissions (`api`), anything that the parts do.

mod answers;
mod attach;
mod backend;
mod errors;
mod networks;
mod news;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, RwLock};

use crate::api::{ApiError, EventKind, EventLog, EventObject};
use crate::config::Config;
use crate::kernel::{Kernel, KernelConfig, KernelError};
use crate::model::NetworkId;
use crate::state::{State, StateError};

use session::Session;

/// How many past events are kept for those who ask.
const PAST_EVENTS: usize = 4096;

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The durable state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The cluster or this node's endpoints could not be taken up again.
    #[error(transparent)]
    Resume(#[from] ApiError),
    /// The socket could not be opened, or broke.
    #[error(transparent)]
    Socket(#[from] crate::api::ServeError),
    /// The system refuses signals.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// What every part of the agent may use.
#[derive(Clone)]
struct Context {
    config: Arc<Config>,
    state: State,
    kernel: Kernel,
    events: EventLog,
}

/// The agent, as the socket sees it.
pub struct Agent {
    context: Context,
    session: RwLock<Option<Arc<Session>>>,
    /// Held while the node enters or leaves a cluster.
    changing: Mutex<()>,
    started: Instant,
}

impl Agent {
    /// Takes up what was there before, if anything, and clears what is left of a cluster that was left.
    async fn start(config: Config) -> Result<Arc<Self>, AgentError> {
        let state = State::open(&config.data_dir)?;
        let kernel = Kernel::open(KernelConfig { run_dir: config.run_dir.clone() })?;
        let context =
            Context { config: Arc::new(config), state, kernel, events: EventLog::new(PAST_EVENTS) };
        let session = Session::resume(&context).await?;
        if session.is_none() {
            session::clear_kernel(&context).await?;
        }
        let agent = Self {
            context,
            session: RwLock::new(session.map(Arc::new)),
            changing: Mutex::new(()),
            started: Instant::now(),
        };
        Ok(Arc::new(agent))
    }

    /// The node's cluster, or an error that says that it has none.
    async fn session(&self) -> Result<Arc<Session>, ApiError> {
        self.session.read().await.clone().ok_or_else(|| {
            ApiError::unavailable("this node belongs to no cluster")
                .hint("run `lanmesh init` or `lanmesh join` first")
        })
    }

    async fn stop(&self) {
        let _changing = self.changing.lock().await;
        if let Some(session) = self.session.write().await.take() {
            session.suspend().await;
        }
    }
}

impl Session {
    /// The namespace of a network, if this node has it.
    fn namespace(&self, network: NetworkId) -> Option<PathBuf> {
        let path = self.kernel().namespace_path(network);
        path.exists().then_some(path)
    }
}

