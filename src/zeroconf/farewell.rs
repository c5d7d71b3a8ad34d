//! Goodbyes for those who cannot say them any more, and what follows when they are back (RFC 6762 section 10.1).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use hickory_proto::rr::Record;

use super::codec::Response;
use super::zone::key;
use super::{Engine, RemoteNode, found};
use crate::model::{NodeId, ZeroconfMode};

/// How long a node that came back has to say what it has now.
const RETURN: Duration = Duration::from_secs(1);

impl Engine {
    /// Says goodbye for records that nobody here or there says any more.
    pub(super) fn goodbye(&mut self, mut gone: Vec<Record>) {
        if gone.is_empty() {
            return;
        }
        let proxy = self.config.mode == ZeroconfMode::Proxy;
        let nodes = self.remote.values().filter(|_| !proxy);
        let facts = nodes.flat_map(|node| node.facts.values());
        let there: HashSet<_> =
            facts.flat_map(|fact| found::records(&fact.found)).map(|told| key(&told.record)).collect();
        gone.retain(|record| {
            let here = self.caches.values().any(|cache| cache.holds(&record.name, &record.data));
            !here && self.zone.entry(&key(record)).is_none() && !there.contains(&key(record))
        });
        for record in &mut gone {
            record.ttl = 0;
        }
        self.multicast(&Response { answers: gone, additionals: Vec::new() }.encode(None));
    }

    /// In transparent mode nobody else says goodbye for the endpoints of a node that died, and nobody announces
    /// them again when a cut has healed. One of those that stayed does it: that with the lowest id.
    pub(super) fn mourn(&mut self, now: Duration, old: &BTreeMap<NodeId, RemoteNode>) {
        let mut records = Vec::new();
        for (id, node) in old.iter().filter(|(id, _)| !self.remote.contains_key(*id)) {
            self.gone.insert(*id, None);
            records.extend(records_of(node));
        }
        for (id, due) in &mut self.gone {
            let back = self.remote.contains_key(id);
            *due = if back { due.or(Some(now + RETURN)) } else { None };
        }
        if self.speaks_for_others() {
            self.goodbye(records);
        }
    }

    fn speaks_for_others(&self) -> bool {
        let mut stayed = self.remote.keys().filter(|node| !self.gone.contains_key(*node));
        stayed.all(|node| *node > self.config.node)
    }

    pub(super) fn welcome_back(&mut self, now: Duration) {
        let due = |due: &Option<Duration>| due.is_some_and(|due| due <= now);
        let back: Vec<_> = self.gone.iter().filter(|(_, at)| due(at)).map(|(node, _)| *node).collect();
        let speaks = self.speaks_for_others();
        let mut again = Vec::new();
        for node in back {
            self.gone.remove(&node);
            again.extend(self.remote.get(&node).filter(|_| speaks).map(records_of).unwrap_or_default());
        }
        self.multicast(&Response { answers: again, additionals: Vec::new() }.encode(None));
    }
}

/// What a node says, as records to announce.
fn records_of(node: &RemoteNode) -> Vec<Record> {
    let mut seen = HashSet::new();
    let told = node.facts.values().flat_map(|fact| found::records(&fact.found)).filter(|told| told.announced);
    told.map(|told| told.record).filter(|record| seen.insert(key(record))).collect()
}
