//! Many nodes in one thread and in virtual time: the real state machines over a network that loses, delays and
//! cuts. Everything but the nonces follows from a seed.

use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::core::{Boot, Core, Output, Persist};
use super::ledger::{Admission, Claim, Ledger};
use super::seal::GossipKey;
use super::testing::{endpoint, network};
use super::*;
use crate::model::{ClusterView, Endpoint, NetworkId, NodeId, NodeIndex, NodeName, NodeState};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

enum Arrival {
    Datagram(SocketAddr, Vec<u8>),
    /// The end of an exchange over a stream with this node.
    Exchange(usize),
}

struct Node {
    core: Option<Core>,
    incarnation: u64,
    ledger: Ledger,
    /// What arrived and was not looked at yet.
    inbox: Vec<Arrival>,
    /// Until when it gets no processor.
    paused: Duration,
    events: Vec<(Duration, ClusterEvent)>,
}

struct Sim {
    now: Duration,
    nodes: Vec<Node>,
    /// Sorted by time, then by order of sending.
    wire: BTreeMap<(Duration, u64), (usize, Arrival)>,
    sent: u64,
    loss: f64,
    /// Nodes hear each other only within a side.
    side: Vec<u8>,
    key: GossipKey,
    timing: Timing,
    random: SmallRng,
}

