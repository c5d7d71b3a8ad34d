//! What the kernel counts, in numbers: packets of endpoints, copies of multicast, tunnels, and what was dropped.
//!
//! Nothing is done for a packet: these are counters that are there, read when somebody asks. What comes and goes (ports, the
//! devices of a rotation) is added up, so that no sum falls. Groups are whatever endpoints send to: of each network the first
//! [`GROUPS`] have a label of their own as long as they are counted, and all others are one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::super::drops::Counted;
use crate::kernel::{Linux, PortTraffic, TunnelTraffic};
use crate::metrics::{Collect, Family, Odometer, Page};
use crate::model::{
    ClusterView, EndpointName, GroupAddr, NetworkId, Node, NodeId, NodeName, PublicKey, Traffic,
};
use crate::multicast::Tally;
use crate::plan::PortName;
use crate::reconcile::{Reconciler, vtep};

/// So many groups of a network are told apart.
const GROUPS: usize = 100;
/// How long somebody waits for what is newer than what was counted last.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// One group, or all that are not told apart.
type Group = Option<GroupAddr>;
/// Which way, as a label has it.
type Direction = &'static str;

/// Packets and bytes of groups, by what they are of.
#[derive(Debug)]
struct Meters<C, S>(Odometer<C, S>, Odometer<C, S>);

impl<C, S> Default for Meters<C, S> {
    fn default() -> Self {
        Self(Odometer::default(), Odometer::default())
    }
}

impl<C: Ord + Clone, S: Ord + Clone> Meters<C, S> {
    fn take(&mut self, counted: Vec<(C, S, Traffic)>) {
        let each = |of: fn(Traffic) -> u64| {
            counted
                .iter()
                .map(move |(counter, shown, traffic)| (counter.clone(), shown.clone(), of(*traffic)))
        };
        self.0.take(each(|traffic| traffic.packets));
        self.1.take(each(|traffic| traffic.bytes));
    }

    fn retain(&mut self, keep: impl Fn(&S) -> bool) {
        self.0.retain(&keep);
        self.1.retain(&keep);
    }

    fn sums(&self) -> BTreeMap<S, Traffic> {
        let bytes = self.1.sums();
        let both = |(shown, packets): (&S, &u64)| {
            (shown.clone(), Traffic { packets: *packets, bytes: bytes.get(shown).copied().unwrap_or(0) })
        };
        self.0.sums().iter().map(both).collect()
    }
}

