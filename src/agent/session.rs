//! A node's time in one cluster: what runs from `init`, `join` or a restart until it leaves or the agent stops.
//!
//! Owns the order in which the parts come up and go down. Does not own what any of them does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::borrowing::Borrowing;
use super::captures::Captures;
use super::drops::{Counting, DropsHere};
use super::floating::Floating;
use super::fresh::Fresh;
use super::health::{Health, Sources};
use super::lending::Lender;
use super::mdns_counts::MdnsCounts;
use super::metrics::{Meter, Metered};
use super::presence::Presence;
use super::routers::Routers;
use super::signs::Watched;
use super::tracer::Tracer;
use super::ways_of::WaysOf;
use super::zeroconf::Zeroconf;
use super::{Context, floating, nameless, names, news, subnets, unknown, watching, zeroconf};
use crate::api::ApiError;
use crate::cluster::{Cluster, ClusterConfig, InitConfig, Initial, JoinConfig, Timing};
use crate::config::Config;
use crate::dns::{Dns, DnsConfig, Limits};
use crate::kernel::{Linux, Underlay};
use crate::local::Local;
use crate::machine;
use crate::model::{NodeId, NodeIndex, NodeName};
use crate::multicast;
use crate::reconcile::{
    self, Reconciler, SeenUnderlay, Settings, handing_on, remembered_keys, vanished, vteps,
};

/// How long the cluster may take to say who its manager is, before what it said last counts.
const MANAGER_PATIENCE: Duration = Duration::from_millis(500);

/// A node's time in one cluster.
pub struct Session {
    /// Its membership.
    pub cluster: Cluster,
    /// What keeps its kernel in order.
    pub reconciler: Reconciler,
    /// What answers for its networks' names.
    pub dns: Dns,
    /// What mDNS has counted in its networks.
    pub mdns: MdnsCounts,
    /// Who comes and goes.
    pub presence: Presence,
    /// Whether frames pass to the others.
    pub health: Health,
    /// What the kernel dropped.
    pub counting: Counting,
    /// All that was dropped here.
    pub drops: DropsHere,
    /// What passed, and what was measured of it before.
    pub(super) metered: Fresh<Metered>,
    pub(super) meter: Arc<Mutex<Meter>>,
    /// Who hands out indexes, as far as it is known.
    pub manager: Fresh<Option<NodeId>>,
    /// What borrows addresses for this node.
    pub borrowing: Borrowing,
    /// What is listened to.
    pub captures: Captures,
    /// What looks at this node's parts of paths.
    pub tracer: Tracer,
    /// What a full pass would do.
    pub planned: Fresh<Result<Vec<String>, String>>,
    context: Context,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What `join` needs beside the defaults.
pub struct Join {
    /// This node's name.
    pub name: NodeName,
    /// The line that `lanmesh token show` prints.
    pub token: String,
    /// The manager, HOST or HOST:PORT.
    pub manager: String,
    /// Where the others reach this node.
    pub advertise: Option<SocketAddr>,
    /// The index that is wanted.
    pub index: Option<NodeIndex>,
}

impl Session {
    /// Makes a cluster.
    pub async fn init(context: &Context, name: NodeName, advertise: SocketAddr) -> Result<Self, ApiError> {
        let underlay = context.kernel.underlay(advertise.ip(), Vec::new()).await?;
        let common = common(context, underlay.mtu);
        let cluster = Cluster::create(InitConfig { common, name, advertise }).await?;
        watching::entered(context)?;
        Self::start(context, cluster, Local::load(context.state.clone())?).await
    }

    /// Joins a cluster.
    pub async fn join(context: &Context, join: Join) -> Result<Self, ApiError> {
        let Join { name, token, manager, advertise, index } = join;
        let mut common = common(context, ClusterConfig::new(context.state.clone()).underlay_mtu);
        if let Some(advertise) = advertise {
            common.underlay_mtu = context.kernel.underlay(advertise.ip(), Vec::new()).await?.mtu;
        }
        let cluster = Cluster::join(JoinConfig { common, name, token, manager, advertise, index }).await?;
        watching::entered(context)?;
        Self::start(context, cluster, Local::load(context.state.clone())?).await
    }

