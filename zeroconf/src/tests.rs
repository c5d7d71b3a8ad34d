//! What RFC 6762 asks of a responder, one by one.

mod contests;
mod looks;
mod others;
mod uncarried;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::{Record, RecordType};

use super::codec::{Questions, Response};
use super::read::decode;
use super::testing::{address, endpoint, host, local, name, node, remote, service};
use super::*;
use lanmesh_model::{NodeId, ZeroconfFact, ZeroconfKey, ZeroconfMode};

/// An engine in proxy mode with the endpoint `a` at 10.10.0.2, and `far` elsewhere, with a host and a service.
struct Bench {
    engine: Engine,
    now: Duration,
}

type Sent = (Destination, Message);

fn far() -> Vec<ZeroconfFact> {
    vec![host("far", "far", 9), service("far", "Far thing", "_x._tcp", "far")]
}

impl Bench {
    fn new(mode: ZeroconfMode) -> Self {
        let config = Config {
            mode,
            node: node(5),
            own: BTreeSet::from([[10, 10, 0, 1].into()]),
            subnets: vec!["10.10.0.0/24".parse().unwrap()],
            any_address: false,
            families: BTreeSet::from([Family::V4]),
            seed: 7,
        };
        let mut bench = Self { engine: Engine::new(config, Facts::new()), now: Duration::ZERO };
        bench
            .engine
            .set_local(bench.now, BTreeMap::from([(name("a"), local("a", 2)), (name("b"), local("b", 3))]));
        bench.remotes([remote(9, [endpoint("far", 9)], far())]);
        // Until all announcements are over.
        bench.wait(10_000);
        bench
    }

    fn remotes(&mut self, nodes: impl IntoIterator<Item = (NodeId, RemoteNode)>) -> Vec<Sent> {
        read(self.engine.set_remote(self.now, nodes.into_iter().collect()))
    }

    fn wait(&mut self, ms: u64) -> Vec<(u64, Sent)> {
        let (start, end) = (self.now, self.now + Duration::from_millis(ms));
        let mut sent = Vec::new();
        while let Some(next) = self.engine.deadline().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            let after = (self.now - start).as_millis() as u64;
            sent.extend(read(self.engine.poll(self.now)).into_iter().map(|sent| (after, sent)));
        }
        self.now = end;
        sent
    }

    fn packet(&mut self, from: &str, multicast: bool, bytes: &[u8]) -> Vec<Sent> {
        let arrival = Arrival { from: from.parse().unwrap(), multicast, port: None };
        read(self.engine.packet(self.now, &arrival, bytes))
    }

    fn ask(&mut self, from: &str, questions: Questions) -> Vec<Sent> {
        let mut sent = Vec::new();
        for bytes in questions.encode() {
            sent.extend(self.packet(from, true, &bytes));
        }
        sent
    }
}

fn read(outputs: Vec<Output>) -> Vec<Sent> {
    let packet = |output| match output {
        Output::Send { to, bytes } => Some((to, decode(&bytes).unwrap().message)),
        Output::Publish(_) | Output::Contested(_) | Output::Uncarried(_) | Output::Look { .. } => None,
    };
    outputs.into_iter().filter_map(packet).collect()
}

fn query(name: Option<hickory_proto::rr::Name>, kind: RecordType) -> Questions {
    Questions { queries: vec![Query::query(name.unwrap(), kind)], ..Questions::default() }
}

fn pointer() -> Questions {
    query(names::kind("_x._tcp"), RecordType::PTR)
}

fn records(facts: &[ZeroconfFact]) -> Vec<Record> {
    facts.iter().flat_map(|fact| found::records(&fact.found)).collect()
}

const A: &str = "10.10.0.2:5353";

