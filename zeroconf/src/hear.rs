//! What a packet means: whether it is heard at all, and what follows from a query and from a response.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::{Name, RData, Record};
use rand::RngExt;

use super::ask::Ask;
use super::codec::Legacy;
use super::links::Sender;
use super::names::{self, Meaning, meaning};
use super::read::{self, Packet};
use super::respond::{Known, Pending};
use super::uncarried::Uncarried;
use super::zone::key;
use super::{Arrival, Config, Destination, Discard, Engine, Family, Output, PORT, found};
use lanmesh_model::zeroconf::fold;
use lanmesh_model::{EndpointName, ZeroconfMode};

/// Questions of one packet that are looked at.
const QUESTIONS_MAX: usize = 128;
/// How long more known answers are waited for, in milliseconds (RFC 6762 section 7.2), and how long an answer waits
/// that others may give too (section 6).
const PARTIAL: std::ops::Range<u64> = 400..500;
const SHARED: std::ops::Range<u64> = 20..120;

impl Engine {
    /// A packet has arrived on the bridge.
    pub fn packet(&mut self, now: Duration, arrival: &Arrival, bytes: &[u8]) -> Vec<Output> {
        if self.config.mode != ZeroconfMode::Off
            && let Err(why) = self.heard(now, arrival, bytes)
        {
            self.counters.discard(why);
        }
        self.run(now)
    }

    fn heard(&mut self, now: Duration, arrival: &Arrival, bytes: &[u8]) -> Result<(), Discard> {
        let sender = self.links.sender(arrival);
        if sender == Ok(Sender::Agent) {
            return Ok(());
        }
        self.counters.received += 1;
        let sender = sender?;
        if self.config.mode == ZeroconfMode::Proxy && matches!(sender, Sender::Remote(_)) {
            return Err(Discard::Crossed);
        }
        if !self.budgets.take(now, sender.endpoint()) {
            return Err(Discard::TooFast);
        }
        let Packet { message, unreadable } = read::decode(bytes)?;
        (0..unreadable).for_each(|_| self.counters.discard(Discard::Unreadable));
        let sections = [&message.answers, &message.authorities, &message.additionals];
        let records = message.queries.len() + sections.into_iter().map(Vec::len).sum::<usize>() + unreadable;
        self.budgets.charge(sender.endpoint(), records);
        if message.metadata.message_type == MessageType::Query {
            self.counters.queries += 1;
            self.overhear(now, arrival, &sender, &message);
            self.query(now, arrival, &sender, message);
            return Ok(());
        }
        // Who answers from another port does not speak mDNS.
        if arrival.from.port() != PORT {
            return Err(Discard::WrongPort);
        }
        if sender == Sender::Stranger {
            return Err(Discard::UnknownSender);
        }
        self.counters.responses += 1;
        self.response(now, arrival, &sender, &message);
        Ok(())
    }

    fn response(&mut self, now: Duration, arrival: &Arrival, sender: &Sender, message: &Message) {
        let family = Family::of(arrival.from.ip());
        let jitter = self.rng.random_range(0.0..2.0);
        let Some(endpoint) = sender.endpoint().cloned() else { return };
        let records = || message.answers.iter().chain(&message.additionals);
        // A service that is not believed is so as a whole.
        let foreign: HashSet<&Name> =
            records().filter(|record| self.is_on_anothers(&endpoint, record)).map(|r| &r.name).collect();
        let is_of_it = |record: &Record| match &record.data {
            RData::PTR(to) => foreign.contains(&to.0),
            data => foreign.contains(&record.name) && !matches!(data, RData::SRV(_)),
        };
        for record in records().filter(|record| !is_of_it(record)) {
            if arrival.multicast {
                self.counters.suppressed += self.outbox.told(family, record, &self.zone);
            }
            self.farewells.heard(record);
            if let Err(why) = self.believe(&endpoint, arrival, record) {
                if let (Some(why), Sender::Local(_)) = (why, sender) {
                    self.counters.discard(why);
                    if matches!(why, Discard::Unfit) {
                        self.uncarried(&endpoint, record);
                    }
                }
                continue;
            }
            let heard = self.declared.heard(now, Some(&endpoint), record);
            for contest in heard.contests {
                self.contested(now, contest);
            }
            if heard.defend {
                self.defend(&record.name);
            }
            if let Sender::Local(_) = sender {
                self.learn(now, &endpoint, record, jitter);
            }
        }
        if let Sender::Local(_) = sender {
            self.heard.insert(endpoint, arrival.from);
        }
    }