    /// Goes on where the agent stopped, crashed or was rebooted; `None` if it was in no cluster.
    ///
    /// Endpoints whose container went meanwhile are not published again.
    pub async fn resume(context: &Context) -> Result<Option<Self>, ApiError> {
        let mut local = Local::load(context.state.clone())?;
        let observed = context.kernel.observe().await?;
        let gone = vanished(local.endpoints.iter(), &observed);
        let mut initial = Initial::default();
        for record in local.endpoints.iter().filter(|record| !gone.contains(&record.key())) {
            initial.networks.entry(record.network).or_default().push(record.endpoint.clone());
            if record.draining {
                initial.draining.entry(record.network).or_default().insert(record.endpoint.name.clone());
            }
            if !record.also.is_empty() {
                let of_network = initial.also.entry(record.network).or_default();
                of_network.insert(record.endpoint.name.clone(), record.also.clone());
            }
            initial.mesh_ports.extend(record.mesh_ports().map(|ports| (record.key(), ports)));
        }
        initial.everywhere = handing_on(&context.kernel).await?;
        for network in initial.networks.keys() {
            let joined = context.kernel.memberships(*network).await?;
            initial.groups.insert(*network, multicast::to_publish(&joined));
        }
        for (network, endpoints) in &initial.networks {
            let names = endpoints.iter().map(|endpoint| &endpoint.name).collect();
            initial.zeroconf.insert(*network, zeroconf::remembered(&context.state, *network, &names));
            initial.floating.insert(*network, floating::remembered(&context.state, *network));
        }
        initial.mesh = remembered_keys(&context.state, context.config.wireguard_port)?;
        let seen = SeenUnderlay::load(&context.state)?;
        let mut common = common(context, ClusterConfig::new(context.state.clone()).underlay_mtu);
        // It is looked at anew once it is known which ways lead to others: nothing else is said until then.
        common.underlay_mtu = seen.map_or(common.underlay_mtu, |seen| seen.mtu);
        let Some(cluster) = Cluster::resume(common, initial).await? else { return Ok(None) };
        open_leases(&cluster, &mut local)?;
        for key in &gone {
            tracing::info!(network = %key.network, endpoint = %key.name, "its container went while the agent was down");
            local.remove(key)?;
        }
        Self::start(context, cluster, local).await.map(Some)
    }

