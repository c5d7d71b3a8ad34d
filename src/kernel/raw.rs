//! Netlink messages that no crate of ours has types for: their bytes, and a socket that carries them.
//!
//! All of it blocks, for as long as the kernel takes to answer: run it on a thread of its own ([`Netns::run`]).
//!
//! [`Netns::run`]: super::netns::Netns::run

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};

use crate::namespace::enter;

/// The length of a message's header (struct nlmsghdr).
pub(super) const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The dump was disturbed by a change: what came is not of one moment (flag of struct nlmsghdr).
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Marks an attribute that holds attributes.
const NLA_F_NESTED: u16 = 0x8000;
/// How often a dump is begun anew because something changed meanwhile.
const ATTEMPTS: usize = 5;
/// How many datagrams a dump has at most; one holds some hundred entries. There are dumps that never end: that of a bridge's MDB
/// begins anew for ever where a group has so many ports (some 800) that they do not fit a message.
const DATAGRAMS: usize = 1 << 16;

/// What the kernel takes in one datagram whatever its settings are (SOCK_MIN_SNDBUF): more only with a larger buffer.
const SENT_AT_ONCE: usize = 4_096;

/// A message without its header.
pub(super) struct Message {
    /// Its type.
    pub kind: u16,
    /// Its flags, beyond those that the exchange sets.
    pub flags: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Message {
    /// The whole message.
    pub fn bytes(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | flags).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

/// Gives a message another sequence number.
pub(super) fn set_number(message: &mut [u8], sequence: u32) {
    if let Some(number) = message.get_mut(8..12) {
        number.copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// One attribute, padded to a multiple of four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute that holds `attributes`.
pub(super) fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, &attributes.concat())
}

/// The attributes in `bytes`, each with its type; ends where they do or where they are broken.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !NLA_F_NESTED;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(super) fn within(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Sends one message; the error it is answered with, if any.
pub(super) fn ask(protocol: isize, message: &Message) -> io::Result<Option<Errno>> {
    exchange(protocol, &[message.bytes(NLM_F_REQUEST | NLM_F_ACK, 0)])
}

/// Sends messages as one; the first error that any of them is answered with.
pub(super) fn exchange(protocol: isize, messages: &[Vec<u8>]) -> io::Result<Option<Errno>> {
    let socket = open(protocol)?;
    let answered = exchanged(&socket, messages);
    close(socket, protocol);
    answered
}

fn exchanged(socket: &Socket, messages: &[Vec<u8>]) -> io::Result<Option<Errno>> {
    let bytes = messages.concat();
    if bytes.len() > SENT_AT_ONCE {
        // A transaction is one datagram, however large: a thousand services are some megabytes. Where it may not be
        // larger than the machine's limit the sending is refused, which says so.
        let _ = setsockopt(socket, SndBufForce, &bytes.len())
            .or_else(|_| setsockopt(socket, SndBuf, &bytes.len()));
    }
    // What is refused many times fills the queue; the first answer is what counts, and that is in it.
    socket.set_no_enobufs(true)?;
    socket.send(&bytes, 0)?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    loop {
        buffer.clear();
        // The kernel has answered everything by the time the send returns.
        match socket.recv(&mut buffer, nix::libc::MSG_DONTWAIT) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        if let Some(errno) = Answers(&buffer).find_map(|(_, errno)| errno) {
            return Ok(Some(errno));
        }
    }
}

/// Everything that the kernel lists when `request` is made a dump: the bodies of its messages of the types `answers`.
pub(super) fn dump(protocol: isize, request: &Message, answers: &[u16]) -> io::Result<Vec<Vec<u8>>> {
    bodies(Lister::new(protocol), request, answers)
}

/// The same, of what the request says alone: without this the kernel lists all, whatever stands in it (NETLINK_GET_STRICT_CHK, Linux 4.20).
pub(super) fn dump_chosen(protocol: isize, request: &Message, answers: &[u16]) -> io::Result<Vec<Vec<u8>>> {
    let socket = open(protocol)?;
    // An older kernel lists all.
    let _ = socket.set_netlink_get_strict_chk(true);
    bodies(Lister { protocol, socket: Some(socket) }, request, answers)
}

fn bodies(mut lister: Lister, request: &Message, answers: &[u16]) -> io::Result<Vec<Vec<u8>>> {
    lister.collect(request, answers, &mut |found: &mut Vec<_>, message| found.push(message.to_vec()))
}

/// Asks for several lists, one after another, in the namespace that the calling thread is in when it asks for the first.
pub(super) struct Lister {
    protocol: isize,
    /// None of a list that was not read to its end is left on it.
    socket: Option<Socket>,
}

impl Lister {
    /// Asks nothing yet.
    pub fn new(protocol: isize) -> Self {
        Self { protocol, socket: None }
    }

    /// What `note` makes of everything that the kernel lists, as [`dump`] has it: begun anew if the list changed while it was
    /// read.
    pub fn collect<T: Default>(
        &mut self,
        request: &Message,
        answers: &[u16],
        note: &mut dyn FnMut(&mut T, &[u8]),
    ) -> io::Result<T> {
        for _ in 0..ATTEMPTS {
            let socket = match self.socket.take() {
                Some(socket) => socket,
                None => open(self.protocol)?,
            };
            let found = collected(&socket, request, answers, note);
            if let Ok(Some(found)) = found {
                self.socket = Some(socket);
                return Ok(found);
            }
            close(socket, self.protocol);
            found?;
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}

impl Drop for Lister {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            close(socket, self.protocol);
        }
    }
}

/// What is made of one dump; `None` if it was disturbed.
fn collected<T: Default>(
    socket: &Socket,
    request: &Message,
    answers: &[u16],
    note: &mut dyn FnMut(&mut T, &[u8]),
) -> io::Result<Option<T>> {
    socket.send(&request.bytes(NLM_F_REQUEST | NLM_F_DUMP, 0), 0)?;
    let mut found = T::default();
    let mut buffer = Vec::with_capacity(64 * 1024);
    for _ in 0..DATAGRAMS {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        for (header, message) in Messages(&buffer) {
            if header.flags & NLM_F_DUMP_INTR != 0 {
                return Ok(None);
            }
            match header.kind {
                NLMSG_DONE => return Ok(Some(found)),
                NLMSG_ERROR => {
                    let code = message.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                kind if answers.contains(&kind) => note(&mut found, message),
                _ => {}
            }
        }
    }
    Err(io::Error::other("the kernel does not come to the end of its list"))
}

/// Shows `note` everything that the kernel lists when `request` is made a dump, of the types `answers`. Of a list that
/// changes while it is read some may come twice, or not. No more than `most` bytes are read, nor [`DATAGRAMS`].
///
/// # Errors
/// There is more, or the kernel refuses.
pub(super) fn each_of(
    protocol: isize,
    request: &Message,
    answers: &[u16],
    most: usize,
    note: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let socket = open(protocol)?;
    let read = read_each(&socket, request, answers, most, note);
    close(socket, protocol);
    read
}

fn read_each(
    socket: &Socket,
    request: &Message,
    answers: &[u16],
    most: usize,
    note: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    socket.send(&request.bytes(NLM_F_REQUEST | NLM_F_DUMP, 0), 0)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut total = 0;
    for _ in 0..DATAGRAMS {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        total += buffer.len();
        if total > most {
            return Err(io::Error::other(format!("there is more than {most} bytes of it")));
        }
        for (header, message) in Messages(&buffer) {
            match header.kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = message.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                kind if answers.contains(&kind) => note(message),
                _ => {}
            }
        }
    }
    Err(io::Error::other("the kernel does not come to the end of its list"))
}

fn open(protocol: isize) -> io::Result<Socket> {
    let socket = Socket::new(protocol)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Without it every error repeats the message that failed.
    socket.set_cap_ack(true)?;
    Ok(socket)
}

/// Closes a socket. When one of nf_tables is closed, the kernel waits until what anybody changed in the namespace just now is
/// freed, and that for 5 to 20 ms: nobody waits for that.
fn close(socket: Socket, protocol: isize) {
    if protocol == NETLINK_NETFILTER {
        enter::afterwards(move || drop(socket));
    }
}

/// What is read of a header.
pub(super) struct Header {
    kind: u16,
    flags: u16,
    /// The number that whoever asked gave it.
    pub sequence: u32,
    /// The socket of whoever asked; 0 where that is the kernel.
    port: u32,
}

impl Header {
    /// The type of the message.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// Whether it is about what somebody did, and not the kernel itself.
    pub fn is_somebodys(&self) -> bool {
        self.port != 0
    }

    /// Whether the message is of this type.
    pub fn is(&self, kind: u16) -> bool {
        self.kind == kind
    }
}

/// The messages in one datagram from the kernel.
pub(super) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.first_chunk::<HEADER>()?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = usize::try_from(word(0)).ok()?;
        let body = self.0.get(HEADER..length)?;
        let header = Header { kind: half(4), flags: half(6), sequence: word(8), port: word(12) };
        // Messages begin at multiples of four.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    }
}

/// The errors (`None`: an acknowledgement) in one datagram from the kernel, with their sequence numbers.
pub(super) struct Answers<'a>(pub &'a [u8]);

