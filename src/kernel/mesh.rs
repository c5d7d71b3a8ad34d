//! The mesh's namespace: its devices, addresses and routes, and the node's own connection to it.
//!
//! Nothing in it leads to the underlay. A WireGuard device is moved into it when it is made, and its UDP socket stays
//! in the node's namespace: what is written to the device comes out there, encrypted, and in no other way. The
//! VXLAN sockets of encrypted networks are in here, where nobody on the underlay reaches them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::SystemTime;

use ipnetwork::{IpNetwork, Ipv6Network};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};

use super::links::{self, Link, MESH_LINK, NODE_LINK, ROUTE_PROTOCOL};
use super::netns::{Netns, set_sysctl};
use super::session::{Failure, Session};
use super::wireguard::{
    Backend, Module, PeerChange as TunnelChange, PeerStatus, PeerUpdate, Status, Update, Userspace,
};
use super::{Inner, KernelError};
use crate::mesh::PresharedKey;
use crate::model::PublicKey;
use crate::plan::{
    DeviceName, MeshAction, ObservedDevice, ObservedLink, ObservedMesh, ObservedPeer, ObservedTunnel,
    mesh_nodes,
};

/// The two ends of the connection, as each is reached from the other.
const NODE_END: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const MESH_END: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// The mesh's namespace, opened.
pub(super) struct MeshRoom {
    netns: Netns,
    session: Session,
    module: Module,
    userspace: Userspace,
    /// Whether new devices are to be the kernel's.
    has_module: bool,
}

