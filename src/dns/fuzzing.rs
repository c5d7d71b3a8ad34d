//! Ways in for the fuzz crate.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::net::xfer::Protocol;

use super::config::Limits;
use super::forward;
use super::handler::{Admission, Handler};
use super::server::respond;
use super::zone::Zone;
use super::zone::testing::{Lab, NETWORK};
use crate::model::NetworkId;

/// The name servers in the text of a `resolv.conf`.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    forward::name_servers(text, |name| u32::try_from(name.len()).ok().filter(|len| len % 2 == 0)).servers
}

/// What a name server answered to some bytes.
#[derive(Debug)]
pub struct Answered {
    /// How many bytes.
    pub len: usize,
    /// It is a message, a response, and has the id of what was asked.
    pub is_response: bool,
    /// Every record of the answer is about the name in the question, in the same case.
    pub is_about_the_question: bool,
    /// The addresses in all of its records.
    pub addresses: Vec<IpAddr>,
    /// The names in all of its records, below `lanmesh.`, in lower case.
    pub names: Vec<String>,
    /// There is an answer, not just a code.
    pub answers: usize,
}

/// A name server of `buildnet` (10.10.0.0/24, fd00:10::/64) in a cluster that has `othernet` (10.66.0.0/24) too.
fn handler() -> Arc<Handler> {
    static HANDLER: OnceLock<Arc<Handler>> = OnceLock::new();
    let make = || {
        let mut other = Lab::new(&["10.66.0.0/24"]);
        other.name = "othernet".parse().expect("a name");
        other.endpoint(2, "secret", &["10.66.0.7"], |_| {});
        let mut lab = Lab::new(&["10.10.0.0/24", "fd00:10::/64"]);
        for number in 1..=40_u8 {
            let addresses = [format!("10.10.0.{}", 10 + number), format!("fd00:10::{number}")];
            lab.endpoint(1 + number % 3, &format!("cc-{number}"), &[&addresses[0], &addresses[1]], |e| {
                e.service = Some("cc".parse().expect("a name"));
                e.slot = Some(number.into());
                e.services = vec!["_distcc._tcp:3632,jobs=4".parse().expect("a service")];
            });
        }
        let mut view = lab.view();
        let id = NetworkId::from_bytes([2; 8]);
        view.networks.extend(other.view().networks.remove(&NETWORK).map(|network| (id, network)));
        let zone = Zone::build(&view, NETWORK, 5).expect("the network is there");
        let subnets = view.networks[&NETWORK].spec.subnets.clone();
        Arc::new(Handler::new(Arc::new(zone), subnets, None, &Limits::default(), Arc::default()))
    };
    HANDLER.get_or_init(make).clone()
}

/// What comes back for these bytes, sent by a client over TCP or UDP.
pub fn ask(query: &[u8], client: IpAddr, tcp: bool) -> Option<Answered> {
    let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
    let handler = handler();
    let bytes = match handler.admit(query.to_vec(), SocketAddr::new(client, 4000), protocol) {
        Admission::Drop => return None,
        Admission::Reply(bytes) => bytes,
        // There is nobody outside that it could wait for.
        Admission::Query(request) => {
            respond(handler, request).now_or_never().expect("is answered at once").expect("is answered")
        }
    };
    let message = Message::from_vec(&bytes).ok();
    let id = query.get(..2).map(|id| u16::from_be_bytes([id[0], id[1]]));
    let records: Vec<&Record> = message.iter().flat_map(Message::all_sections).collect();
    let asked = message.as_ref().and_then(|message| message.queries.first()).map(Query::name);
    let answers = message.as_ref().map_or(&[][..], |message| &message.answers);
    Some(Answered {
        len: bytes.len(),
        is_response: message.as_ref().is_some_and(|message| {
            message.metadata.message_type == MessageType::Response && Some(message.metadata.id) == id
        }),
        is_about_the_question: answers
            .iter()
            .all(|record| asked.is_some_and(|asked| record.name.eq_case(asked))),
        addresses: records.iter().filter_map(|record| record.data.ip_addr()).collect(),
        names: records
            .iter()
            .flat_map(|record| names(record))
            .map(|name| name.to_lowercase().to_utf8())
            .collect(),
        answers: answers.len(),
    })
}

