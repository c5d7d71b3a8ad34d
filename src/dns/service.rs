//! The name servers of a node: which networks have one, their beginning and end, and that they answer from what is
//! known now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::{DnsConfig, Served};
use super::counters::{Counters, Counting};
use super::error::DnsError;
use super::forward::{Forwarder, Forwarding};
use super::handler::Handler;
use super::server::{Server, Workers};
use super::zone::{LostName, Zone};
use crate::model::{ClusterView, NetworkId, NetworkView, NodeId, NodeName, ServiceName, ServiceSpec};

/// The name servers of a node. Clones share them.
#[derive(Clone)]
pub struct Dns(Arc<Inner>);

struct Inner {
    config: DnsConfig,
    /// In seconds, for networks that say nothing else.
    ttl: AtomicU32,
    view: watch::Receiver<Arc<ClusterView>>,
    counting: Arc<Counting>,
    forwarder: Forwarder,
    /// Held while servers begin and end.
    running: tokio::sync::Mutex<Running>,
    /// Who answers for which network, and from what.
    answering: Mutex<BTreeMap<NetworkId, Answering>>,
    lost: watch::Sender<LostNames>,
}

/// The names that endpoints were given and that others have, of each network that has a name server here and any of those.
pub type LostNames = BTreeMap<NetworkId, Vec<LostName>>;

#[derive(Default)]
struct Running {
    servers: BTreeMap<NetworkId, (Identity, Server)>,
    /// There while a server is.
    workers: Option<Arc<Workers>>,
    following: Option<CancellationToken>,
}

/// What a server was started for: another one needs another server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    served: Served,
    /// Device and inode of the namespace: at the same path there may be another one.
    namespace: Option<(u64, u64)>,
}

impl Identity {
    fn of(served: &Served) -> Self {
        let namespace = std::fs::metadata(&served.namespace).ok();
        Self { served: served.clone(), namespace: namespace.map(|file| (file.dev(), file.ino())) }
    }
}

struct Answering {
    handler: Arc<Handler>,
    source: Source,
    /// In seconds, where the network says it.
    own_ttl: Option<u32>,
    /// With which its zone was made.
    ttl: u32,
    serial: u32,
    lost: Vec<LostName>,
}

/// What a zone was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    network: NetworkView,
    services: BTreeMap<ServiceName, ServiceSpec>,
    nodes: Vec<(NodeId, NodeName, IpAddr)>,
}

impl Source {
    fn of(view: &ClusterView, network: NetworkId) -> Option<Self> {
        Some(Self {
            network: view.networks.get(&network)?.clone(),
            services: view.services_of(network).map(|(name, spec)| (name.clone(), spec.clone())).collect(),
            nodes: view.up().map(|node| (node.id, node.name.clone(), node.address.ip())).collect(),
        })
    }
}

impl Dns {
    /// Name servers that answer from `view`. None is running until [`Dns::serve`] says which.
    pub fn new(config: DnsConfig, view: watch::Receiver<Arc<ClusterView>>) -> Self {
        let forwarder =
            Forwarder::new(config.resolv_conf.clone(), config.limits.forwarded, config.limits.cached);
        Self(Arc::new(Inner {
            ttl: AtomicU32::new(in_seconds(config.ttl)),
            config,
            view,
            counting: Arc::default(),
            forwarder,
            running: tokio::sync::Mutex::default(),
            answering: Mutex::default(),
            lost: watch::Sender::default(),
        }))
    }

    /// Makes it so that exactly these networks have a name server. The same again changes nothing; a server that
    /// runs and is still wanted goes on without a pause. Servers that are no longer wanted have closed their
    /// sockets when it returns.
    ///
    /// Answers with what could not be started; it is tried again with the next call.
    pub async fn serve(&self, networks: BTreeMap<NetworkId, Served>) -> Vec<(NetworkId, DnsError)> {
        let mut running = self.0.running.lock().await;
        let wanted: BTreeMap<NetworkId, Identity> =
            networks.iter().map(|(id, served)| (*id, Identity::of(served))).collect();
        let unwanted: Vec<NetworkId> = running
            .servers
            .iter()
            .filter(|(id, (identity, _))| wanted.get(id) != Some(identity))
            .map(|(id, _)| *id)
            .collect();
        for id in unwanted {
            if let Some((_, server)) = running.servers.remove(&id) {
                self.answering().remove(&id);
                server.stop().await;
            }
        }
        // An earlier call may have been dropped half-way.
        self.answering().retain(|id, _| running.servers.contains_key(id));
        self.0.forwarder.set_ours(
            networks.values().flat_map(|served| &served.gateways).copied().collect(),
            networks.values().flat_map(|served| &served.subnets).copied().collect(),
        );
        self.tell_lost();
        if running.servers.is_empty() {
            running.workers = None;
        }
        let mut failed = Vec::new();
        for (id, identity) in wanted {
            if running.servers.contains_key(&id) {
                continue;
            }
            let workers = match &running.workers {
                Some(workers) => workers.clone(),
                None => match Workers::start() {
                    Ok(workers) => running.workers.insert(Arc::new(workers)).clone(),
                    Err(source) => {
                        failed.push((id, DnsError::Threads(source)));
                        continue;
                    }
                },
            };
            match self.start(id, &identity.served, &workers).await {
                Ok(server) => drop(running.servers.insert(id, (identity, server))),
                Err(error) => failed.push((id, error)),
            }
        }
        if running.following.is_none() && !running.servers.is_empty() {
            let stop = CancellationToken::new();
            tokio::spawn(stop.clone().run_until_cancelled_owned(self.clone().follow()));
            running.following = Some(stop);
        }
        failed
    }

