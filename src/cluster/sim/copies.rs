//! A node whose machine was copied, or set back: it is heard again in seconds, and of two runs exactly one goes on.

use super::*;

/// A copy of a node's machine, at an address of its own, whose agent does not run yet.
fn copy(sim: &mut Sim, of: usize, run: Run) -> usize {
    let (n, original) = (sim.nodes.len(), &sim.nodes[of]);
    let copy = Node {
        core: None,
        who: of,
        run: Some(run),
        incarnation: original.incarnation,
        ledger: original.ledger.clone(),
        records: original.records.clone(),
        lent: BTreeMap::new(),
        inbox: Vec::new(),
        paused: Duration::ZERO,
        events: Vec::new(),
    };
    sim.nodes.push(copy);
    sim.addresses.push(address(n));
    sim.side.push(0);
    n
}

fn alive(sim: &Sim, on: usize, node: usize) -> bool {
    sim.view(on).nodes[&id(node)].state == NodeState::Alive
}

/// Whether all of the nodes but for copies are alive for all that run.
fn whole(sim: &Sim, nodes: usize) -> bool {
    let running = (0..sim.nodes.len()).filter(|n| sim.nodes[*n].core.is_some());
    running.into_iter().all(|on| (0..nodes).all(|node| alive(sim, on, node)))
}

/// Lets runs that step aside end, as their agents do, until `time` has passed.
fn run_and_step_aside(sim: &mut Sim, time: Duration) {
    let end = sim.now + time;
    while sim.now < end {
        sim.run(50 * MS);
        for n in 0..sim.nodes.len() {
            let aside = sim.nodes[n].core.as_ref().is_some_and(|core| core.why_out().is_some());
            if aside {
                sim.stop(n);
            }
        }
    }
}

fn told(sim: &Sim, n: usize) -> Vec<bool> {
    let told = sim.nodes[n].events.iter().filter_map(|(_, event)| match event {
        ClusterEvent::RunsTwice { goes_on, .. } => Some(*goes_on),
        _ => None,
    });
    told.collect()
}

#[test]
fn of_a_node_and_a_copy_that_is_started_beside_it_the_node_goes_on_and_both_say_so() {
    for seed in 0..5 {
        let (mut sim, net) = quiet(3, seed);
        sim.with(0, |core, now| core.put_endpoint(net, &endpoint("x", 1), now)).unwrap();
        sim.run(5 * SECOND);
        sim.clear_events();
        let m = copy(&mut sim, 0, Run::new(false, 2_000_000_000_000, 1));
        sim.start(m, [(net, vec![endpoint("x", 1)])].into());
        run_and_step_aside(&mut sim, 20 * SECOND);
        assert!(sim.nodes[m].core.is_none() && sim.nodes[0].core.is_some(), "seed {seed}");
        assert_eq!((told(&sim, 0), told(&sim, m)), (vec![true], vec![false]), "seed {seed}");
        assert!(whole(&sim, 3) && sees(&sim, 1, net, "x"), "seed {seed}");
        sim.clear_events();
        run_and_step_aside(&mut sim, 30 * SECOND);
        assert!((0..3).all(|n| sim.nodes[n].events.is_empty()), "seed {seed}: it is quiet again");
    }
}

#[test]
fn of_two_copies_that_are_started_together_exactly_one_goes_on() {
    let began = 2_000_000_000_000;
    let cases = [
        // The same second: chance decides.
        (Run::new(false, began, 1), Run::new(false, began, 2), 0),
        (Run::new(false, began, 9), Run::new(false, began, 2), 1),
        // The machine that the identity was made on, though it is the later one.
        (Run::new(true, began, 1), Run::new(false, began + 9000, 2), 1),
        (Run::new(false, began + 9000, 1), Run::new(true, began, 2), 0),
    ];
    for (seed, (one, two, goes_on)) in cases.into_iter().enumerate() {
        let (mut sim, net) = quiet(3, seed as u64);
        sim.stop(0);
        let m = copy(&mut sim, 0, two);
        sim.nodes[0].run = Some(one);
        for n in [0, m] {
            sim.start(n, [(net, vec![endpoint("x", 1)])].into());
        }
        run_and_step_aside(&mut sim, 20 * SECOND);
        let left: Vec<usize> = [0, m].into_iter().filter(|n| sim.nodes[*n].core.is_some()).collect();
        assert_eq!(left, [[0, m][goes_on]], "case {seed}");
        assert!(whole(&sim, 3), "case {seed}");
    }
}

#[test]
fn a_copy_that_has_ended_cuts_nobody_off() {
    for seed in 0..5 {
        let (mut sim, net) = quiet(4, seed);
        let m = copy(&mut sim, 0, Run::new(false, 2_000_000_000_000, 1));
        sim.start(m, [(net, vec![endpoint("theirs", 1)])].into());
        sim.run(700 * MS);
        sim.stop(m);
        let back = |sim: &Sim| whole(sim, 4) && (1..4).all(|n| !sees(sim, n, net, "theirs"));
        let took = sim.until(20 * SECOND, back);
        assert!(took.is_some_and(|took| took < 5 * SECOND), "seed {seed}: {took:?}");
        sim.run(5 * SECOND);
        assert!(back(&sim) && sim.nodes[0].core.as_ref().unwrap().why_out().is_none(), "seed {seed}");
    }
}

#[test]
fn a_machine_that_is_set_back_to_a_snapshot_is_heard_again_in_seconds() {
    for seed in 0..5 {
        let (mut sim, net) = quiet(3, seed);
        sim.with(0, |core, now| core.put_endpoint(net, &endpoint("since", 1), now)).unwrap();
        sim.run(20 * SECOND);
        sim.clear_events();
        // The same run, with the sequence numbers and the documents of long ago.
        sim.stop(0);
        sim.nodes[0].incarnation -= 1;
        sim.start(0, [(net, vec![endpoint("then", 1)])].into());
        let heard = |sim: &Sim| {
            let there = |n| sees(sim, n, net, "then") && !sees(sim, n, net, "since");
            whole(sim, 3) && (1..3).all(there)
        };
        let took = sim.until(20 * SECOND, heard);
        assert!(took.is_some_and(|took| took < 5 * SECOND), "seed {seed}: {took:?}");
        sim.run(5 * SECOND);
        assert!(heard(&sim) && told(&sim, 0).is_empty() && sim.deaths().is_empty(), "seed {seed}");
    }
}
