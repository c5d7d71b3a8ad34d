//! Listening to frames: those at the port of one endpoint of this node, or all that come into a network on this node, each once.
//!
//! A packet socket sees a frame as it comes in at a port, before the port's rules, and as it leaves one. The memory that a capture takes
//! is what the socket may hold; what comes while it is full is lost, and the kernel counts it.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::links::BRIDGE;
use super::packets::{self, PacketSocket};
use super::room::Room;
use super::{KernelError, Linux};
use crate::capture::{Filter, Packet};
use crate::clock::now_us;
use crate::model::{EndpointName, NetworkId};
use crate::plan::PortName;

/// All types of frames (ETH_P_ALL).
const ALL: u16 = 3;
/// What the socket may hold that was not read yet, in bytes; the kernel may allow less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The longest frame that is read, in bytes.
const FRAME_MAX: usize = 65_535;
/// sll_pkttype of what this machine sends (packet(7)).
const OUTGOING: u8 = 4;
/// sll_hatype of the loopback.
const LOOPBACK: u16 = 772;

/// What is listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One port, both ways.
    Port,
    /// Whatever comes into a network: at any port of its bridge, or from the bridge with this index itself.
    Network(usize),
}

/// Frames of a network, as they come.
#[derive(Debug)]
pub struct CaptureSocket {
    socket: UdpSocket,
    place: Place,
    /// How many the kernel said that it lost, and how many of these were told.
    lost: AtomicU64,
    told: AtomicU64,
}

impl Linux {
    /// Listens to an endpoint of this node, or to a whole network on it.
    ///
    /// # Errors
    /// The network or the endpoint is not here, or there can be no such socket.
    pub async fn capture(
        &self,
        network: NetworkId,
        endpoint: Option<&EndpointName>,
    ) -> Result<CaptureSocket, KernelError> {
        let room =
            Room::open(&self.inner.dir, network).await?.ok_or(KernelError::NoSuchNetwork { network })?;
        let netns = self.inner.dir.netns(network)?;
        let failed = |source| KernelError::Refused { what: "open a socket for a capture".to_owned(), source };
        let (socket, place) = match endpoint {
            Some(name) => {
                let port = PortName::of(name).to_string();
                let opened = PacketSocket::open(&netns, port, ALL, None, RECEIVE_BUFFER, "a capture").await?;
                (opened.socket, Place::Port)
            }
            None => {
                let bridge = room.find(BRIDGE).await?.ok_or(KernelError::NoSuchNetwork { network })?.index;
                let opened =
                    netns.run(|| packets::everywhere(ALL, None, RECEIVE_BUFFER)).await?.map_err(failed)?;
                let socket = UdpSocket::from_std(opened.into()).map_err(failed)?;
                (socket, Place::Network(bridge as usize))
            }
        };
        setsockopt(&socket, sockopt::RxqOvfl, &1).map_err(|errno| failed(errno.into()))?;
        Ok(CaptureSocket { socket, place, lost: AtomicU64::new(0), told: AtomicU64::new(0) })
    }
}

impl CaptureSocket {
    /// The frames that `filter` wants of those that are there, of each `snaplen` bytes at most, up to `most` bytes in all; waits for
    /// the first for so long. Cancel safe.
    ///
    /// # Errors
    /// The port is gone.
    pub async fn take(
        &self,
        filter: &Filter,
        snaplen: u32,
        most: usize,
        wait: Duration,
    ) -> io::Result<Vec<Packet>> {
        let deadline = Instant::now() + wait;
        let mut buffer = vec![0; FRAME_MAX];
        let (mut found, mut size) = (Vec::new(), 0);
        while size < most {
            let next = async { self.socket.async_io(Interest::READABLE, || self.receive(&mut buffer)).await };
            // What is there already is taken, and waited for only where there is nothing.
            let until = if found.is_empty() { deadline } else { Instant::now() };
            let Ok(received) = timeout_at(until, next).await else { break };
            let Some((length, kept)) = received? else { continue };
            let frame = buffer.get(..kept).unwrap_or_default();
            if !filter.wants(frame) {
                continue;
            }
            let bytes = frame.get(..kept.min(snaplen as usize)).unwrap_or_default().to_vec();
            size += bytes.len() + 32;
            found.push(Packet {
                time_us: now_us(),
                length: u32::try_from(length).unwrap_or(u32::MAX),
                bytes,
            });
        }
        Ok(found)
    }

    /// How many frames were lost since this was last asked for.
    pub fn take_lost(&self) -> u64 {
        let lost = self.lost.load(Ordering::Relaxed);
        lost.saturating_sub(self.told.swap(lost, Ordering::Relaxed))
    }

    /// One frame: how long it was, and how much of it was read; `None` of one that is not to be listened to here.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, usize)>> {
        let room = buffer.len();
        let mut control = nix::cmsg_space!(u32);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let message = recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        for said in message.cmsgs()? {
            if let ControlMessageOwned::RxqOvfl(lost) = said {
                self.lost.fetch_max(lost.into(), Ordering::Relaxed);
            }
        }
        let wanted = match (self.place, message.address) {
            (Place::Port, _) => true,
            (Place::Network(bridge), Some(from)) => {
                // Each frame as it comes in: at a port, or from the bridge itself.
                from.hatype() != LOOPBACK && (from.ifindex() == bridge) == (from.pkttype() == OUTGOING)
            }
            (Place::Network(_), None) => false,
        };
        Ok(wanted.then_some((message.bytes, message.bytes.min(room))))
    }
}
