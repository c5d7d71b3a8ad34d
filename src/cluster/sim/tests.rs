//! What many nodes do, whatever the network does to them.

use super::*;
use crate::model::EndpointName;

/// Within this all nodes that start at once know of each other.
const TOGETHER: Duration = Duration::from_secs(20);

/// How long until every other node knows that one is dead, worst of several runs.
fn detection(n: usize, seeds: u64) -> (Duration, Duration) {
    let mut took = Vec::new();
    for seed in 0..seeds {
        let mut sim = Sim::new(n, seed);
        let together = sim.until(TOGETHER, Sim::all_alive).expect("come together");
        println!("{n} nodes, seed {seed}: all know of all after {together:?}");
        sim.run(SECOND + 37 * MS * seed as u32);
        sim.clear_events();
        let start = sim.now;
        sim.stop(n - 1);
        sim.run(6 * SECOND);
        let deaths = sim.deaths();
        assert_eq!(deaths.len(), n - 1, "seed {seed}: all learn of one death, and of no other");
        took.push(deaths.iter().map(|(_, at, _)| *at - start).max().unwrap());
    }
    took.sort();
    (took[took.len() / 2], took[took.len() - 1])
}

#[test]
fn a_dead_node_is_known_to_be_dead_everywhere_within_two_seconds() {
    for (n, seeds) in [(2, 20), (3, 40), (5, 20), (10, 20), (50, 4)] {
        let (median, worst) = detection(n, seeds);
        println!("{n} nodes: dead everywhere after {median:?}, at worst {worst:?}");
        assert!(worst <= 2 * SECOND, "{n} nodes: {worst:?}");
    }
}

/// For docs: `LANMESH_SIM_NODES=3,10,50 cargo test --lib -- --ignored --nocapture figures`.
#[test]
#[ignore = "prints figures and takes long"]
fn figures_of_larger_clusters() {
    let sizes = std::env::var("LANMESH_SIM_NODES").unwrap_or_else(|_| "3,10,50,200".to_owned());
    for n in sizes.split(',').map(|n| n.parse().unwrap()) {
        let (median, worst) = detection(n, if n > 200 { 1 } else { 5 });
        println!("{n} nodes: dead everywhere {median:?}, worst {worst:?}");
        let mut sim = Sim::new(n, 1);
        sim.until(TOGETHER, Sim::all_alive).expect("come together");
        sim.run(30 * SECOND);
        let sent =
            |sim: &Sim| sim.nodes.iter().map(|n| n.core.as_ref().unwrap().stats.bytes_out).sum::<u64>();
        let before = sent(&sim);
        sim.run(20 * SECOND);
        let quiet = (sent(&sim) - before) / 20 / n as u64;
        println!("{n} nodes: quiet {quiet} B/s sent by each");
    }
}

#[test]
fn with_a_third_of_all_datagrams_lost_nobody_is_given_up() {
    for (n, seed) in [(3, 1), (3, 2), (8, 3), (20, 4)] {
        let (mut sim, _) = quiet(n, seed);
        sim.loss = 0.3;
        sim.run(30 * SECOND);
        assert_eq!(sim.deaths(), [], "{n} nodes, seed {seed}");
    }
}

#[test]
fn an_endpoint_that_drains_and_goes_is_nowhere_seen_as_one_that_does_not_drain() {
    for seed in 0..5 {
        let (mut sim, net) = quiet(3, seed);
        let leaves = endpoint("x", 1);
        sim.with(0, |core, now| core.put_endpoint(net, &leaves, now)).unwrap();
        sim.with(0, |core, now| core.set_draining(net, &leaves.name, true, now)).unwrap();
        let drains = |sim: &Sim, n: usize| {
            let known = sim.view(n).networks[&net].draining.get(&id(0)).cloned();
            known.is_some_and(|names| names.contains(&leaves.name))
        };
        assert!(sim.until(5 * SECOND, |sim| drains(sim, 1) && drains(sim, 2)).is_some(), "seed {seed}");
        sim.with(0, |core, now| core.remove_endpoint(net, &leaves.name, now));
        // Each datagram of it comes by itself.
        for _ in 0..100 {
            sim.run(MS / 20);
            for n in 1..3 {
                assert!(!sees(&sim, n, net, "x") || drains(&sim, n), "seed {seed}: node {n}");
            }
        }
        let gone = |sim: &Sim| (1..3).all(|n| !sees(sim, n, net, "x") && !drains(sim, n));
        assert!(sim.until(5 * SECOND, gone).is_some(), "seed {seed}");
    }
}

