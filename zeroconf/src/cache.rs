//! What one endpoint has said, for as long as it holds (RFC 6762 section 10).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Discard;
use super::codec::length;

/// No record is kept for longer than this without being confirmed (RFC 6762 section 10: 75 minutes).
const TTL_MAX: Duration = Duration::from_secs(4500);
/// How long a record lives on after its goodbye, or after its name's records were announced anew without it.
const LAST_SECOND: Duration = Duration::from_secs(1);
/// The most bytes that are kept of one endpoint.
const BYTES_MAX: usize = 256 << 10;
/// When a record that is wanted is asked for again, in per cent of its time (RFC 6762 section 5.2).
const REFRESH: [u32; 4] = [80, 85, 90, 95];

/// How long an endpoint has to answer after others have asked in vain (RFC 6762 section 10.5).
const DOUBTED: Duration = Duration::from_secs(10);
/// So many questions in vain raise a doubt. What was multicast less than [`LAST_SECOND`] ago need not be answered.
const IN_VAIN: u8 = 2;

/// The most records of a type that are kept of one endpoint.
fn limit(kind: RecordType) -> usize {
    match kind {
        RecordType::PTR => 1024,
        RecordType::SRV | RecordType::TXT => 256,
        RecordType::A | RecordType::AAAA => 32,
        _ => 64,
    }
}

#[derive(Debug)]
struct Cached {
    record: Record,
    learned: Duration,
    ttl: Duration,
    expires: Duration,
    /// How often it was asked for since.
    asked: usize,
    /// Added to the per cents of [`REFRESH`].
    jitter: f32,
    /// How often others asked for it since it was learned, and when they did last.
    in_vain: u8,
    questioned: Duration,
}

impl Cached {
    /// When it should be asked for again.
    fn refresh_at(&self) -> Option<Duration> {
        let leaving = self.expires < self.learned + self.ttl;
        let per_cent = REFRESH.get(self.asked).filter(|_| !leaving)?;
        Some(self.learned + self.ttl.mul_f32((*per_cent as f32 + self.jitter) / 100.0))
    }

    /// Whether it is to be asked for of everybody until then; the first question goes to the endpoint alone.
    fn is_due(&self, until: Duration, kind: RecordType) -> bool {
        let due = self.asked > 0 && self.refresh_at().is_some_and(|at| at <= until);
        due && self.record.record_type() == kind
    }

    fn next(&self) -> Duration {
        self.refresh_at().map_or(self.expires, |at| at.min(self.expires))
    }
}

/// A record that is about to expire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stale {
    pub name: Name,
    pub kind: u16,
    /// Which attempt this is, from 0.
    pub attempt: usize,
}

/// The records of one endpoint.
#[derive(Debug, Default)]
pub struct Cache {
    names: BTreeMap<Name, Vec<Cached>>,
    counts: HashMap<RecordType, usize>,
    bytes: usize,
    /// Nothing happens before this.
    next: Option<Duration>,
}

