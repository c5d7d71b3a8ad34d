//! One document of one writer: a map whose every change has a version.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Delta, Entry, FactKey, Incarnation, Kind, Limits, Line, MAX_DOC_BYTES, Outcome, Project, Scope, Version,
};
use crate::model::NodeId;

/// How many tombstones a copy keeps; whoever is further behind gets the whole document.
const MAX_TOMBSTONES: usize = 64;

/// What applying a delta did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) enum Applied {
    /// These facts are new, different or gone.
    Changed(Vec<(FactKey, Outcome)>),
    /// All of it was known.
    Known,
    /// Changes before its base are missing here, so nothing was taken.
    Gap,
    /// The writer publishes more than it may. Nothing of the document is kept, and these facts are gone, until its writer
    /// publishes one that fits.
    Refused(Vec<(FactKey, Outcome)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    version: Version,
    value: Option<Bytes>,
}

/// How much there is of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    entries: usize,
    bytes: usize,
}

/// A copy of one document; its writer's own is one too.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cluster) struct Doc<P: Project> {
    incarnation: Incarnation,
    version: Version,
    /// Tombstones up to this version may have been dropped.
    floor: Version,
    entries: BTreeMap<FactKey, Held>,
    /// What the entries take when they are encoded.
    bytes: usize,
    usage: BTreeMap<Kind, Usage>,
    /// How many of the entries are tombstones.
    dead: usize,
    /// Its writer publishes more than it may.
    refused: bool,
    known: P,
}

impl<P: Project> Doc<P> {
    /// An empty document, as its writer begins it when its counter is at `version`.
    pub fn begin(incarnation: Incarnation, version: Version, about: &P::About) -> Self {
        Self {
            incarnation,
            version,
            floor: version,
            entries: BTreeMap::new(),
            bytes: 0,
            usage: BTreeMap::new(),
            dead: 0,
            refused: false,
            known: P::begin(about),
        }
    }

    /// Nothing known yet: any whole document replaces it.
    pub fn unknown(about: &P::About) -> Self {
        Self::begin(0, 0, about)
    }

    /// How far it is: nowhere, where nothing of it is kept, so that it comes as a whole.
    pub fn line(&self, writer: NodeId) -> Line {
        let version = if self.refused { 0 } else { self.version };
        Line { writer, incarnation: self.incarnation, version }
    }

    /// Incarnation and version, in the order in which the writer made them.
    pub fn place(&self) -> (Incarnation, Version) {
        (self.incarnation, self.version)
    }

    /// What it means.
    pub fn known(&self) -> &P {
        &self.known
    }

    /// Whether nothing was ever heard of it.
    pub fn is_unknown(&self) -> bool {
        self.place() == (0, 0)
    }

    /// Whether it has neither facts nor tombstones.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The facts, whatever they mean.
    pub fn facts(&self) -> impl Iterator<Item = (&FactKey, &Bytes)> {
        self.entries.iter().filter_map(|(key, held)| Some((key, held.value.as_ref()?)))
    }

    /// What is said under `key`.
    pub fn get(&self, key: &FactKey) -> Option<&Bytes> {
        self.entries.get(key).and_then(|held| held.value.as_ref())
    }

    /// Reads all entries anew, because what their meaning depends on has changed.
    pub fn read_anew(&mut self, about: &P::About) {
        self.known = P::begin(about);
        for (key, held) in &self.entries {
            self.known.set(key, held.value.as_deref());
        }
    }

    /// What the document would take with `value` under `key`, and may at most, where that is more than it may: bytes, or
    /// entries of the kind.
    pub fn excess(&self, key: &FactKey, value: &Bytes) -> Option<(usize, usize)> {
        let limits = P::limits(key.kind);
        let old = self.entries.get(key);
        let size = size(key, Some(value));
        let before = old.map_or(0, |held| self::size(key, held.value.as_ref()));
        let usage = self.usage.get(&key.kind).copied().unwrap_or_default();
        let entries = usage.entries + usize::from(old.is_none_or(|held| held.value.is_none()));
        [
            (value.len(), limits.value),
            (entries, limits.entries),
            (usage.bytes + size - before, limits.bytes),
            (self.bytes + size - before, MAX_DOC_BYTES),
        ]
        .into_iter()
        .find(|(would, may)| would > may)
    }

