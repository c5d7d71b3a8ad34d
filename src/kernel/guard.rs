//! Keeps an endpoint to its own addresses, and out of roles that are the network's own: what it sends with another MAC or
//! address, or as a querier, a router or a bridge, is dropped and counted by kind where it comes in, at the ingress of our
//! end of its veth pair, before the bridge sees it. [`rules`] has what may pass.
//!
//! Each port has a table of nf_tables of its own, named like the device, so that it comes and goes whole. The table
//! carries a number that follows from the rules, by which it is seen whether they are right. To make the rules takes longer than to make
//! the device, and needs none: only the chain that leads to them is hooked to it, so a new port has both made at once.

mod drops;
mod rules;

use std::collections::BTreeMap;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::nft::{self, Family};
use super::raw::{self, attribute, nested, within};
use crate::plan::{PortGuard, PortName};

pub use drops::PortDrops;
pub(super) use drops::dropped;

/// The chain at the device, and that of the rules.
const CHAIN: &[u8] = b"ingress\0";
const RULES: &[u8] = b"sends\0";
const NF_NETDEV_INGRESS: u32 = 0;

/// Why a frame was dropped at an endpoint's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropKind {
    /// It is from another MAC.
    Mac,
    /// It is from another address.
    Address,
    /// It says something of another's address: ARP, neighbour advertisements, duplicate detection.
    Neighbour,
    /// It asks for members: the bridge does.
    Querier,
    /// It speaks as a router: advertisements and redirects, and what makes one of multicast.
    Router,
    /// It speaks as a bridge of a spanning tree.
    SpanningTree,
    /// It speaks of the topology (IEEE 802.1AB).
    Lldp,
    /// It authenticates a port (IEEE 802.1X).
    Dot1x,
    /// Something else that is between a device and its bridge.
    LinkControl,
    /// A frame of IEEE 802.2, which could hold IP or ARP in another way (RFC 1042).
    Llc,
    /// Neighbour discovery in fragments, which nobody may take (RFC 6980).
    Fragment,
    /// IP that does not show what it carries.
    Hidden,
    /// A frame with two tags.
    Tagged,
}

impl DropKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Mac,
        Self::Address,
        Self::Neighbour,
        Self::Querier,
        Self::Router,
        Self::SpanningTree,
        Self::Lldp,
        Self::Dot1x,
        Self::LinkControl,
        Self::Llc,
        Self::Fragment,
        Self::Hidden,
        Self::Tagged,
    ];

    /// What the counter is called, for people and for the kernel.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mac => "mac",
            Self::Address => "address",
            Self::Neighbour => "neighbour",
            Self::Querier => "querier",
            Self::Router => "router",
            Self::SpanningTree => "spanning_tree",
            Self::Lldp => "lldp",
            Self::Dot1x => "dot1x",
            Self::LinkControl => "link_control",
            Self::Llc => "llc",
            Self::Fragment => "fragment",
            Self::Hidden => "hidden",
            Self::Tagged => "tagged",
        }
    }

    /// What it is counted with: its name, with zeros up to what the kernel says names of devices in.
    fn key(self) -> [u8; drops::KEY] {
        let mut key = [0; drops::KEY];
        key.iter_mut().zip(self.name().bytes()).for_each(|(place, byte)| *place = byte);
        key
    }

    /// The chain of what is dropped as this.
    fn chain(self) -> Vec<u8> {
        format!("drop-{}\0", self.name()).into_bytes()
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }
}

/// What the kernel can do of what is beside the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Means {
    /// What is to be heard can be.
    pub hears: bool,
    /// What is dropped can be summed up.
    pub sums: bool,
}

/// Puts the rules for the endpoint behind `device` in the place of those that are there, in the calling thread's
/// namespace, whole or not at all. Blocks. The answer is the kernel's refusal, if any.
pub(super) fn put(device: &str, guard: &PortGuard, means: Means) -> io::Result<Option<Errno>> {
    let content = [content(device, guard, means), leading(device)].concat();
    Family::Netdev.put_table(&named(device), &guard.fingerprint().to_be_bytes(), content)
}

/// Makes the rules for the endpoint behind `device`, which need not be there yet: they do nothing until [`hook`] leads to them. Else
/// as [`put`].
pub(super) fn prepare(device: &str, guard: &PortGuard, means: Means) -> io::Result<Option<Errno>> {
    let content = content(device, guard, means);
    Family::Netdev.put_table(&named(device), &guard.fingerprint().to_be_bytes(), content)
}

/// Has the rules that [`prepare`] made for what comes in at `device`. Blocks. The answer is the kernel's refusal, if any.
pub(super) fn hook(device: &str) -> io::Result<Option<Errno>> {
    raw::exchange(NETLINK_NETFILTER, &nft::transaction(leading(device)))
}

fn rule_in(table: &[u8], chain: &[u8], expressions: &[nft::Expression]) -> Vec<u8> {
    nft::append(nft::NFT_MSG_NEWRULE, &[table, &attribute(2, chain), &nested(4, expressions)].concat())
}

