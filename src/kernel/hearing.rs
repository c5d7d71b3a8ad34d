//! What endpoints say of addresses, as it comes in at their ports: the rules of a port (`guard`) hand a copy of what is to be heard to
//! a group of the kernel's packet log (nfnetlink_log), and one socket in each network's namespace listens to it.
//!
//! Frames that carry data are not touched by it. What one endpoint says too often is left out by a rule of its port.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};
use nix::errno::Errno;
use tokio::runtime::Handle as Runtime;

use super::discovery::{self, Said};
use super::links::BRIDGE;
use super::packets::{self, HEADER};
use super::raw::{self, Answers, Message, attribute, within};
use super::{KernelError, Linux};
use crate::model::{Mac, NetworkId};
use crate::plan::PortName;

/// The group of the log that is ours. Each namespace has its own.
pub(super) const GROUP: u16 = 76;
/// How much of a packet is copied, in bytes: an answer of neighbour discovery with an option for each.
pub(super) const COPIED: u32 = 128;

const NFNL_SUBSYS_ULOG: u16 = 4;
const NFULNL_MSG_PACKET: u16 = 0;
const NFULNL_MSG_CONFIG: u16 = 1;

/// What an endpoint said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// By which port.
    pub port: PortName,
    /// What.
    pub said: Said,
}