    /// The writer's own change, as its version `version`, which is above all earlier ones.
    pub fn write(&mut self, version: Version, key: FactKey, value: Option<Bytes>) -> Outcome {
        self.version = version;
        let outcome = self.set(key, version, value);
        self.trim();
        outcome
    }

    /// What a copy at (`incarnation`, `version`) lacks; the whole document where tombstones it may need are gone. `None`
    /// where nothing of the document is kept here.
    pub fn since(
        &self,
        writer: NodeId,
        scope: Scope,
        incarnation: Incarnation,
        version: Version,
    ) -> Option<Delta> {
        if self.refused {
            return None;
        }
        let whole = incarnation != self.incarnation || version == 0 || version < self.floor;
        let base = if whole { 0 } else { version };
        let entries = self
            .entries
            .iter()
            .filter(|(_, held)| held.version > base && !(whole && held.value.is_none()))
            .map(|(key, held)| Entry { key: key.clone(), version: held.version, value: held.value.clone() })
            .collect();
        Some(Delta { writer, scope, incarnation: self.incarnation, base, version: self.version, entries })
    }

    /// Takes what is new in a sound delta of the same document.
    pub fn apply(&mut self, delta: &Delta) -> Applied {
        let whole = delta.base == 0;
        let place = (delta.incarnation, delta.version);
        // Of one that is refused, the whole as it is now may fit again.
        if place < self.place() || (place == self.place() && !(self.refused && whole)) {
            return Applied::Known;
        }
        if !whole && (delta.incarnation > self.incarnation || delta.base > self.version) {
            return Applied::Gap;
        }
        let mut changed = Vec::new();
        if self.refused && !whole {
            self.version = delta.version;
            return Applied::Refused(changed);
        }
        self.refused = false;
        let mut note = |key: FactKey, outcome: Outcome| {
            if outcome != Outcome::Same {
                changed.push((key, outcome));
            }
        };
        if whole {
            let keep: BTreeMap<&FactKey, &Entry> = delta.entries.iter().map(|e| (&e.key, e)).collect();
            let gone =
                self.entries.iter().filter(|(key, held)| held.value.is_some() && !keep.contains_key(key));
            let gone: Vec<FactKey> = gone.map(|(key, _)| key.clone()).collect();
            for key in gone {
                let outcome = self.set(key.clone(), 0, None);
                note(key, outcome);
            }
            self.retain(|held| held.value.is_some());
            self.floor = delta.version;
        }
        let same = delta.incarnation == self.incarnation;
        for entry in &delta.entries {
            let older = self.entries.get(&entry.key).is_some_and(|held| held.version >= entry.version);
            if same && older {
                continue;
            }
            let outcome = self.set(entry.key.clone(), entry.version, entry.value.clone());
            note(entry.key.clone(), outcome);
        }
        (self.incarnation, self.version) = (delta.incarnation, delta.version);
        self.trim();
        let too_long =
            |entry: &Entry| entry.value.as_ref().is_some_and(|v| v.len() > P::limits(entry.key.kind).value);
        if self.fits() && !delta.entries.iter().any(too_long) {
            return Applied::Changed(changed);
        }
        changed.extend(self.refuse());
        Applied::Refused(changed)
    }

