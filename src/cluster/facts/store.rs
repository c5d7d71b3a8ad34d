//! All documents that this node has: its own, and its copies of those of others.

use std::collections::BTreeMap;

use bytes::Bytes;
use lanmesh_ipam::stable_hash;

use super::{Applied, Delta, Doc, Entry, FactKey, Incarnation, Line, Outcome, Project, Scope, Version};
use crate::model::NodeId;

/// A fact of a document that is new, different, gone, or not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Change {
    /// Which of its writer's documents.
    pub scope: Scope,
    /// Whose.
    pub writer: NodeId,
    /// What it is about.
    pub key: FactKey,
    /// What became of it.
    pub outcome: Outcome,
}

/// All documents that this node has.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct FactStore<P: Project> {
    me: NodeId,
    incarnation: Incarnation,
    counter: Version,
    docs: BTreeMap<(Scope, NodeId), Doc<P>>,
}

impl<P: Project> FactStore<P> {
    /// The documents of a node that starts: none.
    pub fn new(incarnation: Incarnation, me: NodeId) -> Self {
        Self { me, incarnation, counter: 0, docs: BTreeMap::new() }
    }

    /// Which start of the agent this is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What a writer's document means, where there is one.
    pub fn known(&self, scope: Scope, writer: NodeId) -> Option<&P> {
        self.docs.get(&(scope, writer)).map(Doc::known)
    }

    /// What all documents of a scope mean.
    pub fn all_known(&self, scope: Scope) -> impl Iterator<Item = (NodeId, &P)> {
        self.scope(scope).map(|(writer, doc)| (writer, doc.known()))
    }

    /// Every fact of every document, whatever it means.
    pub fn facts(&self) -> impl Iterator<Item = (Scope, NodeId, &FactKey, &Bytes)> {
        self.docs.iter().flat_map(|((scope, writer), doc)| {
            doc.facts().map(move |(key, value)| (*scope, *writer, key, value))
        })
    }

    /// Where a document is, in the order in which its writer made its changes.
    pub fn place(&self, scope: Scope, writer: NodeId) -> Option<(Incarnation, Version)> {
        self.docs.get(&(scope, writer)).map(Doc::place)
    }

    /// Begins this node's document of a scope, where it has none.
    pub fn begin(&mut self, scope: Scope, about: &P::About) {
        let (incarnation, counter) = (self.incarnation, self.counter);
        self.docs.entry((scope, self.me)).or_insert_with(|| Doc::begin(incarnation, counter, about));
    }

    /// What is said of this node's own under a key now.
    pub fn own(&self, scope: Scope, key: &FactKey) -> Option<&Bytes> {
        self.docs.get(&(scope, self.me)).and_then(|doc| doc.get(key))
    }

    /// What this node's document would take with a fact, and may at most, where that is more than it may.
    pub fn excess(
        &self,
        scope: Scope,
        about: &P::About,
        key: &FactKey,
        value: &Bytes,
    ) -> Option<(usize, usize)> {
        match self.docs.get(&(scope, self.me)) {
            Some(doc) => doc.excess(key, value),
            None => Doc::<P>::begin(self.incarnation, 0, about).excess(key, value),
        }
    }

    /// Publishes a fact, or takes it back. `None` where that was published before.
    pub fn put(
        &mut self,
        scope: Scope,
        about: &P::About,
        key: FactKey,
        value: Option<Bytes>,
    ) -> Option<(Delta, Change)> {
        if self.own(scope, &key) == value.as_ref() {
            return None;
        }
        Some(self.write(scope, about, key, value))
    }

    /// Publishes several, as one change. `None` where all of it was published before.
    pub fn put_all(
        &mut self,
        scope: Scope,
        about: &P::About,
        changes: impl IntoIterator<Item = (FactKey, Option<Bytes>)>,
    ) -> Option<(Delta, Vec<Change>)> {
        let written: Vec<(Delta, Change)> =
            changes.into_iter().filter_map(|(key, value)| self.put(scope, about, key, value)).collect();
        let (deltas, changes): (Vec<Delta>, Vec<Change>) = written.into_iter().unzip();
        let delta = deltas.into_iter().reduce(|mut all, next| {
            all.version = next.version;
            all.entries.extend(next.entries);
            all
        })?;
        Some((delta, changes))
    }

