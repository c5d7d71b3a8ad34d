//! The agent: puts the parts together, serves the socket, and stops in good order.
//!
//! Owns: what a request at the socket means (`backend`, `attach`, `networks`), the node's time in a cluster
//! (`session`), readiness and shutdown. Does not own: HTTP and permissions (`api`), anything that the parts do.

mod answers;
mod attach;
mod backend;
mod errors;
mod names;
mod networks;
mod news;
mod notify;
mod services;
mod session;
mod tally;
mod zeroconf;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, RwLock, broadcast};
use tokio_util::sync::CancellationToken;

use crate::api::{Access, ApiError, BindError, EventKind, EventLog, EventObject, Limits, Socket, serve};
use crate::cluster::ClusterEvent;
use crate::config::Config;
use crate::kernel::{Kernel, KernelConfig, KernelError, Without};
use crate::model::{NetworkId, NodeId};
use crate::state::{State, StateError};

use notify::Notify;
use session::Session;

pub use crate::kernel::wireguard::{ProcessError, serve as serve_wireguard};

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
    /// The socket could not be opened.
    #[error(transparent)]
    Socket(#[from] BindError),
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

/// Runs the agent until SIGTERM or SIGINT. What is in the kernel stays there and goes on forwarding.
///
/// # Errors
/// The agent could not start; what was in the kernel is as it was.
pub async fn run(config: Config) -> Result<(), AgentError> {
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let access =
        Access { owner: nix::unistd::geteuid().as_raw(), write_group: config.write_group, read: config.read };
    let limits = Limits { max_body: config.max_body, ..Limits::default() };
    // The socket first: a second agent with the same run directory must not get as far as the kernel.
    let socket = Socket::bind(&config.socket, &access)?;
    let agent = Agent::start(config).await?;
    let events = agent.context.events.clone();
    events.publish(EventKind::AgentStarted, EventObject::default(), "the agent serves");
    tracing::info!(socket = %socket.path().display(), "ready");
    let notify = Notify::from_environment();
    notify.ready();
    let serving = serve(socket, Arc::new(agent.clone()), access, limits, stop.clone());
    // Whoever enters or leaves a cluster for long hangs as little as one who waits for it.
    let alive = async || drop(agent.session.read().await);
    tokio::join!(serving, notify.watch(stop, alive));
    notify.stopping();
    agent.stop().await;
    tracing::info!("stopped; the networks go on");
    Ok(())
}

fn stop_on_signals(stop: &CancellationToken) -> Result<(), AgentError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// The agent, as the socket sees it. Clones share it.
#[derive(Clone)]
struct Agent {
    context: Context,
    session: Arc<RwLock<Option<Arc<Session>>>>,
    /// Held while the node enters or leaves a cluster.
    changing: Arc<Mutex<()>>,
    started: Instant,
}

impl Agent {
    /// Takes up what was there before, if anything, and clears what is left of a cluster that was left.
    async fn start(config: Config) -> Result<Self, AgentError> {
        let state = State::open(&config.data_dir)?;
        let without = Without {
            mdb: config.without_vxlan_mdb,
            filter: config.without_egress_filter,
            guard: config.without_port_guard,
            query_limit: config.without_query_limit,
            underlay_guard: config.without_underlay_guard,
            wireguard: config.without_wireguard,
        };
        let kernel = Kernel::open(KernelConfig {
            run_dir: config.run_dir.clone(),
            without,
            queries_per_s: config.dns_rate,
        })?;
        let context = Context { config: Arc::new(config), state, kernel, events: EventLog::new(PAST_EVENTS) };
        let session = Session::resume(&context).await?;
        if session.is_none() {
            session::clear_kernel(&context).await?;
        }
        let agent =
            Self { context, session: Arc::default(), changing: Arc::default(), started: Instant::now() };
        if let Some(session) = session {
            agent.enter(session).await;
        }
        Ok(agent)
    }

    /// Makes `session` the node's cluster, until the node leaves it or is shut out of it.
    async fn enter(&self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        *self.session.write().await = Some(session.clone());
        tokio::spawn(self.clone().until_removed(session.cluster.me(), session.cluster.events()));
        session
    }

    /// Takes everything of this node's away when the cluster says that it was removed.
    async fn until_removed(self, me: NodeId, mut events: broadcast::Receiver<ClusterEvent>) {
        loop {
            match events.recv().await {
                Ok(ClusterEvent::NodeRemoved { node, .. }) if node == me => break,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
        let _changing = self.changing.lock().await;
        let Some(session) = self.session.write().await.take() else { return };
        tracing::warn!("this node was removed from its cluster: its endpoints and networks are taken away");
        if let Err(error) = session.abandon().await {
            tracing::error!(%error, "cannot clean up after the removal; the next start does");
        }
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
