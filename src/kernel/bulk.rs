//! FDB, MDB and neighbour entries by the thousand: many messages in one send, and an answer only to those that fail.
//!
//! The kernel works through all messages of a send before the call returns, and an error carries the sequence
//! number of its message. So one acknowledgement, for the last message, says that all were looked at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::KernelError;
use super::mdb;
use super::netns::Netns;
use super::raw::{Answers, Message};
use crate::model::Mac;
use crate::plan::Action;

/// How many bytes go out in one send. More does not make it faster.
const SEND_SIZE: usize = 32 * 1024;
/// Room for an error to every message of a send, as the kernel accounts for it (about 800 bytes each).
const RECEIVE_BUFFER: usize = 4 << 20;

/// Static in the bridge (NUD_NOARP) and, for the VXLAN device, which wants to see NUD_REACHABLE, not ageing.
/// With NUD_PERMANENT the bridge would take the MAC for one of its own.
const STATIC: u16 = 0x02 | 0x40;
/// "Whatever is not listed" in a VXLAN device's FDB.
const ANY: Mac = Mac([0; 6]);

/// Where frames for the groups of mDNS go (RFC 1112 section 6.4, RFC 2464 section 7). Other groups share these
/// MACs, 239.0.0.251 and ff05::fb among them.
pub(super) const MDNS: [Mac; 2] = [Mac([0x01, 0, 0x5e, 0, 0, 0xfb]), Mac([0x33, 0x33, 0, 0, 0, 0xfb])];

/// The links that entries belong to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Devices {
    /// The index of the bridge.
    pub bridge: u32,
    /// The index of the VXLAN device.
    pub vxlan: u32,
}

/// A message of a crate's type, or of ours.
enum Kind {
    Route(RouteNetlinkMessage),
    Raw(Message),
}

/// One kernel message of an operation.
struct Request {
    message: Kind,
    flags: u16,
    /// Errors that mean that it is as it should be.
    fine: &'static [Errno],
}

/// Whether `action` is one that [`program`] carries out.
pub(super) fn is_entry(action: &Action) -> bool {
    matches!(
        action,
        Action::PutNeighbour { .. }
            | Action::DeleteNeighbour(_)
            | Action::PutRemote { .. }
            | Action::DeleteRemote(_)
            | Action::AddFlood(_)
            | Action::DeleteFlood(_)
            | Action::AddGroup { .. }
            | Action::DeleteGroup { .. }
    )
}

fn requests(action: &Action, devices: Devices) -> Vec<Request> {
    let put = |message, how| Request {
        message: Kind::Route(RouteNetlinkMessage::NewNeighbour(message)),
        flags: NLM_F_CREATE | how,
        fine: &[],
    };
    let delete = |message| Request {
        message: Kind::Route(RouteNetlinkMessage::DelNeighbour(message)),
        flags: 0,
        fine: &[Errno::ENOENT],
    };
    match action {
        Action::PutNeighbour { address, mac } => {
            vec![put(neighbour(devices.bridge, *address, Some(*mac)), NLM_F_REPLACE)]
        }
        Action::DeleteNeighbour(address) => vec![delete(neighbour(devices.bridge, *address, None))],
        Action::PutRemote { mac, vtep } => {
            // One message for both: the bridge finds the port, the port finds the node.
            let both = NeighbourFlags::Own | NeighbourFlags::Controller;
            vec![put(forwarding(devices.vxlan, *mac, both, Some(*vtep)), NLM_F_REPLACE)]
        }
        // Two messages: the kernel stops at the first half that is missing.
        Action::DeleteRemote(mac) => [NeighbourFlags::Controller, NeighbourFlags::Own]
            .map(|half| delete(forwarding(devices.vxlan, *mac, half, None)))
            .into(),
        Action::AddFlood(vtep) => {
            vec![put(forwarding(devices.vxlan, ANY, NeighbourFlags::Own, Some(*vtep)), NLM_F_APPEND)]
        }
        Action::DeleteFlood(vtep) => {
            vec![delete(forwarding(devices.vxlan, ANY, NeighbourFlags::Own, Some(*vtep)))]
        }
        Action::AddGroup { group, to } => {
            let message = Kind::Raw(mdb::add(devices.vxlan, *group, *to));
            vec![Request { message, flags: 0, fine: &[Errno::EEXIST] }]
        }
        Action::DeleteGroup { group, to } => {
            let message = Kind::Raw(mdb::delete(devices.vxlan, *group, *to));
            vec![Request { message, flags: 0, fine: &[Errno::ENOENT] }]
        }
        _ => Vec::new(),
    }
}

