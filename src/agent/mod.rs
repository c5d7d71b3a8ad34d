//! The agent: puts the parts together, serves the socket, and stops in good order.
//!
//! Owns: what a request at the socket means (`backend`, `attach`, `networks`), the node's time in a cluster
//! (`session`), readiness and shutdown. Does not own: HTTP and permissions (`api`), anything that the parts do.

mod addresses;
mod also;
mod answers;
mod attach;
mod backend;
mod borrowing;
mod captures;
mod capturing;
mod changes;
mod cleanup;
mod contests;
mod drops;
mod each;
mod each_node;
mod errors;
mod find;
mod floating;
mod fresh;
mod health;
mod lending;
mod mdns_counts;
mod metrics;
mod misplaced;
mod nameless;
mod names;
mod networks;
mod news;
mod node_paths;
mod notify;
mod others;
mod out;
mod outward;
mod page;
mod past;
mod place;
mod presence;
mod problems;
mod published;
mod reach;
mod reload;
mod routers;
mod seen;
mod services;
mod session;
mod settings;
mod signs;
mod subnets;
mod taking;
#[cfg(test)]
mod tests;
mod trace;
mod tracer;
mod traits;
mod trials;
mod trying;
mod unknown;
mod watching;
mod ways_of;
mod zeroconf;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, RwLock, watch};
use tokio_util::sync::CancellationToken;

use crate::api::{Access, ApiError, BindError, EventKind, EventLog, EventObject, Limits, Socket, serve};
use crate::cluster::{adopt, settle_here};
use crate::config::{Config, Flags};
use crate::kernel::{Capability, KernelConfig, KernelError, Linux};
use crate::logs;
use crate::machine;
use crate::model::{ClusterView, NetworkId, NodeId};
use crate::rundir::{RunDir, RunDirError};
use crate::state::{Journal, State, StateError};

use fresh::Fresh;
use notify::Notify;
use out::Out;
use reload::Reloader;
use session::Session;
use watching::Watchers;

pub use cleanup::{Cleanup, Found, cleanup};

pub use crate::kernel::wireguard::{ProcessError, serve as serve_wireguard};

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
    /// The run directory is another agent's.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
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
    /// What the agent was started with.
    config: Arc<Config>,
    /// The same with what was changed since: for what may change.
    configured: watch::Sender<Arc<Config>>,
    state: State,
    kernel: Linux,
    events: EventLog,
}

/// What the agent is started with.
#[derive(Debug, Default)]
pub struct Startup {
    /// What it is told.
    pub config: Config,
    /// Where that came from, and comes from when it is read again.
    pub flags: Flags,
    /// The way to what is let into the log.
    pub log: logs::Filter,
    /// The socket, where whoever started the agent opened it.
    pub socket: Option<UnixListener>,
}

/// Runs the agent until SIGTERM or SIGINT. What is in the kernel stays there and goes on forwarding.
///
/// # Errors
/// The agent could not start; what was in the kernel is as it was.
pub async fn run(startup: Startup) -> Result<(), AgentError> {
    let Startup { config, flags, log, socket } = startup;
    let stop = CancellationToken::new();
    let hangup = stop_on_signals(&stop)?;
    let access =
        Access { owner: nix::unistd::geteuid().as_raw(), write_group: config.write_group, read: config.read };
    tokio::spawn(logs::report());
    let limits = Limits { max_body: config.max_body, ..Limits::default() };
    // First of all: a second agent with the same run directory must not get as far as the kernel, whatever its socket.
    let _run_dir = RunDir::take(&config.run_dir, &config.socket)?;
    let socket = match socket {
        Some(passed) => Socket::passed(passed, &config.socket, &access)?,
        None => Socket::bind(&config.socket, &access)?,
    };
    let notify = Arc::new(Notify::from_environment());
    let mut agent = Agent::start(config).await?;
    agent.reloader = Arc::new(Reloader::new(flags, log, notify.clone(), stop.clone()));
    let events = agent.context.events.clone();
    events.publish(EventKind::AgentStarted, EventObject::default(), "the agent serves");
    tracing::info!(socket = %socket.path().display(), "ready");
    notify.ready();
    let serving = serve(socket, Arc::new(agent.clone()), access, limits, stop.clone());
    agent.reloader.serve_metrics(&agent, agent.context.config.metrics).await;
    tokio::spawn(stop.clone().run_until_cancelled_owned(reload::at_hangups(hangup, agent.clone())));
    if let Some(address) = agent.context.config.ui {
        tokio::spawn(page::serve(address, agent.context.config.clone(), stop.clone()));
    }
    // Whoever enters or leaves a cluster for long hangs as little as one who waits for it.
    let alive = async || drop(agent.session.read().await);
    tokio::join!(serving, notify.watch(stop, alive));
    notify.stopping();
    agent.stop().await;
    tracing::info!("stopped; the networks go on");
    Ok(())
}