/// What has been counted so far, for sums that do not fall.
#[derive(Debug, Default)]
pub struct Meter {
    drops: Odometer<(NetworkId, PortName, Direction), (NetworkId, &'static str)>,
    groups: Meters<(NetworkId, GroupAddr, Direction), (NetworkId, Group, Direction)>,
    copies: Meters<(NetworkId, GroupAddr, IpAddr), (NetworkId, Group, NodeId)>,
    tunnels: Odometer<(PublicKey, Direction), (NodeId, Direction)>,
    /// The groups that are told apart.
    apart: BTreeMap<NetworkId, BTreeSet<GroupAddr>>,
}

/// What is told of it.
#[derive(Debug, Clone, Default)]
pub struct Metered {
    /// By name.
    ports: BTreeMap<NetworkId, Vec<(EndpointName, PortTraffic)>>,
    drops: BTreeMap<(NetworkId, &'static str), u64>,
    groups: BTreeMap<(NetworkId, Group, Direction), Traffic>,
    copies: BTreeMap<(NetworkId, Group, NodeId), Traffic>,
    tunnels: BTreeMap<(NodeId, Direction), u64>,
    handshakes: BTreeMap<NodeId, SystemTime>,
}

/// What is measured.
pub struct Source {
    /// The kernel that counts.
    pub kernel: Linux,
    /// Whose endpoints these are.
    pub reconciler: Reconciler,
    /// Whose tunnels and groups.
    pub view: Arc<ClusterView>,
    /// The cluster's id.
    pub cluster: String,
    /// What was dropped.
    pub counted: Arc<Counted>,
    /// What was measured before.
    pub meter: Arc<Mutex<Meter>>,
}

impl Source {
    /// Asks the kernel. What it does not tell is left out, or as it was last.
    pub async fn measure(self) -> Metered {
        let records = self.reconciler.records();
        let networks: BTreeSet<NetworkId> = records.keys().map(|key| key.network).collect();
        let passed = self.kernel.port_traffic(networks.clone()).await;
        let mut ports: BTreeMap<NetworkId, Vec<(EndpointName, PortTraffic)>> = BTreeMap::new();
        for key in records.keys() {
            let Some(counted) = passed.get(&key.network) else { continue };
            if let Some(traffic) = counted.get(&PortName::of(&key.name)) {
                ports.entry(key.network).or_default().push((key.name.clone(), *traffic));
            }
        }
        let tallies = self.reconciler.tally(networks).await;
        let tunnels = self.kernel.tunnel_traffic().await;

        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let view = &*self.view;
        meter.take_drops(&self.counted);
        meter.take_groups(view, &self.cluster, &tallies);
        let handshakes = match tunnels {
            Ok(tunnels) => meter.take_tunnels(view, &tunnels),
            Err(error) => {
                tracing::debug!(%error, "what passed the tunnels is not known");
                BTreeMap::new()
            }
        };
        meter.forget(view);
        Metered {
            ports,
            drops: meter.drops.sums().clone(),
            groups: meter.groups.sums(),
            copies: meter.copies.sums(),
            tunnels: meter.tunnels.sums().clone(),
            handshakes,
        }
    }
}

impl Meter {
    fn take_drops(&mut self, counted: &Counted) {
        let of_ports = counted.dropped.iter().flat_map(|(network, dropped)| {
            dropped.frames.iter().flat_map(move |(port, kinds)| {
                kinds.some().map(move |(kind, count)| (*network, port, kind.name(), count))
            })
        });
        let queries = counted.dropped.iter().flat_map(|(network, dropped)| {
            dropped.queries.iter().map(move |(port, count)| (*network, port, "dns_queries", *count))
        });
        // Most ports have dropped nothing, ever.
        let some = of_ports.chain(queries).filter(|(.., count)| *count > 0);
        self.drops
            .take(some.map(|(network, port, kind, count)| ((network, *port, kind), (network, kind), count)));
    }

    fn take_groups(&mut self, view: &ClusterView, cluster: &str, tallies: &BTreeMap<NetworkId, Tally>) {
        let (mut groups, mut copies) = (Vec::new(), Vec::new());
        for (id, tally) in tallies {
            let Some(network) = view.networks.get(id) else { continue };
            let spec = &network.spec;
            let at: BTreeMap<IpAddr, NodeId> =
                view.nodes.values().map(|node| (vtep(cluster, spec, node), node.id)).collect();
            let apart = self.apart.entry(*id).or_default();
            told_apart(apart, tally.iter().map(|(group, _)| *group).collect());
            for (group, counted) in tally.iter() {
                let shown = apart.get(group).copied();
                for (direction, traffic) in [("sent", counted.sent), ("received", counted.received)] {
                    groups.push(((*id, *group, direction), (*id, shown, direction), traffic));
                }
                for (to, traffic) in &counted.to {
                    if let Some(node) = at.get(to) {
                        copies.push(((*id, *group, *to), (*id, shown, *node), *traffic));
                    }
                }
            }
        }
        self.groups.take(groups);
        self.copies.take(copies);
    }

    /// Takes up what passed the tunnels, and says when the last handshake with each node was.
    fn take_tunnels(
        &mut self,
        view: &ClusterView,
        tunnels: &BTreeMap<PublicKey, TunnelTraffic>,
    ) -> BTreeMap<NodeId, SystemTime> {
        let owner = |key: &PublicKey| {
            let has_it = |node: &&Node| node.mesh.iter().any(|mesh| mesh.public == *key);
            view.nodes.values().find(has_it).map(|node| node.id)
        };
        let mut handshakes: BTreeMap<NodeId, SystemTime> = BTreeMap::new();
        let mut of_tunnels = Vec::new();
        for (key, traffic) in tunnels {
            let Some(node) = owner(key) else { continue };
            of_tunnels.push(((*key, "sent"), (node, "sent"), traffic.sent));
            of_tunnels.push(((*key, "received"), (node, "received"), traffic.received));
            if let Some(at) = traffic.handshake {
                let last = handshakes.entry(node).or_insert(at);
                *last = (*last).max(at);
            }
        }
        self.tunnels.take(of_tunnels);
        handshakes
    }

