//! What is said for others, and what their questions tell.

use super::*;
use lanmesh_model::Found;

const B: &str = "10.10.0.3:5353";
const HERE: Destination = Destination::Here(Family::V4);
const GROUP: Destination = Destination::Group(Family::V4);

fn answers(sent: &[Sent]) -> Vec<Record> {
    sent.iter().flat_map(|(_, message)| message.answers.clone()).collect()
}

fn after(sent: Vec<(u64, Sent)>) -> Vec<Sent> {
    sent.into_iter().map(|(_, sent)| sent).collect()
}

fn addresses(records: &[Record]) -> Vec<std::net::IpAddr> {
    records.iter().filter_map(|record| found::address(&record.data)).collect()
}

#[test]
fn a_dead_nodes_records_are_taken_back_twice_from_this_nodes_endpoints_and_then_it_is_asked_who_is_left() {
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    let first = bench.remotes([]);
    let gone = answers(&first);
    assert_eq!(gone.len(), records(&far()).len());
    assert!(first.iter().all(|(to, _)| *to == HERE), "{first:?}");
    // The bit would take with it what others have under the same name.
    assert!(gone.iter().all(|record| record.ttl == 0 && !record.mdns_cache_flush), "{gone:?}");
    let second = after(bench.wait(150));
    assert_eq!((answers(&second), second[0].0), (gone, HERE));
    let asked = bench.wait(60_000);
    let [(at, (to, message))] = &asked[..] else { panic!("{asked:?}") };
    assert!((*at, *to) == (50, GROUP) && message.metadata.message_type == MessageType::Query, "{asked:?}");
    let names: Vec<_> =
        message.queries.iter().map(|query| format!("{} {}", query.name, query.query_type)).collect();
    assert_eq!(names, ["_x._tcp.local. PTR", "far.local. A"]);
}

#[test]
fn only_one_of_those_that_are_left_asks() {
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    let lower = || remote(1, [endpoint("z", 20)], []);
    bench.remotes([lower(), remote(9, [endpoint("far", 9)], far())]);
    bench.wait(5000);
    let mut sent = bench.remotes([lower()]);
    sent.extend(after(bench.wait(60_000)));
    assert!(sent.len() == 2 && sent.iter().all(|(to, _)| *to == HERE), "{sent:?}");
}

#[test]
fn what_somebody_who_lives_says_too_is_not_taken_back() {
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    let lives = || {
        // The same record, another address of the same name, and the same type.
        let facts = [host("z", "both", 30), host("y", "far", 20), service("y", "Other", "_x._tcp", "far")];
        remote(10, [endpoint("z", 30), endpoint("y", 20)], facts)
    };
    let dies = far().into_iter().chain([host("w", "both", 30)]);
    bench.remotes([remote(9, [endpoint("far", 9), endpoint("w", 31)], dies), lives()]);
    bench.wait(5000);
    let gone = answers(&bench.remotes([lives()]));
    assert_eq!(addresses(&gone), [address(9)], "{gone:?}");
    assert!(gone.iter().all(|record| Some(&record.name) != names::types().as_ref()), "{gone:?}");
}

#[test]
fn one_that_speaks_again_is_not_taken_back_a_second_time() {
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    bench.remotes([]);
    // It has moved here.
    let moved = BTreeMap::from([(name("a"), local("a", 2)), (name("far"), local("far", 9))]);
    bench.engine.set_local(bench.now, moved);
    let speaks = Response { answers: records(&far()), additionals: Vec::new() }.encode(None).remove(0);
    bench.packet("10.10.0.9:5353", true, &speaks);
    let sent = bench.wait(150);
    assert!(sent.iter().all(|(_, (_, message))| message.answers.iter().all(|r| r.ttl > 0)), "{sent:?}");
}

