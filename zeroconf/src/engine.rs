//! The engine: what it is told, what it wants done, and when.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, Record, RecordType};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::ask::{Allowance, Ask, Asks};
use super::budgets::Budgets;
use super::cache::Cache;
use super::codec::{Questions, Response};
use super::declare::Declared;
use super::farewells::Farewells;
use super::links::Links;
use super::looks::Looks;
use super::names::{Meaning, meaning};
use super::respond::Outbox;
use super::settle::Lost;
use super::zone::{Zone, key};
use super::{
    Config, Contest, Counters, Destination, Discard, Facts, Family, Output, OwnEndpoint, PORT, Registry,
    RemoteNode, found, names, settle,
};
use lanmesh_model::{EndpointName, Found, NodeId, ZeroconfFact, ZeroconfKey, ZeroconfMode};

/// Between two looks at who has which name: what comes in between is taken together.
const SETTLE: Duration = Duration::from_millis(100);
/// How long the loser of a name is left alone before it is told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Contests that are told in that time, at most.
const CONTESTS_MAX: usize = 64;
/// Types that a new endpoint is asked for by name, at most.
const ASK_KINDS: usize = 64;
/// How long what was known before a restart is believed without being confirmed.
const BELIEVED: u32 = 10;

/// Multicast DNS of one network on one node.
///
/// `now` is the time since any fixed moment; it never goes back. Everything that wants doing is returned by the call
/// that brings it about; [`Engine::deadline`] says when [`Engine::poll`] has to be called if nothing else happens.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: Config,
    pub(super) rng: SmallRng,
    pub(super) links: Links,
    pub(super) remote: BTreeMap<NodeId, RemoteNode>,
    pub(super) caches: BTreeMap<EndpointName, Cache>,
    /// Where an endpoint was last heard from.
    pub(super) heard: BTreeMap<EndpointName, SocketAddr>,
    pub(super) declared: Declared,
    pub(super) asks: Asks,
    allowance: Allowance,
    pub(super) zone: Zone,
    pub(super) outbox: Outbox,
    pub(super) budgets: Budgets,
    pub(super) counters: Counters,
    published: Arc<Facts>,
    /// What was published before this engine was made.
    before: Facts,
    told: BTreeMap<(EndpointName, ZeroconfKey), Duration>,
    /// When a person was last told of a contest.
    contests: BTreeMap<Contest, Duration>,
    /// What endpoints had said that are detached, and can say goodbye for it themselves no more.
    orphans: Vec<Record>,
    pub(super) farewells: Farewells,
    pub(super) looks: Looks,
    /// Endpoints of which something may be missing.
    pub(super) curious: BTreeSet<EndpointName>,
    /// Something has changed that [`Self::settle`] has to look at.
    pub(super) unsettled: bool,
    settled: Option<Duration>,
    pub(super) out: Vec<Output>,
}

