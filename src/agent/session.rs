//! A node's time in one cluster: what runs from `init`, `join` or a restart until it leaves or the agent stops.
//!
//! Owns the order in which the parts come up and go down. Does not own what any of them does.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tally::Tally;
use super::zeroconf::Zeroconf;
use super::{Context, names, news, zeroconf};
use crate::api::ApiError;
use crate::cluster::{Cluster, ClusterConfig, InitConfig, Initial, JoinConfig, Timing};
use crate::config::Config;
use crate::dns::{Dns, DnsConfig, Limits};
use crate::kernel::{Kernel, Underlay};
use crate::local::Local;
use crate::model::{NodeIndex, NodeName};
use crate::multicast;
use crate::plan::{Desired, plan, plan_mesh, plan_underlay_guard};
use crate::reconcile::{Reconciler, SeenUnderlay, Settings, remembered_keys, vanished};

/// A node's time in one cluster.
pub struct Session {
    /// Its membership.
    pub cluster: Cluster,
    /// What keeps its kernel in order.
    pub reconciler: Reconciler,
    /// What answers for its networks' names.
    pub dns: Dns,
    /// What mDNS has counted in its networks.
    pub mdns: Tally,
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
        let underlay = context.kernel.underlay(advertise.ip()).await?;
        let common = common(context, underlay.mtu);
        let cluster = Cluster::create(InitConfig { common, name, advertise }).await?;
        Self::start(context, cluster, Local::load(context.state.clone())?).await
    }

    /// Joins a cluster.
    pub async fn join(context: &Context, join: Join) -> Result<Self, ApiError> {
        let Join { name, token, manager, advertise, index } = join;
        let mut common = common(context, ClusterConfig::new(context.state.clone()).underlay_mtu);
        if let Some(advertise) = advertise {
            common.underlay_mtu = context.kernel.underlay(advertise.ip()).await?.mtu;
        }
        let cluster = Cluster::join(JoinConfig { common, name, token, manager, advertise, index }).await?;
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
        }
        for network in initial.networks.keys() {
            let joined = context.kernel.memberships(*network).await?;
            initial.groups.insert(*network, multicast::to_publish(&joined));
        }
        for (network, endpoints) in &initial.networks {
            let names = endpoints.iter().map(|endpoint| &endpoint.name).collect();
            initial.zeroconf.insert(*network, zeroconf::remembered(&context.state, *network, &names));
        }
        initial.mesh = remembered_keys(&context.state, context.config.wireguard_port)?;
        let seen = SeenUnderlay::load(&context.state)?;
        let mut common = common(context, ClusterConfig::new(context.state.clone()).underlay_mtu);
        if let Some(seen) = seen {
            let now = context.kernel.underlay(seen.vtep).await;
            common.underlay_mtu = now.map_or(seen.mtu, |underlay| underlay.mtu);
        }
        let Some(cluster) = Cluster::resume(common, initial).await? else { return Ok(None) };
        open_leases(&cluster, &mut local)?;
        for key in &gone {
            tracing::info!(network = %key.network, endpoint = %key.name, "its container went while the agent was down");
            local.remove(key)?;
        }
        Self::start(context, cluster, local).await.map(Some)
    }

    async fn start(context: &Context, cluster: Cluster, local: Local) -> Result<Self, ApiError> {
        let vtep = cluster.view().borrow().myself().map(|me| me.vtep);
        if let Some(vtep) = vtep {
            match context.kernel.underlay(vtep).await {
                Ok(Underlay { mtu, device }) => {
                    cluster.set_self(vtep, mtu).await?;
                    SeenUnderlay { vtep, mtu, device }.save(&context.state)?;
                }
                Err(error) => tracing::warn!(%error, "the underlay is not up yet"),
            }
        }
        let settings = Settings {
            vxlan_port: context.config.vxlan_port,
            wireguard_port: context.config.wireguard_port,
            grace: context.config.grace,
            detect: context.config.detect,
            follow_address: context.config.follow_address,
        };
        let (reconciler, happenings) =
            Reconciler::new(cluster.clone(), context.kernel.clone(), context.state.clone(), settings, local);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(news::tell(context.events.clone(), cluster.clone(), happenings, stop.clone()));
        let dns = Dns::new(dns_config(context, cluster.id()), cluster.view());
        let served = names::Serving {
            dns: dns.clone(),
            kernel: context.kernel.clone(),
            view: cluster.view(),
            present: reconciler.present(),
        };
        tasks.spawn(served.run(stop.clone()));
        let mdns = Tally::default();
        let zeroconf = Zeroconf {
            cluster: cluster.clone(),
            kernel: context.kernel.clone(),
            present: reconciler.present(),
            tally: mdns.clone(),
            state: context.state.clone(),
        };
        tasks.spawn(zeroconf.run(stop.clone()));
        tasks.spawn(reconciler.clone().run(stop.clone()));
        tasks.spawn(reconciler.clone().follow_groups(stop.clone()));
        tasks.spawn(reconciler.clone().follow_silence(stop.clone()));
        tasks.spawn(reconciler.clone().follow_paths(stop.clone()));
        tasks.close();
        Ok(Self { cluster, reconciler, dns, mdns, context: context.clone(), stop, tasks })
    }

    /// Stops without a word: everything in the kernel stays and goes on forwarding.
    pub async fn suspend(&self) {
        self.halt().await;
        self.cluster.shutdown().await;
    }

    /// Leaves the cluster and takes everything of this node's away: endpoints, networks, state.
    pub async fn leave(&self) -> Result<(), ApiError> {
        self.halt().await;
        self.cluster.leave().await?;
        self.remove_all().await
    }

    /// Takes everything of this node's away after it was shut out: there is nobody to say it to.
    pub async fn abandon(&self) -> Result<(), ApiError> {
        self.halt().await;
        self.cluster.shutdown().await;
        self.remove_all().await
    }

    /// The node's kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.context.kernel
    }

    /// How many DNS queries the kernel dropped because their endpoint asked too much, in the networks of this node.
    pub async fn queries_dropped(&self) -> u64 {
        let present = self.reconciler.present().borrow().clone();
        let mut sum = 0;
        for network in present {
            // One that goes just now has nothing to say.
            sum += self.kernel().queries_dropped(network).await.unwrap_or_default().values().sum::<u64>();
        }
        sum
    }

    async fn halt(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    async fn remove_all(&self) -> Result<(), ApiError> {
        self.context.state.clear()?;
        clear_kernel(&self.context).await
    }
}

