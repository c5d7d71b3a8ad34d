//! The sockets of one network's name server, inside its namespace.
//!
//! Owns: making them there, how many queries and connections there may be, and their end. Does not own what is
//! answered (`handler`).
//!
//! hickory-server's own loops are not used: they start a task for every datagram without a limit, answer a TCP
//! connection strictly in order, have no limit on connections, and write a log line for every answer.

mod batch;
mod repeated;
mod tcp;
mod udp;
mod workers;

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::Limits;
use super::error::DnsError;
use super::fit::size_limit;
use super::handler::Handler;
use crate::namespace::enter;
use repeated::Repeated;
pub(super) use workers::Workers;

/// What an UDP socket may hold that was not read yet, in bytes.
const RECEIVE_BUFFER: usize = 2 << 20;
/// Connections that were not accepted yet.
const BACKLOG: i32 = 128;

/// The running name server of one network.
#[derive(Debug)]
pub(super) struct Server {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Sockets that are bound but not yet served.
struct Bound {
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
}

impl Server {
    /// Listens on `addresses`, port `port`, in the namespace at `namespace`, and answers with `handler`; datagrams
    /// on `workers`.
    pub async fn start(
        handler: Arc<Handler>,
        namespace: &Path,
        addresses: &[IpAddr],
        port: u16,
        limits: &Limits,
        workers: &Workers,
    ) -> Result<Self, DnsError> {
        let handles = workers.handles();
        let Bound { udp, tcp } = bind(namespace, addresses, port, handles.len()).await?;
        let server = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let listen = |source| DnsError::Listen { address: SocketAddr::from(([0, 0, 0, 0], port)), source };
        for (socket, worker) in udp.into_iter().zip(handles.iter().cycle()) {
            let socket = {
                let _worker = worker.enter();
                Arc::new(tokio::net::UdpSocket::from_std(socket).map_err(listen)?)
            };
            let datagrams = udp::Datagrams {
                socket,
                repeated: Repeated::new(handler.zone()),
                handler: handler.clone(),
                stop: server.stop.clone(),
                tasks: server.tasks.clone(),
                elsewhere: Handle::current(),
            };
            server.tasks.spawn_on(datagrams.serve(), worker);
        }
        let counts = Arc::new(tcp::Connections::new(limits));
        for listener in tcp {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(listen)?;
            let shared =
                tcp::Shared { handler: handler.clone(), limits: limits.clone(), counts: counts.clone() };
            let loops = tcp::serve(listener, shared, server.stop.clone(), server.tasks.clone());
            server.tasks.spawn(loops);
        }
        server.tasks.close();
        Ok(server)
    }

    /// Stops. When it returns all sockets are closed.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Makes the sockets in a network's namespace.
///
/// Of UDP sockets each address has `sockets`: the kernel spreads the clients over them.
async fn bind(namespace: &Path, addresses: &[IpAddr], port: u16, sockets: usize) -> Result<Bound, DnsError> {
    let addresses = addresses.to_vec();
    let work = move |_: &File| -> Result<Bound, DnsError> {
        let mut bound = Bound { udp: Vec::new(), tcp: Vec::new() };
        for address in addresses {
            let address = SocketAddr::new(address, port);
            let failed = |source| DnsError::Listen { address, source };
            bound.tcp.push(listener(address).map_err(failed)?);
            for _ in 0..sockets {
                bound.udp.push(datagrams(address).map_err(failed)?);
            }
        }
        Ok(bound)
    };
    let bound = enter::within_path(namespace, work).await;
    bound.map_err(|source| DnsError::Namespace { path: namespace.to_owned(), source })?
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))?;
    // The gateway's address may come, or come back, after its server.
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}

fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of a server that was here before may linger.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn datagrams(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    // Beyond what the system allows to others (net.core.rmem_max), where this is root.
    if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Answers a query: the message to send, or nothing if it could not be written.
pub(super) async fn respond(handler: Arc<Handler>, request: Box<Request>) -> Option<Vec<u8>> {
    let sink = Sink { limit: size_limit(&request), ..Sink::default() };
    handler.handle_request::<_, TokioTime>(&request, sink.clone()).await;
    Arc::into_inner(sink.bytes).and_then(OnceLock::into_inner)
}

/// Takes the response as bytes.
#[derive(Debug, Clone, Default)]
struct Sink {
    bytes: Arc<OnceLock<Vec<u8>>>,
    /// In bytes. The handler sees to it that it is kept; it is held to it all the same.
    limit: usize,
}

#[async_trait::async_trait]
impl ResponseHandler for Sink {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::try_from(self.limit).unwrap_or(u16::MAX));
        let info = response.destructive_emit(&mut encoder)?;
        // A request is answered once.
        let _ = self.bytes.set(bytes);
        Ok(info)
    }
}