/// The changes that make a map and what is in it.
fn made(table: &[u8], id: u32, map: &rules::Map) -> [Vec<u8>; 2] {
    let length = map.leads.first().map_or(0, |(key, _)| key.len() as u32);
    let named = [table, &attribute(2, map.name)].concat();
    let kinds = [nft::number(3, nft::NFT_SET_MAP), nft::number(4, map.kind), nft::number(5, length)].concat();
    let leads = [nft::number(6, nft::NFT_DATA_VERDICT), nft::number(10, id)].concat();
    let element = |(key, kind): &(Vec<u8>, DropKind)| {
        nested(1, &[nested(1, &[attribute(1, key)]), nft::leads_to(&kind.chain())])
    };
    let elements: Vec<Vec<u8>> = map.leads.iter().map(element).collect();
    [
        nft::make(nft::NFT_MSG_NEWSET, &[&named[..], &kinds, &leads].concat()),
        nft::make(nft::NFT_MSG_NEWSETELEM, &[&named[..], &nested(3, &elements)].concat()),
    ]
}

/// What leads from the device to the rules.
fn leading(device: &str) -> Vec<Vec<u8>> {
    let name = named(device);
    let hook = nested(
        4,
        &[
            nft::number(1, NF_NETDEV_INGRESS),
            nft::number(2, 0),
            attribute(3, &[device.as_bytes(), b"\0"].concat()),
        ],
    );
    let chain = [name.clone(), attribute(3, CHAIN), hook, attribute(7, b"filter\0")].concat();
    vec![nft::make(nft::NFT_MSG_NEWCHAIN, &chain), rule_in(&name, CHAIN, &[nft::goto(RULES)])]
}

/// The rules, in a chain of their own, and what they need.
fn content(device: &str, guard: &PortGuard, means: Means) -> Vec<Vec<u8>> {
    let name = named(device);
    let chain = |chain: &[u8]| nft::make(nft::NFT_MSG_NEWCHAIN, &[&name[..], &attribute(3, chain)].concat());
    // A rule may count in what is there alone.
    let mut content = Vec::new();
    if !guard.free {
        content.extend(drops::set(&name));
        content.extend(means.sums.then(|| Family::Netdev.make_sum(&name, drops::ALL)));
    }
    // And it may lead to a chain only if that is there.
    if means.hears {
        content.push(chain(rules::HEARD));
        content.push(rule_in(&name, rules::HEARD, &rules::heard(device)));
    }
    if !guard.free {
        for kind in DropKind::ALL {
            content.push(chain(&kind.chain()));
            content.push(rule_in(&name, &kind.chain(), &rules::of_kind(kind, means.sums)));
        }
    }
    // The set of kinds is the first.
    content.extend((2..).zip(rules::maps(guard)).flat_map(|(id, map)| made(&name, id, &map)));
    content.push(chain(RULES));
    content.extend(rules::of(guard, means.hears).iter().map(|rule| rule_in(&name, RULES, rule)));
    content
}

/// Takes the rules of a port away; none that are there are no error. Blocks.
pub(super) fn remove(device: &str) -> io::Result<()> {
    // To be refused for what is not there takes as long as to remove what is.
    let asked = raw::ask(NETLINK_NETFILTER, &nft::question(nft::NFT_MSG_GETTABLE, &named(device)))?;
    if asked == Some(Errno::ENOENT) {
        return Ok(());
    }
    let changes = [nft::remove(nft::NFT_MSG_DELTABLE, &named(device))];
    match raw::exchange(NETLINK_NETFILTER, &nft::transaction(changes))? {
        None | Some(Errno::ENOENT) => Ok(()),
        Some(errno) => Err(errno.into()),
    }
}

/// The ports that have rules in the calling thread's namespace, with the number of each. Blocks.
pub(super) fn list() -> io::Result<BTreeMap<PortName, u64>> {
    let found = Family::Netdev.tables()?;
    let table = |message: &Vec<u8>| {
        let number = nft::table_mark(message).and_then(|value| value.first_chunk());
        // One that we cannot read is wrong, and made anew.
        Some((port(message, 1)?, number.map_or(0, |number| u64::from_be_bytes(*number))))
    };
    Ok(found.iter().filter_map(table).collect())
}

fn named(device: &str) -> Vec<u8> {
    attribute(1, &[device.as_bytes(), b"\0"].concat())
}

/// The port after which the table is named that an attribute behind struct nfgenmsg names.
fn port(message: &[u8], kind: u16) -> Option<PortName> {
    let name = within(message.get(4..)?, kind)?;
    PortName::recognise(std::str::from_utf8(name.strip_suffix(b"\0")?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_by_which_it_is_found() {
        for kind in DropKind::ALL {
            assert!(kind.name().len() < drops::KEY);
            assert_eq!(DropKind::of_key(&kind.key()), Some(kind));
        }
    }
}
