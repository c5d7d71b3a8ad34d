//! What was declared of endpoints that speak no mDNS: probing for its names and holding them (RFC 6762 sections 8 and 9).
//!
//! Whoever attached an endpoint has said what is announced for it, and no endpoint changes that: unlike a host of the RFC
//! it gives its name up to nobody who claims it on the link. It defends it, and says who contests it. Only of two that were
//! declared under one name does one take another.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, Record, RecordType};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::codec::Questions;
use super::{Contest, Facts, OwnEndpoint, found, names};
use lanmesh_model::{
    AdvertisedService, EndpointName, Found, SeenHost, SeenService, ZeroconfFact, ZeroconfKey,
};

/// Between two probes (RFC 6762 section 8.1).
const PROBE: Duration = Duration::from_millis(250);
/// How often it is asked whether anybody has a name.
const PROBES: u8 = 3;
/// Between two times that a name is defended (RFC 6762 section 6: no record is multicast more often).
const DEFENCE: Duration = Duration::from_secs(1);
/// So many conflicts within [`CLASH_TIME`] call for [`CLASH_PAUSE`] (RFC 6762 section 8.1).
const CLASHES: usize = 15;
const CLASH_TIME: Duration = Duration::from_secs(10);
const CLASH_PAUSE: Duration = Duration::from_secs(5);
/// Numbers that are tried for one name.
const ATTEMPTS_MAX: u32 = 100;
/// How long what found all of them taken waits.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum What {
    Host,
    Service(AdvertisedService),
}

#[derive(Debug)]
struct Bid {
    what: What,
    /// Which of the names in a row is tried, from 1.
    attempt: u32,
    /// Whether the name is ours until somebody shows that it is not.
    held: bool,
    probe: Option<Probe>,
    clashes: VecDeque<Duration>,
    /// When its name was last defended.
    defended: Option<Duration>,
}

/// What follows from a record that somebody else announces.
#[derive(Debug, Default)]
pub struct Heard {
    /// Whose declared names it contests.
    pub contests: Vec<Contest>,
    /// It is time to say again what is ours.
    pub defend: bool,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    sent: u8,
    next: Duration,
}

/// What is declared of the endpoints of this node.
#[derive(Debug, Default)]
pub struct Declared {
    endpoints: BTreeMap<EndpointName, (OwnEndpoint, Vec<Bid>)>,
    /// Times that a name was given up.
    pub renamed: u64,
}

fn host_name(endpoint: &OwnEndpoint, bids: &[Bid]) -> String {
    let attempt = bids.iter().find(|c| matches!(c.what, What::Host)).map_or(1, |c| c.attempt);
    names::host_attempt(endpoint.name.as_str(), attempt)
}

impl Bid {
    fn found(&self, endpoint: &OwnEndpoint, host: &str) -> Found {
        match &self.what {
            What::Host => {
                Found::Host(SeenHost { name: host.to_owned(), addresses: endpoint.addresses.clone() })
            }
            What::Service(service) => Found::Service(SeenService {
                instance: names::instance_attempt(&service.instance_of(&endpoint.name), self.attempt),
                kind: lanmesh_model::zeroconf::fold(&service.kind),
                subtypes: service.subtypes.clone(),
                host: host.to_owned(),
                port: service.port,
                priority: 0,
                weight: 0,
                txt: service.strings(),
            }),
        }
    }

    /// The records that nobody else may have: those below the name that is claimed.
    fn proposed(&self, endpoint: &OwnEndpoint, host: &str) -> Vec<Record> {
        let found = self.found(endpoint, host);
        let Some(name) = name_of(&found) else { return Vec::new() };
        found::records(&found).into_iter().filter(|r| r.name == name).collect()
    }

    /// Takes the next name.
    fn give_up(&mut self, now: Duration) {
        self.attempt += 1;
        self.held = false;
        self.clash(now);
    }