/// Cancels `stop` at SIGTERM and SIGINT. Gives the hangups, which end nothing either from now on.
fn stop_on_signals(stop: &CancellationToken) -> Result<Signal, AgentError> {
    let of = |kind| signal(kind).map_err(AgentError::Signals);
    let (mut terminate, mut interrupt) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
    // Others send these to daemons out of habit, and would end it.
    let (mut one, mut two) = (of(SignalKind::user_defined1())?, of(SignalKind::user_defined2())?);
    let hangup = of(SignalKind::hangup())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = one.recv() => "SIGUSR1",
                _ = two.recv() => "SIGUSR2",
            };
            tracing::info!("{name} means nothing here: SIGHUP has a changed configuration read");
        }
        stop.cancel();
    });
    Ok(hangup)
}

/// The agent, as the socket sees it. Clones share it.
#[derive(Clone)]
struct Agent {
    context: Context,
    session: Arc<RwLock<Option<Arc<Session>>>>,
    /// Held while the node enters or leaves a cluster.
    changing: Arc<Mutex<()>>,
    /// Something of a cluster that this node belongs to no more is left, and is to be cleared away.
    left_over: Arc<AtomicBool>,
    /// Why it belongs to no cluster any more.
    out: Arc<StdMutex<Option<Out>>>,
    doctor: Fresh<(Vec<Capability>, Vec<String>, Option<String>)>,
    /// The page of metrics.
    metrics: Fresh<String>,
    watchers: Watchers,
    reloader: Arc<Reloader>,
    /// What keeps the events, where they can be kept.
    journal: Option<Journal>,
    started: Instant,
}

impl Agent {
    /// Takes up what was there before, if anything, and clears what is left of a cluster that was left.
    async fn start(config: Config) -> Result<Self, AgentError> {
        let state = State::open(&config.data_dir)?;
        adopt(&state).map_err(ApiError::from)?;
        let kernel = Linux::open(KernelConfig {
            run_dir: config.run_dir.clone(),
            without: config.without.clone(),
            queries_per_s: config.dns_rate,
        })?;
        let (events, journal) = past::open(&config.data_dir);
        let config = Arc::new(config);
        let configured = watch::Sender::new(config.clone());
        let context = Context { config, configured, state, kernel, events };
        let out = Out::load(&context.state)?;
        let aside = out.as_ref().is_some_and(Out::is_aside);
        if let Some(out) = out.as_ref().filter(|_| aside) {
            tracing::error!("{out}: {}", out.hint());
        }
        let session = if aside { None } else { Session::resume(&context).await? };
        if session.is_none() {
            session::clear_kernel(&context).await?;
        }
        let agent = Self {
            context,
            session: Arc::default(),
            changing: Arc::default(),
            // What it was is of no more use to anything but `reclaim`.
            left_over: Arc::new(AtomicBool::new(aside)),
            out: Arc::new(StdMutex::new(out)),
            doctor: Fresh::default(),
            metrics: Fresh::default(),
            journal,
            watchers: Watchers::default(),
            reloader: Arc::default(),
            started: Instant::now(),
        };
        if let Some(session) = session {
            agent.enter(session).await;
        }
        Ok(agent)
    }

