//! Many nodes in one thread and in virtual time: the real state machines over a network that loses, delays and
//! cuts. Everything but the nonces follows from a seed.

mod copies;
mod removal;
mod tests;

use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::config::Initial;
use super::core::{Boot, Core, Output, Persist};
use super::gossip_key::GossipKey;
use super::ledger::{Admission, Claim, Ledger};
use super::run::Run;
use super::testing::{Ca, ca, endpoint, network};
use super::*;
use crate::model::{
    ClusterView, Endpoint, Loan, LoanNumber, NetworkId, NodeId, NodeIndex, NodeName, NodeState,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

enum Arrival {
    Datagram(SocketAddr, Vec<u8>),
    /// The end of an exchange over a stream with this node.
    Exchange(usize),
}

struct Node {
    core: Option<Core>,
    /// As whom it runs: a copy of a node has its identity.
    who: usize,
    /// Which run its next start is; where there is none it only counts, as the first releases did.
    run: Option<Run>,
    incarnation: u64,
    ledger: Ledger,
    records: Vec<facts::Record>,
    lent: BTreeMap<LoanNumber, Loan>,
    /// What arrived and was not looked at yet.
    inbox: Vec<Arrival>,
    /// Until when it gets no processor.
    paused: Duration,
    events: Vec<(Duration, ClusterEvent)>,
}

struct Sim {
    now: Duration,
    nodes: Vec<Node>,
    /// With whom those that were woken had an exchange.
    met: Vec<usize>,
    /// Sorted by time, then by order of sending.
    wire: BTreeMap<(Duration, u64), (usize, Arrival)>,
    sent: u64,
    loss: f64,
    /// Where each node is.
    addresses: Vec<SocketAddr>,
    /// Nodes hear each other only within a side.
    side: Vec<u8>,
    /// Every datagram that was sent since recording began: to whom, from where, what.
    tape: Option<Vec<(usize, SocketAddr, Vec<u8>)>>,
    ca: Ca,
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

/// The node with that id, and the one with that address: what [`id`] and [`address`] were made of.
fn with_id(id: NodeId) -> usize {
    id.as_bytes()[..8].iter().fold(0, |n, byte| n << 8 | usize::from(*byte))
}

fn admission(n: usize) -> Admission {
    let name = NodeName::new(format!("n{n}")).unwrap();
    Admission { term: 1, node: id(n), name, index: NodeIndex(n as u32), address: address(n), key: None }
}

impl Sim {
    /// The node that has the address, which is mostly its first one: no need to look at all of them.
    fn with_address(&self, address: SocketAddr) -> Option<usize> {
        let first = match address.ip() {
            IpAddr::V4(v4) => {
                (usize::from(v4.octets()[2]) * 250 + usize::from(v4.octets()[3])).saturating_sub(1)
            }
            IpAddr::V6(_) => usize::MAX,
        };
        if self.addresses.get(first) == Some(&address) {
            return Some(first);
        }
        self.addresses.iter().position(|known| *known == address)
    }

    /// `n` nodes that were all let in and have just started.
    fn new(n: usize, seed: u64) -> Self {
        let ca = ca();
        let mut ledger = Ledger::default();
        for n in 0..n {
            ledger.merge(Claim::Admitted(admission(n)));
        }
        let node = |who| Node {
            core: None,
            who,
            run: None,
            incarnation: 0,
            ledger: ledger.clone(),
            records: Vec::new(),
            lent: BTreeMap::new(),
            inbox: Vec::new(),
            paused: Duration::ZERO,
            events: Vec::new(),
        };
        let mut sim = Self {
            now: Duration::ZERO,
            nodes: (0..n).map(node).collect(),
            met: Vec::new(),
            wire: BTreeMap::new(),
            sent: 0,
            loss: 0.0,
            addresses: (0..n).map(address).collect(),
            side: vec![0; n],
            tape: None,
            key: ca.gossip_key(1, 1),
            ca,
            timing: Timing::default(),
            random: SmallRng::seed_from_u64(seed + shift()),
        };
        for n in 0..n {
            sim.start(n, BTreeMap::new());
        }
        sim
    }

    fn start(&mut self, n: usize, initial: BTreeMap<NetworkId, Vec<Endpoint>>) {
        let who = self.nodes[n].who;
        let Admission { name, index, .. } = admission(who);
        let address = self.addresses[n];
        let fact = kinds::NodeFact {
            name,
            index,
            address,
            vtep: address.ip(),
            underlay_mtu: 1500,
            networks: Default::default(),
            mesh: Vec::new(),
            protocols: (0, 0),
            traits: BTreeMap::new(),
        };
        let last = self.nodes[n].incarnation;
        self.nodes[n].incarnation = self.nodes[n].run.map_or(last + 1, |run| run.above(last));
        let boot = Boot {
            me: id(who),
            fact,
            incarnation: self.nodes[n].incarnation,
            ledger: self.nodes[n].ledger.clone(),
            ca: self.ca.public_key(),
            keys: vec![self.key.clone()],
            peers: BTreeMap::new(),
            initial: Initial { networks: initial, ..Initial::default() },
            lent: self.nodes[n].lent.clone(),
            cleared: Default::default(),
            records: self.nodes[n].records.clone(),
            protocols: Protocols::SPOKEN,
            wall_ms: 1_000_000,
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
                    let Some(to) = self.with_address(to) else { continue };
                    if let Some(tape) = &mut self.tape {
                        tape.push((to, self.addresses[n], datagram.clone()));
                    }
                    if self.hears(n, to) && !self.random.random_bool(self.loss) {
                        let delay = MS.mul_f64(self.random.random_range(0.1..2.0));
                        self.post(to, delay, Arrival::Datagram(self.addresses[n], datagram));
                    }
                }
                Output::Sync(peer, address) => {
                    let who = with_id(peer);
                    let there = self.with_address(address).filter(|n| self.nodes[*n].who == who);
                    let peer = there.unwrap_or(who);
                    let delay = if self.hears(n, peer) { 5 * MS } else { 3 * SECOND };
                    self.post(n, delay, Arrival::Exchange(peer));
                }
                Output::Persist(Persist::Claim(claim)) => drop(self.nodes[n].ledger.merge(claim)),
                Output::Persist(Persist::Record(record)) => {
                    self.nodes[n].records.retain(|known| known.key != record.key);
                    self.nodes[n].records.push(record);
                }
                Output::Persist(Persist::Incarnation(incarnation)) => self.nodes[n].incarnation = incarnation,
                Output::Persist(_) | Output::Trust(_) | Output::Left => {}
                Output::Event(event) => self.nodes[n].events.push((self.now, event)),
            }
        }
    }

    fn exchange(&mut self, a: usize, b: usize) {
        let heard = self.hears(a, b);
        let (now, who) = (self.now, self.nodes[b].who);
        let [a_core, b_core] = self.nodes.get_disjoint_mut([a, b]).unwrap().map(|node| node.core.as_mut());
        let Some(a_core) = a_core else { return };
        if let Some(b_core) = b_core.filter(|_| heard) {
            let compare = b_core.compare(&a_core.summary());
            let mut give = wire::Part::default();
            for part in a_core.answer(compare, now).split() {
                let answer = b_core.finish(part, now);
                give.deltas.extend(answer.deltas);
                give.records.extend(answer.records);
            }
            for part in give.split() {
                a_core.absorb(part, now);
            }
            a_core.sync_done(id(who), true, now);
        } else {
            a_core.sync_done(id(who), false, now);
        }
        self.flush(a);
        self.flush(b);
        self.met.push(b);
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
        // When each node is due, of which only what was worked out last counts; the rest is skipped.
        let mut due = BinaryHeap::new();
        let mut last = vec![None; self.nodes.len()];
        let plan = |n: usize, node: &Node, last: &mut [Option<Duration>], due: &mut BinaryHeap<_>| {
            let at = node.core.as_ref().map(|core| core.deadline().max(node.paused));
            if std::mem::replace(&mut last[n], at) != at {
                due.extend(at.map(|at| std::cmp::Reverse((at, n))));
            }
        };
        for (n, node) in self.nodes.iter().enumerate() {
            plan(n, node, &mut last, &mut due);
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
                let Some(std::cmp::Reverse((at, n))) = due.pop() else { break };
                if last[n] != Some(at) {
                    continue;
                }
                last[n] = None;
                n
            };
            self.wake(n);
            for n in std::mem::take(&mut self.met).into_iter().chain([n]) {
                plan(n, &self.nodes[n], &mut last, &mut due);
            }
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

    /// Node `n`, as the manager, shuts out node `who`.
    fn remove(&mut self, n: usize, who: usize) {
        let (epoch, _) = self.with(n, |core, _| core.key_epoch());
        let key = self.ca.gossip_key(epoch + 1, epoch + 1);
        self.with(n, |core, now| core.remove_node(id(who), key, now)).unwrap();
    }

    fn all_alive(&self) -> bool {
        self.nodes.iter().all(|node| node.core.as_ref().unwrap().all_alive())
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
