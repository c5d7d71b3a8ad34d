//! Streams: TLS connections between nodes, and what is exchanged over them.
//!
//! Owns: framing, deadlines, bounds, the exchange of anti-entropy on both sides, serving joins. Does not own: what
//! is exchanged (`core`), who may join (`join`), certificates (`pki`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::driver::{Link, Persister};
use super::facts::Delta;
use super::join::gate::{self, Gate};
use super::members::Joined;
use super::pki;
use super::slots::{Guest, Slots};
use super::trust::Trusted;
use super::wire::{
    self, JoinRequest, MAX_FRAME, MAX_JOIN_FRAME, PROTOCOL, Part, Reply, Request, STEP_TIMEOUT, Welcome,
};
use super::{ClusterError, Refusal};
use crate::model::{ClusterView, NetworkId, NodeId};

/// How many streams of others that have shown who they are, or have asked to be let in, are served at once; further
/// ones wait for one to end.
const MAX_INBOUND: usize = 64;
/// How many streams this node has open at once.
const MAX_OUTBOUND: usize = 32;
/// How long somebody who has connected may take to show who it is, and to say what it wants. A handshake takes some
/// milliseconds; this lets one in whose first packets were lost (RFC 6298: they are repeated after 1 s, then 2 s).
const GREETING_TIMEOUT: Duration = Duration::from_secs(4);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a whole exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What only the streams see.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub served: AtomicU64,
    pub refused: AtomicU64,
    pub bytes: AtomicU64,
    pub joins_refused: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Everything that streams need.
pub(super) struct Streams {
    pub me: NodeId,
    pub link: Link,
    pub tls: Trusted,
    pub persister: Persister,
    /// What makes this node the manager, if it is.
    pub gate: Mutex<Option<Gate>>,
    pub counters: Counters,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub outbound: Semaphore,
    pub inbound: Semaphore,
    /// Those who have not yet shown who they are.
    pub slots: Arc<Slots>,
    /// What this node knows: whose addresses are those of nodes.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// Whether this node has heard from others since it started.
    pub settled: watch::Receiver<bool>,
    /// Which of this node's endpoints are members of multicast groups.
    pub joined: Joined,
    /// The time, in milliseconds since 1970.
    pub clock: fn() -> u64,
}

/// The room for streams: of others, and of this node.
pub(super) fn limits() -> (Semaphore, Semaphore) {
    (Semaphore::new(MAX_INBOUND), Semaphore::new(MAX_OUTBOUND))
}

/// Runs an operation, for so long at most.
pub(super) async fn within<T>(
    limit: Duration,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, operation).await?
}

/// Sends one message.
pub(super) async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<usize> {
    let frame = wire::encode_frame(message)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the message is too large"))?;
    within(STEP_TIMEOUT, async {
        stream.write_all(&frame).await?;
        stream.flush().await
    })
    .await?;
    Ok(frame.len())
}

/// Receives one message; the inner error is the version of a peer that speaks another one.
pub(super) async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<Result<T, u16>> {
    let bad = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let frame = within(STEP_TIMEOUT, async {
        let len = stream.read_u32().await? as usize;
        if len > limit {
            return Err(bad("the message is too large"));
        }
        // Grows with what arrives, not with what is announced.
        let mut frame = Vec::new();
        if stream.take(len as u64).read_to_end(&mut frame).await? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(frame)
    })
    .await?;
    match wire::decode_frame(&frame) {
        Ok(Some(message)) => Ok(Ok(message)),
        Ok(None) => Err(bad("the message makes no sense")),
        Err(version) => Ok(Err(version)),
    }
}

