//! Datagrams under the cluster's gossip key: sealing, opening, several keys during a rotation.
//!
//! Owns: the format of a sealed datagram and which keys are good now. Does not own: what is inside (`wire`),
//! how keys reach the nodes (`core`), where they are kept (`store`).
//!
//! A sealed datagram, all numbers big-endian:
//!
//! ```text
//! format 1 B | version 1 B | lowest 1 B | highest 1 B | key id 4 B | sender 16 B | nonce 12 B
//!     | ChaCha20-Poly1305(incarnation, sequence, body) | tag 16 B
//! ```
//!
//! The version is that of the body, lowest and highest are what the sender speaks: that much anybody can read, of
//! whatever version, so that each side knows which of the two to upgrade.
//! The clear part before the nonce is authenticated too (RFC 8439 section 2.8, as additional data). Each sender has a
//! key of its own, derived from the gossip key and its id, so that random nonces suffice: docs/decisions/cluster.md.

pub(super) mod replays;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ring::aead::{Aad, LessSafeKey, Nonce};
use ring::rand::{SecureRandom, SystemRandom};

use super::facts::Incarnation;
use super::gossip_key::GossipKey;
use super::version::Protocols;
use crate::mesh::MeshSecret;
use crate::model::NodeId;

const FORMAT: u8 = 2;
const HEAD: usize = 4;
const CLEAR: usize = HEAD + 4 + 16;
const NONCE: usize = 12;
const TAG: usize = 16;
/// Incarnation and sequence, at their longest.
const INNER: usize = 10 + 10;

/// How many bytes sealing adds, at most.
pub(super) const OVERHEAD: usize = CLEAR + NONCE + TAG + INNER;

/// How long a key is still accepted after a newer one took its place in sending.
const ACCEPT_OLD: Duration = Duration::from_secs(60);

/// Why a datagram was dropped before anything in it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenError {
    /// Too short, or of another format.
    Malformed,
    /// Of a version that is not spoken here, by a node that speaks these.
    Version(Protocols),
    /// Sealed with a key that is not known here.
    UnknownKey,
    /// Does not open with the key it names.
    Tampered,
}

/// What was in a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    /// The node whose key sealed it. Every node of the cluster could have done so.
    pub sender: NodeId,
    /// What it speaks.
    pub protocols: Protocols,
    /// Which start of its agent.
    pub incarnation: Incarnation,
    /// Counts its datagrams in that incarnation.
    pub sequence: u64,
    /// The message.
    pub body: Vec<u8>,
}

struct Held {
    key: GossipKey,
    /// Since when, by the caller's clock; `None` for those it began with.
    since: Option<Duration>,
    senders: BTreeMap<NodeId, LessSafeKey>,
}

/// The keys that are good now.
pub(super) struct Keyring {
    me: NodeId,
    /// What this node speaks.
    protocols: Protocols,
    /// The public keys of the CAs: one of them signs every gossip key.
    authorities: BTreeSet<Vec<u8>>,
    /// By epoch, then id: also where two managers made one of the same epoch, all nodes prefer the same.
    held: BTreeMap<(u32, [u8; 4]), Held>,
    /// How long a new key waits for the others to have it before it is used for sending.
    settle: Duration,
    sequence: u64,
    random: SystemRandom,
}

impl Keyring {
    /// The keys that a node starts with, the newest of which it sends with.
    pub fn new(me: NodeId, ca: Vec<u8>, keys: impl IntoIterator<Item = GossipKey>, settle: Duration) -> Self {
        let held = keys
            .into_iter()
            .map(|key| ((key.epoch, key.id()), Held { key, since: None, senders: BTreeMap::new() }))
            .collect();
        let (protocols, random) = (Protocols::SPOKEN, SystemRandom::new());
        Self { me, protocols, authorities: [ca].into(), held, settle, sequence: 0, random }
    }

    /// Of a node that speaks these versions.
    pub fn speaking(self, protocols: Protocols) -> Self {
        Self { protocols, ..self }
    }

    /// Takes keys from now on that the CA with this public key signed.
    pub fn trust(&mut self, authority: Vec<u8>) {
        self.authorities.insert(authority);
    }

    /// Takes a key; `true` where it was not known. One that no CA signed is not taken, nor one that is older
    /// than all that are held or void by one of them. Those that it makes void are forgotten at once.
    pub fn learn(&mut self, key: GossipKey, now: Duration) -> bool {
        if !self.takes(&key) {
            return false;
        }
        let at = (key.epoch, key.id());
        self.held.insert(at, Held { key, since: Some(now), senders: BTreeMap::new() });
        let floor = self.floor();
        self.held.retain(|(epoch, _), _| *epoch >= floor);
        true
    }

    fn takes(&self, key: &GossipKey) -> bool {
        let at = (key.epoch, key.id());
        let outdated = self.held.first_key_value().is_some_and(|(oldest, _)| at < *oldest);
        !outdated
            && key.epoch >= self.floor()
            && !self.held.contains_key(&at)
            && self.authorities.iter().any(|authority| key.is_genuine(authority))
    }