#[test]
fn a_shared_record_is_answered_after_20_to_120_ms_with_all_that_belongs_to_it() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    assert!(bench.ask(A, pointer()).is_empty());
    let sent = bench.wait(1000);
    let [(after, (to, message))] = &sent[..] else { panic!("{sent:?}") };
    assert!((20..=120).contains(after), "{after}");
    assert_eq!((*to, message.answers.len()), (Destination::Group(Family::V4), 1));
    let flush: Vec<_> = message
        .additionals
        .iter()
        .map(|r| (r.record_type().to_string(), r.mdns_cache_flush, r.ttl))
        .collect();
    let expected = [("SRV", 120), ("TXT", 4500), ("A", 120), ("NSEC", 120)];
    for (kind, ttl) in expected {
        assert!(flush.contains(&(kind.to_owned(), true, ttl)), "{kind} in {flush:?}");
    }
    assert_eq!((message.answers[0].mdns_cache_flush, message.answers[0].ttl), (false, 4500));
}

#[test]
fn a_unique_record_is_answered_at_once_and_its_absence_denied() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let sent = bench.ask(A, query(names::host("FAR"), RecordType::A));
    assert_eq!(found::address(&sent[0].1.answers[0].data), Some(address(9)));
    bench.wait(2000);
    let sent = bench.ask(A, query(names::host("far"), RecordType::AAAA));
    assert_eq!(sent[0].1.answers[0].record_type(), RecordType::NSEC);
    // Of a name that is nobody's here nothing is said.
    assert!(bench.ask(A, query(names::host("nobody"), RecordType::AAAA)).is_empty());
    assert!(bench.ask(A, query(names::host("a"), RecordType::A)).is_empty());
}

/// What an endpoint announces of itself, its reverse name included, is all that is said for it. What is declared has one.
#[test]
fn an_address_leads_back_to_a_name_where_somebody_says_so() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let ask = || query(Some(names::reverse(address(9))), RecordType::PTR);
    assert!(bench.ask(A, ask()).is_empty());
    let declared = far().into_iter().map(|fact| ZeroconfFact { declared: true, ..fact });
    bench.remotes([remote(9, [endpoint("far", 9)], declared)]);
    bench.wait(2000);
    assert_eq!(bench.ask(A, ask())[0].1.answers.len(), 1);
}

#[test]
fn a_record_is_multicast_once_in_a_second_however_many_ask() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    for _ in 0..50 {
        bench.ask(A, query(names::host("far"), RecordType::A));
        bench.ask("10.10.0.3:5353", query(names::host("far"), RecordType::A));
        bench.wait(100);
    }
    let before = bench.engine.counters().sent;
    assert!((5..=8).contains(&(before - Bench::new(ZeroconfMode::Proxy).engine.counters().sent)), "{before}");
}

/// Avahi takes the first address that it reads, and one of a link is none that distcc could connect to.
#[test]
fn the_addresses_of_a_host_are_told_together_those_of_ipv4_first() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let kinds = |sent: &[Sent]| {
        let addresses = |(_, m): &Sent| {
            let all = m.answers.iter().chain(&m.additionals).map(Record::record_type);
            all.filter(|kind| matches!(kind, RecordType::A | RecordType::AAAA)).collect::<Vec<_>>()
        };
        sent.iter().map(addresses).filter(|kinds| kinds.contains(&RecordType::AAAA)).collect::<Vec<_>>()
    };
    let both = vec![RecordType::A, RecordType::AAAA];
    // Somebody has just been told the one address when the other is found.
    assert_eq!(bench.ask(A, query(names::host("far"), RecordType::A)).len(), 1);
    bench.wait(300);
    let mut facts = far();
    if let lanmesh_model::Found::Host(host) = &mut facts[0].found {
        host.addresses.insert("fe80::9".parse().unwrap());
    }
    let mut told: Vec<(u64, Sent)> = Vec::new();
    told.extend(bench.remotes([remote(9, [endpoint("far", 9)], facts)]).into_iter().map(|sent| (0, sent)));
    // Who asks meanwhile waits for both.
    told.extend(bench.ask(A, query(names::host("far"), RecordType::AAAA)).into_iter().map(|sent| (0, sent)));
    told.extend(bench.wait(4000));
    let (times, sent): (Vec<u64>, Vec<Sent>) = told.into_iter().unzip();
    let kinds_told = kinds(&sent);
    assert!(kinds_told.len() >= 2 && kinds_told.iter().all(|kinds| *kinds == both), "{kinds_told:?}");
    assert!(
        times.iter().zip(&sent).all(|(at, sent)| kinds(std::slice::from_ref(sent)).is_empty() || *at >= 700)
    );
    for asked in [RecordType::AAAA, RecordType::A, RecordType::ANY] {
        assert_eq!(kinds(&bench.ask(A, query(names::host("far"), asked))), std::slice::from_ref(&both));
        bench.wait(2000);
    }
    bench.ask(A, pointer());
    let sent: Vec<_> = bench.wait(1000).into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(kinds(&sent), [both]);
}

