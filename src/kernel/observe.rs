//! What is in a network's namespace, as the plan wants to know it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::link::{BridgeMulticastRouterType, InfoBridge, InfoBridgePort, InfoVxlan};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use nix::errno::Errno;

use super::bulk::{MDNS, is_static};
use super::links::{BRIDGE, Link, OPEN, OPEN_TO_ENDPOINTS, VXLAN};
use super::session::{Failure, Session};
use super::{KernelError, mdb};
use crate::model::{Mac, MulticastMode};
use crate::plan::{ObservedBridge, ObservedGuard, ObservedNetwork, ObservedPort, ObservedVxlan, PortName};

/// How often the other end of a port is looked for that is always somewhere else.
const MOVES: usize = 8;

/// Everything in the namespace that `session` is in.
pub(super) async fn network(
    session: &Session,
    groups: &[mdb::Entry],
    guards: Option<&BTreeMap<PortName, u64>>,
) -> Result<ObservedNetwork, KernelError> {
    let links = session.links().await.map_err(|failure| failure.doing("list links"))?;
    let bridge = links.iter().find(|link| link.name == BRIDGE);
    let vxlan = links.iter().find(|link| link.name == VXLAN);
    let bridge_index = bridge.map(|link| link.index);
    let entries = session.forwarding().await.map_err(|failure| failure.doing("list the FDB"))?;
    let entries: Vec<Entry> = entries.iter().filter_map(Entry::from_message).collect();

    let mut observed = ObservedNetwork::default();
    if let Some(link) = bridge {
        let addresses = session.addresses(link.index, None).await;
        let addresses = addresses.map_err(|failure| failure.doing("list addresses"))?;
        let gateways = addresses.into_iter().map(|(_, address)| address).collect();
        observed.bridge = Some(as_bridge(link, hears_probes(link.index, &entries), gateways));
        observed.neighbours = neighbours(session, link.index).await?;
    }
    if let Some(link) = vxlan {
        let mut vxlan = as_vxlan(link, bridge_index);
        vxlan.mdns = !keeps_mdns(link.index, &entries);
        observed.vxlan = Some(vxlan);
        (observed.remotes, observed.flood) = behind(link.index, &entries);
        observed.groups = mdb::receivers(groups, link.index);
    }
    for link in &links {
        let Some(device) = link.port_name() else { continue };
        match link.endpoint() {
            Some(name) => {
                let guard = guards.map_or(ObservedGuard::Impossible, |guards| {
                    guards.get(&device).copied().map_or(ObservedGuard::Absent, ObservedGuard::Present)
                });
                if let Some(port) = port(session, link, bridge_index, &entries, guard).await? {
                    observed.ports.insert(name, port);
                }
            }
            None => drop(observed.half_made.insert(device)),
        }
    }
    // Their links went with the container.
    let left = guards.into_iter().flatten().map(|(device, _)| device);
    let left = left.filter(|device| !links.iter().any(|link| link.name == device.as_str()));
    observed.half_made.extend(left.copied());
    Ok(observed)
}

fn as_bridge(link: &Link, probe: Option<Mac>, gateways: BTreeSet<IpNetwork>) -> ObservedBridge {
    let has = |setting| link.bridge().contains(&setting);
    let snooping = has(InfoBridge::MulticastSnooping(true));
    ObservedBridge {
        mac: link.mac.unwrap_or(Mac([0; 6])),
        mtu: link.mtu,
        snooping,
        probe,
        // Nobody asks where nobody listens.
        ready: link.up && link.is_marked() && snooping == has(InfoBridge::MulticastQuerier(true)),
        gateways,
    }
}

