//! Streams: TLS connections between nodes, and what is exchanged over them.
//!
//! Owns: framing, deadlines, bounds, the exchange of anti-entropy on both sides, serving joins. Does not own: what
//! is exchanged (`core`), who may join (`join`), certificates (`pki`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::conversation::{Conversation, NoConversation, within};
use super::core::{Core, Persist};
use super::desk::{CaptureRequest, Desk, DropsRequest, LoanRequest, TraceRequest};
use super::driver::Link;
use super::facts::Delta;
use super::join::gate::{self, Gate};
use super::joined::Joined;
use super::ledger::Admission;
use super::looks::Looks;
use super::persister::Persister;
use super::pki::{self, Shown};
use super::refusal::QUESTION;
use super::slots::{Guest, Slots};
use super::told::Teller;
use super::trust::Trusted;
use super::version::Protocols;
use super::ways::WaysTeller;
use super::wire::{
    self, JoinRequest, MAX_FRAME, MAX_JOIN_FRAME, Part, Question, Reply, Request, STEP_TIMEOUT, Welcome,
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
    /// Which versions of the protocol this node speaks.
    pub protocols: Protocols,
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
    /// What others want of this node's addresses.
    pub loans: Desk<LoanRequest>,
    /// What others want this node to look at.
    pub traces: Desk<TraceRequest>,
    /// What others want to listen to here.
    pub captures: Desk<CaptureRequest>,
    /// Who wants to know what this node dropped.
    pub drops: Desk<DropsRequest>,
    /// What is asked for elsewhere of this node's endpoints, and here of others'.
    pub looks: Looks,
    /// What tells others what happened here.
    pub teller: Teller,
    /// What tells others how the ways from here are.
    pub ways: WaysTeller,
    /// Who changes something for the whole cluster: one after another.
    pub changing: tokio::sync::Mutex<()>,
    /// A node left: as the manager, this node makes a key that it does not have.
    pub left: Arc<Notify>,
    /// The time, in milliseconds since 1970.
    pub clock: fn() -> u64,
}

/// A stream that somebody else opened.
type Served = Conversation<server::TlsStream<TcpStream>>;
/// A stream that this node opened.
pub(super) type Opened = Conversation<client::TlsStream<TcpStream>>;