    /// Asks again whether the name is free.
    fn clash(&mut self, now: Duration) {
        self.clashes.retain(|at| *at + CLASH_TIME > now);
        self.clashes.push_back(now);
        let pause = if self.clashes.len() > CLASHES { CLASH_PAUSE } else { PROBE };
        self.clashes.truncate(CLASHES + 1);
        self.probe = Some(Probe { sent: 0, next: now + pause });
    }
}

fn name_of(found: &Found) -> Option<Name> {
    match found {
        Found::Host(host) => names::host(&host.name),
        Found::Service(service) => names::instance(&service.instance, &service.kind),
        Found::Records(records) => names::labels(&records.name),
    }
}

impl Declared {
    /// Takes in what is declared now. A name that is in `before` is taken up again.
    pub fn set(
        &mut self,
        now: Duration,
        endpoints: &BTreeMap<EndpointName, OwnEndpoint>,
        before: &Facts,
        rng: &mut SmallRng,
    ) {
        self.endpoints.retain(|name, _| endpoints.get(name).is_some_and(|e| !e.services.is_empty()));
        for endpoint in endpoints.values().filter(|endpoint| !endpoint.services.is_empty()) {
            let (known, bids) =
                self.endpoints.entry(endpoint.name.clone()).or_insert_with(|| (endpoint.clone(), Vec::new()));
            if bids.is_empty() || *known != *endpoint {
                let mut old = std::mem::take(bids);
                let whats = endpoint.services.iter().cloned().map(What::Service);
                for what in std::iter::once(What::Host).chain(whats) {
                    let same = |bid: &Bid| match (&bid.what, &what) {
                        (What::Host, What::Host) => true,
                        (What::Service(a), What::Service(b)) => {
                            (&a.kind, &a.instance) == (&b.kind, &b.instance)
                        }
                        _ => false,
                    };
                    let there = old.iter().position(same);
                    bids.push(match there {
                        Some(at) => Bid { what, ..old.swap_remove(at) },
                        None => {
                            let wait = Duration::from_millis(rng.random_range(0..250));
                            let probe = Some(Probe { sent: 0, next: now + wait });
                            let clashes = VecDeque::new();
                            let mut bid =
                                Bid { what, attempt: 1, held: false, probe, clashes, defended: None };
                            bid.recall(endpoint, before);
                            bid
                        }
                    });
                }
                *known = endpoint.clone();
            }
        }
    }

    /// Sends the probes that are due. `is_taken` says whether a name was declared for another endpoint. Gives whether a
    /// name is ours now that was not.
    pub fn poll(
        &mut self,
        now: Duration,
        is_taken: impl Fn(&EndpointName, &ZeroconfKey) -> bool,
        questions: &mut Questions,
    ) -> bool {
        let mut changed = false;
        for (name, (endpoint, bids)) in &mut self.endpoints {
            let mut mine: Vec<ZeroconfKey> = Vec::new();
            for i in 0..bids.len() {
                let mut key = bids[i].found(endpoint, &host_name(endpoint, bids)).key();
                if let Some(probe) = bids[i].probe.filter(|probe| probe.next <= now) {
                    let first = bids[i].attempt;
                    // What is known to be taken is not asked for.
                    while (mine.contains(&key) || is_taken(name, &key)) && bids[i].attempt <= ATTEMPTS_MAX {
                        bids[i].attempt += 1;
                        bids[i].held = false;
                        key = bids[i].found(endpoint, &host_name(endpoint, bids)).key();
                    }
                    if bids[i].attempt > ATTEMPTS_MAX {
                        bids[i].attempt = 1;
                        bids[i].probe = Some(Probe { sent: 0, next: now + AGAIN });
                        continue;
                    }
                    self.renamed += u64::from(bids[i].attempt - first);
                    let host = host_name(endpoint, bids);
                    let bid = &mut bids[i];
                    let sent = if bid.attempt == first { probe.sent } else { 0 };
                    if sent == PROBES {
                        bid.probe = None;
                        changed |= !bid.held;
                        bid.held = true;
                    } else {
                        bid.probe = Some(Probe { sent: sent + 1, next: now + PROBE });
                        if let Some(name) = name_of(&bid.found(endpoint, &host)) {
                            // No unicast answer is asked for: it would go to the agent of the node that
                            // has who answers, for all agents have one address.
                            questions.queries.push(Query::query(name, RecordType::ANY));
                            questions.proposed.extend(bid.proposed(endpoint, &host));
                        }
                    }
                }
                mine.push(key);
            }
        }
        changed
    }

