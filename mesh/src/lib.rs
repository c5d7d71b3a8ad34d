//! The WireGuard mesh between the nodes, as values: keys, addresses, generations, and what devices a node should have.
//!
//! Owns: the keys and what is derived from them, each node's mesh address, when a generation of keys takes the
//! place of another, and which peers each device has. Pure. Does not own: devices (`kernel`), how keys reach the
//! other nodes (`cluster`), where they are kept, or when any of it is looked at.
//!
//! The manager makes secrets; each has an epoch, which is that of every key that is made because of it. For each
//! epoch that is in use a node has one device, with one key and one UDP port, whose peers are the other nodes' keys of
//! the same epoch. Mostly there is one; docs/decisions/wireguard.md says how the next takes its place.

mod address;
mod desire;
mod key;
mod own_key;
mod rotation;

pub use address::{mesh_address, mesh_prefix};
pub use desire::{
    DesiredMesh, Handshakes, KEEPALIVE, MeshDevice, MeshPeer, MeshRoute, Routes, desire, mesh_mtu,
    mesh_overhead,
};
pub use key::{MeshSecret, PresharedKey, PrivateKey};
pub use own_key::{MAX_LIVE, OwnKey, ports};
pub use rotation::{Rotation, Step};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