impl Streams {
    /// Serves the streams that others open, until it is stopped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: others have to end first.
                    warn!(%error, "cannot accept a stream");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(guest) = self.slots.enter(from.ip(), self.is_node(from.ip())) else {
                count(&self.counters.refused, 1);
                debug!(%from, "too many streams from there say nothing");
                continue;
            };
            let this = Arc::clone(&self);
            self.tasks.spawn(async move {
                let served = within(EXCHANGE_TIMEOUT, this.serve_one(stream, from, guest));
                let served = tokio::select! {
                    () = this.stop.cancelled() => return,
                    served = served => served,
                };
                if let Err(error) = served {
                    count(&this.counters.refused, 1);
                    debug!(%from, %error, "a stream ended early");
                }
            });
        }
    }

    /// Whether a node listens at this address, as far as this one knows.
    fn is_node(&self, ip: IpAddr) -> bool {
        self.view.borrow().nodes.values().any(|node| node.address.ip() == ip.to_canonical())
    }

    /// The handshake and the first message, for which a guest has its time, and until it has to make room.
    async fn greet(
        &self,
        stream: TcpStream,
        from: SocketAddr,
    ) -> io::Result<(TlsStream<TcpStream>, Option<NodeId>, Result<Request, u16>)> {
        stream.set_nodelay(true)?;
        let acceptor = TlsAcceptor::from(self.tls.now().server);
        let mut stream = match acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                if refused_our_certificate(&error) {
                    warn!(
                        %from,
                        "a node that wants to join refuses this cluster's certificate: its token is of another \
                         cluster; give it the one that `lanmesh token show` prints"
                    );
                }
                return Err(error);
            }
        };
        let peer = stream.get_ref().1.peer_certificates().and_then(|chain| pki::node_of(chain.first()?));
        let limit = if peer.is_some() { MAX_FRAME } else { MAX_JOIN_FRAME };
        let request = receive::<Request>(&mut stream, limit).await?;
        Ok((stream, peer, request))
    }

    async fn serve_one(&self, stream: TcpStream, from: SocketAddr, guest: Guest) -> io::Result<()> {
        let greeted = tokio::select! {
            () = guest.evicted.cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
            greeted = within(GREETING_TIMEOUT, self.greet(stream, from)) => greeted,
        };
        let (mut stream, peer, request) = greeted?;
        let _permit = self.inbound.acquire().await.map_err(io::Error::other)?;
        drop(guest);
        let request = match request {
            Ok(request) => request,
            Err(theirs) => {
                let refusal = Refusal::Version { theirs, ours: PROTOCOL };
                return self.refuse(&mut stream, from, refusal).await;
            }
        };
        match (request, peer) {
            (Request::Join(request), _) => {
                let name = request.name.clone();
                match self.let_in(request).await {
                    Ok(welcome) => {
                        info!(%from, %name, index = %welcome.index, "let a node in");
                        send(&mut stream, &Reply::Welcome(Box::new(welcome))).await?;
                    }
                    Err(refusal) => {
                        count(&self.counters.joins_refused, 1);
                        self.refuse(&mut stream, from, refusal).await?;
                    }
                }
            }
            (_, None) => {
                let refusal = Refusal::Failed("it showed no certificate".to_owned());
                self.refuse(&mut stream, from, refusal).await?;
            }
            (request, Some(peer)) => {
                let removed = self.ask(move |core, _| core.ledger().is_removed(peer)).await?;
                if removed {
                    return self.refuse(&mut stream, from, Refusal::Removed).await;
                }
                match request {
                    Request::Sync(summary) => self.serve_sync(&mut stream, peer, summary).await?,
                    Request::Fetch(network) => {
                        let deltas =
                            self.ask_for(peer, move |core, _| core.network_documents(network)).await?;
                        let part = Part { deltas: deltas.unwrap_or_default(), ..Part::default() };
                        self.send_parts(&mut stream, part).await?;
                    }
                    Request::Members(network) => {
                        let members = self.joined.of(network).as_ref().clone();
                        count(
                            &self.counters.bytes,
                            send(&mut stream, &Reply::Members(members)).await? as u64,
                        );
                    }
                    Request::Join(_) => {}
                }
                count(&self.counters.served, 1);
            }
        }
        within(STEP_TIMEOUT, stream.shutdown()).await
    }

    async fn refuse(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        from: SocketAddr,
        refusal: Refusal,
    ) -> io::Result<()> {
        warn!(%from, "refused a node: {refusal}");
        send(stream, &Reply::Refused(refusal)).await?;
        within(STEP_TIMEOUT, stream.shutdown()).await
    }

    async fn serve_sync(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        peer: NodeId,
        summary: wire::Summary,
    ) -> io::Result<()> {
        let compare = self.ask_for(peer, move |core, _| core.compare(&summary)).await?;
        count(&self.counters.bytes, send(stream, &Reply::Compare(compare)).await? as u64);
        let mut give = Part::default();
        loop {
            let part = self.expect_part(stream).await?;
            let more = part.more;
            let answer = self.ask_for(peer, move |core, now| core.finish(part, now)).await?;
            give.deltas.extend(answer.deltas);
            if !more {
                break;
            }
        }
        self.send_parts(stream, give).await
    }

    /// Compares with another node, and says how it went.
    pub async fn sync(self: Arc<Self>, peer: NodeId, address: SocketAddr) {
        let exchange = within(EXCHANGE_TIMEOUT, self.exchange(peer, address));
        let result = tokio::select! {
            () = self.stop.cancelled() => return,
            result = exchange => result,
        };
        if let Err(error) = &result {
            debug!(%peer, %address, %error, "could not compare with a node");
        }
        let worked = result.is_ok();
        let _ = self.link.with(move |core, now| core.sync_done(peer, worked, now)).await;
    }

    async fn exchange(&self, peer: NodeId, address: SocketAddr) -> io::Result<()> {
        let _permit = self.outbound.acquire().await.map_err(io::Error::other)?;
        let mut stream = self.connect(peer, address).await?;
        let summary = self.ask(|core, _| core.summary()).await?;
        count(&self.counters.bytes, send(&mut stream, &Request::Sync(summary)).await? as u64);
        let compare = match receive::<Reply>(&mut stream, MAX_FRAME).await? {
            Ok(Reply::Compare(compare)) => compare,
            Ok(Reply::Refused(refusal)) => {
                if refusal == Refusal::Removed {
                    let me = self.me;
                    self.ask(move |core, now| core.was_removed(me, now)).await?;
                }
                warn!(%peer, %address, "a node refuses this one: {refusal}");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal.to_string()));
            }
            other => return Err(unexpected(&other)),
        };
        let part = self.ask_for(peer, move |core, now| core.answer(compare, now)).await?;
        self.send_parts(&mut stream, part).await?;
        loop {
            let part = self.expect_part(&mut stream).await?;
            let more = part.more;
            self.ask(move |core, now| core.absorb(part, now)).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Asks a node for its documents of a network.
    pub async fn fetch(
        &self,
        peer: NodeId,
        address: SocketAddr,
        network: NetworkId,
    ) -> io::Result<Vec<Delta>> {
        let mut stream = self.connect(peer, address).await?;
        send(&mut stream, &Request::Fetch(network)).await?;
        let mut deltas = Vec::new();
        loop {
            let part = self.expect_part(&mut stream).await?;
            deltas.extend(part.deltas);
            if !part.more {
                return Ok(deltas);
            }
        }
    }

    pub(super) async fn connect(
        &self,
        peer: NodeId,
        address: SocketAddr,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = pki::server_name(peer).ok_or(io::ErrorKind::InvalidInput)?;
        let connector = TlsConnector::from(self.tls.now().client);
        let stream = within(CONNECT_TIMEOUT, TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        within(STEP_TIMEOUT, connector.connect(name, stream)).await
    }

    async fn send_parts(&self, stream: &mut (impl AsyncWrite + Unpin), part: Part) -> io::Result<()> {
        for part in part.split() {
            count(&self.counters.bytes, send(stream, &Reply::Part(part)).await? as u64);
        }
        Ok(())
    }

    async fn expect_part(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Part> {
        match receive::<Reply>(stream, MAX_FRAME).await? {
            Ok(Reply::Part(part)) => Ok(part),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut super::core::Core, Duration) -> R + Send + 'static,
    ) -> io::Result<R> {
        self.link.with(f).await.map_err(io::Error::other)
    }

    /// The same on behalf of a peer: it gets nothing if, by now, it is known to be removed.
    async fn ask_for<R: Send + 'static>(
        &self,
        peer: NodeId,
        f: impl FnOnce(&mut super::core::Core, Duration) -> R + Send + 'static,
    ) -> io::Result<R> {
        let result = self.ask(move |core, now| {
            if core.ledger().is_removed(peer) {
                return None;
            }
            let result = f(core, now);
            // Afterwards: what the peer brought may be what says so.
            (!core.ledger().is_removed(peer)).then_some(result)
        });
        result.await?.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "the node was removed"))
    }

    /// Decides about a node that wants in.
    async fn let_in(&self, request: JoinRequest) -> Result<Welcome, Refusal> {
        let failed = |error: ClusterError| Refusal::Failed(error.to_string());
        // A manager that comes back may have been replaced meanwhile, and the others know.
        let mut settled = self.settled.clone();
        let heard = within(STEP_TIMEOUT, async {
            settled.wait_for(|settled| *settled).await.map_err(io::Error::other).map(drop)
        });
        heard.await.map_err(|_| Refusal::Failed("it has just started: try again".to_owned()))?;
        let asked = self.link.with(|core, _| (core.is_manager(), core.manager_name()));
        let (manages, manager) = asked.await.map_err(failed)?;
        let not_manager = Refusal::NotManager { manager };
        let certificate = {
            let gate = self.gate.lock().map_err(|_| failed(ClusterError::Stopped))?;
            let Some(gate) = gate.as_ref().filter(|_| manages) else { return Err(not_manager) };
            gate.check(&request, (self.clock)())?;
            gate.authority().sign(request.node, &request.csr).map_err(failed)?
        };
        // Deciding and admitting is one step of the core, so that two nodes never get one index.
        let decided = self.link.with(move |core, now| {
            if !core.is_manager() {
                return Err(not_manager);
            }
            let admission = gate::place(&request, core.ledger())?;
            core.admit(admission.clone(), now);
            Ok((admission.index, core.keys(), core.ledger().claims().collect(), core.node_documents()))
        });
        let (index, keys, claims, nodes) = decided.await.map_err(failed)??;
        self.persister.barrier().await.map_err(failed)?;
        Ok(Welcome { index, certificate, keys, claims, nodes })
    }
}

pub(super) fn unexpected(got: &Result<Reply, u16>) -> io::Error {
    let why = match got {
        Err(version) => {
            format!("it speaks version {version} of the protocol, and this node version {PROTOCOL}")
        }
        Ok(Reply::Refused(refusal)) => refusal.to_string(),
        Ok(_) => "it answered something else than was asked".to_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn refused_our_certificate(error: &io::Error) -> bool {
    use rustls::AlertDescription::{BadCertificate, CertificateUnknown, UnknownCA};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(UnknownCA | BadCertificate | CertificateUnknown)))
}
