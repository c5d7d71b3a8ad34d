//! The engine under input that nobody should send: what must hold whatever comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{MessageType, Query};
use hickory_proto::rr::RecordType;

use super::codec::{Questions, Response};
use super::read::{self, PACKET_MAX};
use super::{Arrival, Config, Engine, Facts, Family, Output, OwnEndpoint, PORT, RemoteNode, found, names};
use lanmesh_model::zeroconf::fold;
use lanmesh_model::{
    Endpoint, EndpointName, Found, Mac, NodeId, SeenHost, SeenService, ZeroconfFact, ZeroconfKey,
    ZeroconfMode,
};

/// The most bytes that the engine keeps of one endpoint, and the most answers that wait.
const BYTES_MAX: usize = 256 << 10;
const WAITING_MAX: usize = 600;

/// An engine with endpoints and a clock.
struct Bench {
    engine: Engine,
    now: Duration,
    local: BTreeMap<EndpointName, OwnEndpoint>,
    remote: BTreeMap<NodeId, RemoteNode>,
    published: Arc<Facts>,
    sent: u64,
    heard: u64,
}

fn name(number: u8) -> EndpointName {
    EndpointName::new(format!("e{number}")).unwrap_or_else(|_| unreachable!("a good name"))
}

fn address(number: u8) -> IpAddr {
    [10, 10, 0, 16 + number].into()
}

fn endpoint(number: u8, services: &[&str]) -> Option<Endpoint> {
    Some(Endpoint {
        name: name(number),
        service: None,
        slot: None,
        aliases: Vec::new(),
        addresses: vec![ipnetwork::IpNetwork::new(address(number), 24).ok()?],
        mac: Mac::of_endpoint(address(number)),
        services: services.iter().filter_map(|text| text.parse().ok()).collect(),
        claim: 1,
        took_ms: None,
    })
}

fn node(number: u8) -> Option<NodeId> {
    format!("{number:02x}").repeat(16).parse().ok()
}

fn host(number: u8, called: u8, last: u8) -> ZeroconfFact {
    let host = SeenHost { name: format!("H{called}"), addresses: BTreeSet::from([address(last)]) };
    ZeroconfFact { endpoint: name(number), declared: false, found: Found::Host(host) }
}

fn service(number: u8, called: u8, on: &str) -> ZeroconfFact {
    let service = SeenService {
        instance: format!("Thing {called}"),
        kind: "_x._tcp".into(),
        subtypes: BTreeSet::from(["_s".into()]),
        host: on.into(),
        port: 1,
        priority: 0,
        weight: 0,
        txt: vec![vec![called]],
    };
    ZeroconfFact { endpoint: name(number), declared: false, found: Found::Service(service) }
}

impl Bench {
    fn new(mode: u8) -> Option<Self> {
        let mode = [ZeroconfMode::Transparent, ZeroconfMode::Proxy, ZeroconfMode::Off][usize::from(mode % 3)];
        let own = BTreeSet::from([[10, 10, 0, 1].into()]);
        let families = BTreeSet::from([Family::V4, Family::V6]);
        let config = Config {
            mode,
            node: node(100)?,
            own,
            subnets: vec!["10.10.0.0/24".parse().ok()?],
            any_address: false,
            families,
            seed: 1,
        };
        Some(Self {
            engine: Engine::new(config, Facts::new()),
            now: Duration::ZERO,
            local: BTreeMap::new(),
            remote: BTreeMap::new(),
            published: Arc::default(),
            sent: 0,
            heard: 0,
        })
    }

    fn attach(&mut self, number: u8, services: &[&str]) {
        if let Some(endpoint) = endpoint(number, services) {
            self.local.insert(endpoint.name.clone(), OwnEndpoint::from(&endpoint));
        }
        let outputs = self.engine.set_local(self.now, self.local.clone());
        self.check(outputs, false);
    }

    fn detach(&mut self, number: u8) {
        self.local.remove(&name(number));
        let outputs = self.engine.set_local(self.now, self.local.clone());
        self.check(outputs, false);
    }

    fn set_remote(&mut self, number: u8, facts: Vec<ZeroconfFact>) {
        self.heard += 1;
        if let Some(id) = node(number) {
            // Endpoints 8 and above are elsewhere.
            let there = facts.iter().filter_map(|fact| fact.endpoint.as_str()[1..].parse().ok());
            let endpoints = there.filter_map(|n| endpoint(n, &[])).map(|e| (e.name.clone(), e)).collect();
            let facts = facts.into_iter().map(|fact| (fact.found.key(), fact)).collect();
            self.remote.insert(id, RemoteNode { endpoints: Arc::new(endpoints), facts: Arc::new(facts) });
        }
        let outputs = self.engine.set_remote(self.now, self.remote.clone());
        self.check(outputs, false);
    }