fn as_vxlan(link: &Link, bridge: Option<u32>) -> ObservedVxlan {
    let mut observed = ObservedVxlan {
        vni: 0,
        port: 0,
        local: None,
        mtu: link.mtu,
        multicast: multicast_of(link.bridge_port()),
        broadcast: link.bridge_port().contains(&InfoBridgePort::BroadcastFlood(true)),
        mdns: true,
        ready: false,
    };
    let mut learning = false;
    for setting in link.vxlan() {
        match setting {
            InfoVxlan::Id(vni) => observed.vni = *vni,
            InfoVxlan::Port(port) => observed.port = *port,
            InfoVxlan::Local(v4) => observed.local = Some((*v4).into()),
            InfoVxlan::Local6(v6) => observed.local = Some((*v6).into()),
            InfoVxlan::Learning(on) => learning = *on,
            _ => {}
        }
    }
    let port = link.bridge_port();
    observed.ready = link.up
        && link.is_marked()
        && bridge.is_some()
        && link.master == bridge
        && !learning
        && port.contains(&InfoBridgePort::Learning(false))
        && port.contains(&InfoBridgePort::NeighSupress(true))
        && link.is_treated(&OPEN);
    observed
}

fn multicast_of(port: &[InfoBridgePort]) -> MulticastMode {
    let router = InfoBridgePort::MulticastRouter(BridgeMulticastRouterType::Permanent);
    if !port.contains(&InfoBridgePort::MulticastFlood(true)) {
        MulticastMode::Off
    } else if port.contains(&router) {
        MulticastMode::Snoop
    } else {
        MulticastMode::Flood
    }
}

/// A static FDB entry.
struct Entry {
    link: u32,
    mac: Mac,
    /// Of the VXLAN device itself, not of the bridge.
    own: bool,
    vtep: Option<IpAddr>,
    is_static: bool,
}

impl Entry {
    fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let mut mac = None;
        let mut vtep = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = bytes.as_slice().try_into().ok().map(Mac);
                }
                NeighbourAttribute::Destination(address) => vtep = as_ip(address),
                _ => {}
            }
        }
        Some(Self {
            link: message.header.ifindex,
            mac: mac?,
            own: message.header.flags.contains(NeighbourFlags::Own),
            vtep,
            is_static: is_static(message),
        })
    }
}

/// An address of a neighbour, or of a VTEP.
pub(super) fn as_ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(v4) => Some((*v4).into()),
        NeighbourAddress::Inet6(v6) => Some((*v6).into()),
        // The family of an FDB entry is "bridge"; its destination's shows in its length.
        NeighbourAddress::Other(bytes) => match bytes.as_slice() {
            [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d])),
            longer => <[u8; 16]>::try_from(longer).ok().map(IpAddr::from),
        },
        _ => None,
    }
}

/// The MAC of a probe that the bridge `link` takes for its own.
fn hears_probes(link: u32, entries: &[Entry]) -> Option<Mac> {
    let mut own =
        entries.iter().filter(|e| e.link == link && !e.is_static && e.mac.0.starts_with(&Mac::PROBES));
    own.next().map(|entry| entry.mac)
}

/// Whether the VXLAN device `link` has entries that lead nowhere for both groups of mDNS.
fn keeps_mdns(link: u32, entries: &[Entry]) -> bool {
    let kept = |mac: &Mac| {
        entries
            .iter()
            .any(|e| e.link == link && e.own && e.mac == *mac && e.vtep.is_none_or(|v| v.is_unspecified()))
    };
    MDNS.iter().all(kept)
}

/// The remote endpoints and the flood list of the VXLAN device `link`.
fn behind(link: u32, entries: &[Entry]) -> (BTreeMap<Mac, Option<IpAddr>>, BTreeSet<IpAddr>) {
    const ANY: Mac = Mac([0; 6]);
    let ours = || entries.iter().filter(|entry| entry.link == link);
    let flood = ours().filter(|entry| entry.own && entry.mac == ANY).filter_map(|entry| entry.vtep).collect();
    // Group addresses have the lowest bit of the first octet set (IEEE 802.3): those are no endpoints.
    let unicast = || ours().filter(|entry| entry.is_static && entry.mac != ANY && entry.mac.0[0] & 1 == 0);
    let on_bridge: BTreeSet<Mac> = unicast().filter(|entry| !entry.own).map(|entry| entry.mac).collect();
    let mut remotes: BTreeMap<Mac, Option<IpAddr>> = on_bridge.iter().map(|mac| (*mac, None)).collect();
    for entry in unicast().filter(|entry| entry.own) {
        remotes.insert(entry.mac, entry.vtep.filter(|_| on_bridge.contains(&entry.mac)));
    }
    (remotes, flood)
}

