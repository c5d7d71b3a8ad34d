//! What a node that was shut out can still read and say, if it keeps its keys and goes on.

use super::*;
use crate::cluster::seal::{Keyring, OpenError};
use crate::cluster::wire::{Datagram, encode_datagram};

/// What the node had when it was shut out: the gossip key, and with it every member's.
fn stolen(sim: &Sim, as_node: usize) -> Keyring {
    Keyring::new(id(as_node), sim.ca.public_key(), [sim.key.clone()], SECOND)
}

/// Until none of `nodes` takes the old key, from the moment of a removal.
fn shut_out(sim: &mut Sim, nodes: &[usize]) -> Duration {
    let epoch = |sim: &Sim, n: usize| sim.nodes[n].core.as_ref().unwrap().key_epoch();
    let void = |sim: &Sim| nodes.iter().all(|n| epoch(sim, *n).1 > 1);
    sim.until(10 * SECOND, void).expect("the old key is void")
}

/// Sends what a node that has the old key can make, as if it were member 1, to each of `nodes`; returns how many
/// datagrams were not even opened.
fn forge(sim: &mut Sim, nodes: &[usize], sequence: u64) -> u64 {
    let unopened = |sim: &Sim, n: usize| sim.nodes[n].core.as_ref().unwrap().stats.dropped_unknown_key;
    let before: u64 = nodes.iter().map(|n| unopened(sim, *n)).sum();
    let claims = [Claim::Removed(id(2)), Claim::Admitted(admission(90)), Claim::Left(id(1))];
    let body = encode_datagram(&Datagram::Claims(claims.iter().map(wire::Claim::of).collect())).unwrap();
    for n in nodes {
        let mut keys = stolen(sim, 1);
        let sealed = keys.seal(2, 1_000 + sequence, &body, sim.now).unwrap();
        sim.with(*n, |core, now| core.receive(address(1), &sealed, now));
    }
    nodes.iter().map(|n| unopened(sim, *n)).sum::<u64>() - before
}

#[test]
fn a_removed_node_can_read_and_forge_nothing_a_moment_later_and_nobody_else_is_given_up() {
    for (n, loss, seed) in [(3, 0.0, 1), (10, 0.1, 2), (50, 0.0, 3), (50, 0.1, 4)] {
        let (mut sim, net) = quiet(n, seed);
        sim.loss = loss;
        let live: Vec<usize> = (0..n - 1).collect();
        sim.remove(0, n - 1);
        // It was told, and does not care; nobody hears from it what we would see here.
        sim.stop(n - 1);
        let took = shut_out(&mut sim, &live);
        println!("{n} nodes, {loss} lost: shut out everywhere after {took:?}");
        assert!(took <= 2 * SECOND, "{n} nodes: {took:?}");
        sim.tape = Some(Vec::new());
        sim.with(0, |core, now| core.put_endpoint(net, &endpoint("x", 1), now)).unwrap();
        assert_eq!(forge(&mut sim, &live, 1), live.len() as u64);
        sim.run(10 * SECOND);
        assert!(live.iter().all(|n| sees(&sim, *n, net, "x")), "gossip works for the others");
        let mut keys = stolen(&sim, n - 1);
        let tape = sim.tape.take().unwrap();
        assert!(tape.len() > 100);
        for (_, _, datagram) in &tape {
            assert_eq!(keys.open(datagram), Err(OpenError::UnknownKey));
        }
        let wrong: Vec<_> =
            sim.deaths().into_iter().filter(|(_, _, name)| *name != admission(n - 1).name).collect();
        assert!(wrong.is_empty(), "{n} nodes, {loss} lost: {wrong:?}");
        for n in &live {
            assert_eq!(sim.view(*n).nodes.len(), live.len(), "a forged claim was taken");
        }
    }
}

#[test]
fn one_that_was_cut_off_during_the_removal_learns_of_it_with_the_new_key_when_it_is_back() {
    let (mut sim, _) = quiet(5, 7);
    sim.side = vec![0, 0, 0, 1, 0];
    sim.run(10 * SECOND);
    sim.remove(0, 4);
    sim.stop(4);
    shut_out(&mut sim, &[0, 1, 2]);
    assert_eq!(forge(&mut sim, &[0, 1, 2], 1), 3);
    sim.side = vec![0; 5];
    let took = shut_out(&mut sim, &[0, 1, 2, 3]);
    println!("after the cut: shut out after {took:?}");
    assert!(!sim.view(3).nodes.contains_key(&id(4)), "it knows of the removal as soon as it has the key");
    assert_eq!(forge(&mut sim, &[3], 2), 1);
    let whole = |sim: &Sim| {
        [0, 1, 2, 3].iter().all(|n| sim.view(*n).nodes.values().all(|node| node.state == NodeState::Alive))
    };
    assert!(sim.until(20 * SECOND, whole).is_some());
}

#[test]
fn a_key_of_its_own_making_reaches_nobody() {
    let (mut sim, _) = quiet(3, 5);
    let own = ca().gossip_key(9, 9);
    let part = wire::Part {
        shared: wire::Shared { keys: Some(vec![own]), ..Default::default() },
        ..Default::default()
    };
    sim.with(1, |core, now| core.finish(part, now));
    sim.run(10 * SECOND);
    for n in 0..3 {
        assert_eq!(sim.nodes[n].core.as_ref().unwrap().key_epoch(), (1, 1));
    }
    assert!(sim.all_alive());
}
