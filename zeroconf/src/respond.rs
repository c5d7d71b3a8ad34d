//! Answers and announcements that wait for their time (RFC 6762 sections 6 and 7).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::{Name, Record, RecordType};

use super::codec::{Legacy, Response};
use super::zone::{Key, Zone, key};
use super::{Destination, Family, found};

/// A record is multicast no more often than this, and in defence of a name no more often than [`DEFENCE`]
/// (RFC 6762 section 6).
const AGAIN: Duration = Duration::from_secs(1);
const DEFENCE: Duration = Duration::from_millis(250);
/// Answers that wait, at most: of one who asks, and of all.
const OF_ONE: usize = 32;
const OF_ALL: usize = 512;

/// An answer that waits.
#[derive(Debug)]
pub struct Pending {
    pub due: Duration,
    pub to: Destination,
    pub records: Vec<Key>,
    /// Names of which it is said which types they have.
    pub denied: BTreeSet<Name>,
    /// Who asked.
    pub from: SocketAddr,
    /// A name is defended against who wants to take it.
    pub defence: bool,
    /// More known answers may follow the question.
    pub partial: bool,
    pub legacy: Option<Legacy>,
}

/// Records that are announced.
#[derive(Debug)]
struct Announcement {
    due: Duration,
    left: u8,
    records: Vec<Key>,
}

/// Everything that waits.
#[derive(Debug, Default)]
pub struct Outbox {
    pending: Vec<Pending>,
    announcements: Vec<Announcement>,
}

impl Outbox {
    /// Has an answer sent when it is due. Gives whether there was room.
    pub fn answer(&mut self, pending: Pending) -> bool {
        if pending.records.is_empty() && pending.denied.is_empty() {
            return true;
        }
        let his = self.pending.iter().filter(|other| other.from == pending.from).count();
        let room = his < OF_ONE && self.pending.len() < OF_ALL;
        if room {
            self.pending.push(pending);
        }
        room
    }

    /// Has records announced, twice (RFC 6762 section 8.3).
    pub fn announce(&mut self, due: Duration, records: Vec<Key>) {
        if !records.is_empty() {
            self.announcements.push(Announcement { due, left: 2, records });
        }
    }

    /// Who asked knows this already (RFC 6762 section 7.2). Gives how many answers that spares.
    pub fn known(&mut self, from: SocketAddr, known: &Known, zone: &Zone) -> u64 {
        let mut spared = 0;
        for pending in self.pending.iter_mut().filter(|pending| pending.partial && pending.from == from) {
            let before = pending.records.len();
            pending.records.retain(|key| !known.has(zone, key));
            spared += (before - pending.records.len()) as u64;
        }
        spared
    }

    /// Somebody else has just told everybody of a family this (RFC 6762 section 7.4), for as long as we would. Gives how
    /// many answers that spares.
    pub fn told(&mut self, family: Family, record: &Record, zone: &Zone) -> u64 {
        let told = key(record);
        let mut spared = 0;
        if zone.entry(&told).is_none_or(|entry| record.ttl < entry.told.record.ttl) {
            return spared;
        }
        for pending in self.pending.iter_mut().filter(|p| p.to == Destination::Group(family) && !p.defence) {
            let before = pending.records.len();
            pending.records.retain(|key| *key != told);
            spared += (before - pending.records.len()) as u64;
        }
        spared
    }

    /// What is to be sent now.
    pub fn poll(
        &mut self,
        now: Duration,
        families: &BTreeSet<Family>,
        zone: &mut Zone,
    ) -> Vec<(Destination, Vec<u8>)> {
        let mut packets = Vec::new();
        let (due, later) = std::mem::take(&mut self.pending).into_iter().partition(|p| p.due <= now);
        self.pending = later;
        let mut groups: Vec<(Family, Vec<Pending>)> = families.iter().map(|f| (*f, Vec::new())).collect();
        for pending in due {
            match pending.to {
                Destination::Group(family) | Destination::Here(family) => {
                    if let Some((_, of)) = groups.iter_mut().find(|(of, _)| *of == family) {
                        of.push(pending);
                    }
                }
                Destination::Unicast(_) => packets.extend(unicast(&pending, zone)),
            }
        }
        let announced = self.announcements_due(now, families, zone);
        for (family, pending) in groups {
            let response = self.multicast(now, family, pending, &announced, zone);
            let encoded = response.encode(None).into_iter();
            packets.extend(encoded.map(|bytes| (Destination::Group(family), bytes)));
        }
        packets
    }

    fn announcements_due(&mut self, now: Duration, families: &BTreeSet<Family>, zone: &Zone) -> Vec<Key> {
        let mut announced: Vec<Key> = Vec::new();
        let mut held: Vec<Announcement> = Vec::new();
        // A host's other addresses were told a moment ago: then this one waits until all may be.
        let wait = |key: &Key| {
            let ages = families.iter().filter_map(|family| zone.age(key, now, *family));
            let wait = AGAIN.saturating_sub(ages.min()?);
            (found::address(&key.1).is_some() && !wait.is_zero()).then_some(wait)
        };
        self.announcements.retain_mut(|announcement| {
            if announcement.due <= now {
                let left = announcement.left;
                announcement.records.retain(|key| {
                    if let Some(wait) = wait(key) {
                        held.push(Announcement { due: now + wait, left, records: vec![key.clone()] });
                        return false;
                    }
                    zone.entry(key).is_some()
                });
                announced.extend(announcement.records.iter().cloned());
                announcement.left -= 1;
                announcement.due = now + AGAIN;
            }
            announcement.left > 0 && !announcement.records.is_empty()
        });
        self.announcements.append(&mut held);
        announced
    }

