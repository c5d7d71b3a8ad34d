//! The bytes of everything that version 2 says. Whoever makes one of these tests fail has changed the wire: make another
//! version instead, in a module of its own.

use std::collections::BTreeSet;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use insta::assert_snapshot;
use serde::Serialize;

use super::*;
use crate::cluster::facts::{Delta, Entry, FactKey, Line, Record, Scope, Stamp};
use crate::cluster::gossip_key::GossipKey;
use crate::cluster::kinds::{
    self, AlsoKind, DrainKind, EndpointKind, FactKind, FloatingKind, GroupKind, LabelKind, LoanKind,
    NodeFact, NodeKind, PortsKind, SeenKind, ServiceKind, SettingKind,
};
use crate::cluster::ledger::{Admission, Claim as PresentClaim};
use crate::cluster::membership::Identity;
use crate::cluster::testing;
use crate::cluster::version::Protocols;
use crate::cluster::wire::{Question, Spoken};
use crate::model::{
    AddedSubnet, AddressPlan, Affinity, Also as PresentAlso, Endpoint as PresentEndpoint, EndpointKey,
    Floating as PresentFloating, FloatingKey, Found, Group as PresentGroup, Loan as PresentLoan, MeshEpoch,
    MeshKey, MeshPorts as PresentPorts, NetworkId, NodeId, NodeIndex, PLAN, PortMap, PublicKey, PublishMode,
    PublishSource, SeenHost, SeenRecords, SeenService, ServiceSpec, Setting, ZeroconfFact,
};

const NODE: NodeId = NodeId::from_bytes([1; 16]);
const NET: NetworkId = NetworkId::from_bytes([2; 8]);

fn hex<T: Serialize>(value: &T) -> String {
    HEXLOWER.encode(&pack(value))
}

/// A line for each: what it is, and its bytes.
fn lines(all: &[(&str, String)]) -> String {
    all.iter().map(|(what, bytes)| format!("{what}: {bytes}\n")).collect()
}

fn fact<K: FactKind>(key: &K::Key, value: &K::Value) -> String {
    let (packed_key, packed) = (K::pack_key(key), K::pack(value));
    assert!(K::read_key(&packed_key).is_some_and(|read| K::pack_key(&read) == packed_key));
    let read = K::read(key, &packed).expect("reads back");
    assert!(read == *value, "{} reads back as another", K::NAME);
    // What a later version adds at the end does not keep this one from reading what it knows.
    let longer = [&packed[..], &[1, 2, 3]].concat();
    assert!(K::read(key, &longer).is_some_and(|read| read == *value), "{}", K::NAME);
    format!("{} {} = {}", K::KIND.0, HEXLOWER.encode(&packed_key), HEXLOWER.encode(&packed))
}

fn node_fact() -> NodeFact {
    NodeFact {
        networks: BTreeSet::from([NET]),
        mesh: vec![MeshKey {
            epoch: MeshEpoch { number: 3, tag: 4 },
            public: PublicKey::from_bytes([5; 32]),
            port: 51840,
            sending: true,
        }],
        traits: [("arch".to_owned(), "x86_64".to_owned())].into(),
        ..testing::node_fact(1)
    }
}

fn seen(found: Found) -> ZeroconfFact {
    ZeroconfFact { endpoint: "cc1".parse().unwrap(), declared: true, found }
}

