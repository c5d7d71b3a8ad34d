//! By which interfaces what endpoints send outside may leave the node, and the address that it bears then.
//!
//! Those that lead outside: where the default route goes, what carries the underlay, and network cards with what is made of
//! them. Bridges and the like of other software on the node lead to its own containers, and are none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lanmesh_ipam::stable_hash;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};

use super::super::session::{Failure, Session};
use super::super::underlay::{NOBODYS, leads_to};
use super::super::{KernelError, Linux};
use super::hops::{self, Hops};

/// Each interface that leads outside, and the node's own addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exits {
    /// By family (IPv6 or not) and name.
    by_link: BTreeMap<(bool, String), Exit>,
    /// Without those of the loopback and of one link alone.
    own: BTreeSet<IpAddr>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exit {
    /// What leaves there bears this address.
    address: IpAddr,
    index: u32,
    mtu: u32,
    /// Where it goes next, where that can be said.
    hops: Option<Hops>,
}

impl Exits {
    /// Those of one family, and the address of each.
    pub fn of(&self, ipv6: bool) -> impl Iterator<Item = (&str, IpAddr)> {
        let of_family = self.by_link.iter().filter(move |((family, _), _)| *family == ipv6);
        of_family.map(|((_, name), exit)| (name.as_str(), exit.address))
    }

    /// Those of one family, by index, that take packets of `largest` bytes and of which is known where they go next.
    pub fn leads(&self, ipv6: bool, largest: u32) -> impl Iterator<Item = (u32, &Hops)> {
        let takes =
            move |((family, _), exit): &(&(bool, String), &Exit)| *family == ipv6 && exit.mtu >= largest;
        let of_family = self.by_link.iter().filter(takes);
        of_family.filter_map(|(_, exit)| Some((exit.index, exit.hops.as_ref()?)))
    }

    /// The node's own addresses of one family, wherever they are.
    pub fn own(&self, ipv6: bool) -> impl Iterator<Item = IpAddr> {
        self.own.iter().copied().filter(move |own| own.is_ipv6() == ipv6)
    }

    fn families(&self) -> [bool; 2] {
        [false, true].map(|ipv6| self.of(ipv6).next().is_some())
    }

    /// A number that is another one where they or their addresses are; never 0.
    pub fn number(&self) -> u64 {
        let addresses: BTreeMap<_, _> =
            self.by_link.iter().map(|(name, exit)| (name, exit.address)).collect();
        stable_hash(format!("{addresses:?}").as_bytes()).max(1)
    }

    /// A number that is another one where something about them is; never 0.
    pub fn number_of_ways(&self) -> u64 {
        stable_hash(format!("{self:?}").as_bytes()).max(1)
    }

    /// Some, for a kernel that is tried out.
    pub fn some() -> Self {
        let lo = |address: IpAddr| {
            let hops = Some(Hops { near: [address.into()].into(), gateway: Some(address) });
            ((address.is_ipv6(), "lo".to_owned()), Exit { address, index: 1, mtu: u32::MAX, hops })
        };
        let own = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        Self { by_link: own.map(lo).into(), own: own.into() }
    }
}

impl Linux {
    /// The exits of the node as they are now.
    pub(super) async fn exits(&self) -> Result<Exits, KernelError> {
        let session = self.inner.own_session().await?;
        let hops = self.inner.own.run(|| [false, true].map(hops::of_links)).await?;
        let hops = hops.map(|of_family| {
            of_family.unwrap_or_else(|error| {
                tracing::debug!(%error, "where answers go next is asked for each");
                BTreeMap::new()
            })
        });
        let found = self.find_exits(&session, hops).await;
        found.map_err(|failure: Failure| failure.doing("look for the ways outside"))
    }

    /// Over which families there is a way outside now: IPv4, IPv6.
    pub(super) async fn ways_outside(&self) -> Result<[bool; 2], KernelError> {
        let session = self.inner.own_session().await?;
        let found = self.find_exits(&session, Default::default()).await;
        Ok(found.map_err(|failure| failure.doing("look for the ways outside"))?.families())
    }

