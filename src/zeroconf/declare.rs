//! What was declared of endpoints that speak no mDNS: probing for its names, holding them, giving them up
//! (RFC 6762 sections 8 and 9).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, Record, RecordType};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::codec::{Questions, data_bytes};
use super::{Facts, LocalEndpoint, found, names};
use crate::model::{
    AdvertisedService, EndpointName, Found, SeenHost, SeenService, ZeroconfFact, ZeroconfKey,
};

/// Between two probes (RFC 6762 section 8.1).
const PROBE: Duration = Duration::from_millis(250);
/// How often it is asked whether anybody has a name.
const PROBES: u8 = 3;
/// How long the loser of two who probe for one name at once waits (RFC 6762 section 8.2).
const DEFER: Duration = Duration::from_secs(1);
/// So many conflicts within [`CLASH_TIME`] call for [`CLASH_PAUSE`] (RFC 6762 section 8.1).
const CLASHES: usize = 15;
const CLASH_TIME: Duration = Duration::from_secs(10);
const CLASH_PAUSE: Duration = Duration::from_secs(5);
/// Numbers that are tried to find a name that was chosen before.
const ATTEMPTS_MAX: u32 = 100;

#[derive(Debug)]
enum What {
    Host,
    Service(AdvertisedService),
}

#[derive(Debug)]
struct Claim {
    what: What,
    /// Which of the names in a row is tried, from 1.
    attempt: u32,
    /// Whether the name is ours until somebody shows that it is not.
    held: bool,
    probe: Option<Probe>,
    clashes: VecDeque<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    sent: u8,
    next: Duration,
}

/// What is declared of the endpoints of this node.
#[derive(Debug, Default)]
pub struct Declared {
    endpoints: BTreeMap<EndpointName, (LocalEndpoint, Vec<Claim>)>,
    /// Times that a name was given up.
    pub renamed: u64,
}

fn host_name(endpoint: &LocalEndpoint, claims: &[Claim]) -> String {
    let attempt = claims.iter().find(|c| matches!(c.what, What::Host)).map_or(1, |c| c.attempt);
    names::host_attempt(endpoint.name.as_str(), attempt)
}

