//! What this node's own agent asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Core, FAN_OUT, Output};
use crate::cluster::ClusterError;
use crate::cluster::facts::{Change, MAX_DOC_BYTES, MAX_ZEROCONF_BYTES, NodeFact};
use crate::cluster::gossip_key::GossipKey;
use crate::cluster::ledger::{Admission, Claim};
use crate::model::{
    Endpoint, EndpointName, Group, MeshKey, NetworkId, NetworkSpec, NodeId, NodeIndex, ZeroconfFact,
    ZeroconfKey,
};

impl Core {
    /// Publishes where this node's VXLAN packets come from and how large they may be.
    pub fn set_self(&mut self, vtep: IpAddr, underlay_mtu: u32, now: Duration) {
        self.say(|fact| (fact.vtep, fact.underlay_mtu) = (vtep, underlay_mtu), now);
    }

    /// Publishes that this node is at another address, where its VXLAN packets come from too.
    pub fn move_to(&mut self, address: SocketAddr, underlay_mtu: u32, now: Duration) {
        self.membership.move_to(address, now);
        let said = |fact: &mut NodeFact| {
            (fact.address, fact.vtep, fact.underlay_mtu) = (address, address.ip(), underlay_mtu);
        };
        self.say(said, now);
        // Who missed that, or what was said before it, would ask for it at the old address.
        self.compare_with_some(now);
        self.follow_membership(now);
        self.refresh_states(now);
    }

    /// Begins to follow a network.
    pub fn take_part(&mut self, network: NetworkId, now: Duration) -> Result<(), ClusterError> {
        if self.ledger.network(network).is_none() {
            return Err(ClusterError::NoSuchNetwork(network));
        }
        if self.own().is_some_and(|own| own.networks.contains(&network)) {
            return Ok(());
        }
        self.say(|fact| fact.networks.extend([network]), now);
        self.facts.begin_network(network);
        for (node, _) in self.holders(network).into_iter().take(FAN_OUT) {
            self.request_sync(node, Duration::ZERO, now);
        }
        Ok(())
    }

    /// Takes everything in a network back and stops following it.
    pub fn give_up(&mut self, network: NetworkId, now: Duration) {
        if self.own().is_some_and(|own| own.networks.contains(&network)) {
            self.say(|fact| fact.networks.retain(|other| *other != network), now);
            self.purge();
        }
    }

    /// Publishes an endpoint.
    pub fn put_endpoint(
        &mut self,
        network: NetworkId,
        endpoint: Endpoint,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let more = postcard::experimental::serialized_size(&endpoint).unwrap_or(MAX_DOC_BYTES);
        let bytes = self.facts.own_bytes(network).saturating_add(more);
        if bytes > MAX_DOC_BYTES {
            return Err(ClusterError::TooLarge { bytes, max: MAX_DOC_BYTES });
        }
        self.take_part(network, now)?;
        let (node, name) = (self.me, endpoint.name.clone());
        let had = self.facts.own(network).is_some_and(|own| own.contains_key(&name));
        if let Some(delta) = self.facts.put(network, endpoint) {
            self.changed(vec![Change::Endpoint { network, node, name, had, has: true }]);
            self.push(delta, now);
        }
        Ok(())
    }

    /// Takes an endpoint back; `false` where there was none.
    pub fn remove_endpoint(&mut self, network: NetworkId, name: EndpointName, now: Duration) -> bool {
        let Some(delta) = self.facts.remove(network, name.clone()) else { return false };
        let node = self.me;
        self.changed(vec![Change::Endpoint { network, node, name, had: true, has: false }]);
        self.push(delta, now);
        true
    }

    /// Publishes which groups are joined on this node, where it takes part in the network.
    pub fn set_groups(&mut self, network: NetworkId, groups: &BTreeSet<Group>, now: Duration) {
        if !self.own().is_some_and(|own| own.networks.contains(&network)) {
            return;
        }
        if let Some(delta) = self.facts.set_groups(network, groups) {
            self.changed(vec![Change::Groups]);
            self.push(delta, now);
        }
    }

    /// Publishes what mDNS brought to light on this node, where it takes part in the network.
    pub fn set_zeroconf(
        &mut self,
        network: NetworkId,
        facts: BTreeMap<ZeroconfKey, ZeroconfFact>,
        now: Duration,
    ) -> Result<(), ClusterError> {
        if !self.own().is_some_and(|own| own.networks.contains(&network)) {
            return Ok(());
        }
        let bytes = postcard::experimental::serialized_size(&facts).unwrap_or(usize::MAX);
        if bytes > MAX_ZEROCONF_BYTES {
            return Err(ClusterError::TooLarge { bytes, max: MAX_ZEROCONF_BYTES });
        }
        if let Some(delta) = self.facts.set_zeroconf(network, facts) {
            self.changed(vec![Change::Zeroconf]);
            self.push(delta, now);
        }
        Ok(())
    }