#[test]
fn where_every_node_takes_part_one_that_starts_again_does_so_from_its_first_word() {
    let (mut sim, net) = quiet(3, 1);
    let spec = crate::model::ServiceSpec {
        addresses: vec![[10, 0, 0, 250].into()],
        publish: vec!["80:80".parse().unwrap()],
        publish_mode: crate::model::PublishMode::Mesh,
        ..Default::default()
    };
    sim.with(0, |core, now| {
        let records = core.service(net, "web".parse().unwrap(), Some(spec), now).unwrap();
        core.publish_records(records, now);
    });
    sim.run(SECOND);
    assert!(sim.view(2).everywhere().contains(&net));
    sim.stop(2);
    sim.start(2, BTreeMap::new());
    for _ in 0..1000 {
        sim.run(MS);
        for n in 0..3 {
            assert!(sim.view(n).nodes[&id(2)].networks.contains(&net), "node {n}");
        }
    }
}

#[test]
fn a_node_that_gets_the_processor_only_now_and_then_is_not_given_up() {
    for seed in 0..5 {
        let (mut sim, _) = quiet(4, seed);
        for _ in 0..100 {
            // Half a second of nothing, a moment of work.
            sim.nodes[2].paused = sim.now + 500 * MS;
            sim.run(520 * MS);
        }
        assert_eq!(sim.deaths(), [], "seed {seed}");
    }
}

#[test]
fn a_node_that_moves_to_another_address_is_found_there_and_given_up_by_nobody() {
    for (n, seed) in [(2, 1), (3, 2), (3, 3), (10, 4), (20, 5)] {
        let (mut sim, _) = quiet(n, seed);
        for (last, who) in [(1, 1), (2, 0), (3, 1)] {
            let moved: SocketAddr = ([10, 2, 0, last], 7979).into();
            sim.addresses[who] = moved;
            // What is sent to the old one is lost, and it takes the agent a moment to notice.
            sim.run(600 * MS);
            sim.with(who, |core, now| core.move_to(moved, 1400, now).unwrap());
            let known = |sim: &Sim| {
                (0..n).all(|at| {
                    let node = &sim.view(at).nodes[&id(who)];
                    (node.address, node.vtep, node.underlay_mtu) == (moved, moved.ip(), 1400)
                })
            };
            let took = sim.until(SECOND, known);
            assert!(took.is_some(), "{n} nodes, seed {seed}: known everywhere");
            sim.run(10 * SECOND);
            assert!(sim.all_alive(), "{n} nodes, seed {seed}");
            assert_eq!(sim.deaths(), [], "{n} nodes, seed {seed}");
        }
    }
}

#[test]
fn a_node_that_was_frozen_comes_back_by_itself_and_takes_nobody_for_dead() {
    for seed in 0..5 {
        let (mut sim, _) = quiet(5, seed);
        sim.nodes[2].paused = sim.now + 10 * SECOND;
        sim.run(10 * SECOND);
        assert_eq!(sim.deaths().len(), 4, "the others see it dead");
        sim.clear_events();
        let took = sim.until(5 * SECOND, Sim::all_alive);
        assert!(took.is_some_and(|took| took < SECOND), "seed {seed}: {took:?}");
        sim.run(10 * SECOND);
        assert_eq!(sim.deaths(), [], "seed {seed}");
        assert!(sim.all_alive() && sim.same(&[0, 1, 2, 3, 4]), "seed {seed}");
    }
}