#[test]
fn each_kind_of_fact_has_the_bytes_it_always_had() {
    let mut endpoint = testing::endpoint("cc1", 9);
    endpoint.service = Some("distcc".parse().unwrap());
    endpoint.slot = Some(3);
    endpoint.aliases = vec!["x1".parse().unwrap()];
    endpoint.services = vec!["Build farm=_distcc._tcp,_gcc12:3632,idle,jobs=4".parse().unwrap()];
    let taker = PresentEndpoint { took_ms: Some(1_700_000_000_000), ..testing::endpoint("cc2", 10) };
    let group = PresentGroup::new("239.1.1.1".parse().unwrap(), Some([10, 0, 0, 9].into())).unwrap();
    let service = seen(Found::Service(SeenService {
        instance: "distcc@cc1".into(),
        kind: "_distcc._tcp".into(),
        subtypes: ["_gcc12".into()].into(),
        host: "cc1".into(),
        port: 3632,
        priority: 0,
        weight: 1,
        txt: vec![b"jobs=4".to_vec()],
    }));
    let host = seen(Found::Host(SeenHost { name: "cc1".into(), addresses: [[10, 0, 0, 9].into()].into() }));
    let records = seen(Found::Records(SeenRecords {
        name: vec![b"cc1".to_vec(), b"local".to_vec()],
        kind: 13,
        unique: true,
        ttl: 120,
        data: [vec![1, 2]].into(),
    }));
    let shared = seen(Found::Records(SeenRecords {
        name: vec![b"b".to_vec(), b"example".to_vec()],
        kind: 12,
        unique: false,
        ttl: 10,
        data: [vec![1, 2]].into(),
    }));
    let range = "10.0.0.20-10.0.0.23".parse().unwrap();
    let loan = PresentLoan { network: NET, range, to: NODE };
    let mac = "00:00:5e:00:01:33".parse().unwrap();
    let floating = PresentFloating { endpoint: endpoint.name.clone(), mac, sequence: 7 };
    let also = PresentAlso { addresses: [[10, 0, 0, 200].into()].into(), macs: [mac].into(), routes: true };
    let ports = PresentPorts {
        ports: vec!["8080:80".parse().unwrap(), "[2001:db8::1]:53:5353/udp".parse().unwrap()],
        source: PublishSource::Node,
    };
    assert_snapshot!(lines(&[
        ("node", fact::<NodeKind>(&(), &node_fact())),
        ("endpoint", fact::<EndpointKind>(&endpoint.name, &endpoint)),
        ("endpoint that took over", fact::<EndpointKind>(&taker.name, &taker)),
        ("group", fact::<GroupKind>(&group, &())),
        ("service", fact::<SeenKind>(&service.found.key(), &service)),
        ("host", fact::<SeenKind>(&host.found.key(), &host)),
        ("records", fact::<SeenKind>(&records.found.key(), &records)),
        ("records of any kind", fact::<SeenKind>(&shared.found.key(), &shared)),
        ("draining", fact::<DrainKind>(&endpoint.name, &())),
        ("loan", fact::<LoanKind>(&0x0102_0304_0506_0708, &loan)),
        ("floating address", fact::<FloatingKind>(&FloatingKey::Address([10, 0, 0, 200].into()), &floating)),
        ("floating MAC", fact::<FloatingKind>(&FloatingKey::Mac(floating.mac), &floating)),
        ("also", fact::<AlsoKind>(&endpoint.name, &also)),
        ("ports", fact::<PortsKind>(&EndpointKey { network: NET, name: endpoint.name.clone() }, &ports)),
    ]));
}

#[test]
fn each_kind_of_record_has_the_bytes_it_always_had() {
    let plan = AddressPlan {
        added: vec![AddedSubnet { subnet: "10.2.0.0/24".parse().unwrap(), gateway: [10, 2, 0, 1].into() }],
        pools: vec![lanmesh_ipam::Pool { service: "s".into(), range: "10.2.0.5-10.2.0.6".parse().unwrap() }],
        reserved: vec!["10.2.0.9".parse().unwrap()],
    };
    let web = ServiceSpec {
        addresses: vec![[10, 2, 0, 250].into()],
        ports: vec![PortMap { port: 80, to: 8080 }],
        affinity: Affinity::Source,
        publish: vec!["8080:80".parse().unwrap(), "192.0.2.1:53:5353/udp".parse().unwrap()],
        publish_mode: PublishMode::Mesh,
        publish_source: PublishSource::Client,
    };
    let seen_as_node = ServiceSpec { publish_source: PublishSource::Node, ..web.clone() };
    assert_snapshot!(lines(&[
        ("option", fact::<SettingKind>(&(NET, "multicast".into()), &Setting::Option("flood".into()))),
        ("plan", fact::<SettingKind>(&(NET, PLAN.into()), &Setting::Plan(plan))),
        ("label", fact::<LabelKind>(&(NODE, "storage".into()), &"ssd".into())),
        ("service", fact::<ServiceKind>(&(NET, "web".parse().unwrap()), &web)),
        ("service seen as node", fact::<ServiceKind>(&(NET, "web".parse().unwrap()), &seen_as_node)),
    ]));
}

