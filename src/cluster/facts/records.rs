//! What any node may write for the whole cluster: records, of which the last writer wins.
//!
//! Two copies are compared by the sums of [`BUCKETS`] buckets; of those that differ the records themselves travel. A
//! record that was taken back stays as a tombstone for [`TOMBSTONE_MS`], longer than a node is expected to be away: one
//! that was away for longer may bring back what was taken back meanwhile.

use std::collections::BTreeMap;

use bytes::Bytes;
use lanmesh_ipam::stable_hash;
use serde::{Deserialize, Serialize};

use super::{FactKey, Kind, Limits, MAX_KEY, Outcome, Project, Stamp};
use crate::model::NodeId;

/// How many buckets are compared.
pub(in crate::cluster) const BUCKETS: usize = 256;

/// How long a tombstone stays, in milliseconds: 30 days.
const TOMBSTONE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// The most bytes of all records together.
const MAX_BYTES: usize = 16 << 20;

/// What an entry takes besides key and value, at most.
const HEAD: usize = 3 + 3 + 3 + 1 + 10 + 5 + 16;

/// One record as it travels and as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Record {
    /// What it is about.
    pub key: FactKey,
    /// When it was written, and by whom.
    pub stamp: Stamp,
    /// What was written, in the kind's own encoding; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Merged {
    /// It was taken.
    New(Outcome),
    /// It, or a later one, was known.
    Known,
    /// There is no room for it, or its clock is that of nobody.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    stamp: Stamp,
    value: Option<Bytes>,
}

/// How much there is of one kind, tombstones included.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    entries: usize,
    bytes: usize,
}

/// All records that are known here.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct Records<P: Project> {
    about: P::About,
    held: BTreeMap<FactKey, Held>,
    usage: BTreeMap<Kind, Usage>,
    bytes: usize,
    sums: Vec<u64>,
    known: P,
    /// The greatest wall clock of all that was taken: a node whose own is set back goes by that.
    latest_ms: u64,
}

impl<P: Project> Records<P> {
    /// None.
    pub fn new(about: P::About) -> Self {
        let known = P::begin(&about);
        let (held, usage, sums) = (BTreeMap::new(), BTreeMap::new(), vec![0; BUCKETS]);
        Self { about, held, usage, bytes: 0, sums, known, latest_ms: 0 }
    }

    /// What they mean.
    pub fn known(&self) -> &P {
        &self.known
    }

