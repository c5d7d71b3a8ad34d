//! What browsers and hosts of a network live to see, in each mode.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::address;
use super::*;
use lanmesh_model::{Found, ZeroconfKey, ZeroconfMode};

const KIND: &str = "_x._tcp";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const MODES: [ZeroconfMode; 2] = [ZeroconfMode::Transparent, ZeroconfMode::Proxy];

/// Three nodes; a browser on the first and a service on each.
fn three(mode: ZeroconfMode) -> Lan {
    let mut lan = Lan::new(mode, 3);
    lan.attach_host(0, "b", 10, "browser", &[], Some(KIND));
    for at in 0..3 {
        let name = format!("h{at}");
        lan.attach_host(at, &name, 20 + at as u8, &name, &[KIND], None);
    }
    lan.run(secs(8));
    lan
}

#[test]
fn a_browser_sees_the_same_in_every_mode() {
    for mode in MODES {
        let lan = three(mode);
        let all = ["thing on h0", "thing on h1", "thing on h2"];
        assert_eq!(lan.host(0, "b").sees(lan.now), all, "{mode:?}");
        for at in 0..3 {
            let offers = lan.engine(at).registry().offers;
            let services = offers.keys().filter(|key| matches!(key, ZeroconfKey::Service { .. })).count();
            assert_eq!((services, offers.len()), (3, 7), "{mode:?}");
        }
        assert_eq!(lan.crossed > 0, mode == ZeroconfMode::Transparent);
    }
}

#[test]
fn a_browser_that_starts_later_is_answered() {
    for mode in MODES {
        let mut lan = three(mode);
        lan.attach_host(2, "late", 40, "late", &[], Some(KIND));
        lan.run(secs(4));
        assert_eq!(lan.host(2, "late").sees(lan.now).len(), 3, "{mode:?}");
    }
}

#[test]
fn what_is_detached_is_gone_within_two_seconds_and_so_is_what_was_on_a_dead_node() {
    for mode in MODES {
        let mut lan = three(mode);
        lan.detach(1, "h1");
        lan.run(secs(2));
        assert_eq!(lan.host(0, "b").sees(lan.now), ["thing on h0", "thing on h2"], "{mode:?}");
        let crossed = lan.crossed;
        lan.die(2);
        lan.run(Duration::from_millis(1_300));
        assert_eq!(lan.host(0, "b").sees(lan.now), ["thing on h0"], "{mode:?}");
        if mode == ZeroconfMode::Transparent {
            // One question to the one that is left.
            assert_eq!(lan.crossed - crossed, 1);
        }
        assert_eq!(lan.engine(0).registry().offers.len(), 3);
        // It comes back: nobody on it has to be started again.
        lan.revive(2);
        lan.run(secs(10));
        assert_eq!(lan.host(0, "b").sees(lan.now), ["thing on h0", "thing on h2"], "{mode:?}");
    }
}

#[test]
fn where_an_agent_alone_is_dead_its_hosts_say_that_they_go_on() {
    let mut lan = three(ZeroconfMode::Transparent);
    lan.stop_agent(2);
    lan.run(secs(5));
    assert_eq!(lan.host(0, "b").sees(lan.now).len(), 3);
    assert_eq!(lan.engine(0).registry().offers.len(), 5, "agents answer for what they know");
    lan.restart(2, true);
    lan.run(secs(20));
    assert_eq!((lan.host(0, "b").sees(lan.now).len(), lan.engine(0).registry().offers.len()), (3, 7));
}

#[test]
fn an_agent_that_starts_again_finds_what_was_there_and_says_nothing_else_in_between() {
    for mode in MODES {
        for remembers in [true, false] {
            let mut lan = three(mode);
            let before = lan.facts(1).clone();
            lan.restart(1, remembers);
            for _ in 0..50 {
                lan.run(Duration::from_millis(500));
                assert!(!remembers || *lan.facts(1) == before);
            }
            let mut now = lan.facts(1).clone();
            if !remembers {
                // Subtypes cannot be asked for without knowing them.
                for fact in now.values_mut() {
                    if let Found::Service(service) = &mut fact.found {
                        service.subtypes.insert("_sub".into());
                    }
                }
            }
            assert_eq!(now, before);
            assert_eq!(lan.host(0, "b").sees(lan.now).len(), 3, "{mode:?} {remembers}");
        }
    }
}

#[test]
fn of_two_hosts_with_one_name_exactly_one_is_renamed_once() {
    for mode in MODES {
        // One after the other, and both at the same time; on two nodes and on one.
        for gap in [0, 1, 3, 10, 200, 400, 760, 900, 3000] {
            for other in [0, 1] {
                let mut lan = Lan::new(mode, 3);
                lan.attach_host(0, "a", 10, "build", &[KIND], None);
                lan.run(Duration::from_millis(gap));
                lan.attach_host(other, "c", 11, "build", &[KIND], None);
                lan.attach_host(2, "b", 12, "browser", &[], Some(KIND));
                lan.run(secs(300));
                let hosts = [lan.host(0, "a"), lan.host(other, "c")];
                let renamed = hosts.map(|host| host.renamed);
                assert_eq!(renamed.iter().sum::<u32>(), 1, "{mode:?} {gap} {other} {renamed:?}");
                let mut names = hosts.map(Host::name);
                names.sort();
                assert_eq!(names, ["build", "build-2"]);
                assert_eq!(lan.host(2, "b").sees(lan.now), ["thing on build", "thing on build-2"]);
            }
        }
    }
}

