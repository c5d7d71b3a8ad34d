//! Packet sockets (packet(7)) on a device of a network, in the network's namespace.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockaddrLike, sendto};
use socket2::{Domain, Protocol, Socket, Type};

/// Destination, sender and type (IEEE 802.3).
pub(super) const HEADER: usize = 14;

/// Opens a socket for one EtherType in the calling thread's namespace, with the address of the device, to which it is not
/// bound yet. With none it only sends. Blocks.
pub(super) fn on(device: &str, ethertype: Option<u16>) -> io::Result<(Socket, LinkAddr)> {
    let links = getifaddrs()?.filter(|found| found.interface_name == device);
    let address = links.filter_map(|found| found.address?.as_link_addr().copied()).next();
    let address = address.ok_or_else(|| io::Error::from(Errno::ENODEV))?;
    debug_assert_eq!(address.family(), Some(AddressFamily::Packet));
    let protocol = Protocol::from(i32::from(ethertype.unwrap_or(0).to_be()));
    Ok((Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?, address))
}

/// Sends a frame by a device. What only does not fit into a queue is lost, as any frame may be.
///
/// # Errors
/// The device is down or gone, or smaller than this.
pub(super) fn send(socket: &impl AsRawFd, device: &LinkAddr, frame: &[u8]) -> io::Result<()> {
    match sendto(socket.as_raw_fd(), frame, device, MsgFlags::MSG_DONTWAIT) {
        Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