    /// What [`keys`](Self::keys) will be once this key is taken; `None` where it would not be.
    pub fn with(&self, key: &GossipKey) -> Option<Vec<GossipKey>> {
        let floor = self.floor().max(key.floor.min(key.epoch));
        let good = |held: &GossipKey| held.epoch >= floor;
        let mut keys: Vec<_> = self.keys().into_iter().filter(good).collect();
        keys.push(key.clone());
        keys.sort_by_key(|key| (key.epoch, key.id()));
        self.takes(key).then_some(keys)
    }

    /// Keys of a lower epoch are void.
    pub fn floor(&self) -> u32 {
        // A floor above its own epoch would leave no key at all.
        self.held.values().map(|held| held.key.floor.min(held.key.epoch)).max().unwrap_or(0)
    }

    /// The secret of the mesh that goes with the newest key.
    pub fn mesh(&self) -> Option<MeshSecret> {
        self.held.last_key_value().map(|(_, held)| held.key.mesh())
    }

    /// Forgets the keys whose time is over; `true` where there were any.
    pub fn expire(&mut self, now: Duration) -> bool {
        let Some(sending) = self.sending(now) else { return false };
        let taken_up = self.held.get(&sending).and_then(|held| held.since).map(|since| since + self.settle);
        let before = self.held.len();
        if taken_up.is_none_or(|since| now > since + ACCEPT_OLD) {
            self.held.retain(|at, _| *at >= sending);
        }
        self.held.len() != before
    }

    /// Every key.
    pub fn keys(&self) -> Vec<GossipKey> {
        self.held.values().map(|held| held.key.clone()).collect()
    }

    /// The epoch of the newest key.
    pub fn newest(&self) -> u32 {
        self.held.last_key_value().map_or(0, |((epoch, _), _)| *epoch)
    }

    /// A number that is equal where the newest key is.
    pub fn fingerprint(&self) -> u64 {
        self.held
            .last_key_value()
            .map_or(0, |((epoch, id), _)| u64::from(*epoch) << 32 | u64::from(u32::from_be_bytes(*id)))
    }