#[test]
fn after_a_cut_of_any_length_both_sides_come_together_and_have_the_same_facts() {
    for (seed, length) in [(1, SECOND), (2, 10 * SECOND), (3, 120 * SECOND)] {
        let (mut sim, net) = quiet(6, seed);
        sim.side = vec![0, 0, 0, 1, 1, 1];
        sim.run(length / 2);
        sim.with(0, |core, now| core.put_endpoint(net, &endpoint("left", 1), now)).unwrap();
        sim.with(3, |core, now| core.put_endpoint(net, &endpoint("right", 1), now)).unwrap();
        let other = sim.with(4, |core, now| core.create_network(network("b", 2, 5), now)).unwrap().id;
        sim.with(1, |core, now| core.create_network(network("b", 3, 9), now)).unwrap();
        sim.run(length / 2);
        sim.side = vec![0; 6];
        let healed = |sim: &Sim| {
            sim.all_alive()
                && sim.same(&[0, 1, 2, 3, 4, 5])
                && (0..6).all(|n| sees(sim, n, net, "left") && sees(sim, n, net, "right"))
        };
        let took = sim.until(15 * SECOND, healed);
        let took = took.unwrap_or_else(|| panic!("seed {seed}: not healed; {:#?}", sim.view(0)));
        println!("cut of {length:?}: healed after {took:?}");
        for n in 0..6 {
            let view = sim.view(n);
            assert_eq!(
                view.network_named(&network("b", 2, 5).name).unwrap().spec.id,
                other,
                "the older owns it"
            );
            assert_eq!(view.networks.values().filter(|network| network.conflict).count(), 1);
        }
    }
}

#[test]
fn two_seconds_after_a_cut_everybody_is_there_with_what_changed_meanwhile() {
    let cuts = [
        (2, 10, true),
        (3, 3, true),
        (3, 10, true),
        (6, 3, false),
        (6, 10, false),
        (3, 30, true),
        (3, 120, true),
    ];
    for (seed, (n, length, alone)) in (0..2).flat_map(|seed| cuts.map(|cut| (seed, cut))) {
        let (mut sim, net) = quiet(n, seed);
        sim.run(37 * MS * seed as u32);
        sim.side = (0..n).map(|node| u8::from(if alone { node == n - 1 } else { node % 2 == 1 })).collect();
        sim.run(length * SECOND);
        for node in [0, n - 1] {
            let name = format!("new-{node}");
            sim.with(node, |core, now| core.put_endpoint(net, &endpoint(&name, 1), now)).unwrap();
        }
        sim.run(SECOND);
        sim.clear_events();
        sim.side = vec![0; n];
        let all = |sim: &Sim| {
            let names = ["new-0".to_owned(), format!("new-{}", n - 1)];
            sim.all_alive() && (0..n).all(|node| names.iter().all(|name| sees(sim, node, net, name)))
        };
        let took = sim.until(20 * SECOND, all).expect("it heals");
        assert!(took <= 2 * SECOND, "{n} nodes, seed {seed}, cut of {length} s: {took:?}");
        // What those who were away believe of the others is believed by nobody.
        sim.run(3 * SECOND);
        assert_eq!(sim.deaths(), [], "{n} nodes, seed {seed}, cut of {length} s");
    }
}

