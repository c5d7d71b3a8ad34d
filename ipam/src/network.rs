//! All subnets of a network together: an endpoint gets an address of each of them, or of none.
//!
//! Owns what goes beyond one subnet: which subnet an asked address belongs to, that two subnets do not overlap,
//! and that nothing is handed out half-way.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::{
    AllocError, Allocator, Freed, Grant, Memory, NetworkRequest, Owner, PlanError, SubnetConfig, SubnetPlan,
};

/// The plans of all subnets of a network, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    subnets: Vec<SubnetPlan>,
}

impl NetworkPlan {
    /// Checks the configs, each by itself and against the others, and computes their plans.
    pub fn new(configs: impl IntoIterator<Item = SubnetConfig>) -> Result<Self, PlanError> {
        let _ = configs;
        todo!()
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
    pub fn foretell(&self, index: u32, request: &NetworkRequest<'_>) -> Result<Vec<Grant>, AllocError> {
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
        let _ = (plan, index);
        todo!()
    }

    /// The same with what was freed before the restart, in any of the subnets.
    pub fn with_memory(plan: NetworkPlan, index: u32, memory: Memory) -> Self {
        let _ = memory;
        Self::new(plan, index)
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
        request: &NetworkRequest<'_>,
        taken_elsewhere: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<Grant>, AllocError> {
        let _ = (request, taken_elsewhere);
        todo!()
    }

    /// Takes note that `address` is in use on this node by `key`; see [`Allocator::hold`].
    pub fn hold(&mut self, address: IpAddr, key: &str) -> Result<(), AllocError> {
        let _ = (address, key);
        todo!()
    }

    /// Takes note that `address` is no longer in use on this node; see [`Allocator::release`].
    pub fn release(&mut self, address: IpAddr) -> Option<Freed> {
        let _ = address;
        todo!()
    }

    /// What must survive a restart, of all subnets; see [`Allocator::memory`].
    pub fn memory(&self) -> Memory {
        todo!()
    }
}

/// Subnets as errors name them.
pub(crate) fn names(subnets: &[IpNetwork]) -> String {
    subnets.iter().map(IpNetwork::to_string).collect::<Vec<_>>().join(" and ")
}