    async fn start(context: &Context, cluster: Cluster, local: Local) -> Result<Self, ApiError> {
        let view = cluster.view().borrow().clone();
        if let Some(vtep) = view.myself().map(|me| me.vtep) {
            match context.kernel.underlay(vtep, vteps(&view)).await {
                Ok(Underlay { mtu, device }) => {
                    cluster.set_self(vtep, mtu).await?;
                    SeenUnderlay { vtep, mtu, device }.save(&context.state)?;
                }
                Err(error) => tracing::warn!(%error, "the underlay is not up yet"),
            }
        }
        cluster.tell_events(watching::teller(context)?);
        let settings = Settings {
            vxlan_port: context.config.vxlan_port,
            wireguard_port: context.config.wireguard_port,
            outward_ports: context.config.outward_ports,
            grace: context.config.grace,
            detect: context.config.detect,
            follow_address: context.config.follow_address,
        };
        let (reconciler, happenings) = Reconciler::new(
            Arc::new(cluster.clone()),
            Arc::new(context.kernel.clone()),
            context.state.clone(),
            settings,
            local,
        );
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let presence = Presence::default();
        let told = (presence.clone(), context.config.detect);
        tasks.spawn(news::tell(context.events.clone(), cluster.clone(), happenings, told, stop.clone()));
        // Seen before it is used: what changes from now on is followed.
        let mut configured = context.configured.subscribe();
        let now = configured.borrow_and_update().clone();
        let dns = Dns::new(dns_config(&now, cluster.id()), cluster.view());
        let served = names::Serving {
            dns: dns.clone(),
            kernel: context.kernel.clone(),
            view: cluster.view(),
            present: reconciler.present(),
            config: configured,
            specs: BTreeMap::new(),
        };
        tasks.spawn(served.run(stop.clone()));
        let mdns = MdnsCounts::default();
        let zeroconf = Zeroconf {
            cluster: cluster.clone(),
            kernel: context.kernel.clone(),
            present: reconciler.present(),
            tally: mdns.clone(),
            state: context.state.clone(),
            events: context.events.clone(),
        };
        tasks.spawn(zeroconf.run(stop.clone()));
        let floating = Floating {
            cluster: cluster.clone(),
            kernel: context.kernel.clone(),
            present: reconciler.present(),
            state: context.state.clone(),
            events: context.events.clone(),
        };
        tasks.spawn(floating.run(stop.clone()));
        let routers = Routers {
            cluster: cluster.clone(),
            kernel: context.kernel.clone(),
            present: reconciler.present(),
        };
        tasks.spawn(routers.run(stop.clone()));
        let lender = Lender::new(cluster.clone(), reconciler.clone());
        tasks.spawn(lender.clone().run(stop.clone()));
        let borrowing = Borrowing::new(cluster.clone(), reconciler.clone(), lender, patience(context));
        tasks.spawn(subnets::follow(reconciler.clone(), cluster.clone(), borrowing.clone(), stop.clone()));
        let (events, kernel) = (context.events.clone(), context.kernel.clone());
        tasks.spawn(super::drops::tell(
            events.clone(),
            cluster.clone(),
            reconciler.clone(),
            kernel,
            stop.clone(),
        ));
        tasks.spawn(nameless::tell(events, cluster.clone(), dns.lost_names(), stop.clone()));
        if let Some(kind) = context.config.unknown_kind {
            tasks.spawn(unknown::publish(cluster.clone(), kind, stop.clone()));
        }
        tasks.spawn(reconciler.clone().run(stop.clone()));
        tasks.spawn(reconciler.clone().follow_groups(stop.clone()));
        tasks.spawn(reconciler.clone().follow_silence(stop.clone()));
        tasks.spawn(reconciler.clone().follow_paths(stop.clone()));
        let health = Health::default();
        let ways =
            WaysOf { health: health.clone(), view: cluster.view(), vxlan_port: context.config.vxlan_port };
        cluster.tell_ways(Arc::new(ways));
        let sources = Sources {
            cluster: cluster.clone(),
            kernel: context.kernel.clone(),
            present: reconciler.present(),
            events: context.events.clone(),
            vxlan_port: context.config.vxlan_port,
        };
        tasks.spawn(health.clone().run(sources, stop.clone()));
        let watched = Watched {
            cluster: cluster.clone(),
            kernel: context.kernel.clone(),
            reconciler: reconciler.clone(),
            events: context.events.clone(),
        };
        tasks.spawn(health.clone().watch(watched, stop.clone()));
        let tracer = Tracer::new(
            cluster.clone(),
            context.kernel.clone(),
            reconciler.clone(),
            health.clone(),
            context.config.vxlan_port,
        );
        tasks.spawn(tracer.clone().serve(stop.clone()));
        let captures =
            Captures::new(context.kernel.clone(), cluster.clone(), context.config.captures_for_others);
        tasks.spawn(captures.clone().serve(stop.clone()));
        let counting = Counting::new(context.kernel.clone(), reconciler.clone());
        let drops = DropsHere {
            cluster: cluster.clone(),
            counting: counting.clone(),
            reconciler: reconciler.clone(),
            dns: dns.clone(),
            mdns: mdns.clone(),
        };
        tasks.spawn(drops.clone().serve(stop.clone()));
        tasks.close();
        Ok(Self {
            cluster,
            reconciler,
            dns,
            mdns,
            presence,
            health,
            counting,
            drops,
            metered: Fresh::default(),
            meter: Arc::default(),
            manager: Fresh::default(),
            borrowing,
            captures,
            tracer,
            planned: Fresh::default(),
            context: context.clone(),
            stop,
            tasks,
        })
    }

    /// Stops without a word: everything in the kernel stays and goes on forwarding.
    pub async fn suspend(&self) {
        self.halt().await;
        self.cluster.shutdown().await;
    }

