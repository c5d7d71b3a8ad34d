//! Which of a network's endpoints are reached where, kept up to date by what changes: an endpoint that comes or goes
//! costs itself and those that claim what it claims, however many others there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::floating::Said;
use crate::model::{Contested, Endpoint, EndpointName, FloatingKey, Floatings, Mac, NodeId, ServiceName};
use crate::plan::{Action, DesiredNetwork};

/// What one node has in a network.
pub type Own = Arc<BTreeMap<EndpointName, Endpoint>>;

/// An endpoint, by its node and its name.
type Place = (NodeId, EndpointName);

/// How what a node has is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It is this node.
    Here,
    /// Behind this VTEP.
    At {
        /// Where frames for its endpoints go.
        vtep: IpAddr,
        /// Whether what is for everybody goes there too.
        flood: bool,
    },
    /// Not at all; what it claims it still claims.
    Nowhere,
}

/// Which endpoint of a network is where, and which of them hold what they claim.
#[derive(Debug, Default)]
pub struct Entries {
    nodes: BTreeMap<NodeId, (Own, Reach)>,
    names: BTreeMap<EndpointName, BTreeSet<NodeId>>,
    addresses: BTreeMap<IpAddr, BTreeSet<Place>>,
    macs: BTreeMap<Mac, BTreeSet<Place>>,
    slots: BTreeMap<(ServiceName, u32), BTreeSet<Place>>,
    /// Those against which nobody has a higher claim.
    winners: BTreeMap<NodeId, BTreeSet<EndpointName>>,
    /// What is said to be at them beside what they were given.
    said: Said,
    /// Whether an address that was given to one endpoint may be said to be at another.
    yields: bool,
    touched: Touched,
    /// What was touched of which node's endpoints when it was last settled.
    settled: BTreeSet<Place>,
}

/// What may be another since it was last settled.
#[derive(Debug, Default)]
struct Touched {
    places: BTreeSet<Place>,
    names: BTreeSet<EndpointName>,
    claimed: BTreeSet<IpAddr>,
    slots: BTreeSet<(ServiceName, u32)>,
    addresses: BTreeSet<IpAddr>,
    macs: BTreeSet<Mac>,
    /// The addresses of which something else was said.
    said: BTreeSet<IpAddr>,
    nodes: bool,
}

impl Touched {
    fn entries_of(&mut self, endpoint: &Endpoint) {
        self.addresses.extend(endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip));
        self.macs.insert(endpoint.mac);
    }

    fn say(&mut self, keys: impl IntoIterator<Item = FloatingKey>) {
        for key in keys {
            match key {
                FloatingKey::Address(address) => {
                    self.addresses.insert(address);
                    self.said.insert(address);
                }
                FloatingKey::Mac(mac) => drop(self.macs.insert(mac)),
            }
        }
    }

    fn claims_of(&mut self, node: NodeId, endpoint: &Endpoint) {
        self.places.insert((node, endpoint.name.clone()));
        self.names.insert(endpoint.name.clone());
        self.claimed.extend(endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip));
        self.slots.extend(slot(endpoint));
        self.entries_of(endpoint);
    }
}

