//! Who is alive, who is not, and who is no member any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Container, LabConfig, SOON, lab, ping, stays, wait_until};
use crate::unicast::address;

#[test]
fn a_node_that_stops_answering_is_dead_everywhere_within_about_two_seconds() {
    let lab = lab!(LabConfig::alone(3)).cluster();
    let begin = Instant::now();
    lab.node(3).kill();
    // Two seconds are the promise; the rest is for asking the two others in turn on a loaded machine.
    wait_until("n1 and n2 say that n3 is dead", Duration::from_secs(4), || {
        let states = [1, 2].map(|i| lab.node(i).state_of(lab.node(3)));
        if states.iter().all(|state| state == "dead") { Ok(()) } else { Err(format!("{states:?}")) }
    });
    println!("n3 was dead on n1 and n2 after {:.2} s", begin.elapsed().as_secs_f64());
    lab.node(3).start_and_wait();
    for node in lab.nodes() {
        node.wait_alive(3);
    }
}

#[test]
fn a_machine_whose_cores_are_all_busy_is_not_declared_dead() {
    let lab = lab!(LabConfig::alone(3)).cluster();
    let stop = AtomicBool::new(false);
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        // Two for each core, so that every agent has to wait for its turn.
        for _ in 0..2 * cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let begin = Instant::now();
        let mut seen = Vec::new();
        while begin.elapsed() < Duration::from_secs(10) {
            for node in lab.nodes() {
                seen.extend(node.nodes().into_iter().filter(|(_, state)| state == "dead" || state == "left"));
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(seen.is_empty(), "declared dead while they were only busy: {seen:?}");
    });
    for node in lab.nodes() {
        node.wait_alive(3);
    }
}

#[test]
fn a_node_that_leaves_is_gone_everywhere_with_its_endpoints_and_can_join_again() {
    let lab = lab!(3).cluster();
    lab.network("net", &["--subnet", "10.88.0.0/24"]);
    let containers = [Container::named("a"), Container::named("b")];
    lab.node(1).attach("net", "a", &containers[0]);
    lab.node(3).attach("net", "b", &containers[1]);
    lab.node(1).wait_endpoints("net", &["a@n1", "b@n3"]);
    lab.node(3).lanmesh(["leave"]).success();
    for i in [1, 2] {
        wait_until(&format!("n{i} knows that n3 left"), SOON, || {
            match lab.node(i).state_of(lab.node(3)).as_str() {
                "left" | "unknown" => Ok(()),
                state => Err(state.to_owned()),
            }
        });
    }
    lab.node(1).wait_endpoints("net", &["a@n1"]);
    assert!(containers[1].links().is_empty(), "leaving detaches");
    assert_eq!(lab.node(3).lanmesh(["status", "--json"]).json()["state"], "no_cluster");
    let token = lab.node(1).lanmesh(["token", "show", "--json"]).json()["token"].clone();
    lab.node(3).join(token.as_str().expect("a token is text"), lab.node(1));
    wait_until("n1 sees n3 alive", SOON, || match lab.node(1).state_of(lab.node(3)).as_str() {
        "alive" => Ok(()),
        state => Err(state.to_owned()),
    });
    lab.node(3).attach("net", "b", &containers[1]);
    lab.node(1).wait_endpoints("net", &["a@n1", "b@n3"]);
}

#[test]
fn a_removed_node_is_shut_out_with_its_endpoints_also_after_a_restart_and_with_the_old_token() {
    let lab = lab!(3);
    let token = lab.node(1).init();
    for i in [2, 3] {
        lab.node(i).join(&token, lab.node(1));
    }
    lab.node(1).wait_alive(3);
    lab.network("net", &["--subnet", "10.88.0.0/24"]);
    let containers = [Container::named("a"), Container::named("b")];
    lab.node(1).attach("net", "a", &containers[0]);
    let removed = lab.node(3).attach("net", "b", &containers[1]);
    wait_until("a reaches b", SOON, || ping(&containers[0], &address(&removed, 0)));
    lab.node(1).lanmesh(["node", "rm", "n3"]).success();
    for i in [1, 2] {
        wait_until(&format!("n{i} counts n3 no more"), SOON, || {
            match lab.node(i).state_of(lab.node(3)).as_str() {
                "left" | "unknown" => Ok(()),
                state => Err(state.to_owned()),
            }
        });
        lab.node(i).wait_endpoints("net", &["a@n1"]);
    }
    wait_until("b is no longer reached", SOON, || match ping(&containers[0], &address(&removed, 0)) {
        Ok(()) => Err("it answers".to_owned()),
        Err(_) => Ok(()),
    });
    lab.node(3).kill();
    lab.node(3).start();
    // It may refuse to run or run alone; the others must not see it for as long as it would take to be seen.
    stays("the removed node is away", Duration::from_secs(5), || {
        match lab.node(1).state_of(lab.node(3)).as_str() {
            "alive" => Err("it is back".to_owned()),
            _ => Ok(()),
        }
    });
    assert_eq!(lab.node(2).state_of(lab.node(1)), "alive");
}
