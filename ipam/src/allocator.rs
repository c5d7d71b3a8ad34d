//! Hands out the addresses of one subnet on one node.
//!
//! Owns the order of the rules (asked, pool, block) and what is in use on this node. Does not own the plan, nor
//! what other nodes use: the caller answers for that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::bitmap::Bitmap;
use crate::memory::FreedPlaces;
use crate::{AllocError, Freed, Grant, Item, Memory, Origin, Owner, Pool, Request, SubnetPlan, stable_hash};

/// Hands out the addresses of one subnet on the node with one index.
///
/// An address is in use from `allocate` or `hold` to `release`, and is never granted while it is: asking twice
/// with one key gives two addresses. Making a repeated attach give the same answer is the caller's business.
#[derive(Debug, Clone)]
pub struct Allocator {
    plan: SubnetPlan,
    index: u32,
    /// The ordinal of the first address of the node's block, if it has one.
    first: Option<u128>,
    /// What is in use on this node, by offset, with its key.
    held: BTreeMap<u128, String>,
    /// How many of them are in the block.
    held_in_block: u32,
    /// The places of the block that are in use or in `freed`. A place never leaves it: a freed one is remembered.
    touched: Bitmap,
    freed: FreedPlaces,
}

impl Allocator {
    /// An allocator with nothing in use and nothing to remember. An `index` without a block is no error: asked
    /// addresses and pools work without one.
    pub fn new(plan: SubnetPlan, index: u32) -> Self {
        let first = plan.block_ordinals(index).map(|(first, _)| first);
        // Lossless: a block has at most `MAX_BLOCK_SIZE` addresses.
        let places = if first.is_some() { plan.block_size() as u32 } else { 0 };
        Self {
            plan,
            index,
            first,
            held: BTreeMap::new(),
            held_in_block: 0,
            touched: Bitmap::new(places),
            freed: FreedPlaces::default(),
        }
    }

    /// The same with what was freed before the restart. Entries outside the node's block are ignored. Addresses
    /// that are in use are told by [`Allocator::hold`] afterwards.
    pub fn with_memory(plan: SubnetPlan, index: u32, memory: &Memory) -> Self {
        let mut allocator = Self::new(plan, index);
        for Freed { address, key, order } in &memory.freed {
            let offset = allocator.plan.space().offset(*address);
            if let Some(place) = offset.and_then(|offset| allocator.place(offset)) {
                allocator.touched.set(place);
                allocator.freed.insert(place, key.clone(), *order);
            }
        }
        allocator
    }

    /// The plan.
    pub fn plan(&self) -> &SubnetPlan {
        &self.plan
    }

