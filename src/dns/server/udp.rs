//! Queries in datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use hickory_server::net::xfer::Protocol;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::repeated::Repeated;
use super::respond;
use crate::dns::handler::{Admission, Handler};

/// The largest query that is read, in bytes: a longer one is cut, and so malformed.
const QUERY_MAX: usize = 4096;
/// How many datagrams are answered before others get their turn.
const BATCH: usize = 64;

/// Answers what comes in at `socket` until `stop`.
///
/// What the zone answers is answered here and now. Only a query that waits for somebody outside becomes a task, and
/// of those there are never more than the forwarder lets through.
pub(super) async fn serve(
    socket: UdpSocket,
    handler: Arc<Handler>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let repeated = Repeated::new(handler.zone());
    let mut server = Datagrams { socket: Arc::new(socket), handler, stop, tasks, repeated };
    let mut buffer = vec![0; QUERY_MAX];
    loop {
        tokio::select! {
            () = server.stop.cancelled() => return,
            ready = server.socket.readable() => if let Err(error) = ready {
                tracing::warn!(%error, "a DNS socket cannot be read any more");
                return;
            },
        }
        server.repeated.keep_to(&server.handler.zone());
        let now = Instant::now();
        for _ in 0..BATCH {
            // An error is that of a datagram sent earlier (ICMP), and the next one may be readable.
            let (len, from) = match server.socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => continue,
            };
            server.handler.counting().udp.add();
            if server.handler.within_limits(from.ip(), now) {
                server.answer(&mut buffer, len, from);
            }
        }
        tokio::task::yield_now().await;
    }
}

struct Datagrams {
    socket: Arc<UdpSocket>,
    handler: Arc<Handler>,
    stop: CancellationToken,
    tasks: TaskTracker,
    repeated: Repeated,
}

impl Datagrams {
    /// Answers the query in the first `len` bytes of `buffer`.
    ///
    /// A full send buffer loses an answer, as any datagram may be lost: the client asks again.
    fn answer(&mut self, buffer: &mut [u8], len: usize, from: SocketAddr) {
        let Self { socket, handler, stop, tasks, repeated } = self;
        if handler.may_ask(from.ip())
            && let Some(answer) = repeated.get(&buffer[..len])
        {
            handler.count_repeated(answer);
            // The id is there already.
            let whole = &mut buffer[..2 + answer.len()];
            whole[2..].copy_from_slice(answer);
            return drop(socket.try_send_to(whole, from));
        }
        let query = &buffer[..len];
        let request = match handler.admit(query.to_vec(), from, Protocol::Udp) {
            Admission::Drop => return,
            Admission::Reply(bytes) => return drop(socket.try_send_to(&bytes, from)),
            Admission::Query(request) => request,
        };
        let mut response = Box::pin(respond(handler.clone(), request));
        if let Some(response) = (&mut response).now_or_never() {
            let Some(bytes) = response else { return };
            repeated.put(query, &bytes);
            return drop(socket.try_send_to(&bytes, from));
        }
        let (socket, stop) = (socket.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                response = response => drop(response.map(|bytes| socket.try_send_to(&bytes, from))),
            }
        });
    }
}