#[test]
fn what_is_known_is_not_answered_also_when_it_follows_in_another_packet() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let known: Vec<_> =
        records(&far()).into_iter().filter(|r| r.name == names::kind("_x._tcp").unwrap()).collect();
    assert_eq!(known.len(), 1);
    bench.ask(A, Questions { known: known.clone(), ..pointer() });
    assert!(bench.wait(2000).is_empty());
    // Less than half of its time is left: it is told again.
    let mut old = known.clone();
    old[0].ttl = 2249;
    bench.ask(A, Questions { known: old, ..pointer() });
    assert_eq!(bench.wait(2000).len(), 1);
    // The first packet says that more follows; what follows has no question.
    let [mut first, second] = [pointer().encode().remove(0), {
        let mut message = Message::new(0, MessageType::Query, hickory_proto::op::OpCode::Query);
        message.answers = known;
        message.to_vec().unwrap()
    }];
    first[2] |= 2;
    bench.packet(A, true, &first);
    assert!(bench.wait(200).is_empty());
    bench.packet(A, true, &second);
    assert!(bench.wait(2000).is_empty());
    bench.packet(A, true, &first);
    let sent = bench.wait(2000);
    assert!(sent.len() == 1 && (400..=500).contains(&sent[0].0), "{sent:?}");
}

#[test]
fn who_asks_for_a_unicast_answer_gets_one_if_everybody_has_heard_it_lately() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let mut question = query(names::host("far"), RecordType::A);
    question.queries[0].mdns_unicast_response = true;
    let sent = bench.ask(A, question);
    assert_eq!(sent[0].0, Destination::Unicast(A.parse().unwrap()));
    bench.wait(60_000);
    let mut question = query(names::host("far"), RecordType::A);
    question.queries[0].mdns_unicast_response = true;
    assert_eq!(bench.ask(A, question)[0].0, Destination::Group(Family::V4));
}

#[test]
fn a_plain_resolver_gets_a_plain_answer() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let mut bytes = query(names::host("far"), RecordType::A).encode().remove(0);
    bytes[..2].copy_from_slice(&[0xab, 0xcd]);
    let sent = bench.packet("10.10.0.2:40000", true, &bytes);
    let (to, message) = &sent[0];
    assert_eq!(*to, Destination::Unicast("10.10.0.2:40000".parse().unwrap()));
    assert_eq!((message.metadata.id, message.queries.len()), (0xabcd, 1));
    assert!(message.answers.iter().all(|r| r.ttl == 10 && !r.mdns_cache_flush));
}

#[test]
fn nothing_is_said_in_answer_to_a_response_nor_to_an_agent() {
    for mode in [ZeroconfMode::Proxy, ZeroconfMode::Transparent] {
        let mut bench = Bench::new(mode);
        let facts = [host("a", "a", 2), service("a", "Near", "_x._tcp", "a")];
        let response = Response { answers: records(&facts), additionals: Vec::new() }.encode(None).remove(0);
        assert!(bench.packet(A, true, &response).is_empty());
        assert!(bench.wait(60_000).iter().all(|(_, (_, m))| m.metadata.message_type == MessageType::Query));
        assert!(bench.engine.registry().offers.contains_key(&ZeroconfKey::service("Near", "_x._tcp")));
        let received = bench.engine.counters().received;
        assert!(bench.packet("10.10.0.1:5353", true, &pointer().encode().remove(0)).is_empty());
        assert!(bench.wait(1000).is_empty());
        assert_eq!(bench.engine.counters().received, received);
    }
}

