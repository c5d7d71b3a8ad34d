//! The sockets of mDNS (RFC 6762) in one network's namespace.
//!
//! Owns: making them there, what they hear and send, and whether they still belong to the bridge that is there. Does
//! not own what is said (`zeroconf`).
//!
//! One socket for each family on port 5353, on the network's bridge alone and in the group of mDNS there. What
//! this node sends is not heard by it again. Packets of every TTL are taken: RFC 6762 section 11 wants the source to be
//! on the link, which is for the reader to tell.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::namespace::enter;
use crate::zeroconf::{GROUP_V4, GROUP_V6, PORT};

/// The most bytes that are read of one datagram: what a message may have with all its headers (RFC 6762 section 17).
pub const MESSAGE_MAX: usize = 9000;
/// What a socket may hold that was not read yet, in bytes.
const RECEIVE_BUFFER: usize = 1 << 20;
/// RFC 6762 section 11.
const TTL: u32 = 255;

/// Why mDNS does not run in a network.
#[derive(Debug, thiserror::Error)]
pub enum MdnsError {
    /// The namespace or its bridge could not be reached.
    #[error("cannot enter {path} for mDNS: {source}; it is tried again")]
    Namespace {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A socket could not be made.
    #[error("cannot listen for mDNS on {group}: {source}; stop what else holds port {PORT} there")]
    Listen {
        /// The group.
        group: IpAddr,
        /// Why not.
        source: io::Error,
    },
}

/// One datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer it takes.
    pub length: usize,
    /// Whether it was longer than the buffer.
    pub cut: bool,
    /// Who sent it.
    pub from: SocketAddr,
    /// What it was sent to: a group, or an address of this node.
    pub to: IpAddr,
}

/// The sockets of one network.
#[derive(Debug)]
pub struct Sockets {
    /// In a network without IPv4 there is none: the bridge has no address to send from.
    v4: Option<UdpSocket>,
    /// A bridge that is too small for IPv6 has none.
    v6: Option<UdpSocket>,
    place: Place,
}

/// What tells a bridge from another of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Device and inode of the namespace: at the same path there may be another one.
    namespace: (u64, u64),
    /// The bridge's index in it.
    index: u32,
}

struct Bound {
    v4: Option<std::net::UdpSocket>,
    v6: Option<std::net::UdpSocket>,
    place: Place,
}

impl Sockets {
    /// Makes them on `device` in the namespace at `namespace`; for IPv6 where the device speaks it, for IPv4 if `ipv4`
    /// says so.
    pub async fn open(namespace: &Path, device: &'static str, ipv4: bool) -> Result<Self, MdnsError> {
        let Bound { v4, v6, place } = in_namespace(namespace, move |file| bind(file, device, ipv4)).await??;
        let failed = |group| move |source| MdnsError::Listen { group, source };
        let v4 = v4.map(UdpSocket::from_std).transpose().map_err(failed(GROUP_V4.into()))?;
        let v6 = v6.map(UdpSocket::from_std).transpose().map_err(failed(GROUP_V6.into()))?;
        Ok(Self { v4, v6, place })
    }

    /// Whether `device` in the namespace at `namespace` is the one that these are on, and gives no more than they have.
    pub async fn are_current(&self, namespace: &Path, device: &'static str) -> bool {
        let has_v6 = self.v6.is_some();
        let now = in_namespace(namespace, move |file| {
            let place = place(file, device).ok()?;
            Some((place, has_v6 || v6(place.index).is_err()))
        });
        matches!(now.await, Ok(Some((place, true))) if place == self.place)
    }

    /// Whether there is a socket for IPv4, and one for IPv6.
    pub fn families(&self) -> (bool, bool) {
        (self.v4.is_some(), self.v6.is_some())
    }

