//! Cluster-wide facts that outlive their writer: a set that only grows, so it merges in any order.
//!
//! Owns: what networks and nodes there are, who was let in, who left or was removed, who hands out indexes, and
//! who owns a name that was given twice. Does not own: what a node says of itself (`facts`), who is alive
//! (`membership`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use lanmesh_ipam::stable_hash;

use super::v2;
use crate::model::{NetworkId, NetworkName, NetworkSpec, NodeId, NodeIndex, NodeName};

/// A node was let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Admission {
    /// The term of the manager that let it in.
    pub term: u64,
    /// Who.
    pub node: NodeId,
    /// Under which name.
    pub name: NodeName,
    /// With which index.
    pub index: NodeIndex,
    /// Where it listened then.
    pub address: SocketAddr,
    /// SHA-256 of its public key, as DER (RFC 5280 section 4.1.2.7): whoever shows another one is not this node.
    /// `None` of nodes that were let in before keys were noted.
    pub key: Option<[u8; 32]>,
}

impl Admission {
    /// Of two of one node the lesser holds: that of the earlier manager, and of one manager's one that notes a key.
    fn rank(&self) -> (u64, bool, &Self) {
        (self.term, self.key.is_none(), self)
    }
}

/// One cluster-wide fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// A network was created.
    Network(NetworkSpec),
    /// A network was deleted.
    NetworkDeleted(NetworkId),
    /// A node was let in.
    Admitted(Admission),
    /// A node said that it goes.
    Left(NodeId),
    /// A node was shut out, or another one got its place after it had left.
    Removed(NodeId),
    /// A node hands out indexes; of two the one with the higher term does.
    Manager {
        /// Counts the changes of the role.
        term: u64,
        /// Who.
        node: NodeId,
    },
    /// Nodes whose certificates come from this CA belong to the cluster, as far as they were let in. Travels over
    /// streams only: the gossip key, which a removed node has for a while, must not bring another CA in.
    Authority {
        /// The term of the manager that made it.
        term: u64,
        /// Its certificate, in DER.
        certificate: Vec<u8>,
    },
    /// Something that a later version claims. Kept and passed on.
    Foreign(v2::Claim),
}

/// No cluster comes near so many changes of its manager.
const MAX_TERM: u64 = u64::MAX / 2;
/// More than a CA's certificate takes, in bytes.
const MAX_CERTIFICATE: usize = 4096;
/// The most claims of kinds that are not known here, and the most bytes of all of them together.
const MAX_FOREIGN: usize = 4096;
const MAX_FOREIGN_BYTES: usize = 4 << 20;
/// The most networks that were created and not deleted, and the most nodes that were ever let in.
const MAX_NETWORKS: usize = 16_384;
const MAX_NODES: usize = 65_536;
/// The most nodes and networks that are gone, of which nobody here has heard that they were there.
const MAX_GONE: usize = 65_536;
/// The most CAs.
const MAX_AUTHORITIES: usize = 256;
/// More than a subnet, pool or reservation of a network takes, each: a spec must fit a message.
const MAX_RANGES: usize = 4096;

impl Claim {
    /// Where it is kept, below the ledger's own prefix. Two claims with one key are one fact.
    pub fn key(&self) -> String {
        match self {
            Self::Network(spec) => format!("network/{}", spec.id),
            Self::NetworkDeleted(id) => format!("network-deleted/{id}"),
            Self::Admitted(admission) => format!("admitted/{}", admission.node),
            Self::Left(node) => format!("left/{node}"),
            Self::Removed(node) => format!("removed/{node}"),
            Self::Manager { .. } => "manager".to_owned(),
            Self::Authority { term, certificate } => {
                format!("authority/{term}/{:016x}", stable_hash(certificate))
            }
            Self::Foreign(claim) => format!("foreign/{}/{:016x}", claim.kind, stable_hash(&claim.value)),
        }
    }