fn neighbour(bridge: u32, address: IpAddr, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = bridge;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
    message
}

fn forwarding(link: u32, mac: Mac, flags: NeighbourFlags, vtep: Option<IpAddr>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    message.header.state = NeighbourState::Other(STATIC);
    message.header.flags = flags;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message.attributes.extend(vtep.map(|v| NeighbourAttribute::Destination(NeighbourAddress::from(v))));
    message
}

/// The entry that pins a local endpoint's MAC to its port, so that the bridge knows it before it has spoken and
/// never asks the other nodes for it.
pub(super) fn pinned(port: u32, mac: Mac) -> NeighbourMessage {
    forwarding(port, mac, NeighbourFlags::Controller, None)
}

/// The entry by which the bridge takes what is sent to a MAC for itself, and gives it to who listens on it.
pub(super) fn local(bridge: u32, mac: Mac) -> NeighbourMessage {
    let mut message = forwarding(bridge, mac, NeighbourFlags::Own, None);
    message.header.state = NeighbourState::Permanent;
    message
}

/// Keeps mDNS from being sent by the VXLAN device `vxlan`, whose address is `local`, or lets it out again: an entry
/// that leads to no address leads nowhere, and overrides the flood list. For kernels without the filter.
pub(super) async fn keep_mdns(
    netns: &Netns,
    vxlan: u32,
    local: IpAddr,
    keep: bool,
) -> Result<Result<(), Errno>, KernelError> {
    let nowhere: IpAddr =
        if local.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let request = move |mac: &Mac| {
        let message = forwarding(vxlan, *mac, NeighbourFlags::Own, Some(nowhere));
        if keep {
            let message = Kind::Route(RouteNetlinkMessage::NewNeighbour(message));
            Request { message, flags: NLM_F_CREATE | NLM_F_APPEND, fine: &[] }
        } else {
            let message = Kind::Route(RouteNetlinkMessage::DelNeighbour(message));
            Request { message, flags: 0, fine: &[Errno::ENOENT] }
        }
    };
    let failed = run(netns, move || MDNS.iter().map(request).enumerate().collect()).await?;
    Ok(failed.first().map_or(Ok(()), |(_, errno)| Err(*errno)))
}

/// Whether an entry of a dump is one that we made, by its state.
pub(super) fn is_static(message: &NeighbourMessage) -> bool {
    let state = u16::from(message.header.state);
    state & u16::from(NeighbourState::Noarp) != 0 && state & u16::from(NeighbourState::Permanent) == 0
}

/// Carries out `actions` (see [`is_entry`]) in `netns`; what failed, by its place in `actions`.
pub(super) async fn program(
    netns: &Netns,
    devices: Devices,
    actions: Vec<Action>,
) -> Result<Vec<(usize, Errno)>, KernelError> {
    let place = move |(place, action): (usize, &Action)| {
        requests(action, devices).into_iter().map(move |request| (place, request))
    };
    run(netns, move || actions.iter().enumerate().flat_map(place).collect()).await
}

async fn run(
    netns: &Netns,
    requests: impl FnOnce() -> Vec<(usize, Request)> + Send + 'static,
) -> Result<Vec<(usize, Errno)>, KernelError> {
    let broken = |source| KernelError::Refused { what: "write forwarding entries".to_owned(), source };
    let work = move || -> io::Result<Vec<(usize, Errno)>> { Batch::new(requests())?.run() };
    // On the namespace's own thread from the socket to the last answer: all of it blocks.
    netns.run(work).await?.map_err(broken)
}