#[test]
fn an_index_that_two_managers_gave_during_a_cut_belongs_to_the_node_of_the_later_one() {
    for seed in 0..5 {
        let (mut sim, _) = quiet(4, seed);
        sim.with(0, |core, now| core.take_claims([Claim::Manager { term: 1, node: id(0) }], now));
        sim.run(SECOND);
        sim.side = vec![0, 0, 1, 1];
        sim.run(3 * SECOND);
        // The old manager knows nothing of the new one, and lets a node in, as the new one does.
        let let_in = |n: u8, term| Admission { term, index: NodeIndex(4), ..admission(n.into()) };
        sim.with(0, |core, now| core.admit(let_in(11, 1), now));
        sim.with(2, |core, now| core.recover(core.takeover(vec![2], vec![1]), now));
        sim.with(2, |core, now| core.admit(let_in(12, 2), now));
        assert!([0, 2].map(|n| sim.with(n, |core, _| core.is_manager())).iter().all(|manages| *manages));
        sim.side = vec![0; 4];
        let healed = |sim: &Sim| sim.same(&[0, 1, 2, 3]);
        assert!(sim.until(15 * SECOND, healed).is_some(), "seed {seed}: not healed");
        for n in 0..4 {
            let core = sim.nodes[n].core.as_ref().unwrap();
            assert_eq!(core.is_manager(), n == 2, "seed {seed}, node {n}");
            let overruled = |n| core.ledger().overruled_by(id(n)).map(|other| other.node);
            assert_eq!((overruled(11), overruled(12)), (Some(id(12)), None));
            assert_eq!(core.ledger().authorities().count(), 2);
            assert_eq!(core.ledger().free_index(&Default::default(), |_| false), NodeIndex(5));
        }
    }
}

#[test]
fn a_push_that_is_lost_is_made_good_by_anti_entropy() {
    let (mut sim, net) = quiet(3, 1);
    sim.loss = 1.0;
    sim.with(0, |core, now| core.put_endpoint(net, &endpoint("x", 1), now)).unwrap();
    sim.loss = 0.0;
    sim.run(2 * MS);
    assert!(!sees(&sim, 1, net, "x"));
    let took = sim.until(SECOND, |sim| (1..3).all(|n| sees(sim, n, net, "x")));
    assert!(took.is_some(), "the summary that follows a push was lost on them");
    // One that is lost together with what follows it is found by a round.
    sim.loss = 1.0;
    sim.with(0, |core, now| core.put_endpoint(net, &endpoint("w", 1), now)).unwrap();
    sim.run(SECOND);
    sim.loss = 0.0;
    assert!(sim.until(8 * SECOND, |sim| (1..3).all(|n| sees(sim, n, net, "w"))).is_some());
    // And one that comes after a lost one shows the gap at once.
    sim.run(SECOND);
    sim.loss = 1.0;
    sim.with(0, |core, now| core.put_endpoint(net, &endpoint("y", 1), now)).unwrap();
    sim.loss = 0.0;
    sim.with(0, |core, now| core.put_endpoint(net, &endpoint("z", 1), now)).unwrap();
    let took = sim.until(SECOND, |sim| (1..3).all(|n| sees(sim, n, net, "y") && sees(sim, n, net, "z")));
    assert!(took.is_some_and(|took| took < 50 * MS), "{took:?}");
}

#[test]
fn a_pushed_change_reaches_those_who_share_the_network_in_one_step_and_nobody_else() {
    let (mut sim, net) = quiet(4, 1);
    sim.with(3, |core, now| core.give_up(net, now));
    sim.run(SECOND);
    sim.with(0, |core, now| core.put_endpoint(net, &endpoint("x", 1), now)).unwrap();
    sim.run(3 * MS);
    assert!(sees(&sim, 1, net, "x") && sees(&sim, 2, net, "x"));
    sim.run(20 * SECOND);
    assert!(!sees(&sim, 3, net, "x"), "it went to a node that takes no part");
}