    /// The node's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether `address` is of the subnet.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.plan.space().offset(address).is_some()
    }

    /// Hands out an address. An error changes nothing.
    ///
    /// In order: an asked address is granted if nobody has it, it is for endpoints, not in another node's block,
    /// and not in the pool of another service. A service with a pool gets the address of its slot: the pool's
    /// first plus the slot, even if it is taken elsewhere, because a slot moves between nodes and the newest
    /// claim wins. Without a slot it gets the first free one, starting from the key's hash modulo the number of
    /// slots. Everything else gets an address of the node's block: the one that the key freed last, else one that
    /// was never used, starting from the key's hash modulo the block size, else the one freed longest ago.
    ///
    /// `taken_elsewhere` says whether another node has an address in use. The time depends on the logarithm of how
    /// many addresses are in use, not on how full the block is; each address that is taken elsewhere and comes
    /// first costs one more step, and so does each slot in use before a free one.
    pub fn allocate(
        &mut self,
        request: &Request<'_>,
        taken_elsewhere: impl Fn(IpAddr) -> bool,
    ) -> Result<Grant, AllocError> {
        let grant = self.choose(request, &taken_elsewhere)?;
        self.take(&grant, request.key);
        Ok(grant)
    }

    /// Takes note that `address` is in use on this node by `key`: what was granted before a restart. Any address
    /// of the subnet will do, even one that would not be granted now; the same twice is no error.
    ///
    /// It is an error, which changes nothing, if the address is outside the subnet or another key has it.
    pub fn hold(&mut self, address: IpAddr, key: &str) -> Result<(), AllocError> {
        let offset = self.offset(address)?;
        match self.held.get(&offset) {
            Some(holder) if holder == key => Ok(()),
            Some(holder) => Err(AllocError::InUse { address, key: holder.clone() }),
            None => {
                self.occupy(offset, key);
                Ok(())
            }
        }
    }

    /// Takes note that `address` is no longer in use on this node. The answer is what is to be remembered of it:
    /// nothing, if it was not in use, or is not of the node's block.
    pub fn release(&mut self, address: IpAddr) -> Option<Freed> {
        let offset = self.plan.space().offset(address)?;
        let key = self.held.remove(&offset)?;
        let place = self.place(offset)?;
        self.held_in_block -= 1;
        let order = self.freed.push(place, key.clone());
        Some(Freed { address, key, order })
    }

    /// What is in use on this node, in ascending order, with the keys.
    pub fn held(&self) -> impl Iterator<Item = (IpAddr, &str)> + '_ {
        self.held.iter().map(|(offset, key)| (self.plan.space().address(*offset), key.as_str()))
    }

    /// What must survive a restart so that freed addresses stay with their keys, the one freed first first.
    pub fn memory(&self) -> Memory {
        let freed = self.freed.entries().filter_map(|(place, key, order)| {
            let address = self.plan.space().address(self.offset_of(place)?);
            Some(Freed { address, key: key.to_owned(), order })
        });
        Memory { freed: freed.collect() }
    }

    /// What `allocate` would give now.
    pub(crate) fn choose(
        &self,
        request: &Request<'_>,
        taken: &impl Fn(IpAddr) -> bool,
    ) -> Result<Grant, AllocError> {
        let pool = request.service.and_then(|service| self.plan.pool(service));
        let (offset, origin) = if let Some(address) = request.address {
            (self.asked(address, request.service, taken)?, Origin::Asked)
        } else if let Some(pool) = pool {
            let slot = match request.slot {
                Some(slot) => slot,
                None => free_slot(&[(self, pool)], request.key, taken)?,
            };
            (self.slot(pool, slot)?, Origin::Pool { slot })
        } else {
            (self.place_in_block(request.key, taken)?, Origin::Block)
        };
        Ok(Grant { address: self.plan.space().interface(offset), origin })
    }

    /// Makes use of what `choose` gave.
    pub(crate) fn take(&mut self, grant: &Grant, key: &str) {
        if let Some(offset) = self.plan.space().offset(grant.address.ip()) {
            self.occupy(offset, key);
        }
    }

    fn asked(
        &self,
        address: IpAddr,
        service: Option<&str>,
        taken: &impl Fn(IpAddr) -> bool,
    ) -> Result<u128, AllocError> {
        let offset = self.offset(address)?;
        let refused = |item| Err(AllocError::NotForEndpoints { address, item });
        match self.plan.owner(address) {
            Owner::Network => return refused(Item::Network(address)),
            Owner::Broadcast => return refused(Item::Broadcast(address)),
            Owner::Gateway => return refused(Item::Gateway(address)),
            Owner::Reserved(range) => return refused(Item::Reservation(range)),
            Owner::Pool(pool) if service != Some(&pool.service) => {
                let (service, range) = (pool.service.clone(), pool.range);
                return Err(AllocError::OthersPool { address, service, range });
            }
            Owner::Block(index) if index != self.index => {
                let block = self.plan.block(index)?;
                return Err(AllocError::OthersBlock { address, block, index: self.index });
            }
            Owner::Pool(_) | Owner::Block(_) | Owner::Rest | Owner::Outside => {}
        }
        if let Some(key) = self.held.get(&offset) {
            return Err(AllocError::InUse { address, key: key.clone() });
        }
        if taken(address) { Err(AllocError::InUseElsewhere { address }) } else { Ok(offset) }
    }

    fn slot(&self, pool: &Pool, slot: u32) -> Result<u128, AllocError> {
        let (first, size) = self.plan.pool_slots(pool);
        if u64::from(slot) >= size {
            let (service, range) = (pool.service.clone(), pool.range);
            return Err(AllocError::SlotBeyondPool { service, slot, range, size });
        }
        let offset = first + u128::from(slot);
        match self.held.get(&offset) {
            Some(key) => {
                Err(AllocError::InUse { address: self.plan.space().address(offset), key: key.clone() })
            }
            None => Ok(offset),
        }
    }

    fn place_in_block(&self, key: &str, taken: &impl Fn(IpAddr) -> bool) -> Result<u128, AllocError> {
        let size = self.plan.block_size();
        // Lossless: below the block size.
        let start = (stable_hash(key.as_bytes()) % size) as u32;
        let own = self.freed.of_key(key);
        let places = own.chain(self.touched.clear_from(start)).chain(self.freed.oldest_first());
        let mut offsets = places.filter_map(|place| self.offset_of(place));
        if let Some(offset) = offsets.find(|offset| !taken(self.plan.space().address(*offset))) {
            return Ok(offset);
        }
        let here = u64::from(self.held_in_block);
        let block = self.plan.block(self.index)?;
        Err(AllocError::BlockFull { block, here, elsewhere: size - here, size })
    }

    fn occupy(&mut self, offset: u128, key: &str) {
        self.held.insert(offset, key.to_owned());
        if let Some(place) = self.place(offset) {
            self.held_in_block += 1;
            self.touched.set(place);
            self.freed.remove(place);
        }
    }

    fn offset(&self, address: IpAddr) -> Result<u128, AllocError> {
        let outside = || AllocError::Outside { address, subnet: self.plan.subnet().to_string() };
        self.plan.space().offset(address).ok_or_else(outside)
    }

    /// Where in the node's block the address at `offset` is, counted from 0; nothing if it is elsewhere.
    fn place(&self, offset: u128) -> Option<u32> {
        let place = self.plan.ordinal(offset)?.checked_sub(self.first?)?;
        (place < u128::from(self.plan.block_size())).then_some(place as u32)
    }

    fn offset_of(&self, place: u32) -> Option<u128> {
        self.plan.offset_of(self.first? + u128::from(place))
    }

    fn slot_is_free(&self, first: u128, slot: u64, taken: &impl Fn(IpAddr) -> bool) -> bool {
        let offset = first + u128::from(slot);
        !self.held.contains_key(&offset) && !taken(self.plan.space().address(offset))
    }
}

