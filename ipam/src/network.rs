//! All subnets of a network together: an endpoint gets an address of each of them, or of none.
//!
//! Owns what goes beyond one subnet: which subnet an asked address belongs to, that two subnets do not overlap,
//! and that nothing is handed out half-way.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::allocator::free_slot;
use crate::config::names;
use crate::{
    AddressRequest, AllocError, Allocator, Freed, Grant, Memory, Owner, PlanError, Request, Share,
    SubnetConfig, SubnetPlan,
};

/// The plans of all subnets of a network, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    subnets: Vec<SubnetPlan>,
}

impl NetworkPlan {
    /// Checks the configs, each by itself and against the others, and computes their plans.
    pub fn new(configs: impl IntoIterator<Item = SubnetConfig>) -> Result<Self, PlanError> {
        let mut subnets: Vec<SubnetPlan> = Vec::new();
        for config in configs {
            let plan = SubnetPlan::new(&config)?;
            let second = plan.subnet();
            let overlaps =
                |first: &IpNetwork| first.contains(second.network()) || second.contains(first.network());
            if let Some(first) = subnets.iter().map(SubnetPlan::subnet).find(overlaps) {
                return Err(PlanError::SubnetsOverlap { first, second });
            }
            subnets.push(plan);
        }
        if subnets.is_empty() { Err(PlanError::NoSubnet) } else { Ok(Self { subnets }) }
    }

    /// The plan of each subnet.
    pub fn subnets(&self) -> &[SubnetPlan] {
        &self.subnets
    }

    /// The gateway of each subnet.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.subnets.iter().map(SubnetPlan::gateway)
    }

    /// The plan of the subnet that holds `address`.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&SubnetPlan> {
        self.subnets.iter().find(|plan| plan.subnet().contains(address))
    }

    /// How many nodes get a block in every subnet.
    pub fn blocks(&self) -> u64 {
        self.subnets.iter().map(SubnetPlan::blocks).min().unwrap_or(0)
    }

    /// Who `address` belongs to.
    pub fn owner(&self, address: IpAddr) -> Owner<'_> {
        self.subnet_of(address).map_or(Owner::Outside, |plan| plan.owner(address))
    }

    /// What a [`NetworkAllocator`] with nothing in use and nothing to remember gives.
    pub fn foretell(&self, index: u32, request: &AddressRequest<'_>) -> Result<Vec<Grant>, AllocError> {
        NetworkAllocator::new(self.clone(), index).allocate(request, |_| false)
    }
}

/// Hands out the addresses of a network on the node with one index: an [`Allocator`] for each subnet.
#[derive(Debug, Clone)]
pub struct NetworkAllocator {
    subnets: Vec<Allocator>,
    index: u32,
}

impl NetworkAllocator {
    /// An allocator with nothing in use and nothing to remember.
    pub fn new(plan: NetworkPlan, index: u32) -> Self {
        Self::with_memory(plan, index, &Share::default(), &Memory::default())
    }

    /// The same of a node that lent of its blocks or borrowed of others', with what was freed before the restart, in any
    /// of the subnets.
    pub fn with_memory(plan: NetworkPlan, index: u32, share: &Share, memory: &Memory) -> Self {
        // Each allocator takes what is of its own subnet.
        let subnet = |plan| Allocator::with_memory(plan, index, share, memory);
        Self { subnets: plan.subnets.into_iter().map(subnet).collect(), index }
    }

    /// The allocator of each subnet, in their order.
    pub fn subnets(&self) -> &[Allocator] {
        &self.subnets
    }

    /// The node's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Hands out one address of each subnet, in their order, or of none: an error changes nothing.
    ///
    /// Each asked address counts in the subnet that holds it; the other subnets go by the other rules of
    /// [`Allocator::allocate`]. A service without a slot gets one slot for all its pools: the first that is free
    /// in each of them.
    pub fn allocate(
        &mut self,
        request: &AddressRequest<'_>,
        taken_elsewhere: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<Grant>, AllocError> {
        let asked = self.asked(request.addresses)?;
        let slot = match request.slot {
            Some(slot) => Some(slot),
            None => self.common_slot(request, &asked, &taken_elsewhere)?,
        };
        let AddressRequest { key, service, .. } = *request;
        let mut grants = Vec::new();
        for (subnet, address) in self.subnets.iter().zip(asked) {
            grants.push(subnet.choose(&Request { key, service, slot, address }, &taken_elsewhere)?);
        }
        // Every choice stands, so from here on nothing can fail.
        for (subnet, grant) in self.subnets.iter_mut().zip(&grants) {
            subnet.take(grant, key);
        }
        Ok(grants)
    }

    /// Takes note that `address` is in use on this node by `key`; see [`Allocator::hold`].
    pub fn hold(&mut self, address: IpAddr, key: &str) -> Result<(), AllocError> {
        if let Some(subnet) = self.subnet_of(address) {
            return subnet.hold(address, key);
        }
        Err(AllocError::Outside { address, subnet: self.names() })
    }

    /// Takes note that `address` is no longer in use on this node; see [`Allocator::release`].
    pub fn release(&mut self, address: IpAddr) -> Option<Freed> {
        self.subnet_of(address)?.release(address)
    }

    /// What must survive a restart, of all subnets; see [`Allocator::memory`].
    pub fn memory(&self) -> Memory {
        Memory { freed: self.subnets.iter().flat_map(|subnet| subnet.memory().freed).collect() }
    }

    /// The asked address of each subnet.
    fn asked(&self, addresses: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, AllocError> {
        let mut asked = vec![None; self.subnets.len()];
        for address in addresses.iter().copied() {
            let home = self.subnets.iter().zip(&mut asked).find(|(subnet, _)| subnet.contains(address));
            let Some((subnet, place)) = home else {
                return Err(AllocError::Outside { address, subnet: self.names() });
            };
            if let Some(first) = place.replace(address) {
                let subnet = subnet.plan().subnet();
                return Err(AllocError::AskedTwice { first, second: address, subnet });
            }
        }
        Ok(asked)
    }

    /// The slot of a request that does not say which, if any subnet would give it an address of a pool.
    fn common_slot(
        &self,
        request: &AddressRequest<'_>,
        asked: &[Option<IpAddr>],
        taken: &impl Fn(IpAddr) -> bool,
    ) -> Result<Option<u32>, AllocError> {
        let Some(service) = request.service else { return Ok(None) };
        let by_rule = self.subnets.iter().zip(asked).filter(|(_, asked)| asked.is_none());
        let pools: Vec<_> =
            by_rule.filter_map(|(subnet, _)| Some((subnet, subnet.plan().pool(service)?))).collect();
        if pools.is_empty() { Ok(None) } else { free_slot(&pools, request.key, taken).map(Some) }
    }

    fn subnet_of(&mut self, address: IpAddr) -> Option<&mut Allocator> {
        self.subnets.iter_mut().find(|subnet| subnet.contains(address))
    }

    fn names(&self) -> String {
        names(&self.subnets.iter().map(|subnet| subnet.plan().subnet()).collect::<Vec<_>>())
    }
}
