//! Hands out the addresses of one subnet on one node.
//!
//! Owns the order of the rules (asked, pool, block, borrowed) and what is in use on this node. Does not own the plan, nor
//! what other nodes use: the caller answers for that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::lending;
use crate::part::Part;
use crate::share::{self, Share};
use crate::{
    AddrRange, AllocError, Freed, Grant, Item, Memory, Origin, Owner, Pool, Request, SubnetPlan, stable_hash,
};

/// Hands out the addresses of one subnet on the node with one index.
///
/// An address is in use from `allocate` or `hold` to `release`, and is never granted while it is: asking twice
/// with one key gives two addresses. Making a repeated attach give the same answer is the caller's business.
#[derive(Debug, Clone)]
pub struct Allocator {
    plan: SubnetPlan,
    index: u32,
    /// Whether the first part is the node's own block.
    has_block: bool,
    /// The node's block, if it has one, and what it borrowed.
    parts: Vec<Part>,
    /// What is in use on this node, by offset, with its key.
    held: BTreeMap<u128, String>,
}

impl Allocator {
    /// An allocator with nothing in use and nothing to remember. An `index` without a block is no error: asked
    /// addresses and pools work without one.
    pub fn new(plan: SubnetPlan, index: u32) -> Self {
        Self::with_share(plan, index, &Share::default())
    }

    /// The same of a node that lent of its block, or borrowed of others'.
    pub fn with_share(plan: SubnetPlan, index: u32, share: &Share) -> Self {
        let has_block = plan.block_ordinals(index).is_some();
        let parts = share::parts(&plan, index, share);
        Self { plan, index, has_block, parts, held: BTreeMap::new() }
    }

    /// The same with what was freed before the restart. Entries of what the node does not have are ignored. Addresses
    /// that are in use are told by [`Allocator::hold`] afterwards.
    pub fn with_memory(plan: SubnetPlan, index: u32, share: &Share, memory: &Memory) -> Self {
        let mut allocator = Self::with_share(plan, index, share);
        for Freed { address, key, order } in &memory.freed {
            let offset = allocator.plan.space().offset(*address);
            if let Some((part, place)) = offset.and_then(|offset| allocator.place(offset)) {
                allocator.parts[part].remember(place, key, *order);
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
    /// nothing, if it was not in use, or is of no part that the node has.
    pub fn release(&mut self, address: IpAddr) -> Option<Freed> {
        let offset = self.plan.space().offset(address)?;
        let key = self.held.remove(&offset)?;
        let (part, place) = self.place(offset)?;
        let order = self.parts[part].release(place, &key);
        Some(Freed { address, key, order })
    }

    /// What is in use on this node, in ascending order, with the keys.
    pub fn held(&self) -> impl Iterator<Item = (IpAddr, &str)> + '_ {
        self.held.iter().map(|(offset, key)| (self.plan.space().address(*offset), key.as_str()))
    }

    /// What must survive a restart so that freed addresses stay with their keys, the one freed first first.
    pub fn memory(&self) -> Memory {
        let entries = |part: &Part| {
            let freed = part.freed().map(|(place, key, order)| (part.ordinal(place), key.to_owned(), order));
            freed.collect::<Vec<_>>()
        };
        let freed = self.parts.iter().flat_map(entries).filter_map(|(ordinal, key, order)| {
            let address = self.plan.space().address(self.plan.offset_of(ordinal)?);
            Some(Freed { address, key, order })
        });
        Memory { freed: freed.collect() }
    }

    /// What of the node's block may be lent, `wanted` addresses of it at most: the upper half of the largest run that
    /// is free, a single one whole. `taken` is what others have in it.
    pub fn spare(&self, wanted: u64, taken: impl IntoIterator<Item = IpAddr>) -> Option<AddrRange> {
        let block = self.parts.first().filter(|_| self.has_block)?;
        let used = self.held.keys().copied();
        let taken = taken.into_iter().filter_map(|address| self.plan.space().offset(address));
        let used = used.chain(taken).filter_map(|offset| self.plan.ordinal(offset)).map(|at| (at, at));
        let (first, last) = lending::largest_free(block.span(), used.chain(block.lent_spans()))?;
        let most = (last - first + 1).div_ceil(2).min(u128::from(wanted.max(1)));
        self.plan.range_of((last + 1 - most, last))
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
            self.by_key(request.key, taken)?
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
            Owner::Block(index) if self.place(offset).is_none() => {
                if index == self.index {
                    return Err(AllocError::Lent { address });
                }
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

    fn by_key(&self, key: &str, taken: &impl Fn(IpAddr) -> bool) -> Result<(u128, Origin), AllocError> {
        let start = stable_hash(key.as_bytes());
        let known = self.parts.iter().enumerate();
        let had = known.flat_map(|(at, part)| part.of_key(key).map(move |place| (at, part.ordinal(place))));
        let known = self.parts.iter().enumerate();
        let others = known.flat_map(|(at, part)| {
            // What was borrowed is filled from below, so that the rest of it can go back.
            let start = if self.is_own(at) { start } else { 0 };
            part.of_anyone(start).map(move |place| (at, part.ordinal(place)))
        });
        let mut offsets =
            had.chain(others).filter_map(|(at, ordinal)| Some((at, self.plan.offset_of(ordinal)?)));
        if let Some((at, offset)) = offsets.find(|(_, offset)| !taken(self.plan.space().address(*offset))) {
            let origin = if self.is_own(at) { Origin::Block } else { Origin::Borrowed };
            return Ok((offset, origin));
        }
        Err(self.exhausted())
    }

    fn is_own(&self, part: usize) -> bool {
        part == 0 && self.has_block
    }

    /// Why there is nothing left.
    fn exhausted(&self) -> AllocError {
        let subnet = self.plan.subnet();
        let (own, borrowed) = self.parts.split_at(usize::from(self.has_block));
        let borrowed = borrowed.iter().map(|part| u64::from(part.size() - part.lent())).sum();
        let (Ok(block), [own]) = (self.plan.block(self.index), own) else {
            let (blocks, block_size) = (self.plan.blocks(), self.plan.block_size());
            return AllocError::NoBlock { index: self.index, subnet, blocks, block_size, borrowed };
        };
        let [size, lent, here] = [own.size(), own.lent(), own.held()].map(u64::from);
        AllocError::BlockFull { block, subnet, here, elsewhere: size - lent - here, lent, size, borrowed }
    }

    fn occupy(&mut self, offset: u128, key: &str) {
        self.held.insert(offset, key.to_owned());
        if let Some((part, place)) = self.place(offset) {
            self.parts[part].occupy(place);
        }
    }

    fn offset(&self, address: IpAddr) -> Result<u128, AllocError> {
        let outside = || AllocError::Outside { address, subnet: self.plan.subnet().to_string() };
        self.plan.space().offset(address).ok_or_else(outside)
    }

    /// In which part the address at `offset` is, and where there; nothing if the node does not have it.
    fn place(&self, offset: u128) -> Option<(usize, u32)> {
        let ordinal = self.plan.ordinal(offset)?;
        self.parts.iter().enumerate().find_map(|(at, part)| Some((at, part.place(ordinal)?)))
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