/// A message on its way.
struct Queued {
    /// Which of the actions it is part of.
    action: usize,
    /// Where its bytes end in the buffer.
    end: usize,
    fine: &'static [Errno],
}

struct Batch {
    socket: Socket,
    bytes: Vec<u8>,
    queue: Vec<Queued>,
    failed: Vec<(usize, Errno)>,
}

impl Batch {
    fn new(requests: Vec<(usize, Request)>) -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Without it every error repeats the message that failed.
        socket.set_cap_ack(true)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_rx_buf_sz(i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX))?;
        }
        let mut batch = Self { socket, bytes: Vec::new(), queue: Vec::new(), failed: Vec::new() };
        requests.into_iter().for_each(|(place, request)| batch.push(place, request));
        Ok(batch)
    }

    fn push(&mut self, action: usize, request: Request) {
        // Its place in the queue, which finds it again in an error.
        let sequence = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        let flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
        match request.message {
            Kind::Route(message) => {
                let mut message = NetlinkMessage::from(message);
                message.header.flags = flags;
                message.header.sequence_number = sequence;
                message.finalize();
                let start = self.bytes.len();
                self.bytes.resize(start + message.buffer_len(), 0);
                message.serialize(&mut self.bytes[start..]);
            }
            Kind::Raw(message) => self.bytes.extend(message.bytes(flags, sequence)),
        }
        let end = self.bytes.len();
        self.queue.push(Queued { action, end, fine: request.fine });
    }

    fn start(&self, place: usize) -> usize {
        place.checked_sub(1).map_or(0, |before| self.queue[before].end)
    }

    fn run(mut self) -> io::Result<Vec<(usize, Errno)>> {
        let mut first = 0;
        while first < self.queue.len() {
            let limit = self.start(first) + SEND_SIZE;
            let fit = self.queue[first..].partition_point(|queued| queued.end <= limit).max(1);
            self.send(first, first + fit)?;
            first += fit;
        }
        Ok(self.failed)
    }

    /// Sends the messages from `first` to before `end` as one, and reads the answers.
    fn send(&mut self, first: usize, end: usize) -> io::Result<()> {
        for place in first..end {
            // The flags' low byte is where the ACK bit is, six bytes into the header (native byte order).
            let at = self.start(place) + 6;
            let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
            let flags = if place + 1 == end { flags | NLM_F_ACK } else { flags & !NLM_F_ACK };
            self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        let bytes = &self.bytes[self.start(first)..self.queue[end - 1].end];
        self.socket.send(bytes, 0)?;
        match self.answers(end - 1)? {
            Some(errors) => {
                for (place, errno) in errors {
                    let queued = &self.queue[place];
                    if !queued.fine.contains(&errno) {
                        self.failed.push((queued.action, errno));
                    }
                }
                Ok(())
            }
            // Answers were lost. Every message may be sent twice, so do that, in halves.
            None if end - first > 1 => {
                let middle = first + (end - first) / 2;
                self.send(first, middle)?;
                self.send(middle, end)
            }
            None => {
                self.failed.push((self.queue[first].action, Errno::ENOBUFS));
                Ok(())
            }
        }
    }

    /// The errors to what was sent, up to the answer to message `last`; `None` if some were lost.
    fn answers(&self, last: usize) -> io::Result<Option<Vec<(usize, Errno)>>> {
        let mut errors = Vec::new();
        let mut complete = false;
        let mut buffer = Vec::with_capacity(4096);
        let mut lost = false;
        loop {
            buffer.clear();
            // All answers are there when the send returns: nothing to wait for.
            match self.socket.recv(&mut buffer, nix::libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => break,
                    Some(Errno::ENOBUFS) => {
                        lost = true;
                        continue;
                    }
                    Some(Errno::EINTR) => continue,
                    _ => return Err(error),
                },
            }
            for (place, errno) in Answers(&buffer) {
                complete |= place == last;
                errors.extend(errno.filter(|_| place < self.queue.len()).map(|errno| (place, errno)));
            }
        }
        Ok((complete && !lost).then_some(errors))
    }
}
