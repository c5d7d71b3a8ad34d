//! What carries our VXLAN packets: the address that they come from, and how large a packet the ways to the other nodes
//! take.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType};

use super::links::Link;
use super::session::Session;
use super::{KernelError, Linux, Underlay, session};
use crate::model::WayOut;

/// How many nodes are asked for at most when an address is chosen.
const TOWARDS: usize = 8;

/// What an interface that nothing is known of carries, in bytes: Ethernet (RFC 894).
const ETHERNET: u32 = 1500;
/// Addresses that nobody has (RFC 5737, RFC 3849): the way there is the default route, if there is one.
pub(super) const NOBODYS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

impl Linux {
    /// The interface of this node that has `address`, and the largest packet that the ways from there to all of
    /// `towards` take: each way's interface, or less where its route says so. The interface of the address itself need
    /// not be on any of them (an address on the loopback, two ways to one place). Where no way leads to any of them it
    /// is that interface's MTU; of an address on the loopback, that of the default route.
    ///
    /// What was learned of a path by ICMP does not count: anybody can send that.
    ///
    /// Later changes of the MTUs of these interfaces are events; those of routes are not.
    pub async fn underlay(&self, address: IpAddr, towards: Vec<IpAddr>) -> Result<Underlay, KernelError> {
        let session = self.inner.own_session().await?;
        let failed = |failure: session::Failure| failure.doing(format!("look for {address}"));
        let addresses = session.addresses(0, None).await.map_err(failed)?;
        let missing = || KernelError::AddressNotLocal { address };
        let found = addresses.into_iter().find(|(_, network)| network.ip() == address);
        let (index, _) = found.ok_or_else(missing)?;
        let link = session.link_at(index).await.map_err(failed)?.ok_or_else(missing)?;
        let mut ways = Ways::new(&session, address);
        for to in towards.into_iter().filter(|to| to.is_ipv4() == address.is_ipv4()) {
            ways.follow(to).await.map_err(failed)?;
        }
        if ways.smallest.is_none() && link.loopback {
            let nobody = if address.is_ipv4() { NOBODYS.0.into() } else { NOBODYS.1.into() };
            ways.follow(nobody).await.map_err(failed)?;
        }
        let Ways { mut mtus, smallest, .. } = ways;
        mtus.insert(link.index, link.mtu);
        self.inner.watcher.watch_underlay(mtus);
        let alone = if link.loopback { ETHERNET } else { link.mtu };
        Ok(Underlay { device: link.name, mtu: smallest.unwrap_or(alone) })
    }

    /// The way that packets from `from`, an address of this node, take to `to`: the interface that they leave by, and the largest that
    /// it takes, or less where the route says so; `None` where none leads away from this machine.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn way_out(&self, from: IpAddr, to: IpAddr) -> Result<Option<WayOut>, KernelError> {
        let session = self.inner.own_session().await?;
        let failed = |failure: session::Failure| failure.doing(format!("look for the way to {to}"));
        let mut ways = Ways::new(&session, from);
        ways.follow(to).await.map_err(failed)?;
        let (Some(mtu), Some(index)) = (ways.smallest, ways.mtus.keys().next()) else { return Ok(None) };
        let device = session.link_at(*index).await.map_err(failed)?;
        Ok(device.map(|device| WayOut { device: device.name, mtu }))
    }

    /// The address of interface `device` that takes the place of `lost`, which is not on this node any more: one of
    /// the same family, and of several the one that packets for `towards` come from. `None` while it has none, or is
    /// down.
    pub async fn address_instead(
        &self,
        device: &str,
        lost: IpAddr,
        towards: Vec<IpAddr>,
    ) -> Result<Option<IpAddr>, KernelError> {
        let session = self.inner.own_session().await?;
        let failed = |failure: session::Failure| failure.doing(format!("look for an address of {device}"));
        let Some(link) = session.link_named(device).await.map_err(failed)?.filter(|link| link.up) else {
            return Ok(None);
        };
        let mut there = session.settled_addresses(link.index).await.map_err(failed)?;
        there.retain(|address| address.is_ipv4() == lost.is_ipv4());
        let sources = self.inner.own.run(move || sources(&towards)).await?;
        let chosen = sources.into_iter().find(|source| there.contains(source));
        Ok(chosen.or_else(|| there.first().copied()))
    }
}

/// The ways from one address of this node, and what they take.
struct Ways<'a> {
    session: &'a Session,
    from: IpAddr,
    /// The MTU of each interface on one of them, by its index.
    mtus: BTreeMap<u32, u32>,
    /// The largest packet that all of them take.
    smallest: Option<u32>,
}

impl<'a> Ways<'a> {
    fn new(session: &'a Session, from: IpAddr) -> Self {
        Self { session, from, mtus: BTreeMap::new(), smallest: None }
    }

    /// Follows the way to `to`, if one leads away from this machine.
    async fn follow(&mut self, to: IpAddr) -> Result<(), session::Failure> {
        let Some(way) = self.session.way(self.from, to, RouteFlags::empty()).await? else { return Ok(()) };
        let Some(index) = leads_to(&way) else { return Ok(()) };
        if !self.mtus.contains_key(&index) {
            let Some(Link { mtu, loopback: false, .. }) = self.session.link_at(index).await? else {
                return Ok(());
            };
            self.mtus.insert(index, mtu);
        }
        let route = if was_learned(&way) {
            self.session.way(self.from, to, RouteFlags::FibMatch).await?
        } else {
            Some(way)
        };
        let of_route = route.as_ref().and_then(mtu_of);
        let takes = self.mtus[&index].min(of_route.unwrap_or(u32::MAX));
        self.smallest = Some(self.smallest.map_or(takes, |smallest| smallest.min(takes)));
        Ok(())
    }
}

/// The interface that a route leads to, if it leads away from this machine.
pub(super) fn leads_to(route: &RouteMessage) -> Option<u32> {
    let away = route.header.kind == RouteType::Unicast;
    let index = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    index.filter(|_| away)
}

/// The MTU that a route itself has, if it has one.
fn mtu_of(route: &RouteMessage) -> Option<u32> {
    let metrics = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    })?;
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    })
}

/// Whether what a way is said to take may have been learned on it, and not be what its route has: it passes.
fn was_learned(way: &RouteMessage) -> bool {
    way.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::CacheInfo(info) => info.expires != 0,
        _ => false,
    })
}

/// Where packets for each of these would come from, as far as a route leads there, in the calling thread's namespace.
/// Sends nothing.
fn sources(towards: &[IpAddr]) -> Vec<IpAddr> {
    let source = |to: &IpAddr| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).ok()?;
        // To connect asks the routing alone; any port will do.
        socket.connect((*to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    towards.iter().take(TOWARDS).filter_map(source).collect()
}
