//! One question to one of the node's resolvers, and several of them raced.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cache::{Key, Outside};
use crate::message::{self, AUTHENTIC, RESPONSE, Raw, TRUNCATED};

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
    let answer = ask(server, query, key, true).await?;
    // What a server does that has never heard of EDNS (RFC 6891 section 7), or not of this version of it.
    match answer.rcode {
        ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS => {
            ask(server, query, key, false).await
        }
        _ => Ok(answer),
    }
}

async fn ask(server: SocketAddr, query: &Query, key: &Key, edns: bool) -> io::Result<Outside> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = key.unchecked;
    message.add_query(query.clone());
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_dnssec_ok(key.dnssec);
        message.set_edns(edns);
    }
    let request = message.to_vec().map_err(io::Error::other)?;
    let response = over_udp(server, &request, &message).await?;
    if response.cut { over_tcp(server, &request, &message).await } else { Ok(response.into()) }
}

/// What a server answered.
#[derive(Debug)]
pub(in crate::dns) struct Response {
    outside: Outside,
    /// There is more than it could send.
    cut: bool,
}

impl From<Response> for Outside {
    fn from(response: Response) -> Self {
        response.outside
    }
}

async fn over_udp(server: SocketAddr, request: &[u8], asked: &Message) -> io::Result<Response> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket, and so a port, for each question: one who guesses has to guess that too (RFC 5452 section 9.2).
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(request).await?;
    // Some send more than they were asked to. What is not sent costs no memory.
    let mut buffer = Vec::with_capacity(usize::from(u16::MAX));
    loop {
        buffer.clear();
        socket.recv_buf(&mut buffer).await?;
        if let Some(response) = answers(&buffer, asked) {
            return Ok(response);
        }
    }
}

async fn over_tcp(server: SocketAddr, request: &[u8], asked: &Message) -> io::Result<Outside> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(request.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), request].concat()).await?;
    let mut response = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut response).await?;
    let answer = answers(&response, asked).ok_or_else(|| io::Error::other("it answered something else"))?;
    Ok(answer.into())
}

/// What `bytes` say, if they are the answer to what was asked. Records are given on as they are: it is for who asked to
/// understand them.
pub(in crate::dns) fn answers(bytes: &[u8], asked: &Message) -> Option<Response> {
    /// More have no room in a message of 64 KiB.
    const RECORDS_MAX: usize = (u16::MAX / 11) as usize;
    let response = message::Message::read(bytes, RECORDS_MAX).ok()?;
    let [answers, authority, additionals] = response.sections;
    let low = response.flags & 0xf;
    // The rest of the code is with EDNS (RFC 6891 section 6.1.3).
    let edns = additionals.iter().find(|record| record.kind == RecordType::OPT);
    let high = edns.map_or(0, |edns| (edns.ttl >> 24) as u8);
    let rcode = ResponseCode::from(high, low as u8);
    let is = |question: &message::Question, query: &Query| {
        (&question.name, question.kind, DNSClass::from(question.class))
            == (query.name(), query.query_type(), query.query_class())
    };
    let mut questions = response.questions.iter().zip(&asked.queries);
    let same = response.questions.len() == asked.queries.len()
        && questions.all(|(question, query)| question.as_ref().is_some_and(|question| is(question, query)));
    // Who did not understand it may leave it out.
    let not_understood =
        response.questions.is_empty() && matches!(rcode, ResponseCode::FormErr | ResponseCode::NotImp);
    let fits = response.flags & RESPONSE != 0 && response.id == asked.metadata.id && (same || not_understood);
    let records = |section: Vec<Raw<'_>>| section.iter().filter_map(given_on).collect();
    fits.then(|| Response {
        outside: Outside {
            rcode,
            answers: records(answers),
            authority: records(authority),
            additionals: records(additionals),
            authentic: response.flags & AUTHENTIC != 0,
        },
        cut: response.flags & TRUNCATED != 0,
    })
}

/// A record as it is given on: what cannot be read is so as bytes, unless there may be names in it, which can refer to other
/// places in its message and to nothing anywhere else (RFC 3597 section 4).
fn given_on(raw: &Raw<'_>) -> Option<Record> {
    use RecordType::{ANAME, CNAME, MX, NAPTR, NS, PTR, SOA, SRV};
    if raw.kind == RecordType::OPT {
        return None;
    }
    let as_bytes = || {
        let mut rdata = NULL::default();
        rdata.anything = raw.bytes().to_vec();
        let named = matches!(raw.kind, ANAME | CNAME | MX | NAPTR | NS | PTR | SOA | SRV);
        (!named).then_some(RData::Unknown { code: raw.kind, rdata })
    };
    // A text without strings is one to whoever sent it.
    let data = raw.data().filter(|_| !raw.bytes().is_empty()).or_else(as_bytes)?;
    let mut record = Record::from_rdata(raw.name.clone()?, raw.ttl, data);
    record.dns_class = DNSClass::from(raw.class);
    Some(record)
}
