//! Serves the routes on the socket, within limits that no caller can exceed.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Access;
use super::backend::Backend;
use super::error::{ApiError, ErrorBody};
use super::listener::Socket;
use super::openapi;
use super::peer::peer_of;
use super::routes;
use super::shared::SharedReads;
use super::table::Api;
use crate::config::Config;

/// What a caller may take of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest body, in bytes; that of a whole desired state is sixteen times as large.
    pub max_body: usize,
    /// Open connections of one user who may not write.
    pub reader_connections: usize,
    /// Open connections of all users who may not write.
    pub all_reader_connections: usize,
    /// Open connections of one user who may.
    pub writer_connections: usize,
    /// How long a connection may wait for a whole request head, also between two requests.
    pub head_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long requests that are under way may go on when the server stops.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            reader_connections: 64,
            all_reader_connections: 512,
            writer_connections: 512,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self { max_body: config.max_body, ..Self::default() }
    }
}

/// Open connections. Nobody who may only read can shut out another user, and all of them together cannot
/// shut out those who may write.
#[derive(Default)]
struct Connections(Mutex<Open>);

#[derive(Default)]
struct Open {
    of_user: HashMap<u32, usize>,
    of_readers: usize,
}

/// One open connection; dropping it gives its place back.
struct Place {
    connections: Arc<Connections>,
    uid: u32,
    writer: bool,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Counters that are changed in one step: a panic elsewhere leaves them right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of `uid`, or the limit that it would exceed.
    fn take(self: &Arc<Self>, uid: u32, writer: bool, limits: &Limits) -> Result<Place, usize> {
        let mut open = self.open();
        let limit = if writer { limits.writer_connections } else { limits.reader_connections };
        if open.of_user.get(&uid).is_some_and(|count| *count >= limit) {
            return Err(limit);
        }
        if !writer && open.of_readers >= limits.all_reader_connections {
            return Err(limits.all_reader_connections);
        }
        *open.of_user.entry(uid).or_default() += 1;
        open.of_readers += usize::from(!writer);
        Ok(Place { connections: self.clone(), uid, writer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.of_readers -= usize::from(!self.writer);
        if let Some(count) = open.of_user.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.of_user.remove(&self.uid);
            }
        }
    }
}

/// Serves `backend` on `socket` until `stop` is cancelled; then lets what is under way come to its end, for as
/// long as the limits allow, and removes the socket.
pub async fn serve<B: Backend>(
    socket: Socket,
    backend: Arc<B>,
    access: Access,
    limits: Limits,
    stop: CancellationToken,
) {
    let table = routes::table();
    let api = Arc::new(Api {
        backend,
        access,
        max_body: limits.max_body,
        body_timeout: limits.body_timeout,
        stopping: stop.clone(),
        writes: TaskTracker::new(),
        desired: tokio::sync::Mutex::new(()),
        openapi: openapi::document(&table.docs),
        reads: SharedReads::default(),
    });
    let router = routes::router(table, api.clone());
    let connections = Arc::new(Connections::default());
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_headers(64);

    while let Some(accepted) = stop.run_until_cancelled(socket.listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                after_failed_accept(&error).await;
                continue;
            }
        };
        let peer = match peer_of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "a connection without credentials was closed");
                continue;
            }
        };
        let place = match connections.take(peer.uid, api.access.may_write(&peer), &limits) {
            Ok(place) => place,
            Err(limit) => {
                tracing::warn!(%peer, limit, "a connection too many was closed");
                tokio::spawn(turn_away(stream, limit));
                continue;
            }
        };
        let routes = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            routes.call(request)
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A caller that hangs up or sends no HTTP is no news.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }

    socket.unlink();
    api.writes.close();
    let under_way = async {
        tokio::join!(graceful.shutdown(), api.writes.wait());
    };
    if tokio::time::timeout(limits.stop_timeout, under_way).await.is_err() {
        tracing::warn!(left = api.writes.len(), "stopped before every request came to its end");
    }
}

async fn after_failed_accept(error: &io::Error) {
    tracing::warn!(%error, "could not accept a connection");
    // Out of file descriptors, most likely: trying again at once would only keep a core busy.
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Says why and closes, without giving the connection a place.
async fn turn_away(mut stream: UnixStream, limit: usize) {
    let error = ApiError::unavailable(format!("{limit} connections are open, which is the limit"))
        .hint("close some of yours");
    let body = serde_json::to_string(&ErrorBody { error: error.into() }).unwrap_or_default();
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(answer.as_bytes())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_cannot_take_the_places_of_others() {
        let limits = Limits {
            reader_connections: 2,
            all_reader_connections: 3,
            writer_connections: 4,
            ..Limits::default()
        };
        let connections = Arc::new(Connections::default());
        let take = |uid, writer| connections.take(uid, writer, &limits);
        let first = take(1, false).ok();
        let _second = take(1, false).ok();
        assert_eq!(take(1, false).err(), Some(2), "the user's own limit");
        let _other = take(2, false).ok();
        assert_eq!(take(3, false).err(), Some(3), "the limit of all readers");
        let _writers: Vec<_> = (0..4).filter_map(|_| take(0, true).ok()).collect();
        assert_eq!(take(0, true).err(), Some(4));
        drop(first);
        assert!(take(3, false).is_ok());
    }
}