    /// When the next probe is due.
    pub fn deadline(&self) -> Option<Duration> {
        let bids = self.endpoints.values().flat_map(|(_, bids)| bids);
        bids.filter_map(|bid| Some(bid.probe?.next)).min()
    }

    /// What is announced; with `all` also what is not ours for certain yet.
    pub fn held(&self, all: bool) -> impl Iterator<Item = ZeroconfFact> {
        self.endpoints.values().flat_map(move |(endpoint, bids)| {
            let host = host_name(endpoint, bids);
            bids.iter().filter(move |bid| all || bid.held).map(move |bid| ZeroconfFact {
                endpoint: endpoint.name.clone(),
                declared: true,
                found: bid.found(endpoint, &host),
            })
        })
    }

    fn bids_on(
        &mut self,
        name: &Name,
        by: Option<&EndpointName>,
    ) -> impl Iterator<Item = (&OwnEndpoint, String, &mut Bid)> {
        // An endpoint that speaks for itself does not compete with what is declared of it.
        let others = self.endpoints.iter_mut().filter(move |(endpoint, _)| Some(*endpoint) != by);
        others.flat_map(move |(_, (endpoint, bids))| {
            let host = host_name(endpoint, bids);
            let endpoint = &*endpoint;
            let on = bids.iter_mut().map(move |bid| (endpoint, host.clone(), bid));
            on.filter(move |(endpoint, host, bid)| {
                name_of(&bid.found(endpoint, host)).is_some_and(|its| its == *name)
            })
        })
    }

    /// Somebody else says that it has a record, or takes back one that is ours.
    pub fn heard(&mut self, now: Duration, by: Option<&EndpointName>, record: &Record) -> Heard {
        let mut heard = Heard::default();
        for (endpoint, host, bid) in self.bids_on(&record.name, by) {
            let ours = bid.proposed(endpoint, &host);
            let same = ours.iter().any(|our| our.data == record.data);
            let rivals = ours.iter().any(|our| our.record_type() == record.record_type());
            // Who says the same is welcome, unless it says goodbye for it.
            let goodbye = record.ttl == 0;
            if same != goodbye || !rivals {
                continue;
            }
            if let Some(by) = by.filter(|_| !goodbye) {
                let (key, endpoint) = (bid.found(endpoint, &host).key(), endpoint.name.clone());
                heard.contests.push(Contest { key, endpoint, by: by.clone() });
            }
            if bid.held && bid.defended.is_none_or(|at| at + DEFENCE <= now) {
                bid.defended = Some(now);
                heard.defend = true;
            }
        }
        heard
    }

    /// The name was declared for an endpoint of another node too, and is that one's.
    pub fn lost(&mut self, now: Duration, endpoint: &EndpointName, key: &ZeroconfKey) {
        let Some((endpoint, bids)) = self.endpoints.get_mut(endpoint) else { return };
        let host = host_name(endpoint, bids);
        if let Some(bid) = bids.iter_mut().find(|bid| bid.found(endpoint, &host).key() == *key) {
            bid.give_up(now);
            self.renamed += 1;
        }
    }
}

impl Bid {
    /// Takes the name that it had before, which then need not be given up while it is asked for.
    fn recall(&mut self, endpoint: &OwnEndpoint, before: &Facts) {
        for attempt in 1..=ATTEMPTS_MAX {
            self.attempt = attempt;
            let host = names::host_attempt(endpoint.name.as_str(), attempt);
            let had = before.get(&self.found(endpoint, &host).key());
            if had.is_some_and(|fact| fact.declared && fact.endpoint == endpoint.name) {
                self.held = true;
                return;
            }
        }
        self.attempt = 1;
    }
}