impl Entries {
    /// The nodes whose endpoints are known.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.keys().copied()
    }

    /// Whether this is what a node was last said to have.
    pub fn has(&self, node: NodeId, own: &Own, reach: Reach) -> bool {
        self.nodes.get(&node).is_some_and(|(its, known)| Arc::ptr_eq(its, own) && *known == reach)
    }

    /// A node has these endpoints, and no others.
    pub fn set(&mut self, node: NodeId, own: Own, reach: Reach) {
        let before = self.nodes.insert(node, (Arc::clone(&own), reach));
        let (had, before) = before.map_or((None, None), |(had, reach)| (Some(had), Some(reach)));
        let none = BTreeMap::new();
        let had = had.as_deref().unwrap_or(&none);
        if before != Some(reach) {
            self.touched.nodes = true;
            had.values().for_each(|endpoint| self.touched.entries_of(endpoint));
            self.touched.say(self.said.of(node).copied());
        }
        for endpoint in had.values().filter(|was| own.get(&was.name) != Some(was)) {
            self.forget(node, endpoint);
        }
        for endpoint in own.values().filter(|is| had.get(&is.name) != Some(is)) {
            self.note(node, endpoint);
        }
    }

    /// An endpoint of this node is there, or is another.
    pub fn put(&mut self, me: NodeId, endpoint: Endpoint) {
        self.take(me, &endpoint.name);
        self.note(me, &endpoint);
        let (own, _) = self.nodes.entry(me).or_insert_with(|| (Own::default(), Reach::Here));
        Arc::make_mut(own).insert(endpoint.name.clone(), endpoint);
    }

    /// An endpoint of this node is there no more.
    pub fn take(&mut self, me: NodeId, name: &EndpointName) {
        let own = self.nodes.get_mut(&me).map(|(own, _)| Arc::make_mut(own));
        if let Some(endpoint) = own.and_then(|own| own.remove(name)) {
            self.forget(me, &endpoint);
        }
    }

    /// A node says this of what is at its endpoints, and nothing else.
    pub fn say(&mut self, node: NodeId, said: &Arc<Floatings>) {
        self.touched.say(self.said.set(node, said));
    }

    /// The nodes that say something of that.
    pub fn saying(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.said.nodes()
    }

    /// A node says nothing of that any more.
    pub fn hush(&mut self, node: NodeId) {
        self.touched.say(self.said.remove(node));
    }

    /// Whether an address that was given to one endpoint may be said to be at another.
    pub fn set_yields(&mut self, yields: bool) {
        if std::mem::replace(&mut self.yields, yields) != yields {
            self.touched.say(self.said.keys().copied());
        }
    }

    /// A node has nothing, and claims nothing.
    pub fn remove(&mut self, node: NodeId) {
        if let Some((had, _)) = self.nodes.remove(&node) {
            self.touched.nodes = true;
            had.values().for_each(|endpoint| self.forget(node, endpoint));
            self.touched.say(self.said.of(node).copied());
        }
    }

    fn note(&mut self, node: NodeId, endpoint: &Endpoint) {
        let place = || (node, endpoint.name.clone());
        self.names.entry(endpoint.name.clone()).or_default().insert(node);
        for address in &endpoint.addresses {
            self.addresses.entry(address.ip()).or_default().insert(place());
        }
        self.macs.entry(endpoint.mac).or_default().insert(place());
        if let Some(slot) = slot(endpoint) {
            self.slots.entry(slot).or_default().insert(place());
        }
        self.touched.claims_of(node, endpoint);
    }

    fn forget(&mut self, node: NodeId, endpoint: &Endpoint) {
        let place = (node, endpoint.name.clone());
        take(&mut self.names, &endpoint.name, &node);
        for address in &endpoint.addresses {
            take(&mut self.addresses, &address.ip(), &place);
        }
        take(&mut self.macs, &endpoint.mac, &place);
        if let Some(slot) = slot(endpoint) {
            take(&mut self.slots, &slot, &place);
        }
        self.touched.claims_of(node, endpoint);
    }

    fn endpoint(&self, (node, name): &Place) -> Option<&Endpoint> {
        self.nodes.get(node)?.0.get(name)
    }

    /// Who has the highest claim above an endpoint's own on its name, its slot or any of its addresses: of two the one
    /// with the higher version wins, between equal ones that of the node with the higher id. Of a slot only a claim counts
    /// that was made to take it over.
    fn rival(&self, node: NodeId, endpoint: &Endpoint) -> Option<Place> {
        let named = self.names.get(&endpoint.name).into_iter().flatten();
        let named = named.map(|other| (*other, endpoint.name.clone()));
        let addressed = endpoint.addresses.iter().filter_map(|address| self.addresses.get(&address.ip()));
        let slotted = slot(endpoint).and_then(|slot| self.slots.get(&slot)).into_iter().flatten();
        let takes = |place: &&Place| self.endpoint(place).is_some_and(|other| other.took_ms.is_some());
        let others = named.chain(addressed.flatten().cloned()).chain(slotted.filter(takes).cloned());
        let claim = |place: Place| self.endpoint(&place).map(|other| ((other.claim, place.0), place));
        let highest = others.filter_map(claim).max_by_key(|(claim, _)| *claim)?;
        (highest.0 > (endpoint.claim, node)).then_some(highest.1)
    }

    /// Against whom an endpoint loses what it claims, and what of it; `None` where it holds it all.
    pub fn lost_to(&self, node: NodeId, name: &EndpointName) -> Option<(NodeId, &Endpoint, Contested)> {
        let endpoint = self.endpoint(&(node, name.clone()))?;
        let place = self.rival(node, endpoint)?;
        let other = self.endpoint(&place)?;
        Some((place.0, other, Contested::between(endpoint, other)?))
    }

    /// Whether an endpoint holds what it claims, as of the last [`Entries::settle`].
    pub fn holds(&self, node: &NodeId, name: &EndpointName) -> bool {
        self.winners.get(node).is_some_and(|winners| winners.contains(name))
    }

    /// The endpoints of a node of which the last [`Entries::settle`] may have made another thing, there or not.
    pub fn settled(&self, node: NodeId) -> impl Iterator<Item = &EndpointName> {
        self.settled.iter().filter(move |(its, _)| *its == node).map(|(_, name)| name)
    }

    /// Brings the entries of `desired` up to date; the operations that do the same in the kernel.
    pub fn settle(&mut self, desired: &mut DesiredNetwork) -> Vec<Action> {
        let mut touched = std::mem::take(&mut self.touched);
        let named = touched.names.iter().filter_map(|name| Some((name, self.names.get(name)?)));
        let named = named.flat_map(|(name, nodes)| nodes.iter().map(move |node| (*node, name.clone())));
        let addressed = touched.claimed.iter().filter_map(|address| self.addresses.get(address)).flatten();
        let slotted = touched.slots.iter().filter_map(|slot| self.slots.get(slot)).flatten();
        let mut places: BTreeSet<Place> = named.chain(addressed.cloned()).chain(slotted.cloned()).collect();
        places.append(&mut touched.places);
        for place in &places {
            let (node, name) = place;
            let endpoint = self.nodes.get(node).and_then(|(own, _)| own.get(name));
            let wins = endpoint.is_some_and(|endpoint| self.rival(*node, endpoint).is_none());
            if let Some(endpoint) = endpoint.filter(|_| wins != self.holds(node, name)) {
                touched.entries_of(endpoint);
            }
            if wins {
                touched.nodes |= self.winners.entry(*node).or_default().insert(name.clone());
            } else {
                touched.nodes |= take(&mut self.winners, node, name);
            }
        }
        self.settled = places;
        let (mut put, mut deleted, mut announced) = (Vec::new(), Vec::new(), Vec::new());
        for address in touched.addresses {
            match self.owner(&address) {
                Some((reach, mac)) if desired.neighbours.insert(address, mac) != Some(mac) => {
                    put.push(Action::PutNeighbour { address, mac });
                    // What is on this node says so itself; what was given is not new to anybody.
                    if reach != Reach::Here && touched.said.contains(&address) {
                        announced.push(Action::Announce { address, mac });
                    }
                }
                None if desired.neighbours.remove(&address).is_some() => {
                    deleted.push(Action::DeleteNeighbour(address));
                }
                _ => {}
            }
        }
        for mac in touched.macs {
            match self.node_of(&mac) {
                Some(vtep) if desired.remotes.insert(mac, vtep) != Some(vtep) => {
                    put.push(Action::PutRemote { mac, vtep });
                }
                None if desired.remotes.remove(&mac).is_some() => deleted.push(Action::DeleteRemote(mac)),
                _ => {}
            }
        }
        if touched.nodes {
            let flood = self.flood();
            put.extend(flood.difference(&desired.flood).copied().map(Action::AddFlood));
            // Before the entries: nothing more is sent there that nobody wants.
            deleted.splice(0..0, desired.flood.difference(&flood).copied().map(Action::DeleteFlood));
            desired.flood = flood;
        }
        put.append(&mut deleted);
        // When everything leads there.
        put.append(&mut announced);
        put
    }

    /// Those of `places` that hold what they claim, the last first: of several in one place the last counts.
    fn holders<'a>(
        &'a self,
        places: Option<&'a BTreeSet<Place>>,
    ) -> impl Iterator<Item = (Reach, &'a Endpoint)> {
        let places = places.into_iter().flatten().rev();
        places.filter(|(node, name)| self.holds(node, name)).filter_map(|(node, name)| {
            let (own, reach) = self.nodes.get(node)?;
            Some((*reach, own.get(name)?))
        })
    }

    /// Whose an address is, as a MAC, and where. This node's own endpoints come first.
    fn owner(&self, address: &IpAddr) -> Option<(Reach, Mac)> {
        let places = self.addresses.get(address);
        let here = self.holders(places).find(|(reach, _)| *reach == Reach::Here);
        let found = here.or_else(|| self.holders(places).find(|(reach, _)| *reach != Reach::Nowhere));
        let given = found.map(|(reach, endpoint)| (reach, endpoint.mac));
        let said = self.right(&FloatingKey::Address(*address)).filter(|_| given.is_none() || self.yields);
        said.or(given)
    }

    /// What is said of where something is, by whoever is right of those that are reached.
    fn right(&self, key: &FloatingKey) -> Option<(Reach, Mac)> {
        let reach = |node: NodeId| self.nodes.get(&node).map_or(Reach::Nowhere, |(_, reach)| *reach);
        let (node, floating) = self.said.right(key, |node| reach(node) != Reach::Nowhere)?;
        Some((reach(node), floating.mac))
    }

    /// Behind which VTEP a MAC is. One that was given to an endpoint is nowhere else.
    fn node_of(&self, mac: &Mac) -> Option<IpAddr> {
        let vtep = |reach: Reach| match reach {
            Reach::At { vtep, .. } => Some(vtep),
            Reach::Here | Reach::Nowhere => None,
        };
        let mut given = self.holders(self.macs.get(mac)).map(|(reach, _)| reach).peekable();
        match given.peek() {
            Some(_) => given.find_map(vtep),
            None => self.right(&FloatingKey::Mac(*mac)).and_then(|(reach, _)| vtep(reach)),
        }
    }

    fn flood(&self) -> BTreeSet<IpAddr> {
        let has_some = |node: &NodeId| self.winners.contains_key(node);
        let nodes = self.nodes.iter().filter(|(node, _)| has_some(node));
        nodes
            .filter_map(|(_, (_, reach))| match reach {
                Reach::At { vtep, flood: true } => Some(*vtep),
                _ => None,
            })
            .collect()
    }
}

/// Its number in its service.
fn slot(endpoint: &Endpoint) -> Option<(ServiceName, u32)> {
    endpoint.place().map(|(service, slot)| (service.clone(), slot))
}

/// Takes one out of a set in a map of sets that are never empty; whether it was there.
fn take<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) -> bool {
    let Some(set) = map.get_mut(key) else { return false };
    let there = set.remove(value);
    if set.is_empty() {
        map.remove(key);
    }
    there
}
