//! Several nodes through any sequence of rotations, restarts, cuts and removals, in virtual time: a pair that hears each
//! other has a working path in each direction at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::testing::{id, view};
use super::*;
use lanmesh_model::{ClusterView, MeshEpoch, MeshKey, NodeId, NodeIndex, NodeState, PublicKey};

const CLUSTER: &str = "0123456789abcdef";
const TICK: Duration = Duration::from_millis(100);
/// News, handshakes and packets take up to so long.
const DELAY: u32 = 10;
/// So many ticks a packet is on its way.
const FLIGHT: usize = 3;
const DETECT: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(20);
/// Where nothing stands in its way, a path is there again within this time.
const RECOVER: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
enum Event {
    Rotate,
    /// The agent of a node ends, its kernel goes on.
    Down(usize),
    Up(usize),
    /// The node hears nobody.
    Cut(usize),
    Heal(usize),
    Remove(usize),
    /// The same as a rotation, by another manager: two secrets with one number.
    RotateTwice,
}

struct Node {
    n: u8,
    /// `None` while its agent is down.
    rotation: Option<Rotation>,
    remembered: Vec<OwnKey>,
    kernel: Option<DesiredMesh>,
    handshakes: Handshakes,
    published: Vec<MeshKey>,
    secret: MeshSecret,
    /// What it has heard from each other node, and what is on its way, with the tick at which it is there.
    heard: BTreeMap<usize, Vec<MeshKey>>,
    on_way: Vec<(u32, usize, Vec<MeshKey>)>,
    removed: BTreeSet<usize>,
    secret_on_way: Option<(u32, MeshSecret)>,
    down_since: Option<u32>,
    cut: bool,
}

struct World {
    tick: u32,
    nodes: Vec<Node>,
    secrets: Vec<MeshSecret>,
    gone: BTreeMap<usize, u32>,
    random: SmallRng,
    /// Handshakes that are under way: when, at whom, in which epoch, with which key.
    handshakes: Vec<(u32, usize, MeshEpoch, PublicKey)>,
    begun: BTreeSet<(usize, usize, MeshEpoch, PublicKey, PublicKey)>,
    /// The pairs that have a working path, and must keep it.
    armed: BTreeSet<(usize, usize)>,
    /// Since when the two of a pair have not heard each other.
    apart: BTreeMap<(usize, usize), u32>,
    /// When a pair came together again of which one had given the other up: its path need not be there at once.
    reunited: BTreeMap<(usize, usize), u32>,
    /// Since when nothing stands in the way of each pair.
    clear: BTreeMap<(usize, usize), u32>,
    sent: Vec<BTreeMap<(usize, usize), (MeshEpoch, PublicKey)>>,
}

