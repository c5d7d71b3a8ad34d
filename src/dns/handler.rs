//! What becomes of a query: answered from the zone, asked outside, or refused.
//!
//! Owns: who may ask, what is a query at all, flags, EDNS, and what fits. Does not own: names (`zone`), upstreams
//! (`forward`), sockets (`server`).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::Instant;

use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, LowerName, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use ipnetwork::IpNetwork;

use super::config::Limits;
use super::counters::Counting;
use super::fit::{fit, size_limit};
use super::forward::{Forwarding, Key, NoAnswer, PAYLOAD};
use super::limit::Limiter;
use super::reply::Reply;
use super::zone::{Zone, ZoneAnswer};

/// The length of a message's header, in bytes (RFC 1035 section 4.1.1).
const HEADER: usize = 12;

/// What a message that came in is.
pub(super) enum Admission {
    /// Nothing to answer.
    Drop,
    /// Answered by its header alone.
    Reply(Vec<u8>),
    /// A query.
    Query(Box<Request>),
}

/// Answers the queries of one network.
pub(super) struct Handler {
    zone: RwLock<Arc<Zone>>,
    subnets: Vec<IpNetwork>,
    forwarder: Option<Forwarding>,
    limiter: Mutex<Limiter>,
    counting: Arc<Counting>,
    turn: AtomicUsize,
}

impl Handler {
    /// Answers clients in `subnets` from `zone`, and what is not in it with `forwarder`, if there is one.
    pub fn new(
        zone: Arc<Zone>,
        subnets: Vec<IpNetwork>,
        forwarder: Option<Forwarding>,
        limits: &Limits,
        counting: Arc<Counting>,
    ) -> Self {
        Self {
            zone: RwLock::new(zone),
            subnets,
            forwarder,
            limiter: Mutex::new(Limiter::new(limits)),
            counting,
            turn: AtomicUsize::new(0),
        }
    }

    /// Answers from `zone` from now on.
    pub fn set_zone(&self, zone: Arc<Zone>) {
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = zone;
    }

