//! What is at this node's endpoints in one network although it was not given to them, by what they say.
//!
//! Who announced an address last has it (RFC 7432 section 15): an announcement goes above what other nodes say, and what is
//! said above this node's own word takes that back. In passing nothing moves; what nobody else has is taken up from what is
//! said in passing too. Of an address that is not heard of it is asked whether it is still there, and without an answer it is no more.
//!
//! All of it is bounded: what one endpoint may have, what all of them may, and how often an address moves (section 15.1:
//! two that both have it would go on for ever).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::Given;
use crate::kernel::{How, Said};
use crate::model::{
    Also, Endpoint, EndpointName, Floating, FloatingKey, Floatings, Mac, NetworkView, NodeId, SpoofingMode,
};

/// How long after an address was heard of last it is asked whether it is still there: before a bridge forgets where a MAC is.
const AGE: Duration = Duration::from_secs(60);
/// How often it is asked, and how long an answer may take.
const QUESTIONS: u8 = 3;
const ANSWER: Duration = Duration::from_secs(1);
/// How many addresses may be at one endpoint although they were not given to it.
pub const OF_ENDPOINT: usize = 64;
/// How many may be at all of this node's in one network.
pub const OF_NETWORK: usize = 1024;
/// An address moves so often at once, and then once in so long.
const MOVES: u32 = 10;
const MOVE: Duration = Duration::from_secs(5);
/// How often a person is told of one address.
const TELL: Duration = Duration::from_secs(60);

/// What is known around this node's own endpoints.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// This node.
    pub me: NodeId,
    /// The network.
    pub network: &'a NetworkView,
    /// What was given to its endpoints.
    pub given: &'a Given,
    /// The addresses of its services.
    pub services: &'a BTreeSet<IpAddr>,
    /// The nodes whose word counts.
    pub heard: &'a BTreeSet<NodeId>,
}

impl Around<'_> {
    fn own(&self, name: &EndpointName) -> Option<&Endpoint> {
        self.network.endpoints.get(&self.me)?.get(name)
    }

    fn is_free(&self) -> bool {
        self.network.spec.options.spoofing == SpoofingMode::Allow
    }

    /// Whether something may be at an endpoint of this node.
    fn permits(&self, name: &EndpointName, address: IpAddr, mac: Mac) -> bool {
        let spec = &self.network.spec;
        let Some(own) = self.own(name) else { return false };
        let sound = spec.lets_float(address) && spec.lets_float_mac(mac) && !self.services.contains(&address);
        let is_its = mac == own.mac;
        if !sound || (!is_its && self.given.has_mac(mac)) {
            return false;
        }
        if self.is_free() {
            return true;
        }
        let also = self.network.also.get(&self.me).and_then(|also| also.get(name));
        let may = |Also { addresses, macs, .. }: &Also| {
            addresses.contains(&address) && (is_its || macs.contains(&mac))
        };
        also.is_some_and(may) && self.given.holder(address).is_none()
    }

    /// The highest of what other nodes say of something.
    fn others(&self, key: &FloatingKey) -> Option<((u64, NodeId), &Floating)> {
        let others = self.network.floating.iter();
        let others = others.filter(|(node, _)| **node != self.me && self.heard.contains(node));
        let said = others.filter_map(|(node, said)| Some((said.get(key)?.rank(*node), said.get(key)?)));
        said.max_by_key(|(rank, _)| *rank)
    }
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An endpoint says that it has more addresses than one may have, or all of a node: what it says beyond that is not heard.
    Crowded {
        /// Which.
        endpoint: EndpointName,
    },
    /// An address moves from one to the other too often, so that it moves seldom now.
    Restless {
        /// The address.
        address: IpAddr,
        /// The endpoint of this node that says that it has it.
        endpoint: EndpointName,
        /// The one that has it by what others say.
        other: Option<(NodeId, EndpointName)>,
    },
    /// An address moved, and who had it has it still.
    Twice {
        /// The address.
        address: IpAddr,
        /// The endpoint of this node that had it, and has.
        endpoint: EndpointName,
        /// The one that has it now.
        other: Option<(NodeId, EndpointName)>,
    },
}

/// Whether an address is still at a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The address.
    pub address: IpAddr,
    /// The MAC.
    pub mac: Mac,
}

#[derive(Debug)]
struct Entry {
    endpoint: EndpointName,
    mac: Mac,
    sequence: u64,
    /// When it is asked for next.
    ask: Duration,
    asked: u8,
}

/// An announcement that was one too many, to be taken up later.
#[derive(Debug)]
struct Waiting {
    endpoint: EndpointName,
    said: Said,
    at: Duration,
}

/// What is at this node's endpoints in one network.
#[derive(Debug)]
pub struct Book {
    entries: BTreeMap<IpAddr, Entry>,
    /// The moves of MACs that were given to no endpoint.
    macs: BTreeMap<Mac, (EndpointName, u64)>,
    /// Until when the moves of an address so far have used up what it may move.
    moved: BTreeMap<IpAddr, Duration>,
    waiting: BTreeMap<IpAddr, Waiting>,
    /// What was taken from an endpoint of this node a moment ago, and until when its answer would mean that it still has it.
    lost: BTreeMap<IpAddr, (EndpointName, Duration)>,
    questions: Vec<Question>,
    told: BTreeMap<IpAddr, Duration>,
    crowded: BTreeSet<EndpointName>,
    news: Vec<News>,
}

