//! What lasts beyond its writer: the entries of the ledger.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, Pool};
use serde::{Deserialize, Serialize};

use super::{pack, unpack};
use crate::cluster::ledger::{Admission, Claim as Present};
use crate::model::{NetworkId, NetworkOption, NetworkOptions, NetworkSpec, NodeId, NodeIndex, Vni};

const NETWORK: u16 = 1;
const NETWORK_DELETED: u16 = 2;
const ADMITTED: u16 = 3;
const LEFT: u16 = 4;
const REMOVED: u16 = 5;
const MANAGER: u16 = 6;
const AUTHORITY: u16 = 7;

/// One entry of the ledger. A kind that is not known is kept and passed on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::cluster) struct Claim {
    /// Which kind; one that was used is never given to another.
    pub kind: u16,
    /// What is claimed, in the kind's own encoding.
    pub value: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Network {
    id: [u8; 8],
    name: String,
    vni: u32,
    subnets: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
    pools: Vec<(String, IpAddr, IpAddr)>,
    reserved: Vec<(IpAddr, IpAddr)>,
    block_size: Option<u64>,
    /// By name, as a person writes them; those that are left to others are left out.
    options: Vec<(String, String)>,
    created_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Admitted {
    node: [u8; 16],
    name: String,
    index: u32,
    address: SocketAddr,
    term: u64,
    /// SHA-256 of the node's public key, as DER (RFC 5280 section 4.1.2.7).
    key: Option<[u8; 32]>,
}

pub(super) fn subnet((ip, prefix): (IpAddr, u8)) -> Option<IpNetwork> {
    IpNetwork::new(ip, prefix).ok()
}

pub(super) fn pool((service, first, last): (String, IpAddr, IpAddr)) -> Option<Pool> {
    Some(Pool { service, range: AddrRange::new(first, last).ok()? })
}

pub(super) fn range((first, last): (IpAddr, IpAddr)) -> Option<AddrRange> {
    AddrRange::new(first, last).ok()
}

impl Network {
    fn of(spec: &NetworkSpec) -> Self {
        let NetworkSpec { id, name, vni, subnets, gateways, pools, reserved, block_size, .. } = spec;
        let NetworkSpec { options, created_ms, .. } = spec;
        let told = |option: &NetworkOption| Some((option.name.to_owned(), option.get(options)?));
        Self {
            id: *id.as_bytes(),
            name: name.to_string(),
            vni: (*vni).into(),
            subnets: subnets.iter().map(|net| (net.ip(), net.prefix())).collect(),
            gateways: gateways.clone(),
            pools: pools.iter().map(|p| (p.service.clone(), p.range.first(), p.range.last())).collect(),
            reserved: reserved.iter().map(|range| (range.first(), range.last())).collect(),
            block_size: *block_size,
            options: NetworkOptions::ALL.iter().filter_map(told).collect(),
            created_ms: *created_ms,
        }
    }

    fn present(self) -> Option<NetworkSpec> {
        let mut options = NetworkOptions::default();
        // An option that is not known here is one that this version cannot keep to: another one has to.
        for (name, text) in &self.options {
            NetworkOptions::find(name)?.set(&mut options, text).ok()?;
        }
        options.check().ok()?;
        Some(NetworkSpec {
            id: NetworkId::from_bytes(self.id),
            name: self.name.parse().ok()?,
            vni: Vni::try_from(self.vni).ok()?,
            subnets: self.subnets.into_iter().map(subnet).collect::<Option<_>>()?,
            gateways: self.gateways,
            pools: self.pools.into_iter().map(pool).collect::<Option<_>>()?,
            reserved: self.reserved.into_iter().map(range).collect::<Option<_>>()?,
            block_size: self.block_size,
            options,
            created_ms: self.created_ms,
        })
    }
}

impl Claim {
    /// As it is on the wire.
    pub fn of(claim: &Present) -> Self {
        let (kind, value) = match claim {
            Present::Network(spec) => (NETWORK, pack(&Network::of(spec))),
            Present::NetworkDeleted(id) => (NETWORK_DELETED, pack(id.as_bytes())),
            Present::Admitted(admission) => {
                let Admission { node, name, index, address, term, key } = admission;
                let (node, name) = (*node.as_bytes(), name.to_string());
                let admitted =
                    Admitted { node, name, index: index.0, address: *address, term: *term, key: *key };
                (ADMITTED, pack(&admitted))
            }
            Present::Left(node) => (LEFT, pack(node.as_bytes())),
            Present::Removed(node) => (REMOVED, pack(node.as_bytes())),
            Present::Manager { term, node } => (MANAGER, pack(&(*term, node.as_bytes()))),
            Present::Authority { term, certificate } => (AUTHORITY, pack(&(*term, certificate))),
            Present::Foreign(claim) => (claim.kind, claim.value.clone()),
        };
        Self { kind, value }
    }

    /// What people call its kind, where it is known.
    pub fn name(&self) -> Option<&'static str> {
        Some(match self.kind {
            NETWORK => "network",
            NETWORK_DELETED => "network deleted",
            ADMITTED => "admitted",
            LEFT => "left",
            REMOVED => "removed",
            MANAGER => "manager",
            AUTHORITY => "authority",
            _ => return None,
        })
    }

    /// What it says. What makes no sense here is carried along like a kind that is not known: a later version may have
    /// said more than this one can read.
    pub fn present(self) -> Present {
        self.read().unwrap_or(Present::Foreign(self))
    }

    fn read(&self) -> Option<Present> {
        let node = |bytes: &[u8]| unpack(bytes).map(NodeId::from_bytes);
        Some(match self.kind {
            NETWORK => Present::Network(unpack::<Network>(&self.value)?.present()?),
            NETWORK_DELETED => Present::NetworkDeleted(NetworkId::from_bytes(unpack(&self.value)?)),
            ADMITTED => {
                let Admitted { node, name, index, address, term, key } = unpack(&self.value)?;
                Present::Admitted(Admission {
                    node: NodeId::from_bytes(node),
                    name: name.parse().ok()?,
                    index: NodeIndex(index),
                    address,
                    term,
                    key,
                })
            }
            LEFT => Present::Left(node(&self.value)?),
            REMOVED => Present::Removed(node(&self.value)?),
            MANAGER => {
                let (term, node) = unpack(&self.value)?;
                Present::Manager { term, node: NodeId::from_bytes(node) }
            }
            AUTHORITY => {
                let (term, certificate) = unpack(&self.value)?;
                Present::Authority { term, certificate }
            }
            _ => return None,
        })
    }
}
