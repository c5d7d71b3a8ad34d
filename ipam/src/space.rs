//! The addresses of one subnet as offsets from its first: the one place that knows the two families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::AddrRange;

/// The addresses of a subnet, numbered from 0 (its first) to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    base: u128,
    last: u128,
    prefix: u8,
    v6: bool,
}

impl Space {
    /// The space of `subnet`; its host bits are ignored.
    pub(crate) fn new(subnet: &IpNetwork) -> Self {
        let base = bits(subnet.network());
        Self { base, last: bits(subnet.broadcast()) - base, prefix: subnet.prefix(), v6: subnet.is_ipv6() }
    }

    pub(crate) fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The highest offset. (How many there are does not fit in 128 bits for `::/0`.)
    pub(crate) fn last(&self) -> u128 {
        self.last
    }

    /// The offset that the subnet's own address takes: IPv4 network address, IPv6 subnet-router anycast.
    pub(crate) fn network(&self) -> Option<u128> {
        // Two addresses are both usable: RFC 3021 for /31, RFC 6164 for /127.
        (self.last > 1).then_some(0)
    }

    /// The offset that the IPv4 broadcast address takes. IPv6 has none.
    pub(crate) fn broadcast(&self) -> Option<u128> {
        (self.last > 1 && !self.v6).then_some(self.last)
    }

    /// The subnet itself.
    pub(crate) fn subnet(&self) -> IpNetwork {
        self.interface(0)
    }

    /// The offset of `address`, if it is one of the subnet's.
    pub(crate) fn offset(&self, address: IpAddr) -> Option<u128> {
        let same_family = address.is_ipv6() == self.v6;
        bits(address).checked_sub(self.base).filter(|offset| same_family && *offset <= self.last)
    }

    /// The offsets of both ends of `range`, if all of it lies in the subnet.
    pub(crate) fn offsets(&self, range: &AddrRange) -> Option<(u128, u128)> {
        Some((self.offset(range.first())?, self.offset(range.last())?))
    }

    /// The address at `offset`, which is at most `last`.
    pub(crate) fn address(&self, offset: u128) -> IpAddr {
        debug_assert!(offset <= self.last, "offset {offset} is outside {}", self.subnet());
        let bits = self.base + offset;
        if self.v6 {
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        } else {
            // Lossless: base + last is the highest address of an IPv4 subnet.
            IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
        }
    }

    /// The address at `offset` with the subnet's prefix length, as an interface carries it.
    pub(crate) fn interface(&self, offset: u128) -> IpNetwork {
        IpNetwork::new(self.address(offset), self.prefix).expect("the prefix length came from a subnet")
    }

    /// The addresses from offset `first` to offset `last`.
    pub(crate) fn range(&self, first: u128, last: u128) -> AddrRange {
        AddrRange::between(self.address(first), self.address(last))
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
