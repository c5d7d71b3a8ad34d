//! One document of one writer: a map whose every change has a version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Delta, Entry, Fact, FactKey, Incarnation, Line, Scope, Version};
use crate::model::{Endpoint, EndpointName, Group, NodeId, ZeroconfFact, ZeroconfKey};

/// How many tombstones a copy keeps; whoever is further behind gets the whole document.
const MAX_TOMBSTONES: usize = 64;

/// What applying a delta did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) enum Applied {
    /// These facts are new, different or gone; `true` for those that were there before.
    Changed(Vec<(FactKey, bool)>),
    /// All of it was known.
    Known,
    /// Changes before its base are missing here, so nothing was taken.
    Gap,
}

/// A copy of one document; its writer's own is one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Doc {
    incarnation: Incarnation,
    version: Version,
    /// Tombstones up to this version may have been dropped.
    floor: Version,
    entries: BTreeMap<FactKey, (Version, Option<Fact>)>,
    /// What the entries take when they are encoded.
    bytes: usize,
    /// How many of the entries are tombstones.
    dead: usize,
    /// The endpoints in it, shared with the views that were given out.
    endpoints: Arc<BTreeMap<EndpointName, Endpoint>>,
    /// The groups in it, shared likewise.
    groups: Arc<BTreeSet<Group>>,
    /// The zeroconf facts in it, shared likewise.
    zeroconf: Arc<BTreeMap<ZeroconfKey, ZeroconfFact>>,
}

impl Doc {
    /// An empty document, as its writer begins it when its counter is at `version`.
    pub fn begin(incarnation: Incarnation, version: Version) -> Self {
        Self {
            incarnation,
            version,
            floor: version,
            entries: BTreeMap::new(),
            bytes: 0,
            dead: 0,
            endpoints: Arc::new(BTreeMap::new()),
            groups: Arc::default(),
            zeroconf: Arc::default(),
        }
    }

    /// Nothing known yet: any whole document replaces it.
    pub fn unknown() -> Self {
        Self::begin(0, 0)
    }

    /// How far it is.
    pub fn line(&self, writer: NodeId) -> Line {
        Line { writer, incarnation: self.incarnation, version: self.version }
    }

    /// Incarnation and version, in the order in which the writer made them.
    pub fn place(&self) -> (Incarnation, Version) {
        (self.incarnation, self.version)
    }

    /// The endpoints in it.
    pub fn endpoints(&self) -> &Arc<BTreeMap<EndpointName, Endpoint>> {
        &self.endpoints
    }

    /// The groups in it.
    pub fn groups(&self) -> &Arc<BTreeSet<Group>> {
        &self.groups
    }

    /// The zeroconf facts in it.
    pub fn zeroconf(&self) -> &Arc<BTreeMap<ZeroconfKey, ZeroconfFact>> {
        &self.zeroconf
    }

    /// What its entries take when they are encoded.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has neither facts nor tombstones.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The fact under `key`.
    pub fn get(&self, key: &FactKey) -> Option<&Fact> {
        self.entries.get(key).and_then(|(_, value)| value.as_ref())
    }

    /// The writer's own change, as its version `version`, which is above all earlier ones.
    pub fn write(&mut self, version: Version, key: FactKey, value: Option<Fact>) {
        self.version = version;
        self.set(key, version, value);
        self.trim();
    }

    /// What a copy at (`incarnation`, `version`) lacks; the whole document where tombstones it may need are gone.
    pub fn since(&self, writer: NodeId, scope: Scope, incarnation: Incarnation, version: Version) -> Delta {
        let whole = incarnation != self.incarnation || version == 0 || version < self.floor;
        let base = if whole { 0 } else { version };
        let entries = self
            .entries
            .iter()
            .filter(|(_, (version, value))| *version > base && !(whole && value.is_none()))
            .map(|(key, (version, value))| Entry {
                key: key.clone(),
                version: *version,
                value: value.clone(),
            })
            .collect();
        Delta { writer, scope, incarnation: self.incarnation, base, version: self.version, entries }
    }

