//! The mesh between the nodes: from what should be of it on this node and what is there to the steps between.
//!
//! The mesh is in a network namespace of its own, in which nothing leads to the underlay. What has no device there
//! goes nowhere, and what arrives on the underlay does not get in: neither depends on the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use ipnetwork::{IpNetwork, Ipv6Network};
use lanmesh_mesh::{DesiredMesh, MeshDevice, MeshPeer, PresharedKey, PrivateKey};
use lanmesh_model::{MeshEpoch, PublicKey};

/// The address that a node's VXLAN packets of encrypted networks come from and go to: in subnet 1 of the mesh's
/// prefix, where the node's own address is in subnet 0. It is in the mesh's namespace, and nothing else has it.
pub fn mesh_vtep(address: Ipv6Addr) -> Ipv6Addr {
    (u128::from(address) | 1 << 64).into()
}

/// The part of the mesh's prefix that nodes' own addresses are in.
pub fn mesh_nodes(prefix: Ipv6Network) -> Ipv6Network {
    Ipv6Network::new(prefix.network(), 64).unwrap_or(prefix)
}

/// The name of a device of the mesh: at most 15 bytes, another one for each epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    const PREFIX: &'static str = "lw";

    /// That of the device of an epoch.
    pub fn of(epoch: MeshEpoch) -> Self {
        Self(format!("{}{}-{:08x}", Self::PREFIX, epoch.number % 1000, epoch.tag))
    }

    /// `device`, if it has the form of a name that [`DeviceName::of`] gives.
    pub fn recognise(device: &str) -> Option<Self> {
        let (number, tag) = device.strip_prefix(Self::PREFIX)?.split_once('-')?;
        let number = !number.is_empty() && number.len() <= 3 && number.bytes().all(|b| b.is_ascii_digit());
        let tag = tag.len() == 8 && tag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (number && tag).then(|| Self(device.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What of the mesh is on this node. The default: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedMesh {
    /// Its namespace is there.
    pub there: bool,
    /// The VTEP addresses in it.
    pub vteps: BTreeSet<Ipv6Addr>,
    /// Its devices.
    pub devices: BTreeMap<DeviceName, ObservedDevice>,
    /// Where the addresses of other nodes lead in it, and how large a packet may be there.
    pub routes: BTreeMap<Ipv6Addr, (DeviceName, u32)>,
    /// How this node itself is connected to it.
    pub link: Option<ObservedLink>,
}

/// A device of the mesh as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedDevice {
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// What it says of itself; `None` if nobody answers for it.
    pub tunnel: Option<ObservedTunnel>,
}

/// What a device of the mesh says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedTunnel {
    /// Its public key, if it has one.
    pub public: Option<PublicKey>,
    /// The UDP port that it listens on.
    pub port: u16,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, ObservedPeer>,
}

/// A peer of a device as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPeer {
    /// Where it was last heard from, or was said to be.
    pub endpoint: Option<SocketAddr>,
    /// What the two have in common.
    pub preshared: Option<PresharedKey>,
    /// The addresses that it may send from.
    pub allowed: BTreeSet<IpNetwork>,
    /// Seconds between two packets, at most; 0: no limit.
    pub keepalive: u16,
    /// How many seconds ago the last handshake with it was completed.
    pub handshake: Option<u64>,
}

/// How a node is connected to the mesh's namespace, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedLink {
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// The addresses on the node's side.
    pub addresses: BTreeSet<Ipv6Addr>,
    /// Both ends are up, and the routes through it are there, as is the one that leads nowhere.
    pub ready: bool,
}

/// One step of the mesh. Applying it twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshAction {
    /// Removes the namespace, with everything in it and everything that leads there.
    Delete,
    /// Makes the namespace.
    Create,
    /// Gives the namespace a VTEP address.
    AddVtep(Ipv6Addr),
    /// Takes a VTEP address from it.
    DeleteVtep(Ipv6Addr),
    /// Connects the node itself with the namespace, or sets the connection that is there.
    PutLink {
        /// The mesh's prefix: what of it leads nowhere else leads nowhere at all.
        prefix: Ipv6Network,
        /// The node's own address.
        address: Ipv6Addr,
        /// The MTU, in bytes.
        mtu: u32,
    },
    /// Makes a device, or sets the one that is there, and sets it up.
    PutDevice {
        /// Its name.
        device: DeviceName,
        /// Its key.
        private: PrivateKey,
        /// The UDP port that it listens on.
        port: u16,
        /// Its MTU, in bytes.
        mtu: u32,
    },
    /// Removes a device.
    DeleteDevice(DeviceName),
    /// Makes a peer of a device, or changes the one that is there.
    PutPeer {
        /// The device.
        device: DeviceName,
        /// The peer's key.
        peer: PublicKey,
        /// What changes of it.
        change: PeerChange,
    },
    /// Removes a peer of a device.
    DeletePeer {
        /// The device.
        device: DeviceName,
        /// The peer's key.
        peer: PublicKey,
    },
    /// Sends to an address over a device.
    PutRoute {
        /// The address.
        to: Ipv6Addr,
        /// The device.
        device: DeviceName,
        /// The largest packet, in bytes.
        mtu: u32,
    },
    /// Sends to an address no more.
    DeleteRoute(Ipv6Addr),
}

