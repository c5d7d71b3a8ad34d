//! mDNS on each network that this node has: the engine between its sockets, the cluster and the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::mdns_counts::MdnsCounts;
use super::{contests, each};
use crate::api::EventLog;
use crate::cluster::{Cluster, Look};
use crate::kernel::{BRIDGE, Linux, STAYS_MARK};
use crate::mdns::{MESSAGE_MAX, MdnsError, Received, Sockets};
use crate::model::{
    ClusterView, Endpoint, EndpointName, Mac, NetworkId, NetworkSpec, NetworkView, NodeId, SpoofingMode,
    ZeroconfFact, ZeroconfMode,
};
use crate::state::State;
use crate::zeroconf::{
    Arrival, Config, Contest, Destination, Engine, Facts, Family, GROUP_V4, GROUP_V6, Output, OwnEndpoint,
    PORT, RemoteNode, Sought, Uncarried,
};

/// How long after the sockets of a network could not be made it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked whether a network's bridge is still the one that the sockets are on.
const CHECK: Duration = Duration::from_secs(5);

/// How long what was published is gathered before it is kept on disk.
const KEEP: Duration = Duration::from_secs(1);

/// Keeps mDNS going in every network that this node has.
pub struct Zeroconf {
    /// Where facts go and come from.
    pub cluster: Cluster,
    /// Where the networks' namespaces are.
    pub kernel: Linux,
    /// The networks that this node has.
    pub present: watch::Receiver<BTreeSet<NetworkId>>,
    /// Where the engines' counters go.
    pub tally: MdnsCounts,
    /// Where what was published is kept.
    pub state: State,
    /// Where people are told of what they should know.
    pub events: EventLog,
}

impl Zeroconf {
    /// Keeps at it until `stop`; then no socket is left.
    pub async fn run(self, stop: CancellationToken) {
        let begin = |id| {
            let network = Network {
                id,
                cluster: self.cluster.clone(),
                kernel: self.kernel.clone(),
                tally: self.tally.clone(),
                state: self.state.clone(),
                events: self.events.clone(),
                started: Instant::now(),
            };
            network.run()
        };
        let gone = |id| {
            if let Err(error) = self.state.delete(&kept_at(id)) {
                tracing::warn!(network = %id, %error, "cannot forget what mDNS brought to light");
            }
        };
        each::network(self.present.clone(), &stop, begin, gone).await;
    }
}

/// mDNS in one network.
struct Network {
    id: NetworkId,
    cluster: Cluster,
    kernel: Linux,
    tally: MdnsCounts,
    state: State,
    events: EventLog,
    started: Instant,
}

fn kept_at(network: NetworkId) -> String {
    format!("zeroconf/{network}")
}

/// What this node published of a network before its agent was restarted, as far as it is about one of `endpoints`.
pub fn remembered(state: &State, network: NetworkId, endpoints: &BTreeSet<&EndpointName>) -> Facts {
    let kept: Option<Vec<ZeroconfFact>> = state.get(&kept_at(network)).unwrap_or_else(|error| {
        tracing::warn!(%network, %error, "what mDNS brought to light before is lost");
        None
    });
    let keyed = kept.into_iter().flatten().map(|fact| (fact.found.key(), fact));
    keyed.filter(|(key, fact)| endpoints.contains(&fact.endpoint) && fact.is_sound(key)).collect()
}

impl Drop for Network {
    fn drop(&mut self) {
        self.tally.end(self.id);
    }
}

/// What an engine was last told, to see what is new: each part is replaced when it changes.
#[derive(Default)]
struct Told {
    own: Arc<BTreeMap<EndpointName, Endpoint>>,
    others: BTreeMap<NodeId, RemoteNode>,
}