#[test]
fn ten_thousand_endpoints_of_one_node_reach_the_others_and_too_many_are_refused() {
    let (mut sim, net) = quiet(2, 1);
    for n in 0..10_000 {
        sim.with(0, |core, now| core.put_endpoint(net, &endpoint(&format!("e{n}"), 1), now)).unwrap();
    }
    let all = |sim: &Sim| sim.view(1).networks[&net].endpoints.get(&id(0)).is_some_and(|e| e.len() == 10_000);
    assert!(sim.until(10 * SECOND, all).is_some());
    let huge = |n: u32| {
        let mut endpoint = endpoint(&format!("huge{n}"), 1);
        endpoint.aliases = vec![EndpointName::new("a".repeat(60)).unwrap(); 60];
        endpoint
    };
    let refused =
        (0..1000).find_map(|n| sim.with(0, |core, now| core.put_endpoint(net, &huge(n), now)).err());
    assert!(refused.is_some_and(|error| error.to_string().contains("use another node")));
    sim.run(10 * SECOND);
    assert!(sim.same(&[0, 1]));
}

#[test]
fn a_writer_that_restarts_replaces_what_it_published_without_a_gap() {
    let (mut sim, net) = quiet(3, 1);
    for name in ["kept", "gone"] {
        sim.with(0, |core, now| core.put_endpoint(net, &endpoint(name, 1), now)).unwrap();
    }
    sim.run(SECOND);
    sim.clear_events();
    sim.stop(0);
    sim.run(300 * MS);
    sim.start(0, [(net, vec![endpoint("kept", 1)])].into());
    let took = sim.until(3 * SECOND, |sim| (1..3).all(|n| !sees(sim, n, net, "gone")));
    assert!(took.is_some(), "the old incarnation is still there");
    sim.run(5 * SECOND);
    assert!((0..3).all(|n| sees(&sim, n, net, "kept")) && sim.all_alive() && sim.same(&[0, 1, 2]));
    assert_eq!(sim.deaths(), [], "a quick restart is no death");
    for node in &sim.nodes[1..] {
        let kept = endpoint("kept", 1).name;
        let flapped = |event: &ClusterEvent| matches!(event, ClusterEvent::EndpointRemoved { name, .. } | ClusterEvent::EndpointAdded { name, .. } if *name == kept);
        assert!(!node.events.iter().any(|(_, event)| flapped(event)), "{:?}", node.events);
    }
}

#[test]
fn a_node_whose_state_was_restored_from_an_old_copy_is_heard_again() {
    let (mut sim, net) = quiet(3, 1);
    for _ in 0..3 {
        sim.stop(0);
        sim.start(0, [(net, vec![endpoint("before", 1)])].into());
        sim.run(3 * SECOND);
    }
    sim.stop(0);
    sim.nodes[0].incarnation = 0;
    sim.start(0, [(net, vec![endpoint("after", 1)])].into());
    let heard = |sim: &Sim| {
        sim.all_alive() && (1..3).all(|n| sees(sim, n, net, "after") && !sees(sim, n, net, "before"))
    };
    assert!(sim.until(10 * SECOND, heard).is_some(), "{:#?}", sim.view(1));
    sim.run(10 * SECOND);
    assert!(heard(&sim) && sim.same(&[0, 1, 2]));
}

#[test]
fn a_network_deleted_on_one_side_of_a_cut_stays_deleted() {
    let (mut sim, net) = quiet(4, 1);
    sim.side = vec![0, 0, 1, 1];
    sim.run(5 * SECOND);
    assert!(sim.with(0, |core, now| core.delete_network(net, now)));
    sim.with(3, |core, now| core.put_endpoint(net, &endpoint("x", 1), now)).unwrap();
    sim.run(5 * SECOND);
    sim.side = vec![0; 4];
    let gone = |sim: &Sim| (0..4).all(|n| sim.view(n).networks.is_empty()) && sim.all_alive();
    assert!(sim.until(15 * SECOND, gone).is_some());
    sim.run(20 * SECOND);
    assert!(gone(&sim) && sim.same(&[0, 1, 2, 3]));
}