/// What changes of a peer; `None`: it stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerChange {
    /// What the two have in common.
    pub preshared: Option<PresharedKey>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// The addresses that it may send from.
    pub allowed: Option<BTreeSet<IpNetwork>>,
    /// Seconds between two packets, at most.
    pub keepalive: Option<u16>,
}

impl PeerChange {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The steps that make `have` into `want`. Empty if it is so already.
///
/// What is missing is made before what is unwanted is removed, but for a device whose port another needs.
/// `moved` are the peers of which it is only now known that they are elsewhere: a peer that was heard from a while
/// ago at another place than it says keeps that place, since it is where it can be reached.
pub fn plan_mesh(
    want: Option<&DesiredMesh>,
    have: &ObservedMesh,
    moved: &BTreeSet<PublicKey>,
) -> Vec<MeshAction> {
    match want {
        Some(want) => Diff { want, have, moved, steps: Vec::new() }.run(),
        None if *have == ObservedMesh::default() => Vec::new(),
        None => vec![MeshAction::Delete],
    }
}

/// The handshake of a tunnel that is used is younger: it is renewed after two minutes, and after three nothing is sent
/// under the old one (the WireGuard paper, section 6.1).
const HANDSHAKE_LIFE: u64 = 180;

struct Diff<'a> {
    want: &'a DesiredMesh,
    have: &'a ObservedMesh,
    moved: &'a BTreeSet<PublicKey>,
    steps: Vec<MeshAction>,
}

impl Diff<'_> {
    fn run(mut self) -> Vec<MeshAction> {
        let Self { want, have, .. } = self;
        let wanted: BTreeMap<DeviceName, &MeshDevice> =
            want.devices.iter().map(|(epoch, device)| (DeviceName::of(*epoch), device)).collect();
        let unwanted = |name: &&DeviceName| !wanted.contains_key(*name);
        let ports: BTreeSet<u16> = wanted.values().map(|device| device.port).collect();
        let in_the_way: BTreeSet<&DeviceName> = have
            .devices
            .iter()
            .filter(|(name, device)| {
                // Who does not answer may hold any port.
                unwanted(name) && device.tunnel.as_ref().is_none_or(|tunnel| ports.contains(&tunnel.port))
            })
            .map(|(name, _)| name)
            .collect();

        if !have.there {
            self.steps.push(MeshAction::Create);
        }
        self.link();
        let vtep = mesh_vtep(want.address);
        if !have.vteps.contains(&vtep) {
            self.steps.push(MeshAction::AddVtep(vtep));
        }
        self.steps.extend(in_the_way.iter().map(|name| MeshAction::DeleteDevice((*name).clone())));
        let mut fresh = BTreeSet::new();
        for (name, device) in &wanted {
            if self.device(name, device) {
                fresh.insert(name.clone());
            }
        }
        self.routes(&fresh);
        for (name, device) in &wanted {
            let peers =
                have.devices.get(name).and_then(|there| there.tunnel.as_ref()).map(|there| &there.peers);
            let unwanted = peers.into_iter().flatten().filter(|(key, _)| !device.peers.contains_key(key));
            self.steps
                .extend(unwanted.map(|(key, _)| MeshAction::DeletePeer { device: name.clone(), peer: *key }));
        }
        let rest = have.devices.keys().filter(unwanted).filter(|name| !in_the_way.contains(name));
        self.steps.extend(rest.map(|name| MeshAction::DeleteDevice(name.clone())));
        let old = have.vteps.iter().filter(|there| **there != vtep);
        self.steps.extend(old.map(|there| MeshAction::DeleteVtep(*there)));
        self.steps
    }

    fn link(&mut self) {
        let (prefix, address) = (self.want.prefix, self.want.address);
        // Without a device nothing passes anyhow.
        let Some(mtu) = self.want.devices.values().map(|device| device.mtu).max() else { return };
        let right = self
            .have
            .link
            .as_ref()
            .is_some_and(|link| link.ready && link.mtu == mtu && link.addresses.iter().eq([&address]));
        if !right {
            self.steps.push(MeshAction::PutLink { prefix, address, mtu });
        }
    }

    /// Whether the device is a new one, or was not up.
    fn device(&mut self, name: &DeviceName, want: &MeshDevice) -> bool {
        let there = self.have.devices.get(name);
        let tunnel = there.and_then(|there| there.tunnel.as_ref());
        let right = there.is_some_and(|there| there.up && there.mtu == want.mtu)
            && tunnel.is_some_and(|tunnel| tunnel.public == Some(want.public) && tunnel.port == want.port);
        if !right {
            self.steps.push(MeshAction::PutDevice {
                device: name.clone(),
                private: want.private.clone(),
                port: want.port,
                mtu: want.mtu,
            });
        }
        for (key, peer) in &want.peers {
            let there = tunnel.and_then(|tunnel| tunnel.peers.get(key));
            let change = peer_change(peer, there, self.moved.contains(key));
            if !change.is_none() {
                self.steps.push(MeshAction::PutPeer { device: name.clone(), peer: *key, change });
            }
        }
        // The routes over a device go with it, and when it goes down.
        tunnel.is_none() || there.is_none_or(|there| !there.up)
    }

    fn routes(&mut self, fresh: &BTreeSet<DeviceName>) {
        let Self { want, have, .. } = *self;
        let mut wanted = BTreeMap::new();
        for (address, route) in &want.routes {
            let device = DeviceName::of(route.epoch);
            wanted.insert(mesh_vtep(*address), (device.clone(), route.mtu));
            wanted.insert(*address, (device, route.mtu));
        }
        for (to, (device, mtu)) in &wanted {
            if fresh.contains(device) || have.routes.get(to) != Some(&(device.clone(), *mtu)) {
                self.steps.push(MeshAction::PutRoute { to: *to, device: device.clone(), mtu: *mtu });
            }
        }
        let unwanted = have.routes.keys().filter(|to| !wanted.contains_key(to));
        self.steps.extend(unwanted.map(|to| MeshAction::DeleteRoute(*to)));
    }
}