    fn packet(&mut self, from: SocketAddr, multicast: bool, bytes: &[u8]) {
        self.heard += 1;
        // What is due anyway.
        let outputs = self.engine.poll(self.now);
        self.check(outputs, false);
        let response =
            read::decode(bytes).is_ok_and(|p| p.message.metadata.message_type == MessageType::Response);
        let before = self.engine.counters().conflicts;
        let outputs = self.engine.packet(self.now, &Arrival { from, multicast, port: None }, bytes);
        let conflict = self.engine.counters().conflicts > before;
        self.check(outputs, response && !conflict);
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = self.engine.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            let outputs = self.engine.poll(self.now);
            self.check(outputs, false);
            let again = self.engine.deadline();
            assert!(again.is_none_or(|again| again > self.now), "the engine spins at {:?}", self.now);
        }
        self.now = end;
        if span >= Duration::from_millis(100) {
            self.check_facts();
        }
    }

    /// What must hold after everything that is done. `quiet`: it was a response, which nobody answers.
    fn check(&mut self, outputs: Vec<Output>, quiet: bool) {
        for output in outputs {
            match output {
                Output::Send { bytes, .. } => {
                    self.sent += 1;
                    assert!(bytes.len() <= PACKET_MAX, "{} bytes", bytes.len());
                    let message = read::decode(&bytes).map(|packet| packet.message);
                    let message = message.unwrap_or_else(|why| panic!("sends what is {}", why.as_str()));
                    let response = message.metadata.message_type == MessageType::Response;
                    let old = message.answers.iter().all(|record| record.ttl == 0);
                    // It may have brought about that something ends here.
                    assert!(!(quiet && response && !old), "answers a response");
                    assert!(response || message.metadata.id == 0, "a query has an id");
                }
                Output::Publish(facts) => self.published = facts,
                Output::Contested(_) | Output::Uncarried(_) | Output::Look { .. } => {}
            }
        }
        let (bytes, waiting) = self.engine.held();
        assert!(bytes <= BYTES_MAX * self.local.len(), "{bytes} bytes");
        assert!(waiting <= WAITING_MAX, "{waiting} answers wait");
    }

    /// What must hold of what is said, once it is settled.
    fn check_facts(&self) {
        for (key, fact) in &*self.published {
            assert!(fact.is_sound(key), "{fact:?}");
            assert!(self.local.contains_key(&fact.endpoint), "{fact:?}");
            if let (Found::Host(host), Some(endpoint)) = (&fact.found, self.local.get(&fact.endpoint)) {
                let link_local = IpAddr::from(endpoint.mac.link_local().ip());
                let its = |a: &IpAddr| {
                    endpoint.addresses.contains(a) || *a == link_local || names::is_link_local(a)
                };
                assert!(host.addresses.iter().all(its), "{host:?} is said of {}", endpoint.name);
                let others = self.local.keys().filter(|name| **name != fact.endpoint);
                assert!(others.clone().all(|name| fold(name.as_str()) != fold(&host.name)), "{host:?}");
            }
        }
    }

    /// When everybody has gone, nothing is left.
    fn end(mut self) {
        self.wait(Duration::from_secs(1));
        let registry = self.engine.registry();
        for (key, offer) in &registry.offers {
            let said = |node: &RemoteNode| node.facts.get(key) == Some(&offer.fact);
            let theirs = self.remote.get(&offer.node).is_some_and(said);
            assert!(theirs || self.published.get(key) == Some(&offer.fact), "{key:?} comes from nowhere");
        }
        // No storm: what was heard, and the little that an engine says by itself.
        let bound = 100 + 12 * self.heard + self.now.as_secs() * 4 * (2 + self.local.len() as u64);
        assert!(self.sent <= bound, "{} packets sent, {} heard, in {:?}", self.sent, self.heard, self.now);
        let outputs = self.engine.set_remote(self.now, BTreeMap::new());
        self.check(outputs, false);
        self.remote.clear();
        let outputs = self.engine.set_local(self.now, BTreeMap::new());
        self.local.clear();
        self.check(outputs, false);
        self.wait(Duration::from_secs(10));
        assert!(self.engine.registry().offers.is_empty() && self.published.is_empty());
        assert_eq!(self.engine.held(), (0, 0));
        let quiet = self.sent;
        self.wait(Duration::from_secs(3600));
        assert_eq!(self.sent, quiet, "an engine without endpoints speaks");
    }
}

/// Packets from an endpoint, from a stranger and from elsewhere, as they stand in `input`: the mode, and then for each
/// who sends it, how long after the one before, its length in two bytes, and the packet.
pub fn packets(input: &[u8]) {
    let Some((mode, mut rest)) = input.split_first() else { return };
    let Some(mut bench) = Bench::new(*mode) else { return };
    bench.attach(0, &["Thing 1=_x._tcp,_s:1,flag"]);
    bench.attach(1, &[]);
    bench.set_remote(7, vec![host(8, 2, 8), service(8, 3, "H2")]);
    bench.wait(Duration::from_secs(2));
    while let [who, gap, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (bytes, next) = tail.split_at(length);
        let from: IpAddr = match who % 4 {
            0 | 1 => address(1),
            2 => [0xfe80, 0, 0, 0, 0, 0, 0, 0x77].into(),
            _ => address(8),
        };
        let port = if who & 16 == 0 { PORT } else { 1024 };
        bench.packet(SocketAddr::new(from, port), who & 32 == 0, bytes);
        bench.wait(Duration::from_millis(u64::from(*gap) * 4));
        rest = next;
    }
    bench.end();
}

