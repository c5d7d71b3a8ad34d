//! What all nodes write together: records, and what follows from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, Output, Persist, about, millis};
use crate::cluster::facts::{FactKey, Merged, Outcome, Record, Scope};
use crate::cluster::kinds::{self, Agreed, FactKind, Known, LabelKind, ServiceKind, SettingKind};
use crate::cluster::wire::{self, Datagram};
use crate::cluster::{Carried, ClusterError};
use crate::model::{LABELS_MAX, NetworkId, NetworkSpec, NodeId, ServiceName, ServiceSpec, Setting};

impl Core {
    /// Records that say what is to be said or taken back, for [`Core::publish_records`]; those that say something new.
    ///
    /// # Errors
    /// One would not be believed, or there is no room for it.
    pub fn fresh_records<K>(
        &self,
        records: Vec<(K::Key, Option<K::Value>)>,
        now: Duration,
    ) -> Result<Vec<Record>, ClusterError>
    where
        K: FactKind<About = ()>,
    {
        let encoded =
            records.iter().map(|(key, value)| (kinds::key::<K>(key), value.as_ref().map(kinds::value::<K>)));
        let wall_ms = self.wall(now);
        let mut written = Vec::new();
        for (key, value) in encoded.filter(|(key, value)| self.agreed.get(key) != value.as_ref()) {
            let record = self.agreed.write(key, value, wall_ms, self.me);
            written.push(record.map_err(|why| ClusterError::Unsound { what: K::NAME, why })?);
        }
        Ok(written)
    }

    /// Writes a record of any kind.
    ///
    /// # Errors
    /// As of [`Core::fresh_records`].
    pub fn write_raw(
        &mut self,
        key: FactKey,
        value: Option<bytes::Bytes>,
        now: Duration,
    ) -> Result<(), ClusterError> {
        let record = self.agreed.write(key, value, self.wall(now), self.me);
        let record = record.map_err(|why| ClusterError::Unsound { what: "record", why })?;
        self.publish_records(vec![record], now);
        Ok(())
    }

    /// Says records to everybody.
    pub fn publish_records(&mut self, records: Vec<Record>, now: Duration) {
        self.take_records(records.clone(), now);
        for record in records {
            let mut message = Datagram::Records(vec![record]);
            if wire::encode_datagram(&message).is_none() {
                // Too large: they see that they lack something, and come for it.
                message = Datagram::Summary(self.summary_for_datagram());
            }
            for node in self.up() {
                if let Some(address) = self.address(node) {
                    self.send(address, &message, now);
                    self.echo_to(node, now);
                }
            }
        }
    }

    /// Takes the records that are later than what is known.
    pub(super) fn take_records(&mut self, records: Vec<Record>, now: Duration) {
        let wall_ms = self.wall(now);
        let mut settings = false;
        for record in records {
            let kind = record.key.kind;
            match self.agreed.merge(record.clone(), wall_ms) {
                Merged::New(outcome) => {
                    self.out.push_back(Output::Persist(Persist::Record(record)));
                    let believed = matches!(outcome, Outcome::Changed { .. });
                    settings |= believed && kind == SettingKind::KIND;
                    if believed {
                        self.view_changed = true;
                        self.nodes = None;
                    }
                    self.stats.facts_unsound += u64::from(outcome == Outcome::Unsound);
                }
                Merged::Known => {}
                Merged::Refused => self.stats.dropped_excess += 1,
            }
        }
        if settings {
            self.refresh_specs();
        }
    }

    /// Forgets tombstones that have had their time.
    pub(super) fn expire_records(&mut self, now: Duration) {
        if now < self.next_expiry {
            return;
        }
        self.next_expiry = now + EXPIRE;
        for key in self.agreed.expire(self.wall(now)) {
            self.out.push_back(Output::Persist(Persist::Forget(key)));
        }
    }

    /// Works out the networks as they are now. Where the subnets of one changed, what its documents mean did too.
    pub(super) fn refresh_specs(&mut self) {
        let settings = Arc::clone(&self.agreed.known().settings);
        let networks: Vec<Arc<NetworkSpec>> = self.ledger.networks().cloned().collect();
        let mut specs = BTreeMap::new();
        for created in networks {
            let id = created.id;
            let spec = effective(created, &settings);
            let known = self.specs.get(&id);
            let same = known.filter(|known| **known == spec).cloned();
            specs.insert(id, same.unwrap_or(spec));
        }
        let before = std::mem::replace(&mut self.specs, specs);
        let moved: Vec<NetworkId> = self
            .specs
            .values()
            .filter(|spec| before.get(&spec.id).is_some_and(|before| before.subnets != spec.subnets))
            .map(|spec| spec.id)
            .collect();
        for network in moved {
            let scope = Scope::Network(network);
            self.facts.read_anew(scope, |writer| about(&self.specs, scope, writer));
            self.view_changed = true;
        }
    }

    /// The wall clock at `now`, in milliseconds since 1970.
    pub(super) fn wall(&self, now: Duration) -> u64 {
        self.wall_ms.saturating_add(millis(now))
    }

