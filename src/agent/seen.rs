//! What was seen of what keeps frames from passing on this machine, and the sentences about it.
//!
//! A count says something while it grows. What was counted before it was looked at for the first time says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::health::Problem;
use crate::kernel::{NetworkSigns, NodeSigns};
use crate::model::{ClusterView, EndpointKey, NetworkId};
use crate::reconcile::Records;

/// How many networks are looked at each time.
const NETWORKS: usize = 8;
/// For how long a count that grew counts as growing.
const GROWS: Duration = Duration::from_secs(18);

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
pub struct Seen {
    neighbours: BTreeMap<&'static str, (u32, Count)>,
    reverse_path: Count,
    /// The interfaces of the node that drop what they would not send back the same way.
    pub strict: BTreeSet<String>,
    refused: Count,
    networks: BTreeMap<NetworkId, (NetworkSigns, Duration)>,
    /// Up to which network it was looked the last time.
    last: Option<NetworkId>,
}

impl Seen {
    /// Takes up what the node's own namespace says.
    pub fn note_node(&mut self, signs: NodeSigns, now: Duration) {
        for (family, table) in signs.neighbours {
            let (limit, count) = self.neighbours.entry(family).or_default();
            *limit = table.limit;
            count.note(table.fulls, now);
        }
        self.reverse_path.note(signs.reverse_path, now);
    }

    /// Takes up how many VXLAN packets of strangers were dropped so far.
    pub fn note_refused(&mut self, count: u64, now: Duration) {
        self.refused.note(count, now);
    }

    /// Whether packets are dropped because of where they come from.
    pub fn drops_senders(&self) -> bool {
        self.reverse_path.grows(1).is_some()
    }

    /// Which networks are due of these.
    pub fn due(&mut self, present: &BTreeSet<NetworkId>) -> Vec<NetworkId> {
        self.networks.retain(|network, _| present.contains(network));
        let behind = present.iter().filter(|network| self.last.is_none_or(|last| **network > last));
        let due: Vec<_> = behind.chain(present).take(NETWORKS.min(present.len())).copied().collect();
        self.last = due.last().copied();
        due
    }

    /// Takes up what a network's namespace says; `None`: it is not there.
    pub fn note_network(&mut self, network: NetworkId, signs: Option<NetworkSigns>, now: Duration) {
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
    pub fn signs(&self, view: &ClusterView, records: &Records, ill: bool) -> Signs {
        Signs {
            neighbours: self.full_tables(),
            reverse_path: self
                .reverse_path
                .grows(1)
                .filter(|_| ill)
                .map(|since| self.dropped_senders(since))
                .into_iter()
                .collect(),
            strangers: self.refused.grows(2).map(strangers).into_iter().collect(),
            bridged: self.bridged(view),
            down: self.down(view, records),
        }
    }

    fn full_tables(&self) -> Vec<Problem> {
        let full = |(family, (limit, count)): (&&str, &(u32, Count))| {
            let since = count.grows(1)?;
            Some(about(
                format!(
                    "the kernel's table of {family} neighbours is full: it has room for {limit} in all network namespaces of this \
                     machine together, and packets to further ones are dropped (\"No buffer space available\")"
                ),
                format!(
                    "make room: `sysctl -w net.{family}.neigh.default.gc_thresh3=8192`, outside of all containers, and in \
                     /etc/sysctl.d to keep it"
                ),
                since,
            ))
        };
        self.neighbours.iter().filter_map(full).collect()
    }

    fn dropped_senders(&self, since: Duration) -> Problem {
        let strict: Vec<_> = self.strict.iter().take(5).cloned().collect();
        let at = if strict.is_empty() { "this node".to_owned() } else { strict.join(", ") };
        about(
            format!(
                "packets are dropped at {at} because this node does not reach their senders by the interface that they come in by"
            ),
            "mend the routes, or let rp_filter be loose: `sysctl -w net.ipv4.conf.all.rp_filter=2`"
                .to_owned(),
            since,
        )
    }

    fn bridged(&self, view: &ClusterView) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (network, (signs, since)) in &self.networks {
            let Some(name) = view.networks.get(network).map(|network| &network.spec.name) else { continue };
            problems.extend(signs.forward.iter().map(|table| {
                about(
                    format!(
                        "network {name}: frames between endpoints pass the table {table} of nf_tables in its namespace, which drops \
                         them"
                    ),
                    pass_by(name.as_str(), table),
                    *since,
                )
            }));
        }
        problems
    }

    fn down(&self, view: &ClusterView, records: &Records) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (network, (signs, since)) in &self.networks {
            let Some(name) = view.networks.get(network).map(|network| &network.spec.name) else { continue };
            let down = signs.down.iter().filter_map(|endpoint| {
                let record = records.get(&EndpointKey { network: *network, name: endpoint.clone() })?;
                // One that nobody has taken yet is down, and is to be.
                record.placement.is_somewhere().then_some((endpoint, &record.ifname))
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

/// How frames between endpoints get by a table, which is named with its family.
fn pass_by(network: &str, table: &str) -> String {
    let exec = format!("lanmesh network exec {network} --");
    let delete = format!("`{exec} nft delete table {table}`");
    let switches = match table.split(' ').next() {
        Some("ip") => "net.bridge.bridge-nf-call-iptables=0",
        Some("ip6") => "net.bridge.bridge-nf-call-ip6tables=0",
        Some("inet") => "net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0",
        // Bridges ask those of their own family always.
        _ => return format!("{delete}, or let it accept what is passed on"),
    };
    format!("{delete}, or have bridges not ask such tables: `{exec} sysctl -w {switches}`")
}

fn about(what: String, hint: String, since: Duration) -> Problem {
    Problem { what, hint, since, node: None }
}

fn strangers(since: Duration) -> Problem {
    about(
        "VXLAN packets with the number of one of this node's networks come from somebody who is no node of the cluster, and are \
         dropped"
            .to_owned(),
        "find who sends them (`tcpdump -ni any udp port 4789` shows the address), and give his device another VNI".to_owned(),
        since,
    )
}

/// What is wrong on this machine, by what it is known by.
#[derive(Debug, Default, Clone)]
pub struct Signs {
    /// Tables of neighbours that are full.
    pub neighbours: Vec<Problem>,
    /// That packets are dropped because of where they come from.
    pub reverse_path: Vec<Problem>,
    /// That somebody who is no node sends VXLAN with a number of ours.
    pub strangers: Vec<Problem>,
    /// Firewalls that drop bridged frames.
    pub bridged: Vec<Problem>,
    /// Interfaces that are down in their containers.
    pub down: Vec<Problem>,
}

impl Signs {
    /// All of it.
    pub fn all(self) -> impl Iterator<Item = Problem> {
        let Self { neighbours, reverse_path, strangers, bridged, down } = self;
        neighbours.into_iter().chain(reverse_path).chain(strangers).chain(bridged).chain(down)
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

    #[test]
    fn a_table_is_passed_by_as_its_family_is_asked() {
        let v4 = pass_by("net", "ip filter");
        assert!(
            v4.contains("nft delete table ip filter") && v4.contains("bridge-nf-call-iptables=0"),
            "{v4}"
        );
        let v6 = pass_by("net", "ip6 filter");
        assert!(v6.contains("bridge-nf-call-ip6tables=0") && !v6.contains("call-iptables"), "{v6}");
        let both = pass_by("net", "inet filter");
        assert!(both.contains("call-iptables=0") && both.contains("call-ip6tables=0"), "{both}");
        let own = pass_by("net", "bridge f");
        assert!(own.contains("nft delete table bridge f") && !own.contains("sysctl"), "{own}");
    }
}
