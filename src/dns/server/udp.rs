//! Queries in datagrams.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use hickory_server::net::xfer::Protocol;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batch::{Answers, BATCH, Queries};
use super::repeated::Repeated;
use super::respond;
use crate::dns::handler::{Admission, Handler};

thread_local! {
    /// What a thread receives into and sends from: it does so for one socket at a time. IPv4 and IPv6 have their own,
    /// because the kernel leaves the length of the last sender's address there as the room for the next.
    static MEMORY: RefCell<[(Queries, Answers); 2]> =
        RefCell::new([(); 2].map(|()| (Queries::new(), Answers::new())));
}

/// One socket of a name server.
pub(super) struct Datagrams {
    pub socket: Arc<UdpSocket>,
    pub handler: Arc<Handler>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    /// Where that is done which has to wait for somebody.
    pub elsewhere: Handle,
    pub repeated: Repeated,
}

impl Datagrams {
    /// Answers what comes in, until the end.
    ///
    /// What the zone answers is answered here and now. Only a query that waits for somebody outside becomes a task,
    /// and of those there are never more than the forwarder lets through.
    pub async fn serve(mut self) {
        let stop = self.stop.clone();
        let family = usize::from(self.socket.local_addr().is_ok_and(|address| address.is_ipv6()));
        stop.run_until_cancelled(async {
            loop {
                if let Err(error) = self.socket.readable().await {
                    tracing::warn!(%error, "a DNS socket cannot be read any more");
                    return;
                }
                self.repeated.keep_to(&self.handler.zone());
                let more = MEMORY.with_borrow_mut(|memory| {
                    let (queries, answers) = &mut memory[family];
                    self.turn(queries, answers)
                });
                // Other sockets share the thread. Where nothing is left to read it is theirs anyway.
                if more {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
    }

    /// Takes a batch of queries, and answers it. Whether there may be more.
    fn turn(&mut self, queries: &mut Queries, answers: &mut Answers) -> bool {
        let socket = self.socket.clone();
        let mut count = 0;
        // An error is that of a datagram sent earlier (ICMP), and the next one may be readable.
        let _ = socket.try_io(Interest::READABLE, || {
            count = queries.receive(socket.as_fd())?;
            // That was all: it need not be asked for once more to know that there is nothing.
            if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if count == 0 {
            // After an error the socket may be readable still.
            return true;
        }
        self.handler.counting().udp.add_many(count);
        let clients = queries.iter().map(|(_, from)| from.ip());
        let read = Instant::now();
        let admitted: Vec<bool> = self.handler.within_limits(clients, read);
        for ((query, from), _) in queries.iter().zip(admitted).filter(|(_, admitted)| *admitted) {
            self.answer(query, from, read, answers);
        }
        let answered = answers.count();
        answers.send(socket.as_fd());
        self.handler.counting().answered.took.note(read.elapsed(), answered);
        count == BATCH
    }

    fn answer(&mut self, query: &[u8], from: SocketAddr, read: Instant, answers: &mut Answers) {
        let Self { socket, handler, stop, tasks, elsewhere, repeated } = self;
        if handler.may_ask(from.ip())
            && let Some(answer) = repeated.get(query)
        {
            handler.count_repeated(answer);
            return answers.push(&[&query[..2], answer], from);
        }
        let request = match handler.admit(query.to_vec(), from, Protocol::Udp) {
            Admission::Drop => return,
            Admission::Reply(bytes) => return answers.push(&[&bytes], from),
            Admission::Query(request) => request,
        };
        let mut response = Box::pin(respond(handler.clone(), request));
        let now = {
            // What it begins and does not end at once is not begun on this thread.
            let _elsewhere = elsewhere.enter();
            (&mut response).now_or_never()
        };
        if let Some(response) = now {
            let Some(bytes) = response else { return };
            repeated.put(query, &bytes);
            return answers.push(&[&bytes], from);
        }
        let (socket, stop, handler) = (socket.clone(), stop.clone(), handler.clone());
        let later = async move {
            let Some(bytes) = stop.run_until_cancelled(response).await.flatten() else { return };
            // As any datagram it may be lost: the client asks again.
            let _ = socket.try_send_to(&bytes, from);
            handler.counting().answered.took.note(read.elapsed(), 1);
        };
        tasks.spawn_on(later, elsewhere);
    }
}
