//! All documents that this node has: its own, and its copies of those of others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lanmesh_ipam::stable_hash;

use super::{Applied, Delta, Doc, Entry, Fact, FactKey, Incarnation, Line, NodeFact, Scope, Version};
use crate::model::{Endpoint, EndpointName, Group, NetworkId, NodeId, ZeroconfFact, ZeroconfKey};

/// A fact that is new, different or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) enum Change {
    /// What a node says of itself.
    Node(NodeId),
    /// The groups that are joined on a node.
    Groups,
    /// What mDNS brought to light on a node.
    Zeroconf,
    /// An endpoint.
    Endpoint {
        /// Its network.
        network: NetworkId,
        /// The node that has, or had, it.
        node: NodeId,
        /// Its name.
        name: EndpointName,
        /// Whether it was there before.
        had: bool,
        /// Whether it is there now.
        has: bool,
    },
}

/// All documents that this node has.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct FactStore {
    me: NodeId,
    incarnation: Incarnation,
    counter: Version,
    docs: BTreeMap<(Scope, NodeId), Doc>,
}

impl FactStore {
    /// The documents of a node that starts: what it says of itself, and the endpoints it has.
    pub fn new(
        incarnation: Incarnation,
        me: NodeId,
        fact: NodeFact,
        initial: BTreeMap<NetworkId, Vec<Endpoint>>,
    ) -> Self {
        let mut store = Self { me, incarnation, counter: 0, docs: BTreeMap::new() };
        store.set_node(fact);
        for (network, endpoints) in initial {
            store.begin_network(network);
            for endpoint in endpoints {
                store.put(network, endpoint);
            }
        }
        store
    }

    /// Which start of the agent this is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What a node says of itself.
    pub fn node(&self, node: NodeId) -> Option<&NodeFact> {
        match self.docs.get(&(Scope::Node, node))?.get(&FactKey::Node)? {
            Fact::Node(fact) => Some(fact),
            Fact::Endpoint(_) | Fact::Joined | Fact::Zeroconf(_) => None,
        }
    }

    /// What this node says of itself from now on. `None` where it says so already.
    pub fn set_node(&mut self, fact: NodeFact) -> Option<Delta> {
        if self.node(self.me) == Some(&fact) {
            return None;
        }
        Some(self.write(Scope::Node, FactKey::Node, Some(Fact::Node(fact))))
    }

    /// Begins this node's document in a network, where it has none.
    pub fn begin_network(&mut self, network: NetworkId) {
        let (incarnation, counter) = (self.incarnation, self.counter);
        self.docs
            .entry((Scope::Network(network), self.me))
            .or_insert_with(|| Doc::begin(incarnation, counter));
    }

    /// Publishes an endpoint. `None` where it is published like that already.
    pub fn put(&mut self, network: NetworkId, endpoint: Endpoint) -> Option<Delta> {
        if self.own(network).and_then(|own| own.get(&endpoint.name)) == Some(&endpoint) {
            return None;
        }
        let key = FactKey::Endpoint(endpoint.name.clone());
        Some(self.write(Scope::Network(network), key, Some(Fact::Endpoint(endpoint))))
    }

    /// Takes an endpoint back. `None` where there is none.
    pub fn remove(&mut self, network: NetworkId, name: EndpointName) -> Option<Delta> {
        self.own(network)?.get(&name)?;
        Some(self.write(Scope::Network(network), FactKey::Endpoint(name), None))
    }

    /// Publishes which groups are joined on this node. `None` where that is published already.
    pub fn set_groups(&mut self, network: NetworkId, groups: &BTreeSet<Group>) -> Option<Delta> {
        let scope = Scope::Network(network);
        let known = self.docs.get(&(scope, self.me)).map(|doc| Arc::clone(doc.groups())).unwrap_or_default();
        let left = known.difference(groups).map(|group| (*group, None));
        let joined = groups.difference(&known).map(|group| (*group, Some(Fact::Joined)));
        self.write_all(
            scope,
            left.chain(joined).map(|(group, value)| (FactKey::Group(group), value)).collect(),
        )
    }

    /// Publishes what mDNS brought to light on this node. `None` where that is published already.
    pub fn set_zeroconf(
        &mut self,
        network: NetworkId,
        facts: BTreeMap<ZeroconfKey, ZeroconfFact>,
    ) -> Option<Delta> {
        let scope = Scope::Network(network);
        let known =
            self.docs.get(&(scope, self.me)).map(|doc| Arc::clone(doc.zeroconf())).unwrap_or_default();
        let gone = known.keys().filter(|key| !facts.contains_key(key));
        let gone: Vec<_> = gone.map(|key| (FactKey::Zeroconf(key.clone()), None)).collect();
        let new = facts.into_iter().filter(|(key, fact)| known.get(key) != Some(fact));
        let new = new.map(|(key, fact)| (FactKey::Zeroconf(key), Some(Fact::Zeroconf(fact))));
        self.write_all(scope, gone.into_iter().chain(new).collect())
    }