#[test]
fn two_hosts_that_took_one_name_while_their_nodes_were_apart_settle_with_one_rename() {
    for mode in MODES {
        let mut lan = Lan::new(mode, 2);
        lan.die(1);
        lan.attach_host(0, "a", 10, "build", &[KIND], None);
        lan.run(secs(5));
        lan.places[1].alive = true;
        lan.attach_host(1, "c", 11, "build", &[KIND], None);
        lan.run(secs(600));
        let renamed = [lan.host(0, "a").renamed, lan.host(1, "c").renamed];
        assert_eq!(renamed.iter().sum::<u32>(), 1, "{mode:?} {renamed:?}");
    }
}

#[test]
fn a_host_that_moves_to_another_node_keeps_its_name() {
    for mode in MODES {
        let mut lan = three(mode);
        // It is there before it is known to be gone here.
        let old = lan.places[1].facts.clone();
        lan.detach(1, "h1");
        lan.places[1].facts = old;
        lan.attach_host(0, "h1", 21, "h1", &[KIND], None);
        lan.run(secs(20));
        assert_eq!((lan.host(0, "h1").renamed, lan.host(0, "h1").name().as_str()), (0, "h1"), "{mode:?}");
        assert_eq!(lan.host(0, "b").sees(lan.now).len(), 3);
    }
}

#[test]
fn what_is_declared_is_found_everywhere_and_says_goodbye() {
    for mode in MODES {
        let mut lan = Lan::new(mode, 3);
        lan.attach_host(0, "b", 10, "browser", &[], Some(KIND));
        lan.attach_host(1, "c", 11, "other", &[], Some(KIND));
        lan.attach(1, "farm", 12, &["_x._tcp,_sub:3632,flag,jobs=4"]);
        lan.run(secs(5));
        for (at, name) in [(0, "b"), (1, "c")] {
            assert_eq!(lan.host(at, name).sees(lan.now), ["farm"], "{mode:?} {name}");
            let texts: Vec<_> = lan.host(at, name).cache.keys().cloned().collect();
            assert!(texts.iter().any(|text| text.contains("flag") && !text.contains("flag=")), "{texts:?}");
        }
        lan.detach(1, "farm");
        lan.run(secs(2));
        assert_eq!((lan.host(0, "b").sees(lan.now).len(), lan.host(1, "c").sees(lan.now).len()), (0, 0));
    }
}

#[test]
fn declared_names_that_collide_are_numbered_once_and_stay() {
    for mode in MODES {
        let mut lan = Lan::new(mode, 3);
        lan.attach_host(2, "b", 10, "browser", &[], Some(KIND));
        lan.attach(0, "one", 11, &["Build=_x._tcp:1", "Build=_y._tcp:1"]);
        lan.attach(1, "two", 12, &["Build=_x._tcp:2"]);
        lan.run(secs(20));
        assert_eq!(lan.host(2, "b").sees(lan.now), ["Build", "Build (2)"], "{mode:?}");
        let renamed: u64 = (0..3).map(|at| lan.engine(at).counters().renamed).sum();
        assert_eq!(renamed, 1);
        let before = [lan.facts(0).clone(), lan.facts(1).clone()];
        lan.restart(0, true);
        lan.restart(1, true);
        lan.run(secs(20));
        assert_eq!([lan.facts(0).clone(), lan.facts(1).clone()], before, "{mode:?}");
    }
}

#[test]
fn a_declared_service_and_a_host_that_wants_its_names_settle() {
    for mode in MODES {
        for at in [0, 1] {
            let mut lan = Lan::new(mode, 2);
            lan.attach(0, "farm", 12, &["thing on h=_x._tcp:1"]);
            lan.attach_host(at, "h", 11, "h", &[KIND], None);
            lan.attach_host(1, "b", 10, "browser", &[], Some(KIND));
            lan.run(secs(60));
            let renamed = u64::from(lan.host(at, "h").renamed) + lan.engine(0).counters().renamed;
            assert_eq!(renamed, 1, "{mode:?} {at}");
            assert_eq!(lan.host(at, "h").renamed, 1, "what was declared stays: {mode:?} {at}");
            assert_eq!(lan.host(1, "b").sees(lan.now).len(), 2);
        }
    }
}

