//! The records that this agent answers for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Family;
use super::codec::nsec;
use super::found::{self, Told};
use lanmesh_model::{EndpointName, Found, ZeroconfFact};

/// When something was last multicast, in each family.
#[derive(Debug, Clone, Copy, Default)]
pub struct Last([Option<Duration>; 2]);

impl Last {
    /// How long ago that was.
    pub fn age(&self, now: Duration, family: Family) -> Option<Duration> {
        self.0[family as usize].map(|at| now.saturating_sub(at))
    }

    /// It is now.
    pub fn set(&mut self, now: Duration, family: Family) {
        self.0[family as usize] = Some(now);
    }
}

/// A record and whose it is.
#[derive(Debug)]
pub struct Entry {
    pub told: Told,
    /// The endpoint it is of; of a shared record one of them.
    pub endpoint: EndpointName,
    pub last: Last,
}

impl Entry {
    /// Whether nobody else has records of its name and type.
    pub fn is_unique(&self) -> bool {
        self.told.record.mdns_cache_flush
    }
}

/// The records of one name.
#[derive(Debug, Default)]
pub struct Node {
    pub entries: Vec<Entry>,
    /// Where among them each is: of a type of services there may be thousands.
    places: HashMap<RData, usize>,
    /// When it was last said which types the name has.
    pub denied: Last,
}

impl Node {
    /// The denial of all types that it does not have, where nobody else can have records of the name.
    pub fn denial(&self) -> Option<Record> {
        let first = self.entries.iter().find(|entry| entry.is_unique())?;
        // A denial has no room for types above 255: it would deny those that are there.
        if self.entries.iter().any(|entry| u16::from(entry.told.record.record_type()) > 255) {
            return None;
        }
        let ttl = self.entries.iter().map(|entry| entry.told.record.ttl).min()?;
        let kinds = self.entries.iter().map(|entry| entry.told.record.record_type());
        Some(nsec(&first.told.record.name, ttl, kinds))
    }
}

/// All records that this agent answers for.
#[derive(Debug, Default)]
pub struct Zone {
    names: BTreeMap<Name, Node>,
}

