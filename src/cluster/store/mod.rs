//! What the cluster must remember across a crash, under `cluster/` in the state.
//!
//! What travels is kept in the encoding in which it travels (`v2`), which never changes; the rest in JSON.

mod schema;
mod v1;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::authority::StoredAuthority;
use super::core::{Cleared, Persist};
use super::facts::{FactKey, Incarnation, Kind, Record, Stamp};
use super::gossip_key::GossipKey;
use super::kinds::NodeFact;
use super::ledger::{Claim, Ledger};
use super::run::Run;
use super::v2::{self, Stands};
use super::{ClusterError, pki};
use crate::model::{Loan, LoanNumber, NodeId, NodeIndex, NodeName};
use crate::state::{Batch, State, StateError};

pub use schema::adopt;

const PREFIX: &str = "cluster/";
const IDENTITY: &str = "cluster/identity";
const INCARNATION: &str = "cluster/incarnation";
const KEYS: &str = "cluster/keys";
const AUTHORITY: &str = "cluster/authority";
const LEDGER: &str = "cluster/ledger/";
const ROTATED: &str = "cluster/rotated";
const PEERS: &str = "cluster/node/";
const RECORDS: &str = "cluster/record/";
const PENDING: &str = "cluster/joining";
const OWED: &str = "cluster/owed/";
const LEAVING: &str = "cluster/leaving";
const MACHINE: &str = "cluster/machine";
const LENT: &str = "cluster/lent/";
const CLEARED: &str = "cluster/cleared";

/// Who this node is in its cluster.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Enrolment {
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

/// A join that was begun: the key is kept before anybody is asked, so that one whose answer was lost, or could not be
/// kept, is taken up again.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Under which name.
    pub name: NodeName,
    /// SHA-256 of the certificate of the CA that is asked.
    pub ca: [u8; 32],
    /// The node's key, in PKCS #8.
    pub key: Vec<u8>,
}

/// An entry of the ledger as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptClaim {
    kind: u16,
    /// In base64.
    value: String,
}

/// A record as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    stamp: Stamp,
    /// In base64; `None` is a tombstone.
    value: Option<String>,
}

/// Everything that is remembered.
pub(super) struct Remembered {
    pub enrolment: Enrolment,
    pub keys: Vec<GossipKey>,
    pub ledger: Ledger,
    pub peers: BTreeMap<NodeId, NodeFact>,
    pub records: Vec<Record>,
    pub lent: BTreeMap<LoanNumber, Loan>,
    pub cleared: Cleared,
    pub authority: Option<StoredAuthority>,
}

/// Who this node is, if it belongs to a cluster.
pub(super) fn enrolment(state: &State) -> Result<Option<Enrolment>, StateError> {
    state.get(IDENTITY)
}

/// Refuses to enter a second cluster.
pub(super) fn check_free(state: &State) -> Result<(), ClusterError> {
    match enrolment(state)? {
        None => Ok(()),
        Some(found) => Err(ClusterError::AlreadyMember { name: found.name, cluster: found.cluster }),
    }
}

/// Everything that is remembered; `None` where this node belongs to no cluster.
pub(super) fn load(state: &State) -> Result<Option<Remembered>, StateError> {
    let Some(enrolment) = enrolment(state)? else { return Ok(None) };
    let mut ledger = Ledger::default();
    for (key, KeptClaim { kind, value }) in state.list::<KeptClaim>(LEDGER)? {
        let value = BASE64.decode(value.as_bytes()).map_err(|error| damaged(&key, error))?;
        // What an older release could not read and carried along means something to this one, perhaps.
        ledger.merge(v2::Claim { kind, value: value.into() }.present());
    }
    let peers = state.list::<String>(PEERS)?;
    let peers = peers.into_iter().filter_map(|(key, fact)| {
        let fact = v2::unpack::<v2::Node>(&BASE64.decode(fact.as_bytes()).ok()?)?.present()?;
        Some((key.strip_prefix(PEERS)?.parse().ok()?, fact))
    });
    let records = state.list::<Kept>(RECORDS)?;
    let records = records.into_iter().filter_map(|(key, kept)| record(&key, kept)).collect();
    let lent = state.list::<Loan>(LENT)?;
    let number = |key: &str| LoanNumber::from_str_radix(key.strip_prefix(LENT)?, 16).ok();
    let lent = lent.into_iter().filter_map(|(key, loan)| Some((number(&key)?, loan))).collect();
    Ok(Some(Remembered {
        enrolment,
        records,
        lent,
        cleared: state.get(CLEARED)?.unwrap_or_default(),
        keys: state.get(KEYS)?.unwrap_or_default(),
        ledger,
        peers: peers.collect(),
        authority: state.get(AUTHORITY)?,
    }))
}