    /// Forgets what networks and nodes had that are gone, and groups that are counted no more.
    fn forget(&mut self, view: &ClusterView) {
        let apart = &mut self.apart;
        apart.retain(|network, _| view.networks.contains_key(network));
        let is_shown = |network: &NetworkId, group: &Group| {
            let told = apart.get(network);
            told.is_some_and(|told| group.as_ref().is_none_or(|group| told.contains(group)))
        };
        self.drops.retain(|(network, _)| view.networks.contains_key(network));
        self.groups.retain(|(network, group, _)| is_shown(network, group));
        self.copies
            .retain(|(network, group, node)| is_shown(network, group) && view.nodes.contains_key(node));
        self.tunnels.retain(|(node, _)| view.nodes.contains_key(node));
    }
}

/// Which of the groups that there are have a label of their own: those that had one before, and then the others as long as
/// there is room.
fn told_apart(apart: &mut BTreeSet<GroupAddr>, there: BTreeSet<GroupAddr>) {
    apart.retain(|group| there.contains(group));
    for group in there {
        if apart.len() >= GROUPS {
            break;
        }
        apart.insert(group);
    }
}

/// What of it is told.
pub struct OfKernel<'a> {
    /// For the names of nodes.
    pub view: &'a ClusterView,
    /// The names of networks.
    pub networks: &'a BTreeMap<NetworkId, String>,
    /// What was dropped.
    pub counted: &'a Counted,
    /// What passed.
    pub metered: &'a Metered,
    /// How old what was dropped is.
    pub age: Duration,
}

impl OfKernel<'_> {
    fn node(&self, id: &NodeId) -> Option<&NodeName> {
        self.view.nodes.get(id).map(|node| &node.name)
    }

    /// Samples of each endpoint, by direction.
    fn of_endpoints(&self, mut family: Family<'_>, value: impl Fn(Traffic) -> u64) {
        for (network, ports) in &self.metered.ports {
            let Some(network) = self.networks.get(network) else { continue };
            for (endpoint, traffic) in ports {
                for (direction, traffic) in [("sent", traffic.sent), ("received", traffic.received)] {
                    let labels = [
                        ("network", network.as_str()),
                        ("endpoint", endpoint.as_str()),
                        ("direction", direction),
                    ];
                    family.sample(&labels, value(traffic));
                }
            }
        }
    }

    /// Samples of each group, by direction.
    fn of_groups(&self, mut family: Family<'_>, value: impl Fn(Traffic) -> u64) {
        for ((network, group, direction), traffic) in &self.metered.groups {
            if let Some(network) = self.networks.get(network) {
                let labels =
                    [("network", network.as_str()), ("group", &shown(group)), ("direction", direction)];
                family.sample(&labels, value(*traffic));
            }
        }
    }

    /// Samples of each group and node.
    fn of_copies(&self, mut family: Family<'_>, value: impl Fn(Traffic) -> u64) {
        for ((network, group, node), traffic) in &self.metered.copies {
            if let Some((network, node)) = self.networks.get(network).zip(self.node(node)) {
                let labels =
                    [("network", network.as_str()), ("group", &shown(group)), ("node", node.as_str())];
                family.sample(&labels, value(*traffic));
            }
        }
    }
}

fn shown(group: &Group) -> String {
    group.map_or_else(|| "other".to_owned(), |group| group.to_string())
}