/// The first slot that is free in all of `pools`, starting from the hash of `key` modulo the number of slots of
/// the smallest. Each pool comes with the allocator of its subnet.
pub(crate) fn free_slot(
    pools: &[(&Allocator, &Pool)],
    key: &str,
    taken: &impl Fn(IpAddr) -> bool,
) -> Result<u32, AllocError> {
    let slots: Vec<_> = pools.iter().map(|(node, pool)| (node, node.plan.pool_slots(pool))).collect();
    let size = slots.iter().map(|(_, (_, size))| *size).min().unwrap_or(1);
    let start = stable_hash(key.as_bytes()) % size;
    (start..size)
        .chain(0..start)
        .find(|slot| slots.iter().all(|(node, (first, _))| node.slot_is_free(*first, *slot, taken)))
        // Lossless: a pool has at most 2^32 slots.
        .map(|slot| slot as u32)
        .ok_or_else(|| {
            let service = pools.first().map(|(_, pool)| pool.service.clone()).unwrap_or_default();
            let ranges: Vec<_> = pools.iter().map(|(_, pool)| pool.range.to_string()).collect();
            AllocError::PoolFull { service, pool: ranges.join(" and "), size }
        })
}

/// What an allocator with nothing in use and nothing to remember gives: what anyone can compute beforehand.
pub fn foretell(plan: &SubnetPlan, index: u32, request: &Request<'_>) -> Result<Grant, AllocError> {
    Allocator::new(plan.clone(), index).choose(request, &|_| false)
}
