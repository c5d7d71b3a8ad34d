//! One question to one of the node's resolvers, and several of them raced.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cache::{Key, Outside};

/// How long a server is given before the next one is asked as well.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long a question may take altogether: less than the five seconds that clients usually wait.
const WHOLE: Duration = Duration::from_secs(4);
/// What fits into a datagram nearly everywhere (DNS Flag Day 2020).
pub(in crate::dns) const PAYLOAD: u16 = 1232;

/// The order in which servers are asked: the one that answered last comes first.
#[derive(Debug, Default)]
pub(super) struct Order {
    first: AtomicUsize,
}

impl Order {
    /// Asks until one answers. Each gets a while before the next is asked beside it, one that fails is followed
    /// at once, and after the last one it begins again, until the time is over.
    pub async fn ask(&self, servers: &[SocketAddr], query: &Query, key: &Key) -> Option<Outside> {
        if servers.is_empty() {
            return None;
        }
        let end = Instant::now() + WHOLE;
        let first = self.first.load(Ordering::Relaxed);
        let mut turns = (0..2 * servers.len()).map(|turn| (first + turn) % servers.len());
        let mut asked = FuturesUnordered::new();
        let mut next = Instant::now();
        let mut refusal = None;
        loop {
            if Instant::now() >= next
                && let Some(turn) = turns.next()
            {
                let server = servers[turn];
                asked.push(async move { (turn, timeout_at(end, exchange(server, query, key)).await) });
                next = Instant::now() + PATIENCE;
            }
            tokio::select! {
                Some((turn, answer)) = asked.next(), if !asked.is_empty() => match answer {
                    Ok(Ok(answer)) if is_an_answer(&answer) => {
                        self.first.store(turn, Ordering::Relaxed);
                        return Some(answer);
                    }
                    // Kept in case nobody knows better; meanwhile the next one is asked at once.
                    Ok(Ok(answer)) => (refusal, next) = (Some(answer), Instant::now()),
                    Ok(Err(error)) => {
                        tracing::debug!(server = %servers[turn], %error, "a resolver did not answer");
                        next = Instant::now();
                    }
                    Err(_) => {}
                },
                () = sleep_until(next), if turns.len() > 0 => {}
                () = sleep_until(end) => return refusal,
            }
            if asked.is_empty() && turns.len() == 0 {
                return refusal;
            }
        }
    }
}

fn is_an_answer(answer: &Outside) -> bool {
    matches!(answer.rcode, ResponseCode::NoError | ResponseCode::NXDomain)
}

async fn exchange(server: SocketAddr, query: &Query, key: &Key) -> io::Result<Outside> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = key.unchecked;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD).set_dnssec_ok(key.dnssec);
    message.set_edns(edns);
    let request = message.to_vec().map_err(io::Error::other)?;
    let response = over_udp(server, &request, &message).await?;
    let response =
        if response.metadata.truncation { over_tcp(server, &request, &message).await? } else { response };
    Ok(response.into())
}

impl From<Message> for Outside {
    fn from(response: Message) -> Self {
        Self {
            rcode: response.metadata.response_code,
            answers: response.answers,
            authority: response.authorities,
            additionals: response.additionals,
            authentic: response.metadata.authentic_data,
        }
    }
}

async fn over_udp(server: SocketAddr, request: &[u8], asked: &Message) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket, and so a port, for each question: one who guesses has to guess that too (RFC 5452 section 9.2).
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(request).await?;
    let mut buffer = vec![0; usize::from(PAYLOAD)];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if let Some(response) = answers(&buffer[..len], asked) {
            return Ok(response);
        }
    }
}

async fn over_tcp(server: SocketAddr, request: &[u8], asked: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(request.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), request].concat()).await?;
    let mut response = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut response).await?;
    answers(&response, asked).ok_or_else(|| io::Error::other("it answered something else"))
}

/// The message in `bytes`, if it is the answer to what was asked.
pub(in crate::dns) fn answers(bytes: &[u8], asked: &Message) -> Option<Message> {
    let response = Message::from_vec(bytes).ok()?;
    let fits = response.metadata.message_type == MessageType::Response
        && response.metadata.id == asked.metadata.id
        && response.queries == asked.queries;
    fits.then_some(response)
}