    /// The zone that is answered from.
    pub fn zone(&self) -> Arc<Zone> {
        self.zone.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who this address belongs to, as one of its addresses.
    pub fn client(&self, address: IpAddr) -> IpAddr {
        self.zone().client(address.to_canonical())
    }

    /// The counters.
    pub fn counting(&self) -> &Counting {
        &self.counting
    }

    /// Whether each of these clients may ask now; whoever asked too much is not even told so.
    ///
    /// While another thread looks at its clients, these may: if the system has just taken the processor from that thread,
    /// they would wait for it for milliseconds.
    pub fn within_limits(&self, clients: impl Iterator<Item = IpAddr>, now: Instant) -> Vec<bool> {
        let limiter = match self.limiter.try_lock() {
            Ok(limiter) => Some(limiter),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let Some(mut limiter) = limiter else { return clients.map(|_| true).collect() };
        // By endpoint: one that has more addresses has no more to ask.
        let zone = self.zone();
        let clients = clients.map(|client| zone.client(client.to_canonical()));
        let admitted: Vec<bool> = clients.map(|client| limiter.admit(client, now)).collect();
        drop(limiter);
        self.counting.limited.add_many(admitted.iter().filter(|admitted| !**admitted).count());
        admitted
    }

    /// Reads a message.
    pub fn admit(&self, bytes: Vec<u8>, from: SocketAddr, protocol: Protocol) -> Admission {
        let Ok(header) = Header::read(&mut BinDecoder::new(&bytes)) else {
            self.counting.malformed.add();
            return Admission::Drop;
        };
        // To answer an answer would begin a loop; a datagram from port 0 has nowhere to be answered to.
        if header.metadata.message_type == MessageType::Response || from.port() == 0 {
            self.counting.malformed.add();
            return Admission::Drop;
        }
        let reply = |rcode| {
            self.counting.answered.add(rcode);
            Admission::Reply(header_only(&header.metadata, rcode))
        };
        if header.metadata.op_code != OpCode::Query {
            return reply(ResponseCode::NotImp);
        }
        // Checked before anything is read: the numbers in a header are claims, and memory is reserved for them.
        let HeaderCounts { queries, answers, authorities, additionals } = header.counts;
        let request = if (queries, answers, authorities) == (1, 0, 0) && additionals <= 2 {
            Request::from_bytes(bytes, from, protocol).ok()
        } else {
            None
        };
        match request {
            Some(request) => Admission::Query(Box::new(request)),
            None => {
                self.counting.malformed.add();
                reply(ResponseCode::FormErr)
            }
        }
    }

    async fn reply(&self, request: &Request) -> Reply {
        let [query] = request.queries.queries() else { return Reply::code(ResponseCode::FormErr) };
        if !self.may_ask(request.src().ip()) {
            self.counting.refused.add();
            return Reply::code(ResponseCode::Refused);
        }
        // RFC 6891 section 6.1.3.
        if request.version() > 0 {
            return Reply::code(ResponseCode::BADVERS);
        }
        let original = query.original();
        match (query.query_class(), query.query_type()) {
            (DNSClass::IN | DNSClass::ANY, kind) if !is_meta(kind) => {}
            (DNSClass::IN, RecordType::OPT) => return Reply::code(ResponseCode::FormErr),
            // Transfers among them: whoever wants all names asks the agent.
            _ => {
                self.counting.refused.add();
                return Reply::code(ResponseCode::Refused);
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.zone().answer(original.name(), query.query_type(), turn) {
            ZoneAnswer::Ours(answer) => {
                self.counting.zone.add();
                if answer.rcode == ResponseCode::NXDomain {
                    self.counting.nxdomain.add();
                }
                answer.into()
            }
            ZoneAnswer::Dotless => {
                self.counting.nxdomain.add();
                Reply::code(ResponseCode::NXDomain)
            }
            ZoneAnswer::Outside => self.outside(request, query.name(), original).await,
        }
    }

    async fn outside(&self, request: &Request, name: &LowerName, query: &Query) -> Reply {
        let Some(forwarder) = self.forwarder.as_ref().filter(|_| request.metadata.recursion_desired) else {
            self.counting.refused.add();
            return Reply::code(ResponseCode::Refused);
        };
        let dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let key = Key {
            name: name.clone(),
            kind: query.query_type(),
            dnssec,
            unchecked: request.metadata.checking_disabled,
        };
        let who = (forwarder.network, self.client(request.src().ip()));
        let told = match forwarder.forwarder.ask(who, query, key).await {
            Ok(told) => told,
            Err(error) => {
                let (count, rcode) = match error {
                    NoAnswer::Nowhere => (&self.counting.nxdomain, ResponseCode::NXDomain),
                    NoAnswer::Overloaded => (&self.counting.overloaded, ResponseCode::ServFail),
                    NoAnswer::Silence => (&self.counting.unanswered, ResponseCode::ServFail),
                };
                count.add();
                return Reply::code(rcode);
            }
        };
        if told.cached { &self.counting.cached } else { &self.counting.forwarded }.add();
        let mut answer = told.answer;
        // The question may have been asked in another case before.
        for record in answer.answers.iter_mut().filter(|record| record.name == *query.name()) {
            record.name.clone_from(query.name());
        }
        Reply {
            // RFC 6840 section 5.8: for those who show that they understand it.
            authentic: answer.authentic && (dnssec || request.metadata.authentic_data),
            answers: answer.answers,
            authority: answer.authority,
            additionals: answer.additionals,
            ..Reply::code(answer.rcode)
        }
    }

    /// Counts an answer from the zone that was given again; `answer` is the message without its id.
    pub fn count_repeated(&self, answer: &[u8]) {
        self.counting.zone.add();
        // In the low half of the second byte of flags (RFC 1035 section 4.1.1).
        let rcode = ResponseCode::from_low(answer.get(1).map_or(0, |flags| flags & 0x0f));
        self.counting.answered.add(rcode);
        if rcode == ResponseCode::NXDomain {
            self.counting.nxdomain.add();
        }
    }

    /// Whether this is the address of somebody in the network.
    pub fn may_ask(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.subnets.iter().any(|subnet| subnet.contains(client))
    }
}

/// Types that are not those of a record that a zone has.
fn is_meta(kind: RecordType) -> bool {
    matches!(
        kind,
        RecordType::AXFR | RecordType::IXFR | RecordType::OPT | RecordType::TSIG | RecordType::ZERO
    )
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let mut reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        // A code of more than four bits needs EDNS; only BADVERS does, which answers it.
        metadata.response_code = reply.rcode;
        metadata.authoritative = reply.authoritative;
        metadata.authentic_data = reply.authentic;
        metadata.recursion_available = self.forwarder.is_some();
        fit(&mut reply, request.queries.as_bytes().len(), edns.is_some(), size_limit(request));
        if reply.truncated {
            self.counting.truncated.add();
        }
        self.counting.answered.add(reply.rcode);
        metadata.truncation = reply.truncated;
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            &reply.answers,
            &reply.authority,
            [],
            &reply.additionals,
        );
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

/// An answer to something of which nothing but the header was understood.
fn header_only(asked: &Metadata, rcode: ResponseCode) -> Vec<u8> {
    let mut metadata = Metadata::response_from_request(asked);
    metadata.response_code = rcode;
    let header = Header { metadata, counts: HeaderCounts::default() };
    let mut bytes = Vec::with_capacity(HEADER);
    match header.emit(&mut BinEncoder::new(&mut bytes)) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