#[test]
fn each_kind_of_claim_has_the_bytes_it_always_had() {
    let mut spec = testing::network("net", 2, 5);
    spec.options.mtu = Some(1400);
    let admission = Admission {
        term: 1,
        node: NODE,
        name: "n1".parse().unwrap(),
        index: NodeIndex(4),
        address: ([10, 0, 0, 1], 7979).into(),
        key: Some([6; 32]),
    };
    let claims = [
        PresentClaim::Network(spec),
        PresentClaim::NetworkDeleted(NET),
        PresentClaim::Admitted(admission),
        PresentClaim::Left(NODE),
        PresentClaim::Removed(NODE),
        PresentClaim::Manager { term: 2, node: NODE },
        PresentClaim::Authority { term: 2, certificate: vec![7; 3] },
        PresentClaim::Foreign(Claim { kind: 900, value: Bytes::from_static(b"later") }),
    ];
    for claim in &claims {
        assert_eq!(Claim::of(claim).present(), *claim);
        let Claim { kind, value } = Claim::of(claim);
        let longer = Claim { kind, value: [&value[..], &[1]].concat().into() };
        assert!(kind == 900 || longer.present() == *claim, "what a later version adds is in the way");
    }
    let line = |claim: &PresentClaim| {
        let wire = Claim::of(claim);
        (wire.name().unwrap_or("unknown"), hex(&wire))
    };
    assert_snapshot!(lines(&claims.iter().map(line).collect::<Vec<_>>()));
}

fn delta() -> Delta {
    let endpoint = testing::endpoint("e", 1);
    let gone = Entry {
        key: kinds::key::<GroupKind>(&PresentGroup::any_source("239.1.1.1".parse().unwrap())),
        version: 7,
        value: None,
    };
    Delta {
        writer: NODE,
        scope: Scope::Network(NET),
        incarnation: 3,
        base: 5,
        version: 7,
        entries: vec![testing::endpoint_entry(&endpoint, 6), gone],
    }
}

fn record() -> Record {
    let key = FactKey { kind: LabelKind::KIND, key: Bytes::from_static(b"k") };
    Record { key, stamp: Stamp { wall_ms: 1_700_000_000_000, count: 2, node: NODE }, value: None }
}

fn identity() -> Identity {
    Identity { node: NODE, incarnation: 3, renewals: 1, address: ([10, 0, 0, 1], 7979).into() }
}

fn gossip_key() -> GossipKey {
    postcard::from_bytes(&[&[1u8, 1][..], &[8; 32], &[2, 9, 9]].concat()).expect("a key")
}

fn summary() -> Summary {
    Summary { ledger: 1, keys: 2, members: 3, nodes: 4, records: 5, networks: vec![(NET, 6)] }
}

fn shared() -> Shared {
    let claim = Claim::of(&PresentClaim::Left(NODE));
    Shared { claims: Some(vec![claim]), keys: Some(vec![gossip_key()]), members: Some(vec![identity()]) }
}

#[test]
fn each_datagram_has_the_bytes_it_always_had() {
    let remind = Datagram::Remind { suspected: identity(), incarnation: 2, asker: identity() };
    assert_snapshot!(lines(&[
        ("swim", hex(&Datagram::Swim(vec![1, 2]))),
        ("remind", hex(&remind)),
        ("facts", hex(&Datagram::Facts(vec![delta()]))),
        ("claims", hex(&Datagram::Claims(vec![Claim::of(&PresentClaim::Left(NODE))]))),
        ("records", hex(&Datagram::Records(vec![record()]))),
        ("summary", hex(&Datagram::Summary(summary()))),
        ("challenge", hex(&Datagram::Challenge(7))),
        ("proof", hex(&Datagram::Proof(7))),
    ]));
}

#[test]
fn each_message_of_a_stream_has_the_bytes_it_always_had() {
    let line = Line { writer: NODE, incarnation: 3, version: 4 };
    let join = JoinRequest {
        secret: [3; 16],
        name: "n2".into(),
        index: Some(5),
        address: ([10, 0, 0, 2], 7979).into(),
        csr: vec![1, 2],
        clock_ms: 1000,
    };
    let compare =
        Compare { lines: vec![(Scope::Node, vec![line])], sums: Some(vec![1, 2]), shared: shared() };
    let part = Part {
        deltas: vec![delta()],
        wants: vec![(Scope::Network(NET), line)],
        records: vec![record()],
        buckets: vec![9],
        shared: Shared::default(),
        more: true,
    };
    let welcome = Welcome {
        node: [1; 16],
        index: 4,
        certificate: vec![1],
        keys: vec![gossip_key()],
        claims: vec![Claim::of(&PresentClaim::Left(NODE))],
        records: vec![record()],
        nodes: vec![delta()],
    };
    let spoken = Spoken { protocols: Protocols { lowest: 2, highest: 3 } };
    assert_snapshot!(lines(&[
        ("join", hex(&Request::Join(join))),
        ("sync", hex(&Request::Sync(summary()))),
        ("fetch", hex(&Request::Fetch(NET))),
        ("ask", hex(&Request::Ask(Question { number: 1, body: Bytes::from_static(b"q") }))),
        ("refused", hex(&Reply::Refused(Refused { code: 1, text: "no".into() }))),
        ("welcome", hex(&Reply::Welcome(Box::new(welcome)))),
        ("compare", hex(&Reply::Compare(compare))),
        ("part", hex(&Reply::Part(part))),
        ("answer", hex(&Reply::Answer(Bytes::from_static(b"a")))),
        ("spoken", hex(&spoken)),
    ]));
}

