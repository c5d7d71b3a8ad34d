//! Queries in datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use hickory_server::net::xfer::Protocol;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
    let socket = Arc::new(socket);
    let mut buffer = vec![0; QUERY_MAX];
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = socket.readable() => if let Err(error) = ready {
                tracing::warn!(%error, "a DNS socket cannot be read any more");
                return;
            },
        }
        let now = Instant::now();
        for _ in 0..BATCH {
            // An error is that of a datagram sent earlier (ICMP), and the next one may be readable.
            let (len, from) = match socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => continue,
            };
            handler.counting().udp.add();
            if handler.within_limits(from.ip(), now) {
                answer(&socket, &handler, &buffer[..len], from, &stop, &tasks);
            }
        }
        tokio::task::yield_now().await;
    }
}

fn answer(
    socket: &Arc<UdpSocket>,
    handler: &Arc<Handler>,
    query: &[u8],
    from: SocketAddr,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    // A full send buffer loses an answer, as any datagram may be lost: the client asks again.
    let request = match handler.admit(query.to_vec(), from, Protocol::Udp) {
        Admission::Drop => return,
        Admission::Reply(bytes) => return drop(socket.try_send_to(&bytes, from)),
        Admission::Query(request) => request,
    };
    let mut response = Box::pin(respond(handler.clone(), request));
    if let Some(response) = (&mut response).now_or_never() {
        return drop(response.map(|bytes| socket.try_send_to(&bytes, from)));
    }
    let (socket, stop) = (socket.clone(), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            response = response => drop(response.map(|bytes| socket.try_send_to(&bytes, from))),
        }
    });
}
