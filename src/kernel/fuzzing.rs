//! Ways in for the fuzz crate.

use super::{mdb, raw};
use crate::model::Group;

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

/// A datagram that lists `group` and nothing else.
pub fn listing(group: Group) -> Vec<u8> {
    mdb::listing(group).bytes(0, 1)
}