#[test]
fn what_is_told_of_questions_has_the_bytes_it_always_had() {
    let name = vec![b"cc1".to_vec(), b"local".to_vec()];
    let look = Look { network: *NET.as_bytes(), sought: vec![(name, 33)] };
    assert_eq!(hex(&look), "0202020202020202010203636331056c6f63616c21");
}

#[test]
fn what_is_told_of_events_has_the_bytes_it_always_had() {
    let event = Event {
        seq: 300,
        time_ms: 5,
        kind: "alarm".into(),
        node: Some("n1".into()),
        network: Some("net".into()),
        endpoint: Some("e".into()),
        message: "m".into(),
    };
    assert_snapshot!(lines(&[
        ("wish", hex(&EventsWish { after: 300, since_ms: 7, most: 512 })),
        ("told", hex(&EventsTold { missed: true, more: false, events: vec![event] })),
    ]));
}

#[test]
fn what_is_told_of_ways_has_the_bytes_it_always_had() {
    let way = WayTold {
        peer: [1; 16],
        network: *NET.as_bytes(),
        verdict: 2,
        encrypted: true,
        size: 1450,
        carries: 1400,
        since_ms: 300,
        heard_ms: Some(7),
        sent: 64,
        lost: 3,
        what: "w".into(),
        hint: "h".into(),
    };
    assert_snapshot!(lines(&[("told", hex(&WaysTold { ways: vec![way] }))]));
}

#[test]
fn what_is_told_of_drops_has_the_bytes_it_always_had() {
    let sum = DropTold { reason: "r".into(), network: None, endpoint: None, count: 300 };
    let of_port = DropTold {
        reason: "mac".into(),
        network: Some(*NET.as_bytes()),
        endpoint: Some("e".into()),
        count: 1,
    };
    assert_snapshot!(lines(&[("told", hex(&DropsTold { age_ms: 300, drops: vec![sum, of_port] }))]));
}

#[test]
fn each_question_about_a_path_has_the_bytes_it_always_had() {
    let errand = TraceErrand {
        network: *NET.as_bytes(),
        here: Some("c1".into()),
        node: [1; 16],
        there: Some("c2".into()),
        cast: 2,
        group: Some([239, 1, 1, 1].into()),
        inward: true,
        port: Some(80),
    };
    let wrong = vec![("what".into(), "hint".into(), 1)];
    let found = Traced { hops: vec![TracedHop { part: "fdb".into(), found: "none".into(), wrong }] };
    assert_snapshot!(lines(&[("errand", hex(&errand)), ("found", hex(&found))]));
}

#[test]
fn each_question_about_a_capture_has_the_bytes_it_always_had() {
    let ask = CaptureAsk {
        number: 300,
        network: *NET.as_bytes(),
        endpoint: Some("c1".into()),
        filter: "udp".into(),
        snaplen: 96,
    };
    let captured = Captured { packets: vec![(1_000_001, 60, vec![7, 8])], lost: 3, end: "gone".into() };
    assert_snapshot!(lines(&[("ask", hex(&ask)), ("captured", hex(&captured))]));
}

#[test]
fn each_question_about_loans_has_the_bytes_it_always_had() {
    let present = PresentLoan { network: NET, range: "10.0.0.20-10.0.0.23".parse().unwrap(), to: NODE };
    let loan = Loan::of(&present);
    let subnet = ([10, 0, 0, 0].into(), 24);
    let wish = LoanWish { number: 300, network: *NET.as_bytes(), subnet, wanted: 4 };
    let range = Some((present.range.first(), present.range.last()));
    let held = LoansHeld { ledger: 7, borrowed: loans(&[(300, present)].into()) };
    assert_snapshot!(lines(&[
        ("lend", hex(&wish)),
        ("lent", hex(&LoanAnswer { range, why: String::new() })),
        ("not lent", hex(&LoanAnswer { range: None, why: "no".into() })),
        ("take back", hex(&300_u64)),
        ("held", hex(&held)),
        ("remember, narrow", hex(&(300_u64, loan))),
    ]));
}