impl Told {
    fn of(view: &ClusterView, network: &NetworkView) -> Self {
        let up = |id: &NodeId| *id != view.me && view.is_up(id);
        let other = |id: &NodeId| RemoteNode {
            endpoints: network.endpoints.get(id).cloned().unwrap_or_default(),
            facts: network.zeroconf.get(id).cloned().unwrap_or_default(),
        };
        Self {
            own: network.endpoints.get(&view.me).cloned().unwrap_or_default(),
            others: network.endpoints.keys().filter(|id| up(id)).map(|id| (*id, other(id))).collect(),
        }
    }

    fn same_others(&self, than: &Self) -> bool {
        let alike = |(a, b): (&RemoteNode, &RemoteNode)| {
            Arc::ptr_eq(&a.endpoints, &b.endpoints) && Arc::ptr_eq(&a.facts, &b.facts)
        };
        self.others.keys().eq(than.others.keys()) && self.others.values().zip(than.others.values()).all(alike)
    }
}

/// An engine and what goes on around it.
struct Talk {
    engine: Engine,
    /// The network as it was when it began.
    spec: Arc<NetworkSpec>,
    families: BTreeSet<Family>,
    told: Told,
    /// Packets to be sent.
    unsent: Vec<(Destination, Vec<u8>)>,
    /// What is to be published and is not yet.
    unsaid: Option<Arc<Facts>>,
    /// What was published last: it is lost if that was before this node took part in the network.
    said: Arc<Facts>,
    /// When that is to be kept.
    keep: Option<tokio::time::Instant>,
    /// What a person is to be told.
    contests: Vec<Contest>,
    uncarried: Vec<Uncarried>,
    /// What other nodes are to be told that was asked for here.
    looks: Vec<(NodeId, Vec<Sought>)>,
    takes_part: bool,
}

impl Talk {
    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, bytes } => self.unsent.push((to, bytes)),
                Output::Publish(facts) => self.unsaid = Some(facts),
                Output::Contested(contest) => self.contests.push(contest),
                Output::Uncarried(what) => self.uncarried.push(what),
                Output::Look { node, sought } => self.looks.push((node, sought)),
            }
        }
    }
}