    /// Takes what is new in a sound delta of the same document.
    pub fn apply(&mut self, delta: &Delta) -> Applied {
        let whole = delta.base == 0;
        if (delta.incarnation, delta.version) <= self.place() {
            return Applied::Known;
        }
        if !whole && (delta.incarnation > self.incarnation || delta.base > self.version) {
            return Applied::Gap;
        }
        let mut changed = Vec::new();
        if whole {
            let keep: BTreeMap<&FactKey, &Entry> = delta.entries.iter().map(|e| (&e.key, e)).collect();
            let gone: Vec<FactKey> = self
                .entries
                .iter()
                .filter(|(key, (_, value))| value.is_some() && !keep.contains_key(key))
                .map(|(key, _)| key.clone())
                .collect();
            for key in gone {
                self.set(key.clone(), 0, None);
                changed.push((key, true));
            }
            self.retain(|_, value| value.is_some());
            self.floor = delta.version;
        }
        let same = delta.incarnation == self.incarnation;
        for entry in &delta.entries {
            let older = self.entries.get(&entry.key).is_some_and(|(version, _)| *version >= entry.version);
            if same && older {
                continue;
            }
            let had = self.get(&entry.key);
            if had != entry.value.as_ref() {
                changed.push((entry.key.clone(), had.is_some()));
            }
            self.set(entry.key.clone(), entry.version, entry.value.clone());
        }
        (self.incarnation, self.version) = (delta.incarnation, delta.version);
        self.trim();
        Applied::Changed(changed)
    }

    /// Whether what is counted and shared is what the entries say.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn is_consistent(&self) -> bool {
        let values = || self.entries.iter().filter_map(|(key, (_, value))| Some((key, value.as_ref()?)));
        let endpoints = values().filter_map(|(_, value)| match value {
            Fact::Endpoint(endpoint) => Some((&endpoint.name, endpoint)),
            Fact::Node(_) | Fact::Joined | Fact::Zeroconf(_) => None,
        });
        let groups = values().filter_map(|(key, _)| match key {
            FactKey::Group(group) => Some(group),
            FactKey::Node | FactKey::Endpoint(_) | FactKey::Zeroconf(_) => None,
        });
        let zeroconf = values().filter_map(|(key, value)| match (key, value) {
            (FactKey::Zeroconf(key), Fact::Zeroconf(fact)) => Some((key, fact)),
            _ => None,
        });
        let size = |(key, (version, value)): (&FactKey, &(Version, Option<Fact>))| {
            encoded(key, *version, value.as_ref())
        };
        endpoints.eq(self.endpoints.iter())
            && groups.eq(self.groups.iter())
            && zeroconf.eq(self.zeroconf.iter())
            && self.dead == self.entries.values().filter(|(_, value)| value.is_none()).count()
            && self.dead <= MAX_TOMBSTONES
            && self.bytes == self.entries.iter().map(size).sum::<usize>()
            && self.entries.values().all(|(version, _)| *version <= self.version)
    }

    fn set(&mut self, key: FactKey, version: Version, value: Option<Fact>) {
        if let FactKey::Endpoint(name) = &key {
            let endpoint = match &value {
                Some(Fact::Endpoint(endpoint)) => Some(endpoint),
                _ => None,
            };
            // A change that changes nothing leaves the views that share this map alone.
            if self.endpoints.get(name) != endpoint {
                let endpoints = Arc::make_mut(&mut self.endpoints);
                match endpoint {
                    Some(endpoint) => drop(endpoints.insert(name.clone(), endpoint.clone())),
                    None => drop(endpoints.remove(name)),
                }
            }
        }
        if let FactKey::Group(group) = &key
            && self.groups.contains(group) != value.is_some()
        {
            let groups = Arc::make_mut(&mut self.groups);
            match value {
                Some(_) => drop(groups.insert(*group)),
                None => drop(groups.remove(group)),
            }
        }
        if let FactKey::Zeroconf(key) = &key {
            let fact = match &value {
                Some(Fact::Zeroconf(fact)) => Some(fact),
                _ => None,
            };
            if self.zeroconf.get(key) != fact {
                let zeroconf = Arc::make_mut(&mut self.zeroconf);
                match fact {
                    Some(fact) => drop(zeroconf.insert(key.clone(), fact.clone())),
                    None => drop(zeroconf.remove(key)),
                }
            }
        }
        self.bytes += encoded(&key, version, value.as_ref());
        self.dead += usize::from(value.is_none());
        if let Some((version, value)) = self.entries.get(&key) {
            self.bytes -= encoded(&key, *version, value.as_ref());
            self.dead -= usize::from(value.is_none());
        }
        self.entries.insert(key, (version, value));
    }

    fn retain(&mut self, keep: impl Fn(Version, Option<&Fact>) -> bool) {
        let (bytes, dead) = (&mut self.bytes, &mut self.dead);
        self.entries.retain(|key, (version, value)| {
            let keep = keep(*version, value.as_ref());
            if !keep {
                *bytes -= encoded(key, *version, value.as_ref());
                *dead -= usize::from(value.is_none());
            }
            keep
        });
    }

    fn trim(&mut self) {
        if self.dead <= MAX_TOMBSTONES {
            return;
        }
        let dead = self.entries.values().filter(|(_, value)| value.is_none());
        let mut dead: Vec<Version> = dead.map(|(version, _)| *version).collect();
        dead.sort_unstable();
        // Half of them at once, so that this is rare.
        let cut = dead[dead.len() - MAX_TOMBSTONES / 2 - 1];
        self.retain(|version, value| value.is_some() || version > cut);
        self.floor = self.floor.max(cut);
    }
}