    fn multicast(
        &mut self,
        now: Duration,
        family: Family,
        due: Vec<Pending>,
        announced: &[Key],
        zone: &mut Zone,
    ) -> Response {
        let mut response = Response::default();
        let mut keys: HashSet<Key> = HashSet::new();
        for key in announced {
            if let Some(entry) = zone.entry(key).filter(|_| keys.insert(key.clone())) {
                response.answers.push(entry.told.record.clone());
            }
        }
        for mut pending in due {
            let pause = if pending.defence { DEFENCE } else { AGAIN };
            let mut later = None;
            pending.records.retain(|key| {
                let Some(entry) = zone.entry(key).filter(|_| !keys.contains(key)) else { return false };
                match zone.age(key, now, family).filter(|age| *age < pause) {
                    // Who wants a name hears this one defence, and needs no second.
                    Some(_) if pending.defence => false,
                    Some(age) => {
                        later = later.max(Some(now + (pause - age)));
                        true
                    }
                    None => {
                        response.answers.push(entry.told.record.clone());
                        keys.insert(key.clone());
                        false
                    }
                }
            });
            for name in std::mem::take(&mut pending.denied) {
                let Some(node) = zone.node_mut(&name) else { continue };
                if node.denied.age(now, family).is_none_or(|age| age >= AGAIN) {
                    response.answers.extend(node.denial());
                    node.denied.set(now, family);
                }
            }
            if let Some(due) = later {
                self.pending.push(Pending { due, partial: false, ..pending });
            }
        }
        let recent = |record: &Record| zone.age(&key(record), now, family).is_some_and(|age| age < AGAIN);
        response.additionals = zone.additionals(&response.answers);
        response.additionals.retain(|record| !recent(record));
        usable_first(&mut response);
        for record in response.answers.iter().chain(&response.additionals) {
            if let Some(entry) = zone.entry_mut(&key(record)) {
                entry.last.set(now, family);
            }
        }
        response
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Duration> {
        let pending = self.pending.iter().map(|pending| pending.due);
        pending.chain(self.announcements.iter().map(|announcement| announcement.due)).min()
    }

    /// How many answers wait.
    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

/// Puts the addresses of a host together, those of IPv4 before those of IPv6. Avahi gives a program the first that it reads,
/// and one of IPv6 may be good on its link alone, with which distcc, say, can do nothing.
fn usable_first(response: &mut Response) {
    let is_address = |record: &Record| found::address(&record.data).is_some();
    let hosts: HashSet<Name> = response
        .answers
        .iter()
        .filter(|record| is_address(record))
        .map(|record| record.name.clone())
        .collect();
    let joins = |record: &mut Record| is_address(record) && hosts.contains(&record.name);
    response.answers.extend(response.additionals.extract_if(.., joins));
    for records in [&mut response.answers, &mut response.additionals] {
        records.sort_by_key(|record| record.record_type() == RecordType::AAAA);
    }
}

/// What somebody who asks knows, with the time that is left of it.
pub struct Known(HashMap<Key, u32>);

impl Known {
    pub fn new(answers: &[Record]) -> Self {
        let mut known = HashMap::new();
        for record in answers {
            let left: &mut u32 = known.entry(key(record)).or_default();
            *left = record.ttl.max(*left);
        }
        Self(known)
    }

    /// Whether a record is among it with at least half of its time left (RFC 6762 section 7.1).
    pub fn has(&self, zone: &Zone, of: &Key) -> bool {
        let ttl = zone.entry(of).map_or(0, |entry| entry.told.record.ttl);
        self.0.get(of).is_some_and(|left| left.saturating_mul(2) >= ttl)
    }
}

fn unicast(pending: &Pending, zone: &Zone) -> Vec<(Destination, Vec<u8>)> {
    let record = |key: &Key| Some(zone.entry(key)?.told.record.clone());
    let mut answers: Vec<_> = pending.records.iter().filter_map(record).collect();
    if pending.legacy.is_none() {
        answers.extend(pending.denied.iter().filter_map(|name| zone.node(name)?.denial()));
    }
    let mut additionals = zone.additionals(&answers);
    if pending.legacy.is_some() {
        additionals.retain(|record| record.record_type() != RecordType::NSEC);
        // It caches without knowing of goodbyes, and takes the top bit for a part of the class (section 6.7).
        for record in answers.iter_mut().chain(&mut additionals) {
            record.ttl = record.ttl.min(10);
            record.mdns_cache_flush = false;
        }
    }
    let mut response = Response { answers, additionals };
    usable_first(&mut response);
    response.encode(pending.legacy.as_ref()).into_iter().map(|bytes| (pending.to, bytes)).collect()
}