impl MeshRoom {
    /// Opens it; `None` if there is none.
    pub async fn open(inner: &Inner) -> Result<Option<Self>, KernelError> {
        match inner.dir.mesh().await? {
            Some(netns) => Self::enter(inner, netns).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes it, or finds it, and sets it up.
    pub async fn create(inner: &Inner) -> Result<Self, KernelError> {
        let room = Self::enter(inner, inner.dir.create_mesh().await?).await?;
        let forward = || {
            set_sysctl("ipv6/conf/all/disable_ipv6", "0")?;
            set_sysctl("ipv6/conf/default/disable_ipv6", "0")?;
            // No device here makes itself an address, so none has anything to say of its own.
            set_sysctl("ipv6/conf/default/addr_gen_mode", "1")?;
            set_sysctl("ipv6/conf/default/accept_dad", "0")?;
            // Whoever runs the agent may try out the paths, without a raw socket.
            set_sysctl("ipv4/ping_group_range", "0 2147483647")?;
            // Between the node and the mesh.
            set_sysctl("ipv6/conf/all/forwarding", "1")
        };
        room.netns.run(forward).await??;
        let lo = room.require("lo").await?;
        let up = room.session.change_link(links::set_up(lo.index)).await;
        up.map_err(|failure| failure.doing("set lo up in the mesh"))?;
        Ok(room)
    }

    async fn enter(inner: &Inner, netns: Netns) -> Result<Self, KernelError> {
        let session = Session::open(&netns).await?;
        Ok(Self {
            session,
            module: Module::new(inner.own.clone(), netns.clone()),
            userspace: Userspace::new(&inner.run_dir, netns.clone()),
            netns,
            has_module: inner.abilities().await.wireguard,
        })
    }

    /// The connection in it: VXLAN devices that are asked for there have their socket there.
    pub fn session(&self) -> &Session {
        &self.session
    }

    async fn find(&self, name: &str) -> Result<Option<Link>, KernelError> {
        self.session.link_named(name).await.map_err(|failure| failure.doing(format!("find {name}")))
    }

    async fn require(&self, name: &str) -> Result<Link, KernelError> {
        self.find(name).await?.ok_or_else(|| missing(name))
    }

    /// Who answers for a device: for one that is there, its own kind.
    fn backend(&self, there: Option<&Link>) -> &dyn Backend {
        let module = there.map_or(self.has_module, Link::is_wireguard);
        if module { &self.module } else { &self.userspace }
    }

    async fn observe(&self, own: &Session) -> Result<ObservedMesh, KernelError> {
        let failed = |failure: Failure| failure.doing("look at the mesh");
        let all = self.session.links().await.map_err(failed)?;
        let routes = self.session.own_routes().await.map_err(failed)?;
        let lo = all.iter().find(|link| link.name == "lo").map_or(0, |link| link.index);
        let addresses = self.session.addresses(lo, None).await.map_err(failed)?;
        let vteps = addresses.into_iter().filter_map(|(_, address)| as_ipv6(address.ip()));
        let mut observed = ObservedMesh {
            there: true,
            vteps: vteps.filter(|address| !address.is_loopback()).collect(),
            link: link(own, &all, &routes).await?,
            ..ObservedMesh::default()
        };
        let mut by_index = BTreeMap::new();
        for link in &all {
            let Some(name) = DeviceName::recognise(&link.name) else { continue };
            let status = self.backend(Some(link)).status(&link.name).await;
            let status = status.unwrap_or_else(|error| {
                tracing::warn!(device = %name, %error, "a device of the mesh does not answer");
                None
            });
            let device = ObservedDevice {
                mtu: link.mtu,
                up: link.up,
                tunnel: status.map(|status| as_tunnel(&status)),
            };
            by_index.insert(link.index, name.clone());
            observed.devices.insert(name, device);
        }
        for route in &routes {
            let read = Read::of(route);
            if let (Some(to), 128, Some(device)) = (read.to, read.length, by_index.get(&read.link)) {
                observed.routes.insert(to, (device.clone(), read.mtu));
            }
        }
        Ok(observed)
    }

    /// How each peer of each device is. A device that does not answer is left out.
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, KernelError> {
        let all = self.session.links().await.map_err(|failure| failure.doing("look at the mesh"))?;
        let mut peers = Vec::new();
        for link in all.iter().filter(|link| DeviceName::recognise(&link.name).is_some()) {
            let status = self.backend(Some(link)).status(&link.name).await.unwrap_or_default();
            peers.extend(status.into_iter().flat_map(|status| status.peers));
        }
        Ok(peers)
    }

    async fn put_device(
        &self,
        device: &DeviceName,
        private: &crate::mesh::PrivateKey,
        port: u16,
        mtu: u32,
    ) -> Result<(), KernelError> {
        let name = device.as_str();
        let there = self.find(name).await?;
        let backend = self.backend(there.as_ref());
        backend.make(name).await?;
        let link = self.require(name).await?;
        let private_key = Some(zeroize::Zeroizing::new(*private.as_bytes()));
        let update = Update { private_key, port: Some(port), peers: Vec::new() };
        let by_module = there.as_ref().map_or(self.has_module, Link::is_wireguard);
        backend.update(name, update).await.map_err(|error| port_taken(error, port, by_module))?;
        let set = self.session.change_link(links::set_mesh_link(link.index, mtu)).await;
        set.map_err(|failure| failure.doing(format!("set {name} up")))
    }

    async fn update_peers(&self, device: &DeviceName, peers: Vec<PeerUpdate>) -> Result<(), KernelError> {
        let link = self.require(device.as_str()).await?;
        let update = Update { peers, ..Update::default() };
        self.backend(Some(&link)).update(device.as_str(), update).await
    }

    async fn delete_device(&self, name: &str) -> Result<(), KernelError> {
        let there = self.find(name).await?;
        self.backend(there.as_ref()).remove(name).await
    }

    async fn put_route(&self, to: Ipv6Addr, device: &DeviceName, mtu: u32) -> Result<(), KernelError> {
        let link = self.require(device.as_str()).await?;
        let put = self.session.put_route(over(to, link.index, mtu)).await;
        put.map_err(|failure| failure.doing(format!("put a route to {to}")))
    }

    async fn delete_route(&self, to: Ipv6Addr) -> Result<(), KernelError> {
        let deleted = self.session.delete_route(route(to, 128, RouteType::Unicast)).await;
        deleted.map_err(|failure| failure.doing(format!("delete the route to {to}")))
    }

    async fn change_vtep(&self, address: Ipv6Addr, add: bool) -> Result<(), KernelError> {
        let lo = self.require("lo").await?.index;
        let Ok(network) = IpNetwork::new(address.into(), 128) else { return Ok(()) };
        let changed = match add {
            true => self.session.add_address(lo, network).await,
            false => self.session.delete_address(lo, network).await,
        };
        changed.map_err(|failure| failure.doing(format!("give the mesh the address {address}")))
    }

    /// Connects the node with the mesh. First comes the route that leads nowhere, which stays whatever goes.
    async fn put_link(
        &self,
        own: &Session,
        node: &Netns,
        prefix: Ipv6Network,
        address: Ipv6Addr,
        mtu: u32,
    ) -> Result<(), KernelError> {
        let failed = |failure: Failure| failure.doing("connect this node with the mesh");
        let nowhere = route(prefix.network(), prefix.prefix(), RouteType::Unreachable);
        own.put_route(nowhere).await.map_err(failed)?;
        if own.link_named(NODE_LINK).await.map_err(failed)?.is_none() {
            own.create_link(links::new_node_link(mtu, self.netns.fd())).await.map_err(failed)?;
        }
        let near = own.link_named(NODE_LINK).await.map_err(failed)?.ok_or_else(|| missing(NODE_LINK))?;
        let far = self.require(MESH_LINK).await?;
        node.run(|| set_quiet(NODE_LINK)).await??;
        self.netns.run(|| set_quiet(MESH_LINK)).await??;
        for (session, link, addresses) in [
            (own, near.index, vec![(address, 128), (NODE_END, 64)]),
            (&self.session, far.index, vec![(MESH_END, 64)]),
        ] {
            for (address, length) in addresses {
                let Ok(network) = IpNetwork::new(address.into(), length) else { continue };
                session.add_address(link, network).await.map_err(failed)?;
            }
            session.change_link(links::set_mesh_link(link, mtu)).await.map_err(failed)?;
        }
        for (_, there) in own.addresses(near.index, None).await.map_err(failed)? {
            if there.ip() != IpAddr::V6(address) {
                own.delete_address(near.index, there).await.map_err(failed)?;
            }
        }
        let nodes = mesh_nodes(prefix);
        let to_mesh =
            by_way_of(route(nodes.network(), nodes.prefix(), RouteType::Unicast), near.index, MESH_END);
        own.put_route(to_mesh).await.map_err(failed)?;
        let to_node = by_way_of(route(address, 128, RouteType::Unicast), far.index, NODE_END);
        self.session.put_route(to_node).await.map_err(failed)
    }
}

/// What of the mesh is on this node.
pub(super) async fn observe(inner: &Inner) -> Result<ObservedMesh, KernelError> {
    let own = inner.own_session().await?;
    match MeshRoom::open(inner).await? {
        Some(room) => room.observe(&own).await,
        None => Ok(ObservedMesh { link: link(&own, &[], &[]).await?, ..ObservedMesh::default() }),
    }
}

/// Carries out steps of the mesh; those that failed, and why.
pub(super) async fn apply(inner: &Inner, steps: &[MeshAction]) -> Vec<(MeshAction, KernelError)> {
    let mut failed = Vec::new();
    let mut room: Option<MeshRoom> = None;
    let mut rest = steps;
    while let Some(first) = rest.first() {
        let alike = rest.iter().take_while(|step| device_of_peer(step) == device_of_peer(first)).count();
        // Peers of one device go together: it is asked once.
        let count = if device_of_peer(first).is_some() { alike } else { 1 };
        let (now, later) = rest.split_at(count);
        rest = later;
        if let Err(error) = some(inner, &mut room, now).await {
            let others = || KernelError::NotTried;
            let mut errors = std::iter::once(error).chain(std::iter::repeat_with(others));
            failed.extend(now.iter().map(|step| (step.clone(), errors.next().unwrap_or_else(others))));
        }
    }
    failed
}

async fn some(inner: &Inner, room: &mut Option<MeshRoom>, steps: &[MeshAction]) -> Result<(), KernelError> {
    match steps {
        [MeshAction::Create] => {
            *room = Some(MeshRoom::create(inner).await?);
            return inner.watcher.watch_mesh(&inner.dir).await;
        }
        [MeshAction::Delete] => {
            *room = None;
            return delete(inner).await;
        }
        _ => {}
    }
    if room.is_none() {
        *room = MeshRoom::open(inner).await?;
    }
    let room = room.as_ref().ok_or_else(|| missing("the mesh"))?;
    match steps {
        [MeshAction::AddVtep(address)] => room.change_vtep(*address, true).await,
        [MeshAction::DeleteVtep(address)] => room.change_vtep(*address, false).await,
        [MeshAction::PutLink { prefix, address, mtu }] => {
            room.put_link(&inner.own_session().await?, &inner.own, *prefix, *address, *mtu).await
        }
        [MeshAction::PutDevice { device, private, port, mtu }] => {
            room.put_device(device, private, *port, *mtu).await
        }
        [MeshAction::DeleteDevice(device)] => room.delete_device(device.as_str()).await,
        [MeshAction::PutRoute { to, device, mtu }] => room.put_route(*to, device, *mtu).await,
        [MeshAction::DeleteRoute(to)] => room.delete_route(*to).await,
        peers => match peers.first().and_then(device_of_peer) {
            Some(device) => room.update_peers(device, peers.iter().filter_map(as_update).collect()).await,
            None => Ok(()),
        },
    }
}

/// Removes the mesh from this node. What leads nowhere goes last.
async fn delete(inner: &Inner) -> Result<(), KernelError> {
    inner.watcher.forget_mesh().await;
    if let Some(room) = MeshRoom::open(inner).await? {
        let all = room.session.links().await.map_err(|failure| failure.doing("list the mesh's devices"))?;
        let mut devices: BTreeSet<String> = room.userspace.devices().into_iter().collect();
        devices.extend(
            all.into_iter().map(|link| link.name).filter(|name| DeviceName::recognise(name).is_some()),
        );
        for device in devices {
            room.delete_device(&device).await?;
        }
    }
    let own = inner.own_session().await?;
    let failed = |failure: Failure| failure.doing("disconnect this node from the mesh");
    if let Some(near) = own.link_named(NODE_LINK).await.map_err(failed)? {
        own.delete_link(near.index).await.map_err(failed)?;
    }
    inner.dir.remove_mesh()?;
    for route in own.own_routes().await.map_err(failed)? {
        if route.header.kind == RouteType::Unreachable {
            own.delete_route(route).await.map_err(failed)?;
        }
    }
    Ok(())
}

fn device_of_peer(step: &MeshAction) -> Option<&DeviceName> {
    match step {
        MeshAction::PutPeer { device, .. } | MeshAction::DeletePeer { device, .. } => Some(device),
        _ => None,
    }
}

fn as_update(step: &MeshAction) -> Option<PeerUpdate> {
    let (peer, change) = match step {
        MeshAction::DeletePeer { peer, .. } => (peer, TunnelChange::Remove),
        MeshAction::PutPeer { peer, change, .. } => (
            peer,
            TunnelChange::Set {
                preshared: change.preshared.as_ref().map(|key| zeroize::Zeroizing::new(*key.as_bytes())),
                endpoint: change.endpoint,
                allowed: change.allowed.as_ref().map(|ranges| ranges.iter().copied().collect()),
                keepalive: change.keepalive,
            },
        ),
        _ => return None,
    };
    Some(PeerUpdate { public_key: *peer.as_bytes(), change })
}

fn as_tunnel(status: &Status) -> ObservedTunnel {
    let now = SystemTime::now();
    let peers = status.peers.iter().map(|peer| {
        let observed = ObservedPeer {
            endpoint: peer.endpoint,
            preshared: peer.preshared.as_ref().map(|key| PresharedKey::from_bytes(**key)),
            allowed: peer.allowed.iter().copied().collect(),
            keepalive: peer.keepalive,
            // A clock that was set back meanwhile makes it a fresh one.
            handshake: peer.handshake.map(|at| now.duration_since(at).unwrap_or_default().as_secs()),
        };
        (PublicKey::from_bytes(peer.public_key), observed)
    });
    ObservedTunnel {
        peers: peers.collect(),
        public: status.public_key.map(PublicKey::from_bytes),
        port: status.port,
    }
}

/// How the node is connected with the mesh, whose links and routes these are.
async fn link(
    own: &Session,
    mesh: &[Link],
    mesh_routes: &[RouteMessage],
) -> Result<Option<ObservedLink>, KernelError> {
    let failed = |failure: Failure| failure.doing("look at this node's connection with the mesh");
    let near = own.link_named(NODE_LINK).await.map_err(failed)?;
    let routes = own.own_routes().await.map_err(failed)?;
    let nowhere = routes.iter().any(|route| route.header.kind == RouteType::Unreachable);
    let Some(near) = near else {
        let left = ObservedLink { mtu: 0, addresses: BTreeSet::new(), ready: false };
        return Ok(nowhere.then_some(left));
    };
    let addresses = own.addresses(near.index, None).await.map_err(failed)?;
    let addresses: BTreeSet<Ipv6Addr> =
        addresses.into_iter().filter_map(|(_, address)| as_ipv6(address.ip())).collect();
    let far = mesh.iter().find(|link| link.name == MESH_LINK);
    let there = routes.iter().any(|route| Read::of(route).link == near.index);
    let back = mesh_routes.iter().map(Read::of).any(|route| {
        far.is_some_and(|far| far.index == route.link) && route.to.is_some_and(|to| addresses.contains(&to))
    });
    let up = near.up && near.is_marked() && far.is_some_and(|far| far.up);
    let mtu = near.mtu.min(far.map_or(0, |far| far.mtu));
    Ok(Some(ObservedLink { mtu, addresses, ready: up && nowhere && there && back }))
}

/// Keeps a link from making itself addresses, and lets it have those that it is given.
fn set_quiet(link: &str) -> Result<(), KernelError> {
    set_sysctl(&format!("ipv6/conf/{link}/disable_ipv6"), "0")?;
    set_sysctl(&format!("ipv6/conf/{link}/addr_gen_mode"), "1")?;
    set_sysctl(&format!("ipv6/conf/{link}/accept_dad"), "0")?;
    set_sysctl(&format!("ipv6/conf/{link}/accept_ra"), "0")
}

fn missing(what: &str) -> KernelError {
    KernelError::Broken { what: format!("find {what}") }
}

/// The kernel's module answers EADDRINUSE where it cannot listen; gotatun EINVAL, whatever the reason.
fn port_taken(error: KernelError, port: u16, by_module: bool) -> KernelError {
    let code = match &error {
        KernelError::Refused { source, .. } => source.raw_os_error(),
        _ => None,
    };
    match code {
        Some(nix::libc::EADDRINUSE) => KernelError::MeshPortInUse { port },
        Some(nix::libc::EINVAL) if !by_module => KernelError::MeshPortInUse { port },
        _ => error,
    }
}

fn as_ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

/// What is read of a route.
struct Read {
    to: Option<Ipv6Addr>,
    length: u8,
    link: u32,
    mtu: u32,
}

impl Read {
    fn of(message: &RouteMessage) -> Self {
        let mut read = Self { to: None, length: message.header.destination_prefix_length, link: 0, mtu: 0 };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet6(to)) => read.to = Some(*to),
                RouteAttribute::Oif(index) => read.link = *index,
                RouteAttribute::Metrics(metrics) => {
                    for metric in metrics {
                        if let RouteMetric::Mtu(mtu) = metric {
                            read.mtu = *mtu;
                        }
                    }
                }
                _ => {}
            }
        }
        read
    }
}