    /// Creates a network, or finds the one that is what is asked for.
    pub fn create_network(
        &mut self,
        spec: NetworkSpec,
        now: Duration,
    ) -> Result<Arc<NetworkSpec>, ClusterError> {
        if let Some(known) = self.ledger.owner(&spec.name) {
            return match difference(known, &spec) {
                None => Ok(Arc::clone(known)),
                Some(what) => Err(ClusterError::NetworkExists { name: spec.name, what }),
            };
        }
        if let Some(other) = self.ledger.networks().find(|other| other.vni == spec.vni) {
            return Err(ClusterError::VniTaken { vni: spec.vni, owner: other.name.clone() });
        }
        let id = spec.id;
        self.publish(Claim::Network(spec), now);
        self.ledger.network(id).cloned().ok_or(ClusterError::NoSuchNetwork(id))
    }

    /// Deletes a network; `false` where it was deleted before.
    pub fn delete_network(&mut self, network: NetworkId, now: Duration) -> bool {
        self.ledger.network(network).is_some() && self.publish(Claim::NetworkDeleted(network), now)
    }

    /// Lets a node in. Those that had its name or index and left are removed: it takes their place.
    pub fn admit(&mut self, admission: Admission, now: Duration) {
        let replaced: Vec<NodeId> = self
            .ledger
            .nodes()
            .filter(|other| self.ledger.has_left(other.node))
            .filter(|other| other.name == admission.name || other.index == admission.index)
            .map(|other| other.node)
            .collect();
        for node in replaced {
            self.publish(Claim::Removed(node), now);
        }
        self.publish(Claim::Admitted(admission), now);
        self.stats.joins += 1;
    }

    /// Shuts a node out. `key` makes all that it has void, so that from now on it hears and says nothing.
    pub fn remove_node(
        &mut self,
        node: NodeId,
        key: GossipKey,
        now: Duration,
    ) -> Result<NodeIndex, ClusterError> {
        let unknown = || ClusterError::NoSuchNode(node.to_string());
        let admission = self.ledger.node(node).cloned().ok_or_else(unknown)?;
        if node == self.me {
            return Err(ClusterError::RemoveSelf(admission.name));
        }
        self.publish(Claim::Removed(node), now);
        self.hand_out(key, now);
        Ok(admission.index)
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
    pub fn set_mesh(&mut self, keys: Vec<MeshKey>, now: Duration) {
        if self.own().is_some_and(|own| own.mesh != keys) {
            self.say(|fact| fact.mesh = keys, now);
        }
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

    /// Takes the manager's role over, with a CA of its own; `ca` is the one that this node's certificate is from.
    pub fn recover(&mut self, authority: Vec<u8>, ca: Vec<u8>, now: Duration) {
        let term = self.ledger.manager().map_or(0, |(term, _)| term);
        let known = self.ledger.authorities().any(|known| known == ca);
        if !known {
            self.take_claim(Claim::Authority { term, certificate: ca }, now);
        }
        self.take_claim(Claim::Authority { term: term + 1, certificate: authority }, now);
        self.publish(Claim::Manager { term: term + 1, node: self.me }, now);
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

    /// Another node says that this one was shut out.
    pub fn was_removed(&mut self, me: NodeId, now: Duration) {
        self.take_claim(Claim::Removed(me), now);
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

    /// Changes what this node says of itself.
    fn say(&mut self, change: impl FnOnce(&mut NodeFact), now: Duration) {
        let Some(mut fact) = self.own().cloned() else { return };
        change(&mut fact);
        if let Some(delta) = self.facts.set_node(fact) {
            self.view_changed = true;
            self.nodes = None;
            self.push(delta, now);
        }
    }
}

/// The first part in which two specs differ, but for what every creation draws anew.
fn difference(a: &NetworkSpec, b: &NetworkSpec) -> Option<&'static str> {
    let parts = [
        ("subnet", a.subnets == b.subnets),
        ("gateway", a.gateways == b.gateways),
        ("pool", a.pools == b.pools),
        ("reservation", a.reserved == b.reserved),
        ("block size", a.block_size == b.block_size),
        ("MTU", a.mtu == b.mtu),
        ("multicast mode", a.multicast == b.multicast),
        ("broadcast mode", a.broadcast == b.broadcast),
        ("zeroconf mode", a.zeroconf == b.zeroconf),
        ("encryption", a.encrypt == b.encrypt),
        ("spoofing mode", a.spoofing == b.spoofing),
        ("DNS forwarding", a.dns.forward == b.dns.forward),
        ("DNS TTL", a.dns.ttl == b.dns.ttl),
    ];
    parts.into_iter().find(|(_, equal)| !equal).map(|(what, _)| what)
}