    /// How far each document of a scope is.
    pub fn lines(&self, scope: Scope) -> Vec<Line> {
        self.scope(scope).map(|(writer, doc)| doc.line(writer)).collect()
    }

    /// A number that is equal, but for accident, where the lines of a scope are.
    pub fn hash(&self, scope: Scope) -> u64 {
        // Exclusive or: the sum does not depend on the order. An empty document counts like none.
        self.scope(scope).filter(|(_, doc)| doc.place().1 > 0).fold(0, |sum, (writer, doc)| {
            let (incarnation, version) = doc.place();
            let mut line = [0; 32];
            line[..16].copy_from_slice(writer.as_bytes());
            line[16..24].copy_from_slice(&incarnation.to_be_bytes());
            line[24..].copy_from_slice(&version.to_be_bytes());
            sum ^ stable_hash(&line)
        })
    }

    /// What a node whose documents of a scope are at `lines` lacks, and what of this scope it has that is
    /// newer than what is here.
    pub fn compare(&self, scope: Scope, lines: &[Line]) -> (Vec<Delta>, Vec<Line>) {
        let theirs: BTreeMap<NodeId, (Incarnation, Version)> =
            lines.iter().map(|line| (line.writer, (line.incarnation, line.version))).collect();
        let lacks = self
            .scope(scope)
            .filter_map(|(writer, doc)| {
                let (incarnation, version) = theirs.get(&writer).copied().unwrap_or((0, 0));
                let newer = doc.place() > (incarnation, version) && doc.place().1 > 0;
                newer.then(|| doc.since(writer, scope, incarnation, version)).flatten()
            })
            .collect();
        let wants = theirs
            .into_iter()
            .filter_map(|(writer, place)| {
                let nothing = Line { writer, incarnation: 0, version: 0 };
                let line = self.docs.get(&(scope, writer)).map_or(nothing, |doc| doc.line(writer));
                (place > (line.incarnation, line.version)).then_some(line)
            })
            .collect();
        (lacks, wants)
    }

    /// What brings one document from a place to where it is here.
    pub fn since(&self, scope: Scope, line: Line) -> Option<Delta> {
        let doc = self.docs.get(&(scope, line.writer))?;
        let newer = doc.place() > (line.incarnation, line.version);
        newer.then(|| doc.since(line.writer, scope, line.incarnation, line.version)).flatten()
    }

    /// Takes what is new in a sound delta. The caller has seen to it that its document is wanted here.
    pub fn apply(&mut self, delta: &Delta, about: &P::About) -> (Applied, Vec<Change>) {
        let at = (delta.scope, delta.writer);
        let mut doc = self.docs.remove(&at).unwrap_or_else(|| Doc::unknown(about));
        let applied = doc.apply(delta);
        let changes = match &applied {
            Applied::Changed(facts) | Applied::Refused(facts) => facts
                .iter()
                .map(|(key, outcome)| Change {
                    scope: at.0,
                    writer: at.1,
                    key: key.clone(),
                    outcome: *outcome,
                })
                .collect(),
            Applied::Known | Applied::Gap => Vec::new(),
        };
        if !doc.is_unknown() {
            self.docs.insert(at, doc);
        }
        (applied, changes)
    }

    /// Reads the documents of a scope anew, because what their meaning depends on has changed.
    pub fn read_anew(&mut self, scope: Scope, about: impl Fn(NodeId) -> P::About) {
        let range = writers(scope);
        for ((_, writer), doc) in self.docs.range_mut(range) {
            doc.read_anew(&about(*writer));
        }
    }

    /// Every document: its scope, its writer, and how far it is.
    pub fn places(&self) -> impl Iterator<Item = (Scope, NodeId, (Incarnation, Version))> {
        self.docs.iter().map(|((scope, writer), doc)| (*scope, *writer, doc.place()))
    }

    /// Forgets documents, and says which facts went with them.
    pub fn forget(&mut self, gone: impl IntoIterator<Item = (Scope, NodeId)>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (scope, writer) in gone {
            let Some(doc) = self.docs.remove(&(scope, writer)) else { continue };
            let mut known = doc.known().clone();
            for (key, _) in doc.facts() {
                let outcome = known.set(key, None);
                if outcome != Outcome::Same {
                    changes.push(Change { scope, writer, key: key.clone(), outcome });
                }
            }
        }
        changes
    }