/// Removes whatever of ours is in the kernel: on a node that belongs to no cluster nothing is wanted.
pub async fn clear_kernel(context: &Context) -> Result<(), ApiError> {
    let observed = context.kernel.observe().await?;
    let applied = context.kernel.apply(&plan(&Desired::default(), &observed)).await;
    let mesh = plan_mesh(None, &context.kernel.observe_mesh().await?, &BTreeSet::new());
    let failed = context.kernel.apply_mesh(&mesh).await;
    let guard = context.kernel.observe_underlay_guard().await?;
    if let Some(step) = plan_underlay_guard(None, guard.as_ref()) {
        context.kernel.apply_underlay_guard(step).await?;
    }
    let mut errors =
        applied.failed.into_iter().map(|(_, error)| error).chain(failed.into_iter().map(|(_, error)| error));
    match errors.next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn dns_config(context: &Context, cluster: &str) -> DnsConfig {
    let Config { dns_ttl, dns_rate, resolv_conf, .. } = &*context.config;
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
        ..ClusterConfig::new(context.state.clone())
    }
}

/// Makes the allocators of the networks that this node has endpoints in, so that what is dropped is remembered.
fn open_leases(cluster: &Cluster, local: &mut Local) -> Result<(), ApiError> {
    let view = cluster.view().borrow().clone();
    let Some(me) = view.myself() else { return Ok(()) };
    for network in view.networks.values() {
        local.open_leases(&network.spec, me.index)?;
    }
    Ok(())
}