    /// A network as it is now.
    pub fn network(&self, id: NetworkId) -> Option<&Arc<NetworkSpec>> {
        self.specs.get(&id)
    }

    /// The settings of a network that were changed since it was created, by name.
    pub fn network_settings(&self, network: NetworkId) -> BTreeMap<String, Setting> {
        let all = self.agreed.known().settings.range((network, String::new())..);
        let own = all.take_while(|((of, _), _)| *of == network);
        own.map(|((_, name), setting)| (name.clone(), setting.clone())).collect()
    }

    /// The records that set labels of a node.
    ///
    /// # Errors
    /// There is no such node, it would have too many, or one would not be believed.
    pub fn labels(
        &self,
        node: NodeId,
        labels: BTreeMap<String, Option<String>>,
        now: Duration,
    ) -> Result<Vec<Record>, ClusterError> {
        if self.ledger.node(node).is_none() {
            return Err(ClusterError::NoSuchNode(node.to_string()));
        }
        let known = &self.agreed.known().labels;
        let own = known.range((node, String::new())..).take_while(|((of, _), _)| *of == node);
        let (mut has, mut stay) = (0, 0);
        for ((_, name), _) in own {
            has += 1;
            stay += usize::from(!labels.contains_key(name));
        }
        let would = stay + labels.values().filter(|value| value.is_some()).count();
        // Two sides of a cut can have given it more, which are taken back one by one.
        if would > LABELS_MAX && would >= has {
            return Err(ClusterError::TooManyLabels { would, max: LABELS_MAX });
        }
        let records = labels.into_iter().map(|(name, value)| ((node, name), value));
        self.fresh_records::<LabelKind>(records.collect(), now)
    }

    /// Everything that this node carries, by place, kind and writer.
    pub fn carried(&self) -> Vec<Carried> {
        type At = (String, u16, Option<NodeId>);
        let mut sums: BTreeMap<At, (Option<&'static str>, usize, usize)> = BTreeMap::new();
        let mut count = |at: At, name, bytes| {
            let sum = sums.entry(at).or_insert((name, 0, 0));
            (sum.1, sum.2) = (sum.1 + 1, sum.2 + bytes);
        };
        for (scope, writer, key, value) in self.facts.facts() {
            let place = match scope {
                Scope::Node => "node".to_owned(),
                Scope::Network(network) => network.to_string(),
            };
            count((place, key.kind.0, Some(writer)), Known::name(key.kind), key.key.len() + value.len());
        }
        for Record { key, stamp, value } in self.agreed.all() {
            let Some(value) = value else { continue };
            let at = ("record".to_owned(), key.kind.0, Some(stamp.node));
            count(at, Agreed::name(key.kind), key.key.len() + value.len());
        }
        for claim in self.ledger.to_wire() {
            count(("ledger".to_owned(), claim.kind, None), claim.name(), claim.value.len());
        }
        let carried = |((place, kind, writer), (name, entries, bytes)): (At, (Option<&str>, _, _))| Carried {
            place,
            kind,
            name: name.map(str::to_owned),
            writer,
            entries,
            bytes,
        };
        sums.into_iter().map(carried).collect()
    }

    /// The records that change settings of a network.
    ///
    /// # Errors
    /// There is no such network, or one of them would not be believed.
    pub fn settings(
        &self,
        network: NetworkId,
        settings: BTreeMap<String, Setting>,
        now: Duration,
    ) -> Result<Vec<Record>, ClusterError> {
        if self.ledger.network(network).is_none() {
            return Err(ClusterError::NoSuchNetwork(network));
        }
        let records = settings.into_iter().map(|(name, setting)| ((network, name), Some(setting)));
        self.fresh_records::<SettingKind>(records.collect(), now)
    }

    /// The record that gives a service an address, or takes it back.
    ///
    /// # Errors
    /// There is no such network, or the record would not be believed.
    pub fn service(
        &self,
        network: NetworkId,
        name: ServiceName,
        spec: Option<ServiceSpec>,
        now: Duration,
    ) -> Result<Vec<Record>, ClusterError> {
        if self.ledger.network(network).is_none() {
            return Err(ClusterError::NoSuchNetwork(network));
        }
        self.fresh_records::<ServiceKind>(vec![((network, name), spec)], now)
    }
}

/// How often tombstones are looked through.
const EXPIRE: Duration = Duration::from_secs(600);

/// A network with the settings that were changed since it was created.
fn effective(
    created: Arc<NetworkSpec>,
    settings: &BTreeMap<<SettingKind as FactKind>::Key, Setting>,
) -> Arc<NetworkSpec> {
    let first = (created.id, String::new());
    let mut changed = settings.range(first..).take_while(|((id, _), _)| *id == created.id).peekable();
    if changed.peek().is_none() {
        return created;
    }
    let mut spec = (*created).clone();
    for ((_, name), setting) in changed {
        // All that is kept was checked.
        let _ = setting.apply(name, &mut spec);
    }
    Arc::new(spec)
}
