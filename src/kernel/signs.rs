//! What the kernel counts and is set to that keeps frames from passing: read, and not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_to_string;
use std::io;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use super::links::Link;
use super::nft::{self, Family, NF_INET_FORWARD, NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN};
use super::raw::{self, Message, within};
use super::room::Room;
use super::{KernelError, Linux};
use crate::model::{EndpointName, NetworkId};

const RTM_NEWNEIGHTBL: u16 = 64;
const RTM_GETNEIGHTBL: u16 = 66;
/// The length of struct ndtmsg.
const NDTMSG: usize = 4;
const NDTA_NAME: u16 = 1;
const NDTA_THRESH3: u16 = 4;
const NDTA_STATS: u16 = 7;
/// Where `ndts_table_fulls` is in struct ndt_stats.
const TABLE_FULLS: usize = 80;
const NF_DROP: u32 = 0;

/// One of the kernel's tables of neighbours, which all network namespaces of a machine share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourTable {
    /// How many entries it holds at most, permanent ones not counted.
    pub limit: u32,
    /// How often there was no room for one.
    pub fulls: u64,
}

/// What the node's own namespace says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSigns {
    /// The tables of neighbours by their names in `/proc/sys/net`: `ipv4` and `ipv6`.
    pub neighbours: BTreeMap<&'static str, NeighbourTable>,
    /// How many packets were dropped because their sender is not reached by where they came from (rp_filter).
    pub reverse_path: u64,
}

/// What a network's namespace says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSigns {
    /// Somebody's tables of nf_tables with a chain that drops what is passed on, and that are asked about frames between
    /// ports too (br_netfilter): their families and names.
    pub forward: BTreeSet<String>,
    /// The endpoints whose containers have taken their interfaces down.
    pub down: BTreeSet<EndpointName>,
}

impl Linux {
    /// What the node's own namespace says.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn node_signs(&self) -> Result<NodeSigns, KernelError> {
        let read = self.inner.own.run(node_signs).await?;
        read.map_err(|source| KernelError::Refused { what: "read what the kernel counts".to_owned(), source })
    }

    /// The interfaces of the node at which a packet is dropped whose sender is not reached by where it came from.
    ///
    /// # Errors
    /// The settings cannot be read.
    pub async fn strict_interfaces(&self) -> Result<BTreeSet<String>, KernelError> {
        let read = self.inner.own.run(strict).await?;
        read.map_err(|source| KernelError::Refused { what: "read rp_filter".to_owned(), source })
    }

    /// What a network's namespace says; `None` where it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn network_signs(&self, network: NetworkId) -> Result<Option<NetworkSigns>, KernelError> {
        let Some(room) = Room::open(&self.inner.dir, network).await? else { return Ok(None) };
        let links = room.session().links().await;
        let links = links.map_err(|failure| failure.doing("list links"))?;
        let is_down = |link: &&Link| link.port_name().is_some() && link.up && !link.carrier;
        let down = links.iter().filter(is_down).filter_map(Link::endpoint).collect();
        let read = self.inner.dir.netns(network)?.run(forward_drops).await?;
        let forward = read.map_err(|source| KernelError::Refused {
            what: "list the chains of nf_tables".to_owned(),
            source,
        })?;
        Ok(Some(NetworkSigns { forward, down }))
    }
}

/// Blocks.
fn node_signs() -> io::Result<NodeSigns> {
    let counters = read_to_string("/proc/thread-self/net/netstat")?;
    Ok(NodeSigns {
        neighbours: neighbour_tables()?,
        reverse_path: counter(&counters, "TcpExt:", "IPReversePathFilter").unwrap_or(0),
    })
}

/// A counter of `/proc/net/netstat`, where each group is a line of names and one of numbers.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|found| found == name)?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

fn neighbour_tables() -> io::Result<BTreeMap<&'static str, NeighbourTable>> {
    let request = Message { kind: RTM_GETNEIGHTBL, flags: 0, body: vec![0; NDTMSG] };
    let found = raw::dump(NETLINK_ROUTE, &request, &[RTM_NEWNEIGHTBL])?;
    Ok(found.iter().filter_map(|message| neighbour_table(message.get(NDTMSG..)?)).collect())
}

/// A table; `None` of what is said of one interface's part of it.
fn neighbour_table(attributes: &[u8]) -> Option<(&'static str, NeighbourTable)> {
    let family = match within(attributes, NDTA_NAME)? {
        b"arp_cache\0" => "ipv4",
        b"ndisc_cache\0" => "ipv6",
        _ => return None,
    };
    let limit = u32::from_ne_bytes(*within(attributes, NDTA_THRESH3)?.first_chunk()?);
    let fulls = within(attributes, NDTA_STATS)?.get(TABLE_FULLS..)?.first_chunk()?;
    Some((family, NeighbourTable { limit, fulls: u64::from_ne_bytes(*fulls) }))
}

