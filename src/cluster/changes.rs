//! What is changed for the whole cluster: written down on this node before anybody hears of it, or not done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ClusterError;
use super::core::{Core, Persist};
use super::facts::Record;
use super::handle::Cluster;
use super::ledger::Claim;
use super::streams::Streams;
use crate::model::{NetworkId, NetworkSpec, NodeId, NodeIndex, ServiceName, ServiceSpec, Setting};

impl Streams {
    /// Changes something for the whole cluster: `prepare` says what is to be written down first, and what `commit` is given,
    /// which then makes it known. One after another, so that only what others say comes between the two; to the end, whoever
    /// asked for it.
    ///
    /// # Errors
    /// What `prepare` refuses, or it cannot be written down: then nothing was done, and nobody was told.
    pub async fn durably<T, R, E>(
        self: &Arc<Self>,
        prepare: impl FnOnce(&Core, Duration) -> Result<(Vec<Persist>, T), E> + Send + 'static,
        commit: impl FnOnce(&mut Core, T, Duration) -> R + Send + 'static,
    ) -> Result<R, E>
    where
        T: Send + 'static,
        R: Send + 'static,
        E: From<ClusterError> + Send + 'static,
    {
        let this = Arc::clone(self);
        let done = self.tasks.spawn(async move {
            let _one = this.changing.lock().await;
            let prepared = this.link.with(move |core, now| prepare(core, now)).await;
            let (changes, prepared) = prepared.map_err(E::from)??;
            this.persister.first(changes).await.map_err(E::from)?;
            this.link.with(move |core, now| commit(core, prepared, now)).await.map_err(E::from)
        });
        done.await.map_err(|_| E::from(ClusterError::Stopped))?
    }
}

impl Cluster {
    /// Creates a network. Where one of this name exists whose spec is equal but for id, VNI and time, the
    /// existing one is returned and nothing changes; where it differs, that is an error.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Arc<NetworkSpec>, ClusterError> {
        let asked = spec.clone();
        let prepare = move |core: &Core, _| {
            let known = core.may_create(&asked)?;
            let new = known.is_none().then_some(Persist::Claim(Claim::Network(asked)));
            Ok::<_, ClusterError>((Vec::from_iter(new), ()))
        };
        self.0.streams.durably(prepare, move |core, (), now| core.create_network(spec, now)).await?
    }

    /// Deletes a network for everybody. `false` where nobody knows it any more.
    pub async fn delete_network(&self, network: NetworkId) -> Result<bool, ClusterError> {
        let prepare = move |core: &Core, _| {
            let known = core.ledger().network(network);
            let deleted = known.map(|_| Persist::Claim(Claim::NetworkDeleted(network)));
            Ok((Vec::from_iter(deleted), ()))
        };
        self.0.streams.durably(prepare, move |core, (), now| core.delete_network(network, now)).await
    }

    /// Changes settings of a network by name, for every node; all of them or none. `seen` is what they were checked against: where the
    /// network is another one by now nothing is changed, and the answer is `false`.
    ///
    /// # Errors
    /// There is no such network, or a setting makes no sense.
    pub async fn set_network(
        &self,
        seen: Arc<NetworkSpec>,
        settings: BTreeMap<String, Setting>,
    ) -> Result<bool, ClusterError> {
        let records = move |core: &Core, now| match core.network(seen.id) {
            Some(is) if **is != *seen => Ok(None),
            _ => core.settings(seen.id, settings, now).map(Some),
        };
        self.write_records_if(records).await
    }

    /// Says something of a node, or takes it back (`None`), by name; all of it or nothing.
    ///
    /// # Errors
    /// There is no such node, it would have more than 64 labels, or a name or a value makes no sense.
    pub async fn set_labels(
        &self,
        node: NodeId,
        labels: BTreeMap<String, Option<String>>,
    ) -> Result<(), ClusterError> {
        self.write_records(move |core, now| core.labels(node, labels, now)).await
    }

    /// Gives a service an address, or takes it back (`None`), for every node.
    ///
    /// # Errors
    /// There is no such network, or nobody could work with it.
    pub async fn set_service(
        &self,
        network: NetworkId,
        name: ServiceName,
        spec: Option<ServiceSpec>,
    ) -> Result<(), ClusterError> {
        self.write_records(move |core, now| core.service(network, name, spec, now)).await
    }

    /// Says records to everybody, once they are written down.
    async fn write_records(
        &self,
        records: impl FnOnce(&Core, Duration) -> Result<Vec<Record>, ClusterError> + Send + 'static,
    ) -> Result<(), ClusterError> {
        self.write_records_if(move |core, now| records(core, now).map(Some)).await.map(drop)
    }

    /// The same, unless there are none to be written (`None`). Whether there were.
    async fn write_records_if(
        &self,
        records: impl FnOnce(&Core, Duration) -> Result<Option<Vec<Record>>, ClusterError> + Send + 'static,
    ) -> Result<bool, ClusterError> {
        let prepare = move |core: &Core, now| {
            let records = records(core, now)?;
            Ok((records.iter().flatten().cloned().map(Persist::Record).collect(), records))
        };
        let commit = |core: &mut Core, records: Option<Vec<Record>>, now| {
            let some = records.is_some();
            core.publish_records(records.unwrap_or_default(), now);
            some
        };
        self.0.streams.durably(prepare, commit).await
    }

    /// Shuts a node out for good and rotates the gossip key. Manager only. Returns its index, which is
    /// given again only to a node that asks for it.
    pub async fn remove_node(&self, node: NodeId) -> Result<NodeIndex, ClusterError> {
        let key = self.next_key(true).await?;
        let prepare = move |core: &Core, _| {
            core.may_remove(node)?;
            let mut changes = core.with_key(&key);
            changes.push(Persist::Claim(Claim::Removed(node)));
            // Whoever has something of its block has it of the manager from now on.
            let (inherits, loans) = core.may_inherit(node);
            changes.extend(inherits);
            Ok::<_, ClusterError>((changes, (key, loans)))
        };
        let commit = move |core: &mut Core, (key, loans), now| {
            core.inherit(&loans, now);
            core.remove_node(node, key, now)
        };
        self.0.streams.durably(prepare, commit).await?
    }
}