    /// Every record, those that were taken back too.
    pub fn all(&self) -> impl Iterator<Item = Record> + '_ {
        self.held.iter().map(|(key, held)| record(key, held))
    }

    /// What is said under a key.
    pub fn get(&self, key: &FactKey) -> Option<&Bytes> {
        self.held.get(key)?.value.as_ref()
    }

    /// A record of this node's own, later than all that is known of its key.
    ///
    /// # Errors
    /// It would not be believed, or there is no room: why. Nothing was changed.
    pub fn write(
        &self,
        key: FactKey,
        value: Option<Bytes>,
        wall_ms: u64,
        me: NodeId,
    ) -> Result<Record, &'static str> {
        if let Some(value) = &value {
            P::check(&self.about, &key, value)?;
        }
        if !self.has_room(&key, value.as_ref()) {
            return Err("there are as many of these as a cluster can have");
        }
        let seen = self.held.get(&key).map(|held| held.stamp);
        // What this node wrote while its own clock was wrong is believed by nobody, and nor is what comes after it.
        let seen = seen.filter(|seen| !(seen.is_ahead(wall_ms) && self.is_alone_ahead(me, wall_ms)));
        Ok(Record { stamp: Stamp::after(seen, wall_ms, me), key, value })
    }

    /// Whether others have written, and only this node from so far ahead: then it is not the clock that it has now that is wrong.
    fn is_alone_ahead(&self, me: NodeId, wall_ms: u64) -> bool {
        let mut others =
            self.held.values().map(|held| held.stamp).filter(|stamp| stamp.node != me).peekable();
        others.peek().is_some() && others.all(|stamp| !stamp.is_ahead(wall_ms))
    }

    /// Takes a record that was taken before, and kept: whatever the clock says now.
    pub fn restore(&mut self, record: Record) -> Merged {
        self.latest_ms = self.latest_ms.max(record.stamp.wall_ms);
        let at = record.stamp.wall_ms;
        self.merge(record, at)
    }

    /// Takes a record, of this node or of another.
    pub fn merge(&mut self, record: Record, wall_ms: u64) -> Merged {
        let Record { key, stamp, value } = record;
        // One that was written while a clock was wrong does not keep out what comes when it is right again.
        let stays = |held: &Stamp| !held.is_ahead(wall_ms) || stamp.is_ahead(wall_ms);
        if self.held.get(&key).is_some_and(|held| held.stamp >= stamp && stays(&held.stamp)) {
            return Merged::Known;
        }
        let ended = value.is_none() && has_ended(&stamp, wall_ms) && !self.held.contains_key(&key);
        if ended {
            return Merged::Known;
        }
        if stamp.is_ahead(wall_ms.max(self.latest_ms)) || !self.has_room(&key, value.as_ref()) {
            return Merged::Refused;
        }
        self.latest_ms = self.latest_ms.max(stamp.wall_ms);
        let outcome = self.known.set(&key, value.as_deref());
        self.forget(&key);
        let held = Held { stamp, value };
        let bytes = size(&key, held.value.as_ref());
        let usage = self.usage.entry(key.kind).or_default();
        usage.entries += 1;
        usage.bytes += bytes;
        self.bytes += bytes;
        self.sums[bucket(&key)] ^= sum(&key, &held.stamp);
        self.held.insert(key, held);
        Merged::New(outcome)
    }

    /// Forgets the tombstones whose time is over, and gives their keys.
    pub fn expire(&mut self, wall_ms: u64) -> Vec<FactKey> {
        let over = |held: &Held| held.value.is_none() && has_ended(&held.stamp, wall_ms);
        let keys: Vec<FactKey> =
            self.held.iter().filter(|(_, held)| over(held)).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.forget(key));
        keys
    }

    /// A number that is equal, but for accident, where the records are.
    pub fn hash(&self) -> u64 {
        self.sums.iter().fold(0, |all, sum| all.rotate_left(1) ^ sum)
    }

    /// The sums of the buckets, to be compared.
    pub fn sums(&self) -> Vec<u64> {
        self.sums.clone()
    }

    /// The buckets in which somebody with these sums has something else.
    pub fn differing(&self, sums: &[u64]) -> Vec<u8> {
        let pairs = self.sums.iter().zip(sums).enumerate();
        pairs.filter(|(_, (mine, theirs))| mine != theirs).map(|(at, _)| at as u8).collect()
    }

    /// The records in these buckets, but for those that are as in `known`.
    pub fn in_buckets(&self, buckets: &[u8], known: &[Record]) -> Vec<Record> {
        let known: BTreeMap<&FactKey, &Stamp> = known.iter().map(|r| (&r.key, &r.stamp)).collect();
        let wanted = |key: &FactKey| buckets.contains(&(bucket(key) as u8));
        let new = |key: &FactKey, held: &Held| known.get(key) != Some(&&held.stamp);
        self.held
            .iter()
            .filter(|(key, held)| wanted(key) && new(key, held))
            .map(|(key, held)| record(key, held))
            .collect()
    }

    fn has_room(&self, key: &FactKey, value: Option<&Bytes>) -> bool {
        let Limits { value: longest, entries, bytes } = P::limits(key.kind);
        let usage = self.usage.get(&key.kind).copied().unwrap_or_default();
        let old = self.held.get(key);
        let more = size(key, value);
        let less = old.map_or(0, |held| size(key, held.value.as_ref()));
        // What is taken back makes room, whatever there is.
        let smaller = old.is_some() && more <= less;
        key.key.len() <= MAX_KEY
            && value.is_none_or(|value| value.len() <= longest)
            && (smaller
                || (usage.entries + usize::from(old.is_none()) <= entries
                    && usage.bytes + more - less.min(more) <= bytes
                    && self.bytes + more - less.min(more) <= MAX_BYTES))
    }

    fn forget(&mut self, key: &FactKey) {
        let Some(old) = self.held.remove(key) else { return };
        let bytes = size(key, old.value.as_ref());
        self.bytes -= bytes;
        if let Some(usage) = self.usage.get_mut(&key.kind) {
            usage.entries -= 1;
            usage.bytes -= bytes;
        }
        self.sums[bucket(key)] ^= sum(key, &old.stamp);
    }
}

fn has_ended(stamp: &Stamp, wall_ms: u64) -> bool {
    stamp.wall_ms.saturating_add(TOMBSTONE_MS) < wall_ms
}

fn record(key: &FactKey, held: &Held) -> Record {
    Record { key: key.clone(), stamp: held.stamp, value: held.value.clone() }
}

fn size(key: &FactKey, value: Option<&Bytes>) -> usize {
    HEAD + key.key.len() + value.map_or(0, Bytes::len)
}

fn bucket(key: &FactKey) -> usize {
    let bytes = [&key.kind.0.to_be_bytes()[..], &key.key].concat();
    (stable_hash(&bytes) % BUCKETS as u64) as usize
}

