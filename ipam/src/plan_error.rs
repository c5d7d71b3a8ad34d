//! Why a network cannot be as its creator says.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::{AddrRange, Pool, Special};

/// A part of a plan, as errors name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The subnet's own address: IPv4 network address, or IPv6 subnet-router anycast (RFC 4291 section 2.6.1).
    Network(IpAddr),
    /// The IPv4 broadcast address.
    Broadcast(IpAddr),
    /// The gateway.
    Gateway(IpAddr),
    /// A service's pool.
    Pool(Pool),
    /// A reservation.
    Reservation(AddrRange),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(a) if a.is_ipv6() => write!(f, "the subnet-router anycast address {a}"),
            Self::Network(a) => write!(f, "the network address {a}"),
            Self::Broadcast(a) => write!(f, "the broadcast address {a}"),
            Self::Gateway(a) => write!(f, "the gateway {a}"),
            Self::Pool(pool) => write!(f, "the pool {}={}", pool.service, pool.range),
            Self::Reservation(range) => write!(f, "the reservation {range}"),
        }
    }
}

/// Why a network cannot be as its creator says. Nothing was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A network without a subnet.
    #[error("the network has no subnet: give at least one --subnet")]
    NoSubnet,
    /// Two subnets of one network have addresses in common.
    #[error("the subnets {first} and {second} overlap: change one of them, or leave one out")]
    SubnetsOverlap {
        /// The one given first.
        first: IpNetwork,
        /// The other.
        second: IpNetwork,
    },
    /// One subnet was given two gateways.
    #[error("{subnet} has two gateways, {first} and {second}: leave one out")]
    TwoGateways {
        /// The subnet.
        subnet: IpNetwork,
        /// The one given first.
        first: IpAddr,
        /// The other.
        second: IpAddr,
    },
    /// A subnet has addresses that have a meaning of their own.
    #[error(
        "the subnet {} has addresses of {} ({}), which no interface can have: choose one of private addresses, such as {}",
        network_of(.subnet), .special.range, .special.name, private(.subnet)
    )]
    Special {
        /// The subnet.
        subnet: IpNetwork,
        /// The range of which it has addresses.
        special: Special,
    },
    /// A subnet is all there is.
    #[error(
        "the subnet {} is {what}, and nothing else could be reached: choose one of private addresses, such as {}",
        network_of(.subnet), private(.subnet)
    )]
    Everything {
        /// The subnet.
        subnet: IpNetwork,
        /// What it is.
        what: &'static str,
    },
    /// Everything is set apart, and nothing for a service.
    #[error("nothing is left of {subnet} for endpoints: reserve less, or choose a larger subnet")]
    NothingLeft {
        /// The subnet.
        subnet: IpNetwork,
    },
    /// There is no room for a gateway and one endpoint.
    #[error("{subnet} is too small for a gateway and an endpoint: use /{longest} or a shorter prefix")]
    TooSmall {
        /// The subnet.
        subnet: IpNetwork,
        /// The longest prefix that would do.
        longest: u8,
    },
    /// Something lies partly or wholly outside.
    #[error("{item} is outside {subnet}: choose addresses inside it, or a larger subnet")]
    Outside {
        /// What lies outside.
        item: Item,
        /// The subnet, or all subnets of the network.
        subnet: String,
    },
    /// Something includes an address that nobody can have.
    #[error("{item} takes {special}, which nobody can have: choose other addresses")]
    Unusable {
        /// What includes the address.
        item: Box<Item>,
        /// The address.
        special: Box<Item>,
    },
    /// Two things that must be apart have an address in common.
    #[error("{item} overlaps {other}: move or shorten one of them")]
    Overlap {
        /// The one.
        item: Box<Item>,
        /// The other.
        other: Box<Item>,
    },
    /// A service has two pools in one subnet.
    #[error(
        "the service {service} has two pools in {subnet}, {first} and {second}: join them to one range, or leave one out"
    )]
    TwoPools {
        /// The service.
        service: String,
        /// The subnet.
        subnet: IpNetwork,
        /// The one given first.
        first: AddrRange,
        /// The other.
        second: AddrRange,
    },
    /// Blocks without addresses.
    #[error("a block size of 0 gives no node an address: use 1 or more, or leave --block-size out")]
    BlockSizeZero,
    /// Not even one block fits, or a block is larger than any node needs.
    #[error(
        "the block size {size} is too large for {subnet}: blocks share {left} addresses there and have at most {max} each; use a smaller --block-size, a larger subnet, or smaller pools and reservations"
    )]
    BlockSizeTooLarge {
        /// The size that was given.
        size: u64,
        /// The subnet.
        subnet: IpNetwork,
        /// How many addresses are left for blocks.
        left: u128,
        /// The largest block of all ([`crate::MAX_BLOCK_SIZE`]).
        max: u64,
    },
}

/// A subnet without the host bits that it was given with.
fn network_of(subnet: &IpNetwork) -> String {
    format!("{}/{}", subnet.network(), subnet.prefix())
}

/// An example of what would do, of the same family (RFC 1918, RFC 4193).
fn private(subnet: &IpNetwork) -> &'static str {
    if subnet.is_ipv4() { "10.10.0.0/24" } else { "fd00:10::/64" }
}
