//! A network of several nodes with hosts on their bridges, in virtual time.

mod host;
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::MessageType;

use super::testing::{address, endpoint, node};
use super::{
    Arrival, Config, Contest, Destination, Engine, Facts, Family, Output, OwnEndpoint, PORT, RemoteNode, read,
};
use host::Host;
use lanmesh_model::{Endpoint, EndpointName, NodeId, ZeroconfMode};

const GATEWAY: [u8; 4] = [10, 10, 0, 1];
/// Until a packet is at the other hosts of a bridge, and until facts are at the other nodes.
const WIRE: Duration = Duration::from_micros(200);
const NEWS: Duration = Duration::from_millis(20);

/// What happens at some time.
enum Event {
    Packet { at: usize, from: SocketAddr, to: Destination, agent: bool, bytes: Vec<u8> },
    Facts { of: usize, facts: Arc<Facts> },
}

struct Place {
    id: NodeId,
    engine: Engine,
    endpoints: BTreeMap<EndpointName, Endpoint>,
    hosts: BTreeMap<EndpointName, Host>,
    alive: bool,
    /// Whether its agent runs; if not, its hosts go on.
    agent: bool,
    /// What the other nodes have heard of it.
    facts: Arc<Facts>,
}

/// The network.
pub struct Lan {
    pub now: Duration,
    mode: ZeroconfMode,
    places: Vec<Place>,
    queue: BTreeMap<(Duration, u64), Event>,
    count: u64,
    /// Packets that agents have sent: queries, responses.
    pub sent: [u64; 2],
    /// Datagrams of mDNS that crossed the underlay.
    pub crossed: u64,
    /// What people were told.
    pub contests: Vec<Contest>,
}

impl Lan {
    pub fn new(mode: ZeroconfMode, nodes: u8) -> Self {
        let place = |number| Place {
            id: node(number),
            engine: engine(mode, number, Facts::new()),
            endpoints: BTreeMap::new(),
            hosts: BTreeMap::new(),
            alive: true,
            agent: true,
            facts: Arc::default(),
        };
        let places = (1..=nodes).map(place).collect();
        let mut lan = Self {
            now: Duration::ZERO,
            mode,
            places,
            queue: BTreeMap::new(),
            count: 0,
            sent: [0; 2],
            crossed: 0,
            contests: Vec::new(),
        };
        (0..usize::from(nodes)).for_each(|at| lan.tell_local(at));
        lan
    }

    pub fn attach(&mut self, at: usize, called: &str, last: u8, advertise: &[&str]) {
        let mut new = endpoint(called, last);
        new.services = advertise.iter().map(|text| text.parse().unwrap()).collect();
        self.places[at].endpoints.insert(new.name.clone(), new);
        self.tell_local(at);
        self.tell_remote();
    }

    pub fn attach_host(
        &mut self,
        at: usize,
        called: &str,
        last: u8,
        hostname: &str,
        kinds: &[&str],
        browses: Option<&str>,
    ) {
        let host = Host::new(self.now, address(last), hostname, kinds, browses);
        self.places[at].hosts.insert(EndpointName::new(called).unwrap(), host);
        self.attach(at, called, last, &[]);
    }

    pub fn detach(&mut self, at: usize, called: &str) {
        let name = EndpointName::new(called).unwrap();
        self.places[at].endpoints.remove(&name);
        self.places[at].hosts.remove(&name);
        self.tell_local(at);
        self.tell_remote();
    }

    /// A node and all on it fall silent; the others notice at once.
    pub fn die(&mut self, at: usize) {
        self.places[at].alive = false;
        self.tell_remote();
    }

    /// The agent of a node stops, for so long that the others give it up.
    pub fn stop_agent(&mut self, at: usize) {
        self.places[at].agent = false;
        self.tell_remote();
    }

    /// It is back, with an agent that has just started and hosts that have not.
    pub fn revive(&mut self, at: usize) {
        self.places[at].alive = true;
        self.restart(at, false);
    }

    /// The agent of a node starts again, and may remember what it said.
    pub fn restart(&mut self, at: usize, remembers: bool) {
        let before = if remembers { (*self.places[at].facts).clone() } else { Facts::new() };
        let number = at as u8 + 1;
        self.places[at].engine = engine(self.mode, number, before);
        self.places[at].agent = true;
        self.tell_local(at);
        if !remembers {
            self.publish(at, Arc::default());
        }
        self.tell_remote();
    }

    pub fn host(&self, at: usize, called: &str) -> &Host {
        &self.places[at].hosts[&EndpointName::new(called).unwrap()]
    }

    pub fn engine(&self, at: usize) -> &Engine {
        &self.places[at].engine
    }

    pub fn facts(&self, at: usize) -> &Facts {
        &self.places[at].facts
    }

    fn tell_local(&mut self, at: usize) {
        let place = &mut self.places[at];
        let local: BTreeMap<_, _> =
            place.endpoints.values().map(|e| (e.name.clone(), OwnEndpoint::from(e))).collect();
        let out = place.engine.set_local(self.now, local);
        self.carry_out(at, out);
    }

    fn tell_remote(&mut self) {
        for at in 0..self.places.len() {
            let others =
                self.places.iter().enumerate().filter(|(i, place)| *i != at && place.alive && place.agent);
            let others = others.map(|(_, place)| {
                let endpoints = Arc::new(place.endpoints.clone());
                (place.id, RemoteNode { endpoints, facts: Arc::clone(&place.facts) })
            });
            let others = if self.places[at].alive { others.collect() } else { BTreeMap::new() };
            if !self.places[at].agent {
                continue;
            }
            let out = self.places[at].engine.set_remote(self.now, others);
            self.carry_out(at, out);
        }
    }