/// Begins a new incarnation, durably, in a run that begins at `now_ms` (since 1970) on this `machine`.
pub(super) fn next_incarnation(
    state: &State,
    machine: Option<&str>,
    now_ms: u64,
) -> Result<Incarnation, StateError> {
    let last = state.get::<Incarnation>(INCARNATION)?.unwrap_or(0);
    let home = state.get::<String>(MACHINE)?;
    let away = home.as_deref().zip(machine).is_some_and(|(home, here)| home != here);
    let next = Run::new(away, now_ms, rand::random()).above(last);
    let mut batch = Batch::default();
    batch.put(INCARNATION, &next);
    if let (None, Some(machine)) = (home, machine) {
        batch.put(MACHINE, &machine);
    }
    state.write(batch)?;
    Ok(next)
}

/// From now on this is the machine that the node's identity was made on.
pub fn settle_here(state: &State, machine: Option<&str>) -> Result<(), StateError> {
    match machine {
        Some(machine) => state.put(MACHINE, &machine),
        None => state.delete(MACHINE),
    }
}

/// The key to join with: that of a join under this name, at this CA, that was begun before, or a new one.
pub(super) fn pending(state: &State, name: &NodeName, ca: [u8; 32]) -> Result<Pending, ClusterError> {
    let known = state.get::<Pending>(PENDING)?;
    if let Some(known) = known.filter(|known| known.name == *name && known.ca == ca) {
        return Ok(known);
    }
    let (key, _) = pki::new_key()?;
    let pending = Pending { name: name.clone(), ca, key };
    state.put(PENDING, &pending)?;
    Ok(pending)
}

/// Remembers a node's entry into a cluster, whole or not at all.
pub(super) fn enter(state: &State, entered: &Remembered) -> Result<(), StateError> {
    let mut batch = Batch::default();
    batch.delete(PENDING);
    for record in &entered.records {
        keep(&mut batch, record);
    }
    batch.put(IDENTITY, &entered.enrolment);
    batch.put(KEYS, &entered.keys);
    if let Some(authority) = &entered.authority {
        batch.put(AUTHORITY, authority);
    }
    for claim in entered.ledger.claims() {
        let (at, kept) = kept_claim(&claim);
        batch.put(at, &kept);
    }
    for (node, fact) in &entered.peers {
        let (at, kept) = kept_peer(*node, fact);
        batch.put(at, &kept);
    }
    state.write(batch)
}

/// When the manager last made a gossip key on its own account, in milliseconds since 1970.
pub(super) fn last_rotated(state: &State) -> Result<Option<u64>, StateError> {
    state.get(ROTATED)
}

/// Remembers when that was.
pub(super) fn rotated(state: &State, now_ms: u64) -> Result<(), StateError> {
    state.put(ROTATED, &now_ms)
}

fn owed_at(node: NodeId) -> String {
    format!("{OWED}{node}")
}

/// The nodes that left and have the gossip keys that are good now.
pub(super) fn owed(state: &State) -> Result<Vec<NodeId>, StateError> {
    let owed = state.list::<()>(OWED)?;
    Ok(owed.into_iter().filter_map(|(key, ())| key.strip_prefix(OWED)?.parse().ok()).collect())
}

/// Remembers that keys were made which these do not have.
pub(super) fn paid(state: &State, nodes: &[NodeId]) -> Result<(), StateError> {
    let mut batch = Batch::default();
    nodes.iter().for_each(|node| batch.delete(owed_at(*node)));
    state.write(batch)
}

