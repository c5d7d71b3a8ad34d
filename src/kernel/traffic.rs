//! How much passed each endpoint's port, and each tunnel: what the kernel counts anyway, read when somebody asks.
//!
//! Ports are many, so nothing but their numbers is asked for, and whose port has which index is remembered: a port's index is
//! never given again within a namespace, and what is remembered of a network goes with its namespace.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::mesh::MeshRoom;
use super::raw::{Message, attribute, each_of, within};
use super::{KernelError, Linux};
use crate::model::{NetworkId, PublicKey, Traffic};
use crate::plan::PortName;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;
/// The length of struct ifinfomsg.
const IFINFOMSG: usize = 16;
/// The length of struct if_stats_msg.
const IF_STATS_MSG: usize = 12;
/// In both of them, where the index of the link is.
const INDEX: usize = 4;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
/// Also the bit of the mask that asks for it, counted from 1.
const IFLA_STATS_LINK_64: u16 = 1;
/// A link with all that the kernel says of it takes some 2 KiB; a bridge has 1023 ports.
const MOST: usize = 16 << 20;

/// What passed an endpoint's port, with Ethernet headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortTraffic {
    /// What the endpoint sent.
    pub sent: Traffic,
    /// What it was sent.
    pub received: Traffic,
}

/// What passed the tunnel to another node, encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelTraffic {
    /// How many bytes went there.
    pub sent: u64,
    /// How many came from there.
    pub received: u64,
    /// When the last handshake was completed.
    pub handshake: Option<SystemTime>,
}

/// The ports of the endpoints of each network by their indexes; `None`: a link that is no endpoint's.
type Names = BTreeMap<u32, Option<PortName>>;

/// Which link is whose port. Clones share it.
#[derive(Clone, Default)]
pub(super) struct PortNames(Arc<Mutex<HashMap<NetworkId, Names>>>);

impl PortNames {
    /// The namespace of a network is gone, or will be.
    pub fn forget(&self, network: NetworkId) {
        self.lock().remove(&network);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NetworkId, Names>> {
        // What is in there is replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What passed each port, in the calling thread's namespace, which is that of `network`. Blocks.
    pub fn count(&self, network: NetworkId) -> io::Result<BTreeMap<PortName, PortTraffic>> {
        let counted = counted()?;
        // Whoever counts at the same time finds none, and asks itself.
        let mut names = self.lock().remove(&network).unwrap_or_default();
        if counted.keys().any(|index| !names.contains_key(index)) {
            names = named()?;
        }
        names.retain(|index, _| counted.contains_key(index));
        let of_ports = counted.into_iter().filter_map(|(index, traffic)| {
            let name = (*names.get(&index)?)?;
            Some((name, traffic))
        });
        let found = of_ports.collect();
        self.lock().insert(network, names);
        Ok(found)
    }
}

impl Linux {
    /// What passed the tunnel to each node, by its key, since the device was made. Nothing where there is no mesh.
    ///
    /// # Errors
    /// The mesh cannot be entered.
    pub async fn tunnel_traffic(&self) -> Result<BTreeMap<PublicKey, TunnelTraffic>, KernelError> {
        let Some(mesh) = MeshRoom::open(&self.inner).await? else { return Ok(BTreeMap::new()) };
        let peers = mesh.peers().await?.into_iter().map(|peer| {
            let traffic =
                TunnelTraffic { sent: peer.sent, received: peer.received, handshake: peer.handshake };
            (PublicKey::from_bytes(peer.public_key), traffic)
        });
        Ok(peers.collect())
    }
}

/// What passed each link of the calling thread's namespace, by index.
fn counted() -> io::Result<BTreeMap<u32, PortTraffic>> {
    let mut body = vec![0; IF_STATS_MSG];
    body[8..].copy_from_slice(&(1_u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
    let request = Message { kind: RTM_GETSTATS, flags: 0, body };
    let mut found = BTreeMap::new();
    each_of(NETLINK_ROUTE, &request, &[RTM_NEWSTATS], MOST, &mut |message| found.extend(stats(message)))?;
    Ok(found)
}

/// Behind struct if_stats_msg: struct rtnl_link_stats64, which counts from the bridge's side.
fn stats(message: &[u8]) -> Option<(u32, PortTraffic)> {
    let counters = within(message.get(IF_STATS_MSG..)?, IFLA_STATS_LINK_64)?;
    let counter = |place: usize| Some(u64::from_ne_bytes(*counters.get(8 * place..)?.first_chunk()?));
    let sent = Traffic { packets: counter(0)?, bytes: counter(2)? };
    let received = Traffic { packets: counter(1)?, bytes: counter(3)? };
    Some((index(message)?, PortTraffic { sent, received }))
}

/// Whose port each link of the calling thread's namespace is.
fn named() -> io::Result<Names> {
    let mask = attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let body = [vec![0; IFINFOMSG], mask].concat();
    let request = Message { kind: RTM_GETLINK, flags: 0, body };
    let mut found = Names::new();
    each_of(NETLINK_ROUTE, &request, &[RTM_NEWLINK], MOST, &mut |message| found.extend(link(message)))?;
    Ok(found)
}

/// Behind struct ifinfomsg.
fn link(message: &[u8]) -> Option<(u32, Option<PortName>)> {
    let name = within(message.get(IFINFOMSG..)?, IFLA_IFNAME)?;
    let name = std::str::from_utf8(name.strip_suffix(b"\0")?).ok()?;
    Some((index(message)?, PortName::recognise(name)))
}

fn index(message: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*message.get(INDEX..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bridge_received_is_what_the_endpoint_sent_and_broken_messages_are_passed_over() {
        let counters: Vec<u8> = [3_u64, 5, 300, 500, 9, 9].iter().flat_map(|n| n.to_ne_bytes()).collect();
        let mut message = vec![0; IF_STATS_MSG];
        message[INDEX..8].copy_from_slice(&7_u32.to_ne_bytes());
        message.extend(attribute(IFLA_STATS_LINK_64, &counters));
        let sent = Traffic { packets: 3, bytes: 300 };
        let received = Traffic { packets: 5, bytes: 500 };
        assert_eq!(stats(&message), Some((7, PortTraffic { sent, received })));
        for end in 0..message.len() {
            assert_eq!(stats(&message[..end]), None);
        }
    }

    #[test]
    fn links_that_are_no_endpoints_are_known_as_such() {
        let message = |name: &[u8]| {
            let mut message = vec![0; IFINFOMSG];
            message[INDEX..8].copy_from_slice(&7_u32.to_ne_bytes());
            [message, attribute(IFLA_IFNAME, name)].concat()
        };
        assert_eq!(link(&message(b"vx0\0")), Some((7, None)));
        let port = PortName::recognise("lm0123456789abc");
        assert_eq!(link(&message(b"lm0123456789abc\0")), Some((7, port)));
        for end in 0..message(b"vx0\0").len() - 1 {
            link(&message(b"vx0\0")[..end]);
        }
    }
}