/// A socket that hears what the endpoints of a network say.
pub struct Hearing {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Linux {
    /// Listens to what the endpoints of a network on this node say of addresses.
    ///
    /// # Errors
    /// The network is not there, the kernel has no such log, or somebody else listens to this one.
    pub async fn hear(&self, network: NetworkId) -> Result<Hearing, KernelError> {
        let runtime = Runtime::current();
        let open = move || {
            let _entered = runtime.enter();
            open()
        };
        let opened = self.inner.dir.netns(network)?.run(open).await?;
        let socket = opened.map_err(|source| KernelError::Refused {
            what: "listen to what endpoints say of addresses".to_owned(),
            source,
        })?;
        Ok(Hearing { socket, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Tells the endpoints of a network on this node that an address is at a MAC.
    ///
    /// # Errors
    /// The network is not there, or its bridge is down.
    pub async fn announce(&self, network: NetworkId, address: IpAddr, mac: Mac) -> Result<(), KernelError> {
        self.inner.room(network).await?.announce(address, mac).await
    }

    /// Asks whoever has a MAC in a network whether it still has an address too. The answer is heard as anything else that it
    /// says.
    ///
    /// # Errors
    /// The network is not there, or its bridge is down.
    pub async fn ask_for(&self, network: NetworkId, address: IpAddr, mac: Mac) -> Result<(), KernelError> {
        let ask = move || {
            let (socket, bridge) = packets::sender(BRIDGE)?;
            let from = Mac(bridge.addr().ok_or_else(|| io::Error::from(Errno::ENODEV))?);
            packets::send(&socket, &bridge, &discovery::question(address, mac, from))
        };
        let asked = self.inner.dir.netns(network)?.run(ask).await?;
        asked.map_err(|source| KernelError::Refused { what: format!("ask for {address}"), source })
    }

    /// Tells one endpoint of this node that an address is at a MAC.
    ///
    /// # Errors
    /// The network or the endpoint's interface is not there.
    pub async fn tell(
        &self,
        network: NetworkId,
        port: &PortName,
        address: IpAddr,
        mac: Mac,
    ) -> Result<(), KernelError> {
        self.send_by(network, port, vec![discovery::announcement(address, mac)]).await
    }

    /// Sends frames to one endpoint of this node and to nobody else.
    ///
    /// # Errors
    /// The network or the endpoint's interface is not there.
    pub(super) async fn send_by(
        &self,
        network: NetworkId,
        port: &PortName,
        frames: Vec<Vec<u8>>,
    ) -> Result<(), KernelError> {
        let device = port.to_string();
        let send = move || {
            let (socket, address) = packets::sender(&device)?;
            frames.iter().try_for_each(|frame| packets::send(&socket, &address, frame))
        };
        let sent = self.inner.dir.netns(network)?.run(send).await?;
        sent.map_err(|source| KernelError::Refused { what: format!("send to what is behind {port}"), source })
    }
}

/// Tells the endpoints of the network in whose namespace the calling thread is that an address is at a MAC. The bridge itself
/// keeps that off the VXLAN device, which suppresses neighbour discovery. Blocks.
pub(super) fn announce(address: IpAddr, mac: Mac) -> io::Result<()> {
    let (socket, bridge) = packets::sender(BRIDGE)?;
    packets::send(&socket, &bridge, &discovery::announcement(address, mac))
}

/// Listens to nothing in the calling thread's namespace, to see whether the kernel has such a log. Blocks.
pub(super) fn try_out() -> io::Result<()> {
    listen(&mut Socket::new(NETLINK_NETFILTER)?)
}

/// Opens the socket in the calling thread's namespace. Blocks.
fn open() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    listen(socket.socket_mut())?;
    Ok(socket)
}

fn listen(socket: &mut Socket) -> io::Result<()> {
    const BIND: u8 = 1;
    const COPY_PACKET: u8 = 2;
    // struct nfulnl_msg_config_mode: how much, how, and a byte that means nothing.
    let copy = [&COPIED.to_be_bytes()[..], &[COPY_PACKET, 0]].concat();
    socket.bind(&SocketAddr::new(0, 0))?;
    // Each packet is told at once: none waits for others.
    let at_once = [attribute(4, &0_u32.to_be_bytes()), attribute(5, &1_u32.to_be_bytes())].concat();
    for change in [attribute(1, &[BIND]), attribute(2, &copy), at_once] {
        // struct nfgenmsg: no family, version, the group.
        let body = [&[0, 0][..], &GROUP.to_be_bytes(), &change].concat();
        let message = Message { kind: NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG, flags: 0, body };
        socket.send(&message.bytes(NLM_F_REQUEST | NLM_F_ACK, 0), 0)?;
        let mut answer = Vec::with_capacity(4096);
        // The kernel has answered by the time the send returns.
        socket.recv(&mut answer, nix::libc::MSG_DONTWAIT)?;
        if let Some(errno) = Answers(&answer).find_map(|(_, errno)| errno) {
            return Err(errno.into());
        }
    }
    Ok(())
}

impl Hearing {
    /// Waits until something is said. What was lost because too much was said is not told. Cancel safe.
    ///
    /// # Errors
    /// The socket is of no use any more.
    pub async fn next(&mut self) -> io::Result<Vec<Heard>> {
        loop {
            self.buffer.clear();
            match poll_fn(|context| self.socket.poll_recv(context, &mut self.buffer)).await {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => continue,
                Err(error) => return Err(error),
            }
            let heard: Vec<Heard> = raw::Messages(&self.buffer)
                .filter(|(header, _)| header.is(NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET))
                .filter_map(|(_, message)| heard(message))
                .collect();
            if !heard.is_empty() {
                return Ok(heard);
            }
        }
    }
}

/// What one packet of the log says, behind struct nfgenmsg.
pub(super) fn heard(message: &[u8]) -> Option<Heard> {
    const PACKET_HEADER: u16 = 1;
    const PAYLOAD: u16 = 9;
    const PREFIX: u16 = 10;
    const LINK_HEADER: u16 = 16;
    let message = message.get(4..)?;
    let prefix = within(message, PREFIX)?.split(|byte| *byte == 0).next()?;
    let port = PortName::recognise(std::str::from_utf8(prefix).ok()?)?;
    let ethertype = u16::from_be_bytes(*within(message, PACKET_HEADER)?.first_chunk()?);
    let link = within(message, LINK_HEADER)?.get(..HEADER)?;
    let sender = Mac(*link.get(6..)?.first_chunk()?);
    Some(Heard { port, said: Said::read(sender, ethertype, within(message, PAYLOAD)?)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::discovery::How;

    #[test]
    fn what_was_said_is_read_with_its_port_and_broken_messages_are_passed_over() {
        let name = "lm0123456789abc";
        let (address, mac) = ([10, 0, 0, 200].into(), Mac([2, 0, 0, 0, 0, 7]));
        let frame = discovery::announcement(address, mac);
        let message = |prefix: &[u8]| {
            [
                vec![5, 0, 0, 76],
                attribute(1, &[8, 6, 0, 0]),
                attribute(10, prefix),
                attribute(16, &frame[..HEADER]),
                attribute(9, &frame[HEADER..]),
            ]
            .concat()
        };
        let whole = message(&[name.as_bytes(), b"\0"].concat());
        let port = PortName::recognise(name).unwrap();
        assert_eq!(heard(&whole), Some(Heard { port, said: Said { address, mac, how: How::Announced } }));
        assert_eq!(heard(&message(b"other\0")), None);
        for end in 0..whole.len() {
            heard(&whole[..end]);
        }
    }
}
