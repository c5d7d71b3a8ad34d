//! What this node's own agent asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Core, FAN_OUT, Output, Persist};
use crate::cluster::facts::{FactKey, Project, Scope};
use crate::cluster::gossip_key::GossipKey;
use crate::cluster::kinds::{
    self, About, AlsoKind, DrainKind, EndpointKind, FactKind, FloatingKind, GroupKind, Known, NodeFact,
    NodeKind, PortsKind, SeenKind, carried,
};
use crate::cluster::ledger::{Admission, Claim};
use crate::cluster::pki::Shown;
use crate::cluster::{ClusterError, Refusal};
use crate::model::{
    Also, Endpoint, EndpointKey, EndpointName, Floatings, Group, MeshKey, MeshPorts, NetworkId, NetworkSpec,
    NodeId, NodeIndex, NodeName, ZeroconfFact, ZeroconfKey,
};

impl Core {
    /// Publishes where this node's VXLAN packets come from and how large they may be.
    pub fn set_self(&mut self, vtep: IpAddr, underlay_mtu: u32, now: Duration) -> Result<(), ClusterError> {
        self.say(|fact| (fact.vtep, fact.underlay_mtu) = (vtep, carried(underlay_mtu)), now)
    }

    /// Publishes that this node is at another address, where its VXLAN packets come from too.
    pub fn move_to(
        &mut self,
        address: SocketAddr,
        underlay_mtu: u32,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let said = |fact: &mut NodeFact| {
            (fact.address, fact.vtep, fact.underlay_mtu) = (address, address.ip(), carried(underlay_mtu));
        };
        self.say(said, now)?;
        self.membership.move_to(address, now);
        // Who missed that, or what was said before it, would ask for it at the old address.
        self.compare_with_some(now);
        self.follow_membership(now);
        self.refresh_states(now);
        Ok(())
    }

    /// Begins to follow a network.
    pub fn take_part(&mut self, network: NetworkId, now: Duration) -> Result<(), ClusterError> {
        if self.ledger.network(network).is_none() {
            return Err(ClusterError::NoSuchNetwork(network));
        }
        if self.own().is_some_and(|own| own.networks.contains(&network)) {
            return Ok(());
        }
        self.say(|fact| fact.networks.extend([network]), now)?;
        let scope = Scope::Network(network);
        self.facts.begin(scope, &self.about(scope, self.me));
        for (node, _) in self.holders(network).into_iter().take(FAN_OUT) {
            self.request_sync(node, Duration::ZERO, now);
        }
        Ok(())
    }

    /// Takes everything in a network back and stops following it.
    pub fn give_up(&mut self, network: NetworkId, now: Duration) {
        if self.own().is_some_and(|own| own.networks.contains(&network)) {
            let ports = self.facts.known(Scope::Node, self.me).map(|known| Arc::clone(&known.ports));
            let ports = ports.unwrap_or_default();
            let gone = ports.keys().filter(|key| key.network == network);
            let gone = gone.map(|key| (kinds::key::<PortsKind>(key), None)).collect();
            self.say_all(Scope::Node, gone, now);
            // Sound as what it said before: with less in it.
            let _ = self.say(|fact| fact.networks.retain(|other| *other != network), now);
            self.purge();
        }
    }

    /// Publishes an endpoint.
    ///
    /// # Errors
    /// The others would not believe it, or there is no room for it. Nothing was changed.
    pub fn put_endpoint(
        &mut self,
        network: NetworkId,
        endpoint: &Endpoint,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let scope = Scope::Network(network);
        if self.ledger.network(network).is_none() {
            return Err(ClusterError::NoSuchNetwork(network));
        }
        self.check::<EndpointKind>(scope, &endpoint.name, endpoint)?;
        self.take_part(network, now)?;
        self.say_that::<EndpointKind>(scope, &endpoint.name, Some(endpoint), now);
        Ok(())
    }

    /// Takes an endpoint back; `false` where there was none.
    pub fn remove_endpoint(&mut self, network: NetworkId, name: &EndpointName, now: Duration) -> bool {
        let scope = Scope::Network(network);
        let there = self.has_endpoint(scope, name);
        // First what leads there.
        self.say_that::<PortsKind>(Scope::Node, &EndpointKey { network, name: name.clone() }, None, now);
        // As one change: one that drains must not be seen for a moment as one that does not.
        let gone = vec![
            (kinds::key::<EndpointKind>(name), None),
            (kinds::key::<DrainKind>(name), None),
            (kinds::key::<AlsoKind>(name), None),
        ];
        self.say_all(scope, gone, now);
        there
    }