    /// Whether everybody can work with it.
    fn is_sound(&self) -> bool {
        match self {
            Self::Network(spec) => network_is_sound(spec),
            Self::Admitted(Admission { term, address, .. }) => {
                let ip = address.ip();
                *term <= MAX_TERM && address.port() != 0 && !ip.is_multicast() && !ip.is_unspecified()
            }
            Self::Manager { term, .. } => *term <= MAX_TERM,
            Self::Foreign(_) => true,
            Self::Authority { term, certificate } => {
                *term <= MAX_TERM && certificate.len() <= MAX_CERTIFICATE
            }
            Self::NetworkDeleted(_) | Self::Left(_) | Self::Removed(_) => true,
        }
    }
}

fn network_is_sound(spec: &NetworkSpec) -> bool {
    (1..=MAX_RANGES).contains(&spec.subnets.len())
        && spec.subnets.len() == spec.gateways.len()
        && spec.subnets.iter().zip(&spec.gateways).all(|(subnet, ip)| subnet.contains(*ip))
        && spec.pools.len().max(spec.reserved.len()) <= MAX_RANGES
}

/// All cluster-wide facts that are known here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    networks: BTreeMap<NetworkId, Arc<NetworkSpec>>,
    deleted: BTreeSet<NetworkId>,
    admitted: BTreeMap<NodeId, Admission>,
    left: BTreeSet<NodeId>,
    removed: BTreeSet<NodeId>,
    manager: Option<(u64, NodeId)>,
    authorities: BTreeSet<(u64, Vec<u8>)>,
    foreign: BTreeSet<v2::Claim>,
    foreign_bytes: usize,
    /// The sum of what is in it, kept with every change.
    sum: u64,
}

impl Ledger {
    /// Adds a fact that is sound; `true` where it was not known. Merging is commutative, associative and idempotent.
    /// The one door, whoever brings it: another node, a join, or the state of this one.
    pub fn merge(&mut self, claim: Claim) -> bool {
        if !claim.is_sound() {
            return false;
        }
        let number = number(&claim);
        let before = match &claim {
            Claim::Network(spec) => self.networks.get(&spec.id).map(|spec| Claim::Network((**spec).clone())),
            Claim::NetworkDeleted(id) => self.networks.get(id).map(|spec| Claim::Network((**spec).clone())),
            Claim::Admitted(admission) => self.admitted.get(&admission.node).cloned().map(Claim::Admitted),
            Claim::Manager { .. } => self.manager.map(|(term, node)| Claim::Manager { term, node }),
            Claim::Left(_) | Claim::Removed(_) | Claim::Authority { .. } | Claim::Foreign(_) => None,
        };
        let new = self.take(claim);
        if new {
            // What it replaces goes out of the sum.
            self.sum ^= number ^ before.map_or(0, |before| self::number(&before));
        }
        new
    }

    /// Whether a network is sound, not known, and there is room for it.
    pub fn would_take(&self, spec: &NetworkSpec) -> bool {
        network_is_sound(spec) && self.takes(spec)
    }

    /// A spec never changes, so two under one id are a fault of somebody; any rule that all share keeps the nodes equal.
    fn takes(&self, spec: &NetworkSpec) -> bool {
        let better = match self.networks.get(&spec.id) {
            None => self.networks.len() < MAX_NETWORKS,
            Some(known) => wire(known) > wire(spec),
        };
        better && !self.deleted.contains(&spec.id)
    }

    fn take(&mut self, claim: Claim) -> bool {
        match claim {
            Claim::Network(spec) => {
                let takes = self.takes(&spec);
                if takes {
                    self.networks.insert(spec.id, Arc::new(spec));
                }
                takes
            }
            Claim::NetworkDeleted(id) => {
                let room = self.deleted.len() < MAX_GONE || self.networks.contains_key(&id);
                self.networks.remove(&id);
                room && self.deleted.insert(id)
            }
            // Two of one node are an alarm (`core`); of them the one of the earlier manager holds.
            Claim::Admitted(admission) => match self.admitted.get(&admission.node) {
                None if self.admitted.len() >= MAX_NODES => false,
                Some(known) if known.rank() <= admission.rank() => false,
                _ => {
                    self.admitted.insert(admission.node, admission);
                    true
                }
            },
            Claim::Left(node) => self.may_go(&self.left, node) && self.left.insert(node),
            Claim::Removed(node) => self.may_go(&self.removed, node) && self.removed.insert(node),
            Claim::Manager { term, node } => {
                let newer = self.manager < Some((term, node));
                if newer {
                    self.manager = Some((term, node));
                }
                newer
            }
            Claim::Authority { term, certificate } => {
                self.authorities.len() < MAX_AUTHORITIES && self.authorities.insert((term, certificate))
            }
            Claim::Foreign(claim) => {
                let bytes = self.foreign_bytes + claim.value.len();
                let room = self.foreign.len() < MAX_FOREIGN && bytes <= MAX_FOREIGN_BYTES;
                let new = room && self.foreign.insert(claim);
                if new {
                    self.foreign_bytes = bytes;
                }
                new
            }
        }
    }