impl Engine {
    /// An engine that knows of nobody yet. `before` is what this node published last, where that is remembered: it is
    /// believed for some seconds, and asked for.
    pub fn new(config: Config, before: Facts) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(config.seed),
            links: Links::new(config.own.clone()),
            remote: BTreeMap::new(),
            caches: BTreeMap::new(),
            heard: BTreeMap::new(),
            declared: Declared::default(),
            asks: Asks::default(),
            allowance: Allowance::default(),
            zone: Zone::default(),
            outbox: Outbox::default(),
            budgets: Budgets::default(),
            counters: Counters::default(),
            published: Arc::default(),
            before,
            told: BTreeMap::new(),
            contests: BTreeMap::new(),
            orphans: Vec::new(),
            farewells: Farewells::default(),
            looks: Looks::default(),
            curious: BTreeSet::new(),
            unsettled: false,
            settled: None,
            out: Vec::new(),
            config,
        }
    }

    /// The endpoints that this node has now. One that is not among them any more takes all it has said with it.
    pub fn set_local(
        &mut self,
        now: Duration,
        endpoints: BTreeMap<EndpointName, OwnEndpoint>,
    ) -> Vec<Output> {
        self.links.set_local(endpoints);
        let local = self.links.local();
        let left = self.caches.extract_if(.., |name, _| !local.contains_key(name));
        self.orphans.extend(left.flat_map(|(_, cache)| cache.records().cloned().collect::<Vec<_>>()));
        self.heard.retain(|name, _| local.contains_key(name));
        self.allowance.retain(|name| local.contains_key(name));
        let new: Vec<_> = local.keys().filter(|name| !self.caches.contains_key(*name)).cloned().collect();
        let known: Vec<_> = self.asks.endpoints().filter(|name| !local.contains_key(name)).cloned().collect();
        known.iter().for_each(|name| self.asks.forget(name));
        self.declared.set(now, local, &self.before, &mut self.rng);
        for name in new {
            self.welcome(now, &name);
        }
        if !self.links.local().is_empty() {
            self.before.clear();
        }
        self.unsettled = true;
        self.run(now)
    }

    /// What is known of the other nodes that are alive. One that is not among them is gone with all it has.
    pub fn set_remote(&mut self, now: Duration, nodes: BTreeMap<NodeId, RemoteNode>) -> Vec<Output> {
        let old = std::mem::replace(&mut self.remote, nodes);
        self.links.set_remote(&old, &self.remote);
        if self.config.mode == ZeroconfMode::Transparent {
            self.mourn(now, &old);
        }
        self.unsettled = true;
        self.run(now)
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Duration) -> Vec<Output> {
        self.run(now)
    }

    /// When [`Self::poll`] is to be called, if nothing happens before.
    pub fn deadline(&self) -> Option<Duration> {
        if self.config.mode == ZeroconfMode::Off {
            return self.settle_due();
        }
        let own = [self.outbox.deadline(), self.declared.deadline(), self.asks.deadline(), self.settle_due()];
        let caches = self.caches.values().map(Cache::deadline);
        own.into_iter().chain(caches).chain([self.farewells.deadline()]).flatten().min()
    }

    /// What was done until now.
    pub fn counters(&self) -> Counters {
        Counters { renamed: self.declared.renamed, ..self.counters.clone() }
    }

    /// What there is in the network.
    pub fn registry(&self) -> Registry {
        settle::registry(self.config.node, &self.links, &self.published, &self.remote)
    }

    /// The bytes of what is kept of the endpoints, and how many answers wait.
    pub fn held(&self) -> (usize, usize) {
        (self.caches.values().map(Cache::bytes).sum(), self.outbox.len())
    }

    /// Asks an endpoint that is new what it has.
    fn welcome(&mut self, now: Duration, name: &EndpointName) {
        let cache = self.caches.entry(name.clone()).or_default();
        if self.config.mode == ZeroconfMode::Off {
            return;
        }
        for fact in self.before.values().filter(|fact| fact.endpoint == *name && !fact.declared) {
            for mut record in found::records(&fact.found) {
                record.ttl = BELIEVED;
                let _ = cache.learn(now, &record, 0.0);
            }
        }
        let due = now + Duration::from_millis(self.rng.random_range(20..120));
        let kinds = self.registry().offers.into_keys().filter_map(|key| match key {
            ZeroconfKey::Service { kind, .. } => Some(kind),
            _ => None,
        });
        let kinds: BTreeSet<String> = kinds.collect();
        let asked = kinds.iter().take(ASK_KINDS).filter_map(|kind| names::kind(kind));
        for owner in names::types().into_iter().chain(asked) {
            self.asks.browse(Ask::new(name, owner, RecordType::PTR), due);
        }
    }

    pub(super) fn run(&mut self, now: Duration) -> Vec<Output> {
        for cache in self.caches.values_mut() {
            self.unsettled |= cache.expire(now);
        }
        if self.config.mode == ZeroconfMode::Off {
            self.settle(now);
            return std::mem::take(&mut self.out);
        }
        self.bid_farewell(now);
        self.ask(now);
        self.probe(now);
        self.settle(now);
        let packets = self.outbox.poll(now, &self.config.families, &mut self.zone);
        for (to, bytes) in packets {
            self.send(to, bytes);
        }
        std::mem::take(&mut self.out)
    }

    fn send(&mut self, to: Destination, bytes: Vec<u8>) {
        self.counters.sent += 1;
        self.out.push(Output::Send { to, bytes });
    }

    /// Sends to the groups of both families, as far as `to` says.
    pub(super) fn multicast(&mut self, packets: &[Vec<u8>], to: fn(Family) -> Destination) {
        for family in self.config.families.clone() {
            packets.iter().for_each(|bytes| self.send(to(family), bytes.clone()));
        }
    }

    fn probe(&mut self, now: Duration) {
        let mut questions = Questions::default();
        let (published, remote, links) = (&self.published, &self.remote, &self.links);
        let is_taken = |endpoint: &EndpointName, key: &ZeroconfKey| {
            // What an endpoint announces by itself gives way to what is declared.
            let mine = published.get(key).filter(|fact| fact.declared && fact.endpoint != *endpoint);
            let theirs = remote.values().filter_map(|node| node.facts.get(key)).filter(|fact| fact.declared);
            let elsewhere = |fact: &&ZeroconfFact| !links.local().contains_key(&fact.endpoint);
            mine.is_some() || theirs.filter(elsewhere).count() > 0
        };
        self.unsettled |= self.declared.poll(now, is_taken, &mut questions);
        self.multicast(&questions.encode(), Destination::Group);
    }

    /// Puts the questions that are due: the first time to the endpoint alone, which costs nobody else anything, then
    /// to the group.
    fn ask(&mut self, now: Duration) {
        let mut due = self.asks.poll(now);
        for (name, cache) in &mut self.caches {
            let stale = cache.stale(now).into_iter();
            due.extend(
                stale.map(|s| (Ask { endpoint: name.clone(), name: s.name, kind: s.kind }, s.attempt)),
            );
        }
        let mut alone: BTreeMap<EndpointName, Questions> = BTreeMap::new();
        let mut together: BTreeMap<Family, Questions> = BTreeMap::new();
        for (ask, attempt) in due {
            let Some(address) = self.address_of(&ask.endpoint) else { continue };
            if !self.allowance.take(now, &ask.endpoint, attempt) {
                continue;
            }
            let mut query = Query::query(ask.name, ask.kind.into());
            if attempt == 0 {
                query.mdns_unicast_response = true;
                alone.entry(ask.endpoint).or_default().queries.push(query);
            } else {
                let questions = together.entry(Family::of(address.ip())).or_default();
                if !questions.queries.contains(&query) {
                    questions.queries.push(query);
                }
            }
        }
        for (endpoint, mut questions) in alone {
            let Some(address) = self.address_of(&endpoint) else { continue };
            if let Some(cache) = self.caches.get(&endpoint) {
                let of = |q: &Query| cache.known(now, &q.name, q.query_type).collect::<Vec<_>>();
                questions.known = questions.queries.iter().flat_map(of).filter(is_shared).collect();
            }
            let packets = questions.encode();
            packets.into_iter().for_each(|bytes| self.send(Destination::Unicast(address), bytes));
        }
        for (family, mut questions) in together {
            questions.known = self.known(now, &questions.queries);
            let packets = questions.encode();
            packets.into_iter().for_each(|bytes| self.send(Destination::Group(family), bytes));
        }
    }

    /// What need not be answered to a question to everybody: what the endpoints of this node have said, and, where
    /// those of other nodes hear it too, what is known of them.
    pub(super) fn known(&self, now: Duration, queries: &[Query]) -> Vec<Record> {
        let of = |query: &Query| {
            let caches = self.caches.values();
            caches.flat_map(|cache| cache.known(now, &query.name, query.query_type)).collect::<Vec<_>>()
        };
        let mut known: Vec<Record> = queries.iter().flat_map(of).filter(is_shared).collect();
        if self.config.mode == ZeroconfMode::Transparent {
            let asked = |record: &Record| {
                let mut all = queries.iter();
                all.any(|query| (&query.name, query.query_type) == (&record.name, record.record_type()))
            };
            // Shared are the records of services alone; those of other types need not be made first.
            let kinds: Vec<Meaning> = queries.iter().map(|query| meaning(&query.name)).collect();
            let concerns = |fact: &&ZeroconfFact| {
                let Found::Service(service) = &fact.found else { return false };
                kinds.iter().any(|asked| match asked {
                    Meaning::Types => true,
                    Meaning::Kind(kind) | Meaning::Subtype(_, kind) => *kind == service.kind,
                    _ => false,
                })
            };
            let facts = self.remote.values().flat_map(|node| node.facts.values()).filter(concerns);
            let told = facts.flat_map(|fact| found::records(&fact.found));
            known.extend(told.filter(|record| is_shared(record) && asked(record)));
        }
        let mut seen = HashSet::new();
        known.retain(|record| seen.insert(key(record)));
        known
    }

    fn address_of(&self, endpoint: &EndpointName) -> Option<SocketAddr> {
        let families = &self.config.families;
        let usable =
            |address: &IpAddr| families.contains(&Family::of(*address)) && !names::is_link_local(address);
        self.heard.get(endpoint).copied().or_else(|| {
            let addresses = &self.links.local().get(endpoint)?.addresses;
            addresses.iter().copied().find(usable).map(|address| SocketAddr::new(address, PORT))
        })
    }

    fn settle_due(&self) -> Option<Duration> {
        self.unsettled.then(|| self.settled.map_or(Duration::ZERO, |at| at + SETTLE))
    }

    /// Works out anew who has which name, and does what follows.
    fn settle(&mut self, now: Duration) {
        if self.settle_due().is_none_or(|due| due > now) {
            return;
        }
        (self.unsettled, self.settled) = (false, Some(now));
        self.fill_gaps(now);
        let off = self.config.mode == ZeroconfMode::Off;
        let mut candidates: Vec<ZeroconfFact> = self.declared.held(off).collect();
        for (name, cache) in &self.caches {
            let fact = |found| ZeroconfFact { endpoint: name.clone(), declared: false, found };
            let is_own = |address: &IpAddr| self.links.has(name, address) || names::is_link_local(address);
            candidates.extend(found::of(cache, is_own).into_iter().map(fact));
        }
        let before = Arc::clone(&self.published);
        let settled = settle::settle(self.config.node, &self.links, candidates, &before, &self.remote);
        if settled.facts != *before {
            self.published = Arc::new(settled.facts);
            self.out.push(Output::Publish(Arc::clone(&self.published)));
        }
        self.told.retain(|_, at| *at + TELL_AGAIN > now);
        for contest in settled.contested {
            self.contested(now, contest);
        }
        for Lost { endpoint, key, declared } in settled.lost {
            if declared {
                self.declared.lost(now, &endpoint, &key);
            }
            self.lose(now, &endpoint, key);
        }
        if !off {
            self.rezone(now);
        }
    }

    /// An endpoint took a name that an endpoint of another node has.
    fn lose(&mut self, now: Duration, endpoint: &EndpointName, key: ZeroconfKey) {
        // Where packets travel, the other endpoint says so itself.
        let name = match &key {
            ZeroconfKey::Service { kind, instance } => names::instance(instance, kind),
            ZeroconfKey::Host(host) => names::host(host),
            ZeroconfKey::Records { name, .. } => names::labels(name),
        };
        let first = self.told.insert((endpoint.clone(), key), now).is_none();
        if first {
            self.counters.discard(Discard::ForeignName);
        }
        let Some(name) = name.filter(|_| self.config.mode == ZeroconfMode::Proxy) else { return };
        if let Some(cache) = self.caches.get_mut(endpoint) {
            cache.forget(&name);
        }
        if first {
            self.defend(&name);
        }
    }

    /// Says again what this agent answers for under a name. What is new in the zone is announced anyway.
    pub(super) fn defend(&mut self, name: &Name) {
        self.counters.conflicts += 1;
        let entries = self.zone.node(name).into_iter().flat_map(|node| &node.entries);
        let records = entries.filter(|e| e.is_unique() && e.told.announced).map(|e| e.told.record.clone());
        let response = Response { answers: records.collect(), additionals: Vec::new() };
        if !response.answers.is_empty() {
            self.multicast(&response.encode(None), Destination::Group);
        }
    }

    /// Somebody announces what was declared for another: that is counted, and told once in a while.
    pub(super) fn contested(&mut self, now: Duration, contest: Contest) {
        self.counters.contested += 1;
        self.contests.retain(|_, at| *at + TELL_AGAIN > now);
        if self.contests.len() < CONTESTS_MAX && !self.contests.contains_key(&contest) {
            self.contests.insert(contest.clone(), now);
            self.out.push(Output::Contested(contest));
        }
    }

    /// Makes the zone anew, announces what is new in it, and says goodbye for what is not there any more.
    fn rezone(&mut self, now: Duration) {
        let mine = self.published.values().filter(|fact| fact.declared);
        let others = settle::others(&self.links, &self.published, &self.remote);
        let others = others.into_values().map(|(_, fact)| fact);
        let proxy = self.config.mode == ZeroconfMode::Proxy;
        let zone = Zone::new(mine.chain(others.filter(|_| proxy)));
        let (added, mut gone) = self.zone.replace(zone);
        let jitter = Duration::from_millis(self.rng.random_range(0..20));
        self.outbox.announce(now + jitter, added);
        gone.append(&mut self.orphans);
        if proxy {
            self.goodbye_for(now, gone);
        } else {
            // Of this node's own, which those on other nodes have to hear.
            self.goodbye(gone, Destination::Group);
        }
    }
}

fn is_shared(record: &Record) -> bool {
    record.record_type() == RecordType::PTR
}