impl Collect for OfKernel<'_> {
    fn collect(&self, page: &mut Page) {
        let (packets, bytes) = (|traffic: Traffic| traffic.packets, |traffic: Traffic| traffic.bytes);
        let help = "Frames of this node's endpoints, as each of them sees it.";
        self.of_endpoints(page.counter("lanmesh_endpoint_packets_total", help), packets);
        let help = "Bytes of these frames, with Ethernet headers.";
        self.of_endpoints(page.counter("lanmesh_endpoint_bytes_total", help), bytes);

        let help =
            "Packets between this node and a network, by group: each once, however many nodes it went to.";
        self.of_groups(page.counter("lanmesh_multicast_packets_total", help), packets);
        self.of_groups(
            page.counter("lanmesh_multicast_bytes_total", "Bytes of these packets, with IP headers."),
            bytes,
        );
        let help = "Packets of this node's endpoints for a group that went to a node.";
        self.of_copies(page.counter("lanmesh_multicast_copies_total", help), packets);
        self.of_copies(
            page.counter("lanmesh_multicast_copied_bytes_total", "Bytes of these copies, with IP headers."),
            bytes,
        );

        let help = "Bytes in the tunnel to a node, encrypted.";
        let mut tunnels = page.counter("lanmesh_wireguard_bytes_total", help);
        for ((node, direction), bytes) in &self.metered.tunnels {
            if let Some(node) = self.node(node) {
                tunnels.sample(&[("node", node.as_str()), ("direction", direction)], bytes);
            }
        }
        let help = "When the last handshake with a node was completed, in seconds since 1970.";
        let mut handshakes = page.gauge("lanmesh_wireguard_last_handshake_timestamp_seconds", help);
        for (node, at) in &self.metered.handshakes {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            if let Some(node) = self.node(node) {
                handshakes.sample(&[("node", node.as_str())], since.as_secs_f64());
            }
        }

        let help = "Packets of this node's endpoints that were dropped at their ports, by why.";
        let mut drops = page.counter("lanmesh_endpoint_dropped_packets_total", help);
        for ((network, reason), count) in &self.metered.drops {
            if let Some(network) = self.networks.get(network) {
                drops.sample(&[("network", network.as_str()), ("reason", reason)], count);
            }
        }
        let refused = self.counted.refused;
        let help = "Packets on the underlay that were dropped, by what they were.";
        let mut underlay = page.counter("lanmesh_underlay_dropped_packets_total", help);
        for (reason, count) in [
            ("vxlan_refused", refused.vxlan),
            ("vxlan_forged", refused.forged),
            ("mesh_refused", refused.mesh),
        ] {
            underlay.sample(&[("reason", reason)], count);
        }
        let help = "How old what was dropped is: up to ten seconds with many endpoints, more where the kernel hangs.";
        page.gauge("lanmesh_kernel_counters_age_seconds", help).value(self.age.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Dropped;

    fn groups(range: std::ops::Range<u8>) -> BTreeSet<GroupAddr> {
        range.map(|n| format!("239.1.1.{n}").parse().unwrap()).collect()
    }

    #[test]
    fn a_group_keeps_its_label_whatever_others_come_and_more_than_there_is_room_for_have_none() {
        let mut apart = BTreeSet::new();
        told_apart(&mut apart, groups(50..200));
        assert_eq!(apart, groups(50..150));
        told_apart(&mut apart, groups(0..200));
        assert_eq!(apart, groups(50..150), "those that come later take no place");
        told_apart(&mut apart, groups(60..200));
        assert_eq!(apart, groups(60..160), "a place that is free is taken");
        told_apart(&mut apart, groups(0..0));
        assert!(apart.is_empty());
    }

    #[test]
    fn what_a_port_dropped_is_counted_after_it_went() {
        let network = NetworkId::from_bytes([1; 8]);
        let port = |name: &str| PortName::of(&name.parse().unwrap());
        let counted = |ports: &[(&str, u64)]| {
            let queries = ports.iter().map(|(name, count)| (port(name), *count)).collect();
            let dropped = Dropped { queries, ..Dropped::default() };
            Counted { dropped: BTreeMap::from([(network, dropped)]), ..Counted::default() }
        };
        let mut meter = Meter::default();
        meter.take_drops(&counted(&[("a", 4), ("b", 0)]));
        meter.take_drops(&counted(&[("b", 3)]));
        assert_eq!(meter.drops.sums(), &BTreeMap::from([((network, "dns_queries"), 7)]));
    }
}