async fn neighbours(session: &Session, bridge: u32) -> Result<BTreeMap<IpAddr, Mac>, KernelError> {
    let found = session.neighbours(bridge).await.map_err(|failure| failure.doing("list neighbours"))?;
    let permanent = found.iter().filter(|message| {
        message.header.ifindex == bridge && message.header.state == NeighbourState::Permanent
    });
    let parsed = permanent.filter_map(|message| {
        let mut address = None;
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(destination) => address = as_ip(destination),
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = bytes.as_slice().try_into().ok().map(Mac);
                }
                _ => {}
            }
        }
        Some((address?, mac?))
    });
    Ok(parsed.collect())
}

/// The endpoint's interface whose near end is `near`; `None` if it is just going away.
async fn port(
    session: &Session,
    near: &Link,
    bridge: Option<u32>,
    entries: &[Entry],
    guard: ObservedGuard,
) -> Result<Option<ObservedPort>, KernelError> {
    let doing = || format!("look at the endpoint's end of {}", near.name);
    let Some(far) = far_end(session, near).await.map_err(|failure| failure.doing(doing()))? else {
        return Ok(None);
    };
    let addresses = session.addresses(far.index, far.nsid).await;
    let addresses = addresses.map_err(|failure| failure.doing(doing()))?;
    let mac = far.link.mac.unwrap_or(Mac([0; 6]));
    let pinned = entries.iter().any(|e| e.link == near.index && e.mac == mac && e.is_static && !e.own);
    let hears = near.hears_all() == near.may_hear_all();
    let open = near.is_treated(&OPEN) && near.is_treated(&OPEN_TO_ENDPOINTS);
    // A kernel that knows no limit shows none.
    let unlimited = near.bridge_port().contains(&InfoBridgePort::MulticastMaxGroups(0));
    Ok(Some(ObservedPort {
        mac,
        addresses: addresses.into_iter().map(|(_, address)| address).collect(),
        mtu: near.mtu.min(far.link.mtu),
        ready: near.up && bridge.is_some() && near.master == bridge && pinned && hears && open && !unlimited,
        guard,
    }))
}

/// The other end of a port, and where it is.
pub(super) struct FarEnd {
    /// As it is there.
    pub link: Link,
    index: u32,
    nsid: Option<i32>,
}

/// The other end of `near`; `None` if there is none any more. A runtime that was offered it takes it to a namespace of its own,
/// maybe at this moment: then the near end says where it is now.
pub(super) async fn far_end(session: &Session, near: &Link) -> Result<Option<FarEnd>, Failure> {
    let mut place = (near.peer, near.peer_nsid);
    for _ in 0..MOVES {
        let (Some(index), nsid) = place else { return Ok(None) };
        let found = match nsid {
            Some(nsid) => session.link_in(nsid, index).await,
            None => session.link_at(index).await,
        };
        let namespace_gone = match found {
            Ok(Some(link)) => return Ok(Some(FarEnd { link, index, nsid })),
            Ok(None) => false,
            Err(Failure::Refused(Errno::EINVAL)) => true,
            Err(failure) => return Err(failure),
        };
        let Some(now) = session.link_at(near.index).await? else { return Ok(None) };
        let before = std::mem::replace(&mut place, (now.peer, now.peer_nsid));
        if namespace_gone && place == before {
            return Ok(None);
        }
    }
    Err(Failure::Refused(Errno::EBUSY))
}
