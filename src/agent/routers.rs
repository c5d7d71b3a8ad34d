//! Endpoints that route multicast between networks (igmpproxy, pimd, a router of one's own): what is joined on other nodes they
//! are told by reports, which is how they hear of all else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::kernel::{Linux, Reporter};
use crate::model::{ClusterView, Group, Mac, NetworkId};
use crate::plan::PortName;

/// How often all is told again: a router forgets what is not reported between two of its questions (125 s, RFC 3376 section
/// 8.2), and one that has just begun has heard nothing.
const AGAIN: Duration = Duration::from_secs(10);
/// How long what changes is gathered, so that what changes without end is told so often and no more.
const GATHER: Duration = Duration::from_millis(50);

/// Tells the endpoints of this node that route multicast what is joined elsewhere.
pub struct Routers {
    /// Where that is known.
    pub cluster: Cluster,
    /// Where it is told.
    pub kernel: Linux,
    /// The networks that this node has.
    pub present: watch::Receiver<BTreeSet<NetworkId>>,
}

/// What each was told, by network and port.
type Told = BTreeMap<(NetworkId, PortName), BTreeSet<Group>>;

impl Routers {
    /// Keeps at it until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut views = self.cluster.view();
        let mut told = Told::new();
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                () = stop.cancelled() => return,
                _ = again.tick() => true,
                changed = views.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    false
                }
            };
            let begun = Instant::now();
            let view = views.borrow_and_update().clone();
            let present = self.present.borrow_and_update().clone();
            let known = elsewhere(&view, &present);
            told.retain(|key, _| known.contains_key(key));
            for (key, groups) in known {
                self.tell(&view, &mut told, key, groups, all).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(GATHER.saturating_sub(begun.elapsed())) => {}
            }
        }
    }

    async fn tell(
        &self,
        view: &ClusterView,
        told: &mut Told,
        key: (NetworkId, PortName),
        groups: BTreeSet<Group>,
        all: bool,
    ) {
        let before = told.get(&key);
        let is_new = |group: &&Group| all || !before.is_some_and(|before| before.contains(*group));
        let joined: BTreeSet<Group> = groups.iter().filter(is_new).copied().collect();
        let left: BTreeSet<Group> =
            before.into_iter().flatten().filter(|g| !groups.contains(g)).copied().collect();
        let (id, port) = &key;
        if joined.is_empty() && left.is_empty() {
            told.insert(key, groups);
            return;
        }
        let gateways = view.networks.get(id).into_iter().flat_map(|network| &network.spec.gateways);
        let v4 = gateways.copied().find_map(|gateway| match gateway {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        let from = Reporter { v4, mac: Mac::of_bridge(id) };
        match self.kernel.report(*id, port, from, &joined, &left).await {
            Ok(()) => drop(told.insert(key, groups)),
            // Its interface may be just coming or going: all is told again soon.
            Err(error) => {
                tracing::debug!(network = %id, %port, %error, "cannot tell a router what is joined");
            }
        }
    }
}

/// What is joined on the other nodes that answer, for each endpoint of this node that routes.
fn elsewhere(view: &ClusterView, present: &BTreeSet<NetworkId>) -> Told {
    let mut found = Told::new();
    for (id, network) in view.networks.iter().filter(|(id, _)| present.contains(id)) {
        let also = network.also.get(&view.me).into_iter().flat_map(|also| also.iter());
        let routing: Vec<PortName> =
            also.filter(|(_, also)| also.routes).map(|(name, _)| PortName::of(name)).collect();
        if routing.is_empty() {
            continue;
        }
        let others = network.groups.iter().filter(|(node, _)| **node != view.me && view.is_up(node));
        let groups: BTreeSet<Group> = others.flat_map(|(_, groups)| groups.iter().copied()).collect();
        found.extend(routing.into_iter().map(|port| ((*id, port), groups.clone())));
    }
    found
}