/// Remembers the address that the others use from now on.
pub(super) fn moved(state: &State, address: SocketAddr) -> Result<(), StateError> {
    match enrolment(state)? {
        Some(enrolment) => state.put(IDENTITY, &Enrolment { address, ..enrolment }),
        None => Ok(()),
    }
}

/// Remembers what the core wants remembered.
pub(super) fn save(state: &State, changes: &[Persist]) -> Result<(), StateError> {
    let mut batch = Batch::default();
    let mut owing = BTreeSet::new();
    for change in changes {
        match change {
            Persist::Claim(claim) => {
                match claim {
                    Claim::NetworkDeleted(id) => batch.delete(format!("{LEDGER}network/{id}")),
                    Claim::Removed(node) => batch.delete(format!("{PEERS}{node}")),
                    _ => {}
                }
                let (at, kept) = kept_claim(claim);
                batch.put(at, &kept);
            }
            Persist::Keys(keys) => batch.put(KEYS, keys),
            Persist::Peer(node, fact) => {
                let (at, kept) = kept_peer(*node, fact);
                batch.put(at, &kept);
            }
            Persist::Incarnation(incarnation) => batch.put(INCARNATION, incarnation),
            Persist::Authority(authority) => batch.put(AUTHORITY, authority),
            Persist::SteppedDown => batch.delete(AUTHORITY),
            Persist::Rotated(now_ms) => batch.put(ROTATED, now_ms),
            Persist::Record(record) => keep(&mut batch, record),
            Persist::Forget(key) => batch.delete(kept_at(key)),
            Persist::Lent(number, loan) => batch.put(lent_at(*number), loan),
            Persist::Cleared(cleared) => batch.put(CLEARED, cleared),
            Persist::TakenBack(number) => batch.delete(lent_at(*number)),
            Persist::Owed(node) => {
                owing.insert(*node);
                batch.put(owed_at(*node), &());
            }
            Persist::Paid => {
                for node in owed(state)?.into_iter().chain(std::mem::take(&mut owing)) {
                    batch.delete(owed_at(node));
                }
            }
        }
    }
    state.write(batch)
}

/// Where a loan is kept.
fn lent_at(number: LoanNumber) -> String {
    format!("{LENT}{number:016x}")
}

/// Where an entry of the ledger is kept, and as what.
fn kept_claim(claim: &Claim) -> (String, KeptClaim) {
    let v2::Claim { kind, value } = v2::Claim::of(claim);
    (format!("{LEDGER}{}", claim.key()), KeptClaim { kind, value: BASE64.encode(&value) })
}

/// Where what a node says of itself is kept, and as what.
fn kept_peer(node: NodeId, fact: &NodeFact) -> (String, String) {
    (format!("{PEERS}{node}"), BASE64.encode(&v2::pack(&v2::Node::of(fact))))
}

fn damaged(key: &str, error: impl std::fmt::Display) -> StateError {
    StateError::Entry { key: key.to_owned(), source: serde::de::Error::custom(error) }
}

/// Where a record is kept.
fn kept_at(key: &FactKey) -> String {
    format!("{RECORDS}{}/{}", key.kind.0, HEXLOWER.encode(&key.key))
}

fn keep(batch: &mut Batch, record: &Record) {
    let value = record.value.as_ref().map(|value| BASE64.encode(value));
    batch.put(kept_at(&record.key), &Kept { stamp: record.stamp, value });
}

fn record(at: &str, kept: Kept) -> Option<Record> {
    let (kind, key) = at.strip_prefix(RECORDS)?.split_once('/')?;
    let key = FactKey { kind: Kind(kind.parse().ok()?), key: HEXLOWER.decode(key.as_bytes()).ok()?.into() };
    let value = match kept.value {
        Some(value) => Some(BASE64.decode(value.as_bytes()).ok()?.into()),
        None => None,
    };
    Some(Record { key, stamp: kept.stamp, value })
}

/// Remembers that this node is about to leave: from then on it does, whatever comes between.
pub(super) fn begin_to_leave(state: &State) -> Result<(), StateError> {
    state.put(LEAVING, &())
}

/// Whether it was about to leave.
pub(super) fn was_leaving(state: &State) -> Result<bool, StateError> {
    Ok(state.get::<()>(LEAVING)?.is_some())
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