/// The addresses that a peer may send from: the node's own and its VTEP.
fn allowed(peer: &MeshPeer) -> BTreeSet<IpNetwork> {
    [peer.address, mesh_vtep(peer.address)]
        .into_iter()
        .filter_map(|address| IpNetwork::new(address.into(), 128).ok())
        .collect()
}

fn peer_change(want: &MeshPeer, have: Option<&ObservedPeer>, moved: bool) -> PeerChange {
    let allowed = allowed(want);
    let Some(have) = have else {
        return PeerChange {
            preshared: Some(want.preshared.clone()),
            endpoint: Some(want.endpoint),
            allowed: Some(allowed),
            keepalive: Some(want.keepalive),
        };
    };
    let heard = have.handshake.is_some_and(|age| age < HANDSHAKE_LIFE);
    let elsewhere = have.endpoint != Some(want.endpoint) && (moved || !heard || have.endpoint.is_none());
    PeerChange {
        preshared: (have.preshared.as_ref() != Some(&want.preshared)).then(|| want.preshared.clone()),
        endpoint: elsewhere.then_some(want.endpoint),
        allowed: (have.allowed != allowed).then_some(allowed),
        keepalive: (have.keepalive != want.keepalive).then_some(want.keepalive),
    }
}

impl fmt::Display for MeshAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mesh ")?;
        match self {
            Self::Delete => write!(f, "delete mesh"),
            Self::Create => write!(f, "create namespace"),
            Self::AddVtep(address) => write!(f, "add vtep {address}"),
            Self::DeleteVtep(address) => write!(f, "delete vtep {address}"),
            Self::PutLink { prefix, address, mtu } => {
                write!(f, "put link: address {address} of {prefix} mtu {mtu}")
            }
            // The key is not shown.
            Self::PutDevice { device, private: _, port, mtu } => {
                write!(f, "put device {device}: port {port} mtu {mtu}")
            }
            Self::DeleteDevice(device) => write!(f, "delete device {device}"),
            Self::PutPeer { device, peer, change } => write!(f, "put peer {peer} of {device}:{change}"),
            Self::DeletePeer { device, peer } => write!(f, "delete peer {peer} of {device}"),
            Self::PutRoute { to, device, mtu } => write!(f, "put route to {to} over {device} mtu {mtu}"),
            Self::DeleteRoute(to) => write!(f, "delete route to {to}"),
        }
    }
}

impl fmt::Display for PeerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { preshared, endpoint, allowed, keepalive } = self;
        if preshared.is_some() {
            write!(f, " preshared key")?;
        }
        if let Some(endpoint) = endpoint {
            write!(f, " at {endpoint}")?;
        }
        for range in allowed.iter().flatten() {
            write!(f, " has {range}")?;
        }
        match keepalive {
            Some(seconds) => write!(f, " every {seconds} s"),
            None => Ok(()),
        }
    }
}