    /// Publishes whether an endpoint of this node takes no new connections of its service. Of no effect where there is none
    /// of that name.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn set_draining(
        &mut self,
        network: NetworkId,
        name: &EndpointName,
        draining: bool,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let scope = Scope::Network(network);
        if draining && self.has_endpoint(scope, name) {
            self.check::<DrainKind>(scope, name, &())?;
            self.say_that::<DrainKind>(scope, name, Some(&()), now);
        } else if !draining {
            self.say_that::<DrainKind>(scope, name, None, now);
        }
        Ok(())
    }

    /// Publishes which ports of every node lead to an endpoint of this one. Of no effect where there is none of that name.
    ///
    /// # Errors
    /// They cannot be published, or there is no room for it.
    pub fn set_mesh_ports(
        &mut self,
        key: &EndpointKey,
        ports: &MeshPorts,
        now: Duration,
    ) -> Result<(), ClusterError> {
        if self.has_endpoint(Scope::Network(key.network), &key.name) {
            self.check::<PortsKind>(Scope::Node, key, ports)?;
            self.say_that::<PortsKind>(Scope::Node, key, Some(ports), now);
        }
        Ok(())
    }

    /// Publishes what an endpoint of this node may have beside its own address and MAC. Of no effect where there is none of
    /// that name.
    ///
    /// # Errors
    /// It may not have that, or there is no room for it.
    pub fn set_also(
        &mut self,
        network: NetworkId,
        name: &EndpointName,
        also: &Also,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let scope = Scope::Network(network);
        if also.is_empty() {
            self.say_that::<AlsoKind>(scope, name, None, now);
        } else if self.has_endpoint(scope, name) {
            self.check::<AlsoKind>(scope, name, also)?;
            self.say_that::<AlsoKind>(scope, name, Some(also), now);
        }
        Ok(())
    }

    /// Publishes what is at endpoints of this node although it was not given to them, where it takes part in the network.
    ///
    /// # Errors
    /// Something of it may not be, or is too much. What was published before stays.
    pub fn set_floating(
        &mut self,
        network: NetworkId,
        floating: &Floatings,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let scope = Scope::Network(network);
        let Some(known) = self.facts.known(scope, self.me).map(|known| Arc::clone(&known.floating)) else {
            return Ok(());
        };
        if floating.len() > FloatingKind::LIMITS.entries {
            return Err(ClusterError::TooLarge { would: floating.len(), max: FloatingKind::LIMITS.entries });
        }
        let about = self.about(scope, self.me);
        for (key, value) in floating {
            kinds::check::<FloatingKind>(&about, key, value)?;
        }
        let gone = known.keys().filter(|key| !floating.contains_key(key)).map(|key| (key, None));
        let new = floating.iter().filter(|(key, value)| known.get(key) != Some(value));
        let changes = gone.chain(new.map(|(key, value)| (key, Some(value))));
        let packed = changes
            .map(|(key, value)| (kinds::key::<FloatingKind>(key), value.map(kinds::value::<FloatingKind>)));
        self.say_all(scope, packed.collect(), now);
        Ok(())
    }

    /// Publishes which groups are joined on this node, where it takes part in the network. As many as there is room for.
    pub fn set_groups(&mut self, network: NetworkId, groups: &BTreeSet<Group>, now: Duration) {
        let scope = Scope::Network(network);
        let Some(known) = self.facts.known(scope, self.me).map(|known| Arc::clone(&known.groups)) else {
            return;
        };
        let left = known.difference(groups).map(|group| (group, None));
        let room = GroupKind::LIMITS.entries.saturating_sub(known.intersection(groups).count());
        let joined = groups.difference(&known).map(|group| (group, Some(&()))).take(room);
        let changes = left.chain(joined);
        let changes = changes
            .map(|(group, value)| (kinds::key::<GroupKind>(group), value.map(kinds::value::<GroupKind>)));
        self.say_all(scope, changes.collect(), now);
    }

    /// Publishes what mDNS brought to light on this node, where it takes part in the network.
    ///
    /// # Errors
    /// It is more than there is room for. What was published before stays.
    pub fn set_zeroconf(
        &mut self,
        network: NetworkId,
        facts: &BTreeMap<ZeroconfKey, ZeroconfFact>,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let scope = Scope::Network(network);
        let Some(known) = self.facts.known(scope, self.me).map(|known| Arc::clone(&known.zeroconf)) else {
            return Ok(());
        };
        let packed = |key, fact| (kinds::key::<SeenKind>(key), kinds::value::<SeenKind>(fact));
        let all: Vec<_> = facts.iter().map(|(key, fact)| packed(key, fact)).collect();
        let bytes = all.iter().map(|(key, value)| key.key.len() + value.len() + 20).sum();
        let max = SeenKind::LIMITS.bytes;
        if bytes > max {
            return Err(ClusterError::TooLarge { would: bytes, max });
        }
        let about = self.about(scope, self.me);
        for (key, value) in &all {
            let checked = Known::check(&about, key, value);
            checked.map_err(|why| ClusterError::Unsound { what: SeenKind::NAME, why })?;
        }
        let gone = known.keys().filter(|key| !facts.contains_key(key));
        let gone = gone.map(|key| (kinds::key::<SeenKind>(key), None));
        let new = all.into_iter().map(|(key, value)| (key, Some(value)));
        self.say_all(scope, gone.chain(new).collect(), now);
        Ok(())
    }

    /// Publishes a fact of any kind.
    ///
    /// # Errors
    /// As of [`Core::put_endpoint`].
    pub fn put_raw(
        &mut self,
        scope: Scope,
        key: FactKey,
        value: bytes::Bytes,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let about = self.about(scope, self.me);
        Known::check(&about, &key, &value).map_err(|why| ClusterError::Unsound { what: "fact", why })?;
        if let Some((would, max)) = self.facts.excess(scope, &about, &key, &value) {
            return Err(ClusterError::TooLarge { would, max });
        }
        self.say_all(scope, vec![(key, Some(value))], now);
        Ok(())
    }

    /// That the others would believe a fact, and that there is room for it.
    pub(super) fn check<K: FactKind<About = About>>(
        &self,
        scope: Scope,
        key: &K::Key,
        value: &K::Value,
    ) -> Result<(), ClusterError> {
        let about = self.about(scope, self.me);
        kinds::check::<K>(&about, key, value)?;
        match self.facts.excess(scope, &about, &kinds::key::<K>(key), &kinds::value::<K>(value)) {
            Some((would, max)) => Err(ClusterError::TooLarge { would, max }),
            None => Ok(()),
        }
    }

    /// Publishes a fact of this node, or takes it back; `false` where that was published before.
    pub(super) fn say_that<K: FactKind<About = About>>(
        &mut self,
        scope: Scope,
        key: &K::Key,
        value: Option<&K::Value>,
        now: Duration,
    ) -> bool {
        let Some((delta, change)) = self.put::<K>(scope, key, value) else { return false };
        self.changed(vec![change]);
        self.push(delta, now);
        true
    }

    /// Publishes several facts of this node as one change.
    fn say_all(&mut self, scope: Scope, changes: Vec<(FactKey, Option<bytes::Bytes>)>, now: Duration) {
        let about = self.about(scope, self.me);
        if let Some((delta, changes)) = self.facts.put_all(scope, &about, changes) {
            self.changed(changes);
            self.push(delta, now);
        }
    }

    /// The network that is what is asked for, if there is one; else it may be created.
    ///
    /// # Errors
    /// It may not.
    pub fn may_create(&self, spec: &NetworkSpec) -> Result<Option<Arc<NetworkSpec>>, ClusterError> {
        if let Some(known) = self.ledger.owner(&spec.name) {
            let known = self.network(known.id).unwrap_or(known);
            return match known.difference(spec) {
                None => Ok(Some(Arc::clone(known))),
                Some(what) => Err(ClusterError::NetworkExists { name: spec.name.clone(), what }),
            };
        }
        if let Some(other) = self.ledger.networks().find(|other| other.vni == spec.vni) {
            return Err(ClusterError::VniTaken { vni: spec.vni, owner: other.name.clone() });
        }
        if !self.ledger.would_take(spec) {
            let why =
                "it has no subnet, or a gateway outside of it, or there are as many as a cluster can have";
            return Err(ClusterError::Unsound { what: "network", why });
        }
        Ok(None)
    }

    /// Creates a network, or finds the one that is what is asked for.
    pub fn create_network(
        &mut self,
        spec: NetworkSpec,
        now: Duration,
    ) -> Result<Arc<NetworkSpec>, ClusterError> {
        if let Some(known) = self.may_create(&spec)? {
            return Ok(known);
        }
        let id = spec.id;
        self.publish(Claim::Network(spec), now);
        self.network(id).cloned().ok_or(ClusterError::NoSuchNetwork(id))
    }

    /// Deletes a network; `false` where it was deleted before.
    pub fn delete_network(&mut self, network: NetworkId, now: Duration) -> bool {
        self.ledger.network(network).is_some() && self.publish(Claim::NetworkDeleted(network), now)
    }

    /// What is to be said to let a node in. Those that had its name or index and left are removed: it takes their place.
    pub fn admission(&self, admission: Admission) -> Vec<Claim> {
        let left = self.ledger.nodes().filter(|other| self.ledger.has_left(other.node));
        let replaced = left.filter(|other| other.name == admission.name || other.index == admission.index);
        let removed: Vec<Claim> = replaced.map(|other| Claim::Removed(other.node)).collect();
        removed.into_iter().chain([Claim::Admitted(admission)]).collect()
    }

    /// Lets a node in.
    pub fn admit(&mut self, admission: Admission, now: Duration) {
        for claim in self.admission(admission) {
            self.publish(claim, now);
        }
        self.stats.joins += 1;
    }

    /// The admission of a node that may be shut out.
    ///
    /// # Errors
    /// There is none of that id, or it is this one.
    pub fn may_remove(&self, node: NodeId) -> Result<Admission, ClusterError> {
        let unknown = || ClusterError::NoSuchNode(node.to_string());
        let admission = self.ledger.node(node).cloned().ok_or_else(unknown)?;
        if node == self.me {
            return Err(ClusterError::RemoveSelf(admission.name));
        }
        Ok(admission)
    }

    /// Shuts a node out. `key` makes all that it has void, so that from now on it hears and says nothing.
    pub fn remove_node(
        &mut self,
        node: NodeId,
        key: GossipKey,
        now: Duration,
    ) -> Result<NodeIndex, ClusterError> {
        let admission = self.may_remove(node)?;
        self.publish(Claim::Removed(node), now);
        self.hand_out(key, now);
        Ok(admission.index)
    }

    /// What is to be remembered before a gossip key is handed out.
    pub fn with_key(&self, key: &GossipKey) -> Vec<Persist> {
        self.keyring.with(key).map(Persist::Keys).into_iter().collect()
    }

    /// Takes a gossip key that this node, the manager, has made, and gives it to the others.
    pub fn hand_out(&mut self, key: GossipKey, now: Duration) {
        if !self.keyring.learn(key, now) {
            return;
        }
        self.persist_keys();
        for peer in self.up() {
            // At once and to all, over streams: the key must not travel under the one that it replaces.
            self.synced.remove(&peer);
            self.request_sync(peer, Duration::ZERO, now);
        }
    }

    /// Publishes under which keys this node can be reached in the mesh.
    pub fn set_mesh(&mut self, keys: Vec<MeshKey>, now: Duration) -> Result<(), ClusterError> {
        if self.own().is_some_and(|own| own.mesh != keys) {
            self.say(|fact| fact.mesh = keys, now)?;
        }
        Ok(())
    }

    /// Takes cluster-wide facts as if somebody had sent them.
    #[cfg(test)]
    pub fn take_claims(&mut self, claims: impl IntoIterator<Item = Claim>, now: Duration) {
        for claim in claims {
            self.take_claim(claim, now);
        }
    }

    /// Whether this node hands out indexes.
    pub fn is_manager(&self) -> bool {
        self.ledger.manager().is_some_and(|(_, node)| node == self.me)
    }

    /// What makes this node the manager, with a CA of its own; `ca` is the one that its certificate is from.
    pub fn takeover(&self, authority: Vec<u8>, ca: Vec<u8>) -> Vec<Claim> {
        let term = self.ledger.manager().map_or(0, |(term, _)| term);
        let known = self.ledger.authorities().any(|known| known == ca);
        let own = (!known).then_some(Claim::Authority { term, certificate: ca });
        let new = Claim::Authority { term: term + 1, certificate: authority };
        own.into_iter().chain([new, Claim::Manager { term: term + 1, node: self.me }]).collect()
    }

    /// Takes the manager's role over; see [`Core::takeover`].
    pub fn recover(&mut self, claims: Vec<Claim>, now: Duration) {
        for claim in claims {
            match claim {
                // Large, and of use only to whom they are shown by streams.
                Claim::Authority { .. } => self.take_claim(claim, now),
                _ => self.publish(claim, now),
            };
        }
        for peer in self.up() {
            // At once and to all: whom the new CA lets in is to be let in by everybody.
            self.synced.remove(&peer);
            self.request_sync(peer, Duration::ZERO, now);
        }
    }

    /// The node that has this one's index or name by right, where it was given twice.
    pub fn overruled_by(&self) -> Option<Admission> {
        self.ledger.overruled_by(self.me).cloned()
    }

    /// Tells the others that this node goes.
    pub fn leave(&mut self, now: Duration) {
        let claim = Claim::Left(self.me);
        // Not persisted: whoever leaves forgets the cluster altogether.
        self.ledger.merge(claim.clone());
        // Twice, as nobody is there to repeat a lost datagram.
        for _ in 0..2 {
            self.push_claims(std::slice::from_ref(&claim), now);
        }
        self.membership.leave(now);
        self.follow_membership(now);
        self.out.retain(|output| matches!(output, Output::Datagram(..)));
    }

    /// Whether a node is to be talked with that shows this certificate.
    ///
    /// # Errors
    /// It is out, or was let in with another key.
    pub fn receives(&self, shown: &Shown) -> Result<(), Refusal> {
        if let Some(refusal) = self.is_out(shown.node) {
            return Err(refusal);
        }
        match self.ledger.node(shown.node) {
            Some(admission) if admission.key.is_some_and(|key| key != shown.key) => {
                Err(Refusal::AnotherKey { name: admission.name.clone() })
            }
            // Whoever is not known may have been let in a moment ago.
            _ => Ok(()),
        }
    }

    /// Why a node does not belong to the cluster any more; `None` where it does, or is not known.
    pub fn is_out(&self, node: NodeId) -> Option<Refusal> {
        if self.ledger.is_removed(node) {
            Some(Refusal::Removed)
        } else if self.ledger.has_left(node) {
            Some(Refusal::Left)
        } else {
            None
        }
    }

    /// Another node says that this one is out of the cluster: shut out, or that it had left (and this is a copy).
    pub fn is_told_to_be_out(&mut self, refusal: Refusal, now: Duration) {
        self.told_out = Some(refusal);
        self.take_claim(Claim::Removed(self.me), now);
    }

    /// Why this node does not belong to the cluster any more; `None` where it does.
    pub fn why_out(&self) -> Option<Refusal> {
        self.told_out.clone().or_else(|| self.is_out(self.me))
    }

    /// Name and address of the node that hands out indexes.
    pub fn manager_name(&self) -> String {
        let known = self.ledger.manager().and_then(|(_, node)| self.ledger.node(node));
        known.map_or_else(
            || "the manager, which is not known here".to_owned(),
            |manager| {
                let address = self.address(manager.node).unwrap_or(manager.address);
                format!("{} ({address})", manager.name)
            },
        )
    }

    /// The manager's name where it belongs to the cluster no more.
    pub fn manager_that_left(&self) -> Option<NodeName> {
        let (_, manager) = self.ledger.manager().filter(|(_, manager)| !self.ledger.is_member(*manager))?;
        self.ledger.node(manager).map(|admission| admission.name.clone())
    }

    fn publish(&mut self, claim: Claim, now: Duration) -> bool {
        // The addresses first: a node that this shuts out is told so too.
        let before = matches!(claim, Claim::Removed(_));
        if before {
            self.push_claims(std::slice::from_ref(&claim), now);
        }
        let new = self.take_claim(claim.clone(), now);
        if new && !before {
            self.push_claims(&[claim], now);
        }
        self.follow_membership(now);
        self.refresh_states(now);
        new
    }

    /// Changes what this node says of itself; refused where nobody would believe it.
    fn say(&mut self, change: impl FnOnce(&mut NodeFact), now: Duration) -> Result<(), ClusterError> {
        let mut fact = self.own().cloned().ok_or(ClusterError::Stopped)?;
        change(&mut fact);
        self.check::<NodeKind>(Scope::Node, &(), &fact)?;
        self.say_that::<NodeKind>(Scope::Node, &(), Some(&fact), now);
        Ok(())
    }
}