    /// Whether there is room to note that a node is gone. There always is for one that was let in.
    fn may_go(&self, gone: &BTreeSet<NodeId>, node: NodeId) -> bool {
        gone.len() < MAX_GONE || self.admitted.contains_key(&node)
    }

    /// Its facts as they are on the wire.
    pub fn to_wire(&self) -> Vec<v2::Claim> {
        self.claims().map(|claim| v2::Claim::of(&claim)).collect()
    }

    /// Every fact.
    pub fn claims(&self) -> impl Iterator<Item = Claim> + '_ {
        let networks = self.networks.values().map(|spec| Claim::Network((**spec).clone()));
        let deleted = self.deleted.iter().map(|id| Claim::NetworkDeleted(*id));
        let admitted = self.admitted.values().cloned().map(Claim::Admitted);
        let left = self.left.iter().map(|node| Claim::Left(*node));
        let removed = self.removed.iter().map(|node| Claim::Removed(*node));
        let manager = self.manager.iter().map(|(term, node)| Claim::Manager { term: *term, node: *node });
        let authorities = self.authorities.iter().cloned();
        let authorities = authorities.map(|(term, certificate)| Claim::Authority { term, certificate });
        let foreign = self.foreign.iter().cloned().map(Claim::Foreign);
        let known = networks.chain(deleted).chain(admitted).chain(left).chain(removed);
        known.chain(manager).chain(authorities).chain(foreign)
    }

    /// A number that is equal, but for accident, where the facts are.
    pub fn hash(&self) -> u64 {
        self.sum
    }

    /// The networks that were created and not deleted.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<NetworkSpec>> {
        self.networks.values()
    }

    /// A network that was created and not deleted.
    pub fn network(&self, id: NetworkId) -> Option<&Arc<NetworkSpec>> {
        self.networks.get(&id)
    }

    /// The network that owns a name: the oldest, and of equally old ones that with the lower id.
    pub fn owner(&self, name: &NetworkName) -> Option<&Arc<NetworkSpec>> {
        self.networks.values().filter(|spec| spec.name == *name).min_by_key(|spec| (spec.created_ms, spec.id))
    }

    /// The networks whose name or VNI belongs to an older one.
    pub fn conflicts(&self) -> BTreeSet<NetworkId> {
        let mut by_age: Vec<&NetworkSpec> = self.networks.values().map(|spec| &**spec).collect();
        by_age.sort_by_key(|spec| (spec.created_ms, spec.id));
        let (mut names, mut vnis) = (BTreeSet::new(), BTreeSet::new());
        by_age
            .into_iter()
            .filter(|spec| {
                let (name, vni) = (names.insert(&spec.name), vnis.insert(spec.vni));
                !(name && vni)
            })
            .map(|spec| spec.id)
            .collect()
    }

    /// The nodes that were let in and not removed.
    pub fn nodes(&self) -> impl Iterator<Item = &Admission> {
        self.admitted.values().filter(|admission| !self.removed.contains(&admission.node))
    }

    /// A node that was let in and not removed.
    pub fn node(&self, node: NodeId) -> Option<&Admission> {
        self.admitted.get(&node).filter(|_| !self.removed.contains(&node))
    }

    /// A node's admission, also of one that was removed since.
    pub fn admission(&self, node: NodeId) -> Option<&Admission> {
        self.admitted.get(&node)
    }

    /// Every node that was ever let in.
    pub fn admissions(&self) -> impl Iterator<Item = &Admission> {
        self.admitted.values()
    }

    /// Whether a node belongs to the cluster now: let in, not gone, not removed.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.node(node).is_some() && !self.left.contains(&node)
    }

    /// Whether a node said that it goes.
    pub fn has_left(&self, node: NodeId) -> bool {
        self.left.contains(&node)
    }

    /// Whether a node was shut out.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// Who hands out indexes.
    pub fn manager(&self) -> Option<(u64, NodeId)> {
        self.manager
    }

    /// The certificates of the CAs, in DER; the cluster's first one first.
    pub fn authorities(&self) -> impl Iterator<Item = &[u8]> {
        self.authorities.iter().map(|(_, certificate)| &**certificate)
    }

    /// The node that has a member's index or name, where two were given one on two sides of a cut: the one that the
    /// manager of the higher term let in, and of one manager's the one with the lower id.
    pub fn overruled_by(&self, node: NodeId) -> Option<&Admission> {
        let place = |admission: &Admission| (admission.term, Reverse(admission.node));
        let own = self.node(node)?;
        let others = self.nodes().filter(|other| self.is_member(other.node));
        let clash = others.filter(|other| other.index == own.index || other.name == own.name);
        clash.filter(|other| place(other) > place(own)).max_by_key(|other| place(other))
    }

    /// The lowest index that is not to be passed over and that no node has, nor had one that is gone and not `forgotten` by
    /// all.
    pub fn free_index(
        &self,
        forgotten: &BTreeSet<NodeId>,
        passed_over: impl Fn(NodeIndex) -> bool,
    ) -> NodeIndex {
        let is_kept = |node: &NodeId| self.is_member(*node) || !forgotten.contains(node);
        let kept = self.admitted.values().filter(|admission| is_kept(&admission.node));
        let kept: BTreeSet<u32> = kept.map(|admission| admission.index.0).collect();
        let mut free = (0..).filter(|index| !kept.contains(index) && !passed_over(NodeIndex(*index)));
        NodeIndex(free.next().unwrap_or(u32::MAX))
    }
}