impl Zone {
    /// Of these facts.
    pub fn new<'a>(facts: impl IntoIterator<Item = &'a ZeroconfFact>) -> Self {
        let mut zone = Self::default();
        let mut seen = HashSet::new();
        // A record that was heard comes before one that follows from a service, which has no other case, and no other time to
        // live.
        let (mut facts, rest): (Vec<_>, Vec<_>) =
            facts.into_iter().partition(|fact| matches!(fact.found, Found::Records(_)));
        facts.extend(rest);
        for fact in facts {
            for told in found::answered(fact) {
                if seen.insert(key(&told.record)) {
                    let node = zone.names.entry(told.record.name.clone()).or_default();
                    let endpoint = fact.endpoint.clone();
                    node.places.insert(told.record.data.clone(), node.entries.len());
                    node.entries.push(Entry { told, endpoint, last: Last::default() });
                }
            }
        }
        zone
    }

    /// Becomes `new`. Gives the records that are new, and those that have gone.
    pub fn replace(&mut self, mut new: Self) -> (Vec<Key>, Vec<Record>) {
        let entries = |zone: Self| zone.names.into_values().flat_map(|node| node.entries);
        for (name, node) in &mut new.names {
            node.denied = self.names.get(name).map(|old| old.denied).unwrap_or_default();
        }
        let old = entries(std::mem::take(self)).map(|entry| (key(&entry.told.record), entry));
        let mut old: BTreeMap<_, HashMap<RData, Entry>> =
            old.fold(BTreeMap::new(), |mut all, ((name, data), e)| {
                all.entry(name).or_insert_with(HashMap::new).insert(data, e);
                all
            });
        let mut added = Vec::new();
        for (name, node) in &mut new.names {
            let mut there = old.get_mut(name);
            for entry in &mut node.entries {
                match there.as_mut().and_then(|there| there.remove(&entry.told.record.data)) {
                    Some(before) => entry.last = before.last,
                    None if entry.told.announced => added.push(key(&entry.told.record)),
                    None => {}
                }
            }
        }
        let left = old.into_values().flat_map(HashMap::into_values).filter(|entry| entry.told.announced);
        let mut gone: Vec<Record> = left.map(|entry| entry.told.record).collect();
        gone.sort_by(|a, b| a.name.cmp(&b.name));
        *self = new;
        (added, gone)
    }

    /// The records of a name.
    pub fn node(&self, name: &Name) -> Option<&Node> {
        self.names.get(name)
    }

    /// See [`Self::node`].
    pub fn node_mut(&mut self, name: &Name) -> Option<&mut Node> {
        self.names.get_mut(name)
    }

    /// What answers a question.
    pub fn matching(&self, query: &Query) -> impl Iterator<Item = &Entry> {
        let kind = query.query_type;
        let entries = self.names.get(&query.name).into_iter().flat_map(|node| &node.entries);
        entries.filter(move |entry| {
            let has = entry.told.record.record_type();
            // An alias answers for every type (RFC 1034 section 3.6.2).
            kind == RecordType::ANY || has == kind || has == RecordType::CNAME
        })
    }

    /// One record.
    pub fn entry_mut(&mut self, (name, data): &Key) -> Option<&mut Entry> {
        let node = self.names.get_mut(name)?;
        node.entries.get_mut(*node.places.get(data)?)
    }

    /// See [`Self::entry_mut`].
    pub fn entry(&self, (name, data): &Key) -> Option<&Entry> {
        let node = self.names.get(name)?;
        node.entries.get(*node.places.get(data)?)
    }

    /// How long ago a record was multicast. The addresses of a host count as one: they are told together or not at all.
    pub fn age(&self, of: &Key, now: Duration, family: Family) -> Option<Duration> {
        let is_address = |data: &RData| found::address(data).is_some();
        if !is_address(&of.1) {
            return self.entry(of)?.last.age(now, family);
        }
        let entries = self.names.get(&of.0)?.entries.iter();
        let addresses = entries.filter(|entry| is_address(&entry.told.record.data));
        addresses.filter_map(|entry| entry.last.age(now, family)).min()
    }

    /// The names and records that go with `answers` (RFC 6763 section 12, RFC 6762 section 6.2), without them.
    pub fn additionals(&self, answers: &[Record]) -> Vec<Record> {
        let mut more: Vec<Record> = Vec::new();
        let mut queue: Vec<Record> = answers.to_vec();
        let mut there: HashSet<Key> = answers.iter().map(key).collect();
        let mut denied: HashSet<Name> = HashSet::new();
        while let Some(record) = queue.pop() {
            let next = match &record.data {
                RData::PTR(to) => &to.0,
                RData::CNAME(to) => &to.0,
                RData::SRV(srv) => &srv.target,
                // Who asks for one kind of address mostly wants the other too.
                RData::A(_) | RData::AAAA(_) => &record.name,
                _ => continue,
            };
            let Some(node) = self.names.get(next) else { continue };
            let unique: Vec<_> = node.entries.iter().filter(|entry| entry.is_unique()).collect();
            for entry in &unique {
                let record = &entry.told.record;
                if there.insert(key(record)) {
                    more.push(record.clone());
                    queue.push(record.clone());
                }
            }
            // That a host lacks one of the two is as good to know.
            let lacks = |kind| !unique.iter().any(|entry| entry.told.record.record_type() == kind);
            let is_host = lacks(RecordType::SRV) && (!lacks(RecordType::A) || !lacks(RecordType::AAAA));
            let half = is_host && (lacks(RecordType::A) || lacks(RecordType::AAAA));
            if half && denied.insert(next.clone()) {
                more.extend(node.denial());
            }
        }
        more
    }
}

/// What tells a record from all others.
pub type Key = (Name, RData);

/// See [`Key`].
pub fn key(record: &Record) -> Key {
    (record.name.clone(), record.data.clone())
}