    /// As many changes, and one message.
    fn write_all(&mut self, scope: Scope, changes: Vec<(FactKey, Option<Fact>)>) -> Option<Delta> {
        changes.into_iter().map(|(key, value)| self.write(scope, key, value)).reduce(|mut all, next| {
            all.version = next.version;
            all.entries.extend(next.entries);
            all
        })
    }

    /// What mDNS brought to light on every node in a network, as far as it is known here.
    pub fn zeroconf(
        &self,
        network: NetworkId,
    ) -> impl Iterator<Item = (NodeId, &Arc<BTreeMap<ZeroconfKey, ZeroconfFact>>)> {
        self.scope(Scope::Network(network)).map(|(writer, doc)| (writer, doc.zeroconf()))
    }

    /// The groups joined on every node in a network, as far as they are known here.
    pub fn groups(&self, network: NetworkId) -> impl Iterator<Item = (NodeId, &Arc<BTreeSet<Group>>)> {
        self.scope(Scope::Network(network)).map(|(writer, doc)| (writer, doc.groups()))
    }

    /// This node's endpoints in a network.
    pub fn own(&self, network: NetworkId) -> Option<&Arc<BTreeMap<EndpointName, Endpoint>>> {
        self.docs.get(&(Scope::Network(network), self.me)).map(Doc::endpoints)
    }

    /// What this node's endpoints in a network take when they are encoded.
    pub fn own_bytes(&self, network: NetworkId) -> usize {
        self.docs.get(&(Scope::Network(network), self.me)).map_or(0, Doc::bytes)
    }