    /// Waits for a datagram. Cancel safe.
    ///
    /// # Errors
    /// A socket is broken: make new ones.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        loop {
            let family = tokio::select! {
                ready = readable(self.v4.as_ref()) => ready?,
                ready = readable(self.v6.as_ref()) => ready?,
            };
            match family.try_io(Interest::READABLE, || receive(family, buffer)) {
                Ok(Some(received)) => return Ok(received),
                // Without its destination nothing can be said of it, so it is not there.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends to the group of a family, or to one address, with a mark of the kernel's (SO_MARK of socket(7)) or with 0
    /// for none. What the send buffer does not take is lost, as any datagram may be.
    ///
    /// # Errors
    /// The kernel refuses it: no such family here, the device is gone, or the mark may not be set.
    pub fn send(&self, bytes: &[u8], to: SocketAddr, mark: u32) -> io::Result<()> {
        let (socket, to) = match to {
            SocketAddr::V4(_) => (self.v4.as_ref(), to),
            // Link-local: on this device.
            SocketAddr::V6(v6) => {
                (self.v6.as_ref(), SocketAddrV6::new(*v6.ip(), v6.port(), 0, self.place.index).into())
            }
        };
        let socket = socket.ok_or(io::ErrorKind::AddrNotAvailable)?;
        if mark != 0 {
            SockRef::from(socket).set_mark(mark)?;
        }
        let sent = socket.try_send_to(bytes, to);
        if mark != 0 {
            SockRef::from(socket).set_mark(0)?;
        }
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

async fn readable(socket: Option<&UdpSocket>) -> io::Result<&UdpSocket> {
    match socket {
        Some(socket) => socket.readable().await.map(|()| socket),
        None => std::future::pending().await,
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let mut control = nix::cmsg_space!(nix::libc::in_pktinfo, nix::libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    if socket.local_addr()?.is_ipv4() {
        let message =
            recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
        let from = message.address.map(|from| SocketAddr::from((from.ip(), from.port())));
        Ok(received(message.bytes, message.flags, from, message.cmsgs()?))
    } else {
        let message =
            recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
        let from = message.address.map(|from| {
            SocketAddr::V6(SocketAddrV6::new(from.ip(), from.port(), from.flowinfo(), from.scope_id()))
        });
        Ok(received(message.bytes, message.flags, from, message.cmsgs()?))
    }
}

fn received(
    length: usize,
    flags: MsgFlags,
    from: Option<SocketAddr>,
    mut control: impl Iterator<Item = ControlMessageOwned>,
) -> Option<Received> {
    let to = control.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes())),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    })?;
    Some(Received { length, cut: flags.contains(MsgFlags::MSG_TRUNC), from: from?, to })
}

/// Runs `work` in a network's namespace.
async fn in_namespace<T: Send + 'static>(
    namespace: &Path,
    work: impl FnOnce(&File) -> T + Send + 'static,
) -> Result<T, MdnsError> {
    let done = enter::within_path(namespace, work).await;
    done.map_err(|source| MdnsError::Namespace { path: namespace.to_owned(), source })
}

fn place(namespace: &File, device: &str) -> io::Result<Place> {
    let file = namespace.metadata()?;
    Ok(Place { namespace: (file.dev(), file.ino()), index: if_nametoindex(device)? })
}

fn bind(namespace: &File, device: &str, ipv4: bool) -> Result<Bound, MdnsError> {
    let failed = |group| move |source| MdnsError::Listen { group, source };
    let place = place(namespace, device).map_err(failed(GROUP_V4.into()))?;
    let v4 = ipv4.then(|| v4(place.index)).transpose().map_err(failed(GROUP_V4.into()))?;
    let v6 = match v6(place.index) {
        Ok(v6) => Some(v6),
        // Then the other family has to do.
        Err(_) if v4.is_some() => None,
        Err(source) => return Err(failed(GROUP_V6.into())(source)),
    };
    Ok(Bound { v4, v6, place })
}

fn v4(device: u32) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_multicast_all_v4(false)?;
    socket.set_multicast_loop_v4(false)?;
    socket.set_multicast_ttl_v4(TTL)?;
    socket.set_ttl_v4(TTL)?;
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    common(&socket, device)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(device))?;
    Ok(socket.into())
}

fn v6(device: u32) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(true)?;
    socket.set_multicast_all_v6(false)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_multicast_hops_v6(TTL)?;
    socket.set_unicast_hops_v6(TTL)?;
    socket.set_multicast_if_v6(device)?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    common(&socket, device)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
    socket.join_multicast_v6(&GROUP_V6, device)?;
    Ok(socket.into())
}

/// On `device` alone: multicast goes out there, and nothing comes in from elsewhere.
fn common(socket: &Socket, device: u32) -> io::Result<()> {
    socket.bind_device_by_index_v4(NonZeroU32::new(device))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)
}