impl Book {
    /// One that begins with what was published before, of which it is asked at once whether it is still so.
    pub fn new(published: &Floatings, now: Duration) -> Self {
        let mut book = Self {
            entries: BTreeMap::new(),
            macs: BTreeMap::new(),
            moved: BTreeMap::new(),
            waiting: BTreeMap::new(),
            lost: BTreeMap::new(),
            questions: Vec::new(),
            told: BTreeMap::new(),
            crowded: BTreeSet::new(),
            news: Vec::new(),
        };
        for (key, floating) in published {
            let Floating { endpoint, mac, sequence } = floating.clone();
            match *key {
                FloatingKey::Address(address) => {
                    book.entries.insert(address, Entry { endpoint, mac, sequence, ask: now, asked: 0 });
                }
                FloatingKey::Mac(mac) => drop(book.macs.insert(mac, (endpoint, sequence))),
            }
        }
        book
    }

    /// What is to be published.
    pub fn said(&self) -> Floatings {
        let address = |(address, entry): (&IpAddr, &Entry)| {
            let Entry { endpoint, mac, sequence, .. } = entry;
            let floating = Floating { endpoint: endpoint.clone(), mac: *mac, sequence: *sequence };
            (FloatingKey::Address(*address), floating)
        };
        let mac = |(mac, (endpoint, sequence)): (&Mac, &(EndpointName, u64))| {
            let floating = Floating { endpoint: endpoint.clone(), mac: *mac, sequence: *sequence };
            (FloatingKey::Mac(*mac), floating)
        };
        self.entries.iter().map(address).chain(self.macs.iter().map(mac)).collect()
    }

    /// What a person should know, since this was last asked for.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// What is to be asked, since this was last asked for.
    pub fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// An endpoint of this node says something. The answer is the MAC of whoever has the address that it tries, where it is to be
    /// told that it is not free.
    pub fn heard(
        &mut self,
        name: &EndpointName,
        said: Said,
        around: Around<'_>,
        now: Duration,
    ) -> Option<Mac> {
        if said.how == How::Tried {
            let own = around.own(name)?;
            let holder = around.given.holder(said.address).filter(|holder| *holder != own.mac);
            // An announcement follows if it is free (RFC 5227 section 2.3): nothing moves by that alone.
            if said.address.is_ipv4() {
                return holder;
            }
            // By duplicate detection it does, where it may, since nothing follows.
            if holder.is_some() && !around.is_free() {
                return holder;
            }
        }
        if !around.permits(name, said.address, said.mac) {
            return None;
        }
        if let Some((_, until)) = self.lost.remove(&said.address).filter(|(endpoint, _)| endpoint == name)
            && said.how == How::Used
            && now < until
        {
            let other = other(around, said.address);
            self.tell(said.address, now, |address| News::Twice { address, endpoint: name.clone(), other });
        }
        self.place(name, said, around, now);
        None
    }

    fn place(&mut self, name: &EndpointName, said: Said, around: Around<'_>, now: Duration) {
        let Said { address, mac, how } = said;
        let others = around.others(&FloatingKey::Address(address)).map(|(rank, _)| rank);
        if others.is_none() && is_given(around, name, address, mac) {
            // It is where it belongs, and no other node says otherwise.
            if how != How::Used {
                self.entries.remove(&address);
                self.settle_macs(around);
            }
            return;
        }
        let mine = self.entries.get_mut(&address);
        if let Some(mine) = mine.filter(|mine| (&mine.endpoint, mine.mac) == (name, mac)) {
            (mine.ask, mine.asked) = (now + AGE, 0);
            if others.is_none_or(|others| others < (mine.sequence, around.me)) {
                return;
            }
        }
        let had = self.entries.get(&address).map(|entry| entry.sequence);
        let moves = others.is_some() || had.is_some();
        if how == How::Used && moves {
            return;
        }
        if had.is_none() && !self.has_room(name) {
            return;
        }
        if moves && let Err(at) = self.may_move(address, now) {
            self.waiting.insert(address, Waiting { endpoint: name.clone(), said, at });
            let other = other(around, address);
            return self.tell(address, now, |address| News::Restless {
                address,
                endpoint: name.clone(),
                other,
            });
        }
        self.waiting.remove(&address);
        let highest = others.map(|(sequence, _)| sequence).max(had).unwrap_or(0);
        let (endpoint, sequence) = (name.clone(), highest.saturating_add(1));
        self.entries.insert(address, Entry { endpoint, mac, sequence, ask: now + AGE, asked: 0 });
        if !around.given.has_mac(mac) {
            let others = around.others(&FloatingKey::Mac(mac)).map(|(rank, _)| rank);
            let known = self.macs.get(&mac);
            let right = known.is_some_and(|(endpoint, sequence)| {
                endpoint == name && others.is_none_or(|others| others < (*sequence, around.me))
            });
            if !right {
                let highest = others.map(|(sequence, _)| sequence).max(known.map(|(_, sequence)| *sequence));
                self.macs.insert(mac, (name.clone(), highest.unwrap_or(0).saturating_add(1)));
            }
        }
        self.settle_macs(around);
    }