fn route(to: Ipv6Addr, length: u8, kind: RouteType) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet6,
        destination_prefix_length: length,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(ROUTE_PROTOCOL),
        scope: RouteScope::Universe,
        kind,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet6(to)));
    message
}

fn over(to: Ipv6Addr, link: u32, mtu: u32) -> RouteMessage {
    let mut message = route(to, 128, RouteType::Unicast);
    message.attributes.push(RouteAttribute::Oif(link));
    message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    message
}

fn by_way_of(mut message: RouteMessage, link: u32, gateway: Ipv6Addr) -> RouteMessage {
    message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet6(gateway)));
    message.attributes.push(RouteAttribute::Oif(link));
    message
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn that_a_port_is_taken_is_told_by_number_and_by_who_says_it() {
        let refused = |code| {
            let source = io::Error::from_raw_os_error(code);
            KernelError::Refused { what: "set the process of lw1-00000001".to_owned(), source }
        };
        let taken = |code, by_module| {
            matches!(port_taken(refused(code), 51840, by_module), KernelError::MeshPortInUse { port: 51840 })
        };
        assert!(taken(nix::libc::EADDRINUSE, true) && taken(nix::libc::EADDRINUSE, false));
        assert!(taken(nix::libc::EINVAL, false) && !taken(nix::libc::EINVAL, true));
        assert!(!taken(nix::libc::ENOENT, false));
        // A text that has the number in it says nothing.
        let other = KernelError::Refused { what: String::new(), source: io::Error::other("error 22") };
        assert!(!matches!(port_taken(other, 51840, false), KernelError::MeshPortInUse { .. }));
    }
}
