//! Queries as bytes, and the answers as bytes: flags, sizes, and what hostile clients get.

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData};

use super::*;
use crate::dns::server::respond;
use crate::dns::zone::testing::Lab;

const CLIENT: &str = "10.10.0.2:4000";

fn lab(endpoints: u8) -> Lab {
    let mut lab = Lab::new(&["10.10.0.0/24"]);
    for i in 0..endpoints {
        let name = format!("worker-{i}");
        lab.endpoint(1, &name, &[&format!("10.10.0.{}", 10 + i)], |e| {
            e.service = Some("farm".parse().expect("a name"));
            e.services = vec![format!("_distcc._tcp:3632,host={i}").parse().expect("a service")];
        });
    }
    lab
}

fn handler(endpoints: u8) -> Arc<Handler> {
    let zone = Arc::new(lab(endpoints).zone());
    let subnets = vec!["10.10.0.0/24".parse().expect("a subnet")];
    Arc::new(Handler::new(zone, subnets, None, &Limits::default(), Arc::default()))
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

fn with_edns(mut message: Message, payload: u16, version: u8) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(version);
    message.set_edns(edns);
    message
}

/// What comes back for these bytes.
async fn bytes(handler: &Arc<Handler>, query: Vec<u8>, from: &str, protocol: Protocol) -> Option<Vec<u8>> {
    match handler.admit(query, from.parse().expect("an address"), protocol) {
        Admission::Drop => None,
        Admission::Reply(bytes) => Some(bytes),
        Admission::Query(request) => respond(handler.clone(), request).await,
    }
}

async fn ask(handler: &Arc<Handler>, message: Message, protocol: Protocol) -> (Message, usize) {
    let query = message.to_vec().expect("can be written");
    let response = bytes(handler, query, CLIENT, protocol).await.expect("is answered");
    let len = response.len();
    let response = Message::from_vec(&response).expect("can be read");
    assert_eq!(response.metadata.id, 4711);
    assert_eq!(response.metadata.message_type, MessageType::Response);
    (response, len)
}

#[tokio::test]
async fn an_answer_is_authoritative_and_repeats_the_case_of_the_question() {
    let handler = handler(2);
    let (response, _) =
        ask(&handler, query("WoRker-1.buildnet.LANmesh.", RecordType::A), Protocol::Udp).await;
    let Metadata { authoritative, recursion_desired, recursion_available, truncation, .. } =
        response.metadata;
    assert!(authoritative && recursion_desired && !recursion_available && !truncation);
    assert_eq!(response.queries[0].name().to_string(), "WoRker-1.buildnet.LANmesh.");
    assert_eq!(response.answers[0].name.to_string(), "WoRker-1.buildnet.LANmesh.");
    assert_eq!(response.answers.len(), 1);
    assert!(response.edns.is_none());
}

#[tokio::test]
async fn what_does_not_fit_is_cut_with_tc_and_whole_over_tcp() {
    let handler = handler(100);
    let farm = || query("farm.buildnet.lanmesh.", RecordType::A);
    for (message, limit) in [
        (farm(), 512),
        (with_edns(farm(), 100, 0), 512),
        (with_edns(farm(), 800, 0), 800),
        (with_edns(farm(), 65535, 0), usize::from(PAYLOAD)),
    ] {
        let edns = message.edns.is_some();
        let (response, len) = ask(&handler, message, Protocol::Udp).await;
        assert!(response.metadata.truncation && len <= limit, "{len} of {limit}");
        assert!(len > limit - 32, "{len} of {limit}: more would have fitted");
        assert_eq!(response.edns.is_some(), edns);
    }
    let (response, _) = ask(&handler, farm(), Protocol::Tcp).await;
    assert!(!response.metadata.truncation);
    assert_eq!(response.answers.len(), 100);
}

#[tokio::test]
async fn additional_records_are_left_out_without_a_word() {
    let handler = handler(10);
    let browse = || query("_distcc._tcp.buildnet.lanmesh.", RecordType::PTR);
    let (response, len) = ask(&handler, browse(), Protocol::Udp).await;
    assert!(!response.metadata.truncation && len <= 512);
    assert_eq!(response.answers.len(), 10);
    assert!(response.additionals.len() < 30);
    let (response, _) = ask(&handler, browse(), Protocol::Tcp).await;
    assert_eq!(response.additionals.len(), 30);
}