    /// Whether every document is.
    #[cfg(feature = "fuzzing")]
    pub fn is_consistent(&self, about: impl Fn(Scope, NodeId) -> P::About) -> bool {
        self.docs.iter().all(|((scope, writer), doc)| doc.is_consistent(&about(*scope, *writer)))
    }

    /// Publishes everything of this node afresh, in an incarnation that is above what others know of it.
    pub fn overtake(&mut self, incarnation: Incarnation, about: impl Fn(Scope) -> P::About) {
        self.incarnation = incarnation;
        self.counter = 0;
        let own: Vec<(Scope, Doc<P>)> = self
            .docs
            .iter()
            .filter(|((_, writer), _)| *writer == self.me)
            .map(|((scope, _), doc)| (*scope, doc.clone()))
            .collect();
        for (scope, old) in own {
            let about = about(scope);
            self.docs.insert((scope, self.me), Doc::begin(self.incarnation, self.counter, &about));
            for (key, value) in old.facts() {
                self.write(scope, &about, key.clone(), Some(value.clone()));
            }
        }
    }

    fn write(
        &mut self,
        scope: Scope,
        about: &P::About,
        key: FactKey,
        value: Option<Bytes>,
    ) -> (Delta, Change) {
        self.counter += 1;
        let (me, incarnation, counter) = (self.me, self.incarnation, self.counter);
        let doc = self.docs.entry((scope, me)).or_insert_with(|| Doc::begin(incarnation, counter - 1, about));
        // To an empty document nothing precedes this change, so it may be taken as the whole of it.
        let base = if doc.is_empty() { 0 } else { doc.place().1 };
        let outcome = doc.write(counter, key.clone(), value.clone());
        let entries = vec![Entry { key: key.clone(), version: counter, value }];
        let delta = Delta { writer: me, scope, incarnation, base, version: counter, entries };
        (delta, Change { scope, writer: me, key, outcome })
    }

    fn scope(&self, scope: Scope) -> impl Iterator<Item = (NodeId, &Doc<P>)> {
        self.docs.range(writers(scope)).map(|((_, writer), doc)| (*writer, doc))
    }
}

