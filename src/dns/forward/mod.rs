//! Names from outside: asked for at the node's resolvers, and kept for a while.
//!
//! Owns: which names go outside at all, how many questions are under way, that one question is under way only once,
//! and what is kept. Does not own: names of ours (`zone`), messages to clients (`handler`).

mod cache;
mod resolv_conf;
mod upstream;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hickory_proto::op::Query;
use hickory_proto::rr::Name;
use ipnetwork::IpNetwork;
use tokio_util::sync::CancellationToken;

use super::shares::{Shares, Ticket, Who};
use super::zone;
use crate::model::NetworkId;
pub(super) use cache::{Cache, Key, Outside};
use resolv_conf::Followed;
#[cfg(feature = "fuzzing")]
pub(super) use resolv_conf::name_servers;
pub use resolv_conf::without_resolvers;
use upstream::Order;
pub(super) use upstream::PAYLOAD;
#[cfg(feature = "fuzzing")]
pub(super) use upstream::answers;

/// Why there is no answer from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The name does not exist outside, or must not be asked for there.
    Nowhere,
    /// Too many questions are under way.
    Overloaded,
    /// No resolver answered in time, or the node has none.
    Silence,
}

/// What came of a question, and whether it was known before.
pub(super) struct Told {
    pub answer: Outside,
    pub cached: bool,
}

type Flight = Shared<BoxFuture<'static, Result<Arc<Outside>, NoAnswer>>>;

/// What is ours, and so never asked for outside, in none of the networks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ours {
    addresses: BTreeSet<IpAddr>,
    subnets: Vec<IpNetwork>,
}

struct Inner {
    servers: Followed,
    port: Option<u16>,
    order: Order,
    cache: Mutex<Cache>,
    flights: Mutex<HashMap<Key, Flight>>,
    /// Who has how many questions under way.
    shares: Mutex<Shares<NetworkId, CancellationToken>>,
    ours: Mutex<Ours>,
}

/// Asks the node's resolvers. Clones share everything.
#[derive(Clone)]
pub(super) struct Forwarder(Arc<Inner>);

/// Asks them for one network.
#[derive(Clone)]
pub(super) struct Forwarding {
    /// Who does.
    pub forwarder: Forwarder,
    /// Which network.
    pub network: NetworkId,
}

impl Forwarder {
    /// Asks the servers that `resolv_conf` names, with at most `most` questions under way.
    pub fn new(resolv_conf: PathBuf, most: usize, cached: usize) -> Self {
        Self::with_port(resolv_conf, most, cached, None)
    }

    /// The same with another port than 53.
    fn with_port(resolv_conf: PathBuf, most: usize, cached: usize, port: Option<u16>) -> Self {
        Self(Arc::new(Inner {
            servers: Followed::new(resolv_conf),
            port,
            order: Order::default(),
            cache: Mutex::new(Cache::new(cached)),
            flights: Mutex::default(),
            shares: Mutex::new(Shares::new(most, usize::MAX)),
            ours: Mutex::default(),
        }))
    }

    /// Asks those that another file names, from now on.
    pub async fn follow(&self, resolv_conf: PathBuf) {
        self.0.servers.follow(resolv_conf).await;
    }

    /// Says which addresses our own servers have, and which subnets' reverse names are ours.
    pub fn set_ours(&self, addresses: BTreeSet<IpAddr>, subnets: Vec<IpNetwork>) {
        let new = Ours { addresses, subnets };
        let mut ours = lock(&self.0.ours);
        if *ours != new {
            *ours = new;
            lock(&self.0.cache).clear();
        }
    }

    /// The answer to `query`, that `who` asks. If nobody waits for it any more it is still asked for and kept, as long as
    /// `who` need not give way to somebody else.
    pub async fn ask(&self, who: Who<NetworkId>, query: &Query, key: Key) -> Result<Told, NoAnswer> {
        if self.stays_here(query.name()) {
            return Err(NoAnswer::Nowhere);
        }
        // Also where it is known: another resolver may know otherwise.
        let (upstreams, version) = self.0.upstreams().await;
        if let Some(answer) = lock(&self.0.cache).get(&key, Instant::now()) {
            return Ok(Told { answer, cached: true });
        }
        let (flight, own) = self.flight(who, query, key.clone(), upstreams.clone(), version)?;
        let answer = match flight.await {
            // Somebody else's, who had to give way: that is no reason to get no answer.
            Err(NoAnswer::Overloaded) if !own => self.flight(who, query, key, upstreams, version)?.0.await?,
            answer => answer?,
        };
        Ok(Told { answer: Outside::clone(&answer), cached: false })
    }

    fn stays_here(&self, name: &Name) -> bool {
        let last = name.iter().next_back().unwrap_or_default();
        zone::SPECIAL.iter().any(|domain| last.eq_ignore_ascii_case(domain))
            || zone::is_reverse_of(name, &lock(&self.0.ours).subnets)
    }

    /// Joins the same question if it is under way: also when a resolver of the node asks us what we asked it,
    /// that ends in a timeout and not in a storm.
    fn flight(
        &self,
        who: Who<NetworkId>,
        query: &Query,
        key: Key,
        upstreams: Vec<SocketAddr>,
        version: u64,
    ) -> Result<(Flight, bool), NoAnswer> {
        let mut flights = lock(&self.0.flights);
        if let Some(flight) = flights.get(&key) {
            return Ok((flight.clone(), false));
        }
        let ends = CancellationToken::new();
        let entered = lock(&self.0.shares).enter(who, ends.clone());
        let (ticket, displaced) = entered.ok_or(NoAnswer::Overloaded)?;
        if let Some(displaced) = displaced {
            displaced.cancel();
        }
        let (this, query) = (self.0.clone(), query.clone());
        let landing = Landing { inner: self.0.clone(), key: key.clone(), ticket };
        let (question, cleared) = (key.clone(), lock(&self.0.cache).cleared());
        let flight = async move {
            let _landing = landing;
            let asked = ends.run_until_cancelled(this.order.ask(&upstreams, &query, &question)).await;
            let answer = asked.ok_or(NoAnswer::Overloaded)?.ok_or(NoAnswer::Silence)?;
            let answer = Arc::new(answer);
            let mut cache = lock(&this.cache);
            if cache.keep_to(version) && cache.cleared() == cleared {
                cache.put(question, answer.clone(), Instant::now());
            }
            drop(cache);
            Ok(answer)
        };
        let flight = flight.boxed().shared();
        flights.insert(key, flight.clone());
        // Driven to its end whoever waits, so that it always comes off the list.
        tokio::spawn(flight.clone());
        Ok((flight, true))
    }
}

impl Inner {
    /// The node's resolvers, less our own servers, and how often they have become others. When they have, what the
    /// former ones said is forgotten.
    async fn upstreams(&self) -> (Vec<SocketAddr>, u64) {
        let (mut servers, version) = self.servers.servers().await;
        lock(&self.cache).keep_to(version);
        let ours = lock(&self.ours);
        servers.retain(|server| !ours.addresses.contains(&server.ip()));
        if let Some(port) = self.port {
            servers.iter_mut().for_each(|server| server.set_port(port));
        }
        (servers, version)
    }
}

/// Takes a question off the lists when it has its answer, or will never have one.
struct Landing {
    inner: Arc<Inner>,
    key: Key,
    ticket: Ticket<NetworkId>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        lock(&self.inner.flights).remove(&self.key);
        lock(&self.inner.shares).leave(self.ticket);
    }
}

/// What a panic elsewhere left behind is as good as before: every change here is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
