//! Packet sockets (packet(7)): whole frames, as they are on a link.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockaddrLike, bind, sendto};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

use super::KernelError;
use super::netns::Netns;

/// Destination, sender and type (IEEE 802.3).
pub(super) const HEADER: usize = 14;

/// A socket on one link, for frames of one EtherType.
#[derive(Debug)]
pub(super) struct PacketSocket {
    /// What the runtime waits with for any socket of datagrams.
    pub socket: UdpSocket,
    link: LinkAddr,
}

impl PacketSocket {
    /// Opens one in a namespace; `what` it is for, in errors.
    pub async fn open(
        netns: &Netns,
        device: impl Into<String>,
        ether_type: u16,
        filter: Option<Vec<SockFilter>>,
        buffer: usize,
        what: &str,
    ) -> Result<Self, KernelError> {
        let failed = |source| KernelError::Refused { what: format!("open a socket for {what}"), source };
        let device = device.into();
        let opened = netns.run(move || on_link(&device, ether_type, filter.as_deref(), buffer)).await?;
        let (socket, link) = opened.map_err(failed)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into()).map_err(failed)?, link })
    }

    /// Sends a whole frame, as [`send`] does.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.socket, &self.link, frame)
    }
}

/// Sends a whole frame by a link. What only does not fit into a queue is lost, as any frame may be.
///
/// # Errors
/// The link is down or gone, or smaller than this.
pub(super) fn send(socket: &impl AsRawFd, link: &LinkAddr, frame: &[u8]) -> io::Result<()> {
    match sendto(socket.as_raw_fd(), frame, link, MsgFlags::MSG_DONTWAIT) {
        Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The address of a link of the calling thread's namespace. Blocks.
fn address_of(device: &str) -> io::Result<LinkAddr> {
    let links = getifaddrs()?.filter(|found| found.interface_name == device);
    let link = links.filter_map(|found| found.address?.as_link_addr().copied()).next();
    let link = link.ok_or_else(|| io::Error::from(Errno::ENODEV))?;
    debug_assert_eq!(link.family(), Some(AddressFamily::Packet));
    Ok(link)
}

/// A socket that only sends, and the address of the link of the calling thread's namespace to send by. Blocks.
pub(super) fn sender(device: &str) -> io::Result<(Socket, LinkAddr)> {
    let link = address_of(device)?;
    Ok((Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(0)))?, link))
}

/// A socket on a link of the calling thread's namespace, and the link's address. Blocks.
fn on_link(
    device: &str,
    ether_type: u16,
    filter: Option<&[SockFilter]>,
    buffer: usize,
) -> io::Result<(Socket, LinkAddr)> {
    let link = address_of(device)?;
    let socket = everywhere(ether_type, filter, buffer)?;
    bind(socket.as_raw_fd(), &link)?;
    Ok((socket, link))
}

/// A socket on all links of the calling thread's namespace. Blocks.
pub(super) fn everywhere(
    ether_type: u16,
    filter: Option<&[SockFilter]>,
    buffer: usize,
) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ether_type.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
    if let Some(filter) = filter {
        socket.attach_filter(filter)?;
    }
    socket.set_recv_buffer_size(buffer)?;
    Ok(socket)
}
