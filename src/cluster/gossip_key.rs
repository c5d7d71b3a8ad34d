//! The secret that all nodes share, as the manager made it.
//!
//! Owns: what a gossip key is, what follows from it, and that none but the manager can make one. Does not own: which
//! keys are good now (`seal`), how they reach the nodes (`core`).

use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::mesh::MeshSecret;
use crate::model::NodeId;

/// The secret that all nodes share. The CA signs it: a member that was removed cannot bring another one among the nodes
/// that do not know of its removal yet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GossipKey {
    /// Of two keys the one with the higher epoch is newer.
    pub epoch: u32,
    /// Keys of a lower epoch than this are void from the moment this one is known: a node that was removed has them.
    pub floor: u32,
    secret: [u8; 32],
    /// By the CA's key, over the rest: ECDSA on P-256 with SHA-256, in ASN.1.
    signature: Vec<u8>,
}

impl GossipKey {
    /// A new one. `sign` is the CA's.
    pub fn generate<E>(
        epoch: u32,
        floor: u32,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let mut key = Self { epoch, floor, secret: rand::random(), signature: Vec::new() };
        key.signature = sign(&key.signed())?;
        Ok(key)
    }

    /// Whether the CA with this public key (an uncompressed point) signed it.
    pub fn is_genuine(&self, ca: &[u8]) -> bool {
        let ca = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, ca);
        ca.verify(&self.signed(), &self.signature).is_ok()
    }

    /// What tells it apart on the wire; says nothing about the secret.
    pub fn id(&self) -> [u8; 4] {
        let mut id = [0; 4];
        id.copy_from_slice(&self.digest(b"lanmesh gossip key id")[..4]);
        id
    }

    /// The key under which a node seals its datagrams.
    pub fn of_sender(&self, sender: NodeId) -> Option<LessSafeKey> {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret));
        context.update(b"lanmesh gossip datagrams of ");
        context.update(sender.as_bytes());
        UnboundKey::new(&CHACHA20_POLY1305, context.sign().as_ref()).ok().map(LessSafeKey::new)
    }

    /// The secret of the WireGuard mesh of the same epoch.
    pub fn mesh(&self) -> MeshSecret {
        MeshSecret::derive(self.epoch, &self.secret)
    }

    /// The key by which nodes know each other's probes of the same epoch.
    pub fn probes(&self) -> ProbeKey {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.digest(b"lanmesh probes"));
        ProbeKey { id: self.id(), key }
    }

    fn signed(&self) -> Vec<u8> {
        let numbers = [self.epoch.to_be_bytes(), self.floor.to_be_bytes()].concat();
        [b"lanmesh gossip key\0", &numbers[..], &self.digest(b"lanmesh gossip key to sign")].concat()
    }

    fn digest(&self, purpose: &[u8]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(purpose);
        context.update(&self.secret);
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

/// What shows that a probe is from a node of the cluster. It follows from the gossip key, and nobody finds that by it.
#[derive(Clone)]
pub struct ProbeKey {
    id: [u8; 4],
    key: hmac::Key,
}

impl ProbeKey {
    /// What tells it apart on the wire.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// HMAC-SHA256 of `bytes` (RFC 2104).
    pub fn sign(&self, bytes: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.key, bytes).as_ref());
        tag
    }

    /// Whether it is that. Takes as long whatever the answer.
    pub fn verify(&self, bytes: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.key, bytes, tag).is_ok()
    }

    /// One that follows from this secret.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn of(secret: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = *secret;
        Self { id: [a, b, c, d], key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// One that nobody else has.
    #[cfg(test)]
    pub fn random() -> Self {
        Self::of(&rand::random())
    }
}

impl std::fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProbeKey({:02x?})", self.id)
    }
}

impl Drop for GossipKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl std::fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GossipKey(epoch {})", self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::ca;

    #[test]
    fn a_key_that_another_made_or_changed_is_not_genuine() {
        let (ours, theirs) = (ca(), ca());
        let key = ours.gossip_key(3, 2);
        assert!(key.is_genuine(&ours.public_key()));
        assert!(!key.is_genuine(&theirs.public_key()));
        let changes: [fn(&mut GossipKey); 4] = [
            |key| key.epoch = 4,
            |key| key.floor = 3,
            |key| key.secret = [1; 32],
            |key| key.signature.clear(),
        ];
        for change in changes {
            let mut key = key.clone();
            change(&mut key);
            assert!(!key.is_genuine(&ours.public_key()), "{key:?}");
        }
    }

    #[test]
    fn a_probe_is_known_by_the_key_of_its_epoch_alone() {
        let ca = ca();
        let (a, b) = (ca.gossip_key(1, 1).probes(), ca.gossip_key(2, 1).probes());
        assert_ne!(a.id(), b.id());
        let tag = a.sign(b"one");
        assert!(a.verify(b"one", &tag) && !a.verify(b"two", &tag) && !b.verify(b"one", &tag));
    }

    #[test]
    fn the_mesh_has_another_secret_in_each_epoch() {
        let ca = ca();
        let (a, b) = (ca.gossip_key(1, 1).mesh(), ca.gossip_key(2, 1).mesh());
        assert_ne!(a, b);
        assert_eq!((a.epoch().number, b.epoch().number), (1, 2));
    }
}
