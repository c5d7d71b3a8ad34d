//! A host with mDNS software of its own: probes, announces, answers and browses, as RFC 6762 has it and in the way
//! of Avahi: a conflict while it has a name sends it back to probing, one while it probes makes it take another.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::{RData, Record, RecordType};

use super::super::codec::{Questions, Response, data_bytes};
use super::super::found;
use super::super::names;
use super::super::zone::{Key, key};
use lanmesh_model::{Found, SeenHost, SeenService};

const PROBE: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    Probing(u8),
    Announcing(u8),
    Steady,
}

#[derive(Debug)]
pub struct Host {
    pub address: IpAddr,
    pub wanted: String,
    pub attempt: u32,
    pub kinds: Vec<String>,
    pub browses: Option<String>,
    pub state: State,
    pub next: Option<Duration>,
    browse_at: Duration,
    browse_gap: Duration,
    /// What it knows of others, with when that ends.
    pub cache: BTreeMap<String, (Record, Duration)>,
    pub renamed: u32,
    pub heard: u64,
}

impl Host {
    pub fn new(now: Duration, address: IpAddr, wanted: &str, kinds: &[&str], browses: Option<&str>) -> Self {
        Self {
            address,
            wanted: wanted.into(),
            attempt: 1,
            kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
            browses: browses.map(str::to_owned),
            state: State::Probing(0),
            next: Some(now + Duration::from_millis(u64::from(data_bytes(&a(address))[3]) * 7 % 250)),
            browse_at: now + Duration::from_millis(100),
            browse_gap: Duration::from_secs(1),
            cache: BTreeMap::new(),
            renamed: 0,
            heard: 0,
        }
    }

    pub fn name(&self) -> String {
        names::host_attempt(&self.wanted, self.attempt)
    }

    fn founds(&self) -> Vec<Found> {
        let host = self.name();
        let mut founds = vec![Found::Host(SeenHost { name: host.clone(), addresses: [self.address].into() })];
        founds.extend(self.kinds.iter().map(|kind| {
            Found::Service(SeenService {
                instance: format!("thing on {host}"),
                kind: kind.clone(),
                subtypes: ["_sub".to_owned()].into(),
                host: host.clone(),
                port: 7,
                priority: 0,
                weight: 0,
                txt: vec![b"k=v".to_vec()],
            })
        }));
        founds
    }

    pub fn records(&self) -> Vec<Record> {
        let all = self.founds();
        all.iter().flat_map(found::records).collect()
    }

    /// The instances that it knows of its kind.
    pub fn sees(&self, now: Duration) -> Vec<String> {
        let live = self.cache.values().filter(|(_, until)| *until > now);
        let mut seen: Vec<_> = live
            .filter_map(|(record, _)| match &record.data {
                RData::PTR(to) if record.name == names::kind(self.browses.as_deref()?)? => {
                    Some(String::from_utf8_lossy(to.0.iter().next()?).into_owned())
                }
                _ => None,
            })
            .collect();
        seen.sort();
        seen
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.next.into_iter().chain(self.browses.as_ref().map(|_| self.browse_at)).min()
    }