    async fn find_exits(
        &self,
        session: &Session,
        mut hops: [BTreeMap<u32, Hops>; 2],
    ) -> Result<Exits, Failure> {
        let links = session.links().await?;
        let addresses = session.own_addresses().await?;
        let underlay = self.inner.watcher.underlay_links();
        let own = addresses.iter().map(|own| own.address).filter(|own| !own.is_loopback());
        let mut exits = Exits { by_link: BTreeMap::new(), own: own.collect() };
        for ipv6 in [false, true] {
            let (any, nobody): (IpAddr, IpAddr) = match ipv6 {
                false => (Ipv4Addr::UNSPECIFIED.into(), NOBODYS.0.into()),
                true => (Ipv6Addr::UNSPECIFIED.into(), NOBODYS.1.into()),
            };
            let way = session.way(any, nobody, RouteFlags::empty()).await?;
            let default = way.as_ref().and_then(leads_to);
            for link in links.iter().filter(|link| link.up && !link.loopback && !link.is_marked()) {
                let leads = default == Some(link.index);
                if !leads && !underlay.contains(&link.index) && !link.is_card() {
                    continue;
                }
                let own = addresses.iter().filter(|own| own.settled && own.link == link.index);
                let own = own.map(|own| own.address).filter(|address| address.is_ipv6() == ipv6);
                let own: Vec<IpAddr> = own.collect();
                let by_route = way.as_ref().filter(|_| leads).and_then(source_of);
                if let Some(address) = chosen(&own, by_route) {
                    let hops = hops[usize::from(ipv6)].remove(&link.index);
                    let exit = Exit { address, index: link.index, mtu: link.mtu, hops };
                    exits.by_link.insert((ipv6, link.name.clone()), exit);
                }
            }
        }
        Ok(exits)
    }
}

/// The address that what leaves by a link bears. Of IPv6 not the route's first: that may be one that passes.
fn chosen(own: &[IpAddr], by_route: Option<IpAddr>) -> Option<IpAddr> {
    let is_of_the_world =
        |address: &&IpAddr| matches!(address, IpAddr::V6(v6) if v6.segments()[0] >> 13 == 1);
    match by_route {
        Some(IpAddr::V4(_)) => by_route,
        // The newest comes first in what the kernel lists of IPv6, and the oldest changes least.
        _ => {
            let v6 = own.iter().rev().find(is_of_the_world).or_else(|| own.iter().rfind(|own| own.is_ipv6()));
            v6.or(own.first()).copied().or(by_route)
        }
    }
}

fn source_of(way: &RouteMessage) -> Option<IpAddr> {
    way.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_take_the_largest_packet_or_has_no_known_hop_leads_nowhere_by_the_short_way() {
        let exit =
            |mtu: u32, hops: Option<Hops>| Exit { address: [192, 0, 2, 1].into(), index: mtu, mtu, hops };
        let known = Some(Hops::default());
        let all =
            [("large", exit(1500, known.clone())), ("small", exit(1400, known)), ("odd", exit(9000, None))];
        let by_link = all.into_iter().map(|(name, exit)| ((false, name.to_owned()), exit)).collect();
        let exits = Exits { by_link, own: BTreeSet::new() };
        assert_eq!(exits.leads(false, 1450).map(|(index, _)| index).collect::<Vec<_>>(), [1500]);
        assert_eq!(exits.leads(false, 1400).count(), 2);
        assert_eq!(exits.leads(true, 0).count(), 0);
        let number = exits.number();
        let mut other = exits.clone();
        other.by_link.values_mut().for_each(|exit| exit.mtu += 1);
        assert_eq!(other.number(), number);
        assert_ne!(other.number_of_ways(), exits.number_of_ways());
        let moved = Exits { own: ["192.0.2.7".parse().unwrap()].into(), ..exits.clone() };
        assert_eq!(moved.number(), number);
        assert_ne!(moved.number_of_ways(), exits.number_of_ways(), "another address of the node");
    }

    #[test]
    fn of_several_addresses_the_routes_own_is_taken_and_one_that_stays() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (one, other) = (address("192.0.2.1"), address("198.51.100.1"));
        assert_eq!(chosen(&[one, other], Some(other)), Some(other));
        assert_eq!(chosen(&[one, other], None), Some(one));
        assert_eq!(chosen(&[], Some(one)), Some(one));
        assert_eq!(chosen(&[], None), None);
        let (newer, older, own) = (address("2001:db8::2"), address("2001:db8::1"), address("fd00::1"));
        assert_eq!(chosen(&[newer, older, own], Some(newer)), Some(older));
        assert_eq!(chosen(&[own], Some(newer)), Some(own));
        assert_eq!(chosen(&[], Some(newer)), Some(newer));
    }
}