#[test]
fn a_node_that_is_back_is_announced_here_and_what_it_takes_back_then_is_taken_back() {
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    bench.remotes([]);
    bench.wait(5000);
    bench.remotes([remote(9, [endpoint("far", 9)], far())]);
    let sent = bench.wait(3000);
    let [(1000, (HERE, message))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(message.answers.len(), records(&far()).len());
    let gone = answers(&bench.remotes([remote(9, [endpoint("far", 9)], far().into_iter().take(1))]));
    assert!(gone.len() == 4 && gone.iter().all(|record| record.ttl == 0), "{gone:?}");
    assert!(addresses(&gone).is_empty());
    // Later its own endpoints say such things.
    bench.wait(20_000);
    assert!(bench.remotes([remote(9, [endpoint("far", 9)], [])]).is_empty());
}

/// `a` announces a service of which the rest has to be asked for.
fn half_a_service(bench: &mut Bench) {
    let facts = [service("a", "Near", "_x._tcp", "a")];
    let pointer: Vec<_> = records(&facts).into_iter().take(1).collect();
    let response = Response { answers: pointer, additionals: Vec::new() }.encode(None).remove(0);
    bench.packet(A, true, &response);
    let alone = bench.wait(150);
    assert!(alone.iter().any(|(_, (to, _))| *to == Destination::Unicast(A.parse().unwrap())), "{alone:?}");
}

/// What is asked of everybody within the next two seconds.
fn asked(bench: &mut Bench) -> Vec<String> {
    let sent = bench.wait(1900).into_iter().filter(|(_, (to, _))| *to == GROUP);
    let queries = sent.flat_map(|(_, (_, message))| message.queries);
    queries.map(|query| query.query_type.to_string()).collect()
}

#[test]
fn what_somebody_else_has_just_asked_is_not_asked_again() {
    let instance = || query(names::instance("Near", "_x._tcp"), RecordType::SRV);
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    half_a_service(&mut bench);
    bench.ask(B, instance());
    assert_eq!((asked(&mut bench), bench.engine.counters().unasked), (vec!["TXT".to_owned()], 1));
    // Its owner does not answer itself, and who asks for an answer to itself alone tells nobody.
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    half_a_service(&mut bench);
    bench.ask(A, instance());
    let mut alone = instance();
    alone.queries[0].mdns_unicast_response = true;
    bench.ask(B, alone);
    // Nor does it help that others ask who know more, and will be told less.
    let known = records(&[service("a", "Near", "_x._tcp", "elsewhere")]);
    let known = known.into_iter().filter(|record| record.record_type() == RecordType::SRV).collect();
    bench.ask(B, Questions { known, ..instance() });
    let mut both = asked(&mut bench);
    both.sort();
    assert_eq!((both, bench.engine.counters().unasked), (vec!["SRV".to_owned(), "TXT".to_owned()], 0));
}

/// `a` has announced a service; whether it is still known, and how many records are doubted.
fn whole_service(bench: &mut Bench) -> Vec<u8> {
    let facts = [host("a", "a", 2), service("a", "Near", "_y._tcp", "a")];
    let response = Response { answers: records(&facts), additionals: Vec::new() }.encode(None).remove(0);
    bench.packet(A, true, &response);
    bench.wait(2000);
    response
}

fn known(bench: &Bench) -> (bool, u64) {
    let near = ZeroconfKey::service("Near", "_y._tcp");
    (bench.engine.registry().offers.contains_key(&near), bench.engine.counters().doubted)
}

fn near() -> Questions {
    query(names::kind("_y._tcp"), RecordType::PTR)
}

#[test]
fn who_does_not_answer_others_twice_is_asked_and_forgotten_after_ten_seconds() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    whole_service(&mut bench);
    bench.ask(B, near());
    // Nobody has to answer the same again within a second.
    bench.wait(500);
    bench.ask(B, near());
    bench.wait(20_000);
    assert_eq!(known(&bench), (true, 0), "once is not enough");
    let asked = bench.ask(B, near());
    assert_eq!(known(&bench), (true, 1));
    assert!(asked.iter().any(|(to, _)| *to == Destination::Unicast(A.parse().unwrap())), "{asked:?}");
    bench.wait(9_000);
    assert_eq!(known(&bench), (true, 1));
    bench.wait(1_100);
    assert_eq!(known(&bench), (false, 1));
}

#[test]
fn who_answers_in_between_or_need_not_answer_is_not_forgotten() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let response = whole_service(&mut bench);
    for _ in 0..20 {
        bench.ask(B, near());
        bench.packet(A, true, &response);
        bench.wait(1_500);
    }
    assert_eq!(known(&bench), (true, 0));
    // Known already; asked for by the owner; by a resolver that is answered alone; by who is not done yet.
    let pointer: Vec<_> = records(&[service("a", "Near", "_y._tcp", "a")]).into_iter().take(1).collect();
    let mut partial = near().encode().remove(0);
    partial[2] |= 2;
    for _ in 0..6 {
        bench.ask(B, Questions { known: pointer.clone(), ..near() });
        bench.ask(A, near());
        bench.packet("10.10.0.3:40000", true, &near().encode().remove(0));
        bench.packet(B, true, &partial);
        bench.wait(1_500);
    }
    assert_eq!(known(&bench), (true, 0));
    // It was slow, and answers the agent.
    for _ in 0..2 {
        bench.ask(B, near());
        bench.wait(1_500);
    }
    assert_eq!(known(&bench), (true, 1));
    bench.packet(A, false, &response);
    bench.wait(30_000);
    assert_eq!(known(&bench), (true, 1));
}

#[test]
fn an_answer_that_somebody_else_gives_for_as_long_is_not_given_again() {
    for (ttl, given) in [(4500, 0), (4499, 1)] {
        let mut bench = Bench::new(ZeroconfMode::Proxy);
        let mut told: Vec<_> = records(&far()).into_iter().take(2).collect();
        assert!(matches!(far()[1].found, Found::Service(_)) && told[1].record_type() == RecordType::PTR);
        told[1].ttl = ttl;
        bench.ask(A, pointer());
        let response =
            Response { answers: told.split_off(1), additionals: Vec::new() }.encode(None).remove(0);
        bench.packet(B, true, &response);
        let sent = bench.wait(1000);
        let given_by_us = |(_, (_, m)): &&(u64, Sent)| m.metadata.message_type == MessageType::Response;
        assert_eq!(sent.iter().filter(given_by_us).count(), given, "{sent:?}");
    }
}
