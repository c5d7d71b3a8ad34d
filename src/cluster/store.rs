//! What the cluster must remember across a crash, under `cluster/` in the state.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ClusterError;
use super::core::Persist;
use super::facts::{Incarnation, NodeFact};
use super::gossip_key::GossipKey;
use super::ledger::{Claim, Ledger};
use crate::model::{NodeId, NodeIndex, NodeName};
use crate::state::{Batch, State, StateError};

const PREFIX: &str = "cluster/";
const IDENTITY: &str = "cluster/identity";
const INCARNATION: &str = "cluster/incarnation";
const KEYS: &str = "cluster/keys";
const AUTHORITY: &str = "cluster/authority";
const CLAIMS: &str = "cluster/claim/";
const ROTATED: &str = "cluster/rotated";
const PEERS: &str = "cluster/peer/";

/// Who this node is in its cluster.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Membership {
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its index.
    pub index: NodeIndex,
    /// The address that the others use.
    pub address: SocketAddr,
    /// The CA's certificate, in DER.
    pub ca: Vec<u8>,
    /// The node's certificate, in DER.
    pub certificate: Vec<u8>,
    /// The node's key, in PKCS #8.
    pub key: Vec<u8>,
}

/// What makes a node the manager.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredAuthority {
    /// The CA's key, in PKCS #8.
    pub key: Vec<u8>,
    /// The secret of the token.
    pub secret: [u8; 16],
    /// SHA-256 of the secrets that were rotated out, the newest last.
    pub rotated: Vec<[u8; 32]>,
    /// Of a node that took the role over: the CA that it made.
    #[serde(default)]
    pub taken_over: Option<TakenOver>,
}

/// The CA of a node that took the manager's role over.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TakenOver {
    /// The CA's certificate, in DER.
    pub ca: Vec<u8>,
    /// This node's certificate by that CA, in DER: what it shows to those who join.
    pub certificate: Vec<u8>,
}

/// Everything that is remembered.
pub(super) struct Remembered {
    pub membership: Membership,
    pub keys: Vec<GossipKey>,
    pub ledger: Ledger,
    pub peers: BTreeMap<NodeId, NodeFact>,
    pub authority: Option<StoredAuthority>,
}

/// Who this node is, if it belongs to a cluster.
pub(super) fn membership(state: &State) -> Result<Option<Membership>, StateError> {
    state.get(IDENTITY)
}

/// Refuses to enter a second cluster.
pub(super) fn check_free(state: &State) -> Result<(), ClusterError> {
    match membership(state)? {
        None => Ok(()),
        Some(found) => Err(ClusterError::AlreadyMember { name: found.name, cluster: found.cluster }),
    }
}

/// Everything that is remembered; `None` where this node belongs to no cluster.
pub(super) fn load(state: &State) -> Result<Option<Remembered>, StateError> {
    let Some(membership) = membership(state)? else { return Ok(None) };
    let mut ledger = Ledger::default();
    for (_, claim) in state.list::<Claim>(CLAIMS)? {
        ledger.merge(claim);
    }
    let peers = state.list::<NodeFact>(PEERS)?;
    let peers =
        peers.into_iter().filter_map(|(key, fact)| Some((key.strip_prefix(PEERS)?.parse().ok()?, fact)));
    Ok(Some(Remembered {
        membership,
        keys: state.get(KEYS)?.unwrap_or_default(),
        ledger,
        peers: peers.collect(),
        authority: state.get(AUTHORITY)?,
    }))
}

/// Begins a new incarnation, durably.
pub(super) fn next_incarnation(state: &State) -> Result<Incarnation, StateError> {
    let next = state.get::<Incarnation>(INCARNATION)?.unwrap_or(0) + 1;
    state.put(INCARNATION, &next)?;
    Ok(next)
}

/// Remembers a node's entry into a cluster, whole or not at all.
pub(super) fn enter(state: &State, entered: &Remembered) -> Result<(), StateError> {
    let mut batch = Batch::default();
    batch.put(IDENTITY, &entered.membership);
    batch.put(KEYS, &entered.keys);
    if let Some(authority) = &entered.authority {
        batch.put(AUTHORITY, authority);
    }
    for claim in entered.ledger.claims() {
        batch.put(format!("{CLAIMS}{}", claim.key()), &claim);
    }
    for (node, fact) in &entered.peers {
        batch.put(format!("{PEERS}{node}"), fact);
    }
    state.write(batch)
}

/// Remembers the manager's secrets.
pub(super) fn save_authority(state: &State, authority: &StoredAuthority) -> Result<(), StateError> {
    state.put(AUTHORITY, authority)
}

/// When the manager last made a gossip key on its own account, in milliseconds since 1970.
pub(super) fn last_rotated(state: &State) -> Result<Option<u64>, StateError> {
    state.get(ROTATED)
}

/// Remembers when that was.
pub(super) fn rotated(state: &State, now_ms: u64) -> Result<(), StateError> {
    state.put(ROTATED, &now_ms)
}

/// Remembers the address that the others use from now on.
pub(super) fn moved(state: &State, address: SocketAddr) -> Result<(), StateError> {
    match membership(state)? {
        Some(membership) => state.put(IDENTITY, &Membership { address, ..membership }),
        None => Ok(()),
    }
}

/// Remembers what the core wants remembered.
pub(super) fn save(state: &State, changes: &[Persist]) -> Result<(), StateError> {
    let mut batch = Batch::default();
    for change in changes {
        match change {
            Persist::Claim(claim) => {
                match claim {
                    Claim::NetworkDeleted(id) => batch.delete(format!("{CLAIMS}network/{id}")),
                    Claim::Removed(node) => batch.delete(format!("{PEERS}{node}")),
                    _ => {}
                }
                batch.put(format!("{CLAIMS}{}", claim.key()), claim);
            }
            Persist::Keys(keys) => batch.put(KEYS, keys),
            Persist::Peer(node, fact) => batch.put(format!("{PEERS}{node}"), fact),
            Persist::Incarnation(incarnation) => batch.put(INCARNATION, incarnation),
            Persist::SteppedDown => batch.delete(AUTHORITY),
        }
    }
    state.write(batch)
}

/// Forgets the cluster.
pub(super) fn forget(state: &State) -> Result<(), StateError> {
    let mut batch = Batch::default();
    for (key, _) in state.list::<serde_json::Value>(PREFIX)? {
        // The count of starts stays: whoever comes back as the same writer must not begin again.
        if key != INCARNATION {
            batch.delete(key);
        }
    }
    state.write(batch)
}
