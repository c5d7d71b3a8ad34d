//! The plan of one subnet: who each address belongs to.
//!
//! Owns the checks on what the creator said, and the cut into blocks. Which address of its share a node hands
//! out is decided in `allocator`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::gaps::Gaps;
use crate::space::Space;
use crate::{AddrRange, AllocError, Block, Item, PlanError, Pool, SubnetConfig};

/// The largest block there is, in addresses: its bitmap has 128 KiB.
pub const MAX_BLOCK_SIZE: u64 = 1 << 20;

/// The largest block that is chosen without being asked for, in addresses.
pub const MAX_DEFAULT_BLOCK_SIZE: u64 = 1 << 16;

/// Who an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// Nobody: the subnet's own address (IPv4 network address, IPv6 subnet-router anycast).
    Network,
    /// Nobody: the IPv4 broadcast address.
    Broadcast,
    /// The gateway.
    Gateway,
    /// Nobody: it is reserved.
    Reserved,
    /// The service of this pool.
    Pool(&'a Pool),
    /// The node with this index.
    Block(u32),
    /// Nobody: it is left over behind the last block. Whoever asks for it first gets it.
    Rest,
    /// It is not in the subnet.
    Outside,
}

/// The plan of one subnet, checked. It is a value: the same config gives the same plan on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetPlan {
    space: Space,
    gateway: u128,
    pools: Vec<Pool>,
    reserved: Vec<AddrRange>,
    gaps: Gaps,
    block_size: u64,
}

impl SubnetPlan {
    /// Checks `config` and computes its plan.
    ///
    /// An IPv4 subnet sets its network and broadcast addresses apart, except /31 (RFC 3021); an IPv6 subnet sets
    /// its first address apart, the subnet-router anycast (RFC 4291 section 2.6.1), except /127 (RFC 6164). A
    /// /32 or /128 has no room for a gateway and an endpoint. The gateway is by default the first address that is
    /// left. A pool may not hold the gateway, a reservation or an address of another pool; reservations may
    /// overlap each other, the gateway and the addresses that nobody gets.
    pub fn new(config: &SubnetConfig) -> Result<Self, PlanError> {
        let _ = config;
        todo!()
    }

    /// The subnet, without host bits.
    pub fn subnet(&self) -> IpNetwork {
        self.space.subnet()
    }

    /// The gateway.
    pub fn gateway(&self) -> IpAddr {
        self.space.address(self.gateway)
    }

    /// How many addresses each block has.
    ///
    /// Where the creator did not say: with `n` addresses left for blocks and `h` the bits that number them
    /// (2^h is `n` rounded up to a power of two), it is 2^(h/2), `h/2` rounded up, and at most
    /// [`MAX_DEFAULT_BLOCK_SIZE`]. So an otherwise empty /24 has blocks of 16, a /16 of 256, a /64 of 65,536.
    pub fn block_size(&self) -> u64 {
        self.block_size
    }

    /// How many blocks there are, and so how many nodes fit: their indexes are 0 to this less one.
    pub fn blocks(&self) -> u64 {
        let fit = self.gaps.total() / u128::from(self.block_size);
        // Indexes are 32 bits wide; an IPv6 subnet may have room for more.
        fit.min(1 << 32) as u64
    }

    /// How many addresses are left for blocks.
    pub fn dynamic(&self) -> u128 {
        self.gaps.total()
    }

    /// The pools, as they were given.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// The pool of `service`, if it has one here.
    pub fn pool(&self, service: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.service == service)
    }

    /// The reservations, as they were given.
    pub fn reserved(&self) -> &[AddrRange] {
        &self.reserved
    }

    /// The block of the node with `index`.
    pub fn block(&self, index: u32) -> Result<Block, AllocError> {
        let _ = index;
        todo!()
    }

    /// Who `address` belongs to.
    pub fn owner(&self, address: IpAddr) -> Owner<'_> {
        let _ = address;
        todo!()
    }
}
