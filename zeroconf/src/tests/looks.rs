//! What is asked on another node reaches who can look.

use super::*;

fn looks(bench: &mut Bench, questions: Questions) -> Vec<(NodeId, Vec<Sought>)> {
    let mut looks = Vec::new();
    for bytes in questions.encode() {
        let arrival = Arrival { from: A.parse().unwrap(), multicast: true, port: None };
        for output in bench.engine.packet(bench.now, &arrival, &bytes) {
            if let Output::Look { node, sought } = output {
                looks.push((node, sought));
            }
        }
    }
    looks
}

#[test]
fn who_has_what_is_asked_for_is_told_once_in_a_second_and_nobody_else() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let srv = || query(names::instance("Far thing", "_x._tcp"), RecordType::SRV);
    let sought =
        Sought { name: [&b"Far thing"[..], b"_x", b"_tcp", b"local"].map(<[u8]>::to_vec).into(), kind: 33 };
    assert_eq!(looks(&mut bench, srv()), [(node(9), vec![sought.clone()])]);
    assert!(looks(&mut bench, srv()).is_empty());
    bench.wait(1000);
    assert_eq!(looks(&mut bench, srv()), [(node(9), vec![sought])]);
    // What is known need not be answered, and what nobody has is asked of nobody.
    bench.wait(1000);
    let known =
        records(&far()).into_iter().filter(|record| record.record_type() == RecordType::PTR).collect();
    assert!(looks(&mut bench, Questions { known, ..pointer() }).is_empty());
    assert!(looks(&mut bench, query(names::host("nobody"), RecordType::A)).is_empty());
    let mut bench = Bench::new(ZeroconfMode::Transparent);
    assert!(looks(&mut bench, srv()).is_empty());
}

#[test]
fn however_much_is_asked_a_second_has_an_end() {
    let mut bench = Bench::new(ZeroconfMode::Proxy);
    let many: Vec<_> = (0..500).map(|i| service("far", &format!("s{i}"), "_x._tcp", "far")).collect();
    bench.remotes([remote(9, [endpoint("far", 9)], far().into_iter().chain(many))]);
    bench.wait(10_000);
    let mut told = 0;
    for i in 0..500 {
        let questions = query(names::instance(&format!("s{i}"), "_x._tcp"), RecordType::SRV);
        told += looks(&mut bench, questions).iter().map(|(_, sought)| sought.len()).sum::<usize>();
    }
    assert_eq!(told, 32);
}

#[test]
fn what_is_asked_for_twice_and_not_told_is_over_in_ten_seconds_and_what_is_told_stays() {
    for answers in [true, false] {
        let mut bench = Bench::new(ZeroconfMode::Proxy);
        let mine = [host("a", "a", 2), service("a", "Mine", "_y._tcp", "a")];
        let say = |bench: &mut Bench| {
            for bytes in (Response { answers: records(&mine), additionals: Vec::new() }).encode(None) {
                bench.packet(A, true, &bytes);
            }
        };
        say(&mut bench);
        bench.wait(5_000);
        let has = |bench: &Bench| {
            bench.engine.registry().offers.contains_key(&ZeroconfKey::service("Mine", "_y._tcp"))
        };
        let sought =
            [Sought { name: [&b"mine"[..], b"_y", b"_tcp", b"local"].map(<[u8]>::to_vec).into(), kind: 33 }];
        for _ in 0..3 {
            assert!(has(&bench));
            let asked = read(bench.engine.look(bench.now, &sought));
            assert!(asked.iter().any(|(to, _)| matches!(to, Destination::Unicast(_))), "it is asked itself");
            if answers {
                say(&mut bench);
            }
            bench.wait(1_100);
        }
        bench.wait(9_500);
        assert_eq!(has(&bench), answers);
    }
}
