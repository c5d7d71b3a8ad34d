//! What on this machine keeps frames from passing, as far as it shows in what the kernel counts and is set to: looked at every
//! few seconds, and told when it begins and when it ends.
//!
//! A count says something while it grows. What was counted before this agent began says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::health::{Health, lock};
use crate::api::{EventKind, EventLog, EventObject};
use crate::cluster::Cluster;
use crate::health::Problem;
use crate::kernel::{Linux, NetworkSigns, NodeSigns, Refused};
use crate::model::{ClusterView, EndpointKey, NetworkId, NodeState, Placement};
use crate::reconcile::{Reconciler, Records};

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(5);
/// How many networks are looked at each time.
const NETWORKS: usize = 8;
/// For how long a count that grew counts as growing.
const GROWS: Duration = Duration::from_secs(18);

/// What is watched, and where it is told.
pub struct Watched {
    /// For the names of things, and who answers.
    pub cluster: Cluster,
    /// This node's kernel.
    pub kernel: Linux,
    /// For which networks there are, and this node's endpoints.
    pub reconciler: Reconciler,
    /// Where it is told.
    pub events: EventLog,
}

/// A count that says something when it grows.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    last: Option<u64>,
    since: Option<Duration>,
    grew: Option<Duration>,
    times: u32,
}

impl Count {
    fn note(&mut self, count: u64, now: Duration) {
        let before = self.last.replace(count);
        if self.grew.is_some_and(|grew| now > grew + GROWS) {
            (self.since, self.grew, self.times) = (None, None, 0);
        }
        // Where it is less, it was begun anew.
        if before.is_some_and(|before| count > before) {
            self.since.get_or_insert(now);
            self.grew = Some(now);
            self.times = self.times.saturating_add(1);
        }
    }

    /// Since when it grows, if it was seen to so often.
    fn grows(&self, times: u32) -> Option<Duration> {
        self.since.filter(|_| self.times >= times)
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    neighbours: BTreeMap<&'static str, (u32, Count)>,
    reverse_path: Count,
    strict: BTreeSet<String>,
    refused: Count,
    networks: BTreeMap<NetworkId, (NetworkSigns, Duration)>,
    /// Up to which network it was looked the last time.
    last: Option<NetworkId>,
}

impl Seen {
    fn note_node(&mut self, signs: NodeSigns, now: Duration) {
        for (family, table) in signs.neighbours {
            let (limit, count) = self.neighbours.entry(family).or_default();
            *limit = table.limit;
            count.note(table.fulls, now);
        }
        self.reverse_path.note(signs.reverse_path, now);
    }

    /// Which networks are due of these.
    fn due(&mut self, present: &BTreeSet<NetworkId>) -> Vec<NetworkId> {
        self.networks.retain(|network, _| present.contains(network));
        let behind = present.iter().filter(|network| self.last.is_none_or(|last| **network > last));
        let due: Vec<_> = behind.chain(present).take(NETWORKS.min(present.len())).copied().collect();
        self.last = due.last().copied();
        due
    }

    fn note_network(&mut self, network: NetworkId, signs: Option<NetworkSigns>, now: Duration) {
        match signs {
            Some(signs) if signs != NetworkSigns::default() => {
                let since =
                    self.networks.get(&network).filter(|(was, _)| *was == signs).map(|(_, since)| *since);
                self.networks.insert(network, (signs, since.unwrap_or(now)));
            }
            _ => drop(self.networks.remove(&network)),
        }
    }