/// What a claim counts for in the sum.
fn number(claim: &Claim) -> u64 {
    let wire = v2::Claim::of(claim);
    stable_hash(&[&wire.kind.to_be_bytes()[..], &wire.value].concat())
}

/// A spec's bytes, which are the same in every release that speaks this version.
fn wire(spec: &NetworkSpec) -> bytes::Bytes {
    v2::Claim::of(&Claim::Network(spec.clone())).value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::testing::network;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    fn admission(n: u8, index: u32) -> Admission {
        Admission {
            node: node(n),
            name: NodeName::new(format!("n{n}")).unwrap(),
            index: NodeIndex(index),
            address: ([10, 0, 0, n], 7979).into(),
            term: 1,
            key: None,
        }
    }

    fn claim() -> impl Strategy<Value = Claim> {
        prop_oneof![
            (0u8..4, 0u8..3, 0u64..3).prop_map(|(n, name, created)| {
                Claim::Network(network(&format!("net{name}"), n, created))
            }),
            (0u8..4).prop_map(|n| Claim::NetworkDeleted(NetworkId::from_bytes([n; 8]))),
            (0u8..4, 0u32..3).prop_map(|(n, index)| Claim::Admitted(admission(n, index))),
            (0u8..4).prop_map(|n| Claim::Left(node(n))),
            (0u8..4).prop_map(|n| Claim::Removed(node(n))),
            (0u64..3, 0u8..4).prop_map(|(term, n)| Claim::Manager { term, node: node(n) }),
            (0u64..3, 0u8..2).prop_map(|(term, n)| Claim::Authority { term, certificate: vec![n] }),
            (90u16..93, 0u8..3)
                .prop_map(|(kind, n)| { Claim::Foreign(v2::Claim { kind, value: vec![n].into() }) }),
        ]
    }

    fn ledger(claims: &[Claim]) -> Ledger {
        let mut ledger = Ledger::default();
        for claim in claims {
            ledger.merge(claim.clone());
        }
        ledger
    }

    proptest! {
        #[test]
        fn facts_lead_to_one_ledger_in_any_order_and_however_often(
            claims in prop::collection::vec(claim(), 0..20), seed in prop::collection::vec(any::<u16>(), 20)
        ) {
            let mut shuffled: Vec<_> = claims.iter().cloned().zip(seed).collect();
            shuffled.sort_by_key(|(_, seed)| *seed);
            let shuffled: Vec<_> = shuffled.into_iter().map(|(claim, _)| claim).collect();
            let (a, b) = (ledger(&claims), ledger(&[shuffled, claims].concat()));
            prop_assert_eq!(a.hash(), b.hash());
            prop_assert_eq!(a, b);
        }

        #[test]
        fn a_ledger_is_rebuilt_from_its_facts_and_a_known_fact_changes_nothing(
            claims in prop::collection::vec(claim(), 0..20)
        ) {
            let mut first = ledger(&claims);
            let facts: Vec<Claim> = first.claims().collect();
            prop_assert_eq!(&ledger(&facts), &first);
            for claim in facts {
                prop_assert!(!first.merge(claim));
            }
        }
    }

    #[test]
    fn the_older_of_two_networks_owns_their_name_and_deleting_it_gives_the_name_to_the_younger() {
        let (old, young) = (network("a", 2, 10), network("a", 1, 20));
        let mut ledger = ledger(&[Claim::Network(young.clone()), Claim::Network(old.clone())]);
        assert_eq!(ledger.owner(&old.name).unwrap().id, old.id);
        assert_eq!(ledger.conflicts(), [young.id].into());
        ledger.merge(Claim::NetworkDeleted(old.id));
        assert_eq!(ledger.owner(&old.name).unwrap().id, young.id);
        assert!(ledger.conflicts().is_empty());
        assert!(!ledger.merge(Claim::Network(old)), "a deleted network came back");
    }

    #[test]
    fn an_index_that_was_given_is_not_given_again_by_itself() {
        let ledger = ledger(&[
            Claim::Admitted(admission(1, 0)),
            Claim::Admitted(admission(2, 1)),
            Claim::Admitted(admission(3, 3)),
            Claim::Removed(node(2)),
        ]);
        assert_eq!(ledger.free_index(&BTreeSet::new(), |_| false), NodeIndex(2));
        assert_eq!(ledger.nodes().count(), 2);
    }

    #[test]
    fn of_two_nodes_with_one_index_the_one_that_the_later_manager_let_in_keeps_it() {
        let (first, second) = (admission(1, 4), Admission { term: 2, ..admission(2, 4) });
        let mut ledger = ledger(&[Claim::Admitted(first), Claim::Admitted(second.clone())]);
        assert_eq!(ledger.overruled_by(node(1)), Some(&second));
        assert_eq!(ledger.overruled_by(node(2)), None);
        assert_ne!(ledger.free_index(&BTreeSet::new(), |_| false), NodeIndex(4));
        // Under one manager, which two at once can only be by a fault, all agree all the same.
        ledger.merge(Claim::Admitted(Admission { term: 2, ..admission(3, 4) }));
        assert_eq!(ledger.overruled_by(node(3)).map(|other| other.node), Some(node(2)));
        ledger.merge(Claim::Removed(node(2)));
        assert_eq!(ledger.overruled_by(node(3)), None);
    }

    #[test]
    fn what_nobody_could_work_with_is_not_sound() {
        let spec = network("a", 1, 1);
        assert!(Claim::Network(spec.clone()).is_sound());
        let without = NetworkSpec { gateways: Vec::new(), ..spec.clone() };
        let elsewhere = NetworkSpec { gateways: vec![[192, 0, 2, 1].into()], ..spec };
        assert!(!Claim::Network(without).is_sound() && !Claim::Network(elsewhere).is_sound());
        assert!(!Claim::Manager { term: u64::MAX, node: node(1) }.is_sound());
        assert!(!Claim::Authority { term: 1, certificate: vec![0; 5000] }.is_sound());
    }
}
