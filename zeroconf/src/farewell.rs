//! What is said to this node's endpoints of those on other nodes that cannot say it themselves: goodbyes for nodes that
//! died (RFC 6762 section 10.1), and what they have when they are back. None of it crosses the underlay.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, Record, RecordType};

use super::codec::{Questions, Response};
use super::names::{Meaning, meaning};
use super::zone::{Key, key};
use super::{Destination, Engine, Family, RemoteNode, found};
use lanmesh_model::{NodeId, ZeroconfMode};

/// How long a node that has appeared has to say what it has now.
const APPEARED: Duration = Duration::from_secs(1);
/// After a goodbye, until it is said again, and until it is asked whether anybody is there after all.
const AGAIN: Duration = Duration::from_millis(100);
/// How long what was said of a node that had appeared is taken back where the node takes it back: a restarted agent
/// says for some seconds what was so before.
const VOUCHED: Duration = Duration::from_secs(15);
/// Questions that are put after a death, at most.
const QUESTIONS_MAX: usize = 256;

impl Engine {
    /// Says goodbye for what nobody here or there says any more.
    pub(super) fn goodbye(&mut self, gone: Vec<Record>, to: fn(Family) -> Destination) {
        let answers = self.nobodys(gone);
        self.multicast(&Response { answers, additionals: Vec::new() }.encode(None), to);
    }

    /// The same twice, for those who cannot say it themselves.
    pub(super) fn goodbye_for(&mut self, now: Duration, gone: Vec<Record>) {
        if !gone.is_empty() {
            self.goodbye(gone.clone(), Destination::Here);
            self.farewells.said.push((now + AGAIN, gone));
        }
    }

    /// Those of `records` that nobody says any more, as goodbyes.
    fn nobodys(&self, mut records: Vec<Record>) -> Vec<Record> {
        if records.is_empty() {
            return records;
        }
        let proxy = self.config.mode == ZeroconfMode::Proxy;
        let nodes = self.remote.values().filter(|_| !proxy);
        let facts = nodes.flat_map(|node| node.facts.values());
        let there: HashSet<Key> =
            facts.flat_map(|fact| found::records(&fact.found)).map(|record| key(&record)).collect();
        records.retain(|record| {
            let here = self.caches.values().any(|cache| cache.holds(&record.name, &record.data));
            !here && self.zone.entry(&key(record)).is_none() && !there.contains(&key(record))
        });
        for record in &mut records {
            // Nothing is said of other records of the name: somebody who lives may have them.
            (record.ttl, record.mdns_cache_flush) = (0, false);
        }
        records
    }

    /// In transparent mode nobody says goodbye for the endpoints of a node that died, and after a cut has healed
    /// nobody announces them again. Each agent does so to its own endpoints.
    pub(super) fn mourn(&mut self, now: Duration, old: &BTreeMap<NodeId, RemoteNode>) {
        let mut gone = Vec::new();
        for (id, node) in old.iter().filter(|(id, _)| !self.remote.contains_key(*id)) {
            self.farewells.appeared.remove(id);
            gone.extend(records_of(node));
        }
        for id in self.remote.keys().filter(|id| !old.contains_key(*id)) {
            self.farewells.appeared.insert(*id, now + APPEARED);
        }
        for (until, records) in std::mem::take(&mut self.farewells.vouched) {
            if until > now {
                let back = self.nobodys(records.clone());
                let back: HashSet<Key> = back.iter().map(key).collect();
                let (back, still): (Vec<_>, Vec<_>) =
                    records.into_iter().partition(|record| back.contains(&key(record)));
                gone.extend(back);
                self.farewells.vouched.push((until, still));
            }
        }
        let mut seen = HashSet::new();
        gone.retain(|record| seen.insert(key(record)));
        self.goodbye_for(now, gone);
    }

    /// Says what is due.
    pub(super) fn bid_farewell(&mut self, now: Duration) {
        let said: Vec<_> = self.farewells.said.extract_if(.., |(due, _)| *due <= now).collect();
        for (_, records) in said {
            let answers = self.nobodys(records);
            let doubts = questions(&answers);
            self.multicast(&Response { answers, additionals: Vec::new() }.encode(None), Destination::Here);
            // Where only its agent is dead, a node's endpoints go on: they say so, if they are asked. One of those
            // that are left asks: that with the lowest id.
            let asks = self.remote.keys().all(|node| *node > self.config.node);
            if self.config.mode == ZeroconfMode::Transparent && asks && !doubts.is_empty() {
                self.farewells.doubts.push((now + AGAIN, doubts));
            }
        }
        let doubts: Vec<_> = self.farewells.doubts.extract_if(.., |(due, _)| *due <= now).collect();
        for (_, queries) in doubts {
            let known = self.known(now, &queries);
            let questions = Questions { queries, known, proposed: Vec::new() };
            self.multicast(&questions.encode(), Destination::Group);
        }
        let appeared = self.farewells.appeared.extract_if(.., |_, due| *due <= now);
        let nodes: Vec<NodeId> = appeared.map(|(node, _)| node).collect();
        for node in nodes {
            let answers = self.remote.get(&node).map(records_of).unwrap_or_default();
            if !answers.is_empty() {
                self.farewells.vouched.push((now + VOUCHED, answers.clone()));
            }
            self.multicast(&Response { answers, additionals: Vec::new() }.encode(None), Destination::Here);
        }
    }
}

/// What to ask in order to hear whether there is still somebody who has these: the types of services and the hosts.
fn questions(records: &[Record]) -> Vec<Query> {
    let asked = |record: &Record| match (meaning(&record.name), record.record_type()) {
        (Meaning::Kind(_), RecordType::PTR) => true,
        (Meaning::Host(_), kind) => kind.is_ip_addr(),
        _ => false,
    };
    let asked: BTreeSet<(&Name, RecordType)> = records
        .iter()
        .filter(|record| asked(record))
        .map(|record| (&record.name, record.record_type()))
        .collect();
    asked.into_iter().take(QUESTIONS_MAX).map(|(name, kind)| Query::query(name.clone(), kind)).collect()
}

/// What a node says, as records to announce.
fn records_of(node: &RemoteNode) -> Vec<Record> {
    let mut seen = HashSet::new();
    let told = node.facts.values().flat_map(|fact| found::records(&fact.found));
    told.filter(|record| seen.insert(key(record))).collect()
}