    /// What is wrong. `ill`: whether some way is not well, or some node does not answer.
    fn problems(&self, view: &ClusterView, records: &Records, ill: bool) -> Vec<Problem> {
        let about = |what: String, hint: String, since: Duration| Problem { what, hint, since, node: None };
        let mut problems = Vec::new();
        for (family, (limit, count)) in &self.neighbours {
            let Some(since) = count.grows(1) else { continue };
            problems.push(about(
                format!(
                    "the kernel's table of {family} neighbours is full: it has room for {limit} in all network namespaces of this \
                     machine together, and packets to further ones are dropped (\"No buffer space available\")"
                ),
                format!(
                    "make room: `sysctl -w net.{family}.neigh.default.gc_thresh3=8192`, outside of all containers, and in \
                     /etc/sysctl.d to keep it"
                ),
                since,
            ));
        }
        if let Some(since) = self.reverse_path.grows(1).filter(|_| ill) {
            let strict: Vec<_> = self.strict.iter().take(5).cloned().collect();
            let at = if strict.is_empty() { "this node".to_owned() } else { strict.join(", ") };
            problems.push(about(
                format!(
                    "packets are dropped at {at} because this node does not reach their senders by the interface that they come in by"
                ),
                "mend the routes, or let rp_filter be loose: `sysctl -w net.ipv4.conf.all.rp_filter=2`".to_owned(),
                since,
            ));
        }
        if let Some(since) = self.refused.grows(2) {
            problems.push(about(
                "VXLAN packets with the number of one of this node's networks come from somebody who is no node of the cluster, and \
                 are dropped"
                    .to_owned(),
                "find who sends them (`tcpdump -ni any udp port 4789` shows the address), and give his device another VNI"
                    .to_owned(),
                since,
            ));
        }
        for (network, (signs, since)) in &self.networks {
            let Some(name) = view.networks.get(network).map(|network| &network.spec.name) else { continue };
            for table in &signs.forward {
                problems.push(about(
                    format!(
                        "network {name}: frames between endpoints pass the table {table} of nf_tables in its namespace, which drops \
                         them"
                    ),
                    format!(
                        "`lanmesh network exec {name} -- nft delete table {table}`, or have bridges not ask such tables: `lanmesh \
                         network exec {name} -- sysctl -w net.bridge.bridge-nf-call-iptables=0`"
                    ),
                    *since,
                ));
            }
            let down = signs.down.iter().filter_map(|endpoint| {
                let record = records.get(&EndpointKey { network: *network, name: endpoint.clone() })?;
                // One that nobody has taken yet is down, and is to be.
                (record.placement != Placement::Offered(None)).then_some((endpoint, &record.ifname))
            });
            problems.extend(down.map(|(endpoint, ifname)| {
                about(
                    format!("network {name}: the interface of endpoint {endpoint} is down in its container"),
                    format!("set it up there: `ip link set {ifname} up`"),
                    *since,
                )
            }));
        }
        problems
    }
}

impl Health {
    /// Watches it until `stop`.
    pub async fn watch(self, watched: Watched, stop: CancellationToken) {
        let mut seen = Seen::default();
        let look = async {
            loop {
                self.look(&watched, &mut seen).await;
                sleep(PERIOD).await;
            }
        };
        stop.run_until_cancelled(look).await;
    }

    async fn look(&self, watched: &Watched, seen: &mut Seen) {
        let kernel = &watched.kernel;
        // What cannot be read says nothing; why is of no use to anybody but who looks for a fault of ours.
        match kernel.node_signs().await {
            Ok(signs) => seen.note_node(signs, self.now()),
            Err(error) => tracing::debug!(%error, "the kernel's counts are not read"),
        }
        if let Ok(Refused { vxlan, .. }) = kernel.refused().await {
            seen.refused.note(vxlan, self.now());
        }
        let present = watched.reconciler.present().borrow().clone();
        for network in seen.due(&present) {
            match kernel.network_signs(network).await {
                Ok(signs) => seen.note_network(network, signs, self.now()),
                Err(error) => tracing::debug!(%network, %error, "the settings of a network are not read"),
            }
        }
        let view = watched.cluster.view().borrow().clone();
        let silent =
            view.nodes.values().any(|node| matches!(node.state, NodeState::Suspect | NodeState::Dead));
        let ill = silent || self.ways().iter().any(|(_, way)| way.verdict.is_bad());
        if ill && seen.reverse_path.grows(1).is_some() {
            seen.strict = kernel.strict_interfaces().await.unwrap_or_default();
        }
        let problems = seen.problems(&view, &watched.reconciler.records(), ill);
        let before = std::mem::replace(&mut *lock(&self.0.signs), problems.clone());
        let is_in = |list: &[Problem], problem: &Problem| list.iter().any(|other| other.what == problem.what);
        for new in problems.iter().filter(|problem| !is_in(&before, problem)) {
            let text = format!("{}: {}", new.what, new.hint);
            tracing::warn!("{text}");
            watched.events.publish(EventKind::Problem, EventObject::default(), text);
        }
        for old in before.iter().filter(|problem| !is_in(&problems, problem)) {
            let text = format!("no more: {}", old.what);
            tracing::info!("{text}");
            watched.events.publish(EventKind::Problem, EventObject::default(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_count_says_something_while_it_grows_and_nothing_of_what_was_before() {
        let mut count = Count::default();
        count.note(7, secs(0));
        count.note(7, secs(5));
        assert_eq!(count.grows(1), None);
        count.note(8, secs(10));
        assert_eq!((count.grows(1), count.grows(2)), (Some(secs(10)), None));
        count.note(9, secs(15));
        assert_eq!((count.grows(1), count.grows(2)), (Some(secs(10)), Some(secs(10))));
        count.note(9, secs(30));
        assert_eq!(count.grows(1), Some(secs(10)));
        count.note(9, secs(35));
        assert_eq!(count.grows(1), None);
        // Rules that were made anew count from nothing.
        count.note(0, secs(40));
        assert_eq!(count.grows(1), None);
    }

    #[test]
    fn of_many_networks_each_has_its_turn() {
        let all: BTreeSet<_> = (0..20).map(|n| NetworkId::from_bytes([n; 8])).collect();
        let mut seen = Seen::default();
        let looked: BTreeSet<_> = (0..3).flat_map(|_| seen.due(&all)).collect();
        assert_eq!(looked, all);
        let few: BTreeSet<_> = all.iter().take(2).copied().collect();
        assert_eq!(seen.due(&few).into_iter().collect::<BTreeSet<_>>(), few);
        assert_eq!(seen.due(&BTreeSet::new()), []);
    }
}