#[test]
fn what_is_spoofed_is_counted_and_not_believed() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let lies = [
        (A, host("a", "far", 2), Discard::ForeignName),
        (A, host("a", "b", 2), Discard::ForeignName),
        (A, service("a", "Lie", "_x._tcp", "far"), Discard::ForeignName),
        (A, host("a", "mine", 9), Discard::ForeignAddress),
        ("10.10.0.77:5353", host("a", "a", 2), Discard::UnknownSender),
        ("192.0.2.1:5353", host("a", "a", 2), Discard::UnknownSender),
        ("10.10.0.2:5354", host("a", "a", 2), Discard::WrongPort),
        ("10.10.0.9:5353", host("far", "far", 9), Discard::Crossed),
    ];
    // That there are services of a type somewhere is no lie.
    let registry = |bench: &Bench| {
        let mut offers = bench.engine.registry().offers;
        offers.retain(|key, _| !matches!(key, ZeroconfKey::Records { name, .. } if name[0] == b"_services"));
        offers
    };
    let before = registry(&bench);
    for (from, lie, why) in lies {
        let count = |bench: &Bench| bench.engine.counters().discarded.get(&why).copied().unwrap_or_default();
        let counted = count(&bench);
        let bytes = Response { answers: records(&[lie]), additionals: Vec::new() }.encode(None).remove(0);
        bench.packet(from, true, &bytes);
        bench.wait(500);
        assert_eq!(count(&bench), counted + 1, "{why:?}");
        assert_eq!(registry(&bench), before, "{why:?}");
    }
}

#[test]
fn a_probe_for_a_name_of_another_node_is_answered_once() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let proposed: Vec<_> = records(&[host("a", "far", 2)]);
    let probe = || Questions { proposed: proposed.clone(), ..query(names::host("far"), RecordType::ANY) };
    let sent = bench.ask(A, probe());
    assert_eq!(sent.len(), 1);
    assert_eq!(found::address(&sent[0].1.answers[0].data), Some(address(9)));
    // The same probe by another way.
    assert!(bench.ask(A, probe()).is_empty() && bench.wait(200).is_empty());
    // One that wants the name for what it is for is let have it.
    let same = Questions {
        proposed: records(&[host("far", "far", 9)]),
        ..query(names::host("far"), RecordType::ANY)
    };
    bench.wait(2000);
    assert!(bench.ask(A, same).is_empty() && bench.wait(2000).is_empty());
}

#[test]
fn what_goes_elsewhere_is_said_goodbye_to_and_what_changes_is_announced() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let mut facts = far();
    if let lanmesh_model::Found::Service(service) = &mut facts[1].found {
        service.txt = vec![b"new".to_vec()];
    }
    bench.remotes([remote(9, [endpoint("far", 9)], facts)]);
    let told = bench.wait(1500);
    let fresh =
        |(_, (_, m)): &(u64, Sent)| m.answers.iter().any(|r| r.ttl > 0 && r.record_type() == RecordType::TXT);
    assert_eq!(told.iter().filter(|sent| fresh(sent)).count(), 2);
    let sent = bench.remotes([]);
    let gone: Vec<_> = sent.iter().flat_map(|(_, m)| &m.answers).collect();
    assert!(gone.len() >= 5 && gone.iter().all(|record| record.ttl == 0), "{gone:?}");
    assert!(bench.engine.registry().offers.is_empty());
    assert!(bench.ask(A, pointer()).is_empty());
    let again = bench.wait(1000);
    let old =
        |(_, (_, m)): &(u64, Sent)| m.answers.len() >= 5 && m.answers.iter().all(|record| record.ttl == 0);
    assert!(again.len() == 1 && again.iter().all(old), "it is said once more: {again:?}");
}

