//! The thread that runs the core: its UDP socket, its timers, and the way in for everybody else.
//!
//! Owns: the thread, the socket, the clock. Does not own: writing to the state (`persister`), and streams, which run on the
//! agent's runtime, so that neither TLS nor a busy agent keeps a probe from being answered.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::core::{Core, Output};
use super::persister::Persister;
use super::{ClusterError, ClusterEvent, ProbeKey, Stats};
use crate::mesh::MeshSecret;
use crate::model::{ClusterView, NodeId};

/// How many datagrams and calls are taken before the timers are looked at again.
const BATCH: usize = 256;
/// Room for a burst of datagrams while the thread does something else.
const RECEIVE_BUFFER: usize = 4 << 20;

type Reply = Box<dyn FnOnce() + Send>;
type Call = Box<dyn FnOnce(&mut Core, Duration) -> Reply + Send>;

/// The way into the core from any thread.
#[derive(Clone)]
pub(super) struct Link(mpsc::Sender<Call>);

/// The other end of a [`Link`].
pub(super) struct Calls(mpsc::Receiver<Call>);

impl Link {
    /// A way in and its end.
    pub fn new() -> (Self, Calls) {
        let (sender, receiver) = mpsc::channel(1024);
        (Self(sender), Calls(receiver))
    }

    /// Runs `f` on the core, and returns when what it did can be seen and is on its way.
    pub async fn with<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Core, Duration) -> R + Send + 'static,
    ) -> Result<R, ClusterError> {
        let (sender, receiver) = oneshot::channel();
        let call: Call = Box::new(move |core, now| {
            let result = f(core, now);
            Box::new(move || drop(sender.send(result)))
        });
        self.0.send(call).await.map_err(|_| ClusterError::Stopped)?;
        receiver.await.map_err(|_| ClusterError::Stopped)
    }
}

/// Takes certificates, in DER.
type TakeCertificates = Box<dyn Fn(&[Vec<u8>]) + Send>;

/// What the thread gives out.
pub(super) struct Outlets {
    /// What this node knows.
    pub view: watch::Sender<Arc<ClusterView>>,
    /// What happens.
    pub events: broadcast::Sender<ClusterEvent>,
    /// What is counted.
    pub stats: Arc<Mutex<Stats>>,
    /// Whether the core has settled since its start.
    pub settled: watch::Sender<bool>,
    /// The newest secret of the mesh.
    pub mesh: watch::Sender<Option<MeshSecret>>,
    /// The keys of probes, the newest first.
    pub probes: watch::Sender<Vec<ProbeKey>>,
    /// What is to be remembered.
    pub persister: Persister,
    /// Begins a stream.
    pub sync: Box<dyn Fn(NodeId, SocketAddr) + Send>,
    /// Takes the cluster's CAs.
    pub trust: TakeCertificates,
    /// Is told that a node left.
    pub left: Box<dyn Fn() + Send>,
}

/// The gossip socket.
pub(super) fn bind_udp(address: SocketAddr) -> Result<UdpSocket, ClusterError> {
    let bind = || -> io::Result<UdpSocket> {
        let kind = socket2::Type::DGRAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
        // Beyond net.core.rmem_max, which holds some 200 datagrams, with the privilege to. A smaller one is no reason not to run.
        if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| ClusterError::Bind { address, protocol: "UDP", source })
}

/// Runs the core, which was started at time 0, on a thread of its own until `stop` is cancelled.
pub(super) fn spawn(
    core: Core,
    socket: UdpSocket,
    calls: Calls,
    outlets: Outlets,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, ClusterError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClusterError::Thread)?;
    std::thread::Builder::new()
        .name("lanmesh-gossip".to_owned())
        .spawn(move || {
            // Of this thread alone. Without CAP_SYS_NICE it keeps the agent's priority.
            let _ = rustix::process::nice(GOSSIP_NICE);
            runtime.block_on(async move {
                let Ok(socket) = tokio::net::UdpSocket::from_std(socket) else { return };
                let key = core.key_fingerprint();
                Driver { start: Instant::now(), socket, outlets, key }.run(core, calls, stop).await;
            });
        })
        .map_err(ClusterError::Thread)
}

/// A probe is answered before anything else that this node does: who is busy is not dead.
const GOSSIP_NICE: i32 = -10;

struct Driver {
    start: Instant,
    socket: tokio::net::UdpSocket,
    outlets: Outlets,
    /// The gossip key of which the agent was told.
    key: u64,
}

impl Driver {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn run(mut self, mut core: Core, mut calls: Calls, stop: CancellationToken) {
        let mut replies: Vec<Reply> = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            self.flush(&mut core);
            for reply in replies.drain(..) {
                reply();
            }
            let deadline = tokio::time::Instant::from_std(self.start + core.deadline());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ready = self.socket.readable() => {
                    if let Err(error) = ready {
                        warn!(%error, "the gossip socket failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                Some(call) = calls.0.recv() => replies.push(call(&mut core, self.now())),
                () = tokio::time::sleep_until(deadline) => {}
            }
            // Whatever woke it: what has arrived counts before what is due, so that answers that waited for a
            // busy machine are not taken for silence.
            for _ in 0..BATCH {
                match self.socket.try_recv_from(&mut buffer) {
                    Ok((len, from)) => core.receive(from, &buffer[..len], self.now()),
                    // An ICMP error of an earlier datagram is reported here too; it says nothing new.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
            for _ in 0..BATCH {
                let Ok(call) = calls.0.try_recv() else { break };
                replies.push(call(&mut core, self.now()));
            }
            let now = self.now();
            if now >= core.deadline() {
                core.tick(now);
            }
        }
        self.flush(&mut core);
        for reply in replies.drain(..) {
            reply();
        }
    }

    fn flush(&mut self, core: &mut Core) {
        let mut persist = Vec::new();
        for output in core.take_outputs() {
            match output {
                // A datagram that finds no room is lost, as any may be.
                Output::Datagram(to, datagram) => drop(self.socket.try_send_to(&datagram, to)),
                Output::Sync(peer, address) => (self.outlets.sync)(peer, address),
                Output::Trust(authorities) => (self.outlets.trust)(&authorities),
                Output::Left => (self.outlets.left)(),
                Output::Persist(change) => persist.push(change),
                Output::Event(event) => drop(self.outlets.events.send(event)),
            }
        }
        self.outlets.persister.write(persist);
        if let Some(view) = core.take_view() {
            self.outlets.view.send_replace(Arc::new(view));
        }
        if core.is_settled() && !*self.outlets.settled.borrow() {
            self.outlets.settled.send_replace(true);
        }
        let key = core.key_fingerprint();
        if std::mem::replace(&mut self.key, key) != key {
            self.outlets.mesh.send_replace(core.mesh_secret());
            self.outlets.probes.send_replace(core.probe_keys());
        }
        if let Ok(mut stats) = self.outlets.stats.lock() {
            *stats = core.stats;
        }
    }
}