#[test]
fn an_endpoint_that_speaks_for_itself_is_left_alone() {
    for mode in MODES {
        let mut lan = Lan::new(mode, 2);
        lan.attach_host(0, "h", 11, "h", &[KIND], None);
        lan.attach(0, "h", 11, &["thing on h=_x._tcp:7", "more=_x._tcp:8"]);
        lan.attach_host(1, "b", 10, "browser", &[], Some(KIND));
        lan.run(secs(60));
        assert_eq!((lan.host(0, "h").renamed, lan.engine(0).counters().renamed), (0, 0), "{mode:?}");
        assert_eq!(lan.host(1, "b").sees(lan.now), ["more", "thing on h"]);
    }
}

#[test]
fn an_hour_of_quiet_is_quiet() {
    for mode in MODES {
        let mut lan = three(mode);
        lan.attach(1, "farm", 30, &["_x._tcp:1"]);
        lan.run(secs(60));
        let before = lan.sent;
        lan.run(secs(3600));
        let sent = [lan.sent[0] - before[0], lan.sent[1] - before[1]];
        // Four endpoints are asked for their records of two minutes each 96 seconds, by one packet.
        assert!(sent[0] <= 4 * 40 && sent[1] <= 20, "{mode:?} {sent:?}");
        assert_eq!(lan.host(0, "b").sees(lan.now).len(), 4, "{mode:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Attach(usize, u8, bool),
    Detach(usize, u8),
    Die(usize),
    Revive(usize),
    Restart(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 1..3usize;
    prop_oneof![
        (at.clone(), 0..4u8, any::<bool>()).prop_map(|(at, n, declared)| Step::Attach(at, n, declared)),
        (at.clone(), 0..4u8).prop_map(|(at, n)| Step::Detach(at, n)),
        at.clone().prop_map(Step::Die),
        at.clone().prop_map(Step::Revive),
        at.prop_map(Step::Restart),
        (0..3000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens, in the end a browser sees what is there: the same in both modes.
    #[test]
    fn in_the_end_a_browser_sees_what_is_there(steps in prop::collection::vec(step(), 1..14)) {
        for mode in MODES {
            let mut lan = Lan::new(mode, 3);
            lan.attach_host(0, "b", 10, "browser", &[], Some(KIND));
            for step in &steps {
                match *step {
                    Step::Attach(at, n, declared) => {
                        let name = format!("e{at}{n}");
                        let last = 20 + 10 * at as u8 + n;
                        let there = lan.places[at].endpoints.contains_key(&EndpointName::new(&name).unwrap());
                        match (there, declared) {
                            (true, _) => {}
                            (false, true) => lan.attach(at, &name, last, &["_x._tcp:1"]),
                            (false, false) => lan.attach_host(at, &name, last, &name, &[KIND], None),
                        }
                    }
                    Step::Detach(at, n) => lan.detach(at, &format!("e{at}{n}")),
                    Step::Die(at) => {
                        // What was announced in the last moment before is known to nobody but browsers, who
                        // keep it for its time to live, as they do on any wire.
                        lan.rest();
                        lan.die(at);
                    }
                    Step::Revive(at) if !lan.places[at].alive => lan.revive(at),
                    Step::Revive(_) => {}
                    Step::Restart(at) => {
                        // An agent that ends less than a tenth of a second after a detach has not said goodbye.
                        lan.rest();
                        lan.restart(at, true);
                    }
                    Step::Wait(ms) => lan.run(Duration::from_millis(ms)),
                }
            }
            lan.run(secs(20));
            let mut there: Vec<String> = Vec::new();
            for place in lan.places[1..].iter().filter(|place| place.alive) {
                for endpoint in place.endpoints.values() {
                    let host = place.hosts.contains_key(&endpoint.name);
                    there.push(if host { format!("thing on {}", endpoint.name) } else { endpoint.name.to_string() });
                }
            }
            there.sort();
            prop_assert_eq!(lan.host(0, "b").sees(lan.now), there, "{:?}", mode);
        }
    }
}

#[test]
fn a_hostile_endpoint_gets_nowhere() {
    let mut lan = three(ZeroconfMode::Proxy);
    let mut seed = 1u64;
    let before = lan.sent;
    for round in 0..6000u64 {
        let mut bytes = vec![0u8; (round % 700) as usize];
        for byte in &mut bytes {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (seed >> 33) as u8;
        }
        if let Some(head) = bytes.get_mut(..12) {
            head.copy_from_slice(&[0, 0, if round % 2 == 0 { 0x84 } else { 0 }, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
        }
        lan.transmit(0, SocketAddr::new(address(20), 5353), Destination::Group(Family::V4), false, &bytes);
        lan.run(Duration::from_millis(10));
    }
    let sent = [lan.sent[0] - before[0], lan.sent[1] - before[1]];
    assert!(sent[0] + sent[1] < 60, "{sent:?} in a minute");
    let counters = lan.engine(0).counters();
    assert!(counters.discarded.values().sum::<u64>() > 5000, "{counters:?}");
    assert_eq!(lan.host(0, "b").sees(lan.now).len(), 3);
}