    /// Seals `body`, which is of this version of the protocol, for whoever has the key.
    pub fn seal(
        &mut self,
        version: u8,
        incarnation: Incarnation,
        body: &[u8],
        now: Duration,
    ) -> Option<Vec<u8>> {
        let at = self.sending(now)?;
        let (me, held) = (self.me, self.held.get_mut(&at)?);
        self.sequence += 1;
        let mut clear = [0; CLEAR];
        clear[..HEAD].copy_from_slice(&[FORMAT, version, self.protocols.lowest, self.protocols.highest]);
        clear[HEAD..HEAD + 4].copy_from_slice(&at.1);
        clear[HEAD + 4..].copy_from_slice(me.as_bytes());
        let mut nonce = [0; NONCE];
        self.random.fill(&mut nonce).ok()?;
        let mut inner = postcard::to_stdvec(&(incarnation, self.sequence)).ok()?;
        inner.extend_from_slice(body);
        let key = match held.senders.entry(me) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(held.key.of_sender(me)?),
        };
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(clear), &mut inner)
            .ok()?;
        Some([&clear[..], &nonce, &inner].concat())
    }

    /// Opens a datagram.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Opened, OpenError> {
        let (clear, rest) = datagram.split_at_checked(CLEAR).ok_or(OpenError::Malformed)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(OpenError::Malformed)?;
        let [format, version, lowest, highest, ..] = *clear else { return Err(OpenError::Malformed) };
        if format != FORMAT || sealed.len() <= TAG || lowest > highest {
            return Err(OpenError::Malformed);
        }
        let protocols = Protocols { lowest, highest };
        if !(self.protocols.lowest..=self.protocols.highest).contains(&version) {
            return Err(OpenError::Version(protocols));
        }
        let held = self
            .held
            .iter_mut()
            .rev()
            .find(|((_, id), _)| id == &clear[HEAD..HEAD + 4])
            .map(|(_, held)| held)
            .ok_or(OpenError::UnknownKey)?;
        let sender: [u8; 16] = clear[HEAD + 4..].try_into().map_err(|_| OpenError::Malformed)?;
        let sender = NodeId::from_bytes(sender);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Malformed)?;
        let mut sealed = sealed.to_vec();
        // A key is kept only once something opened with it, so made-up senders take no memory.
        let fresh = if held.senders.contains_key(&sender) { None } else { held.key.of_sender(sender) };
        let key = fresh.as_ref().or_else(|| held.senders.get(&sender)).ok_or(OpenError::Malformed)?;
        let opened =
            key.open_in_place(nonce, Aad::from(clear), &mut sealed).map_err(|_| OpenError::Tampered)?;
        let ((incarnation, sequence), body) =
            postcard::take_from_bytes(opened).map_err(|_| OpenError::Malformed)?;
        let opened = Opened { sender, protocols, incarnation, sequence, body: body.to_vec() };
        if let Some(key) = fresh {
            held.senders.insert(sender, key);
        }
        Ok(opened)
    }

    fn sending(&self, now: Duration) -> Option<(u32, [u8; 4])> {
        let settled = |held: &Held| held.since.is_none_or(|since| now >= since + self.settle);
        self.held
            .iter()
            .rev()
            .find(|(_, held)| settled(held))
            .or_else(|| self.held.first_key_value())
            .map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::testing::{Ca, ca};

    const A: NodeId = NodeId::from_bytes([1; 16]);
    const B: NodeId = NodeId::from_bytes([2; 16]);
    const SETTLE: Duration = Duration::from_secs(2);

    fn pair_of(ca: &Ca) -> (Keyring, Keyring) {
        let (key, public) = (ca.gossip_key(1, 1), ca.public_key());
        (Keyring::new(A, public.clone(), [key.clone()], SETTLE), Keyring::new(B, public, [key], SETTLE))
    }

    fn pair() -> (Keyring, Keyring) {
        pair_of(&ca())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_one_node_seals_another_opens() {
        let (mut a, mut b) = pair();
        let sealed = a.seal(2, 7, b"hello", at(0)).unwrap();
        assert!(sealed.len() <= 5 + OVERHEAD);
        let opened = b.open(&sealed).unwrap();
        let protocols = Protocols::SPOKEN;
        assert_eq!(
            opened,
            Opened { sender: A, protocols, incarnation: 7, sequence: 1, body: b"hello".to_vec() }
        );
        assert!(!sealed.windows(5).any(|part| part == b"hello"));
    }

    #[test]
    fn a_datagram_that_was_changed_anywhere_or_cut_does_not_open() {
        let (mut a, mut b) = pair();
        let sealed = a.seal(2, 1, b"hello", at(0)).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x40;
            let want = match at {
                0 | 2 => OpenError::Malformed,
                1 => OpenError::Version(Protocols::SPOKEN),
                4..8 => OpenError::UnknownKey,
                _ => OpenError::Tampered,
            };
            assert_eq!(b.open(&changed), Err(want), "byte {at}");
        }
        for len in 0..sealed.len() {
            assert!(b.open(&sealed[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_datagram_of_another_cluster_is_under_an_unknown_key() {
        let (mut a, _) = pair();
        let (_, mut stranger) = pair();
        assert_eq!(stranger.open(&a.seal(2, 1, b"x", at(0)).unwrap()), Err(OpenError::UnknownKey));
    }

    #[test]
    fn during_a_rotation_both_keys_open_and_afterwards_only_the_new_one() {
        let ca = ca();
        let (mut a, mut b) = pair_of(&ca);
        let old = a.seal(2, 1, b"old", at(0)).unwrap();
        let new = ca.gossip_key(2, 1);
        assert!(a.learn(new.clone(), at(10)));
        assert!(!a.learn(new.clone(), at(10)));
        // Until the key has settled the sender goes on with the one that all have.
        assert!(b.open(&a.seal(2, 1, b"x", at(11)).unwrap()).is_ok());
        assert_eq!(b.open(&a.seal(2, 1, b"x", at(13)).unwrap()), Err(OpenError::UnknownKey));
        assert!(b.learn(new, at(13)));
        assert!(b.open(&a.seal(2, 1, b"x", at(13)).unwrap()).is_ok());
        assert!(b.open(&old).is_ok());
        assert!(!b.expire(at(60)));
        assert!(b.expire(at(13 + 2 + 61)));
        assert_eq!(b.open(&old), Err(OpenError::UnknownKey));
        assert!(!b.learn(a.keys()[0].clone(), at(80)), "an outdated key came back");
    }

    #[test]
    fn a_key_that_makes_others_void_is_sent_with_at_once_and_the_others_do_not_open_any_more() {
        let ca = ca();
        let (mut a, mut b) = pair_of(&ca);
        let old = a.seal(2, 1, b"old", at(0)).unwrap();
        assert!(b.learn(ca.gossip_key(2, 2), at(1)));
        assert_eq!(b.open(&old), Err(OpenError::UnknownKey));
        assert!(!b.learn(a.keys()[0].clone(), at(1)), "a void key came back");
        let new = b.seal(2, 1, b"new", at(1)).unwrap();
        assert_eq!(a.open(&new), Err(OpenError::UnknownKey));
        // Whoever missed that one learns it from a later one.
        assert!(a.learn(ca.gossip_key(3, 2), at(2)));
        assert_eq!(a.keys().len(), 1);
        assert_eq!(a.open(&old), Err(OpenError::UnknownKey));
    }

    #[test]
    fn a_key_that_the_ca_did_not_sign_is_not_taken() {
        let (_, mut b) = pair();
        assert!(!b.learn(ca().gossip_key(9, 9), at(1)));
        assert_eq!(b.newest(), 1);
    }

    proptest! {
        #[test]
        fn random_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
            let (_, mut b) = pair();
            prop_assert!(b.open(&bytes).is_err());
            prop_assert!(b.held.values().all(|held| held.senders.is_empty()));
        }
    }
}
