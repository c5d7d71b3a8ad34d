//! Ways in for the fuzz crate.

use std::net::IpAddr;

use super::discovery::{self, Said};
use super::{hearing, mdb, raw};
use crate::model::{Group, Mac};

/// What was read from a datagram.
#[derive(Debug)]
pub struct Read {
    /// The bytes of the bodies of all messages together.
    pub bodies: usize,
    /// The groups in them.
    pub groups: Vec<Group>,
}

/// Reads one datagram as the kernel would send it.
pub fn netlink(datagram: &[u8]) -> Read {
    let bodies: Vec<&[u8]> = raw::Messages(datagram).map(|(_, body)| body).collect();
    raw::Answers(datagram).for_each(drop);
    let entries: Vec<mdb::Entry> = bodies.iter().flat_map(|body| mdb::parse(body)).collect();
    let mut groups: Vec<Group> = entries.iter().filter_map(mdb::Entry::wanted).collect();
    for device in entries.iter().map(|entry| entry.device) {
        groups.extend(mdb::receivers(&entries, device).into_keys());
    }
    Read { bodies: bodies.iter().map(|body| body.len()).sum(), groups }
}

/// What a whole frame says of an address.
pub fn frame(frame: &[u8]) -> Option<Said> {
    let (header, packet) = frame.split_at_checked(14)?;
    let sender = Mac(*header.get(6..)?.first_chunk()?);
    Said::read(sender, u16::from_be_bytes(*header.get(12..)?.first_chunk()?), packet)
}

/// What the kernel's log hands on, behind the header of netlink.
pub fn logged(message: &[u8]) -> Option<Said> {
    hearing::heard(message).map(|heard| heard.said)
}

/// A frame that announces an address.
pub fn announcement(address: IpAddr, mac: Mac) -> Vec<u8> {
    discovery::announcement(address, mac)
}

/// A datagram that lists `group` and nothing else.
pub fn listing(group: Group) -> Vec<u8> {
    mdb::listing(group).bytes(0, 1)
}