fn sum(key: &FactKey, stamp: &Stamp) -> u64 {
    let numbers =
        [&stamp.wall_ms.to_be_bytes()[..], &stamp.count.to_be_bytes(), stamp.node.as_bytes()].concat();
    stable_hash(&[&key.kind.0.to_be_bytes()[..], &key.key, &numbers].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::kinds::{self, Agreements, LabelKind};
    use crate::cluster::testing::label_record;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    const NOW_MS: u64 = 100 * DAY_MS;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    fn record(n: u8, wall_ms: u64, by: u8, value: Option<u8>) -> Record {
        let mut record = label_record(n, &value.map(|v| v.to_string()).unwrap_or_default());
        record.stamp = Stamp { wall_ms, count: 0, node: node(by) };
        if value.is_none() {
            record.value = None;
        }
        record
    }

    fn some_record() -> impl Strategy<Value = Record> {
        (0u8..3, 0u64..4, 1u8..3, prop::option::of(0u8..3)).prop_map(|(n, at, by, value)| {
            // What one node writes in one moment is one thing.
            let value = value.map(|_| (at as u8) * 10 + by);
            record(n, NOW_MS + at, by, value)
        })
    }

    fn taken(records: &[Record]) -> Agreements {
        let mut all = Agreements::new(());
        for record in records {
            all.merge(record.clone(), NOW_MS);
        }
        all
    }

    fn said(of: &Agreements) -> Vec<Record> {
        of.all().collect()
    }

    proptest! {
        #[test]
        fn in_whatever_order_and_however_often_records_arrive_all_copies_agree(
            records in prop::collection::vec(some_record(), 0..20), seed in prop::collection::vec(any::<u16>(), 20)
        ) {
            let mut shuffled: Vec<_> = records.iter().cloned().zip(seed).collect();
            shuffled.sort_by_key(|(_, seed)| *seed);
            let shuffled: Vec<_> = shuffled.into_iter().map(|(record, _)| record).collect();
            // Two values under one stamp would be a fault of the writer: see `some_record`.
            let unique = |records: &[Record]| {
                let mut stamps = BTreeMap::new();
                records.iter().all(|r| *stamps.entry((r.key.clone(), r.stamp)).or_insert(r.value.clone()) == r.value)
            };
            prop_assume!(unique(&records));
            let (a, b) = (taken(&records), taken(&[shuffled, records].concat()));
            prop_assert_eq!(said(&a), said(&b));
            prop_assert_eq!((a.hash(), a.sums()), (b.hash(), b.sums()));
            prop_assert_eq!(&a.known().labels, &b.known().labels);
        }

        #[test]
        fn two_copies_are_equal_after_one_exchange_of_the_buckets_that_differ(
            mine in prop::collection::vec(some_record(), 0..12), theirs in prop::collection::vec(some_record(), 0..12)
        ) {
            let (mut a, mut b) = (taken(&mine), taken(&theirs));
            let buckets = a.differing(&b.sums());
            let sent = a.in_buckets(&buckets, &[]);
            for record in &sent {
                b.merge(record.clone(), NOW_MS);
            }
            for record in b.in_buckets(&buckets, &sent) {
                a.merge(record, NOW_MS);
            }
            let stamps = |of: &Agreements| of.all().map(|r| (r.key, r.stamp)).collect::<Vec<_>>();
            prop_assert_eq!(stamps(&a), stamps(&b));
            prop_assert_eq!(a.hash(), b.hash());
        }
    }

    #[test]
    fn a_write_is_later_than_all_that_its_writer_knows_whatever_its_clock_says() {
        let mut all = taken(&[record(1, NOW_MS + 5000, 2, Some(1))]);
        let key = label_record(1, "").key;
        let value = Some(kinds::value::<LabelKind>(&"mine".to_owned()));
        let written = all.write(key.clone(), value, NOW_MS, node(1)).unwrap();
        assert!(matches!(all.merge(written, NOW_MS), Merged::New(_)));
        assert_eq!(all.known().labels.values().collect::<Vec<_>>(), ["mine"]);
        let gone = all.write(key, None, NOW_MS - 99, node(1)).unwrap();
        assert!(matches!(all.merge(gone, NOW_MS), Merged::New(_)));
        assert!(all.known().labels.is_empty());
    }

    #[test]
    fn what_was_taken_back_does_not_come_back_from_an_old_copy_and_its_tombstone_ends() {
        let old = record(1, NOW_MS, 1, Some(1));
        let mut all = taken(&[old.clone(), record(1, NOW_MS + 1, 1, None)]);
        assert_eq!(all.merge(old, NOW_MS + 2), Merged::Known);
        assert!(all.expire(NOW_MS + 29 * DAY_MS).is_empty());
        assert_eq!(all.expire(NOW_MS + 31 * DAY_MS).len(), 1);
        assert_eq!((all.all().count(), all.hash()), (0, Agreements::new(()).hash()));
        let ended = record(1, NOW_MS + 1, 1, None);
        assert_eq!(all.merge(ended, NOW_MS + 31 * DAY_MS), Merged::Known, "it would go around for ever");
    }

    #[test]
    fn nobody_wins_for_ever_and_nobody_fills_the_store() {
        let mut all = Agreements::new(());
        assert_eq!(all.merge(record(1, u64::MAX, 1, Some(1)), NOW_MS), Merged::Refused);
        let big = |n: u32| Record {
            key: FactKey { kind: Kind(900), key: n.to_be_bytes().to_vec().into() },
            stamp: Stamp { wall_ms: NOW_MS, count: 0, node: node(1) },
            value: Some(vec![0; 60 << 10].into()),
        };
        let taken = (0..1000).filter(|n| all.merge(big(*n), NOW_MS) != Merged::Refused).count();
        assert!((10..20).contains(&taken), "{taken} of 60 kB where a megabyte fits");
        // Others are not in its way, and what is there can be taken back.
        assert!(matches!(all.merge(record(1, NOW_MS, 1, Some(1)), NOW_MS), Merged::New(_)));
        let gone = Record { value: None, stamp: Stamp { wall_ms: NOW_MS + 1, ..big(0).stamp }, ..big(0) };
        assert!(matches!(all.merge(gone, NOW_MS), Merged::New(_)));
    }

    #[test]
    fn a_clock_that_was_set_back_loses_nothing_that_was_kept_and_keeps_nothing_out() {
        let mut all = Agreements::new(());
        assert!(matches!(all.restore(record(1, NOW_MS, 1, Some(1))), Merged::New(_)));
        assert!(matches!(all.restore(record(2, NOW_MS, 1, None)), Merged::New(_)));
        // The machine believes that it is 1970.
        assert!(matches!(all.merge(record(0, NOW_MS + 5, 2, Some(1)), 0), Merged::New(_)));
        assert_eq!(all.merge(record(1, NOW_MS + 3 * DAY_MS, 2, Some(1)), 0), Merged::Refused);
        assert_eq!(all.known().labels.len(), 2);
    }

    #[test]
    fn what_was_written_while_a_clock_was_wrong_keeps_nothing_out_once_it_is_right() {
        let ahead = NOW_MS + 3000 * DAY_MS;
        let mut all = taken(&[record(2, NOW_MS - 9, 2, Some(1))]);
        // As after the node's restart: it is kept, and believed by nobody else.
        assert!(matches!(all.restore(record(1, ahead, 1, Some(1))), Merged::New(_)));
        let key = label_record(1, "").key;
        let value = kinds::value::<LabelKind>(&"right".to_owned());
        let written = all.write(key.clone(), Some(value), NOW_MS, node(1)).unwrap();
        assert_eq!(written.stamp.wall_ms, NOW_MS);
        assert!(matches!(all.merge(written, NOW_MS), Merged::New(_)));
        assert!(all.known().labels.values().any(|value| value == "right"));
        // Nor what another writes.
        assert!(matches!(all.restore(record(3, ahead, 1, Some(1))), Merged::New(_)));
        assert!(matches!(all.merge(record(3, NOW_MS + 1, 2, Some(2)), NOW_MS), Merged::New(_)));
        // Where all is from ahead it is the clock that is behind.
        let mut all = taken(&[record(1, NOW_MS, 1, Some(1)), record(2, NOW_MS, 2, Some(1))]);
        assert!(all.write(key, None, 0, node(1)).unwrap().stamp.wall_ms >= NOW_MS);
        assert_eq!(all.merge(record(1, NOW_MS - 5, 2, Some(2)), 0), Merged::Known);
    }

    #[test]
    fn what_is_not_believed_is_carried_and_what_would_not_be_is_not_written() {
        let mut all = Agreements::new(());
        let key = kinds::key::<LabelKind>(&(node(1), "bad name".to_owned()));
        let value = kinds::value::<LabelKind>(&"x".to_owned());
        assert!(all.write(key.clone(), Some(value.clone()), NOW_MS, node(1)).is_err());
        let record = Record { key, stamp: Stamp { wall_ms: 1, count: 0, node: node(1) }, value: Some(value) };
        assert_eq!(all.merge(record, NOW_MS), Merged::New(Outcome::Unsound));
        assert_eq!((all.all().count(), all.known().labels.len()), (1, 0));
    }
}