/// Endpoints come and go, announce, probe, ask and lie, and other nodes say this and that: two bytes for each.
pub fn registry(input: &[u8]) {
    let Some((mode, mut rest)) = input.split_first() else { return };
    let Some(mut bench) = Bench::new(*mode) else { return };
    let mut said: BTreeMap<u8, BTreeMap<ZeroconfKey, ZeroconfFact>> = BTreeMap::new();
    while let [what, how, tail @ ..] = rest {
        rest = tail;
        let (who, which) = (how % 4, how / 4 % 4);
        let from = SocketAddr::new(address(who), PORT);
        match what % 9 {
            0 => bench.attach(who, if how & 64 == 0 { &[] } else { &["Thing 1=_x._tcp:1", "_y._tcp:2"] }),
            1 => bench.detach(who),
            2 => {
                let of = said.entry(100 + who * 20 - 40).or_default();
                let endpoint = if how & 64 == 0 { 8 + who } else { who };
                for fact in [host(endpoint, which, endpoint), service(endpoint, which, &format!("h{which}"))]
                {
                    of.insert(fact.found.key(), fact);
                }
                let facts = of.values().cloned().collect();
                bench.set_remote(100 + who * 20 - 40, facts);
            }
            3 => {
                said.remove(&(100 + who * 20 - 40));
                bench.heard += 1;
                if let Some(id) = node(100 + who * 20 - 40) {
                    bench.remote.remove(&id);
                }
                let outputs = bench.engine.set_remote(bench.now, bench.remote.clone());
                bench.check(outputs, false);
            }
            4 | 5 => {
                let called = if how & 128 == 0 { format!("h{which}") } else { format!("e{which}") };
                let mut host = host(who, which, if how & 64 == 0 { who } else { which });
                if let Found::Host(host) = &mut host.found {
                    host.name.clone_from(&called);
                }
                let facts = [host, service(who, which, &called)];
                let mut answers: Vec<_> = facts.iter().flat_map(|fact| found::records(&fact.found)).collect();
                if what % 9 == 5 {
                    answers.iter_mut().for_each(|record| record.ttl = 0);
                }
                for bytes in (Response { answers, additionals: Vec::new() }).encode(None) {
                    bench.packet(from, true, &bytes);
                }
            }
            6 => bench.wait(Duration::from_millis(u64::from(*how) * u64::from(*how))),
            7 | 8 => {
                let fact = host(who, which, who);
                let probe = what % 9 == 7;
                let proposed = if probe { found::records(&fact.found) } else { Vec::new() };
                let asked = [
                    (names::host(&format!("h{which}")), RecordType::ANY),
                    (names::instance("Thing 1", "_x._tcp"), RecordType::AAAA),
                    (names::kind("_x._tcp"), RecordType::PTR),
                ];
                let query = |(name, kind): (Option<_>, _)| Some(Query::query(name?, kind));
                let queries = asked.into_iter().filter_map(query).collect();
                for bytes in (Questions { queries, known: Vec::new(), proposed }).encode() {
                    bench.packet(from, how & 64 == 0, &bytes);
                }
            }
            _ => {}
        }
    }
    bench.end();
}

/// Packets that are good: what [`packets`] may begin with.
pub fn good_packets() -> Vec<Vec<u8>> {
    let facts = [host(1, 1, 1), service(1, 2, "h1")];
    let records: Vec<_> = facts.iter().flat_map(|fact| found::records(&fact.found)).collect();
    let response = Response { answers: records.clone(), additionals: Vec::new() }.encode(None);
    let names =
        [names::types(), names::kind("_x._tcp"), names::host("h2"), names::instance("Thing 1", "_x._tcp")];
    let queries: Vec<_> =
        names.into_iter().flatten().map(|name| Query::query(name, RecordType::ANY)).collect();
    let query = Questions { queries: queries.clone(), known: records.clone(), proposed: Vec::new() }.encode();
    let probe = Questions { queries, known: Vec::new(), proposed: records }.encode();
    let mut inputs = Vec::new();
    for mode in 0..3 {
        let mut input = vec![mode];
        for (who, packet) in
            [0, 2, 16, 32, 3].iter().zip([&response, &query, &query, &probe, &response].into_iter().flatten())
        {
            input.extend([*who, 20]);
            input.extend((packet.len() as u16).to_be_bytes());
            input.extend(packet);
        }
        inputs.push(input);
    }
    inputs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_packets_are_taken() {
        good_packets().iter().for_each(|input| packets(input));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_sent_the_engine_keeps_its_bounds(
            n in 0..3usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        ) {
            let mut input = good_packets().remove(n);
            for (at, byte) in changes {
                let at = at.index(input.len());
                input[at] = byte;
            }
            packets(&input);
        }

        #[test]
        fn whatever_happens_the_registry_says_nothing_that_is_not_so(
            mode in 0..2u8,
            steps in prop::collection::vec(any::<u8>(), 0..160),
        ) {
            registry(&[&[mode][..], &steps].concat());
        }
    }
}