/// The documents of a scope.
fn writers(scope: Scope) -> std::ops::RangeInclusive<(Scope, NodeId)> {
    (scope, NodeId::from_bytes([0; 16]))..=(scope, NodeId::from_bytes([0xff; 16]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::kinds::{self, About, EndpointKind, Facts, NodeKind};
    use crate::cluster::testing::{self, endpoint};
    use crate::model::{Endpoint, EndpointName, NetworkId};

    const NET: NetworkId = NetworkId::from_bytes([1; 8]);

    const IN_NET: Scope = Scope::Network(NET);

    fn about(scope: Scope, writer: NodeId) -> About {
        let network = (scope == IN_NET).then(|| testing::network("net", 1, 1).into());
        About { writer, scope, network }
    }

    fn store(node: u8, incarnation: Incarnation, names: &[&str]) -> Facts {
        let mut store = Facts::new(incarnation, NodeId::from_bytes([node; 16]));
        let mut fact = testing::node_fact(node);
        fact.networks.insert(NET);
        let me = store.me;
        store.put(
            Scope::Node,
            &about(Scope::Node, me),
            kinds::key::<NodeKind>(&()),
            Some(kinds::value::<NodeKind>(&fact)),
        );
        store.begin(IN_NET, &about(IN_NET, me));
        for name in names {
            put(&mut store, &endpoint(name, 1));
        }
        store
    }

    fn put(store: &mut Facts, endpoint: &Endpoint) -> Option<Delta> {
        let about = about(IN_NET, store.me);
        let (key, value) =
            (kinds::key::<EndpointKind>(&endpoint.name), kinds::value::<EndpointKind>(endpoint));
        store.put(IN_NET, &about, key, Some(value)).map(|(delta, _)| delta)
    }

    fn remove(store: &mut Facts, name: &str) -> Option<Delta> {
        let about = about(IN_NET, store.me);
        let key = kinds::key::<EndpointKind>(&EndpointName::new(name).unwrap());
        store.put(IN_NET, &about, key, None).map(|(delta, _)| delta)
    }

    fn take(store: &mut Facts, delta: &Delta) -> Vec<Change> {
        store.apply(delta, &about(delta.scope, delta.writer)).1
    }

    fn names(store: &Facts) -> Vec<String> {
        let known = store.all_known(IN_NET);
        known
            .flat_map(|(_, known)| known.endpoints.keys().map(ToString::to_string).collect::<Vec<_>>())
            .collect()
    }

    fn exchange(a: &mut Facts, b: &mut Facts) {
        for scope in [Scope::Node, Scope::Network(NET)] {
            let (lacks, wants) = a.compare(scope, &b.lines(scope));
            for line in wants {
                let delta = b.since(scope, line).unwrap();
                assert!(delta.is_sound());
                assert_ne!(a.apply(&delta, &about(scope, delta.writer)).0, Applied::Gap);
            }
            for delta in lacks {
                assert_ne!(b.apply(&delta, &about(scope, delta.writer)).0, Applied::Gap);
            }
            assert_eq!(a.hash(scope), b.hash(scope));
        }
    }

    #[test]
    fn one_exchange_makes_two_nodes_equal_both_ways() {
        let (mut a, mut b) = (store(1, 1, &["a1", "a2"]), store(2, 1, &["b1"]));
        assert_ne!(a.hash(Scope::Node), b.hash(Scope::Node));
        exchange(&mut a, &mut b);
        for store in [&a, &b] {
            assert_eq!(names(store), ["a1", "a2", "b1"]);
        }
    }

    #[test]
    fn several_facts_travel_as_one_change_and_what_is_published_again_does_not() {
        let (mut a, mut b) = (store(1, 1, &["x"]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let at = |name: &str| kinds::key::<EndpointKind>(&EndpointName::new(name).unwrap());
        let value = |name: &str| Some(kinds::value::<EndpointKind>(&endpoint(name, 1)));
        let changes = || vec![(at("x"), None), (at("y"), value("y")), (at("z"), value("z"))];
        let about_me = about(IN_NET, a.me);
        let (delta, changed) = a.put_all(IN_NET, &about_me, changes()).unwrap();
        assert_eq!((delta.entries.len(), changed.len()), (3, 3));
        assert!(delta.is_sound());
        assert_eq!(take(&mut b, &delta).len(), 3);
        assert_eq!(names(&b), ["y", "z"]);
        assert!(a.put_all(IN_NET, &about_me, changes()).is_none());
        a.overtake(7, |scope| about(scope, NodeId::from_bytes([1; 16])));
        exchange(&mut a, &mut b);
        assert_eq!(names(&b), ["y", "z"]);
    }

    #[test]
    fn a_change_says_what_was_there_before() {
        let (mut a, mut b) = (store(1, 1, &[]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let flags = |changes: Vec<Change>| match &changes[..] {
            [Change { outcome: Outcome::Changed { had, has }, .. }] => (*had, *has),
            other => panic!("{other:?}"),
        };
        let delta = put(&mut a, &endpoint("x", 1)).unwrap();
        assert_eq!(flags(take(&mut b, &delta)), (false, true));
        assert_eq!(put(&mut a, &endpoint("x", 1)), None);
        let delta = put(&mut a, &endpoint("x", 2)).unwrap();
        assert_eq!(flags(take(&mut b, &delta)), (true, true));
        let delta = remove(&mut a, "x").unwrap();
        assert_eq!(flags(take(&mut b, &delta)), (true, false));
        assert_eq!(remove(&mut a, "x"), None);
    }

    #[test]
    fn what_goes_with_a_document_is_told() {
        let (mut a, mut b) = (store(1, 1, &["x", "y"]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let gone = b.forget([(IN_NET, NodeId::from_bytes([1; 16]))]);
        assert_eq!(gone.len(), 2, "{gone:?}");
        assert_eq!(names(&b), Vec::<String>::new());
        exchange(&mut a, &mut b);
        assert_eq!(names(&b), ["x", "y"]);
    }

    #[test]
    fn a_writer_whose_counter_was_lost_overtakes_what_others_know_of_it() {
        let (mut a, mut b) = (store(1, 9, &["x"]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let mut restored = store(1, 2, &["y"]);
        restored.overtake(10, |scope| about(scope, NodeId::from_bytes([1; 16])));
        exchange(&mut restored, &mut b);
        assert_eq!(names(&b), ["y"]);
    }
}