impl Network {
    async fn run(self) {
        let mut views = self.cluster.view();
        let mut looks = self.cluster.looks();
        let mut talk: Option<Talk> = None;
        let mut failing = false;
        loop {
            let view = views.borrow_and_update().clone();
            let Some(network) = view.networks.get(&self.id) else {
                if views.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let spec = &network.spec;
            let sockets = match self.sockets(spec).await {
                Ok(sockets) => sockets,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(network = %spec.name, %error, "no mDNS");
                    }
                    sleep(RETRY).await;
                    continue;
                }
            };
            failing = false;
            let (v4, v6) = sockets.as_ref().map_or((false, false), Sockets::families);
            let families: BTreeSet<Family> = [(v4, Family::V4), (v6, Family::V6)]
                .into_iter()
                .filter_map(|(open, family)| open.then_some(family))
                .collect();
            let before = match &talk {
                Some(talk) => Arc::clone(&talk.said),
                None => {
                    let own = network.endpoints.get(&view.me).cloned().unwrap_or_default();
                    Arc::new(remembered(&self.state, self.id, &own.keys().collect()))
                }
            };
            let same = |talk: &Talk| talk.families == families && !is_set_anew(&talk.spec, spec);
            let mut going_on = match talk.take().filter(same) {
                Some(talk) => talk,
                None => self.begin(&view, spec, families, &before),
            };
            self.update(&mut going_on, &view);
            match self.serve(&mut going_on, sockets.as_ref(), &mut views, &mut looks).await {
                Ok(()) => tracing::debug!(network = %spec.name, "another bridge: mDNS begins anew"),
                Err(error) => tracing::debug!(network = %spec.name, %error, "mDNS broke off"),
            }
            talk = Some(going_on);
            sleep(RETRY / 10).await;
        }
    }

    fn keep(&self, facts: &Facts) {
        if let Err(error) = self.state.put(&kept_at(self.id), &facts.values().collect::<Vec<_>>()) {
            tracing::warn!(network = %self.id, %error, "cannot keep what mDNS brought to light");
        }
    }

    /// The sockets of a network; `None` where it is to have none.
    async fn sockets(&self, spec: &NetworkSpec) -> Result<Option<Sockets>, MdnsError> {
        if spec.options.zeroconf == ZeroconfMode::Off {
            return Ok(None);
        }
        let ipv4 = spec.subnets.iter().any(IpNetwork::is_ipv4);
        Sockets::open(&self.kernel.namespace_path(self.id), BRIDGE, ipv4).await.map(Some)
    }

    fn begin(
        &self,
        view: &ClusterView,
        spec: &Arc<NetworkSpec>,
        families: BTreeSet<Family>,
        before: &Facts,
    ) -> Talk {
        let link_local = Mac::of_bridge(&self.id).link_local().ip();
        let me = view.myself().map(|me| spec.node_addresses(me.index)).unwrap_or_default();
        let own = spec.gateways.iter().copied().chain([link_local.into()]).chain(me).collect();
        self.tally.begin(self.id, &spec.name);
        let seed = rand::random();
        let config = Config {
            mode: spec.options.zeroconf,
            node: view.me,
            own,
            subnets: spec.subnets.clone(),
            any_address: spec.options.spoofing == SpoofingMode::Allow,
            families: families.clone(),
            seed,
        };
        Talk {
            engine: Engine::new(config, before.clone()),
            spec: Arc::clone(spec),
            families,
            told: Told::default(),
            unsent: Vec::new(),
            unsaid: None,
            said: Arc::default(),
            keep: None,
            contests: Vec::new(),
            uncarried: Vec::new(),
            looks: Vec::new(),
            takes_part: false,
        }
    }

    /// Until the sockets are of no use any more.
    async fn serve(
        &self,
        talk: &mut Talk,
        sockets: Option<&Sockets>,
        views: &mut watch::Receiver<Arc<ClusterView>>,
        looks: &mut broadcast::Receiver<Arc<Look>>,
    ) -> io::Result<()> {
        // One byte more than a message may have: what takes it is too long.
        let mut buffer = vec![0; MESSAGE_MAX + 1];
        let path = self.kernel.namespace_path(self.id);
        let mut check = tokio::time::Instant::now() + CHECK;
        loop {
            self.carry_out(talk, sockets).await?;
            let deadline = talk.engine.deadline();
            let keep = talk.keep;
            tokio::select! {
                received = receive(sockets, &mut buffer) => {
                    let received = received?;
                    let arrival = arrival(&received);
                    let outputs = talk.engine.packet(self.now(), &arrival, &buffer[..received.length]);
                    talk.take(outputs);
                }
                look = looks.recv() => match look {
                    Ok(look) if look.network == self.id => {
                        let sought = look.sought.iter().cloned().map(|(name, kind)| Sought { name, kind });
                        let outputs = talk.engine.look(self.now(), &sought.collect::<Vec<_>>());
                        talk.take(outputs);
                    }
                    // Those that are missed are told again when they are asked for again.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                () = self.at(deadline) => {
                    let outputs = talk.engine.poll(self.now());
                    talk.take(outputs);
                }
                () = sleep_until(keep.unwrap_or(check)), if keep.is_some() => {
                    talk.keep = None;
                    self.keep(&talk.said);
                }
                changed = views.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let view = views.borrow_and_update().clone();
                    let spec = view.networks.get(&self.id).map(|network| &network.spec);
                    if spec.is_some_and(|spec| is_set_anew(&talk.spec, spec)) {
                        return Ok(());
                    }
                    self.update(talk, &view);
                }
                () = sleep_until(check) => {
                    if let Some(sockets) = sockets && !sockets.are_current(&path, BRIDGE).await {
                        return Ok(());
                    }
                    check = tokio::time::Instant::now() + CHECK;
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn at(&self, time: Option<Duration>) {
        match time {
            Some(time) => sleep_until((self.started + time).into()).await,
            None => std::future::pending().await,
        }
    }

    /// Tells the engine what is new.
    fn update(&self, talk: &mut Talk, view: &ClusterView) {
        let Some(network) = view.networks.get(&self.id) else { return };
        let told = Told::of(view, network);
        // First its own: an engine that has just begun says again at once what was said before, and nothing less.
        if !Arc::ptr_eq(&told.own, &talk.told.own) {
            let local = |(name, endpoint): (&EndpointName, &Endpoint)| (name.clone(), endpoint.into());
            let local: BTreeMap<EndpointName, OwnEndpoint> = told.own.iter().map(local).collect();
            let outputs = talk.engine.set_local(self.now(), local);
            talk.take(outputs);
        }
        if !talk.told.same_others(&told) {
            let outputs = talk.engine.set_remote(self.now(), told.others.clone());
            talk.take(outputs);
        }
        talk.told = told;
        let takes_part = view.myself().is_some_and(|me| me.networks.contains(&self.id));
        if takes_part && !talk.takes_part && talk.unsaid.is_none() {
            talk.unsaid = Some(Arc::clone(&talk.said));
        }
        talk.takes_part = takes_part;
    }

    /// Does what the engine wants done.
    async fn carry_out(&self, talk: &mut Talk, sockets: Option<&Sockets>) -> io::Result<()> {
        self.tally.set(self.id, talk.engine.counters());
        let view = self.cluster.view().borrow().clone();
        for contest in std::mem::take(&mut talk.contests) {
            contests::tell(&self.events, &view, self.id, &contest);
        }
        for what in std::mem::take(&mut talk.uncarried) {
            contests::tell_uncarried(&self.events, &view, self.id, &what);
        }
        for (node, sought) in std::mem::take(&mut talk.looks) {
            let sought = sought.into_iter().map(|Sought { name, kind }| (name, kind)).collect();
            self.cluster.look(node, Look { network: self.id, sought });
        }
        for (to, bytes) in std::mem::take(&mut talk.unsent) {
            if let Some(sockets) = sockets {
                send(sockets, to, &bytes)?;
            }
        }
        if talk.takes_part
            && let Some(facts) = talk.unsaid.take()
        {
            if let Err(error) = self.cluster.set_zeroconf(self.id, facts.as_ref().clone()).await {
                tracing::warn!(network = %self.id, %error, "cannot publish what mDNS brought to light");
            }
            talk.said = facts;
            talk.keep.get_or_insert_with(|| tokio::time::Instant::now() + KEEP);
        }
        Ok(())
    }
}

/// Whether a network's mDNS is to be done in another way than before.
fn is_set_anew(before: &NetworkSpec, now: &NetworkSpec) -> bool {
    let settings = |spec: &NetworkSpec| (spec.options.zeroconf, spec.options.spoofing);
    settings(before) != settings(now)
        || before.subnets != now.subnets
        || before.gateways != now.gateways
        || before.options.node_addresses != now.options.node_addresses
}

async fn receive(sockets: Option<&Sockets>, buffer: &mut [u8]) -> io::Result<Received> {
    match sockets {
        Some(sockets) => sockets.receive(buffer).await,
        None => std::future::pending().await,
    }
}

fn arrival(received: &Received) -> Arrival {
    Arrival { from: received.from, multicast: received.to.is_multicast(), port: None }
}

/// # Errors
/// The device is gone. What cannot be sent for another reason is dropped, as any datagram may be.
fn send(sockets: &Sockets, to: Destination, bytes: &[u8]) -> io::Result<()> {
    let group = |family| match family {
        Family::V4 => (GROUP_V4, PORT).into(),
        Family::V6 => (GROUP_V6, PORT).into(),
    };
    let (to, mark) = match to {
        Destination::Group(family) => (group(family), 0),
        Destination::Here(family) => (group(family), STAYS_MARK),
        Destination::Unicast(to) => (to, 0),
    };
    match sockets.send(bytes, to, mark) {
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENODEV | nix::libc::ENXIO)) => {
            Err(error)
        }
        Err(error) => {
            tracing::debug!(%to, %error, "cannot send mDNS");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
