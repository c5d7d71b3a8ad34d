//! The endpoints of this node: what was attached here, where its interface went, and how it was asked for.
//!
//! Owns the records and their durability. Does not own which addresses are free (`leases`), the kernel's objects,
//! or what the other nodes are told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::model::{
    Also, Endpoint, EndpointKey, MeshPorts, NetworkId, Placement, Publication, PublishMode, PublishSource,
    is_usual,
};
use crate::namespace::NamespaceId;
use crate::state::{Batch, State, StateError};

const PREFIX: &str = "endpoint/";

/// One endpoint of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalEndpoint {
    /// The network it is in.
    pub network: NetworkId,
    /// What the other nodes are told.
    pub endpoint: Endpoint,
    /// Where its interface is.
    pub placement: Placement,
    /// Which namespace the placement meant; `None` for the node's own.
    pub namespace: Option<NamespaceId>,
    /// What its interface is called there.
    pub ifname: String,
    /// The addresses that were asked for; the others were chosen.
    pub asked: Vec<IpAddr>,
    /// It takes no new connections of its service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Ports that lead to it,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publication>,
    /// of this node or of every one,
    #[serde(default, skip_serializing_if = "is_usual")]
    pub publish_mode: PublishMode,
    /// and whom it sees that is asked there.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub publish_source: PublishSource,
    /// What it may have beside its own address and MAC.
    #[serde(default, skip_serializing_if = "Also::is_empty")]
    pub also: Also,
    /// Which share of the node's ports for that its network has, where it reaches what is outside by way of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outward: Option<u8>,
    /// Who attached it, in words of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl LocalEndpoint {
    /// Whether the namespace its interface went to can still be entered by the same path.
    pub fn has_its_namespace(&self) -> bool {
        match &self.placement {
            // One that was offered went with its interface, wherever that was taken.
            Placement::Host | Placement::Offered(_) | Placement::Held => true,
            Placement::Netns(path) => {
                let there = NamespaceId::of(path).ok();
                self.namespace.zip(there).is_some_and(|(meant, there)| meant.is(&there))
            }
        }
    }

    /// Whether its interface can be made once more where it is lost. One that was offered was taken: nobody is there to
    /// take another.
    pub fn can_have_another(&self) -> bool {
        !matches!(self.placement, Placement::Offered(_)) && self.has_its_namespace()
    }

    /// The ports of every node that lead to it.
    pub fn mesh_ports(&self) -> Option<MeshPorts> {
        let everywhere = self.publish_mode == PublishMode::Mesh && !self.publish.is_empty();
        everywhere.then(|| MeshPorts { ports: self.publish.clone(), source: self.publish_source })
    }

    /// What names it.
    pub fn key(&self) -> EndpointKey {
        EndpointKey { network: self.network, name: self.endpoint.name.clone() }
    }
}

/// The endpoints of this node, by network and name; every change is durable before it is seen.
pub struct LocalEndpoints {
    state: State,
    records: BTreeMap<EndpointKey, LocalEndpoint>,
}

impl LocalEndpoints {
    /// Reads what was kept.
    pub fn load(state: State) -> Result<Self, StateError> {
        let records = state
            .list::<LocalEndpoint>(PREFIX)?
            .into_iter()
            .map(|(_, record)| (record.key(), record))
            .collect();
        Ok(Self { state, records })
    }

    /// The record of one endpoint.
    pub fn get(&self, key: &EndpointKey) -> Option<&LocalEndpoint> {
        self.records.get(key)
    }

    /// All of them, by network, then name.
    pub fn iter(&self) -> impl Iterator<Item = &LocalEndpoint> {
        self.records.values()
    }

    /// Those in one network, by name.
    pub fn of_network(&self, network: NetworkId) -> impl Iterator<Item = &LocalEndpoint> {
        self.iter().filter(move |record| record.network == network)
    }

    /// Keeps a record, and with it whatever else `batch` holds. On an error nothing has changed.
    pub fn insert(&mut self, record: LocalEndpoint, mut batch: Batch) -> Result<(), StateError> {
        batch.put(storage_key(&record.key()), &record);
        self.state.write(batch)?;
        self.records.insert(record.key(), record);
        Ok(())
    }

    /// Begins to keep a record on the disk, and nowhere else.
    pub fn insert_ahead(&self, record: &LocalEndpoint) -> JoinHandle<()> {
        let mut batch = Batch::default();
        batch.put(storage_key(&record.key()), record);
        let state = self.state.clone();
        spawn_blocking(move || {
            if let Err(error) = state.write(batch) {
                tracing::debug!(%error, "an endpoint is not kept ahead");
            }
        })
    }

    /// Drops a record, and with it makes the other changes of `batch`. On an error nothing has changed.
    pub fn remove(
        &mut self,
        key: &EndpointKey,
        mut batch: Batch,
    ) -> Result<Option<LocalEndpoint>, StateError> {
        batch.delete(storage_key(key));
        self.state.write(batch)?;
        Ok(self.records.remove(key))
    }
}

fn storage_key(key: &EndpointKey) -> String {
    format!("{PREFIX}{}/{}", key.network, key.name)
}