    /// Whether what is counted and read is what the entries say.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn is_consistent(&self, about: &P::About) -> bool {
        let mut read = self.clone();
        read.read_anew(about);
        let bytes: usize = self.entries.iter().map(|(key, held)| size(key, held.value.as_ref())).sum();
        let usage = |field: fn(&Usage) -> usize| self.usage.values().map(field).sum::<usize>();
        read.known == self.known
            && self.dead == self.entries.values().filter(|held| held.value.is_none()).count()
            && self.dead <= MAX_TOMBSTONES
            && self.bytes == bytes
            && usage(|usage| usage.bytes) == bytes
            && usage(|usage| usage.entries) == self.entries.len() - self.dead
            && self.entries.values().all(|held| held.version <= self.version)
            && self.fits()
    }

    fn fits(&self) -> bool {
        let within = |(kind, usage): (&Kind, &Usage)| {
            let Limits { entries, bytes, .. } = P::limits(*kind);
            usage.entries <= entries && usage.bytes <= bytes
        };
        self.bytes <= MAX_DOC_BYTES && self.usage.iter().all(within)
    }

    /// Keeps nothing of it.
    fn refuse(&mut self) -> Vec<(FactKey, Outcome)> {
        let gone = self.entries.keys().cloned().collect::<Vec<_>>();
        let gone = gone.into_iter().map(|key| {
            let outcome = self.known.set(&key, None);
            (key, outcome)
        });
        let gone = gone.filter(|(_, outcome)| *outcome != Outcome::Same).collect();
        self.entries.clear();
        self.usage.clear();
        (self.bytes, self.dead, self.refused) = (0, 0, true);
        self.floor = self.version;
        gone
    }

    fn set(&mut self, key: FactKey, version: Version, value: Option<Bytes>) -> Outcome {
        let outcome = self.known.set(&key, value.as_deref());
        let bytes = size(&key, value.as_ref());
        let (gone, live) = (value.is_none(), value.is_some());
        let (kind, held) = (key.kind, Held { version, value });
        let old = self.entries.get(&key).map(|old| (size(&key, old.value.as_ref()), old.value.is_some()));
        self.entries.insert(key, held);
        let usage = self.usage.entry(kind).or_default();
        self.bytes += bytes;
        usage.bytes += bytes;
        self.dead += usize::from(gone);
        usage.entries += usize::from(live);
        if let Some((bytes, live)) = old {
            self.bytes -= bytes;
            usage.bytes -= bytes;
            self.dead -= usize::from(!live);
            usage.entries -= usize::from(live);
        }
        outcome
    }

    /// Forgets tombstones.
    fn retain(&mut self, keep: impl Fn(&Held) -> bool) {
        let (bytes, dead, usage) = (&mut self.bytes, &mut self.dead, &mut self.usage);
        self.entries.retain(|key, held| {
            let keep = held.value.is_some() || keep(held);
            if !keep {
                let size = size(key, None);
                *bytes -= size;
                *dead -= 1;
                if let Some(usage) = usage.get_mut(&key.kind) {
                    usage.bytes -= size;
                }
            }
            keep
        });
        self.usage.retain(|_, usage| usage.bytes > 0);
    }

    fn trim(&mut self) {
        if self.dead <= MAX_TOMBSTONES {
            return;
        }
        let dead = self.entries.values().filter(|held| held.value.is_none());
        let mut dead: Vec<Version> = dead.map(|held| held.version).collect();
        dead.sort_unstable();
        // Half of them at once, so that this is rare.
        let cut = dead[dead.len() - MAX_TOMBSTONES / 2 - 1];
        self.retain(|held| held.version > cut);
        self.floor = self.floor.max(cut);
    }
}

