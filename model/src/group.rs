//! Multicast groups, and memberships in them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::EndpointName;

/// The address of a multicast group: IPv4 in 224.0.0.0/4 (RFC 5771) or IPv6 in ff00::/8 (RFC 4291 section 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "IpAddr", into = "IpAddr")]
pub struct GroupAddr(IpAddr);

/// Why something is not a multicast group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The address is one of unicast or broadcast.
    #[error("{0} is not a multicast address: it must lie in 224.0.0.0/4 or ff00::/8")]
    NotMulticast(IpAddr),
    /// The text is no address at all.
    #[error("{0:?} is not an IP address")]
    NotAnAddress(String),
    /// A sender is one address of unicast, of the group's family.
    #[error("{1} cannot send to {0}: a source is a unicast address of the group's family")]
    BadSource(GroupAddr, IpAddr),
}

impl GroupAddr {
    /// mDNS over IPv4.
    const MDNS_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251));
    /// mDNS over IPv6.
    const MDNS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb));

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Whether it is one of the groups of mDNS (RFC 6762 section 3).
    pub fn is_mdns(self) -> bool {
        self.0 == Self::MDNS_V4 || self.0 == Self::MDNS_V6
    }

    /// Whether datagrams to it go only where its members are.
    ///
    /// The others always go to the whole network, because hosts do not report them, or because reporting them
    /// would cost more than it saves: IPv4's local groups 224.0.0.0/24 (RFC 4541 section 2.1.2), IPv6's all-nodes
    /// and all-snoopers groups, the solicited-node groups of neighbour discovery, and what does not leave a host.
    pub fn is_selective(self) -> bool {
        /// RFC 4291 section 2.7.1.
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        /// RFC 4286 section 4: every snooping bridge is in it.
        const ALL_SNOOPERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x6a);
        match self.0 {
            IpAddr::V4(v4) => v4.octets()[..3] != Ipv4Addr::new(224, 0, 0, 0).octets()[..3],
            IpAddr::V6(v6) => {
                let within_a_host = v6.octets()[1] & 0x0f <= 1;
                let solicited_node = matches!(v6.segments(), [0xff02, 0, 0, 0, 0, 1, 0xff00..=0xffff, _]);
                !(within_a_host || solicited_node || v6 == ALL_NODES || v6 == ALL_SNOOPERS)
            }
        }
    }
}

impl TryFrom<IpAddr> for GroupAddr {
    type Error = GroupError;

    fn try_from(address: IpAddr) -> Result<Self, GroupError> {
        if address.is_multicast() { Ok(Self(address)) } else { Err(GroupError::NotMulticast(address)) }
    }
}

impl From<GroupAddr> for IpAddr {
    fn from(group: GroupAddr) -> Self {
        group.0
    }
}

impl FromStr for GroupAddr {
    type Err = GroupError;

    fn from_str(text: &str) -> Result<Self, GroupError> {
        let address: IpAddr = text.parse().map_err(|_| GroupError::NotAnAddress(text.to_owned()))?;
        address.try_into()
    }
}

impl fmt::Display for GroupAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a member wants to hear: a group, from anybody or from one sender (RFC 3376, RFC 4607).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(GroupAddr, Option<IpAddr>)", into = "(GroupAddr, Option<IpAddr>)")]
pub struct Group {
    address: GroupAddr,
    source: Option<IpAddr>,
}

impl Group {
    /// `address`, from whoever sends to it.
    pub fn any_source(address: GroupAddr) -> Self {
        Self { address, source: None }
    }

    /// `address`, from `source`, or from anybody where that is `None`.
    ///
    /// # Errors
    /// The source is of another family, or no unicast address.
    pub fn new(address: GroupAddr, source: Option<IpAddr>) -> Result<Self, GroupError> {
        let bad = |source: &IpAddr| {
            source.is_ipv4() != address.0.is_ipv4() || source.is_multicast() || source.is_unspecified()
        };
        match source.filter(bad) {
            Some(source) => Err(GroupError::BadSource(address, source)),
            None => Ok(Self { address, source }),
        }
    }

    /// The group's address.
    pub fn address(&self) -> GroupAddr {
        self.address
    }

    /// The only sender it is wanted from; `None`: from anybody.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }
}

impl TryFrom<(GroupAddr, Option<IpAddr>)> for Group {
    type Error = GroupError;

    fn try_from((address, source): (GroupAddr, Option<IpAddr>)) -> Result<Self, GroupError> {
        Self::new(address, source)
    }
}

impl From<Group> for (GroupAddr, Option<IpAddr>) {
    fn from(group: Group) -> Self {
        (group.address, group.source)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            None => self.address.fmt(f),
            Some(source) => write!(f, "{} from {source}", self.address),
        }
    }
}

/// A membership on this node, as its bridge has seen it reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupMember {
    /// What is wanted.
    pub group: Group,
    /// The endpoint that wants it; `None`: the node itself, on the network's bridge, or one that is just
    /// being attached.
    pub endpoint: Option<EndpointName>,
}

/// Packets of IP that were counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// What they took, their IP headers included.
    pub bytes: u64,
}

impl Traffic {
    /// What was counted after `before`, where counting may have begun anew in between.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        if self.packets < before.packets || self.bytes < before.bytes {
            return self;
        }
        Self { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.packets = self.packets.saturating_add(more.packets);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// What passed between this node and a network, by group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupTraffic {
    /// What this node's endpoints sent, each packet once, wherever it went.
    pub sent: BTreeMap<GroupAddr, Traffic>,
    /// What came from other nodes.
    pub received: BTreeMap<GroupAddr, Traffic>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> GroupAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_multicast_addresses_are_groups() {
        for text in ["223.255.255.255", "240.0.0.0", "255.255.255.255", "fe80::1", "", "ff02::1%eth0"] {
            assert!(text.parse::<GroupAddr>().is_err(), "{text}");
        }
        assert_eq!(address("239.1.1.1").to_string(), "239.1.1.1");
        assert!(
            postcard::from_bytes::<GroupAddr>(&postcard::to_stdvec(&IpAddr::from([10, 0, 0, 1])).unwrap())
                .is_err()
        );
    }

    #[test]
    fn what_hosts_do_not_report_goes_to_the_whole_network() {
        for text in
            ["224.0.0.251", "224.0.0.1", "ff02::1", "ff02::6a", "ff02::1:ff00:1", "ff01::5", "ff10::1"]
        {
            assert!(!address(text).is_selective(), "{text}");
        }
        for text in [
            "224.0.1.1",
            "224.1.0.0",
            "239.255.255.250",
            "ff02::fb",
            "ff02::2",
            "ff05::1:3",
            "ff02::1:fe00:1",
        ] {
            assert!(address(text).is_selective(), "{text}");
        }
    }

    #[test]
    fn a_source_is_a_unicast_address_of_the_same_family() {
        let group = address("232.1.1.1");
        for bad in ["fd00::1", "239.0.0.1", "0.0.0.0"] {
            assert!(Group::new(group, Some(bad.parse().unwrap())).is_err(), "{bad}");
        }
        let one = Group::new(group, Some([10, 0, 0, 1].into())).unwrap();
        assert_eq!(one.to_string(), "232.1.1.1 from 10.0.0.1");
        assert_eq!(postcard::from_bytes::<Group>(&postcard::to_stdvec(&one).unwrap()).unwrap(), one);
    }
}