    /// Whether a record is one that its sender may announce. The error is what it is counted as, if at all.
    fn believe(&self, by: &EndpointName, arrival: &Arrival, record: &Record) -> Result<(), Option<Discard>> {
        if !found::is_useful(record) {
            // Denials and the like are nothing bad.
            return Err(None);
        }
        if !found::fits(record) {
            return Err(Some(Discard::Unfit));
        }
        let address = found::address(&record.data).or_else(|| names::reversed(&record.name));
        if address.is_some_and(|address| address != arrival.from.ip() && !self.may_tell(by, address)) {
            return Err(Some(Discard::ForeignAddress));
        }
        let is_anothers = self.is_anothers(by, &record.name) || self.is_on_anothers(by, record);
        if is_anothers { Err(Some(Discard::ForeignName)) } else { Ok(()) }
    }

    /// Whether a name is the host name of another endpoint.
    fn is_anothers(&self, by: &EndpointName, name: &Name) -> bool {
        matches!(meaning(name), Meaning::Host(host) if self.links.is_anothers(&fold(&host), by))
    }

    /// Whether a record says that a service is on the host of another endpoint.
    fn is_on_anothers(&self, by: &EndpointName, record: &Record) -> bool {
        matches!(&record.data, RData::SRV(srv) if self.is_anothers(by, &srv.target))
    }

    /// Whether an endpoint may tell of an address: of its own, and of what is nobody's here.
    fn may_tell(&self, by: &EndpointName, address: IpAddr) -> bool {
        let Config { own, subnets, any_address, .. } = &self.config;
        let is_somewhere = !(address.is_multicast() || address.is_unspecified() || address.is_loopback());
        let is_beyond =
            || !names::is_link_local(&address) && !subnets.iter().any(|net| net.contains(address));
        match self.links.owner(&address) {
            Some((name, _)) => name == by,
            None => is_somewhere && !own.contains(&address) && (*any_address || is_beyond()),
        }
    }

    fn learn(&mut self, now: Duration, endpoint: &EndpointName, record: &Record, jitter: f32) {
        let Some(cache) = self.caches.get_mut(endpoint) else { return };
        match cache.learn(now, record, jitter) {
            Ok(true) => {
                self.unsettled = true;
                self.curious.insert(endpoint.clone());
            }
            Ok(false) => {}
            Err(why) => {
                self.counters.discard(why);
                self.uncarried(endpoint, record);
            }
        }
        self.asks.answered(&Ask::new(endpoint, record.name.clone(), record.record_type()));
    }

    /// Counts what an endpoint announces in vain, where others hear of it by what is carried alone.
    fn uncarried(&mut self, endpoint: &EndpointName, record: &Record) {
        if self.config.mode != ZeroconfMode::Proxy {
            return;
        }
        let (name, kind) = (record.name.to_string(), record.record_type().to_string());
        let what = Uncarried { endpoint: endpoint.clone(), name, kind };
        if self.counters.uncarried.count(what.clone()) {
            self.out.push(Output::Uncarried(what));
        }
    }

    /// Asks for what is missing of endpoints that have said something new. Not with each packet: it takes a look at all
    /// that they have said.
    pub(super) fn fill_gaps(&mut self, now: Duration) {
        for endpoint in std::mem::take(&mut self.curious) {
            let due = now + Duration::from_millis(self.rng.random_range(SHARED));
            if let Some(cache) = self.caches.get(&endpoint) {
                self.asks.fill(&endpoint, found::missing(cache), due);
            }
        }
    }