    /// Leaves the cluster; what this node has stays for [`clear_away`]. From now on it runs no more, whatever comes of
    /// the rest.
    pub async fn leave(&self) {
        self.halt().await;
        if let Err(error) = self.cluster.leave().await {
            // They will see it dead, and `lanmesh node rm` there forgets it.
            tracing::warn!(%error, "the other nodes may not have heard that this one leaves");
        }
    }

    /// Stops after it was shut out: there is nobody to say it to. What this node has stays for [`clear_away`].
    pub async fn abandon(&self) {
        self.halt().await;
        self.cluster.shutdown().await;
    }

    /// How long all that is asked of other nodes for one request may take: for so long one that says nothing lives.
    pub fn patience(&self) -> Duration {
        patience(&self.context)
    }

    /// What keeps this node from the others, with what to do.
    pub fn problems(&self) -> Vec<String> {
        let presence = self.presence.problems(&self.cluster.view().borrow());
        self.reconciler.underlay_problem().into_iter().chain(presence).collect()
    }

    /// The UDP port of VXLAN.
    pub fn vxlan_port(&self) -> u16 {
        self.context.config.vxlan_port
    }

    /// The first UDP port of the WireGuard mesh.
    pub fn wireguard_port(&self) -> u16 {
        self.context.config.wireguard_port
    }

    /// The node's kernel.
    pub fn kernel(&self) -> &Linux {
        &self.context.kernel
    }

    /// Who hands out indexes, as far as it is known.
    pub async fn manager_known(&self) -> Option<NodeId> {
        let find = || {
            let cluster = self.cluster.clone();
            async move { cluster.manager().await.ok().flatten().map(|(id, _)| id) }
        };
        let found = self.manager.get(Duration::ZERO, MANAGER_PATIENCE, find).await;
        found.and_then(|(manager, _)| *manager)
    }

    async fn halt(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// Takes everything away that this node had in its cluster: what is remembered, and whatever of ours is in the kernel.
/// Each is tried whatever becomes of the others; again where it is done already it does nothing.
///
/// # Errors
/// What is left, and why. To try again does the rest.
pub async fn clear_away(context: &Context) -> Result<(), ApiError> {
    let forgotten = context.state.clear().err().map(|error| error.to_string());
    let cleared = reconcile::clear(&context.kernel).await.into_iter().map(|error| error.to_string());
    let left: Vec<String> = forgotten.into_iter().chain(cleared).collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(ApiError::internal(format!(
        "this node is out of its cluster, but something of it is left: {}",
        left.join("; ")
    ))
    .hint("run `lanmesh leave` again"))
}

/// Removes whatever of ours is in the kernel: on a node that belongs to no cluster nothing is wanted.
pub async fn clear_kernel(context: &Context) -> Result<(), ApiError> {
    match reconcile::clear(&context.kernel).await.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn patience(context: &Context) -> Duration {
    context.config.detect.max(Duration::from_secs(2))
}

fn dns_config(config: &Config, cluster: &str) -> DnsConfig {
    let Config { dns_ttl, dns_rate, resolv_conf, .. } = config;
    DnsConfig {
        ttl: *dns_ttl,
        resolv_conf: resolv_conf.clone(),
        cluster: cluster.to_owned(),
        limits: Limits { rate: *dns_rate, burst: 2 * *dns_rate, ..Limits::default() },
        ..DnsConfig::default()
    }
}

fn common(context: &Context, underlay_mtu: u32) -> ClusterConfig {
    ClusterConfig {
        timing: Timing { detect: context.config.detect, ..Timing::default() },
        underlay_mtu,
        rotate: Some(context.config.rotate),
        protocols: context.config.protocols,
        traits: super::traits::traits(),
        machine: machine::id(),
        ..ClusterConfig::new(context.state.clone())
    }
}

/// Makes the allocators of the networks that this node has endpoints in, so that what is dropped is remembered.
fn open_leases(cluster: &Cluster, local: &mut Local) -> Result<(), ApiError> {
    let view = cluster.view().borrow().clone();
    let Some(me) = view.myself() else { return Ok(()) };
    for network in view.networks.values() {
        local.open_leases(&network.spec, me.index, &view)?;
    }
    Ok(())
}