#[test]
fn a_node_that_was_away_during_a_rotation_finds_the_new_key() {
    let (mut sim, _) = quiet(5, 1);
    sim.side = vec![0, 0, 0, 0, 1];
    sim.run(10 * SECOND);
    sim.remove(0, 3);
    // Long enough for the old key to be forgotten.
    sim.run(120 * SECOND);
    sim.stop(3);
    sim.side = vec![0; 5];
    let back = |sim: &Sim| {
        let alive = |n: usize| sim.view(n).nodes.values().all(|node| node.state == NodeState::Alive);
        [0, 1, 2, 4].into_iter().all(|n| alive(n) && sim.view(n).nodes.len() == 4)
    };
    assert!(sim.until(20 * SECOND, back).is_some(), "{:#?}", sim.view(4).nodes);
}

#[test]
fn datagrams_that_are_played_again_change_nothing() {
    let (mut sim, net) = quiet(3, 1);
    sim.tape = Some(Vec::new());
    sim.with(0, |core, now| core.put_endpoint(net, &endpoint("x", 1), now)).unwrap();
    sim.run(5 * SECOND);
    sim.with(0, |core, now| assert!(core.remove_endpoint(net, &endpoint("x", 1).name, now)));
    sim.run(5 * SECOND);
    let tape = sim.tape.take().unwrap();
    let played: Vec<u64> = (0..3).map(|n| tape.iter().filter(|(to, ..)| *to == n).count() as u64).collect();
    assert!(played.iter().all(|count| *count > 64), "{played:?}");
    let dropped = |sim: &Sim, n: usize| sim.nodes[n].core.as_ref().unwrap().stats.dropped_replayed;
    let before: Vec<u64> = (0..3).map(|n| dropped(&sim, n)).collect();
    sim.clear_events();
    for (to, from, datagram) in &tape {
        sim.post(*to, MS, Arrival::Datagram(*from, datagram.clone()));
    }
    sim.run(SECOND);
    for n in 0..3 {
        assert_eq!(dropped(&sim, n) - before[n], played[n], "node {n}");
        assert_eq!(sim.nodes[n].events, []);
    }
    // A node that has just started has seen none of them, and still they are old news.
    sim.stop(2);
    sim.start(2, [(net, Vec::new())].into());
    for (to, from, datagram) in tape.into_iter().filter(|(to, ..)| *to == 2) {
        sim.post(to, MS, Arrival::Datagram(from, datagram));
    }
    sim.run(5 * SECOND);
    assert_eq!(sim.deaths(), []);
    assert!(sim.all_alive() && sim.same(&[0, 1, 2]) && (0..3).all(|n| !sees(&sim, n, net, "x")));
}

#[test]
fn what_nodes_say_that_they_have_of_nobodys_blocks_is_the_managers_to_lend_and_no_more_than_one_node_may() {
    let (mut sim, net) = quiet(2, 1);
    let loan = |text: &str, to: usize| Loan { network: net, range: text.parse().unwrap(), to: id(to) };
    let cleared = core::Cleared { term: 1, gone: Default::default() };
    // Of these the second is in a node's block, the third in no block, the fourth a stranger's.
    let said = [
        loan("10.10.0.230-10.10.0.231", 1),
        loan("10.10.0.20", 1),
        loan("10.10.0.250", 1),
        loan("10.10.0.229", 9),
    ];
    let said: BTreeMap<LoanNumber, Loan> = (0..).zip(said).collect();
    let inherits = sim.with(0, |core, now| {
        let (changes, inherited) = core.may_clear(&cleared, said).unwrap();
        core.clear(cleared.clone(), &inherited, now);
        (changes.len(), inherited)
    });
    assert_eq!(inherits, (2, [(0, loan("10.10.0.230-10.10.0.231", 1))].into()));
    sim.run(5 * SECOND);
    assert_eq!(sim.view(1).loans[&id(0)].len(), 1, "the other has not heard of it");
    let many = (1..=8192).map(|number| (number, loan("10.10.0.226", 1))).collect();
    let refused = sim.with(0, |core, _| core.may_clear(&cleared, many)).unwrap_err().to_string();
    assert!(refused.contains("8192") && refused.contains("8191"), "{refused}");
}