/// What an entry counts for: more than its encoding takes.
fn size(key: &FactKey, value: Option<&Bytes>) -> usize {
    /// Kind, version, two lengths, and whether there is a value, each at its longest.
    const HEAD: usize = 3 + 10 + 3 + 3 + 1;
    HEAD + key.key.len() + value.map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::kinds::{self, About, EndpointKind, Known};
    use crate::cluster::testing;
    use crate::model::{Endpoint, EndpointName, NetworkId};

    type Doc = super::Doc<Known>;

    const SCOPE: Scope = Scope::Network(NetworkId::from_bytes([7; 8]));
    const WRITER: NodeId = NodeId::from_bytes([1; 16]);

    fn about() -> About {
        About { writer: WRITER, scope: SCOPE, network: Some(testing::network("net", 7, 1).into()) }
    }

    fn key(n: u8) -> FactKey {
        named(&format!("e{n}"))
    }

    fn named(name: &str) -> FactKey {
        kinds::key::<EndpointKind>(&EndpointName::new(name).unwrap())
    }

    fn fact(n: u8, claim: u64) -> Bytes {
        kinds::value::<EndpointKind>(&testing::endpoint(&format!("e{n}"), claim))
    }

    fn unknown() -> Doc {
        Doc::unknown(&about())
    }

    /// Every state a writer went through: `None` removes.
    fn history(changes: &[(u8, Option<u64>, bool)]) -> Vec<Doc> {
        let (mut incarnation, mut version) = (1, 0);
        let mut doc = Doc::begin(incarnation, version, &about());
        let mut states = vec![doc.clone()];
        for (n, claim, restart) in changes {
            if *restart {
                (incarnation, version) = (incarnation + 1, 0);
                doc = Doc::begin(incarnation, version, &about());
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
        to.since(WRITER, SCOPE, from.incarnation, from.version).unwrap()
    }

    fn content(doc: &Doc) -> (Incarnation, Version, BTreeMap<EndpointName, Endpoint>) {
        (doc.incarnation, doc.version, (*doc.known.endpoints).clone())
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
            let mut by_whole = unknown();
            by_whole.apply(&states[to].since(WRITER, SCOPE, 0, 0).unwrap());
            prop_assert_eq!(content(&by_delta), content(&states[to]));
            prop_assert!(by_delta.is_consistent(&about()));
            if states[to].version > 0 {
                prop_assert_eq!(content(&by_whole), content(&states[to]));
            }
        }

        #[test]
        fn in_whatever_order_deltas_arrive_and_repeat_the_copy_catches_up_in_one_exchange(
            changes in changes(30), order in prop::collection::vec((0usize..30, 0usize..30), 0..60)
        ) {
            let states = history(&changes);
            let mut copy = unknown();
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
        let mut doc = Doc::begin(1, 0, &about());
        doc.write(1, key(0), Some(fact(0, 1)));
        doc.write(2, key(1), Some(fact(1, 1)));
        let mut behind = doc.clone();
        doc.write(3, key(1), None);
        for n in 0..100u64 {
            doc.write(4 + 2 * n, key(100), Some(fact(100, n)));
            doc.write(5 + 2 * n, named(&format!("gone{n}")), None);
        }
        let delta = between(&behind, &doc);
        assert_eq!(delta.base, 0);
        assert!(delta.is_sound());
        behind.apply(&delta);
        assert_eq!(behind.known, doc.known);
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
        assert_eq!(copy.known.endpoints.len(), 2);
        let Applied::Changed(changed) = copy.apply(&between(&copy, &states[4])) else { panic!("is newer") };
        assert_eq!(changed.len(), 3, "{changed:?}");
        assert_eq!(copy.known, states[4].known);
        assert_eq!(copy.apply(&between(&states[1], &states[2])), Applied::Known);
    }

    #[test]
    fn a_kind_that_nobody_here_knows_travels_like_any_other() {
        let key = FactKey { kind: Kind(900), key: Bytes::from_static(b"k") };
        let mut doc = Doc::begin(1, 0, &about());
        assert_eq!(doc.write(1, key.clone(), Some(Bytes::from_static(b"v1"))), Outcome::Foreign);
        doc.write(2, key.clone(), Some(Bytes::from_static(b"v2")));
        let mut copy = unknown();
        copy.apply(&between(&copy, &doc));
        assert_eq!(copy.get(&key).map(|value| &value[..]), Some(&b"v2"[..]));
        doc.write(3, key.clone(), None);
        copy.apply(&between(&copy, &doc));
        assert_eq!(copy.get(&key), None);
        assert!(copy.is_consistent(&about()));
    }

    #[test]
    fn what_is_not_sound_is_carried_and_not_believed_until_it_is_sound_again() {
        let mut doc = Doc::begin(1, 0, &about());
        doc.write(1, key(1), Some(fact(1, 1)));
        let mut outside = testing::endpoint("e1", 2);
        outside.addresses = vec!["192.0.2.7/24".parse().unwrap()];
        let outcome = doc.write(2, key(1), Some(kinds::value::<EndpointKind>(&outside)));
        assert_eq!(outcome, Outcome::Changed { had: true, has: false });
        assert_eq!(doc.write(3, key(2), Some(Bytes::from_static(b"?"))), Outcome::Unsound);
        assert!(doc.known().endpoints.is_empty());
        let mut copy = unknown();
        copy.apply(&between(&copy, &doc));
        assert_eq!(copy.facts().count(), 2, "the next one may know better");
        assert!(copy.known().endpoints.is_empty());
        doc.write(4, key(1), Some(fact(1, 3)));
        copy.apply(&between(&copy, &doc));
        assert_eq!(copy.known().endpoints.len(), 1);
    }

    #[test]
    fn an_address_of_a_subnet_that_is_not_known_yet_is_believed_once_it_is() {
        let mut doc = Doc::begin(1, 0, &about());
        let mut second = testing::endpoint("e1", 1);
        second.addresses.push("10.20.0.9/24".parse().unwrap());
        doc.write(1, key(1), Some(kinds::value::<EndpointKind>(&second)));
        let believed =
            |doc: &Doc| doc.known().endpoints.values().map(|e| e.addresses.len()).collect::<Vec<_>>();
        assert_eq!(believed(&doc), [1], "what is of the network");
        let mut spec = testing::network("net", 7, 1);
        spec.subnets.push("10.20.0.0/24".parse().unwrap());
        spec.gateways.push([10, 20, 0, 1].into());
        doc.read_anew(&About { network: Some(spec.into()), ..about() });
        assert_eq!(believed(&doc), [2]);
    }

    #[test]
    fn a_writer_that_says_too_much_is_not_believed_at_all_until_it_says_less() {
        let big = |n: u64| {
            let key = FactKey { kind: Kind(901), key: n.to_be_bytes().to_vec().into() };
            (key, Bytes::from(vec![0; 60 << 10]))
        };
        let mut doc = Doc::begin(1, 0, &about());
        doc.write(1, key(1), Some(fact(1, 1)));
        let mut copy = doc.clone();
        let mut version = 1;
        while doc.excess(&big(version).0, &big(version).1).is_none() {
            version += 1;
            let (key, value) = big(version);
            doc.write(version, key, Some(value));
        }
        assert!(version > 10, "there is room for a megabyte of a kind");
        // A writer that keeps to no limit.
        version += 1;
        let (more, value) = big(version);
        doc.write(version, more, Some(value));
        let Applied::Refused(gone) = copy.apply(&between(&copy, &doc)) else { panic!("it was taken") };
        assert_eq!(gone.iter().filter(|(key, _)| *key == self::key(1)).count(), 1);
        assert!(copy.is_empty() && copy.known().endpoints.is_empty());
        assert_eq!(copy.since(WRITER, SCOPE, 0, 0), None, "nothing of it is passed on");
        doc.write(version + 1, key(2), Some(fact(2, 1)));
        assert_eq!(copy.apply(&between(&copy, &doc)), Applied::Refused(Vec::new()));
        assert_eq!(copy.line(WRITER).version, 0, "it asks for the whole of it");
        // Its writer takes some of it back: what is there now fits.
        doc.write(version + 2, big(version).0, None);
        doc.write(version + 3, big(version - 1).0, None);
        let whole = doc.since(WRITER, SCOPE, copy.line(WRITER).incarnation, 0).unwrap();
        assert!(matches!(copy.apply(&whole), Applied::Changed(_)));
        assert_eq!(copy.known().endpoints.len(), 2);
        let mut less = Doc::begin(2, 0, &about());
        less.write(1, key(3), Some(fact(3, 1)));
        assert!(matches!(copy.apply(&between(&copy, &less)), Applied::Changed(_)));
        assert_eq!(copy.known().endpoints.len(), 1);
    }
}