impl World {
    fn new(n: usize, seed: u64) -> Self {
        let secret = MeshSecret::derive(1, &[1; 32]);
        let node = |n: usize| Node {
            n: n as u8,
            rotation: Some(Rotation::new(CLUSTER, 1000, GRACE, [])),
            remembered: Vec::new(),
            kernel: None,
            handshakes: Handshakes::new(),
            published: Vec::new(),
            secret: secret.clone(),
            heard: BTreeMap::new(),
            on_way: Vec::new(),
            removed: BTreeSet::new(),
            secret_on_way: None,
            down_since: None,
            cut: false,
        };
        Self {
            tick: 0,
            nodes: (0..n).map(node).collect(),
            secrets: vec![secret],
            gone: BTreeMap::new(),
            random: SmallRng::seed_from_u64(seed),
            handshakes: Vec::new(),
            begun: BTreeSet::new(),
            armed: BTreeSet::new(),
            apart: BTreeMap::new(),
            reunited: BTreeMap::new(),
            clear: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    fn soon(&mut self) -> u32 {
        self.tick + self.random.random_range(1..DELAY)
    }

    fn hears(&self, a: usize, b: usize) -> bool {
        !self.nodes[a].cut && !self.nodes[b].cut
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let all = || (0..self.nodes.len()).filter(|n| !self.gone.contains_key(n));
        all().flat_map(|a| all().filter(move |b| a != *b).map(move |b| (a, b))).collect()
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Rotate | Event::RotateTwice => {
                let number = self.secrets.len() as u32 + 1;
                self.secrets.push(MeshSecret::derive(number, &self.random.random()));
                if matches!(event, Event::RotateTwice) {
                    self.secrets.push(MeshSecret::derive(number, &self.random.random()));
                }
            }
            Event::Down(n) => {
                if self.nodes[n].rotation.take().is_some() {
                    self.nodes[n].down_since = Some(self.tick);
                }
            }
            Event::Up(n) => {
                let node = &mut self.nodes[n];
                if node.rotation.is_none() {
                    node.rotation = Some(Rotation::new(CLUSTER, 1000, GRACE, node.remembered.clone()));
                    node.down_since = None;
                }
            }
            Event::Cut(n) => self.nodes[n].cut = true,
            Event::Heal(n) => self.nodes[n].cut = false,
            Event::Remove(n) => {
                if self.gone.len() + 2 < self.nodes.len() {
                    self.gone.entry(n).or_insert(self.tick);
                    self.happen(&Event::Rotate);
                }
            }
        }
    }

    /// What node `a` sees.
    fn view(&self, a: usize) -> ClusterView {
        let node = &self.nodes[a];
        let known = (0..self.nodes.len()).filter(|b| !node.removed.contains(b)).map(|b| {
            let keys =
                if a == b { node.published.clone() } else { node.heard.get(&b).cloned().unwrap_or_default() };
            (b as u8, keys)
        });
        let mut seen = view(node.n, known);
        for node in Arc::make_mut(&mut seen.nodes).values_mut() {
            let b = usize::from(node.id.as_bytes()[0]);
            let silent = self.nodes[b].down_since.is_some_and(|since| TICK * (self.tick - since) >= DETECT);
            if silent || (a != b && !self.hears(a, b)) {
                node.state = NodeState::Dead;
            }
        }
        seen
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        self.tick += 1;
        self.travel();
        for a in 0..self.nodes.len() {
            let seen = self.view(a);
            let key: [u8; 32] = self.random.random();
            let now = TICK * self.tick;
            let node = &mut self.nodes[a];
            let Some(rotation) = node.rotation.as_mut() else { continue };
            let secret = node.secret.clone();
            let step = rotation.step(&seen, &secret, &node.handshakes, now, || PrivateKey::from_bytes(key));
            let step = step.unwrap();
            if step.remember {
                node.remembered = rotation.keys().cloned().collect();
            } else {
                prop_assert_eq!(&node.remembered, &rotation.keys().cloned().collect::<Vec<_>>());
            }
            // Handshakes are those of devices that stand.
            let devices: BTreeSet<MeshEpoch> = step.desired.devices.keys().copied().collect();
            node.handshakes.retain(|(epoch, _)| devices.contains(epoch));
            let slots: BTreeSet<u8> = step.desired.devices.values().map(|device| device.slot).collect();
            prop_assert_eq!(slots.len(), devices.len());
            prop_assert!(devices.len() <= MAX_LIVE && slots.iter().all(|slot| usize::from(*slot) < MAX_LIVE));
            node.kernel = Some(step.desired);
            if node.published != step.publish {
                node.published = step.publish;
            }
        }
        self.check()
    }

    /// Brings what is on its way.
    fn travel(&mut self) {
        let (tick, n) = (self.tick, self.nodes.len());
        for to in 0..n {
            for from in 0..n {
                let said = self.nodes[from].published.clone();
                let last = self.nodes[to]
                    .on_way
                    .iter()
                    .rev()
                    .find(|(_, by, _)| *by == from)
                    .map(|(_, _, keys)| keys);
                let known = last.or_else(|| self.nodes[to].heard.get(&from));
                if from != to
                    && self.hears(from, to)
                    && self.nodes[from].rotation.is_some()
                    && known != Some(&said)
                {
                    // In order, as versions are.
                    let after = self.nodes[to]
                        .on_way
                        .iter()
                        .filter(|(_, by, _)| *by == from)
                        .map(|(at, ..)| *at)
                        .max();
                    let at = self.soon().max(after.unwrap_or(0));
                    self.nodes[to].on_way.push((at, from, said));
                }
            }
            let newest = self.secrets.iter().max_by_key(|secret| secret.epoch()).cloned().unwrap();
            let others = (0..n).any(|b| b != to && self.hears(to, b) && self.nodes[b].rotation.is_some());
            let gone: Vec<usize> =
                self.gone.iter().filter(|(_, at)| tick >= **at + DELAY).map(|(n, _)| *n).collect();
            if self.nodes[to].rotation.is_none() || self.nodes[to].cut || !others {
                continue;
            }
            let at = self.soon();
            let removed = self.gone.contains_key(&to);
            let node = &mut self.nodes[to];
            if newest.epoch() > node.secret.epoch() && node.secret_on_way.is_none() && !removed {
                node.secret_on_way = Some((at, newest));
            }
            if let Some((at, secret)) = node.secret_on_way.take() {
                if at <= tick { node.secret = secret } else { node.secret_on_way = Some((at, secret)) }
            }
            let (here, on_way): (Vec<_>, Vec<_>) =
                std::mem::take(&mut node.on_way).into_iter().partition(|x| x.0 <= tick);
            node.on_way = on_way;
            for (_, from, keys) in here {
                node.heard.insert(from, keys);
            }
            node.removed.extend(gone.into_iter().filter(|gone| *gone != to));
        }
        self.shake_hands();
    }

    /// Two devices that know each other have a handshake, of which each side hears in its own time.
    fn shake_hands(&mut self) {
        for (a, b) in self.pairs() {
            if !self.hears(a, b) {
                continue;
            }
            let (Some(x), Some(y)) = (&self.nodes[a].kernel, &self.nodes[b].kernel) else { continue };
            let mut met = Vec::new();
            for (epoch, device) in &x.devices {
                let Some(other) = y.devices.get(epoch) else { continue };
                let (mine, theirs) = (device.public, other.public);
                if device.peers.contains_key(&theirs) && other.peers.contains_key(&mine) {
                    met.push((*epoch, mine, theirs));
                }
            }
            for (epoch, mine, theirs) in met {
                if self.begun.insert((a, b, epoch, mine, theirs)) {
                    let at = self.soon();
                    self.handshakes.push((at, a, epoch, theirs));
                }
            }
        }
        let tick = self.tick;
        for (_, at, epoch, key) in self.handshakes.extract_if(.., |(due, ..)| *due <= tick) {
            if self.nodes[at].kernel.as_ref().is_some_and(|kernel| kernel.devices.contains_key(&epoch)) {
                self.nodes[at].handshakes.insert((epoch, key));
            }
        }
    }

    /// Over what `a` sends to `b`, with which key of its own.
    fn sends(&self, a: usize, b: usize) -> Option<(MeshEpoch, PublicKey)> {
        let kernel = self.nodes[a].kernel.as_ref()?;
        let epoch = kernel.routes.get(&mesh_address(CLUSTER, NodeIndex(b as u32)))?.epoch;
        let device = kernel.devices.get(&epoch)?;
        device.peers.values().any(|peer| peer.node == id(b as u8)).then_some((epoch, device.public))
    }

    /// Whether `b` takes what `a` sends with this key: it has that peer, and the peer the right address and secret.
    fn takes(&self, b: usize, a: usize, (epoch, key): (MeshEpoch, PublicKey)) -> bool {
        let device = self.nodes[b].kernel.as_ref().and_then(|kernel| kernel.devices.get(&epoch));
        let peer = device.and_then(|device| device.peers.get(&key));
        peer.is_some_and(|peer| peer.address == mesh_address(CLUSTER, NodeIndex(a as u32)))
    }

    fn works(&self, a: usize, b: usize) -> bool {
        self.sends(a, b).is_some_and(|over| self.takes(b, a, over))
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let tick = self.tick;
        let short = |node: &Node| node.down_since.is_none_or(|since| TICK * (tick - since) < GRACE);
        for (a, b) in self.pairs() {
            let short = short(&self.nodes[a]) && short(&self.nodes[b]);
            if !short || !self.hears(a, b) {
                self.armed.remove(&(a, b));
                self.clear.remove(&(a, b));
                let since = *self.apart.entry((a, b)).or_insert(tick);
                if !short || TICK * (tick - since) >= GRACE {
                    self.reunited.insert((a, b), tick);
                }
                continue;
            }
            self.apart.remove(&(a, b));
            let works = self.works(a, b);
            prop_assert!(
                works || !self.armed.contains(&(a, b)),
                "tick {}: {} lost its path to {}",
                tick,
                a,
                b
            );
            if works && self.reunited.get(&(a, b)).is_none_or(|at| TICK * (tick - at) >= RECOVER) {
                self.armed.insert((a, b));
            }
            let both = self.nodes[a].rotation.is_some() && self.nodes[b].rotation.is_some();
            let since = *self
                .clear
                .entry((a, b))
                .and_modify(|since| {
                    if !both {
                        *since = tick;
                    }
                })
                .or_insert(tick);
            let waited = TICK * (tick - since);
            prop_assert!(
                works || waited < RECOVER,
                "tick {}: {} has no path to {} after {:?}",
                tick,
                a,
                b,
                waited
            );
        }
        // What is on its way arrives too.
        if let Some(before) = self.sent.len().checked_sub(FLIGHT) {
            for ((a, b), over) in &self.sent[before] {
                let taken = self.takes(*b, *a, *over);
                prop_assert!(
                    taken
                        || !self.armed.contains(&(*a, *b))
                        || self.gone.contains_key(a)
                        || self.gone.contains_key(b),
                    "tick {}: a packet from {} to {} was on its way in {}",
                    tick,
                    a,
                    b,
                    over.0
                );
            }
        }
        let sent = self.armed.iter().filter_map(|pair| Some((*pair, self.sends(pair.0, pair.1)?)));
        let sent = sent.collect();
        self.sent.push(sent);
        self.check_removed()
    }

    /// Nobody who knows of a removal has the node as a peer or a way to it.
    fn check_removed(&self) -> Result<(), TestCaseError> {
        for node in self.nodes.iter().filter(|node| node.rotation.is_some()) {
            let Some(kernel) = &node.kernel else { continue };
            let removed: BTreeSet<NodeId> = node.removed.iter().map(|n| id(*n as u8)).collect();
            for device in kernel.devices.values() {
                prop_assert!(device.peers.values().all(|peer| !removed.contains(&peer.node)));
            }
            for n in &node.removed {
                prop_assert!(!kernel.routes.contains_key(&mesh_address(CLUSTER, NodeIndex(*n as u32))));
            }
        }
        Ok(())
    }

    fn run(&mut self, ticks: u32) -> Result<(), TestCaseError> {
        (0..ticks).try_for_each(|_| self.step())
    }
}

fn event(nodes: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Rotate),
        1 => Just(Event::RotateTwice),
        2 => (0..nodes).prop_map(Event::Down),
        3 => (0..nodes).prop_map(Event::Up),
        1 => (0..nodes).prop_map(Event::Cut),
        2 => (0..nodes).prop_map(Event::Heal),
        1 => (0..nodes).prop_map(Event::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_pair_that_hears_each_other_is_ever_without_a_working_path_and_in_the_end_all_have_one_key(
        nodes in 2usize..5,
        seed in any::<u64>(),
        events in prop::collection::vec((1u32..150, event(4)), 0..25),
    ) {
        let mut world = World::new(nodes, seed);
        world.run(50)?;
        for (after, event) in events {
            let within = match event {
                Event::Down(n) | Event::Up(n) | Event::Cut(n) | Event::Heal(n) | Event::Remove(n) => n < nodes,
                Event::Rotate | Event::RotateTwice => true,
            };
            if within {
                world.happen(&event);
            }
            world.run(after)?;
        }
        for n in 0..nodes {
            world.happen(&Event::Up(n));
            world.happen(&Event::Heal(n));
        }
        world.run(400)?;
        let newest = world.secrets.iter().map(MeshSecret::epoch).max().unwrap();
        for (n, node) in world.nodes.iter().enumerate().filter(|(n, _)| !world.gone.contains_key(n)) {
            let kernel = node.kernel.as_ref().unwrap();
            let epochs: Vec<MeshEpoch> = kernel.devices.keys().copied().collect();
            prop_assert_eq!(epochs, vec![newest], "node {}", n);
            prop_assert!(node.rotation.as_ref().unwrap().is_settled());
            let others = world.nodes.len() - world.gone.len() - 1;
            prop_assert_eq!(kernel.routes.len(), others);
            prop_assert_eq!(kernel.devices[&newest].peers.len(), others);
        }
    }
}

#[test]
fn a_rotation_among_nodes_that_hear_each_other_is_over_within_ten_seconds() {
    for seed in 0..10 {
        let mut world = World::new(4, seed);
        world.run(100).unwrap();
        world.happen(&Event::Rotate);
        world.run(100).unwrap();
        assert!(world.nodes.iter().all(|node| node.rotation.as_ref().unwrap().is_settled()), "seed {seed}");
        assert_eq!(world.nodes[0].published[0].epoch, world.secrets[1].epoch());
    }
}

#[test]
fn without_a_handshake_in_the_new_epoch_the_old_one_stays_in_use() {
    let mut world = World::new(2, 1);
    world.run(100).unwrap();
    let old = world.sends(0, 1).unwrap().0;
    // As where a firewall knows the old port only.
    world.happen(&Event::Rotate);
    for _ in 0..300 {
        world.step().unwrap();
        world.handshakes.clear();
    }
    assert_eq!(world.sends(0, 1).unwrap().0, old);
    assert!(!world.nodes[0].rotation.as_ref().unwrap().is_settled());
}
