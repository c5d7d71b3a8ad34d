//! Multicast databases: of a bridge, which knows its members, and of a VXLAN device, which knows its receivers.
//!
//! The messages are RTM_NEWMDB, RTM_DELMDB and RTM_GETMDB with the attributes of linux/if_bridge.h. Bridges have
//! them since kernel 3.8, VXLAN devices since 6.4.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_sys::protocols::NETLINK_ROUTE;

use super::raw::{Message, attribute, attributes, dump, nested};
use crate::model::{Group, GroupAddr};

const RTM_NEWMDB: u16 = 84;
const RTM_DELMDB: u16 = 85;
const RTM_GETMDB: u16 = 86;
const AF_BRIDGE: u8 = 7;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const MDBA_SET_ENTRY: u16 = 1;
const MDBA_SET_ENTRY_ATTRS: u16 = 2;
const MDBE_ATTR_SOURCE: u16 = 1;
const MDBE_ATTR_SRC_LIST: u16 = 2;
const MDBE_SRC_LIST_ENTRY: u16 = 1;
const MDBE_SRCATTR_ADDRESS: u16 = 1;
const MDBE_ATTR_GROUP_MODE: u16 = 3;
const MDBE_ATTR_DST: u16 = 5;

const MDBA_MDB: u16 = 1;
const MDBA_MDB_ENTRY: u16 = 1;
const MDBA_MDB_ENTRY_INFO: u16 = 1;
const MDBA_MDB_EATTR_GROUP_MODE: u16 = 3;
const MDBA_MDB_EATTR_SOURCE: u16 = 4;
const MDBA_MDB_EATTR_DST: u16 = 6;

const MDB_PERMANENT: u8 = 1;
/// The bridge made it for a member of (*, G), so that this is not passed over for (S, G).
const MDB_FLAGS_STAR_EXCL: u8 = 1 << 2;
/// A member that does not want this sender.
const MDB_FLAGS_BLOCKED: u8 = 1 << 3;
const MCAST_INCLUDE: u8 = 1;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// struct br_mdb_entry: ifindex, state, flags, VLAN, group in 16 bytes, protocol, two of padding.
const ENTRY: usize = 28;

/// The receiver of an entry that leads nowhere. It takes the group only from itself, which nobody sends from, so
/// nothing is ever sent to it: an entry must have a receiver, and one that is not used is the same as none.
const NOWHERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// One entry of a database, as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The bridge or VXLAN device that has it.
    pub device: u32,
    /// The port of the bridge; the bridge itself where the node is the member.
    pub port: u32,
    /// The group.
    pub group: GroupAddr,
    /// The sender it is for; `None`: any.
    pub source: Option<IpAddr>,
    /// Of a VXLAN device: the receiver.
    pub receiver: Option<IpAddr>,
    /// Only senders that have entries of their own are wanted.
    include: bool,
    flags: u8,
}

impl Entry {
    /// What a member on this port of a bridge wants; `None`: nothing that another entry does not say.
    pub fn wanted(&self) -> Option<Group> {
        let derived = self.flags & (MDB_FLAGS_STAR_EXCL | MDB_FLAGS_BLOCKED) != 0;
        let others_say = derived || (self.source.is_none() && self.include);
        if others_say { None } else { Group::new(self.group, self.source).ok() }
    }

    fn parse(device: u32, info: &[u8]) -> Option<Self> {
        let entry = info.first_chunk::<ENTRY>()?;
        let protocol = u16::from_be_bytes([entry[24], entry[25]]);
        let address: IpAddr = match protocol {
            ETH_P_IP => entry[8..].first_chunk::<4>().copied()?.into(),
            ETH_P_IPV6 => entry[8..].first_chunk::<16>().copied()?.into(),
            // Groups of layer 2, which only a person makes.
            _ => return None,
        };
        let mut parsed = Self {
            device,
            port: u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]),
            // 0.0.0.0 and ::, which stand for groups without an entry, are none of ours.
            group: GroupAddr::try_from(address).ok()?,
            source: None,
            receiver: None,
            include: false,
            flags: entry[5],
        };
        for (kind, value) in attributes(&info[ENTRY..]) {
            match kind {
                MDBA_MDB_EATTR_GROUP_MODE => parsed.include = value.first() == Some(&MCAST_INCLUDE),
                MDBA_MDB_EATTR_SOURCE => parsed.source = address_in(value),
                MDBA_MDB_EATTR_DST => parsed.receiver = address_in(value),
                _ => {}
            }
        }
        Some(parsed)
    }
}

