//! Keys: private ones, the secret that the cluster shares, and the pre-shared keys that follow from it.

use std::fmt;

use lanmesh_model::{MeshEpoch, NodeId, PublicKey};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The private half of a WireGuard key: 32 bytes, clamped as RFC 7748 section 5 says. It never leaves the node; it is
/// overwritten when it is dropped, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct PrivateKey([u8; 32]);

impl PrivateKey {
    /// A new one.
    pub fn generate() -> Self {
        Self::from_bytes(rand::random())
    }

    /// The key that these random bytes make.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let mut key = Self(bytes);
        bytes.zeroize();
        // X25519 does so itself; WireGuard's tools show and compare the clamped form.
        key.0[0] &= 248;
        key.0[31] = key.0[31] & 127 | 64;
        key
    }

    /// The bytes, for the device.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let secret = StaticSecret::from(self.0);
        PublicKey::from_bytes(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A key that two peers have in common, on top of their own (the WireGuard paper, section 5.2): whoever learns to
/// break Curve25519 cannot read what was recorded without it. Overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

impl PresharedKey {
    /// The key with exactly these bytes, as a device says that it has it.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Self(bytes);
        bytes.zeroize();
        key
    }

    /// The bytes, for the device.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(…)")
    }
}

/// What the nodes of the cluster share in one epoch: every pre-shared key follows from it. Overwritten when it is
/// dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct MeshSecret {
    #[zeroize(skip)]
    epoch: MeshEpoch,
    secret: [u8; 32],
}

impl MeshSecret {
    /// The secret of the mesh that follows from another of the cluster's, the one with this number. Neither can
    /// be computed from the other without `parent`.
    pub fn derive(number: u32, parent: &[u8; 32]) -> Self {
        let mut secret = [0; 32];
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, parent), b"lanmesh mesh secret");
        secret.copy_from_slice(tag.as_ref());
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"lanmesh mesh epoch");
        context.update(&secret);
        let mut tag = [0; 4];
        tag.copy_from_slice(&context.finish().as_ref()[..4]);
        Self { epoch: MeshEpoch { number, tag: u32::from_be_bytes(tag) }, secret }
    }

    /// Which epoch it begins.
    pub fn epoch(&self) -> MeshEpoch {
        self.epoch
    }

    /// The key that two nodes have in common; the same whichever of them is named first.
    pub fn preshared(&self, a: &NodeId, b: &NodeId) -> PresharedKey {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret));
        context.update(b"lanmesh mesh peers ");
        context.update(a.min(b).as_bytes());
        context.update(a.max(b).as_bytes());
        let mut key = PresharedKey([0; 32]);
        key.0.copy_from_slice(context.sign().as_ref());
        key
    }
}

impl fmt::Debug for MeshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshSecret({})", self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> [u8; 32] {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn a_public_key_is_that_of_rfc_7748() {
        // Section 6.1: Bob's.
        let private = unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let public = unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        assert_eq!(PrivateKey::from_bytes(private).public().as_bytes(), &public);
    }

    #[test]
    fn a_private_key_is_clamped_before_anybody_sees_it() {
        for byte in [0, 0xff] {
            let key = PrivateKey::from_bytes([byte; 32]);
            assert_eq!(key.as_bytes()[0] & 7, 0);
            assert_eq!(key.as_bytes()[31] & 0xc0, 0x40);
            assert_eq!(PrivateKey::from_bytes(*key.as_bytes()), key);
        }
    }

    #[test]
    fn two_nodes_derive_one_key_and_no_other_pair_or_epoch_has_it() {
        let [a, b, c] = [1, 2, 3].map(|n| NodeId::from_bytes([n; 16]));
        let secret = MeshSecret::derive(1, &[7; 32]);
        let key = secret.preshared(&a, &b);
        assert_eq!(key, secret.preshared(&b, &a));
        assert_ne!(key, secret.preshared(&a, &c));
        assert_ne!(key, secret.preshared(&b, &c));
        let next = MeshSecret::derive(2, &[8; 32]);
        assert_ne!(key, next.preshared(&a, &b));
        assert!(next.epoch() > secret.epoch());
        assert_ne!(MeshSecret::derive(2, &[9; 32]).epoch(), next.epoch());
    }

    #[test]
    fn nothing_secret_is_shown() {
        let private = PrivateKey::from_bytes([0xab; 32]);
        let secret = MeshSecret::derive(1, &[0xab; 32]);
        let node = NodeId::from_bytes([1; 16]);
        let shown = format!("{private:?} {secret:?} {:?}", secret.preshared(&node, &node));
        assert!(!shown.contains("171") && !shown.contains("ab, "), "{shown}");
    }
}
