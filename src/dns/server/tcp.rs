//! Queries over TCP (RFC 7766): several on one connection, each answered as soon as its answer is there.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_server::net::xfer::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::respond;
use crate::dns::config::Limits;
use crate::dns::handler::{Admission, Handler};
use crate::dns::shares::{Shares, Ticket};

/// How long nothing is accepted after the system has refused to (no more file descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// What the connections of one network share.
#[derive(Clone)]
pub(super) struct Shared {
    pub handler: Arc<Handler>,
    pub limits: Limits,
    pub counts: Arc<Connections>,
}

/// Accepts connections until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Shared,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a DNS connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // All addresses of an endpoint have one share.
        let ends = stop.child_token();
        let client = shared.handler.client(from.ip());
        let Some(place) = Connections::enter(&shared.counts, client, ends.clone()) else {
            shared.handler.counting().closed.add();
            continue;
        };
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = ends.cancelled() => if !stop.is_cancelled() {
                    shared.handler.counting().closed.add();
                },
                end = converse(stream, from, &shared) => if let Err(error) = end {
                    tracing::debug!(client = %from, %error, "a DNS connection was closed");
                    shared.handler.counting().closed.add();
                },
            }
        });
    }
}

/// Everything of a connection happens within this future: with it, it ends.
async fn converse(stream: TcpStream, from: SocketAddr, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let (sender, receiver) = mpsc::channel(shared.limits.pipelined.max(1));
    tokio::try_join!(
        read(BufReader::new(reader), from, shared, sender),
        write(writer, receiver, shared.limits.tcp_timeout),
    )?;
    Ok(())
}

async fn read(
    mut stream: BufReader<OwnedReadHalf>,
    from: SocketAddr,
    shared: &Shared,
    responses: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let Shared { handler, limits, .. } = shared;
    let working = Arc::new(Semaphore::new(limits.pipelined.max(1)));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        // The time is for the whole message: a byte now and then does not keep a connection open.
        let Some(query) = timeout(limits.tcp_timeout, frame(&mut stream)).await?? else { break };
        handler.counting().tcp.add();
        let read = Instant::now();
        if handler.within_limits(std::iter::once(from.ip()), read) != [true] {
            return Err(io::Error::other("it asked too much"));
        }
        let request = match handler.admit(query, from, Protocol::Tcp) {
            // Who sends such things over a connection is no client of ours.
            Admission::Drop => return Err(io::Error::other("it sent something else than queries")),
            Admission::Reply(bytes) => {
                if responses.send(bytes).await.is_err() {
                    break;
                }
                continue;
            }
            Admission::Query(request) => request,
        };
        let Ok(permit) = working.clone().acquire_owned().await else { break };
        while tasks.try_join_next().is_some() {}
        let (handler, responses) = (handler.clone(), responses.clone());
        tasks.spawn(async move {
            if let Some(response) = respond(handler.clone(), request).await {
                let _ = responses.send(response).await;
                handler.counting().answered.took.note(read.elapsed(), 1);
            }
            drop(permit);
        });
    }
    // The client has said everything; what it asked is still answered.
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// The next message; `None` at the end of the stream.
async fn frame(stream: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let len = match stream.read_u16().await {
        Ok(len) => usize::from(len),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    // Grows with what comes, not with what was announced.
    let mut message = Vec::with_capacity(len.min(512));
    let read = stream.take(len as u64).read_to_end(&mut message).await?;
    if read < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(message)) }
}

async fn write(
    mut stream: OwnedWriteHalf,
    mut responses: mpsc::Receiver<Vec<u8>>,
    patience: Duration,
) -> io::Result<()> {
    while let Some(response) = responses.recv().await {
        let len = u16::try_from(response.len()).map_err(io::Error::other)?;
        // In one piece: some clients take the length and the message for one read.
        let framed = [&len.to_be_bytes()[..], &response].concat();
        timeout(patience, stream.write_all(&framed)).await??;
    }
    stream.shutdown().await
}

/// The connections that there are, of each client and altogether.
#[derive(Debug)]
pub(super) struct Connections(Mutex<Shares<(), CancellationToken>>);

impl Connections {
    pub fn new(limits: &Limits) -> Self {
        Self(Mutex::new(Shares::new(limits.connections, limits.connections_per_client)))
    }

    fn shares(&self) -> MutexGuard<'_, Shares<(), CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection of `client`, or `None` if there is none. Where all are taken, the client with the
    /// most loses its oldest.
    fn enter(this: &Arc<Self>, client: IpAddr, ends: CancellationToken) -> Option<Place> {
        let (ticket, displaced) = this.shares().enter(((), client), ends)?;
        if let Some(displaced) = displaced {
            displaced.cancel();
        }
        Some(Place { connections: this.clone(), ticket })
    }
}

/// The place of one connection, given back when it ends.
struct Place {
    connections: Arc<Connections>,
    ticket: Ticket<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.shares().leave(self.ticket);
    }
}