    fn has_room(&mut self, name: &EndpointName) -> bool {
        let own = self.entries.values().filter(|entry| entry.endpoint == *name).count();
        if own < OF_ENDPOINT && self.entries.len() < OF_NETWORK {
            return true;
        }
        if self.crowded.insert(name.clone()) {
            self.news.push(News::Crowded { endpoint: name.clone() });
        }
        false
    }

    /// Whether an address may move now; else when it may.
    fn may_move(&mut self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let used = self.moved.get(&address).copied().unwrap_or(now).max(now);
        match used.checked_sub(MOVE * (MOVES - 1)).filter(|free| *free > now) {
            Some(at) => Err(at),
            None => {
                self.moved.insert(address, used + MOVE);
                Ok(())
            }
        }
    }

    fn tell(&mut self, address: IpAddr, now: Duration, news: impl FnOnce(IpAddr) -> News) {
        if self.told.get(&address).is_none_or(|told| now >= *told + TELL) {
            self.told.insert(address, now);
            self.news.push(news(address));
        }
    }

    /// Takes up what is known now: what others say above this node's own word, and endpoints that are gone.
    pub fn follow(&mut self, around: Around<'_>, now: Duration) {
        let (questions, lost) = (&mut self.questions, &mut self.lost);
        self.entries.retain(|address, entry| {
            let Entry { endpoint, mac, sequence, .. } = entry;
            if !around.permits(endpoint, *address, *mac) {
                return false;
            }
            let others = around.others(&FloatingKey::Address(*address)).map(|(rank, _)| rank);
            if others.is_some_and(|others| others > (*sequence, around.me)) {
                // If it answers, two have it.
                questions.push(Question { address: *address, mac: *mac });
                lost.insert(*address, (endpoint.clone(), now + ANSWER));
                return false;
            }
            others.is_some() || !is_given(around, endpoint, *address, *mac)
        });
        self.waiting.retain(|address, waiting| around.permits(&waiting.endpoint, *address, waiting.said.mac));
        self.crowded.retain(|name| around.own(name).is_some());
        self.settle_macs(around);
    }

    /// Says of no MAC that it is here that nothing has any more, or that is elsewhere.
    fn settle_macs(&mut self, around: Around<'_>) {
        if self.macs.is_empty() {
            return;
        }
        let Self { macs, entries, .. } = self;
        let used: BTreeSet<(Mac, &EndpointName)> =
            entries.values().map(|entry| (entry.mac, &entry.endpoint)).collect();
        macs.retain(|mac, (endpoint, sequence)| {
            let used = used.contains(&(*mac, &*endpoint));
            let others = around.others(&FloatingKey::Mac(*mac)).map(|(rank, _)| rank);
            let right = others.is_none_or(|others| others < (*sequence, around.me));
            used && right && !around.given.has_mac(*mac)
        });
    }

    /// Does what is due.
    pub fn poll(&mut self, around: Around<'_>, now: Duration) {
        let questions = &mut self.questions;
        self.entries.retain(|address, entry| {
            if now < entry.ask {
                return true;
            }
            if entry.asked == QUESTIONS {
                return false;
            }
            questions.push(Question { address: *address, mac: entry.mac });
            entry.asked += 1;
            entry.ask = now + ANSWER;
            true
        });
        let due = |waiting: &Waiting| waiting.at <= now;
        let due: Vec<IpAddr> =
            self.waiting.iter().filter(|(_, waiting)| due(waiting)).map(|(address, _)| *address).collect();
        for address in due {
            if let Some(Waiting { endpoint, said, .. }) = self.waiting.remove(&address) {
                self.place(&endpoint, said, around, now);
            }
        }
        self.moved.retain(|_, used| *used > now);
        self.lost.retain(|_, (_, until)| *until > now);
        self.told.retain(|_, told| *told + TELL > now);
        self.settle_macs(around);
    }

    /// When [`Book::poll`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        let asked = self.entries.values().map(|entry| entry.ask);
        asked.chain(self.waiting.values().map(|waiting| waiting.at)).min()
    }
}

/// Whether an address was given to an endpoint, with its MAC, or follows from that.
fn is_given(around: Around<'_>, name: &EndpointName, address: IpAddr, mac: Mac) -> bool {
    let has = |own: &Endpoint| own.addresses.iter().any(|its| its.ip() == address);
    let own = around.own(name).filter(|own| own.mac == mac);
    own.is_some_and(|own| has(own) || mac.link_local().ip() == address)
}

/// Which endpoint of another node has an address, by what is said.
fn other(around: Around<'_>, address: IpAddr) -> Option<(NodeId, EndpointName)> {
    let ((_, node), floating) = around.others(&FloatingKey::Address(address))?;
    Some((node, floating.endpoint.clone()))
}

#[cfg(test)]
mod tests;