    fn query(&mut self, now: Duration, arrival: &Arrival, sender: &Sender, message: Message) {
        let from = arrival.from;
        let partial = message.metadata.truncation;
        let known = Known::new(&message.answers);
        self.counters.suppressed += self.outbox.known(from, &known, &self.zone);
        let legacy = (from.port() != PORT)
            .then(|| Legacy { id: message.metadata.id, queries: message.queries.clone() });
        let mut multicast = Vec::new();
        let mut unicast = Vec::new();
        let mut taken = (HashSet::new(), HashSet::new());
        let mut denied = (BTreeSet::new(), BTreeSet::new());
        let mut defended = BTreeSet::new();
        let mut shared = false;
        let mut asked = BTreeSet::new();
        for query in message.queries.iter().take(QUESTIONS_MAX) {
            let proposed: Vec<_> =
                message.authorities.iter().filter(|r| r.name == query.name).cloned().collect();
            if !proposed.is_empty() && self.concedes(sender, &query.name, &proposed) {
                continue;
            }
            let alone = legacy.is_some() || !arrival.multicast;
            let mut answered = false;
            for entry in self.zone.matching(query) {
                answered = true;
                let key = key(&entry.told.record);
                if legacy.is_none() && known.has(&self.zone, &key) {
                    self.counters.suppressed += 1;
                    continue;
                }
                if !proposed.is_empty() && entry.is_unique() {
                    defended.insert(query.name.clone());
                }
                if proposed.is_empty() && arrival.multicast && self.is_looked_after_elsewhere(&entry.endpoint)
                {
                    let kind = u16::from(entry.told.record.record_type());
                    asked.insert((entry.endpoint.clone(), query.name.clone(), kind));
                }
                shared |= !entry.is_unique();
                let quarter = Duration::from_secs(entry.told.record.ttl.into()) / 4;
                let recent = entry.last.age(now, Family::of(from.ip())).is_some_and(|age| age < quarter);
                let (to, taken) = if alone || query.mdns_unicast_response && recent {
                    (&mut unicast, &mut taken.1)
                } else {
                    (&mut multicast, &mut taken.0)
                };
                if taken.insert(key.clone()) {
                    to.push(key);
                }
            }
            let node = self.zone.node(&query.name).filter(|_| !answered && legacy.is_none());
            if node.is_some_and(|node| node.denial().is_some()) {
                let to = if alone || query.mdns_unicast_response { &mut denied.1 } else { &mut denied.0 };
                to.insert(query.name.clone());
            }
        }
        self.look_elsewhere(now, asked);
        self.counters.conflicts += defended.len() as u64;
        let defence = !defended.is_empty();
        let wait = match (partial, shared) {
            _ if defence || legacy.is_some() => 0,
            (true, _) => self.rng.random_range(PARTIAL),
            (false, true) => self.rng.random_range(SHARED),
            (false, false) => 0,
        };
        let due = now + Duration::from_millis(wait);
        let group = Destination::Group(Family::of(from.ip()));
        let mut pending = |to, records, denied, legacy| {
            let pending = Pending { due, to, records, denied, from, defence, partial, legacy };
            if !self.outbox.answer(pending) {
                self.counters.discard(Discard::TooFast);
            }
        };
        pending(group, multicast, denied.0, None);
        pending(Destination::Unicast(from), unicast, denied.1, legacy);
    }

    /// Whether nothing is said to one who wants a name that this agent answers for: because it is the endpoint that
    /// the name is of, or because it wants it for the same thing.
    fn concedes(&self, sender: &Sender, name: &Name, proposed: &[Record]) -> bool {
        let Some(node) = self.zone.node(name) else { return false };
        let mut unique = node.entries.iter().filter(|entry| entry.is_unique());
        let its = |name: &EndpointName| sender.endpoint() == Some(name);
        let same = || {
            let entries = node.entries.iter().map(|entry| &entry.told.record);
            let among = |record: &Record| entries.clone().any(|our| our.data == record.data);
            let rivals = |record: &&Record| {
                let kind = record.record_type();
                entries.clone().any(|our| our.record_type() == kind)
            };
            let mut rivals = proposed.iter().filter(rivals).peekable();
            rivals.peek().is_some() && rivals.all(among)
        };
        unique.all(|entry| its(&entry.endpoint)) || same()
    }
}