    /// The endpoints of every node in a network, as far as they are known here.
    pub fn endpoints(
        &self,
        network: NetworkId,
    ) -> impl Iterator<Item = (NodeId, &Arc<BTreeMap<EndpointName, Endpoint>>)> {
        self.scope(Scope::Network(network)).map(|(writer, doc)| (writer, doc.endpoints()))
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
                (doc.place() > (incarnation, version) && doc.place().1 > 0)
                    .then(|| doc.since(writer, scope, incarnation, version))
            })
            .collect();
        let wants = theirs
            .into_iter()
            .filter_map(|(writer, place)| {
                let doc = self.docs.get(&(scope, writer));
                let (incarnation, version) = doc.map_or((0, 0), Doc::place);
                (place > (incarnation, version)).then_some(Line { writer, incarnation, version })
            })
            .collect();
        (lacks, wants)
    }

    /// What brings one document from a place to where it is here.
    pub fn since(&self, scope: Scope, line: Line) -> Option<Delta> {
        let doc = self.docs.get(&(scope, line.writer))?;
        (doc.place() > (line.incarnation, line.version))
            .then(|| doc.since(line.writer, scope, line.incarnation, line.version))
    }

    /// Takes what is new in a sound delta. The caller has seen to it that its document is wanted here.
    pub fn apply(&mut self, delta: &Delta) -> (Applied, Vec<Change>) {
        let at = (delta.scope, delta.writer);
        let mut doc = self.docs.remove(&at).unwrap_or_else(Doc::unknown);
        let applied = doc.apply(delta);
        let changes = match &applied {
            Applied::Changed(keys) => {
                keys.iter().filter_map(|(key, had)| change(at, key, *had, doc.get(key).is_some())).collect()
            }
            Applied::Known | Applied::Gap => Vec::new(),
        };
        if doc != Doc::unknown() {
            self.docs.insert(at, doc);
        }
        (applied, changes)
    }

    /// Whether what `writer` says of itself came after its document in `network`, and does not name the
    /// network: then the document is not wanted any more.
    pub fn gave_up(&self, writer: NodeId, network: NetworkId, place: (Incarnation, Version)) -> bool {
        let Some(doc) = self.docs.get(&(Scope::Node, writer)) else { return false };
        doc.place() > place && self.node(writer).is_some_and(|fact| !fact.networks.contains(&network))
    }

    /// Forgets the documents that are not wanted, and says which endpoints went with them.
    pub fn purge(&mut self, keep: impl Fn(Scope, NodeId) -> bool) -> Vec<Change> {
        let drop: BTreeSet<(Scope, NodeId)> = self
            .docs
            .iter()
            .filter(|((scope, writer), doc)| {
                let gone = match scope {
                    Scope::Network(network) => self.gave_up(*writer, *network, doc.place()),
                    Scope::Node => false,
                };
                gone || !keep(*scope, *writer)
            })
            .map(|(at, _)| *at)
            .collect();
        let mut changes = Vec::new();
        for at in drop {
            let Some(doc) = self.docs.remove(&at) else { continue };
            if !doc.groups().is_empty() {
                changes.push(Change::Groups);
            }
            if !doc.zeroconf().is_empty() {
                changes.push(Change::Zeroconf);
            }
            let names = doc.endpoints().keys().cloned();
            changes.extend(names.filter_map(|name| change(at, &FactKey::Endpoint(name), true, false)));
            if at.0 == Scope::Node {
                changes.push(Change::Node(at.1));
            }
        }
        changes
    }

    /// Whether every document is.
    #[cfg(feature = "fuzzing")]
    pub fn is_consistent(&self) -> bool {
        self.docs.values().all(Doc::is_consistent)
    }

    /// Publishes everything of this node afresh, above an incarnation that others know of it.
    pub fn overtake(&mut self, seen: Incarnation) {
        self.incarnation = seen.saturating_add(1);
        self.counter = 0;
        let own: Vec<(Scope, Doc)> = self
            .docs
            .iter()
            .filter(|((_, writer), _)| *writer == self.me)
            .map(|((scope, _), doc)| (*scope, doc.clone()))
            .collect();
        for (scope, old) in own {
            self.docs.insert((scope, self.me), Doc::begin(self.incarnation, self.counter));
            if let Some(fact) = old.get(&FactKey::Node) {
                self.write(scope, FactKey::Node, Some(fact.clone()));
            }
            for (name, endpoint) in old.endpoints().iter() {
                let key = FactKey::Endpoint(name.clone());
                self.write(scope, key, Some(Fact::Endpoint(endpoint.clone())));
            }
            for group in old.groups().iter() {
                self.write(scope, FactKey::Group(*group), Some(Fact::Joined));
            }
            for (key, fact) in old.zeroconf().iter() {
                self.write(scope, FactKey::Zeroconf(key.clone()), Some(Fact::Zeroconf(fact.clone())));
            }
        }
    }

    fn write(&mut self, scope: Scope, key: FactKey, value: Option<Fact>) -> Delta {
        self.counter += 1;
        let (me, incarnation, counter) = (self.me, self.incarnation, self.counter);
        let doc = self.docs.entry((scope, me)).or_insert_with(|| Doc::begin(incarnation, counter - 1));
        // To an empty document nothing precedes this change, so it may be taken as the whole of it.
        let before = if doc.is_empty() { 0 } else { doc.place().1 };
        doc.write(counter, key.clone(), value.clone());
        let entries = vec![Entry { key, version: counter, value }];
        Delta { writer: me, scope, incarnation, base: before, version: counter, entries }
    }

    fn scope(&self, scope: Scope) -> impl Iterator<Item = (NodeId, &Doc)> {
        let range = (scope, NodeId::from_bytes([0; 16]))..=(scope, NodeId::from_bytes([0xff; 16]));
        self.docs.range(range).map(|((_, writer), doc)| (*writer, doc))
    }
}

