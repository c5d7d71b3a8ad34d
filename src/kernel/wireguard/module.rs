//! WireGuard devices of the kernel's module: made over netlink like any link, set with wireguard-control.

use std::io;

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use wireguard_control::{
    AllowedIp, Backend as Kind, Device, DeviceUpdate, InterfaceName, Key, PeerConfigBuilder,
};
use zeroize::Zeroizing;

use super::{Backend, PeerChange, PeerStatus, PeerUpdate, Status, Update};
use crate::kernel::KernelError;
use crate::kernel::links::{self, Link};
use crate::kernel::netns::Netns;
use crate::kernel::session::{Failure, Session};

/// WireGuard devices of the kernel, in the namespace of the mesh.
pub(crate) struct Module {
    /// The node's own namespace, where their UDP sockets are.
    own: Netns,
    /// The namespace that they are in.
    mesh: Netns,
}

impl Module {
    /// Those in the namespace `mesh` of the node whose underlay is in `own`.
    pub fn new(own: Netns, mesh: Netns) -> Self {
        Self { own, mesh }
    }

    async fn find(&self, device: &str) -> Result<Option<Link>, KernelError> {
        let session = Session::open(&self.mesh).await?;
        session.link_named(device).await.map_err(|failure| failure.doing(format!("find {device}")))
    }

    /// Runs `work` in the mesh's namespace; wireguard-control blocks.
    async fn run<T: Send + 'static>(
        &self,
        what: String,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, KernelError> {
        self.mesh.run(work).await?.map_err(|source| match source.raw_os_error() {
            Some(code) => KernelError::from_errno(what, Errno::from_raw(code)),
            None => KernelError::Refused { what, source },
        })
    }
}

fn named(device: &str) -> Result<InterfaceName, KernelError> {
    device.parse().map_err(|_| KernelError::BadInterfaceName { ifname: device.to_owned() })
}

fn allowed_ip(range: &IpNetwork) -> AllowedIp {
    AllowedIp { address: range.ip(), cidr: range.prefix() }
}

fn secret(key: Key) -> Option<Zeroizing<[u8; 32]>> {
    // The kernel says that there is none by all zeros.
    Some(Zeroizing::new(key.0)).filter(|key| **key != [0; 32])
}

fn as_status(device: Device) -> Status {
    drop(device.private_key.map(|key| Zeroizing::new(key.0)));
    let peers = device.peers.into_iter().map(|peer| PeerStatus {
        public_key: peer.config.public_key.0,
        preshared: peer.config.preshared_key.and_then(secret),
        endpoint: peer.config.endpoint,
        allowed: peer
            .config
            .allowed_ips
            .iter()
            .filter_map(|range| IpNetwork::new(range.address, range.cidr).ok())
            .collect(),
        keepalive: peer.config.persistent_keepalive_interval.unwrap_or_default(),
        handshake: peer.stats.last_handshake_time,
        received: peer.stats.rx_bytes,
        sent: peer.stats.tx_bytes,
    });
    Status {
        peers: peers.collect(),
        public_key: device.public_key.map(|key| key.0).filter(|key| *key != [0; 32]),
        port: device.listen_port.unwrap_or_default(),
    }
}

fn as_update(update: &Update) -> DeviceUpdate {
    let mut changes = DeviceUpdate::new();
    if let Some(key) = &update.private_key {
        changes = changes.set_private_key(Key(**key));
    }
    if let Some(port) = update.port {
        changes = changes.set_listen_port(port);
    }
    for PeerUpdate { public_key, change } in &update.peers {
        let mut peer = PeerConfigBuilder::new(&Key(*public_key));
        match change {
            PeerChange::Remove => peer = peer.remove(),
            PeerChange::Set { preshared, endpoint, allowed, keepalive } => {
                if let Some(key) = preshared {
                    peer = peer.set_preshared_key(Key(**key));
                }
                if let Some(endpoint) = endpoint {
                    peer = peer.set_endpoint(*endpoint);
                }
                if let Some(seconds) = keepalive {
                    peer = peer.set_persistent_keepalive_interval(*seconds);
                }
                if let Some(allowed) = allowed {
                    let ranges: Vec<_> = allowed.iter().map(allowed_ip).collect();
                    peer = peer.replace_allowed_ips().add_allowed_ips(&ranges);
                }
            }
        }
        changes = changes.add_peer(peer);
    }
    changes
}

#[async_trait]
impl Backend for Module {
    async fn make(&self, device: &str) -> Result<(), KernelError> {
        // Asked for in the node's own namespace, where its UDP socket then is.
        let session = Session::open(&self.own).await?;
        match session.create_link(links::new_wireguard(device, self.mesh.fd())).await {
            Ok(()) | Err(Failure::Refused(Errno::EEXIST)) => Ok(()),
            Err(failure) => Err(failure.doing(format!("make the device {device}"))),
        }
    }

    async fn status(&self, device: &str) -> Result<Option<Status>, KernelError> {
        if self.find(device).await?.is_none() {
            return Ok(None);
        }
        let name = named(device)?;
        let asked = self.run(format!("ask {device}"), move || Device::get(&name, Kind::Kernel)).await;
        asked.map(|device| Some(as_status(device)))
    }

    async fn update(&self, device: &str, update: Update) -> Result<(), KernelError> {
        let name = named(device)?;
        self.run(format!("set {device}"), move || as_update(&update).apply(&name, Kind::Kernel)).await
    }

    async fn remove(&self, device: &str) -> Result<(), KernelError> {
        let session = Session::open(&self.mesh).await?;
        let failed = |failure: Failure| failure.doing(format!("remove {device}"));
        match session.link_named(device).await.map_err(failed)? {
            Some(link) => session.delete_link(link.index).await.map_err(failed),
            None => Ok(()),
        }
    }
}