/// Other runs of the same tests: `LANMESH_SIM_SEED=1000 cargo test --lib cluster::sim`.
fn shift() -> u64 {
    std::env::var("LANMESH_SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn id(n: usize) -> NodeId {
    let mut bytes = [0xa5; 16];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn address(n: usize) -> SocketAddr {
    ([10, 1, (n / 250) as u8, (n % 250) as u8 + 1], 7979).into()
}

fn admission(n: usize) -> Admission {
    let name = NodeName::new(format!("n{n}")).unwrap();
    Admission { node: id(n), name, index: NodeIndex(n as u32), address: address(n) }
}

impl Sim {
    /// `n` nodes that were all let in and have just started.
    fn new(n: usize, seed: u64) -> Self {
        let mut ledger = Ledger::default();
        for n in 0..n {
            ledger.merge(Claim::Admitted(admission(n)));
        }
        let node = || Node {
            core: None,
            incarnation: 0,
            ledger: ledger.clone(),
            inbox: Vec::new(),
            paused: Duration::ZERO,
            events: Vec::new(),
        };
        let mut sim = Self {
            now: Duration::ZERO,
            nodes: (0..n).map(|_| node()).collect(),
            wire: BTreeMap::new(),
            sent: 0,
            loss: 0.0,
            side: vec![0; n],
            key: GossipKey::generate(1),
            timing: Timing::default(),
            random: SmallRng::seed_from_u64(seed + shift()),
        };
        for n in 0..n {
            sim.start(n, BTreeMap::new());
        }
        sim
    }

    fn start(&mut self, n: usize, initial: BTreeMap<NetworkId, Vec<Endpoint>>) {
        let Admission { name, index, address, .. } = admission(n);
        let fact = facts::NodeFact {
            name,
            index,
            address,
            vtep: address.ip(),
            underlay_mtu: 1500,
            networks: Default::default(),
        };
        self.nodes[n].incarnation += 1;
        let boot = Boot {
            me: id(n),
            fact,
            incarnation: self.nodes[n].incarnation,
            ledger: self.nodes[n].ledger.clone(),
            keys: vec![self.key.clone()],
            peers: BTreeMap::new(),
            initial,
            timing: self.timing,
            seed: self.random.random(),
        };
        self.nodes[n].core = Some(Core::start(boot, self.now));
        self.flush(n);
    }

    fn stop(&mut self, n: usize) {
        self.nodes[n].core = None;
        self.nodes[n].inbox.clear();
    }

    fn hears(&self, a: usize, b: usize) -> bool {
        self.side[a] == self.side[b] && self.nodes[a].core.is_some() && self.nodes[b].core.is_some()
    }

    fn post(&mut self, to: usize, after: Duration, arrival: Arrival) {
        self.sent += 1;
        self.wire.insert((self.now + after, self.sent), (to, arrival));
    }

    fn flush(&mut self, n: usize) {
        let Some(core) = self.nodes[n].core.as_mut() else { return };
        for output in core.take_outputs() {
            match output {
                Output::Datagram(to, datagram) => {
                    assert!(datagram.len() <= wire::MAX_DATAGRAM, "{} bytes", datagram.len());
                    let Some(to) = (0..self.nodes.len()).find(|n| address(*n) == to) else { continue };
                    if self.hears(n, to) && !self.random.random_bool(self.loss) {
                        let delay = MS.mul_f64(self.random.random_range(0.1..2.0));
                        self.post(to, delay, Arrival::Datagram(address(n), datagram));
                    }
                }
                Output::Sync(peer, _) => {
                    let peer = (0..self.nodes.len()).find(|n| id(*n) == peer).unwrap();
                    let delay = if self.hears(n, peer) { 5 * MS } else { 3 * SECOND };
                    self.post(n, delay, Arrival::Exchange(peer));
                }
                Output::Persist(Persist::Claim(claim)) => drop(self.nodes[n].ledger.merge(claim)),
                Output::Persist(_) => {}
                Output::Event(event) => self.nodes[n].events.push((self.now, event)),
            }
        }
    }

    fn exchange(&mut self, a: usize, b: usize) {
        let heard = self.hears(a, b);
        let now = self.now;
        let [a_core, b_core] = self.nodes.get_disjoint_mut([a, b]).unwrap().map(|node| node.core.as_mut());
        let Some(a_core) = a_core else { return };
        if let Some(b_core) = b_core.filter(|_| heard) {
            let compare = b_core.compare(&a_core.summary());
            let mut give = wire::Part::default();
            for part in a_core.answer(compare, now).split() {
                give.deltas.extend(b_core.finish(part, now).deltas);
            }
            for part in give.split() {
                a_core.absorb(part, now);
            }
            a_core.sync_done(id(b), true, now);
        } else {
            a_core.sync_done(id(b), false, now);
        }
        self.flush(a);
        self.flush(b);
    }

    fn wake(&mut self, n: usize) {
        if self.now < self.nodes[n].paused {
            return;
        }
        // As the driver does: first what arrived, then what is due.
        for arrival in std::mem::take(&mut self.nodes[n].inbox) {
            match arrival {
                Arrival::Datagram(from, datagram) => {
                    if let Some(core) = self.nodes[n].core.as_mut() {
                        core.receive(from, &datagram, self.now);
                    }
                }
                Arrival::Exchange(peer) => self.exchange(n, peer),
            }
        }
        if let Some(core) = self.nodes[n].core.as_mut()
            && self.now >= core.deadline()
        {
            core.tick(self.now);
        }
        self.flush(n);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        // When each node is due; an entry that is outdated wakes it for nothing.
        let mut due = BinaryHeap::new();
        let at = |node: &Node| node.core.as_ref().map(|core| core.deadline().max(node.paused));
        for (n, node) in self.nodes.iter().enumerate() {
            due.extend(at(node).map(|at| std::cmp::Reverse((at, n))));
        }
        loop {
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let timer = due.peek().map(|std::cmp::Reverse((at, _))| *at);
            let next = arrival.into_iter().chain(timer).min().unwrap_or(end);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            let n = if arrival == Some(next) {
                let Some((_, (to, arrival))) = self.wire.pop_first() else { break };
                if self.nodes[to].core.is_none() {
                    continue;
                }
                self.nodes[to].inbox.push(arrival);
                to
            } else {
                let Some(std::cmp::Reverse((_, n))) = due.pop() else { break };
                n
            };
            self.wake(n);
            due.extend(at(&self.nodes[n]).map(|at| std::cmp::Reverse((at, n))));
        }
        self.now = end;
    }

    fn view(&self, n: usize) -> ClusterView {
        self.nodes[n].core.as_ref().unwrap().view()
    }

    fn with<R>(&mut self, n: usize, f: impl FnOnce(&mut Core, Duration) -> R) -> R {
        let result = f(self.nodes[n].core.as_mut().unwrap(), self.now);
        self.flush(n);
        result
    }

    fn all_alive(&self) -> bool {
        (0..self.nodes.len()).all(|n| self.view(n).nodes.values().all(|node| node.state == NodeState::Alive))
    }

    /// Runs until `test` holds, for `limit` at most, and returns how long that took.
    fn until(&mut self, limit: Duration, test: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while self.now < start + limit {
            if test(self) {
                return Some(self.now - start);
            }
            self.run(10 * MS);
        }
        None
    }

    fn deaths(&self) -> Vec<(usize, Duration, NodeName)> {
        let deaths = |(n, node): (usize, &Node)| {
            let dead = node.events.iter().filter_map(move |(at, event)| match event {
                ClusterEvent::NodeDead { name, .. } => Some((n, *at, name.clone())),
                _ => None,
            });
            dead.collect::<Vec<_>>()
        };
        self.nodes.iter().enumerate().flat_map(deaths).collect()
    }

    fn clear_events(&mut self) {
        for node in &mut self.nodes {
            node.events.clear();
        }
    }

    fn same(&self, nodes: &[usize]) -> bool {
        let summary = |n: usize| self.nodes[n].core.as_ref().unwrap().summary();
        nodes.iter().all(|n| summary(*n) == summary(nodes[0]))
    }
}

/// A cluster that is complete and quiet, all of whose nodes take part in one network.
fn quiet(n: usize, seed: u64) -> (Sim, NetworkId) {
    let mut sim = Sim::new(n, seed);
    assert!(sim.until(10 * SECOND, Sim::all_alive).is_some(), "seed {seed}: {n} nodes do not come together");
    let net = sim.with(0, |core, now| core.create_network(network("a", 1, 1), now)).unwrap().id;
    sim.run(SECOND);
    for n in 0..n {
        sim.with(n, |core, now| core.take_part(net, now)).unwrap();
    }
    sim.run(5 * SECOND);
    sim.clear_events();
    (sim, net)
}

fn sees(sim: &Sim, n: usize, net: NetworkId, name: &str) -> bool {
    sim.view(n).endpoint(&net, &endpoint(name, 0).name).is_some()
}

/// How long until every other node knows that one is dead, worst of several runs.
fn detection(n: usize, seeds: u64) -> (Duration, Duration) {
    let mut took = Vec::new();
    for seed in 0..seeds {
        let mut sim = Sim::new(n, seed);
        sim.until(20 * SECOND, Sim::all_alive).expect("come together");
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

/// For docs: `cargo test --lib -- --ignored --nocapture figures`.
#[test]
#[ignore = "prints figures and takes long"]
fn figures_of_larger_clusters() {
    for n in [3, 10, 50, 200] {
        let (median, worst) = detection(n, 5);
        let mut sim = Sim::new(n, 1);
        sim.until(20 * SECOND, Sim::all_alive).expect("come together");
        sim.run(30 * SECOND);
        let sent =
            |sim: &Sim| sim.nodes.iter().map(|n| n.core.as_ref().unwrap().stats.bytes_out).sum::<u64>();
        let before = sent(&sim);
        sim.run(20 * SECOND);
        let quiet = (sent(&sim) - before) / 20 / n as u64;
        println!("{n} nodes: dead everywhere {median:?}, worst {worst:?}; quiet {quiet} B/s sent by each");
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
fn after_a_cut_of_any_length_both_sides_come_together_and_have_the_same_facts() {
    for (seed, length) in [(1, SECOND), (2, 10 * SECOND), (3, 120 * SECOND)] {
        let (mut sim, net) = quiet(6, seed);
        sim.side = vec![0, 0, 0, 1, 1, 1];
        sim.run(length / 2);
        sim.with(0, |core, now| core.put_endpoint(net, endpoint("left", 1), now)).unwrap();
        sim.with(3, |core, now| core.put_endpoint(net, endpoint("right", 1), now)).unwrap();
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
fn a_push_that_is_lost_is_made_good_by_anti_entropy() {
    let (mut sim, net) = quiet(3, 1);
    sim.loss = 1.0;
    sim.with(0, |core, now| core.put_endpoint(net, endpoint("x", 1), now)).unwrap();
    sim.loss = 0.0;
    sim.run(2 * MS);
    assert!(!sees(&sim, 1, net, "x"));
    let took = sim.until(SECOND, |sim| (1..3).all(|n| sees(sim, n, net, "x")));
    assert!(took.is_some(), "the summary that follows a push was lost on them");
    // One that is lost together with what follows it is found by a round.
    sim.loss = 1.0;
    sim.with(0, |core, now| core.put_endpoint(net, endpoint("w", 1), now)).unwrap();
    sim.run(SECOND);
    sim.loss = 0.0;
    assert!(sim.until(8 * SECOND, |sim| (1..3).all(|n| sees(sim, n, net, "w"))).is_some());
    // And one that comes after a lost one shows the gap at once.
    sim.run(SECOND);
    sim.loss = 1.0;
    sim.with(0, |core, now| core.put_endpoint(net, endpoint("y", 1), now)).unwrap();
    sim.loss = 0.0;
    sim.with(0, |core, now| core.put_endpoint(net, endpoint("z", 1), now)).unwrap();
    let took = sim.until(SECOND, |sim| (1..3).all(|n| sees(sim, n, net, "y") && sees(sim, n, net, "z")));
    assert!(took.is_some_and(|took| took < 50 * MS), "{took:?}");
}

#[test]
fn a_pushed_change_reaches_those_who_share_the_network_in_one_step_and_nobody_else() {
    let (mut sim, net) = quiet(4, 1);
    sim.with(3, |core, now| core.give_up(net, now));
    sim.run(SECOND);
    sim.with(0, |core, now| core.put_endpoint(net, endpoint("x", 1), now)).unwrap();
    sim.run(3 * MS);
    assert!(sees(&sim, 1, net, "x") && sees(&sim, 2, net, "x"));
    sim.run(20 * SECOND);
    assert!(!sees(&sim, 3, net, "x"), "it went to a node that takes no part");
}

#[test]
fn a_writer_that_restarts_replaces_what_it_published_without_a_gap() {
    let (mut sim, net) = quiet(3, 1);
    for name in ["kept", "gone"] {
        sim.with(0, |core, now| core.put_endpoint(net, endpoint(name, 1), now)).unwrap();
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
fn a_network_deleted_on_one_side_of_a_cut_stays_deleted() {
    let (mut sim, net) = quiet(4, 1);
    sim.side = vec![0, 0, 1, 1];
    sim.run(5 * SECOND);
    assert!(sim.with(0, |core, now| core.delete_network(net, now)));
    sim.with(3, |core, now| core.put_endpoint(net, endpoint("x", 1), now)).unwrap();
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
    sim.with(0, |core, now| core.remove_node(id(3), now)).unwrap();
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