    /// Makes `session` the node's cluster, until the node leaves it or is shut out of it.
    async fn enter(&self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        self.is_out(None);
        *self.session.write().await = Some(session.clone());
        tokio::spawn(self.clone().until_removed(session.cluster.me(), session.cluster.view()));
        session
    }

    /// Takes everything of this node's away when the cluster says that it was removed: from then on it is not among the
    /// nodes that are known.
    async fn until_removed(self, me: NodeId, mut views: watch::Receiver<Arc<ClusterView>>) {
        let name = views.borrow().myself().map(|me| me.name.clone());
        // An error means that the cluster has stopped for another reason.
        if views.wait_for(|view| view.myself().is_none()).await.is_err() {
            return;
        }
        let _changing = self.changing.lock().await;
        let Some(session) = self.session.write().await.take_if(|session| session.cluster.me() == me) else {
            return;
        };
        let out = match name {
            Some(name) => Some(Out::of(&session, name).await),
            None => None,
        };
        if let Some(out) = &out {
            tracing::warn!("{out}; its endpoints and networks are taken away");
            self.context.events.publish(EventKind::NodeRemoved, EventObject::default(), out.to_string());
        }
        self.left_over.store(true, Ordering::Release);
        session.abandon().await;
        let cleared = match &out {
            Some(out) if out.is_aside() => session::clear_kernel(&self.context).await,
            _ => self.clear_left_over().await,
        };
        if let Err(error) = cleared {
            tracing::error!(%error, "cannot clean up after the removal; `lanmesh leave` and the next start do");
        }
        // Behind the rest, which takes all away that is remembered.
        self.is_out(out);
    }

    /// Why this node belongs to no cluster any more, where it once did.
    fn out(&self) -> Option<Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers why this node belongs to no cluster any more, or forgets it.
    fn is_out(&self, out: Option<Out>) {
        let state = &self.context.state;
        let kept = match &out {
            Some(out) => out.save(state),
            None if self.out().is_some() => Out::forget(state),
            None => Ok(()),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "cannot remember why this node is out of its cluster");
        }
        *self.out.lock().unwrap_or_else(PoisonError::into_inner) = out;
    }

    /// Goes on as the node that stepped aside for another run of itself, and makes this machine its own.
    async fn take_up_again(&self) -> Result<Arc<Session>, ApiError> {
        let _changing = self.changing.lock().await;
        if let Some(session) = self.session.read().await.clone() {
            settle_here(&self.context.state, machine::id().as_deref())?;
            return Ok(session);
        }
        if !self.out().is_some_and(|out| out.is_aside()) {
            return Err(self
                .session()
                .await
                .err()
                .unwrap_or_else(|| ApiError::conflict("this node is a member")));
        }
        settle_here(&self.context.state, machine::id().as_deref())?;
        let session = Session::resume(&self.context).await?;
        let session = session.ok_or_else(|| ApiError::internal("nothing is left of what this node was"))?;
        self.left_over.store(false, Ordering::Release);
        Ok(self.enter(session).await)
    }

    /// Clears away what is left of a cluster that this node belongs to no more. Whoever calls holds `changing`.
    async fn clear_left_over(&self) -> Result<(), ApiError> {
        if self.left_over.load(Ordering::Acquire) {
            session::clear_away(&self.context).await?;
            self.left_over.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// The node's cluster, or an error that says that it has none.
    async fn session(&self) -> Result<Arc<Session>, ApiError> {
        self.session.read().await.clone().ok_or_else(|| match self.out() {
            Some(out) => {
                ApiError::unavailable(format!("this node belongs to no cluster: {out}")).hint(out.hint())
            }
            None => ApiError::unavailable("this node belongs to no cluster")
                .hint("run `lanmesh init` or `lanmesh join` first"),
        })
    }

    async fn stop(&self) {
        let _changing = self.changing.lock().await;
        if let Some(session) = self.session.write().await.take() {
            session.suspend().await;
        }
        if let Some(journal) = self.journal.clone() {
            let _ = tokio::task::spawn_blocking(move || journal.flush()).await;
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