fn names(record: &Record) -> Vec<&Name> {
    let other = match &record.data {
        RData::PTR(to) => Some(&to.0),
        RData::SRV(srv) => Some(&srv.target),
        _ => None,
    };
    other.into_iter().chain([&record.name]).collect()
}

/// Queries as clients send them.
pub fn queries() -> Vec<Vec<u8>> {
    use RecordType::{A, AAAA, ANY, PTR, SOA, SRV, TXT};
    let questions = [
        ("cc-1.buildnet.lanmesh.", A),
        ("CC.buildnet.lanmesh.", AAAA),
        ("tasks.cc.buildnet.lanmesh.", A),
        ("7.cc.buildnet.lanmesh.", ANY),
        ("_distcc._tcp.buildnet.lanmesh.", PTR),
        ("_services._dns-sd._udp.buildnet.lanmesh.", PTR),
        ("cc-1._distcc._tcp.buildnet.lanmesh.", SRV),
        ("cc-1._distcc._tcp.buildnet.lanmesh.", TXT),
        ("buildnet.lanmesh.", SOA),
        ("n2.nodes.lanmesh.", A),
        ("secret.othernet.lanmesh.", A),
        ("11.0.10.10.in-addr.arpa.", PTR),
        ("7.0.66.10.in-addr.arpa.", PTR),
        ("lb._dns-sd._udp.0.0.10.10.in-addr.arpa.", PTR),
        ("cc-1.", A),
    ];
    let query = |(n, (name, kind)): (usize, (&str, RecordType))| {
        let mut message = message(name, kind);
        if n % 2 == 0 {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            message.set_edns(edns);
        }
        message.to_vec().expect("can be written")
    };
    questions.into_iter().enumerate().map(query).collect()
}

fn message(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.parse().expect("a name"), kind));
    message
}

/// The question to which a resolver outside answers [`taken`]'s bytes.
fn question() -> Message {
    message("www.example.org.", RecordType::A)
}

/// Whether these bytes are taken for an answer from outside, kept, and given on as a message that can be read.
pub fn taken(answer: &[u8]) -> bool {
    let asked = question();
    let Some(outside) = forward::answers(answer, &asked).map(forward::Outside::from) else { return false };
    let key = forward::Key {
        name: asked.queries[0].name().clone().into(),
        kind: RecordType::A,
        dnssec: true,
        unchecked: false,
    };
    let (mut cache, now) = (forward::Cache::new(2), Instant::now());
    cache.put(key.clone(), Arc::new(outside.clone()), now);
    for seconds in [0, 1, 299, 3600] {
        let Some(kept) = cache.get(&key, now + Duration::from_secs(seconds)) else { continue };
        let counts = |outside: &forward::Outside| outside.answers.len() + outside.authority.len();
        assert_eq!(counts(&kept), counts(&outside));
        let ttls = kept.answers.iter().zip(&outside.answers).all(|(kept, was)| kept.ttl <= was.ttl);
        assert!(ttls, "time does not run backwards");
    }
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.add_answers(outside.answers).add_authorities(outside.authority);
    let written = message.to_vec();
    // What cannot be written is not sent; what is sent can be read.
    written.is_ok_and(|bytes| Message::from_vec(&bytes).is_ok())
}

/// Answers as resolvers send them.
pub fn upstream_answers() -> Vec<Vec<u8>> {
    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    let mut good = question();
    good.metadata.message_type = MessageType::Response;
    let name = good.queries[0].name().clone();
    let mut none = good.clone();
    let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, 60);
    none.metadata.response_code = ResponseCode::NXDomain;
    none.add_authority(Record::from_rdata(name.clone(), 60, RData::SOA(soa)));
    let other: Name = "example.net.".parse().expect("a name");
    good.add_answer(Record::from_rdata(name, 60, RData::CNAME(CNAME(other.clone()))));
    good.add_answer(Record::from_rdata(other, 300, RData::A(A([192, 0, 2, 1].into()))));
    [good, none].iter().map(|message| message.to_vec().expect("can be written")).collect()
}
