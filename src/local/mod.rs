//! What this node itself has: its endpoints and the addresses they hold.
//!
//! Owns the records, in memory and on disk, which always say the same. Does not own the kernel's objects that
//! belong to them (`kernel`), nor what the other nodes know of them (`cluster`).

mod borrowed;
mod endpoints;
mod leases;

use lanmesh_ipam::{AddrRange, Share};
use tokio::task::JoinHandle;

use crate::model::{ClusterView, EndpointKey, LoanNumber, NetworkId, NetworkSpec, NodeIndex};
use crate::state::{Batch, State, StateError};

pub use borrowed::{Borrowed, BorrowedRange};
pub use endpoints::{LocalEndpoint, LocalEndpoints};
pub use leases::{LeaseError, Leases};

/// What this node itself has.
pub struct Local {
    /// Its endpoints.
    pub endpoints: LocalEndpoints,
    /// Who holds which address, and who held it last.
    pub leases: Leases,
    /// What it has of other nodes' addresses.
    pub borrowed: Borrowed,
}

impl Local {
    /// Reads what was kept.
    pub fn load(state: State) -> Result<Self, StateError> {
        Ok(Self {
            endpoints: LocalEndpoints::load(state.clone())?,
            leases: Leases::load(state.clone())?,
            borrowed: Borrowed::load(state)?,
        })
    }

    /// Makes sure that addresses of a network can be given and taken back: those of this node's block less what is lent by
    /// what is known now, and those that it borrowed.
    pub fn open_leases(
        &mut self,
        spec: &NetworkSpec,
        index: NodeIndex,
        view: &ClusterView,
    ) -> Result<(), LeaseError> {
        // Whoever lent it: in a plan that was changed, what was one node's block is another's.
        let lent = view.loans_of(spec.id).filter(|(_, _, loan)| loan.to != view.me);
        let share = Share {
            lent: lent.map(|(_, _, loan)| loan.range).collect(),
            borrowed: self.borrowed.of_network(spec.id).collect(),
        };
        self.leases.open(spec, index, share, self.endpoints.of_network(spec.id))
    }

    /// Drops what was borrowed under a number, durably, with what is remembered of its addresses.
    ///
    /// # Errors
    /// That cannot be kept: it still has it.
    pub fn drop_borrowed(&mut self, number: LoanNumber) -> Result<(), StateError> {
        let Some(borrowed) = self.borrowed.all().get(&number) else { return Ok(()) };
        let mut batch = Batch::default();
        self.leases.forget(borrowed.network, |ip| borrowed.range.contains(ip), &mut batch)?;
        self.borrowed.drops(number, batch)
    }

    /// Has no more than `keep` of what was borrowed under a number, durably; of the rest nothing is remembered.
    ///
    /// # Errors
    /// That cannot be kept: it still has all of it.
    pub fn narrow_borrowed(&mut self, number: LoanNumber, keep: AddrRange) -> Result<(), StateError> {
        let Some(borrowed) = self.borrowed.all().get(&number).copied() else { return Ok(()) };
        let mut batch = Batch::default();
        let goes = |ip| borrowed.range.contains(ip) && !keep.contains(ip);
        self.leases.forget(borrowed.network, goes, &mut batch)?;
        self.borrowed.narrows(number, keep, batch)
    }

    /// Keeps a new endpoint, whose addresses `leases` has just given.
    pub fn insert(&mut self, record: LocalEndpoint) -> Result<(), StateError> {
        let mut batch = Batch::default();
        self.leases.note_held(record.network, &record.endpoint.addresses, &mut batch);
        self.endpoints.insert(record, batch)
    }

    /// Begins to keep a new endpoint while something else is done for it: [`insert`](Self::insert) then finds it on the disk, if that
    /// went well, and else tries it.
    pub fn insert_ahead(&self, record: &LocalEndpoint) -> JoinHandle<()> {
        self.endpoints.insert_ahead(record)
    }

    /// Takes back what [`insert_ahead`](Self::insert_ahead) may have kept, when it has ended, and gives the addresses back as if they
    /// had never been given.
    ///
    /// # Errors
    /// The disk failed. It may be there after a restart.
    pub fn take_back(&mut self, record: &LocalEndpoint) -> Result<(), StateError> {
        self.leases.give_back(record.network, &record.endpoint.addresses);
        self.endpoints.remove(&record.key(), Batch::default()).map(drop)
    }

    /// Drops an endpoint and frees its addresses, which stay with its key until nobody else's are left.
    pub fn remove(&mut self, key: &EndpointKey) -> Result<Option<LocalEndpoint>, StateError> {
        let Some(record) = self.endpoints.get(key) else { return Ok(None) };
        let mut batch = Batch::default();
        self.leases.release(key.network, &record.endpoint.addresses, &mut batch);
        self.endpoints.remove(key, batch)
    }

    /// Forgets what was borrowed, and which addresses were whose, in networks that are gone for good.
    pub fn retain_networks(&mut self, is_there: impl Fn(NetworkId) -> bool) -> Result<(), StateError> {
        let borrowed = self.borrowed.all().iter();
        let gone = borrowed.filter(|(_, borrowed)| !is_there(borrowed.network)).map(|(number, _)| *number);
        for number in gone.collect::<Vec<_>>() {
            self.borrowed.drops(number, Batch::default())?;
        }
        self.leases.retain(is_there)
    }
}

#[cfg(test)]
mod tests;