    /// Takes what the configuration says now: how long answers may be kept, and where names from outside are asked for. Names are
    /// answered all the while.
    pub async fn configure(&self, ttl: Duration, resolv_conf: PathBuf) {
        self.0.forwarder.follow(resolv_conf).await;
        self.0.ttl.store(in_seconds(ttl), Ordering::Relaxed);
        let ids: Vec<NetworkId> = self.answering().keys().copied().collect();
        for id in ids {
            self.refresh(id).await;
        }
    }

    /// The networks that have a name server.
    pub async fn serving(&self) -> Vec<NetworkId> {
        self.0.running.lock().await.servers.keys().copied().collect()
    }

    /// Stops all of them. When it returns their sockets are closed, and nothing holds a namespace.
    pub async fn stop(&self) {
        self.serve(BTreeMap::new()).await;
        if let Some(following) = self.0.running.lock().await.following.take() {
            following.cancel();
        }
    }

    /// The names that endpoints were given and that others have.
    pub fn lost_names(&self) -> watch::Receiver<LostNames> {
        self.0.lost.subscribe()
    }

    /// What they have done so far.
    pub fn counters(&self) -> Counters {
        self.0.counting.snapshot()
    }

    /// The counters themselves.
    pub(super) fn counting(&self) -> &Counting {
        &self.0.counting
    }

    async fn start(&self, id: NetworkId, served: &Served, workers: &Workers) -> Result<Server, DnsError> {
        let DnsConfig { port, limits, .. } = &self.0.config;
        let view = self.0.view.borrow().clone();
        let source = Source::of(&view, id).ok_or(DnsError::Unknown(id))?;
        let ttl = self.ttl_of(served.ttl);
        let zone =
            build(view, id, self.0.config.cluster.clone(), ttl, 1).await.ok_or(DnsError::Unknown(id))?;
        let lost = zone.lost().to_vec();
        let forwarding = Forwarding { forwarder: self.0.forwarder.clone(), network: id };
        let forwarder = served.forward.then_some(forwarding);
        let counting = self.0.counting.clone();
        let handler = Arc::new(Handler::new(zone, served.subnets.clone(), forwarder, limits, counting));
        let server =
            Server::start(handler.clone(), &served.namespace, &served.gateways, *port, limits, workers)
                .await?;
        self.answering().insert(id, Answering { handler, source, own_ttl: served.ttl, ttl, serial: 1, lost });
        self.tell_lost();
        // What changed meanwhile.
        self.refresh(id).await;
        Ok(server)
    }

    fn ttl_of(&self, own: Option<u32>) -> u32 {
        // RFC 2181 section 8: a TTL has 31 bits.
        own.unwrap_or_else(|| self.0.ttl.load(Ordering::Relaxed)).min(u32::MAX >> 1)
    }

    /// Keeps the zones as the view is.
    async fn follow(self) {
        let mut view = self.0.view.clone();
        view.mark_changed();
        while view.changed().await.is_ok() {
            let begun = Instant::now();
            let ids: Vec<NetworkId> = self.answering().keys().copied().collect();
            for id in ids {
                self.refresh(id).await;
            }
            // Where there are very many names and they change all the time, half of the time is for others.
            tokio::time::sleep(begun.elapsed()).await;
        }
    }

    /// Makes the zone of a network anew if anything in it has changed.
    async fn refresh(&self, id: NetworkId) {
        let view = self.0.view.borrow().clone();
        let Some(source) = Source::of(&view, id) else { return };
        let (ttl, serial) = match self.answering().get(&id) {
            Some(answering) => match self.ttl_of(answering.own_ttl) {
                ttl if answering.source == source && answering.ttl == ttl => return,
                ttl => (ttl, answering.serial.wrapping_add(1)),
            },
            None => return,
        };
        let Some(zone) = build(view, id, self.0.config.cluster.clone(), ttl, serial).await else { return };
        if let Some(answering) = self.answering().get_mut(&id) {
            answering.lost = zone.lost().to_vec();
            answering.handler.set_zone(zone);
            (answering.source, answering.ttl, answering.serial) = (source, ttl, serial);
        }
        self.tell_lost();
    }

    fn tell_lost(&self) {
        let answering = self.answering();
        let any = answering.iter().filter(|(_, of)| !of.lost.is_empty());
        let lost: LostNames = any.map(|(id, of)| (*id, of.lost.clone())).collect();
        drop(answering);
        self.0.lost.send_if_modified(|before| {
            let is_new = *before != lost;
            *before = lost;
            is_new
        });
    }

    fn answering(&self) -> MutexGuard<'_, BTreeMap<NetworkId, Answering>> {
        self.0.answering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)
}

async fn build(
    view: Arc<ClusterView>,
    id: NetworkId,
    cluster: String,
    ttl: u32,
    serial: u32,
) -> Option<Arc<Zone>> {
    let work =
        move || Some(Arc::new(Zone::build(&view, id, ttl)?.with_mesh(&view, &cluster).with_serial(serial)));
    tokio::task::spawn_blocking(work).await.ok().flatten()
}
