//! Answers from outside that are kept for as long as they say. Pure: the time is passed in.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{LowerName, RData, Record, RecordType};

/// The longest that an answer is kept, in seconds; and one that says that there is nothing (RFC 2308 section 5).
const POSITIVE_MAX: u32 = 3600;
const NEGATIVE_MAX: u32 = 300;

/// What an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::dns) struct Key {
    pub name: LowerName,
    pub kind: RecordType,
    /// The client wants the records of DNSSEC.
    pub dnssec: bool,
    /// The client checks for itself.
    pub unchecked: bool,
}

/// What somebody outside answered.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::dns) struct Outside {
    pub rcode: ResponseCode,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additionals: Vec<Record>,
    /// It says that it has checked the signatures.
    pub authentic: bool,
}

impl Outside {
    fn records(&self) -> impl Iterator<Item = &Record> {
        self.answers.iter().chain(&self.authority).chain(&self.additionals)
    }

    /// For how many seconds it may be kept; `None` where it may not be.
    fn lifetime(&self) -> Option<u32> {
        let shortest = self.records().map(|record| record.ttl).min();
        let seconds = match (self.rcode, self.answers.is_empty()) {
            (ResponseCode::NoError, false) => shortest?.min(POSITIVE_MAX),
            (ResponseCode::NoError | ResponseCode::NXDomain, _) => {
                let soa = self.authority.iter().find_map(|record| match &record.data {
                    RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
                    _ => None,
                });
                soa?.min(shortest?).min(NEGATIVE_MAX)
            }
            _ => return None,
        };
        (seconds > 0).then_some(seconds)
    }

    /// The same, `seconds` later.
    fn aged(&self, seconds: u32) -> Self {
        let mut aged = self.clone();
        for record in aged.answers.iter_mut().chain(&mut aged.authority).chain(&mut aged.additionals) {
            record.ttl = record.ttl.saturating_sub(seconds);
        }
        aged
    }
}

#[derive(Debug)]
struct Kept {
    answer: Arc<Outside>,
    since: Instant,
    until: Instant,
    /// Tells this entry's place in the queue from that of an older one under the same key.
    number: u64,
}

/// The answers that are kept: the oldest goes first.
#[derive(Debug)]
pub(in crate::dns) struct Cache {
    most: usize,
    kept: HashMap<Key, Kept>,
    queue: VecDeque<(u64, Key)>,
    number: u64,
    /// How often everything was forgotten.
    cleared: u64,
    /// How often the servers had become others when the latest of what is kept was asked for.
    servers: u64,
}

impl Cache {
    pub fn new(most: usize) -> Self {
        Self { most, kept: HashMap::new(), queue: VecDeque::new(), number: 0, cleared: 0, servers: 0 }
    }

    pub fn get(&self, key: &Key, now: Instant) -> Option<Outside> {
        let kept = self.kept.get(key).filter(|kept| now < kept.until)?;
        Some(kept.answer.aged(now.saturating_duration_since(kept.since).as_secs() as u32))
    }

    pub fn put(&mut self, key: Key, answer: Arc<Outside>, now: Instant) {
        let Some(seconds) = answer.lifetime().filter(|_| self.most > 0) else { return };
        self.number += 1;
        let until = now + Duration::from_secs(seconds.into());
        self.kept.insert(key.clone(), Kept { answer, since: now, until, number: self.number });
        self.queue.push_back((self.number, key));
        while self.kept.len() > self.most || self.queue.len() > 2 * self.most {
            let Some((number, key)) = self.queue.pop_front() else { break };
            if self.kept.get(&key).is_some_and(|kept| kept.number == number) {
                self.kept.remove(&key);
            }
        }
    }

    /// How often it was cleared: what was asked for before the last time is not to be kept after it.
    pub fn cleared(&self) -> u64 {
        self.cleared
    }

    /// Forgets what others said than the servers that there are since they changed so often; what is asked for of those
    /// before them is not to be kept either. Whether they are the latest that this was told of.
    pub fn keep_to(&mut self, servers: u64) -> bool {
        if servers > self.servers {
            self.servers = servers;
            self.clear();
        }
        servers == self.servers
    }

    pub fn clear(&mut self) {
        self.cleared += 1;
        self.kept.clear();
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;

    fn key(name: &str) -> Key {
        let name: Name = name.parse().expect("a name");
        Key { name: name.into(), kind: RecordType::A, dnssec: false, unchecked: false }
    }

    fn answer(ttl: u32) -> Outside {
        let record = Record::from_rdata(Name::root(), ttl, RData::A(A([192, 0, 2, 1].into())));
        Outside {
            rcode: ResponseCode::NoError,
            answers: vec![record],
            authority: vec![],
            additionals: vec![],
            authentic: false,
        }
    }

    fn negative(ttl: u32, minimum: u32) -> Outside {
        let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum);
        let record = Record::from_rdata(Name::root(), ttl, RData::SOA(soa));
        Outside { rcode: ResponseCode::NXDomain, answers: vec![], authority: vec![record], ..answer(0) }
    }

    #[test]
    fn an_answer_ages_and_goes_when_it_said() {
        let (mut cache, now) = (Cache::new(10), Instant::now());
        cache.put(key("a."), Arc::new(answer(30)), now);
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(cache.get(&key("A."), later(10)).expect("is kept").answers[0].ttl, 20);
        assert!(cache.get(&key("a."), later(29)).is_some());
        assert_eq!(cache.get(&key("a."), later(30)), None);
        assert_eq!(cache.get(&Key { dnssec: true, ..key("a.") }, now), None);
    }

    #[test]
    fn a_negative_answer_is_kept_for_as_long_as_its_soa_says_and_without_one_not_at_all() {
        let (mut cache, now) = (Cache::new(10), Instant::now());
        cache.put(key("a."), Arc::new(negative(100, 7)), now);
        assert!(cache.get(&key("a."), now + Duration::from_secs(6)).is_some());
        assert!(cache.get(&key("a."), now + Duration::from_secs(7)).is_none());
        cache.put(key("b."), Arc::new(Outside { authority: vec![], ..negative(1, 1) }), now);
        cache.put(key("c."), Arc::new(Outside { rcode: ResponseCode::ServFail, ..answer(9) }), now);
        assert_eq!((cache.get(&key("b."), now), cache.get(&key("c."), now)), (None, None));
    }

    #[test]
    fn what_former_servers_said_is_forgotten_and_theirs_are_not_taken_for_new() {
        let (mut cache, now) = (Cache::new(3), Instant::now());
        assert!(cache.keep_to(1) && cache.keep_to(1));
        cache.put(key("a."), Arc::new(answer(30)), now);
        assert!(cache.keep_to(2));
        assert_eq!((cache.get(&key("a."), now), cache.cleared()), (None, 2));
        cache.put(key("a."), Arc::new(answer(30)), now);
        assert!(!cache.keep_to(1), "who looked before the change and comes after it");
        assert!(cache.get(&key("a."), now).is_some());
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let (mut cache, now) = (Cache::new(3), Instant::now());
        for i in 0..100 {
            cache.put(key(&format!("n{}.", i % 7)), Arc::new(answer(30)), now);
            assert!(cache.kept.len() <= 3 && cache.queue.len() <= 6);
        }
        assert!(cache.get(&key(&format!("n{}.", 99 % 7)), now).is_some());
    }
}
