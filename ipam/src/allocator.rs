//! Hands out the addresses of one subnet on one node.
//!
//! Owns the order of the rules (asked, pool, block) and what is in use on this node. Does not own the plan, nor
//! what other nodes use: the caller answers for that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::bitmap::Bitmap;
use crate::memory::FreedPlaces;
use crate::{AllocError, Freed, Grant, Memory, Request, SubnetPlan};

/// Hands out the addresses of one subnet on the node with one index.
///
/// An address is in use from `allocate` or `hold` to `release`, and is never granted while it is: asking twice
/// with one key gives two addresses. Making a repeated attach give the same answer is the caller's business.
#[derive(Debug, Clone)]
pub struct Allocator {
    plan: SubnetPlan,
    index: u32,
    /// What is in use on this node, by offset, with its key.
    held: BTreeMap<u128, String>,
    /// The places of the block that are in use or remembered as freed.
    touched: Bitmap,
    freed: FreedPlaces,
    /// How many places of the block are in use on this node.
    in_block: u32,
}

impl Allocator {
    /// An allocator with nothing in use and nothing to remember. An `index` without a block is no error: asked
    /// addresses and pools work without one.
    pub fn new(plan: SubnetPlan, index: u32) -> Self {
        let _ = (plan, index);
        todo!()
    }

    /// The same with what was freed before the restart. Entries outside the node's block are ignored. Addresses
    /// that are in use are told by [`Allocator::hold`], before or after.
    pub fn with_memory(plan: SubnetPlan, index: u32, memory: Memory) -> Self {
        let _ = memory;
        Self::new(plan, index)
    }

    /// The plan.
    pub fn plan(&self) -> &SubnetPlan {
        &self.plan
    }

    /// The node's index.
    pub fn index(&self) -> u32 {
        self.index
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
    /// `taken_elsewhere` says whether another node has an address in use.
    pub fn allocate(
        &mut self,
        request: &Request<'_>,
        taken_elsewhere: impl Fn(IpAddr) -> bool,
    ) -> Result<Grant, AllocError> {
        let _ = (request, taken_elsewhere(self.plan.gateway()));
        todo!()
    }

    /// Takes note that `address` is in use on this node by `key`: what was granted before a restart. Any address
    /// of the subnet will do, even one that would not be granted now; the same twice is no error.
    ///
    /// It is an error, which changes nothing, if the address is outside the subnet or another key has it.
    pub fn hold(&mut self, address: IpAddr, key: &str) -> Result<(), AllocError> {
        let _ = (address, key);
        todo!()
    }

    /// Takes note that `address` is no longer in use on this node. The answer is what is to be remembered of it:
    /// nothing, if it was not in use, or is not of the node's block.
    pub fn release(&mut self, address: IpAddr) -> Option<Freed> {
        let _ = address;
        todo!()
    }

    /// What is in use on this node, in ascending order, with the keys.
    pub fn held(&self) -> impl Iterator<Item = (IpAddr, &str)> + '_ {
        self.held.iter().map(|(offset, key)| (self.plan.gateway(), key.as_str())).take(0)
    }

    /// What must survive a restart so that freed addresses stay with their keys, the one freed first first.
    pub fn memory(&self) -> Memory {
        todo!()
    }
}

/// What an allocator with nothing in use and nothing to remember gives: what anyone can compute beforehand.
pub fn foretell(plan: &SubnetPlan, index: u32, request: &Request<'_>) -> Result<Grant, AllocError> {
    Allocator::new(plan.clone(), index).allocate(request, |_| false)
}
