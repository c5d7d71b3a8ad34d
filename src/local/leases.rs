//! Which addresses this node's endpoints hold, and which were freed: an allocator for each network.
//!
//! Owns how the allocators are made from what is kept on disk. Does not own the rules (`lanmesh_ipam`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{
    AddrRange, AddressRequest, AllocError, Freed, Grant, Memory, NetworkAllocator, NetworkPlan, PlanError,
    Share, SubnetConfig, endpoint_key,
};

use super::LocalEndpoint;
use crate::model::{Endpoint, NetworkId, NetworkSpec, NodeIndex};
use crate::state::{Batch, State, StateError};

const PREFIX: &str = "freed/";

/// Why an endpoint got no addresses. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The network's spec allows no address plan: it was made by a node of another release.
    #[error("the network's address plan cannot be computed: {0}")]
    Plan(#[from] PlanError),
    /// The plan has no address for it.
    #[error(transparent)]
    Full(#[from] AllocError),
    /// What was freed earlier cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Which addresses this node's endpoints hold, and which were freed.
pub struct Leases {
    state: State,
    networks: BTreeMap<NetworkId, NetworkAllocator>,
    /// What each allocator was made of.
    plans: BTreeMap<NetworkId, (Vec<SubnetConfig>, Share)>,
    /// Every network of which something may be on disk.
    known: BTreeSet<NetworkId>,
}

impl Leases {
    pub(super) fn load(state: State) -> Result<Self, StateError> {
        let kept = state.list::<serde_json::Value>(PREFIX)?;
        let network = |key: &str| key.strip_prefix(PREFIX)?.split('/').next()?.parse().ok();
        let known = kept.iter().filter_map(|(key, _)| network(key)).collect();
        Ok(Self { state, networks: BTreeMap::new(), plans: BTreeMap::new(), known })
    }

    /// Makes sure that there is an allocator for a network as it is now, and for what this node has in it, in which `held`
    /// hold their addresses.
    pub fn open<'a>(
        &mut self,
        spec: &NetworkSpec,
        index: NodeIndex,
        share: Share,
        held: impl Iterator<Item = &'a LocalEndpoint>,
    ) -> Result<(), LeaseError> {
        let made_of = (spec.subnet_configs().collect::<Vec<SubnetConfig>>(), share);
        if self.plans.get(&spec.id) == Some(&made_of) {
            return Ok(());
        }
        let plan = NetworkPlan::new(made_of.0.iter().cloned())?;
        let freed = self.state.list::<Freed>(&prefix(spec.id))?.into_iter().map(|(_, freed)| freed).collect();
        let mut allocator = NetworkAllocator::with_memory(plan, index.0, &made_of.1, &Memory { freed });
        for record in held {
            take(&mut allocator, &record.endpoint)?;
        }
        self.networks.insert(spec.id, allocator);
        self.plans.insert(spec.id, made_of);
        self.known.insert(spec.id);
        Ok(())
    }

    /// Gives an endpoint one address of each subnet; `open` comes first. Only in memory, until the endpoint is
    /// kept ([`super::Local::insert`]) or the addresses are given back ([`Leases::give_back`]).
    pub fn allocate(
        &mut self,
        spec: &NetworkSpec,
        request: &AddressRequest<'_>,
        taken_elsewhere: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<Grant>, LeaseError> {
        let Some(allocator) = self.networks.get_mut(&spec.id) else { return Ok(Vec::new()) };
        Ok(allocator.allocate(request, taken_elsewhere)?)
    }

    /// Gives an endpoint that holds addresses one of each subnet that it has none in: all its addresses then, in the order of
    /// the subnets, without those that are in none. Only in memory, as of [`Leases::allocate`]; after an error it holds what it held.
    pub fn complete(
        &mut self,
        spec: &NetworkSpec,
        endpoint: &Endpoint,
        taken_elsewhere: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<IpNetwork>, LeaseError> {
        let key = key_of(endpoint);
        let within = |ip: &IpAddr| spec.subnets.iter().any(|subnet| subnet.contains(*ip));
        let held: Vec<IpAddr> = endpoint.addresses.iter().map(IpNetwork::ip).filter(within).collect();
        let service = endpoint.service.as_ref().map(crate::model::ServiceName::as_str);
        let request = AddressRequest { key: &key, service, slot: endpoint.slot, addresses: &held };
        self.give_back(spec.id, &endpoint.addresses);
        let given = self.allocate(spec, &request, taken_elsewhere);
        if given.is_err() {
            self.hold(spec.id, endpoint)?;
        }
        Ok(given?.into_iter().map(|grant| grant.address).collect())
    }

    /// An endpoint holds its addresses again, which were given back for a moment.
    pub fn hold(&mut self, network: NetworkId, endpoint: &Endpoint) -> Result<(), LeaseError> {
        match self.networks.get_mut(&network) {
            Some(allocator) => take(allocator, endpoint),
            None => Ok(()),
        }
    }

    /// What of this node's block in a subnet may be lent, `wanted` addresses at most; `taken` is what others have there.
    pub fn spare(
        &self,
        network: NetworkId,
        subnet: IpNetwork,
        wanted: u64,
        taken: impl IntoIterator<Item = IpAddr>,
    ) -> Option<AddrRange> {
        let subnets = self.networks.get(&network)?.subnets();
        subnets.iter().find(|allocator| allocator.plan().subnet() == subnet)?.spare(wanted, taken)
    }

    /// Forgets who had addresses that this node does not have any more.
    pub(super) fn forget(
        &self,
        network: NetworkId,
        is_gone: impl Fn(IpAddr) -> bool,
        batch: &mut Batch,
    ) -> Result<(), StateError> {
        for (key, freed) in self.state.list::<Freed>(&prefix(network))? {
            if is_gone(freed.address) {
                batch.delete(key);
            }
        }
        Ok(())
    }

    /// Takes back addresses whose endpoint did not come to be.
    pub fn give_back(&mut self, network: NetworkId, addresses: &[IpNetwork]) {
        self.release(network, addresses, &mut Batch::default());
    }

    pub(super) fn note_held(&self, network: NetworkId, addresses: &[IpNetwork], batch: &mut Batch) {
        for address in addresses {
            batch.delete(storage_key(network, address.ip()));
        }
    }

    pub(super) fn release(&mut self, network: NetworkId, addresses: &[IpNetwork], batch: &mut Batch) {
        let Some(allocator) = self.networks.get_mut(&network) else { return };
        for address in addresses {
            if let Some(freed) = allocator.release(address.ip()) {
                batch.put(storage_key(network, freed.address), &freed);
            }
        }
    }

    pub(super) fn retain(&mut self, is_there: impl Fn(NetworkId) -> bool) -> Result<(), StateError> {
        let gone: BTreeSet<NetworkId> = self.known.iter().copied().filter(|id| !is_there(*id)).collect();
        for network in gone {
            let mut batch = Batch::default();
            for (key, _) in self.state.list::<serde_json::Value>(&prefix(network))? {
                batch.delete(key);
            }
            self.state.write(batch)?;
            self.networks.remove(&network);
            self.plans.remove(&network);
            self.known.remove(&network);
        }
        Ok(())
    }
}

/// An endpoint holds its addresses. One may be in no subnet: of two changes that added some at once one was lost, after the endpoint
/// had its address there. That is mended while the agent runs, and must not keep it from starting.
fn take(allocator: &mut NetworkAllocator, endpoint: &Endpoint) -> Result<(), LeaseError> {
    let key = key_of(endpoint);
    for address in &endpoint.addresses {
        match allocator.hold(address.ip(), &key) {
            Err(AllocError::Outside { .. }) => {}
            held => held?,
        }
    }
    Ok(())
}

/// The key from which an endpoint's address is computed.
pub(super) fn key_of(endpoint: &Endpoint) -> String {
    endpoint_key(
        endpoint.name.as_str(),
        endpoint.service.as_ref().map(crate::model::ServiceName::as_str),
        endpoint.slot,
    )
}

fn prefix(network: NetworkId) -> String {
    format!("{PREFIX}{network}/")
}

fn storage_key(network: NetworkId, address: IpAddr) -> String {
    format!("{PREFIX}{network}/{address}")
}
