//! The socket for probes of one network: frames from this node's bridge to another's, by the very way that frames of
//! endpoints take (bridge, FDB, VXLAN device, underlay or mesh, and the same at the other end).
//!
//! A packet socket (packet(7)) for one type of Ethernet and one device costs other frames nothing. The kernel gives it only
//! what has the MAC of a node's probe for its sender, which endpoints may not use (`guard`). What is in a frame, and
//! whether it is to be believed, is its reader's business.

use std::io;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::links::BRIDGE;
use super::packets::{HEADER, PacketSocket};
use super::{KernelError, Linux};
use crate::model::{Mac, NetworkId};

/// Local experimental EtherType 1 (IEEE 802-2014 section 9.2.4).
const ETH_P_PROBE: u16 = 0x88b5;
/// The longest frame that is read, in bytes: what Ethernet's longest usual packets take.
const FRAME_MAX: usize = 9000 + HEADER;
/// What the socket may hold that was not read yet, in bytes.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A socket on a network's bridge.
#[derive(Debug)]
pub struct ProbeSocket(PacketSocket);

/// Whether this process may open such sockets, and the kernel has them.
pub fn can_probe() -> bool {
    Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).is_ok()
}

impl Linux {
    /// Opens the socket for probes in a network.
    ///
    /// # Errors
    /// The network is not there, or the kernel refuses it.
    pub async fn probe_socket(&self, network: NetworkId) -> Result<ProbeSocket, KernelError> {
        let netns = self.inner.dir.netns(network)?;
        let filter = Some(Vec::from(from_nodes()));
        PacketSocket::open(&netns, BRIDGE, ETH_P_PROBE, filter, RECEIVE_BUFFER, "probes")
            .await
            .map(ProbeSocket)
    }
}

impl ProbeSocket {
    /// Sends `payload` to a MAC, from another.
    ///
    /// # Errors
    /// The bridge is down or gone, or smaller than this. What only did not fit into a queue is lost, as any frame may be.
    pub fn send(&self, to: Mac, from: Mac, payload: &[u8]) -> io::Result<()> {
        let frame = [&to.0[..], &from.0, &ETH_P_PROBE.to_be_bytes(), payload].concat();
        self.0.send(&frame)
    }

    /// Waits for a frame: who sent it, and what is in it, in `buffer`. Cancel safe.
    ///
    /// # Errors
    /// The bridge is gone, or down: open another socket.
    pub async fn receive<'a>(&self, buffer: &'a mut Vec<u8>) -> io::Result<(Mac, &'a [u8])> {
        loop {
            buffer.resize(FRAME_MAX, 0);
            let length = self.0.socket.recv(buffer).await?;
            buffer.truncate(length);
            if length >= HEADER {
                break;
            }
        }
        let (header, payload) = buffer.split_at(HEADER);
        let mut from = [0; 6];
        from.copy_from_slice(&header[6..12]);
        Ok((Mac(from), payload))
    }
}

/// A program of the classic BPF that lets frames through whose sender is a node's probe.
fn from_nodes() -> [SockFilter; 6] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let [a, b, c] = Mac::PROBES;
    [
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(JUMP_EQUAL, 0, 3, u16::from_be_bytes([a, b]).into()),
        SockFilter::new(LOAD_BYTE, 0, 0, 8),
        SockFilter::new(JUMP_EQUAL, 0, 1, c.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
