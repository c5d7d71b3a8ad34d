//! A key of this node's own, and how many there may be.

use std::ops::RangeInclusive;

use lanmesh_model::{MeshEpoch, PublicKey};
use serde::{Deserialize, Serialize};

use super::{MeshSecret, PrivateKey};

/// How many keys, and thus devices and UDP ports, a node has at most. One is the rule, two during a rotation; more
/// where nodes are removed faster than the others follow.
pub const MAX_LIVE: usize = 4;

/// The UDP ports of a mesh, of which this is the first.
pub fn ports(first: u16) -> RangeInclusive<u16> {
    first..=first.saturating_add(MAX_LIVE as u16 - 1)
}

/// One of this node's keys. What is to be remembered across a crash, and nobody else may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKey {
    /// The private key.
    pub private: PrivateKey,
    /// Its public half.
    pub public: PublicKey,
    /// What the cluster shares in its epoch.
    pub secret: MeshSecret,
    /// Its device's place, below [`MAX_LIVE`]: the UDP port is that of slot 0 and so many more.
    pub slot: u8,
    /// Whether something is still sent with it, as the others were told.
    pub sending: bool,
}

impl OwnKey {
    /// A key that nobody was told of yet.
    pub fn new(private: PrivateKey, secret: MeshSecret, slot: u8) -> Self {
        Self { public: private.public(), private, secret, slot, sending: true }
    }

    /// Its epoch.
    pub fn epoch(&self) -> MeshEpoch {
        self.secret.epoch()
    }
}
