//! What every writer publishes, versioned per writer: documents, deltas and digests.
//!
//! Owns: the shape of facts, how a document changes, and how one copy of it catches up with another. Does not
//! own: who may see what (`core`), how it travels (`wire`), what lasts beyond its writer (`ledger`).
//!
//! A writer publishes one document for everybody (scope [`Scope::Node`]) and one for each network it takes part
//! in. All of its documents draw their versions from one counter, so that of any two of its changes it is known
//! which came later. A start of the agent is a new incarnation, which beats every version of an older one.

mod doc;
mod store;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::mesh::MAX_LIVE;
use crate::model::{
    Endpoint, EndpointName, Group, MeshKey, NetworkId, NodeId, NodeIndex, NodeName, ZeroconfFact, ZeroconfKey,
};

pub(super) use doc::{Applied, Doc};
pub(super) use store::{Change, FactStore};

/// Which start of its agent a writer is in; counted durably, so that it only grows.
pub(super) type Incarnation = u64;

/// A place in the sequence of a writer's changes, from 1 in each incarnation.
pub(super) type Version = u64;

/// The most bytes that one document may take when it is encoded.
pub(super) const MAX_DOC_BYTES: usize = 3 << 20;

/// The most bytes of a document that its zeroconf facts may take when they are encoded.
pub(super) const MAX_ZEROCONF_BYTES: usize = 1 << 20;

/// Whom a document concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Scope {
    /// Everybody.
    Node,
    /// The nodes that take part in a network.
    Network(NetworkId),
}

/// What a fact is about, within its document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum FactKey {
    /// The writer itself.
    Node,
    /// One of its endpoints.
    Endpoint(EndpointName),
    /// A multicast group.
    Group(Group),
    /// A name of mDNS.
    Zeroconf(ZeroconfKey),
}

/// What is said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fact {
    /// The writer itself.
    Node(NodeFact),
    /// One of its endpoints.
    Endpoint(Endpoint),
    /// A group has a member on the writer's node.
    Joined,
    /// What one of the writer's endpoints announces, or what is announced for it.
    Zeroconf(ZeroconfFact),
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeFact {
    /// Its name.
    pub name: NodeName,
    /// Its index.
    pub index: NodeIndex,
    /// Where it listens, UDP and TCP.
    pub address: SocketAddr,
    /// Where its VXLAN packets come from.
    pub vtep: IpAddr,
    /// The largest packet its underlay carries, in bytes.
    pub underlay_mtu: u32,
    /// The networks it takes part in.
    pub networks: BTreeSet<NetworkId>,
    /// The keys under which it can be reached in the WireGuard mesh.
    #[serde(default)]
    pub mesh: Vec<MeshKey>,
}

/// One line of a digest: how far a copy of a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Whose document.
    pub writer: NodeId,
    /// Which start of its writer; 0 where nothing is known.
    pub incarnation: Incarnation,
    /// The highest version in it.
    pub version: Version,
}

/// A fact, or that there is none any more, with the version that made it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// What it is about.
    pub key: FactKey,
    /// Since which version.
    pub version: Version,
    /// The fact; `None` is a tombstone.
    pub value: Option<Fact>,
}

/// What brings a copy of a document from version `base` to `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delta {
    /// Whose document.
    pub writer: NodeId,
    /// Which of its documents.
    pub scope: Scope,
    /// Which start of its writer.
    pub incarnation: Incarnation,
    /// The lowest version of a copy that this can be applied to; 0 means that it is the whole document.
    pub base: Version,
    /// The version that the copy has afterwards.
    pub version: Version,
    /// The changes after `base`; of a whole document, all facts and no tombstone.
    pub entries: Vec<Entry>,
}

impl Delta {
    /// Whether its parts fit each other, as far as one can see without the document.
    pub(super) fn is_sound(&self) -> bool {
        self.base <= self.version
            && self.entries.iter().all(|entry| {
                let fits = match (&entry.key, &entry.value) {
                    (FactKey::Node, Some(Fact::Node(fact))) => {
                        self.scope == Scope::Node && fact.mesh.len() <= MAX_LIVE
                    }
                    (FactKey::Endpoint(name), Some(Fact::Endpoint(endpoint))) => {
                        *name == endpoint.name && self.scope != Scope::Node
                    }
                    (FactKey::Zeroconf(key), Some(Fact::Zeroconf(fact))) => {
                        fact.is_sound(key) && self.scope != Scope::Node
                    }
                    (FactKey::Node, None) => self.scope == Scope::Node,
                    (FactKey::Group(_), Some(Fact::Joined))
                    | (FactKey::Endpoint(_) | FactKey::Group(_) | FactKey::Zeroconf(_), None) => {
                        self.scope != Scope::Node
                    }
                    (_, Some(_)) => false,
                };
                fits && entry.version > self.base && entry.version <= self.version
            })
    }
}
