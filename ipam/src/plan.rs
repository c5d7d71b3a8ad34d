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
    /// Nobody: it is in this reservation.
    Reserved(AddrRange),
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
        let space = Space::new(&config.subnet);
        let subnet = space.subnet();
        if space.last() == 0 {
            return Err(PlanError::TooSmall { subnet, longest: space.prefix() - 1 });
        }
        let inside = |item: Item, range: &AddrRange| {
            space.offsets(range).ok_or_else(|| PlanError::Outside { item, subnet: subnet.to_string() })
        };
        let network = space.network().map(|at| ((at, at), Item::Network(space.address(at))));
        let broadcast = space.broadcast().map(|at| ((at, at), Item::Broadcast(space.address(at))));
        let mut apart = Apart(network.into_iter().chain(broadcast).collect());
        let gateway = match config.gateway {
            Some(address) => inside(Item::Gateway(address), &AddrRange::between(address, address))?.0,
            None => u128::from(space.network().is_some()),
        };
        apart.add((gateway, gateway), Item::Gateway(space.address(gateway)))?;
        let mut reserved = Vec::new();
        for range in &config.reserved {
            reserved.push(inside(Item::Reservation(*range), range)?);
        }
        for (i, pool) in config.pools.iter().enumerate() {
            if let Some(first) = config.pools[..i].iter().find(|other| other.service == pool.service) {
                let (service, first, second) = (pool.service.clone(), first.range, pool.range);
                return Err(PlanError::TwoPools { service, subnet, first, second });
            }
            let span = inside(Item::Pool(pool.clone()), &pool.range)?;
            if let Some(other) = reserved.iter().position(|other| overlap(span, *other)) {
                let other = Box::new(Item::Reservation(config.reserved[other]));
                return Err(PlanError::Overlap { item: Box::new(Item::Pool(pool.clone())), other });
            }
            apart.add(span, Item::Pool(pool.clone()))?;
        }
        let spans = apart.0.into_iter().map(|(span, _)| span).chain(reserved).collect();
        let gaps = Gaps::new(space.last(), spans);
        let block_size = match config.block_size {
            None => default_block_size(gaps.total()),
            Some(0) => return Err(PlanError::BlockSizeZero),
            Some(size) if size > MAX_BLOCK_SIZE || u128::from(size) > gaps.total() => {
                return Err(PlanError::BlockSizeTooLarge {
                    size,
                    subnet,
                    left: gaps.total(),
                    max: MAX_BLOCK_SIZE,
                });
            }
            Some(size) => size,
        };
        let (pools, reserved) = (config.pools.clone(), config.reserved.clone());
        Ok(Self { space, gateway, pools, reserved, gaps, block_size })
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
        let (first, last) = self.block_ordinals(index).ok_or_else(|| AllocError::NoBlock {
            index,
            subnet: self.subnet(),
            blocks: self.blocks(),
            block_size: self.block_size,
            borrowed: 0,
        })?;
        let ranges = self.gaps.ranges(first, last).map(|(first, last)| self.space.range(first, last));
        Ok(Block { index, ranges: ranges.collect() })
    }

    /// How many addresses of the block of `index` are in none of these ranges; `None` where there is no such block.
    pub fn free_in_block(&self, index: u32, busy: &[AddrRange]) -> Option<u64> {
        let (first, last) = self.block_ordinals(index)?;
        let spans = busy.iter().filter_map(|range| self.ordinals_in(range));
        let mut spans: Vec<_> = spans.filter(|(low, high)| *low <= last && *high >= first).collect();
        spans.sort_unstable();
        let (mut free, mut next) = (0, first);
        for (low, high) in spans {
            free += low.saturating_sub(next);
            next = next.max(high + 1);
        }
        // Lossless: a block has at most `MAX_BLOCK_SIZE` addresses.
        Some((free + (last + 1).saturating_sub(next)) as u64)
    }

    /// Who `address` belongs to.
    pub fn owner(&self, address: IpAddr) -> Owner<'_> {
        let Some(offset) = self.space.offset(address) else { return Owner::Outside };
        if let Some(ordinal) = self.gaps.ordinal(offset) {
            let index = ordinal / u128::from(self.block_size);
            // Lossless: there are at most 2^32 blocks.
            return if index < u128::from(self.blocks()) { Owner::Block(index as u32) } else { Owner::Rest };
        }
        // In this order, because a reservation may include the first three.
        if self.space.network() == Some(offset) {
            Owner::Network
        } else if self.space.broadcast() == Some(offset) {
            Owner::Broadcast
        } else if self.gateway == offset {
            Owner::Gateway
        } else if let Some(pool) = self.pools.iter().find(|pool| pool.range.contains(address)) {
            Owner::Pool(pool)
        } else {
            let reserved = self.reserved.iter().find(|range| range.contains(address));
            reserved.map_or(Owner::Outside, |range| Owner::Reserved(*range))
        }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// The first and the last ordinal of the block of `index`.
    pub(crate) fn block_ordinals(&self, index: u32) -> Option<(u128, u128)> {
        let first = u128::from(index) * u128::from(self.block_size);
        (u64::from(index) < self.blocks()).then(|| (first, first + u128::from(self.block_size) - 1))
    }

    /// The first and the last ordinal of what is dynamic in `range`, if all of it lies in the subnet and any is.
    pub(crate) fn ordinals_in(&self, range: &AddrRange) -> Option<(u128, u128)> {
        let (first, last) = self.space.offsets(range)?;
        let (from, to) = (self.gaps.below(first), self.gaps.below(last) + u128::from(self.gaps.is_in(last)));
        (from < to).then(|| (from, to - 1))
    }

    /// The range from one ordinal to another; what is set apart in between lies in it too.
    pub(crate) fn range_of(&self, (first, last): (u128, u128)) -> Option<AddrRange> {
        Some(self.space.range(self.gaps.offset(first)?, self.gaps.offset(last)?))
    }

    pub(crate) fn ordinal(&self, offset: u128) -> Option<u128> {
        self.gaps.ordinal(offset)
    }

    pub(crate) fn offset_of(&self, ordinal: u128) -> Option<u128> {
        self.gaps.offset(ordinal)
    }

    /// The offset of the first address of `pool`, one of this plan's, and how many slots it has: at most 2^32, as slots have 32 bits.
    pub(crate) fn pool_slots(&self, pool: &Pool) -> (u128, u64) {
        let (first, last) = self.space.offsets(&pool.range).expect("a pool was checked to lie in its subnet");
        (first, (last - first).min(u128::from(u32::MAX)) as u64 + 1)
    }
}

/// What may not overlap, with the name of each.
struct Apart(Vec<((u128, u128), Item)>);

impl Apart {
    /// Adds an item, unless it overlaps one that is there.
    fn add(&mut self, span: (u128, u128), item: Item) -> Result<(), PlanError> {
        if let Some((_, other)) = self.0.iter().find(|(other, _)| overlap(span, *other)) {
            let (item, other) = (Box::new(item), Box::new(other.clone()));
            return Err(match *other {
                Item::Network(_) | Item::Broadcast(_) => PlanError::Unusable { item, special: other },
                _ => PlanError::Overlap { item, other },
            });
        }
        self.0.push((span, item));
        Ok(())
    }
}

fn overlap(a: (u128, u128), b: (u128, u128)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// See [`SubnetPlan::block_size`].
fn default_block_size(left: u128) -> u64 {
    let bits = u128::BITS - left.saturating_sub(1).leading_zeros();
    1_u64
        .checked_shl(bits.div_ceil(2))
        .map_or(MAX_DEFAULT_BLOCK_SIZE, |size| size.min(MAX_DEFAULT_BLOCK_SIZE))
}

#[cfg(test)]
mod tests;
