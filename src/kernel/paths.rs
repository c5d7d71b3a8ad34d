//! How large a packet passes between the nodes, through the mesh: tried out with ICMPv6 echo requests (RFC 4443), which
//! the other node's kernel answers whether its agent runs or not, with as many bytes.
//!
//! A tunnel says nothing of a path that is smaller than its ends: what does not fit is lost without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{SockaddrIn6, recvfrom};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::KernelError;
use super::netns::Netns;

/// The IPv6 header and that of the echo request.
const HEADERS: u32 = 48;
/// Large enough to be a whole packet, and so small that it passes wherever anything does.
const SMALL: u32 = 100;
/// How often what is not answered is sent again.
const TRIES: usize = 3;
/// How long is waited for answers.
const WAIT: Duration = Duration::from_millis(400);
/// How far what is found out may be below what would pass, in bytes.
const PRECISION: u32 = 8;

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// The largest packets that pass from `from` to each of `peers` and back, up to those that are named, in bytes;
/// 0 where nothing does.
pub(super) async fn try_out(
    mesh: &Netns,
    from: Ipv6Addr,
    peers: BTreeMap<Ipv6Addr, u32>,
) -> Result<BTreeMap<Ipv6Addr, u32>, KernelError> {
    let tried = mesh.run(move || Trial::open(from)?.run(&peers)).await?;
    tried.map_err(|source| KernelError::Refused { what: "try out the paths of the mesh".to_owned(), source })
}

struct Trial {
    socket: Socket,
}

impl Trial {
    fn open(from: Ipv6Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::ICMPV6))?;
        socket.bind(&SockAddr::from(SocketAddrV6::new(from, 0, 0, 0)))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        // Enough for the answers of many at once; less only makes some of them late.
        let _ = socket.set_recv_buffer_size(4 << 20);
        Ok(Self { socket })
    }

    fn run(&self, peers: &BTreeMap<Ipv6Addr, u32>) -> io::Result<BTreeMap<Ipv6Addr, u32>> {
        let small = peers.iter().map(|(peer, most)| (*peer, SMALL.min(*most))).collect();
        let there = self.passed(&small)?;
        let reached: BTreeMap<Ipv6Addr, u32> = peers
            .iter()
            .filter(|(peer, _)| there.contains(*peer))
            .map(|(peer, most)| (*peer, *most))
            .collect();
        let whole = self.passed(&reached)?;
        let mut found: BTreeMap<Ipv6Addr, u32> =
            peers.iter().map(|(peer, most)| (*peer, if whole.contains(peer) { *most } else { 0 })).collect();
        // Between what passes and what does not.
        let mut bounds: BTreeMap<Ipv6Addr, (u32, u32)> = reached
            .into_iter()
            .filter(|(peer, _)| !whole.contains(peer))
            .map(|(peer, most)| (peer, (SMALL.min(most), most)))
            .collect();
        while !bounds.is_empty() {
            let middle = bounds.iter().map(|(peer, (low, high))| (*peer, low.midpoint(*high))).collect();
            let passed = self.passed(&middle)?;
            for (peer, (low, high)) in &mut bounds {
                let middle = low.midpoint(*high);
                *(if passed.contains(peer) { low } else { high }) = middle;
            }
            for (peer, (low, _)) in bounds.extract_if(.., |_, (low, high)| *high - *low <= PRECISION) {
                found.insert(peer, low);
            }
        }
        Ok(found)
    }

    /// To whom a packet of the given size passes, and back.
    fn passed(&self, sizes: &BTreeMap<Ipv6Addr, u32>) -> io::Result<BTreeSet<Ipv6Addr>> {
        let mut passed = BTreeSet::new();
        for _ in 0..TRIES {
            for (peer, size) in sizes.iter().filter(|(peer, _)| !passed.contains(*peer)) {
                // One that cannot be sent has not passed.
                let _ = self.socket.send_to(&self.request(*size), &SockAddr::from(at(*peer)));
            }
            let end = Instant::now() + WAIT;
            while passed.len() < sizes.len() && Instant::now() < end {
                if let Some((peer, size)) = self.answer()?
                    && sizes.get(&peer) == Some(&size)
                {
                    passed.insert(peer);
                }
            }
            if passed.len() == sizes.len() {
                break;
            }
        }
        Ok(passed)
    }

    fn request(&self, size: u32) -> Vec<u8> {
        let mut request = vec![0; usize::try_from(size.max(HEADERS) - HEADERS).unwrap_or_default() + 8];
        request[0] = ECHO_REQUEST;
        request
    }

    /// Who answers one of our requests, and of what size; `None` if nobody does just now.
    fn answer(&self) -> io::Result<Option<(Ipv6Addr, u32)>> {
        let mut buffer = [0; 9000];
        let (length, from) = match recvfrom::<SockaddrIn6>(self.socket.as_raw_fd(), &mut buffer) {
            Ok((length, Some(from))) => (length, from.ip()),
            Ok((_, None)) | Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // The kernel gives such a socket an identifier of its own, and only what answers to that.
        if length == 0 || buffer[0] != ECHO_REPLY {
            return Ok(None);
        }
        let payload = u32::try_from(length).unwrap_or_default().saturating_sub(8);
        Ok(Some((from, payload + HEADERS)))
    }
}

fn at(peer: Ipv6Addr) -> SocketAddrV6 {
    SocketAddrV6::new(peer, 0, 0, 0)
}