fn encoded(key: &FactKey, version: Version, value: Option<&Fact>) -> usize {
    // Plain values of ours always encode.
    postcard::experimental::serialized_size(&(key, version, value)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::testing;
    use crate::model::NetworkId;

    const SCOPE: Scope = Scope::Network(NetworkId::from_bytes([7; 8]));
    const WRITER: NodeId = NodeId::from_bytes([1; 16]);

    fn key(n: u8) -> FactKey {
        FactKey::Endpoint(EndpointName::new(format!("e{n}")).unwrap())
    }

    fn fact(n: u8, claim: u64) -> Fact {
        Fact::Endpoint(testing::endpoint(&format!("e{n}"), claim))
    }

    /// Every state a writer went through: `None` removes.
    fn history(changes: &[(u8, Option<u64>, bool)]) -> Vec<Doc> {
        let (mut incarnation, mut version) = (1, 0);
        let mut doc = Doc::begin(incarnation, version);
        let mut states = vec![doc.clone()];
        for (n, claim, restart) in changes {
            if *restart {
                (incarnation, version) = (incarnation + 1, 0);
                doc = Doc::begin(incarnation, version);
            }
            version += 1;
            doc.write(version, key(*n), claim.map(|claim| fact(*n, claim)));
            states.push(doc.clone());
        }
        states
    }

    fn changes(len: usize) -> impl Strategy<Value = Vec<(u8, Option<u64>, bool)>> {
        prop::collection::vec((0u8..6, prop::option::of(0u64..4), prop::bool::weighted(0.1)), 1..len)
    }

    fn between(from: &Doc, to: &Doc) -> Delta {
        to.since(WRITER, SCOPE, from.incarnation, from.version)
    }

    fn content(doc: &Doc) -> (Incarnation, Version, BTreeMap<EndpointName, Endpoint>) {
        (doc.incarnation, doc.version, (*doc.endpoints).clone())
    }

    proptest! {
        #[test]
        fn a_delta_leads_to_the_same_content_as_the_whole_document(
            changes in changes(40), from in 0usize..40, to in 0usize..40
        ) {
            let states = history(&changes);
            let (from, to) = (from % states.len(), to % states.len());
            let (from, to) = (from.min(to), from.max(to));
            let mut by_delta = states[from].clone();
            by_delta.apply(&between(&states[from], &states[to]));
            let mut by_whole = Doc::unknown();
            by_whole.apply(&states[to].since(WRITER, SCOPE, 0, 0));
            prop_assert_eq!(content(&by_delta), content(&states[to]));
            prop_assert!(by_delta.is_consistent());
            if states[to].version > 0 {
                prop_assert_eq!(content(&by_whole), content(&states[to]));
            }
        }

        #[test]
        fn in_whatever_order_deltas_arrive_and_repeat_the_copy_catches_up_in_one_exchange(
            changes in changes(30), order in prop::collection::vec((0usize..30, 0usize..30), 0..60)
        ) {
            let states = history(&changes);
            let mut copy = Doc::unknown();
            for (a, b) in order {
                let (a, b) = (a % states.len(), b % states.len());
                let before = copy.place();
                copy.apply(&between(&states[a.min(b)], &states[a.max(b)]));
                prop_assert!(copy.place() >= before, "a copy went back");
                // Whatever it took, it is a state that the writer was in.
                let at = copy.place();
                if let Some(state) = states.iter().find(|s| s.place() == at) {
                    prop_assert_eq!(content(&copy), content(state));
                } else {
                    prop_assert_eq!(at, (0, 0));
                }
            }
            let last = &states[states.len() - 1];
            copy.apply(&between(&copy, last));
            prop_assert_eq!(content(&copy), content(last));
        }

        #[test]
        fn merging_copies_is_commutative_idempotent_and_associative(
            changes in changes(20), picks in prop::array::uniform3(0usize..20)
        ) {
            let states = history(&changes);
            let [a, b, c] = picks.map(|pick| states[pick % states.len()].clone());
            let merge = |mut into: Doc, from: &Doc| {
                let delta = between(&into, from);
                into.apply(&delta);
                into
            };
            prop_assert_eq!(content(&merge(a.clone(), &b)), content(&merge(b.clone(), &a)));
            prop_assert_eq!(content(&merge(a.clone(), &a)), content(&a));
            prop_assert_eq!(
                content(&merge(merge(a.clone(), &b), &c)),
                content(&merge(a.clone(), &merge(b.clone(), &c)))
            );
        }
    }

    #[test]
    fn a_copy_that_missed_dropped_tombstones_gets_the_whole_document() {
        let mut doc = Doc::begin(1, 0);
        doc.write(1, key(0), Some(fact(0, 1)));
        doc.write(2, key(1), Some(fact(1, 1)));
        let mut behind = doc.clone();
        doc.write(3, key(1), None);
        for n in 0..100u64 {
            doc.write(4 + 2 * n, key(100), Some(fact(100, n)));
            doc.write(5 + 2 * n, FactKey::Endpoint(EndpointName::new(format!("gone{n}")).unwrap()), None);
        }
        let delta = between(&behind, &doc);
        assert_eq!(delta.base, 0);
        assert!(delta.is_sound());
        behind.apply(&delta);
        assert_eq!(behind.endpoints, doc.endpoints);
        assert!(behind.get(&key(1)).is_none());
        assert!(doc.entries.len() < 2 + MAX_TOMBSTONES + 1, "{}", doc.entries.len());
    }

    #[test]
    fn a_lost_change_is_noticed_as_a_gap_and_nothing_is_taken() {
        let states = history(&[(0, Some(1), false), (1, Some(1), false), (2, Some(1), false)]);
        let mut copy = states[1].clone();
        assert_eq!(copy.apply(&between(&states[2], &states[3])), Applied::Gap);
        assert_eq!(copy, states[1]);
    }

    #[test]
    fn facts_of_an_older_start_stay_until_the_newer_ones_are_there() {
        let states =
            history(&[(0, Some(1), false), (1, Some(1), false), (1, Some(2), true), (2, Some(1), false)]);
        let mut copy = states[2].clone();
        assert_eq!(copy.apply(&between(&states[3], &states[4])), Applied::Gap);
        assert_eq!(copy.endpoints.len(), 2);
        let Applied::Changed(changed) = copy.apply(&between(&copy, &states[4])) else { panic!("is newer") };
        assert_eq!(changed.len(), 3, "{changed:?}");
        assert_eq!(copy.endpoints, states[4].endpoints);
        assert_eq!(copy.apply(&between(&states[1], &states[2])), Applied::Known);
    }
}
