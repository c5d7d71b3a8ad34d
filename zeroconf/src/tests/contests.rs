//! What was declared for an endpoint is not given up to what another one announces, here or on another node.

use super::*;
use lanmesh_model::{Found, SeenService};

const B: &str = "10.10.0.3:5353";
const FARM: &str = "Build farm";

fn key() -> ZeroconfKey {
    ZeroconfKey::service(FARM, "_x._tcp")
}

/// The service, on a port and host of somebody else.
fn rival(endpoint: &str, number: u16) -> ZeroconfFact {
    let found = Found::Service(SeenService {
        instance: FARM.into(),
        kind: "_x._tcp".into(),
        subtypes: BTreeSet::new(),
        host: endpoint.into(),
        port: 1000 + number,
        priority: 0,
        weight: 0,
        txt: Vec::new(),
    });
    ZeroconfFact { endpoint: name(endpoint), declared: false, found }
}

/// `Build farm` is declared for `a`.
fn declare(bench: &mut Bench) -> Vec<Output> {
    let mut farm = endpoint("a", 2);
    farm.services = vec!["Build farm=_x._tcp:1".parse().unwrap()];
    let own = BTreeMap::from([(name("a"), OwnEndpoint::from(&farm)), (name("b"), local("b", 3))]);
    bench.engine.set_local(bench.now, own)
}

/// Everything that an endpoint announces of a rival, `times` with other data each, and what the engine does.
fn insist(bench: &mut Bench, from: &str, endpoint: &str, last: u8, times: u16) -> Vec<Output> {
    let mut out = Vec::new();
    for number in 0..times {
        let facts = [host(endpoint, endpoint, last), rival(endpoint, number)];
        let response = Response { answers: records(&facts), additionals: Vec::new() };
        for bytes in response.encode(None) {
            let arrival = Arrival { from: from.parse().unwrap(), multicast: true, port: None };
            out.extend(bench.engine.packet(bench.now, &arrival, &bytes));
        }
        let end = bench.now + Duration::from_millis(50);
        while let Some(next) = bench.engine.deadline().filter(|next| *next <= end) {
            bench.now = next.max(bench.now);
            out.extend(bench.engine.poll(bench.now));
        }
        bench.now = end;
    }
    out
}

fn contests(out: &[Output]) -> Vec<Contest> {
    out.iter()
        .filter_map(|output| if let Output::Contested(c) = output { Some(c.clone()) } else { None })
        .collect()
}

fn holder(bench: &Bench) -> (NodeId, String, bool) {
    let offer = bench.engine.registry().offers.remove(&key()).expect("it is there");
    (offer.node, offer.fact.endpoint.to_string(), offer.fact.declared)
}

fn stays(bench: &Bench) {
    assert_eq!(holder(bench), (node(5), "a".to_owned(), true));
    assert_eq!(bench.engine.counters().renamed, 0);
}

#[test]
fn an_endpoint_that_insists_gets_nothing_and_is_named_once_in_a_minute() {
    for (from, by, last, mode) in [
        (B, "b", 3, ZeroconfMode::Proxy),
        (B, "b", 3, ZeroconfMode::Transparent),
        ("10.10.0.9:5353", "far", 9, ZeroconfMode::Transparent),
    ] {
        let mut bench = Bench::new(mode);
        declare(&mut bench);
        // From the first probe on.
        let mut out = insist(&mut bench, from, by, last, 60);
        stays(&bench);
        bench.wait(2_000);
        out.extend(insist(&mut bench, from, by, last, 60));
        stays(&bench);
        assert_eq!(contests(&out), [Contest { key: key(), endpoint: name("a"), by: name(by) }], "{mode:?}");
        assert!(bench.engine.counters().contested >= 100);
        let answers =
            out.iter().filter(|output| matches!(output, Output::Send { to: Destination::Group(_), .. }));
        assert!(answers.count() < 30, "once in a second is enough");
        bench.wait(60_000);
        assert_eq!(contests(&insist(&mut bench, from, by, last, 20)).len(), 1, "and again after a minute");
        stays(&bench);
    }
}

#[test]
fn who_was_there_first_gives_way_too() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    insist(&mut bench, B, "b", 3, 3);
    bench.wait(5_000);
    assert_eq!(holder(&bench).1, "b");
    let out = declare(&mut bench);
    assert!(contests(&out).is_empty());
    let sent = bench.wait(5_000);
    assert!(!sent.is_empty());
    stays(&bench);
    assert!(bench.engine.counters().contested > 0);
}

#[test]
fn what_another_node_publishes_of_its_endpoint_gives_way_and_what_is_declared_there_keeps_its_place() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    // It is node 9, which is higher.
    bench.remotes([remote(9, [endpoint("far", 9)], [host("far", "far", 9), rival("far", 1)])]);
    declare(&mut bench);
    bench.wait(5_000);
    stays(&bench);
    assert!(bench.engine.counters().contested > 0);
    // The other way around: what endpoint `b` announces here.
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    insist(&mut bench, B, "b", 3, 1);
    bench.wait(5_000);
    let declared = ZeroconfFact { declared: true, ..rival("z", 1) };
    bench.remotes([remote(1, [endpoint("z", 20)], [host("z", "z", 20), declared])]);
    bench.wait(5_000);
    assert_eq!(holder(&bench), (node(1), "z".to_owned(), true));
}

#[test]
fn of_many_that_are_declared_under_one_name_each_gets_a_number_and_no_more_are_tried_than_there_are() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let all = (0..120).map(|n| {
        let number = if n == 0 { String::new() } else { format!(" ({})", n + 1) };
        let mut fact = ZeroconfFact { declared: true, ..rival("far", n) };
        let Found::Service(service) = &mut fact.found else { unreachable!("it is one") };
        service.instance = format!("{FARM}{number}");
        fact
    });
    let facts = [host("far", "far", 9)].into_iter().chain(all);
    bench.remotes([remote(9, [endpoint("far", 9)], facts)]);
    declare(&mut bench);
    bench.wait(5_000);
    // A hundred names are taken: it waits for one of them.
    assert_eq!((holder(&bench).1, bench.engine.counters().renamed), ("far".to_owned(), 0));
    bench.remotes([remote(9, [endpoint("far", 9)], [host("far", "far", 9)])]);
    bench.wait(61_000);
    stays(&bench);
}
