//! What this node itself has: its endpoints and the addresses they hold.
//!
//! Owns the records, in memory and on disk, which always say the same. Does not own the kernel's objects that
//! belong to them (`kernel`), nor what the other nodes know of them (`cluster`).

mod endpoints;
mod leases;

use crate::model::{EndpointKey, NetworkId, NetworkSpec, NodeIndex};
use crate::state::{Batch, State, StateError};

pub use endpoints::{LocalEndpoint, LocalEndpoints};
pub use leases::{LeaseError, Leases};

/// What this node itself has.
pub struct Local {
    /// Its endpoints.
    pub endpoints: LocalEndpoints,
    /// Who holds which address, and who held it last.
    pub leases: Leases,
}

impl Local {
    /// Reads what was kept.
    pub fn load(state: State) -> Result<Self, StateError> {
        Ok(Self { endpoints: LocalEndpoints::load(state.clone())?, leases: Leases::load(state)? })
    }

    /// Makes sure that addresses of a network can be given and taken back.
    pub fn open_leases(&mut self, spec: &NetworkSpec, index: NodeIndex) -> Result<(), LeaseError> {
        self.leases.open(spec, index, self.endpoints.of_network(spec.id))
    }

    /// Keeps a new endpoint, whose addresses `leases` has just given.
    pub fn insert(&mut self, record: LocalEndpoint) -> Result<(), StateError> {
        let mut batch = Batch::default();
        self.leases.note_held(record.network, &record.endpoint.addresses, &mut batch);
        self.endpoints.insert(record, batch)
    }

    /// Drops an endpoint and frees its addresses, which stay with its key until nobody else's are left.
    pub fn remove(&mut self, key: &EndpointKey) -> Result<Option<LocalEndpoint>, StateError> {
        let Some(record) = self.endpoints.get(key) else { return Ok(None) };
        let mut batch = Batch::default();
        self.leases.release(key.network, &record.endpoint.addresses, &mut batch);
        self.endpoints.remove(key, batch)
    }

    /// Forgets which addresses were whose in networks that are gone for good.
    pub fn retain_networks(&mut self, is_there: impl Fn(NetworkId) -> bool) -> Result<(), StateError> {
        self.leases.retain(is_there)
    }
}

#[cfg(test)]
mod tests;