#[test]
fn a_silent_death_is_noticed_and_a_living_host_is_kept() {
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    let facts = [host("a", "a", 2)];
    let response = Response { answers: records(&facts), additionals: Vec::new() }.encode(None).remove(0);
    bench.packet(A, true, &response);
    let asked = bench.wait(98_500);
    assert!(asked.iter().any(|(_, (to, _))| *to == Destination::Unicast(A.parse().unwrap())), "{asked:?}");
    bench.packet(A, false, &response);
    bench.wait(115_000);
    assert!(bench.engine.registry().offers.contains_key(&ZeroconfKey::Host("a".into())));
    bench.wait(6_000);
    assert!(!bench.engine.registry().offers.contains_key(&ZeroconfKey::Host("a".into())));
}

#[test]
fn one_who_floods_is_cut_off_and_others_are_not() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    for _ in 0..2000 {
        bench.packet(A, true, &pointer().encode().remove(0));
    }
    assert!(bench.engine.counters().discarded[&Discard::TooFast] > 1500);
    bench.wait(200);
    let b = SocketAddr::new(address(3), PORT).to_string();
    assert!(
        !bench.ask(&b, query(names::host("far"), RecordType::A)).is_empty() || !bench.wait(1100).is_empty()
    );
}

#[test]
fn off_takes_no_part_but_knows_what_is_declared() {
    let config = Config {
        mode: ZeroconfMode::Off,
        node: node(1),
        own: BTreeSet::new(),
        subnets: vec!["10.10.0.0/24".parse().unwrap()],
        any_address: false,
        families: BTreeSet::from([Family::V4]),
        seed: 1,
    };
    let mut engine = Engine::new(config, Facts::new());
    let mut declared = endpoint("a", 2);
    declared.services = vec!["_x._tcp:1".parse().unwrap()];
    let out = engine.set_local(Duration::ZERO, BTreeMap::from([(name("a"), OwnEndpoint::from(&declared))]));
    assert!(matches!(&out[..], [Output::Publish(facts)] if facts.len() == 2), "{out:?}");
    let arrival = Arrival { from: A.parse().unwrap(), multicast: true, port: None };
    assert!(engine.packet(Duration::ZERO, &arrival, &pointer().encode().remove(0)).is_empty());
    assert_eq!(engine.deadline(), None);
}

/// What avahi-daemon 0.8 sent as the host `cc1` with a distcc service: three announcements and the goodbye.
const AVAHI: &str = include_str!("avahi.txt");

#[test]
fn what_avahi_sends_is_understood() {
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    let mut cc1 = local("cc1", 2);
    cc1.mac = "c6:38:ce:53:53:5f".parse().unwrap();
    bench.engine.set_local(bench.now, BTreeMap::from([(name("cc1"), cc1)]));
    bench.wait(10_000);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let mut packets: Vec<Vec<u8>> =
        AVAHI.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect();
    let goodbye = packets.pop().unwrap();
    for packet in packets {
        bench.packet(A, true, &packet);
    }
    bench.wait(1000);
    let offers = bench.engine.registry().offers;
    let ZeroconfFact { found: lanmesh_model::Found::Service(distcc), .. } =
        &offers[&ZeroconfKey::service("distcc@cc1", "_distcc._tcp")].fact
    else {
        panic!("no service")
    };
    assert_eq!((distcc.host.as_str(), distcc.port, distcc.subtypes.len()), ("cc1", 3632, 1));
    assert_eq!(distcc.txt.iter().map(Vec::len).collect::<Vec<_>>(), [9, 6]);
    assert!(offers.contains_key(&ZeroconfKey::service("cc1 [c6:38:ce:53:53:5f]", "_workstation._tcp")));
    let ZeroconfFact { found: lanmesh_model::Found::Host(host), .. } =
        &offers[&ZeroconfKey::Host("cc1".into())].fact
    else {
        panic!("no host")
    };
    assert_eq!(host.addresses.len(), 2);
    let hinfo = ZeroconfKey::Records { name: vec![b"cc1".into(), b"local".into()], kind: 13, shared: None };
    assert!(offers.contains_key(&hinfo));
    assert_eq!(bench.engine.counters().discarded, BTreeMap::new());
    bench.packet(A, true, &goodbye);
    bench.wait(1200);
    assert_eq!(bench.engine.registry().offers.len(), 2, "only what is far is left");
}