    fn publish(&mut self, of: usize, facts: Arc<Facts>) {
        self.push(NEWS, Event::Facts { of, facts });
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + after, self.count), event);
    }

    fn carry_out(&mut self, at: usize, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Publish(facts) => {
                    assert!(facts.iter().all(|(key, fact)| fact.is_sound(key)));
                    self.publish(at, facts);
                }
                Output::Contested(contest) => self.contests.push(contest),
                Output::Uncarried(_) | Output::Look { .. } => {}
                Output::Send { to, bytes } => {
                    let message = read::decode(&bytes).expect("agents send what can be read").message;
                    let response = message.metadata.message_type == MessageType::Response;
                    self.sent[usize::from(response)] += 1;
                    if self.places[at].alive {
                        let from = SocketAddr::new(GATEWAY.into(), PORT);
                        self.transmit(at, from, to, true, &bytes);
                    }
                }
            }
        }
    }

    pub fn transmit(&mut self, at: usize, from: SocketAddr, to: Destination, agent: bool, bytes: &[u8]) {
        let everywhere = match to {
            Destination::Group(_) => self.mode == ZeroconfMode::Transparent,
            Destination::Here(_) => false,
            Destination::Unicast(_) => true,
        };
        for other in 0..self.places.len() {
            if other == at || everywhere && self.places[other].alive && self.places[at].alive {
                self.crossed += u64::from(other != at && to == Destination::Group(Family::V4));
                let bytes = bytes.to_vec();
                self.push(WIRE, Event::Packet { at: other, from, to, agent: agent && other == at, bytes });
            }
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let event = self.queue.keys().next().map(|(at, _)| *at);
            let timers = self.places.iter().flat_map(|place| {
                let hosts = place.hosts.values().filter_map(Host::deadline);
                hosts.chain(place.engine.deadline().filter(|_| place.agent))
            });
            let Some(next) = timers.chain(event).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if event == Some(next) || event.is_some_and(|event| event <= self.now) {
                let ((_, _), event) = self.queue.pop_first().unwrap();
                self.happen(event);
            } else {
                self.tick();
            }
        }
        self.now = end;
    }

    /// Lets time pass until nothing is on its way and all that was heard is published.
    pub fn rest(&mut self) {
        let busy = |lan: &Self| {
            let unsettled = |place: &Place| place.alive && place.agent && place.engine.unsettled;
            !lan.queue.is_empty() || lan.places.iter().any(unsettled)
        };
        // At least once: what was done a moment ago has yet to begin.
        self.run(Duration::from_millis(150));
        for _ in 0..1000 {
            if !busy(self) {
                return;
            }
            self.run(Duration::from_millis(5));
        }
        panic!("it never rests");
    }

    fn tick(&mut self) {
        for at in 0..self.places.len() {
            let (now, place) = (self.now, &mut self.places[at]);
            let due = |deadline: Option<Duration>| deadline.is_some_and(|due| due <= now);
            if place.agent && due(place.engine.deadline()) {
                let out = place.engine.poll(self.now);
                assert!(place.engine.deadline().is_none_or(|next| next > self.now), "an engine spins");
                self.carry_out(at, out);
            }
            let mut packets = Vec::new();
            for host in self.places[at].hosts.values_mut().filter(|host| due(host.deadline())) {
                packets.extend(host.poll(now).into_iter().map(|bytes| (host.address, bytes)));
            }
            for (from, bytes) in packets {
                self.transmit(at, SocketAddr::new(from, PORT), Destination::Group(Family::V4), false, &bytes);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Facts { of, facts } => {
                self.places[of].facts = facts;
                self.tell_remote();
            }
            Event::Packet { at, from, to, agent, bytes } => self.arrive(at, from, to, agent, &bytes),
        }
    }

    fn arrive(&mut self, at: usize, from: SocketAddr, to: Destination, agent: bool, bytes: &[u8]) {
        let message = read::decode(bytes).ok().map(|packet| packet.message);
        let group = matches!(to, Destination::Group(_) | Destination::Here(_));
        let mut replies = Vec::new();
        for host in self.places[at].hosts.values_mut() {
            let for_it = group || to == Destination::Unicast(SocketAddr::new(host.address, PORT));
            if let Some(message) = message.as_ref().filter(|_| for_it && host.address != from.ip()) {
                replies.extend(host.hear(self.now, message).into_iter().map(|reply| (host.address, reply)));
            }
        }
        for (address, (alone, bytes)) in replies {
            let to = if alone { Destination::Unicast(from) } else { Destination::Group(Family::V4) };
            // A unicast answer to the gateway stays on the node.
            let gateway = from.ip() == IpAddr::from(GATEWAY);
            let from = SocketAddr::new(address, PORT);
            match alone && gateway {
                true => self.push(WIRE, Event::Packet { at, from, to, agent: false, bytes }),
                false => self.transmit(at, from, to, false, &bytes),
            }
        }
        let for_agent = group || to == Destination::Unicast(SocketAddr::new(GATEWAY.into(), PORT));
        // The kernel drops what comes from its own address by the wire.
        let hears = self.places[at].alive && self.places[at].agent;
        if for_agent && (agent || from.ip() != IpAddr::from(GATEWAY)) && hears {
            let arrival = Arrival { from, multicast: group, port: None };
            let out = self.places[at].engine.packet(self.now, &arrival, bytes);
            self.carry_out(at, out);
        }
    }
}

fn engine(mode: ZeroconfMode, number: u8, before: Facts) -> Engine {
    let config = Config {
        mode,
        node: node(number),
        own: BTreeSet::from([GATEWAY.into()]),
        subnets: vec!["10.10.0.0/24".parse().unwrap()],
        any_address: false,
        families: BTreeSet::from([Family::V4]),
        seed: number.into(),
    };
    Engine::new(config, before)
}
