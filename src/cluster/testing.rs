//! Values for tests.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::facts::{Entry, FactKey, Record, Stamp};
use super::gossip_key::GossipKey;
use super::kinds::{self, EndpointKind, LabelKind, NodeFact};
use super::pki::{Authority, public_key};
use crate::model::{
    Endpoint, NetworkId, NetworkName, NetworkSpec, NodeId, NodeIndex, NodeName, Vni, testing,
};

/// A CA that signs gossip keys.
pub(super) struct Ca(Authority);

/// A new CA.
pub(super) fn ca() -> Ca {
    Ca(Authority::generate("test").unwrap())
}

impl Ca {
    /// A new key that it signed.
    pub fn gossip_key(&self, epoch: u32, floor: u32) -> GossipKey {
        GossipKey::generate(epoch, floor, |message| self.0.sign_message(message)).unwrap()
    }

    /// Its public key.
    pub fn public_key(&self) -> Vec<u8> {
        public_key(self.0.certificate()).unwrap()
    }
}

/// An endpoint of this name; `claim` tells one value from another.
pub(super) fn endpoint(name: &str, claim: u64) -> Endpoint {
    Endpoint { claim, ..testing::endpoint(name, ["10.10.0.17/24".parse().unwrap()]) }
}

/// The fact that there is an endpoint.
pub(super) fn endpoint_entry(endpoint: &Endpoint, version: u64) -> Entry {
    let key = kinds::key::<EndpointKind>(&endpoint.name);
    Entry { key, version, value: Some(kinds::value::<EndpointKind>(endpoint)) }
}

/// The label `label` of the node number `n`.
pub(super) fn label_record(n: u8, value: &str) -> Record {
    let node = NodeId::from_bytes([n; 16]);
    let key: FactKey = kinds::key::<LabelKind>(&(node, "label".to_owned()));
    let stamp = Stamp { wall_ms: 1000, count: 0, node };
    Record { key, stamp, value: Some(kinds::value::<LabelKind>(&value.to_owned())) }
}

/// What the node number `n` says of itself: it takes part in no network.
pub(super) fn node_fact(n: u8) -> NodeFact {
    let address: SocketAddr = ([10, 0, 0, n], 7979).into();
    NodeFact {
        name: NodeName::new(format!("n{n}")).unwrap(),
        index: NodeIndex(u32::from(n)),
        address,
        vtep: address.ip(),
        underlay_mtu: 1500,
        networks: BTreeSet::new(),
        mesh: Vec::new(),
        protocols: (2, 2),
        traits: Default::default(),
    }
}

/// A network of this name whose id and VNI follow from `n`.
pub(super) fn network(name: &str, n: u8, created_ms: u64) -> NetworkSpec {
    let id = NetworkId::from_bytes([n; 8]);
    NetworkSpec {
        name: NetworkName::new(name).unwrap(),
        vni: Vni::try_from(0x80_0000 + u32::from(n)).unwrap(),
        created_ms,
        ..testing::network(id)
    }
}
