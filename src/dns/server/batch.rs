//! Datagrams by the batch: one system call for many of them.
//!
//! Owns: the memory that they are received into and sent from. Does not own what is answered.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// How many datagrams are received at once, and answered before others get their turn.
pub(super) const BATCH: usize = 32;
/// The largest query that is read, in bytes: a longer one is cut, and so malformed.
const QUERY_MAX: usize = 2048;

/// Queries that came in, all of them by IPv4 or all by IPv6.
pub(super) struct Queries {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Box<[[u8; QUERY_MAX]; BATCH]>,
    /// Bytes of each, and who sent it; `None` where that is no address that can be answered to.
    received: Vec<(usize, Option<SocketAddr>)>,
}

/// Answers that are to go out, of one family likewise.
pub(super) struct Answers {
    headers: MultiHeaders<SockaddrStorage>,
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
    to: Vec<Option<SockaddrStorage>>,
}

impl Queries {
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: Box::new([[0; QUERY_MAX]; BATCH]),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what has arrived in place of what was there before; how many they are.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None)?;
        let taken = messages.map(|message| (message.bytes, message.address.as_ref().and_then(address)));
        self.received.extend(taken);
        Ok(self.received.len())
    }

    /// Each with who sent it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let each = self.buffers.iter().zip(&self.received);
        each.filter_map(|(buffer, (len, from))| Some((buffer.get(..*len)?, (*from)?)))
    }
}

impl Answers {
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            bytes: Vec::new(),
            ranges: Vec::with_capacity(BATCH),
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Adds one, in pieces.
    pub fn push(&mut self, pieces: &[&[u8]], to: SocketAddr) {
        let begin = self.bytes.len();
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.ranges.push(begin..self.bytes.len());
        self.to.push(Some(to.into()));
    }

    /// How many are to be sent.
    pub fn count(&self) -> u64 {
        self.ranges.len() as u64
    }

    /// Sends all of them.
    ///
    /// A full send buffer loses an answer, as any datagram may be lost: the client asks again.
    pub fn send(&mut self, socket: BorrowedFd<'_>) {
        let Self { headers, bytes, ranges, to } = self;
        for (ranges, to) in ranges.chunks(BATCH).zip(to.chunks(BATCH)) {
            let mut sent = 0;
            while sent < ranges.len() {
                let (ranges, to) = (&ranges[sent..], &to[sent..]);
                let piece = |i: usize| ranges.get(i).and_then(|range| bytes.get(range.clone()));
                let slices: [_; BATCH] = array::from_fn(|i| [IoSlice::new(piece(i).unwrap_or_default())]);
                let slices = slices.iter().take(ranges.len());
                let flags = MsgFlags::MSG_DONTWAIT;
                match sendmmsg(socket.as_raw_fd(), headers, slices, to, [], flags) {
                    Ok(messages) => sent += messages.count().max(1),
                    // That of the first one: the others may be luckier.
                    Err(_) => sent += 1,
                }
            }
        }
        bytes.clear();
        ranges.clear();
        to.clear();
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_datagrams_come_in_and_each_answer_goes_to_its_sender() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(any).expect("binds");
            let clients: Vec<UdpSocket> =
                (0..BATCH + 5).map(|_| UdpSocket::bind(any).expect("binds")).collect();
            for (i, client) in clients.iter().enumerate() {
                client.set_read_timeout(Some(Duration::from_secs(3))).expect("sets");
                let to = server.local_addr().expect("is bound");
                client.send_to(&vec![i as u8; i + 1], to).expect("is sent");
            }
            let (mut queries, mut answers) = (Queries::new(), Answers::new());
            for expected in [BATCH, 5] {
                assert_eq!(queries.receive(server.as_fd()).expect("receives"), expected);
                for (query, from) in queries.iter() {
                    answers.push(&[b"re: ", query], from);
                }
                answers.send(server.as_fd());
            }
            let none = queries.receive(server.as_fd()).expect_err("nothing is left");
            assert_eq!((none.kind(), queries.iter().count()), (io::ErrorKind::WouldBlock, 0));
            for (i, client) in clients.iter().enumerate() {
                let mut buffer = [0; 512];
                let len = client.recv(&mut buffer).expect("is answered");
                assert_eq!(buffer[..len], [b"re: ", &*vec![i as u8; i + 1]].concat());
            }
        }
    }

    #[test]
    fn an_answer_that_cannot_be_sent_does_not_keep_back_the_others() {
        let (server, client) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0"));
        let (server, client) = (server.expect("binds"), client.expect("binds"));
        client.set_read_timeout(Some(Duration::from_secs(3))).expect("sets");
        let mut answers = Answers::new();
        for last in [1_u8, 2, 3] {
            answers.push(&[&[last]], client.local_addr().expect("is bound"));
            // No way leads there from an address of the loopback.
            answers.push(&[&[9]], "[2001:db8::1]:9".parse().expect("an address"));
        }
        answers.send(server.as_fd());
        for last in [1_u8, 2, 3] {
            let mut buffer = [0; 8];
            assert_eq!((client.recv(&mut buffer).expect("arrives"), buffer[0]), (1, last));
        }
    }
}
