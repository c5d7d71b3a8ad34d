//! What release 0.1.0 kept of a cluster, in shapes of its own that never change. Read once.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, Pool};
use serde::Deserialize;

use super::{kept_claim, kept_peer};
use crate::cluster::kinds::NodeFact;
use crate::cluster::ledger::{Admission, Claim};
use crate::model::{
    MeshKey, NetworkId, NetworkName, NetworkOptions, NetworkSpec, NodeId, NodeIndex, NodeName, Vni,
};
use crate::state::{Batch, State, StateError};

const CLAIMS: &str = "cluster/claim/";
const PEERS: &str = "cluster/peer/";

#[derive(Deserialize)]
enum OldClaim {
    Network(Box<OldNetwork>),
    NetworkDeleted(NetworkId),
    Admitted(OldAdmission),
    Left(NodeId),
    Removed(NodeId),
    Manager { term: u64, node: NodeId },
    Authority { term: u64, certificate: Vec<u8> },
}

#[derive(Deserialize)]
struct OldAdmission {
    node: NodeId,
    name: NodeName,
    index: NodeIndex,
    address: SocketAddr,
    #[serde(default)]
    term: u64,
}

#[derive(Deserialize)]
struct OldNetwork {
    id: NetworkId,
    name: NetworkName,
    vni: Vni,
    subnets: Vec<IpNetwork>,
    gateways: Vec<IpAddr>,
    pools: Vec<Pool>,
    reserved: Vec<AddrRange>,
    block_size: Option<u64>,
    mtu: Option<u32>,
    multicast: String,
    broadcast: String,
    zeroconf: String,
    encrypt: String,
    spoofing: String,
    dns: OldDns,
    created_ms: u64,
}

#[derive(Deserialize)]
struct OldDns {
    forward: String,
    ttl: Option<u32>,
}

#[derive(Deserialize)]
struct OldNode {
    name: NodeName,
    index: NodeIndex,
    address: SocketAddr,
    vtep: IpAddr,
    underlay_mtu: u32,
    networks: BTreeSet<NetworkId>,
    #[serde(default)]
    mesh: Vec<MeshKey>,
}

/// Puts what there is in its present shape in its present place.
///
/// # Errors
/// Something cannot be read: which.
pub(super) fn convert(state: &State, batch: &mut Batch) -> Result<(), StateError> {
    for (key, claim) in state.list::<OldClaim>(CLAIMS)? {
        let damaged =
            |why: String| StateError::Entry { key: key.clone(), source: serde::de::Error::custom(why) };
        let claim = claim.present().map_err(damaged)?;
        let (at, kept) = kept_claim(&claim);
        batch.put(at, &kept);
        batch.delete(key);
    }
    for (key, node) in state.list::<OldNode>(PEERS)? {
        if let Some(Ok(id)) = key.strip_prefix(PEERS).map(str::parse) {
            let (at, kept) = kept_peer(id, &node.present());
            batch.put(at, &kept);
        }
        batch.delete(key);
    }
    Ok(())
}

impl OldClaim {
    fn present(self) -> Result<Claim, String> {
        Ok(match self {
            Self::Network(network) => Claim::Network(network.present()?),
            Self::NetworkDeleted(id) => Claim::NetworkDeleted(id),
            Self::Admitted(OldAdmission { node, name, index, address, term }) => {
                Claim::Admitted(Admission { term, node, name, index, address, key: None })
            }
            Self::Left(node) => Claim::Left(node),
            Self::Removed(node) => Claim::Removed(node),
            Self::Manager { term, node } => Claim::Manager { term, node },
            Self::Authority { term, certificate } => Claim::Authority { term, certificate },
        })
    }
}

impl OldNetwork {
    fn present(self) -> Result<NetworkSpec, String> {
        let mut options = NetworkOptions::default();
        let number = |number: Option<u32>| number.map_or_else(|| "auto".to_owned(), |n| n.to_string());
        for (name, text) in [
            ("mtu", number(self.mtu)),
            ("multicast", self.multicast),
            ("broadcast", self.broadcast),
            ("zeroconf", self.zeroconf),
            ("encrypt", self.encrypt),
            ("spoofing", self.spoofing),
            ("dns_forward", self.dns.forward),
            ("dns_ttl", number(self.dns.ttl)),
        ] {
            let option = NetworkOptions::find(name).ok_or_else(|| format!("there is no option {name}"))?;
            option.set(&mut options, &text).map_err(|error| error.to_string())?;
        }
        let Self { id, name, vni, subnets, gateways, pools, reserved, block_size, created_ms, .. } = self;
        Ok(NetworkSpec { id, name, vni, subnets, gateways, pools, reserved, block_size, options, created_ms })
    }
}

impl OldNode {
    fn present(self) -> NodeFact {
        let Self { name, index, address, vtep, underlay_mtu, networks, mesh } = self;
        let (protocols, traits) = ((0, 0), Default::default());
        NodeFact { name, index, address, vtep, underlay_mtu, networks, mesh, protocols, traits }
    }
}