/// The room for streams: of others, and of this node.
pub(super) fn limits() -> (Semaphore, Semaphore) {
    (Semaphore::new(MAX_INBOUND), Semaphore::new(MAX_OUTBOUND))
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
    ) -> io::Result<(Served, Option<Shown>, Request)> {
        stream.set_nodelay(true)?;
        let acceptor = TlsAcceptor::from(self.tls.now().server);
        let stream = match acceptor.accept(stream).await {
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
        let tls = stream.get_ref().1;
        let peer = tls.peer_certificates().and_then(|chain| Shown::of(chain.first()?));
        let alpn = tls.alpn_protocol().map(<[u8]>::to_vec);
        let begun = Conversation::begin(stream, self.protocols, alpn.as_deref()).await;
        if let Err(NoConversation::Apart(apart)) = &begun {
            warn!(%from, "refused a node: {apart}");
        }
        let mut talk = begun?;
        let limit = if peer.is_some() { MAX_FRAME } else { MAX_JOIN_FRAME };
        let request = talk.hear(limit).await?;
        Ok((talk, peer, request))
    }

    async fn serve_one(
        self: &Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        guest: Guest,
    ) -> io::Result<()> {
        let greeted = tokio::select! {
            () = guest.evicted.cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
            greeted = within(GREETING_TIMEOUT, self.greet(stream, from)) => greeted,
        };
        let (mut talk, peer, request) = greeted?;
        let _permit = self.inbound.acquire().await.map_err(io::Error::other)?;
        drop(guest);
        match (request, peer) {
            (Request::Join(request), _) => {
                let name = request.name.clone();
                match self.let_in(request).await {
                    Ok(welcome) => {
                        info!(%from, name, index = welcome.index, "let a node in");
                        talk.say(&Reply::Welcome(Box::new(welcome))).await?;
                    }
                    Err(refusal) => {
                        count(&self.counters.joins_refused, 1);
                        self.refuse(&mut talk, from, refusal).await?;
                    }
                }
            }
            (_, None) => {
                let refusal = Refusal::Failed("it showed no certificate".to_owned());
                self.refuse(&mut talk, from, refusal).await?;
            }
            (request, Some(shown)) => {
                let peer = shown.node;
                if let Err(refusal) = self.ask(move |core, _| core.receives(&shown)).await? {
                    return self.refuse(&mut talk, from, refusal).await;
                }
                match request {
                    Request::Sync(summary) => self.serve_sync(&mut talk, peer, summary).await?,
                    Request::Fetch(network) => {
                        let deltas =
                            self.ask_for(peer, move |core, _| core.network_documents(network)).await?;
                        let part = Part { deltas: deltas.unwrap_or_default(), ..Part::default() };
                        self.say_parts(&mut talk, part).await?;
                    }
                    Request::Ask(question) => match self.answer(peer, &question).await {
                        Some(answer) => {
                            count(&self.counters.bytes, talk.say(&Reply::Answer(answer)).await? as u64);
                        }
                        None => self.refuse(&mut talk, from, Refusal::Question(question.number)).await?,
                    },
                    Request::Join(_) => {}
                }
                count(&self.counters.served, 1);
            }
        }
        talk.end().await
    }

    async fn answer(self: &Arc<Self>, peer: NodeId, question: &Question) -> Option<Bytes> {
        let known = self.joined.answer(question).or_else(|| self.looks.answer(question));
        let known = known.or_else(|| self.teller.answer(question));
        let known = known.or_else(|| self.ways.answer(question));
        if known.is_some() {
            return known;
        }
        // Each is asked once, and answers to its own number.
        let of_loans = self.answer_of_loans(peer, question).await;
        if of_loans.is_some() {
            return of_loans;
        }
        let of_traces = self.answer_of_traces(question).await;
        if of_traces.is_some() {
            return of_traces;
        }
        let of_captures = self.answer_of_captures(peer, question).await;
        if of_captures.is_some() {
            return of_captures;
        }
        self.answer_of_drops(question).await
    }

    async fn refuse(&self, talk: &mut Served, from: SocketAddr, refusal: Refusal) -> io::Result<()> {
        warn!(%from, "refused a node: {refusal}");
        talk.say(&Reply::Refused(refusal.to_wire())).await?;
        talk.end().await
    }

    async fn serve_sync(&self, talk: &mut Served, peer: NodeId, summary: wire::Summary) -> io::Result<()> {
        let compare = self.ask_for(peer, move |core, _| core.compare(&summary)).await?;
        count(&self.counters.bytes, talk.say(&Reply::Compare(compare)).await? as u64);
        let mut give = Part::default();
        loop {
            let part = expect_part(talk).await?;
            let more = part.more;
            let answer = self.ask_for(peer, move |core, now| core.finish(part, now)).await?;
            give.deltas.extend(answer.deltas);
            give.records.extend(answer.records);
            if !more {
                break;
            }
        }
        self.say_parts(talk, give).await
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
        let mut talk = self.connect(peer, address).await?;
        let summary = self.ask(|core, _| core.summary()).await?;
        count(&self.counters.bytes, talk.say(&Request::Sync(summary)).await? as u64);
        let compare = match talk.hear::<Reply>(MAX_FRAME).await? {
            Reply::Compare(compare) => compare,
            Reply::Refused(refused) => {
                let refusal = Refusal::from(refused);
                if matches!(refusal, Refusal::Removed | Refusal::Left) {
                    let told = refusal.clone();
                    self.ask(move |core, now| core.is_told_to_be_out(told, now)).await?;
                }
                warn!(%peer, %address, "a node refuses this one: {refusal}");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal.to_string()));
            }
            other => return Err(unexpected(&other)),
        };
        let part = self.ask_for(peer, move |core, now| core.answer(compare, now)).await?;
        self.say_parts(&mut talk, part).await?;
        loop {
            let part = expect_part(&mut talk).await?;
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
        let mut talk = self.connect(peer, address).await?;
        talk.say(&Request::Fetch(network)).await?;
        let mut deltas = Vec::new();
        loop {
            let part = expect_part(&mut talk).await?;
            deltas.extend(part.deltas);
            if !part.more {
                return Ok(deltas);
            }
        }
    }

    /// What a node answers to a question. Waits for as long as it takes: the caller has a deadline.
    ///
    /// # Errors
    /// It cannot be reached, or refuses the question.
    pub(super) async fn question(
        &self,
        peer: NodeId,
        address: SocketAddr,
        question: Question,
    ) -> io::Result<Bytes> {
        let _permit = self.outbound.acquire().await.map_err(io::Error::other)?;
        let mut talk = self.connect(peer, address).await?;
        talk.say(&Request::Ask(question)).await?;
        match talk.hear::<Reply>(MAX_FRAME).await? {
            Reply::Answer(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Begins a conversation with a node.
    ///
    /// # Errors
    /// It cannot be reached, is not the node that is meant, or shares no version with this one.
    pub(super) async fn connect(&self, peer: NodeId, address: SocketAddr) -> io::Result<Opened> {
        let name = pki::server_name(peer).ok_or(io::ErrorKind::InvalidInput)?;
        let connector = TlsConnector::from(self.tls.now().client);
        let stream = within(CONNECT_TIMEOUT, TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        let stream = within(STEP_TIMEOUT, connector.connect(name, stream)).await?;
        let tls = stream.get_ref().1;
        let shown = tls.peer_certificates().and_then(|chain| Shown::of(chain.first()?));
        let shown = shown.ok_or_else(|| io::Error::other("its certificate names no node"))?;
        let alpn = tls.alpn_protocol().map(<[u8]>::to_vec);
        self.ask(move |core, _| core.receives(&shown)).await?.map_err(|refusal| {
            io::Error::new(io::ErrorKind::PermissionDenied, format!("it is not to be talked with: {refusal}"))
        })?;
        let begun = Conversation::begin(stream, self.protocols, alpn.as_deref()).await;
        if let Err(NoConversation::Apart(apart)) = &begun {
            warn!(%peer, %address, "{apart}");
        }
        Ok(begun?)
    }

    async fn say_parts<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        talk: &mut Conversation<S>,
        part: Part,
    ) -> io::Result<()> {
        for part in part.split() {
            count(&self.counters.bytes, talk.say(&Reply::Part(part)).await? as u64);
        }
        Ok(())
    }

    async fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Core, Duration) -> R + Send + 'static,
    ) -> io::Result<R> {
        self.link.with(f).await.map_err(io::Error::other)
    }

    /// The same on behalf of a peer: it gets nothing if, by now, it is known to be removed.
    async fn ask_for<R: Send + 'static>(
        &self,
        peer: NodeId,
        f: impl FnOnce(&mut Core, Duration) -> R + Send + 'static,
    ) -> io::Result<R> {
        let result = self.ask(move |core, now| {
            if core.is_out(peer).is_some() {
                return None;
            }
            let result = f(core, now);
            // Afterwards: what the peer brought may be what says so.
            core.is_out(peer).is_none().then_some(result)
        });
        let gone = || io::Error::new(io::ErrorKind::PermissionDenied, "the node was removed, or left");
        result.await?.ok_or_else(gone)
    }

    /// Decides about a node that wants in.
    async fn let_in(self: &Arc<Self>, request: JoinRequest) -> Result<Welcome, Refusal> {
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
        let candidate = {
            let gate = self.gate.lock().map_err(|_| failed(ClusterError::Stopped))?;
            let Some(gate) = gate.as_ref().filter(|_| manages) else { return Err(not_manager) };
            gate.check(&request, (self.clock)())?
        };
        // The place first, then the certificate, which names it: nobody is certified who is not let in.
        let place = self.link.with({
            let (candidate, not_manager) = (candidate.clone(), not_manager.clone());
            move |core, _| {
                if core.is_manager() {
                    gate::place(&candidate, core.ledger(), &core.indexes())
                } else {
                    Err(not_manager)
                }
            }
        });
        let admission = place.await.map_err(failed)??;
        let certificate = {
            let gate = self.gate.lock().map_err(|_| failed(ClusterError::Stopped))?;
            let Some(gate) = gate.as_ref() else { return Err(not_manager) };
            gate.authority().sign(admission.node, &request.csr).map_err(failed)?
        };
        // Deciding and admitting is one step, so that two nodes never get one index.
        let decide = {
            let not_manager = not_manager.clone();
            move |core: &Core, _: Duration| {
                if !core.is_manager() {
                    return Err(not_manager);
                }
                let admission = gate::place_as(&candidate, core.ledger(), &core.indexes(), admission.node)?;
                let said = core.admission(admission.clone()).into_iter().map(Persist::Claim);
                Ok((said.collect(), admission))
            }
        };
        let admit = move |core: &mut Core, admission: Admission, now| {
            if !core.is_manager() {
                return Err(not_manager);
            }
            core.admit(admission.clone(), now);
            Ok(Welcome {
                node: *admission.node.as_bytes(),
                index: admission.index.0,
                certificate,
                keys: core.keys(),
                claims: core.claims(),
                records: core.records(),
                nodes: core.node_documents(),
            })
        };
        self.durably(decide, admit).await?
    }
}

impl From<ClusterError> for Refusal {
    fn from(error: ClusterError) -> Self {
        Self::Failed(error.to_string())
    }
}

async fn expect_part<S: AsyncRead + AsyncWrite + Unpin>(talk: &mut Conversation<S>) -> io::Result<Part> {
    match talk.hear::<Reply>(MAX_FRAME).await? {
        Reply::Part(part) => Ok(part),
        other => Err(unexpected(&other)),
    }
}

/// That an answer to a question is none.
pub(super) fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no answer at all")
}

fn unexpected(got: &Reply) -> io::Error {
    let why = match got {
        Reply::Refused(refused) if refused.code == QUESTION => {
            return io::Error::new(io::ErrorKind::Unsupported, refused.text.clone());
        }
        Reply::Refused(refused) => refused.text.clone(),
        _ => "it answered something else than was asked".to_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn refused_our_certificate(error: &io::Error) -> bool {
    use rustls::AlertDescription::{BadCertificate, CertificateUnknown, UnknownCA};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(UnknownCA | BadCertificate | CertificateUnknown)))
}