    /// What it multicasts now.
    pub fn poll(&mut self, now: Duration) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        if let Some(kind) = self.browses.clone().filter(|_| self.browse_at <= now) {
            self.browse_at = now + self.browse_gap;
            self.browse_gap = (self.browse_gap * 3).min(Duration::from_secs(3600));
            let query = Query::query(names::kind(&kind).unwrap(), RecordType::PTR);
            let fresh = |(record, until): &(Record, Duration)| {
                record.name == query.name && (until.saturating_sub(now)).as_secs() * 2 > u64::from(record.ttl)
            };
            let known = self.cache.values().filter(|c| fresh(c)).map(|(r, _)| r.clone()).collect();
            packets.extend(Questions { queries: vec![query], known, proposed: Vec::new() }.encode());
        }
        if self.next.is_none_or(|next| next > now) {
            return packets;
        }
        match self.state {
            State::Probing(3) => {
                self.state = State::Announcing(0);
                self.next = Some(now);
                packets.extend(self.poll(now));
            }
            State::Probing(sent) => {
                let unique: Vec<_> = self.records().into_iter().filter(|r| r.mdns_cache_flush).collect();
                let mut queries: Vec<Query> = Vec::new();
                for record in &unique {
                    let query = Query::query(record.name.clone(), RecordType::ANY);
                    if !queries.contains(&query) {
                        queries.push(query);
                    }
                }
                packets.extend(Questions { queries, known: Vec::new(), proposed: unique }.encode());
                (self.state, self.next) = (State::Probing(sent + 1), Some(now + PROBE));
            }
            State::Announcing(sent) => {
                packets.extend(Response { answers: self.records(), additionals: Vec::new() }.encode(None));
                let more = sent == 0;
                self.state = if more { State::Announcing(1) } else { State::Steady };
                self.next = more.then(|| now + Duration::from_secs(1));
            }
            State::Steady => self.next = None,
        }
        packets
    }

    /// What it multicasts when it hears a packet; the flag tells whether that is to go to who asked alone.
    pub fn hear(&mut self, now: Duration, message: &Message) -> Vec<(bool, Vec<u8>)> {
        self.heard += 1;
        if message.metadata.message_type == MessageType::Response {
            self.response(now, message);
            return Vec::new();
        }
        let mine = self.records();
        for record in &message.authorities {
            let rivals: Vec<_> =
                mine.iter().filter(|r| r.name == record.name && r.mdns_cache_flush).collect();
            let theirs: Vec<_> = message.authorities.iter().filter(|r| r.name == record.name).collect();
            let order = |records: &[&Record]| {
                let mut all: Vec<_> =
                    records.iter().map(|r| (u16::from(r.record_type()), data_bytes(&r.data))).collect();
                all.sort();
                all
            };
            if matches!(self.state, State::Probing(sent) if sent > 0)
                && !rivals.is_empty()
                && order(&theirs) > order(&rivals)
            {
                (self.state, self.next) = (State::Probing(0), Some(now + Duration::from_secs(1)));
            }
        }
        if matches!(self.state, State::Probing(_)) {
            return Vec::new();
        }
        let mut replies = Vec::new();
        for alone in [false, true] {
            let asked = |record: &&Record| {
                message.queries.iter().any(|q| {
                    q.mdns_unicast_response == alone
                        && q.name == record.name
                        && (q.query_type == RecordType::ANY || q.query_type == record.record_type())
                })
            };
            let known = |record: &&Record| {
                !message.answers.iter().any(|k| key(k) == key(record) && k.ttl * 2 >= record.ttl)
            };
            let answers: Vec<_> = mine.iter().filter(asked).filter(known).cloned().collect();
            let additionals = if answers.is_empty() { Vec::new() } else { mine.clone() };
            let packets = Response { answers, additionals }.encode(None);
            replies.extend(packets.into_iter().map(|bytes| (alone, bytes)));
        }
        replies
    }

    fn response(&mut self, now: Duration, message: &Message) {
        let mine = self.records();
        let ours = |k: &Key| mine.iter().any(|r| key(r) == *k);
        for record in message.answers.iter().chain(&message.additionals) {
            let rivals = |r: &&Record| r.name == record.name && r.record_type() == record.record_type();
            let clash = mine.iter().filter(|r| r.mdns_cache_flush).any(|r| rivals(&r)) && !ours(&key(record));
            if clash && record.ttl > 0 {
                if matches!(self.state, State::Probing(_)) {
                    self.attempt += 1;
                    self.renamed += 1;
                }
                (self.state, self.next) = (State::Probing(0), Some(now));
                return;
            }
        }
        for record in message.answers.iter().chain(&message.additionals) {
            if ours(&key(record)) {
                continue;
            }
            let text =
                |record: &Record| format!("{} {}", record.name.to_string().to_lowercase(), record.data);
            let until = match record.ttl {
                0 => now + Duration::from_secs(1),
                ttl => now + Duration::from_secs(ttl.into()),
            };
            if record.mdns_cache_flush {
                let same = |r: &Record| r.name == record.name && r.record_type() == record.record_type();
                self.cache.retain(|_, (r, _)| !same(r));
            }
            if record.ttl > 0 || self.cache.contains_key(&text(record)) {
                self.cache.insert(text(record), (record.clone(), until));
            }
        }
    }
}

fn a(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(hickory_proto::rr::rdata::A(v4)),
        IpAddr::V6(v6) => RData::AAAA(hickory_proto::rr::rdata::AAAA(v6)),
    }
}