fn address_in(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => value.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Every entry of every database in the calling thread's namespace. Blocks.
pub(super) fn entries() -> io::Result<Vec<Entry>> {
    // Bridges answer with the type of the question.
    let question = Message { kind: RTM_GETMDB, flags: 0, body: port_message(0) };
    let messages = dump(NETLINK_ROUTE, &question, &[RTM_GETMDB, RTM_NEWMDB])?;
    Ok(messages.iter().flat_map(|message| parse(message)).collect())
}

/// The entries in a message without its header.
pub(super) fn parse(message: &[u8]) -> Vec<Entry> {
    // struct br_port_msg: family, padding, ifindex.
    let Some(header) = message.first_chunk::<8>() else { return Vec::new() };
    let device = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    attributes(&message[8..])
        .filter(|(kind, _)| *kind == MDBA_MDB)
        .flat_map(|(_, databases)| attributes(databases).filter(|(kind, _)| *kind == MDBA_MDB_ENTRY))
        .flat_map(|(_, entry)| attributes(entry).filter(|(kind, _)| *kind == MDBA_MDB_ENTRY_INFO))
        .filter_map(|(_, info)| Entry::parse(device, info))
        .collect()
}

/// The groups of VXLAN device `vxlan` among `entries`, with their receivers; `None` leads nowhere.
pub(super) fn receivers(entries: &[Entry], vxlan: u32) -> BTreeMap<Group, BTreeSet<Option<IpAddr>>> {
    let mut found: BTreeMap<Group, BTreeSet<Option<IpAddr>>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.device == vxlan) {
        let nowhere = entry.receiver == Some(NOWHERE.into());
        // The kernel adds one for the sender that nobody has, and takes it away again.
        if nowhere && entry.source.is_some() {
            continue;
        }
        let (Ok(group), Some(receiver)) = (Group::new(entry.group, entry.source), entry.receiver) else {
            continue;
        };
        found.entry(group).or_default().insert((!nowhere).then_some(receiver));
    }
    found
}

/// The message that makes the VXLAN device `vxlan` send `group` to one more receiver; `None` leads nowhere.
pub(super) fn add(vxlan: u32, group: Group, to: Option<IpAddr>) -> Message {
    let flags = NLM_F_CREATE | NLM_F_APPEND;
    let mut body = entry_message(vxlan, group.address());
    let mut attributes = vec![attribute(MDBE_ATTR_DST, &bytes_of(to.unwrap_or(NOWHERE.into())))];
    attributes.extend(group.source().map(|source| attribute(MDBE_ATTR_SOURCE, &bytes_of(source))));
    if to.is_none() {
        let nobody: IpAddr = match group.address().ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        let sender = nested(MDBE_SRC_LIST_ENTRY, &[attribute(MDBE_SRCATTR_ADDRESS, &bytes_of(nobody))]);
        attributes.push(attribute(MDBE_ATTR_GROUP_MODE, &[MCAST_INCLUDE]));
        attributes.push(nested(MDBE_ATTR_SRC_LIST, &[sender]));
    }
    body.extend(nested(MDBA_SET_ENTRY_ATTRS, &attributes));
    Message { kind: RTM_NEWMDB, flags, body }
}

/// The message that takes a receiver of `group` from the VXLAN device `vxlan`.
pub(super) fn delete(vxlan: u32, group: Group, to: Option<IpAddr>) -> Message {
    let mut body = entry_message(vxlan, group.address());
    let mut attributes = vec![attribute(MDBE_ATTR_DST, &bytes_of(to.unwrap_or(NOWHERE.into())))];
    attributes.extend(group.source().map(|source| attribute(MDBE_ATTR_SOURCE, &bytes_of(source))));
    body.extend(nested(MDBA_SET_ENTRY_ATTRS, &attributes));
    Message { kind: RTM_DELMDB, flags: 0, body }
}

/// The message in which a bridge would list `group`.
#[cfg(feature = "fuzzing")]
pub(super) fn listing(group: Group) -> Message {
    let mut info = entry_message(1, group.address())[12..].to_vec();
    info.extend(
        group
            .source()
            .map(|source| attribute(MDBA_MDB_EATTR_SOURCE, &bytes_of(source)))
            .into_iter()
            .flatten(),
    );
    let entry = nested(MDBA_MDB_ENTRY, &[attribute(MDBA_MDB_ENTRY_INFO, &info)]);
    let body = [port_message(1), nested(MDBA_MDB, &[entry])].concat();
    Message { kind: RTM_NEWMDB, flags: 0, body }
}

fn port_message(index: u32) -> Vec<u8> {
    [[AF_BRIDGE, 0, 0, 0], index.to_ne_bytes()].concat()
}

fn entry_message(device: u32, group: GroupAddr) -> Vec<u8> {
    let mut entry = device.to_ne_bytes().to_vec();
    entry.extend([MDB_PERMANENT, 0, 0, 0]);
    entry.extend(bytes_of(group.ip()));
    entry.resize(24, 0);
    let protocol = if group.ip().is_ipv4() { ETH_P_IP } else { ETH_P_IPV6 };
    entry.extend(protocol.to_be_bytes());
    entry.resize(ENTRY, 0);
    let mut message = port_message(device);
    message.extend(attribute(MDBA_SET_ENTRY, &entry));
    message
}
