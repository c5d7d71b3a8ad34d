//! A node itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack, unpack_key};
use crate::mesh::MAX_LIVE;
use crate::model::{MeshKey, NetworkId, NodeIndex, NodeName, is_label_name, is_label_value};

/// The most networks that a node takes part in.
const MAX_NETWORKS: usize = 4096;
/// The most traits that a node tells.
const MAX_TRAITS: usize = 32;
/// The smallest packet that an underlay must carry, in bytes (RFC 791 section 3.2), and the largest that there can be.
const MTU: std::ops::RangeInclusive<u32> = 576..=65_535;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct NodeFact {
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
    pub mesh: Vec<MeshKey>,
    /// The lowest and the highest version of the protocol that it speaks; (0, 0) where that is not known.
    pub protocols: (u8, u8),
    /// What it is: `kernel`, `os`, `arch`, `version` and the like, with what each is.
    pub traits: BTreeMap<String, String>,
}

/// What an interface with this MTU carries, in bytes: the loopback says 65,536, and no packet is that long.
pub(in crate::cluster) fn carried(mtu: u32) -> u32 {
    mtu.min(*MTU.end())
}

/// What a node says of itself, to everybody. There is one.
pub(in crate::cluster) struct NodeKind;

impl FactKind for NodeKind {
    const KIND: Kind = Kind(1);
    const NAME: &'static str = "node";
    const LIMITS: Limits = Limits { value: 64 << 10, entries: 1, bytes: 128 << 10 };
    type About = About;
    type Key = ();
    type Value = NodeFact;
    type Shelf = Option<NodeFact>;

    fn pack_key((): &()) -> Bytes {
        pack(&())
    }

    fn read_key(bytes: &[u8]) -> Option<()> {
        unpack_key(bytes)
    }

    fn pack(fact: &NodeFact) -> Bytes {
        pack(&v2::Node::of(fact))
    }

    fn read((): &(), bytes: &[u8]) -> Option<NodeFact> {
        unpack::<v2::Node>(bytes)?.present()
    }

    fn check(about: &About, (): &(), fact: &NodeFact) -> Result<(), &'static str> {
        about.everybody()?;
        let listens = |ip: IpAddr| !(ip.is_unspecified() || ip.is_multicast());
        let told = |(key, value): (&String, &String)| is_label_name(key) && is_label_value(value);
        [
            (fact.mesh.len() <= MAX_LIVE, "it has too many keys in the mesh"),
            (fact.networks.len() <= MAX_NETWORKS, "it takes part in too many networks"),
            (fact.traits.len() <= MAX_TRAITS && fact.traits.iter().all(told), "its traits are not traits"),
            (listens(fact.address.ip()) && fact.address.port() != 0, "nobody can listen at its address"),
            (listens(fact.vtep), "no packet can come from its VTEP"),
            (MTU.contains(&fact.underlay_mtu), "its underlay does not carry the 576 bytes that IP needs"),
            (fact.protocols.0 <= fact.protocols.1, "its protocols end before they begin"),
        ]
        .into_iter()
        .find(|(sound, _)| !sound)
        .map_or(Ok(()), |(_, why)| Err(why))
    }
}