#[tokio::test]
async fn edns_is_answered_with_edns_and_an_unknown_version_with_badvers() {
    let handler = handler(1);
    let message = query("worker-0.buildnet.lanmesh.", RecordType::A);
    let (response, _) = ask(&handler, with_edns(message.clone(), 4096, 0), Protocol::Udp).await;
    let edns = response.edns.expect("an OPT record");
    assert_eq!((edns.version(), edns.max_payload()), (0, PAYLOAD));
    let (response, _) = ask(&handler, with_edns(message, 4096, 7), Protocol::Udp).await;
    assert_eq!(u16::from(response.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert!(response.answers.is_empty());
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let handler = handler(1);
    let zone = "buildnet.lanmesh.";
    for (name, kind) in [("example.com.", RecordType::A), (zone, RecordType::AXFR), (zone, RecordType::IXFR)]
    {
        let (response, _) = ask(&handler, query(name, kind), Protocol::Tcp).await;
        assert_eq!(response.metadata.response_code, ResponseCode::Refused, "{name} {kind}");
        assert!(!response.metadata.authoritative);
    }
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let (response, _) = ask(&handler, chaos, Protocol::Udp).await;
    assert_eq!(response.metadata.response_code, ResponseCode::Refused);
    let (response, _) = ask(&handler, query("nobody.", RecordType::A), Protocol::Udp).await;
    assert_eq!(response.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn whoever_is_not_in_the_network_is_refused() {
    let handler = handler(1);
    let message = query("worker-0.buildnet.lanmesh.", RecordType::A).to_vec().expect("can be written");
    for (from, code) in [
        ("10.10.0.9:1", ResponseCode::NoError),
        ("[::ffff:10.10.0.9]:1", ResponseCode::NoError),
        ("10.10.1.9:1", ResponseCode::Refused),
        ("[fd00::1]:1", ResponseCode::Refused),
    ] {
        let response = bytes(&handler, message.clone(), from, Protocol::Udp).await.expect("is answered");
        let response = Message::from_vec(&response).expect("can be read");
        assert_eq!(response.metadata.response_code, code, "{from}");
        assert_eq!(response.answers.is_empty(), code == ResponseCode::Refused);
    }
    assert_eq!(handler.counting().snapshot().refused, 2);
}

#[tokio::test]
async fn malformed_messages_get_a_code_or_nothing() {
    let handler = handler(1);
    let good = query("worker-0.buildnet.lanmesh.", RecordType::A).to_vec().expect("can be written");
    let header = |flags: u16, counts: [u16; 4]| {
        let words = [[4711, flags], [counts[0], counts[1]], [counts[2], counts[3]]].concat();
        words.into_iter().flat_map(u16::to_be_bytes).collect::<Vec<u8>>()
    };
    let with = |header: Vec<u8>, rest: &[u8]| [header, rest.to_vec()].concat();
    let question = &good[12..];
    let cases: [(&str, Vec<u8>, Option<ResponseCode>); 13] = [
        ("nothing", vec![], None),
        ("less than a header", good[..11].to_vec(), None),
        ("a response", with(header(0x8180, [1, 0, 0, 0]), question), None),
        ("only a header", header(0x0100, [1, 0, 0, 0]), Some(ResponseCode::FormErr)),
        ("no question", header(0x0100, [0, 0, 0, 0]), Some(ResponseCode::FormErr)),
        ("two questions", with(header(0, [2, 0, 0, 0]), &question.repeat(2)), Some(ResponseCode::FormErr)),
        ("65535 questions", with(header(0, [u16::MAX; 4]), question), Some(ResponseCode::FormErr)),
        ("a cut question", good[..good.len() - 3].to_vec(), Some(ResponseCode::FormErr)),
        (
            "a name that is itself",
            with(header(0, [1, 0, 0, 0]), &[0xc0, 12, 0, 1, 0, 1]),
            Some(ResponseCode::FormErr),
        ),
        (
            "a name that points ahead",
            with(header(0, [1, 0, 0, 0]), &[0xc0, 40, 0, 1, 0, 1]),
            Some(ResponseCode::FormErr),
        ),
        ("a label of 255 bytes", with(header(0, [1, 0, 0, 0]), &[0xff; 300]), Some(ResponseCode::FormErr)),
        (
            "an OPT that ends early",
            with(header(0, [1, 0, 0, 1]), &[question, &[0, 0, 41]].concat()),
            Some(ResponseCode::FormErr),
        ),
        ("a notify", with(header(0x2000, [1, 0, 0, 0]), question), Some(ResponseCode::NotImp)),
    ];
    for (what, query, code) in cases {
        let response = bytes(&handler, query, CLIENT, Protocol::Udp).await;
        let answered = response.as_deref().map(|bytes| {
            let message = Message::from_vec(bytes).expect("can be read");
            assert_eq!(message.metadata.id, 4711, "{what}");
            message.metadata.response_code
        });
        assert_eq!(answered, code, "{what}");
    }
    assert!(bytes(&handler, good, "10.10.0.2:0", Protocol::Udp).await.is_none());
}

/// An OPT record (RFC 6891 section 6.1.2) with this version and these options, each a code and its bytes.
fn opt(version: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (code, bytes) in options {
        data.extend(code.to_be_bytes());
        data.extend((bytes.len() as u16).to_be_bytes());
        data.extend(*bytes);
    }
    let mut record = vec![0, 0, 41, 4, 208, 0, version, 0, 0];
    record.extend((data.len() as u16).to_be_bytes());
    [record, data].concat()
}

#[tokio::test]
async fn what_is_unusual_is_answered_as_the_standards_say() {
    let handler = handler(1);
    let name = query("worker-0.buildnet.lanmesh.", RecordType::A).to_vec().expect("can be written");
    let name = &name[12..name.len() - 4];
    let message = |flags: u16, kind: u16, class: u16, more: &[Vec<u8>]| {
        let words = [4711, flags, 1, 0, 0, more.len() as u16];
        let head: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        [&head[..], name, &kind.to_be_bytes(), &class.to_be_bytes(), &more.concat()].concat()
    };
    let a = |more: &[Vec<u8>]| message(0x0100, 1, 1, more);
    let cut_option = [&opt(0, &[])[..9], &[0, 6, 0, 10, 0, 8, 1, 1]].concat();
    let (good, refused, not_imp) = (ResponseCode::NoError, ResponseCode::Refused, ResponseCode::NotImp);
    let cases: [(&str, Vec<u8>, ResponseCode, usize); 24] = [
        ("no recursion wanted", message(0, 1, 1, &[]), good, 1),
        ("AD and CD", message(0x0130, 1, 1, &[]), good, 1),
        ("the bit that must be zero", message(0x0140, 1, 1, &[]), good, 1),
        ("a question that says it is cut", message(0x0300, 1, 1, &[]), good, 1),
        ("a code in a question", message(0x0105, 1, 1, &[]), good, 1),
        ("any class", message(0x0100, 1, 255, &[]), good, 1),
        ("any type", message(0x0100, 255, 1, &[]), good, 1),
        ("class CH", message(0x0100, 16, 3, &[]), refused, 0),
        ("class HS", message(0x0100, 1, 4, &[]), refused, 0),
        ("class NONE", message(0x0100, 1, 254, &[]), refused, 0),
        ("class 0", message(0x0100, 1, 0, &[]), refused, 0),
        ("a type that nobody has defined", message(0x0100, 65_280, 1, &[]), good, 0),
        ("HTTPS", message(0x0100, 65, 1, &[]), good, 0),
        ("a status", message(0x1000, 1, 1, &[]), not_imp, 0),
        ("an update", message(0x2800, 6, 1, &[]), not_imp, 0),
        ("an opcode that nobody has defined", message(0x7800, 1, 1, &[]), not_imp, 0),
        ("a cookie", a(&[opt(0, &[(10, &[7; 8])])]), good, 1),
        ("padding", a(&[opt(0, &[(12, &[0; 300])])]), good, 1),
        ("a client's subnet", a(&[opt(0, &[(8, &[0, 1, 24, 0, 10, 10, 0])])]), good, 1),
        ("several options that nobody has defined", a(&[opt(0, &[(65_001, &[]), (65_002, b"x")])]), good, 1),
        ("a later version of EDNS", a(&[opt(1, &[(10, &[7; 8])])]), ResponseCode::BADVERS, 0),
        ("two OPT records", a(&[opt(0, &[]), opt(0, &[])]), ResponseCode::FormErr, 0),
        ("an option longer than its record", a(&[cut_option]), ResponseCode::FormErr, 0),
        ("three additional records", a(&[opt(0, &[]), opt(0, &[]), opt(0, &[])]), ResponseCode::FormErr, 0),
    ];
    for (what, query, code, answers) in cases {
        let response = bytes(&handler, query.clone(), CLIENT, Protocol::Udp).await.expect("is answered");
        let response = Message::from_vec(&response).expect("can be read");
        assert_eq!(u16::from(response.metadata.response_code), u16::from(code), "{what}");
        assert_eq!(response.answers.len(), answers, "{what}");
        let Metadata { id, recursion_desired, authentic_data, truncation, .. } = response.metadata;
        assert_eq!((id, authentic_data, truncation), (4711, false, false), "{what}");
        assert_eq!(recursion_desired, query[2] & 1 == 1, "{what}");
        // Nothing of what was asked beside the question comes back.
        if let Some(edns) = response.edns {
            assert_eq!((edns.version(), edns.options().as_ref().len()), (0, 0), "{what}");
        }
    }
}

#[tokio::test]
async fn a_name_of_many_bytes_of_any_kind_is_answered() {
    let handler = handler(1);
    let labels = [&[0xff; 63][..], &[0; 63], b"buildnet", b"lanmesh"];
    let mut message = query(".", RecordType::TXT);
    message.queries[0].set_name(Name::from_labels(labels).expect("a name"));
    let (response, _) = ask(&handler, message, Protocol::Udp).await;
    assert_eq!(response.metadata.response_code, ResponseCode::NXDomain);
    assert!(matches!(response.authorities[0].data, RData::SOA(_)));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_every_response_can_be_read(query: Vec<u8>) {
            let response = run(bytes(&handler(2), query, CLIENT, Protocol::Udp));
            if let Some(response) = response {
                prop_assert!(response.len() <= 512);
                prop_assert!(Message::from_vec(&response).is_ok());
            }
        }

        #[test]
        fn a_query_with_some_bytes_changed_is_survived(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = with_edns(query("_distcc._tcp.buildnet.lanmesh.", RecordType::PTR), 1232, 0);
            let mut query = whole.to_vec().expect("can be written");
            for (at, byte) in changes {
                let at = at.index(query.len());
                query[at] = byte;
            }
            query.truncate(1 + cut.index(query.len()));
            if let Some(response) = run(bytes(&handler(20), query, CLIENT, Protocol::Udp)) {
                prop_assert!(response.len() <= usize::from(PAYLOAD));
                prop_assert!(Message::from_vec(&response).is_ok());
            }
        }
    }
}

#[test]
fn an_endpoint_with_addresses_of_both_families_has_one_rate() {
    let mut lab = Lab::new(&["10.10.0.0/24", "fd00:10::/64"]);
    lab.endpoint(1, "both", &["10.10.0.5", "fd00:10::5"], |_| {});
    lab.endpoint(1, "other", &["10.10.0.6"], |_| {});
    let limits = Limits { rate: 1, burst: 100, ..Limits::default() };
    let handler = Handler::new(Arc::new(lab.zone()), Vec::new(), None, &limits, Arc::default());
    let now = Instant::now();
    let asks = |address: &str| address.parse::<IpAddr>().expect("an address");
    let admitted = |who: &str, times: usize| {
        let clients = std::iter::repeat_n(asks(who), times);
        handler.within_limits(clients, now).into_iter().filter(|admitted| *admitted).count()
    };
    assert_eq!(admitted("10.10.0.6", 1), 1);
    assert_eq!(admitted("10.10.0.5", 80), 80);
    assert_eq!(admitted("fd00:10::5", 80), 20, "what it asks by the other family counts too");
    assert_eq!(admitted("::ffff:10.10.0.5", 80), 0);
    assert_eq!(admitted("10.10.0.6", 50), 50, "and nobody else loses by it");
}