/// The interfaces whose `rp_filter`, or that of all, is 1 (ip-sysctl: the higher of the two counts; 2 is loose).
fn strict() -> io::Result<BTreeSet<String>> {
    const DIR: &str = "/proc/sys/net/ipv4/conf";
    let set = |name: &str| -> u8 {
        let read = read_to_string(format!("{DIR}/{name}/rp_filter"));
        read.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let all = set("all");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(DIR)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !matches!(name.as_str(), "all" | "default" | "lo") && set(&name).max(all) == 1 {
            found.insert(name);
        }
    }
    Ok(found)
}

/// Those of somebody else's tables that drop what bridges pass on. Blocks.
fn forward_drops() -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (family, word, switch) in [
        (Family::Ip, "ip", Some("bridge-nf-call-iptables")),
        (Family::Ip6, "ip6", Some("bridge-nf-call-ip6tables")),
        (Family::Inet, "inet", Some("bridge-nf-call-iptables")),
        (Family::Bridge, "bridge", None),
    ] {
        // Where it is not there, no bridge asks these tables.
        let asked = |switch: &str| {
            let set = read_to_string(format!("/proc/sys/net/bridge/{switch}"));
            set.is_ok_and(|text| text.trim() == "1")
        };
        if !switch.is_none_or(asked) {
            continue;
        }
        let question = family.question(NFT_MSG_GETCHAIN, &[]);
        // Without the family in the kernel there are no chains of it.
        let chains =
            raw::dump(NETLINK_NETFILTER, &question, &[nft::answer(NFT_MSG_NEWCHAIN)]).unwrap_or_default();
        found.extend(
            chains
                .iter()
                .filter_map(|chain| dropping(chain.get(4..)?))
                .map(|table| format!("{word} {table}")),
        );
    }
    Ok(found)
}

/// The table of a chain that drops what nothing in it lets pass on, unless it is ours.
fn dropping(chain: &[u8]) -> Option<String> {
    let number = |value: &[u8]| value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let hook = number(within(within(chain, 4)?, 1)?)?;
    let policy = number(within(chain, 5)?)?;
    let table = within(chain, 1)?.strip_suffix(b"\0")?;
    let table = String::from_utf8_lossy(table).into_owned();
    (hook == NF_INET_FORWARD && policy == NF_DROP && !table.starts_with("lanmesh")).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::raw::{attribute, nested};

    #[test]
    fn a_counter_is_found_by_its_name_in_its_group() {
        let text = "TcpExt: A IPReversePathFilter B\nTcpExt: 1 23 4\nIpExt: IPReversePathFilter\nIpExt: 9\n";
        assert_eq!(counter(text, "TcpExt:", "IPReversePathFilter"), Some(23));
        assert_eq!(counter(text, "IpExt:", "IPReversePathFilter"), Some(9));
        assert_eq!(counter(text, "TcpExt:", "C"), None);
        assert_eq!(counter("TcpExt: A", "TcpExt:", "A"), None);
    }

    #[test]
    fn a_table_of_neighbours_has_its_limit_and_how_often_it_was_full() {
        let mut stats = vec![0; 88];
        stats[80..].copy_from_slice(&7_u64.to_ne_bytes());
        let all = [
            attribute(NDTA_NAME, b"arp_cache\0"),
            attribute(NDTA_THRESH3, &1024_u32.to_ne_bytes()),
            attribute(NDTA_STATS, &stats),
        ];
        let table = NeighbourTable { limit: 1024, fulls: 7 };
        assert_eq!(neighbour_table(&all.concat()), Some(("ipv4", table)));
        assert_eq!(neighbour_table(&all[..2].concat()), None, "one interface's part has no counters");
        for end in 0..all.concat().len() {
            assert_eq!(neighbour_table(&all.concat()[..end]), None);
        }
    }

    #[test]
    fn a_chain_that_drops_what_is_passed_on_is_somebodys_unless_it_is_ours() {
        let chain = |table: &[u8], hook: u32, policy: u32| {
            let hook = nested(4, &[attribute(1, &hook.to_be_bytes())]);
            [attribute(1, table), attribute(3, b"FORWARD\0"), hook, attribute(5, &policy.to_be_bytes())]
                .concat()
        };
        assert_eq!(dropping(&chain(b"filter\0", 2, 0)), Some("filter".to_owned()));
        assert_eq!(dropping(&chain(b"filter\0", 2, 1)), None);
        assert_eq!(dropping(&chain(b"filter\0", 1, 0)), None);
        assert_eq!(dropping(&chain(b"lanmesh-ports\0", 2, 0)), None);
        assert_eq!(dropping(&attribute(1, b"filter\0")), None);
    }
}
