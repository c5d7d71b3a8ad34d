//! WireGuard devices: what is asked of one, and the two kinds that there are.
//!
//! Owns: making, asking, changing and removing a device, be it the kernel's (`module`) or a process of ours that
//! the agent looks after (`userspace`, `process`, `udp`). Does not own: which devices and peers there should be
//! (`plan`, `mesh`), nor the namespace that they are in (`kernel/mesh.rs`).
//!
//! Peers are only ever changed one by one: what is not named in an `Update` stays as it is.

mod module;
mod process;
mod uapi;
mod udp;
mod userspace;

use std::net::SocketAddr;
use std::time::SystemTime;

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use zeroize::Zeroizing;

use super::KernelError;

pub(super) use module::Module;
pub use process::{ProcessError, serve};
pub(super) use userspace::Userspace;

/// A key that may be known.
pub(crate) type Public = [u8; 32];
/// A key that may not be known; wiped when it is dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// How a device is, as far as we set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// Its public key, if it has been given a private one.
    pub public_key: Option<Public>,
    /// The UDP port that it listens on.
    pub port: u16,
    /// Its peers.
    pub peers: Vec<PeerStatus>,
}

/// How a peer of a device is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PeerStatus {
    /// Its public key.
    pub public_key: Public,
    /// The key that both sides have been given beside their own.
    pub preshared: Option<Secret>,
    /// Where it was last heard from, or was said to be.
    pub endpoint: Option<SocketAddr>,
    /// The addresses that it may send from, and that are sent to it.
    pub allowed: Vec<IpNetwork>,
    /// Seconds between two packets, at most; 0: no limit.
    pub keepalive: u16,
    /// When the last handshake with it was completed.
    pub handshake: Option<SystemTime>,
    /// How many bytes came from it.
    pub received: u64,
    /// How many bytes went to it.
    pub sent: u64,
}

impl std::fmt::Debug for PeerStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerStatus")
            .field("endpoint", &self.endpoint)
            .field("allowed", &self.allowed)
            .field("handshake", &self.handshake)
            .finish_non_exhaustive()
    }
}

/// What to change of a device. What is `None` or not named stays as it is.
#[derive(Default)]
pub(crate) struct Update {
    /// Its private key.
    pub private_key: Option<Secret>,
    /// The UDP port that it listens on.
    pub port: Option<u16>,
    /// The peers that change.
    pub peers: Vec<PeerUpdate>,
}

/// What to change of a peer.
pub(crate) struct PeerUpdate {
    /// Which one.
    pub public_key: Public,
    /// What becomes of it.
    pub change: PeerChange,
}

/// What becomes of a peer.
pub(crate) enum PeerChange {
    /// It is no peer any more.
    Remove,
    /// It is made, or changed in what is not `None`.
    Set {
        /// The key that both sides are given beside their own.
        preshared: Option<Secret>,
        /// Where it is.
        endpoint: Option<SocketAddr>,
        /// All the addresses that it may have.
        allowed: Option<Vec<IpNetwork>>,
        /// Seconds between two packets, at most; 0: no limit.
        keepalive: Option<u16>,
    },
}

/// A way to have WireGuard devices. Its methods are for devices in the mesh's namespace.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Makes a device without key and peers, down. One that is there stays as it is.
    async fn make(&self, device: &str) -> Result<(), KernelError>;

    /// How a device is; `None` if it does not answer for itself, whatever there is under its name.
    async fn status(&self, device: &str) -> Result<Option<Status>, KernelError>;

    /// Changes a device.
    async fn update(&self, device: &str, update: Update) -> Result<(), KernelError>;

    /// Removes a device. No error if it is gone already.
    async fn remove(&self, device: &str) -> Result<(), KernelError>;
}