impl Cache {
    /// Takes up a record. `jitter` is up to 2 per cent, the same for all records of a packet, so that they
    /// are asked for together. Gives whether what is known has changed.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn learn(&mut self, now: Duration, record: &Record, jitter: f32) -> Result<bool, Discard> {
        let kind = record.record_type();
        let cached = self.names.get_mut(&record.name);
        let mut changed = false;
        let last = now + LAST_SECOND;
        if let Some(cached) = cached {
            if record.mdns_cache_flush && record.ttl > 0 {
                // What came a moment ago may be of the same announcement (RFC 6762 section 10.2).
                let old = |c: &&mut Cached| {
                    c.record.record_type() == kind
                        && c.record.data != record.data
                        && c.learned + LAST_SECOND < now
                };
                for other in cached.iter_mut().filter(old) {
                    other.expires = other.expires.min(last);
                    self.next = self.next.map(|next| next.min(last));
                }
            }
            if let Some(same) = cached.iter_mut().find(|c| c.record.data == record.data) {
                if record.ttl == 0 {
                    same.expires = same.expires.min(last);
                } else {
                    same.record.name.clone_from(&record.name);
                    (same.learned, same.ttl) = (now, ttl(record));
                    (same.expires, same.asked, same.jitter) = (now + same.ttl, 0, jitter);
                    same.in_vain = 0;
                }
                let next = same.next();
                self.next = Some(self.next.map_or(next, |at| at.min(next)));
                return Ok(changed);
            }
        }
        if record.ttl == 0 {
            return Ok(changed);
        }
        let count = self.counts.entry(kind).or_default();
        if *count >= limit(kind) || self.bytes + length(record) > BYTES_MAX {
            return Err(Discard::TooMuch);
        }
        *count += 1;
        self.bytes += length(record);
        let ttl = ttl(record);
        let new = Cached {
            record: record.clone(),
            learned: now,
            ttl,
            expires: now + ttl,
            asked: 0,
            jitter,
            in_vain: 0,
            questioned: now,
        };
        let next = new.next();
        self.next = Some(self.next.map_or(next, |at| at.min(next)));
        self.names.entry(record.name.clone()).or_default().push(new);
        changed |= true;
        Ok(changed)
    }

    /// Forgets what is over. Gives whether that was anything.
    pub fn expire(&mut self, now: Duration) -> bool {
        if self.next.is_none_or(|next| next > now) {
            return false;
        }
        self.retain(|cached| cached.expires > now)
    }

    /// Forgets all records of a name.
    pub fn forget(&mut self, name: &Name) {
        if self.names.contains_key(name) {
            self.retain(|cached| cached.record.name != *name);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Cached) -> bool) -> bool {
        let (counts, bytes) = (&mut self.counts, &mut self.bytes);
        let before = *bytes;
        self.names.retain(|_, cached| {
            cached.retain(|cached| {
                let kept = keep(cached);
                if !kept {
                    *bytes -= length(&cached.record);
                    if let Some(count) = counts.get_mut(&cached.record.record_type()) {
                        *count -= 1;
                    }
                }
                kept
            });
            !cached.is_empty()
        });
        let changed = *bytes != before;
        self.reckon();
        changed
    }

    /// What has to be asked for now lest it expires. Each is given once for each time it is due.
    pub fn stale(&mut self, now: Duration) -> Vec<Stale> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut stale = Vec::new();
        for cached in self.names.values_mut().flatten() {
            let mut due = None;
            while cached.refresh_at().is_some_and(|at| at <= now) {
                due = Some(cached.asked);
                cached.asked += 1;
            }
            stale.extend(due.map(|attempt| Stale {
                name: cached.record.name.clone(),
                kind: cached.record.record_type().into(),
                attempt,
            }));
        }
        self.reckon();
        stale.sort();
        stale.dedup_by(|a, b| (&a.name, a.kind) == (&b.name, b.kind));
        stale
    }

    /// Somebody else asked everybody for this, and knows `known`. Gives the types of the records that the endpoint
    /// should have told in answer to this and to an earlier question, and did not: they are over in ten seconds unless
    /// it tells them by then (RFC 6762 section 10.5).
    pub fn questioned(&mut self, now: Duration, query: &Query, known: &[Record]) -> BTreeSet<u16> {
        let mut doubted = BTreeSet::new();
        for cached in self.names.get_mut(&query.name).into_iter().flatten() {
            let kind = cached.record.record_type();
            let asked = query.query_type == kind || query.query_type == RecordType::ANY;
            let same = |k: &Record| k.data == cached.record.data && k.name == cached.record.name;
            let spared = known.iter().any(|k| same(k) && k.ttl.saturating_mul(2) >= cached.record.ttl);
            // It answers each once a second at most, and what is over soon is doubted enough.
            let last = if cached.in_vain > 0 { cached.questioned } else { cached.learned };
            let leaving = cached.expires < cached.learned + cached.ttl;
            if !asked || spared || leaving || last + LAST_SECOND > now {
                continue;
            }
            (cached.in_vain, cached.questioned) = (cached.in_vain + 1, now);
            if cached.in_vain >= IN_VAIN {
                cached.expires = cached.expires.min(now + DOUBTED);
                doubted.insert(kind.into());
            }
        }
        if !doubted.is_empty() {
            self.reckon();
        }
        doubted
    }

    /// Whether records of a name and type are to be asked for of everybody until then.
    pub fn is_due(&self, until: Duration, name: &Name, kind: RecordType) -> bool {
        self.names.get(name).into_iter().flatten().any(|cached| cached.is_due(until, kind))
    }

    /// Somebody else has just asked everybody for this, so that it need not be asked again until `soon` (RFC 6762
    /// section 7.3). Gives how many questions that spares.
    pub fn asked_by_another(&mut self, soon: Duration, name: &Name, kind: RecordType) -> u64 {
        let mut spared = 0;
        for cached in self.names.get_mut(name).into_iter().flatten().filter(|c| c.is_due(soon, kind)) {
            cached.asked += 1;
            spared += 1;
        }
        if spared > 0 {
            self.reckon();
        }
        spared
    }

    fn reckon(&mut self) {
        self.next = self.names.values().flatten().map(Cached::next).min();
    }

    /// When something expires or has to be asked for.
    pub fn deadline(&self) -> Option<Duration> {
        self.next
    }

    /// All records, by name.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.names.values().flatten().map(|cached| &cached.record)
    }

    /// The records of a name; the latest comes last.
    pub fn of(&self, name: &Name) -> impl Iterator<Item = &Record> {
        let mut found: Vec<_> = self.names.get(name).into_iter().flatten().collect();
        found.sort_by_key(|cached| cached.learned);
        found.into_iter().map(|cached| &cached.record)
    }

    /// Whether it holds exactly this.
    pub fn holds(&self, name: &Name, data: &RData) -> bool {
        self.names.get(name).into_iter().flatten().any(|cached| cached.record.data == *data)
    }

    /// The records of a name and type as known answers: those of which more than half the time is left, with what
    /// is left of it (RFC 6762 section 7.1).
    pub fn known(&self, now: Duration, name: &Name, kind: RecordType) -> impl Iterator<Item = Record> {
        let fresh = move |cached: &&Cached| {
            cached.record.record_type() == kind && cached.expires.saturating_sub(now) * 2 > cached.ttl
        };
        let left = move |cached: &Cached| {
            let mut record = cached.record.clone();
            record.ttl = cached.expires.saturating_sub(now).as_secs() as u32;
            record.mdns_cache_flush = false;
            record
        };
        self.names.get(name).into_iter().flatten().filter(fresh).map(left)
    }

    /// The bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn ttl(record: &Record) -> Duration {
    Duration::from_secs(record.ttl.into()).min(TTL_MAX)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, PTR};

    use super::super::names;
    use super::*;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn host(last: u8, ttl: u32, flush: bool) -> Record {
        let data = RData::A(A::new(10, 0, 0, last));
        let mut record = Record::from_rdata(names::host("a").unwrap(), ttl, data);
        record.mdns_cache_flush = flush;
        record
    }

    fn known(cache: &Cache) -> usize {
        cache.records().count()
    }

    #[test]
    fn a_record_is_asked_for_four_times_and_then_gone() {
        let mut cache = Cache::default();
        assert_eq!(cache.learn(at(0), &host(1, 100, true), 1.0), Ok(true));
        let mut asked = Vec::new();
        while let Some(next) = cache.deadline() {
            cache.expire(next);
            asked.extend(cache.stale(next).into_iter().map(|stale| (next.as_secs(), stale.attempt)));
        }
        assert_eq!(asked, [(81, 0), (86, 1), (91, 2), (96, 3)]);
        assert_eq!((known(&cache), cache.bytes()), (0, 0));
    }

    #[test]
    fn an_answer_to_the_question_keeps_it() {
        let mut cache = Cache::default();
        cache.learn(at(0), &host(1, 100, true), 0.0).unwrap();
        assert_eq!(cache.stale(at(80_000)).len(), 1);
        assert_eq!(cache.learn(at(80_010), &host(1, 100, true), 0.0), Ok(false));
        assert!(!cache.expire(at(179_000)));
        assert!(cache.expire(at(180_010)));
    }

    #[test]
    fn a_goodbye_and_a_flush_leave_one_second() {
        let mut cache = Cache::default();
        cache.learn(at(0), &host(1, 120, true), 0.0).unwrap();
        cache.learn(at(500), &host(2, 120, true), 0.0).unwrap();
        // Both are of one announcement. The next is without the first two.
        assert!(!cache.expire(at(1_600)));
        cache.learn(at(5_000), &host(3, 120, true), 0.0).unwrap();
        assert!(!cache.expire(at(5_900)));
        assert!(cache.expire(at(6_000)));
        assert_eq!(known(&cache), 1);
        cache.learn(at(7_000), &host(3, 0, true), 0.0).unwrap();
        assert_eq!(cache.deadline(), Some(at(8_000)));
        assert!(cache.expire(at(8_000)) && known(&cache) == 0);
        // A shared record flushes nothing, and a goodbye for what is not known is nothing.
        assert_eq!(cache.learn(at(9_000), &host(4, 0, false), 0.0), Ok(false));
    }

    #[test]
    fn the_time_to_live_is_capped_and_so_is_the_room() {
        let mut cache = Cache::default();
        cache.learn(at(0), &host(1, u32::MAX, false), 0.0).unwrap();
        assert!(cache.expire(TTL_MAX));
        let kind = names::kind("_x._tcp").unwrap();
        let pointer = |i: u32| {
            let instance = names::instance(&format!("{i}"), "_x._tcp").unwrap();
            Record::from_rdata(kind.clone(), 4500, RData::PTR(PTR(instance)))
        };
        let taken = (0..5000).filter(|i| cache.learn(at(0), &pointer(*i), 0.0).is_ok()).count();
        assert_eq!(taken, limit(RecordType::PTR));
        assert!(cache.bytes() <= BYTES_MAX);
        assert_eq!(cache.learn(at(0), &pointer(5001), 0.0), Err(Discard::TooMuch));
        // What is there can still be renewed, and other types have room of their own.
        assert_eq!(cache.learn(at(1), &pointer(0), 0.0), Ok(false));
        assert_eq!(cache.learn(at(1), &host(1, 1, false), 0.0), Ok(true));
    }
}