fn change(at: (Scope, NodeId), key: &FactKey, had: bool, has: bool) -> Option<Change> {
    match (at.0, key) {
        (Scope::Node, FactKey::Node) => Some(Change::Node(at.1)),
        (Scope::Network(network), FactKey::Endpoint(name)) => {
            Some(Change::Endpoint { network, node: at.1, name: name.clone(), had, has })
        }
        (Scope::Network(_), FactKey::Group(_)) => Some(Change::Groups),
        (Scope::Network(_), FactKey::Zeroconf(_)) => Some(Change::Zeroconf),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{self, endpoint};
    use crate::model::{Found, SeenHost};

    const NET: NetworkId = NetworkId::from_bytes([1; 8]);

    fn store(node: u8, incarnation: Incarnation, names: &[&str]) -> FactStore {
        let mut fact = testing::node_fact(node);
        fact.networks.insert(NET);
        let endpoints = names.iter().map(|name| endpoint(name, 1)).collect();
        FactStore::new(incarnation, NodeId::from_bytes([node; 16]), fact, [(NET, endpoints)].into())
    }

    fn exchange(a: &mut FactStore, b: &mut FactStore) {
        for scope in [Scope::Node, Scope::Network(NET)] {
            let (lacks, wants) = a.compare(scope, &b.lines(scope));
            for line in wants {
                let delta = b.since(scope, line).unwrap();
                assert!(delta.is_sound());
                assert_ne!(a.apply(&delta).0, Applied::Gap);
            }
            for delta in lacks {
                assert_ne!(b.apply(&delta).0, Applied::Gap);
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
            assert_eq!(store.endpoints(NET).map(|(_, e)| e.len()).collect::<Vec<_>>(), [2, 1]);
        }
    }

    #[test]
    fn what_mdns_brought_to_light_travels_as_one_change_and_goes_with_its_writer() {
        let host = |name: &str| {
            let found = Found::Host(SeenHost { name: name.into(), addresses: [[10, 0, 0, 1].into()].into() });
            let endpoint = EndpointName::new("e").unwrap();
            (found.key(), ZeroconfFact { endpoint, declared: false, found })
        };
        let (mut a, mut b) = (store(1, 1, &[]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let delta = a.set_zeroconf(NET, [host("h1"), host("h2")].into()).unwrap();
        assert!(delta.is_sound());
        assert_eq!(b.apply(&delta).1, [Change::Zeroconf, Change::Zeroconf]);
        assert_eq!(a.set_zeroconf(NET, [host("h1"), host("h2")].into()), None);
        let delta = a.set_zeroconf(NET, [host("h2"), host("h3")].into()).unwrap();
        assert_eq!(delta.entries.len(), 2, "one that went and one that came");
        b.apply(&delta);
        let known = |store: &FactStore| {
            store.zeroconf(NET).flat_map(|(_, facts)| facts.keys().cloned()).collect::<Vec<_>>()
        };
        assert_eq!(known(&b), [host("h2").0, host("h3").0]);
        a.overtake(7);
        exchange(&mut a, &mut b);
        assert_eq!(known(&b), [host("h2").0, host("h3").0]);
        let mut wrong = a.set_zeroconf(NET, [host("h4")].into()).unwrap();
        wrong.entries[0].key = FactKey::Zeroconf(host("h5").0);
        wrong.entries[0].value = Some(Fact::Zeroconf(host("h4").1));
        assert!(!wrong.is_sound(), "a fact under another's key");
        let away = a.set_node(testing::node_fact(1)).unwrap();
        b.apply(&away);
        assert!(b.purge(|_, _| true).contains(&Change::Zeroconf));
        assert_eq!(known(&b), []);
    }

    #[test]
    fn a_change_says_what_was_there_before() {
        let (mut a, mut b) = (store(1, 1, &[]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let flags = |changes: Vec<Change>| match &changes[..] {
            [Change::Endpoint { had, has, .. }] => (*had, *has),
            other => panic!("{other:?}"),
        };
        let delta = a.put(NET, endpoint("x", 1)).unwrap();
        assert_eq!(flags(b.apply(&delta).1), (false, true));
        assert_eq!(a.put(NET, endpoint("x", 1)), None);
        let delta = a.put(NET, endpoint("x", 2)).unwrap();
        assert_eq!(flags(b.apply(&delta).1), (true, true));
        let delta = a.remove(NET, endpoint("x", 2).name).unwrap();
        assert_eq!(flags(b.apply(&delta).1), (true, false));
        assert_eq!(a.remove(NET, endpoint("x", 2).name), None);
    }

    #[test]
    fn a_network_that_was_left_and_taken_up_again_never_shows_what_it_had_before() {
        let (mut a, mut b) = (store(1, 1, &["old"]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let mut away = testing::node_fact(1);
        a.set_node(away.clone());
        a.purge(|_, _| true);
        assert!(a.own(NET).is_none());
        away.networks.insert(NET);
        a.set_node(away);
        a.begin_network(NET);
        a.put(NET, endpoint("new", 1));
        exchange(&mut a, &mut b);
        let names: Vec<_> = b.endpoints(NET).flat_map(|(_, e)| e.keys().map(ToString::to_string)).collect();
        assert_eq!(names, ["new"]);
    }

    #[test]
    fn the_endpoints_of_a_node_that_gave_a_network_up_go_with_its_word() {
        let (mut a, mut b) = (store(1, 1, &["x"]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let delta = a.set_node(testing::node_fact(1)).unwrap();
        b.apply(&delta);
        let changes = b.purge(|_, _| true);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(b.endpoints(NET).count(), 1, "only its own document is left");
    }

    #[test]
    fn a_writer_whose_counter_was_lost_overtakes_what_others_know_of_it() {
        let (mut a, mut b) = (store(1, 9, &["x"]), store(2, 1, &[]));
        exchange(&mut a, &mut b);
        let mut restored = store(1, 2, &["y"]);
        restored.overtake(9);
        exchange(&mut restored, &mut b);
        let names: Vec<_> = b.endpoints(NET).flat_map(|(_, e)| e.keys().map(ToString::to_string)).collect();
        assert_eq!(names, ["y"]);
    }
}