impl Claim {
    fn found(&self, endpoint: &LocalEndpoint, host: &str) -> Found {
        match &self.what {
            What::Host => {
                Found::Host(SeenHost { name: host.to_owned(), addresses: endpoint.addresses.clone() })
            }
            What::Service(service) => Found::Service(SeenService {
                instance: names::instance_attempt(&service.instance_of(&endpoint.name), self.attempt),
                kind: crate::model::zeroconf::fold(&service.kind),
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
    fn proposed(&self, endpoint: &LocalEndpoint, host: &str) -> Vec<Record> {
        let found = self.found(endpoint, host);
        let Some(name) = name_of(&found) else { return Vec::new() };
        found::records(&found).into_iter().map(|told| told.record).filter(|r| r.name == name).collect()
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
        Found::Records(records) => names::labels(&records.labels),
    }
}

impl Declared {
    /// Takes in what is declared now. A name that is in `before` is taken up again.
    pub fn set(
        &mut self,
        now: Duration,
        endpoints: &BTreeMap<EndpointName, LocalEndpoint>,
        before: &Facts,
        rng: &mut SmallRng,
    ) {
        self.endpoints.retain(|name, _| endpoints.get(name).is_some_and(|e| !e.services.is_empty()));
        for endpoint in endpoints.values().filter(|endpoint| !endpoint.services.is_empty()) {
            let (known, claims) =
                self.endpoints.entry(endpoint.name.clone()).or_insert_with(|| (endpoint.clone(), Vec::new()));
            if claims.is_empty() || *known != *endpoint {
                let mut old = std::mem::take(claims);
                let whats = endpoint.services.iter().cloned().map(What::Service);
                for what in std::iter::once(What::Host).chain(whats) {
                    let same = |claim: &Claim| match (&claim.what, &what) {
                        (What::Host, What::Host) => true,
                        (What::Service(a), What::Service(b)) => {
                            (&a.kind, &a.instance) == (&b.kind, &b.instance)
                        }
                        _ => false,
                    };
                    let there = old.iter().position(same);
                    claims.push(match there {
                        Some(at) => Claim { what, ..old.swap_remove(at) },
                        None => {
                            let wait = Duration::from_millis(rng.random_range(0..250));
                            let probe = Some(Probe { sent: 0, next: now + wait });
                            let clashes = VecDeque::new();
                            let mut claim = Claim { what, attempt: 1, held: false, probe, clashes };
                            claim.recall(endpoint, before);
                            claim
                        }
                    });
                }
                *known = endpoint.clone();
            }
        }
    }

    /// Sends the probes that are due. `is_taken` says whether somebody is known to have a name. Gives whether a name
    /// is ours now that was not.
    pub fn poll(
        &mut self,
        now: Duration,
        is_taken: impl Fn(&EndpointName, &ZeroconfKey) -> bool,
        questions: &mut Questions,
    ) -> bool {
        let mut changed = false;
        for (name, (endpoint, claims)) in &mut self.endpoints {
            let mut mine: Vec<ZeroconfKey> = Vec::new();
            for i in 0..claims.len() {
                let mut key = claims[i].found(endpoint, &host_name(endpoint, claims)).key();
                if let Some(probe) = claims[i].probe.filter(|probe| probe.next <= now) {
                    let first = claims[i].attempt;
                    // What is known to be taken is not asked for.
                    while mine.contains(&key) || is_taken(name, &key) {
                        claims[i].attempt += 1;
                        claims[i].held = false;
                        key = claims[i].found(endpoint, &host_name(endpoint, claims)).key();
                    }
                    self.renamed += u64::from(claims[i].attempt - first);
                    let host = host_name(endpoint, claims);
                    let claim = &mut claims[i];
                    let sent = if claim.attempt == first { probe.sent } else { 0 };
                    if sent == PROBES {
                        claim.probe = None;
                        changed |= !claim.held;
                        claim.held = true;
                    } else {
                        claim.probe = Some(Probe { sent: sent + 1, next: now + PROBE });
                        if let Some(name) = name_of(&claim.found(endpoint, &host)) {
                            // No unicast answer is asked for: it would go to the agent of the node that
                            // has who answers, for all agents have one address.
                            questions.queries.push(Query::query(name, RecordType::ANY));
                            questions.proposed.extend(claim.proposed(endpoint, &host));
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
        let claims = self.endpoints.values().flat_map(|(_, claims)| claims);
        claims.filter_map(|claim| Some(claim.probe?.next)).min()
    }

    /// What is announced; with `all` also what is not ours for certain yet.
    pub fn held(&self, all: bool) -> impl Iterator<Item = ZeroconfFact> {
        self.endpoints.values().flat_map(move |(endpoint, claims)| {
            let host = host_name(endpoint, claims);
            claims.iter().filter(move |claim| all || claim.held).map(move |claim| ZeroconfFact {
                endpoint: endpoint.name.clone(),
                declared: true,
                found: claim.found(endpoint, &host),
            })
        })
    }

    fn claims_on(
        &mut self,
        name: &Name,
        by: Option<&EndpointName>,
    ) -> impl Iterator<Item = (&LocalEndpoint, String, &mut Claim)> {
        // An endpoint that speaks for itself does not compete with what is declared of it.
        let others = self.endpoints.iter_mut().filter(move |(endpoint, _)| Some(*endpoint) != by);
        others.flat_map(move |(_, (endpoint, claims))| {
            let host = host_name(endpoint, claims);
            let endpoint = &*endpoint;
            let on = claims.iter_mut().map(move |claim| (endpoint, host.clone(), claim));
            on.filter(move |(endpoint, host, claim)| {
                name_of(&claim.found(endpoint, host)).is_some_and(|its| its == *name)
            })
        })
    }

    /// Somebody else says that it has a record. Gives whether a name was lost by that.
    pub fn heard(&mut self, now: Duration, by: Option<&EndpointName>, record: &Record) -> bool {
        if record.ttl == 0 {
            return false;
        }
        let mut lost = 0;
        for (endpoint, host, claim) in self.claims_on(&record.name, by) {
            let ours = claim.proposed(endpoint, &host);
            if ours.iter().any(|our| our.data == record.data) {
                continue;
            }
            let rivals = ours.iter().any(|our| our.record_type() == record.record_type());
            match (claim.held, claim.probe.is_some()) {
                // It was there first.
                (false, _) => {
                    claim.give_up(now);
                    lost += 1;
                }
                // It insists.
                (true, true) if rivals => {
                    claim.give_up(now);
                    lost += 1;
                }
                (true, false) if rivals => claim.clash(now),
                (true, _) => {}
            }
        }
        self.renamed += lost;
        lost > 0
    }

    /// Somebody else asks for a name in order to have it.
    pub fn heard_probe(
        &mut self,
        now: Duration,
        by: Option<&EndpointName>,
        name: &Name,
        proposed: &[Record],
    ) {
        let order = |records: &mut dyn Iterator<Item = &Record>| {
            let data = records.map(|record| (u16::from(record.record_type()), data_bytes(&record.data)));
            let mut data: Vec<_> = data.collect();
            data.sort();
            data
        };
        for (endpoint, host, claim) in self.claims_on(name, by) {
            let ours = order(&mut claim.proposed(endpoint, &host).iter());
            let theirs = order(&mut proposed.iter().filter(|record| record.name == *name));
            if let Some(probe) = claim.probe.as_mut().filter(|probe| probe.sent > 0 && theirs > ours) {
                *probe = Probe { sent: 0, next: now + DEFER };
            }
        }
    }

    /// Another node says that a name is its endpoint's, and it is.
    pub fn lost(&mut self, now: Duration, endpoint: &EndpointName, key: &ZeroconfKey) {
        let Some((endpoint, claims)) = self.endpoints.get_mut(endpoint) else { return };
        let host = host_name(endpoint, claims);
        if let Some(claim) = claims.iter_mut().find(|claim| claim.found(endpoint, &host).key() == *key) {
            claim.give_up(now);
            self.renamed += 1;
        }
    }
}

impl Claim {
    /// Takes the name that it had before, which then need not be given up while it is asked for.
    fn recall(&mut self, endpoint: &LocalEndpoint, before: &Facts) {
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