impl Iterator for Answers<'_> {
    type Item = (usize, Option<Errno>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut messages = Messages(self.0);
        let found = messages.by_ref().find(|(header, _)| header.kind == NLMSG_ERROR);
        self.0 = messages.0;
        let (header, body) = found?;
        let code = i32::from_ne_bytes(*body.first_chunk::<4>()?);
        let place = usize::try_from(header.sequence).ok()?;
        Some((place, (code != 0).then(|| Errno::from_raw(code.saturating_neg()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_whatever_their_length_and_end_where_they_are_broken() {
        let bytes = [attribute(1, b"a"), attribute(2, b""), nested(3, &[attribute(4, b"abcde")])].concat();
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found[..2], [(1, b"a".as_slice()), (2, b"".as_slice())]);
        assert_eq!(attributes(found[2].1).collect::<Vec<_>>(), [(4, b"abcde".as_slice())]);
        for end in 0..bytes.len() {
            assert!(attributes(&bytes[..end]).count() <= 3);
        }
        assert_eq!(attributes(&[3, 0, 1, 0, 9]).count(), 0);
    }

    #[test]
    fn answers_are_found_between_other_messages_and_a_cut_one_is_none() {
        let error = |sequence: u32, code: i32| {
            let body = [code.to_ne_bytes().as_slice(), &[0; 16]].concat();
            Message { kind: NLMSG_ERROR, flags: 0, body }.bytes(0, sequence)
        };
        let other = Message { kind: 84, flags: 0, body: vec![1, 2, 3] }.bytes(0, 9);
        let bytes = [error(3, 0), other, error(4, -2)].concat();
        assert_eq!(Answers(&bytes).collect::<Vec<_>>(), [(3, None), (4, Some(Errno::ENOENT))]);
        assert_eq!(Answers(&bytes[..bytes.len() - 1]).count(), 1);
    }
}
