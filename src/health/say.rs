//! What is known of the ways, in sentences that say what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::ways::{Goal, Verdict, Way, WayKey};
use crate::model::{ClusterView, NetworkId, Node, NodeId, NodeName};

/// How many names are in one sentence.
const NAMED: usize = 5;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// Since when, by the clock of whoever asked for it.
    pub since: Duration,
    /// The node that it is about, if it is about one.
    pub node: Option<NodeId>,
}

/// How the ways to one node are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// All that are known are well.
    Ok,
    /// Some are not, or not for all sizes; why.
    Degraded(String),
    /// Nothing passes; why.
    Down(String),
}

/// The first of these, and how many more there are.
fn some_of(names: impl IntoIterator<Item = String>) -> String {
    let mut names = names.into_iter();
    let named: Vec<String> = names.by_ref().take(NAMED).collect();
    match names.count() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What the ways to a node have in common that are in one sentence.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    peer: NodeId,
    encrypted: bool,
    kind: u8,
}

/// What is wrong about these ways: one for each node and kind of fault, however many networks it shows in. `vxlan_port` is
/// the UDP port of VXLAN.
pub fn problems(view: &ClusterView, vxlan_port: u16, ways: &[(WayKey, Way)]) -> Vec<Problem> {
    let mut cases: BTreeMap<Case, Vec<&(WayKey, Way)>> = BTreeMap::new();
    for entry in ways {
        let (key, Way { goal, verdict, .. }) = entry;
        let kind = match verdict {
            Verdict::Untried | Verdict::Whole => continue,
            Verdict::Silent => 0,
            Verdict::Unheard => 1,
            Verdict::Small { .. } => 2,
        };
        cases.entry(Case { peer: key.peer, encrypted: goal.encrypted, kind }).or_default().push(entry);
    }
    let problem = |(case, ways): (Case, Vec<&(WayKey, Way)>)| {
        let (me, node) = (view.myself()?, view.nodes.get(&case.peer)?);
        let networks: Vec<NetworkId> = ways.iter().map(|(key, _)| key.network).collect();
        let (_, first) = ways.first()?;
        let (what, hint) = say(me, node, first, &through(view, &networks), vxlan_port);
        let since = ways.iter().map(|(_, way)| way.since).min().unwrap_or_default();
        Some(Problem { what, hint, since, node: Some(node.id) })
    };
    cases.into_iter().filter_map(problem).collect()
}

/// The nodes to which this one has no route, as `unrouted` says: one for each, of the ways over which nothing passes.
pub fn no_routes(view: &ClusterView, ways: &[(WayKey, Way)], unrouted: &BTreeSet<NodeId>) -> Vec<Problem> {
    let problem = |peer: &NodeId| {
        let (me, node) = (view.myself()?, view.nodes.get(peer)?);
        let lost = || ways.iter().filter(|(key, way)| key.peer == *peer && way.verdict.is_dead());
        let since = lost().map(|(_, way)| way.since).min()?;
        let networks: Vec<NetworkId> = lost().map(|(key, _)| key.network).collect();
        let through = through(view, &networks);
        Some(Problem {
            what: format!("{through}: node {} has no route to node {} ({})", me.name, node.name, node.vtep),
            hint: format!("`ip route get {} from {}` here; mend its routes", node.vtep, me.vtep),
            since,
            node: Some(*peer),
        })
    };
    unrouted.iter().filter_map(problem).collect()
}

/// `network a`, or `networks a, b`.
fn through(view: &ClusterView, networks: &[NetworkId]) -> String {
    let name = |id: &NetworkId| {
        view.networks.get(id).map_or_else(|| id.short(), |network| network.spec.name.to_string())
    };
    let names: BTreeSet<String> = networks.iter().map(name).collect();
    let word = if names.len() == 1 { "network" } else { "networks" };
    format!("{word} {}", some_of(names))
}

/// The UDP ports that a way needs at a node.
fn ports(node: &Node, goal: &Goal, vxlan_port: u16) -> String {
    let ports: BTreeSet<u16> = node.mesh.iter().map(|key| key.port).collect();
    if goal.encrypted && !ports.is_empty() {
        return ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ");
    }
    vxlan_port.to_string()
}

fn say(me: &Node, node: &Node, way: &Way, through: &str, vxlan_port: u16) -> (String, String) {
    let Way { goal, verdict, .. } = way;
    let (name, here, there): (&NodeName, IpAddr, IpAddr) = (&node.name, me.vtep, node.vtep);
    let (port, own) = (ports(node, goal, vxlan_port), ports(me, goal, vxlan_port));
    let look = "look at `nft list ruleset` and `iptables -S`";
    match verdict {
        Verdict::Small { carries } => (
            format!(
                "{through}: packets of {} bytes do not pass to node {name} and back, and of {carries} do",
                goal.size
            ),
            format!(
                "something between {here} and {there} takes smaller packets than the interfaces there: raise its MTU by \
                 {}, or `lanmesh network set NETWORK --mtu {carries}`",
                goal.size.saturating_sub(*carries)
            ),
        ),
        Verdict::Unheard => (
            format!(
                "{through}: nothing that this node sends arrives at node {name}, and what {name} sends arrives here"
            ),
            format!(
                "let UDP from {here} to {there}, port {port}, pass: {look} on {name} at input, here at output, and at \
                 what is between"
            ),
        ),
        Verdict::Silent | Verdict::Untried | Verdict::Whole => (
            format!("{through}: nothing arrives from node {name}, though its agent answers"),
            format!(
                "let UDP from {there} to {here}, port {own}, pass, and back to port {port}: {look} here at input, on \
                 {name} at output, and at what is between"
            ),
        ),
    }
}

/// The nodes whose clocks are off, as far as is heard in any network.
pub fn clocks(view: &ClusterView, ways: &[(WayKey, Way)]) -> Vec<Problem> {
    let mut off: BTreeMap<NodeId, (i64, Duration)> = BTreeMap::new();
    for (key, way) in ways {
        if let Some(ahead) = way.clock_off_ms {
            off.entry(key.peer).or_insert((ahead, way.since));
        }
    }
    let problem = |(peer, (ahead, since)): (NodeId, (i64, Duration))| {
        let node = view.nodes.get(&peer)?;
        let seconds = (ahead.unsigned_abs() + 500) / 1000;
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        Some(Problem {
            what: format!("the clock of node {} is {seconds} s {side} this node's", node.name),
            hint: "of two settings made on both the wrong one may win: set the clock of the one that is wrong, and let \
                   both follow a time server (`timedatectl`, `chronyc tracking`)"
                .to_owned(),
            since,
            node: Some(peer),
        })
    };
    off.into_iter().filter_map(problem).collect()
}

/// How the ways to a node are; `None` where none is known. `problems` are those of all nodes.
pub fn standing(peer: NodeId, ways: &[(WayKey, Way)], problems: &[Problem]) -> Option<Standing> {
    let known = || ways.iter().filter(|(key, way)| key.peer == peer && way.verdict != Verdict::Untried);
    known().next()?;
    let reason = || {
        let of_it = problems.iter().filter(|problem| problem.node == Some(peer));
        of_it.map(|problem| problem.what.clone()).collect::<Vec<_>>().join("; ")
    };
    Some(if known().all(|(_, way)| way.verdict.is_dead()) {
        Standing::Down(reason())
    } else if known().any(|(_, way)| way.verdict.is_bad()) {
        Standing::Degraded(reason())
    } else {
        Standing::Ok
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{NetworkView, NodeIndex, NodeState, testing};

    const NETS: [NetworkId; 2] = [NetworkId::from_bytes([1; 8]), NetworkId::from_bytes([2; 8])];

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    fn view() -> ClusterView {
        let node = |n: u8| Node {
            id: id(n),
            name: format!("n{n}").parse().unwrap(),
            index: NodeIndex(n.into()),
            address: format!("192.0.2.{n}:7979").parse().unwrap(),
            vtep: [192, 0, 2, n].into(),
            underlay_mtu: 1500,
            networks: NETS.into(),
            mesh: Vec::new(),
            labels: BTreeMap::new(),
            state: NodeState::Alive,
        };
        let network = |(i, id): (usize, NetworkId)| {
            let mut spec = testing::network(id);
            spec.name = ["one", "two"][i].parse().unwrap();
            let view = NetworkView {
                spec: Arc::new(spec),
                conflict: false,
                heard: BTreeSet::new(),
                endpoints: BTreeMap::new(),
                groups: BTreeMap::new(),
                zeroconf: BTreeMap::new(),
                draining: BTreeMap::new(),
                also: BTreeMap::new(),
                floating: BTreeMap::new(),
            };
            (id, view)
        };
        ClusterView {
            me: id(1),
            nodes: Arc::new((1..4).map(|n| (id(n), node(n))).collect()),
            loans: Default::default(),
            mesh_ports: Default::default(),
            networks: NETS.into_iter().enumerate().map(network).collect(),
            services: Arc::default(),
        }
    }

    fn way(peer: u8, network: usize, verdict: Verdict, since: u64) -> (WayKey, Way) {
        let goal = Goal { at: [192, 0, 2, peer].into(), size: 1450, encrypted: false };
        let since = Duration::from_secs(since);
        let key = WayKey { peer: id(peer), network: NETS[network] };
        (key, Way { goal, verdict, since, clock_off_ms: None })
    }

    #[test]
    fn a_fault_is_said_once_for_a_node_with_all_its_networks_and_since_when() {
        let ways = [
            way(2, 0, Verdict::Silent, 20),
            way(2, 1, Verdict::Silent, 10),
            way(3, 0, Verdict::Unheard, 30),
            way(3, 1, Verdict::Small { carries: 1350 }, 40),
        ];
        let said = problems(&view(), 4789, &ways);
        let what: Vec<&str> = said.iter().map(|problem| problem.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "networks one, two: nothing arrives from node n2, though its agent answers",
                "network one: nothing that this node sends arrives at node n3, and what n3 sends arrives here",
                "network two: packets of 1450 bytes do not pass to node n3 and back, and of 1350 do",
            ]
        );
        assert_eq!(said[0].since, Duration::from_secs(10));
        for (problem, parts) in said.iter().zip([
            ["UDP from 192.0.2.2 to 192.0.2.1", "port 4789"],
            ["UDP from 192.0.2.1 to 192.0.2.3", "port 4789"],
            ["raise its MTU by 100", "--mtu 1350"],
        ]) {
            assert!(parts.iter().all(|part| problem.hint.contains(part)), "{parts:?}: {}", problem.hint);
        }
    }

    #[test]
    fn a_node_without_a_route_is_said_once_and_only_while_nothing_passes() {
        let ways =
            [way(2, 0, Verdict::Silent, 20), way(2, 1, Verdict::Unheard, 10), way(3, 0, Verdict::Whole, 0)];
        let said = no_routes(&view(), &ways, &[id(2), id(3)].into());
        let [one] = said.as_slice() else { panic!("one: {said:?}") };
        assert_eq!(one.what, "networks one, two: node n1 has no route to node n2 (192.0.2.2)");
        assert!(one.hint.contains("ip route get 192.0.2.2 from 192.0.2.1"), "{}", one.hint);
        assert_eq!((one.node, one.since), (Some(id(2)), Duration::from_secs(10)));
        assert!(
            matches!(standing(id(2), &ways, &said), Some(Standing::Down(why)) if why.contains("no route"))
        );
    }

    #[test]
    fn a_node_is_down_where_nothing_passes_and_degraded_where_something_does() {
        let of = |ways: &[(WayKey, Way)]| standing(id(2), ways, &problems(&view(), 4789, ways));
        assert_eq!(of(&[way(3, 0, Verdict::Silent, 0), way(2, 0, Verdict::Untried, 0)]), None);
        assert_eq!(of(&[way(2, 0, Verdict::Whole, 0), way(2, 1, Verdict::Untried, 0)]), Some(Standing::Ok));
        let some = of(&[way(2, 0, Verdict::Whole, 0), way(2, 1, Verdict::Silent, 0)]);
        assert!(matches!(&some, Some(Standing::Degraded(why)) if why.starts_with("network two")), "{some:?}");
        let small = of(&[way(2, 0, Verdict::Small { carries: 104 }, 0)]);
        assert!(matches!(small, Some(Standing::Degraded(_))), "{small:?}");
        let none = of(&[way(2, 0, Verdict::Unheard, 0), way(2, 1, Verdict::Silent, 0)]);
        assert!(matches!(&none, Some(Standing::Down(why)) if why.contains("; ")), "{none:?}");
    }

    #[test]
    fn a_clock_that_is_off_is_said_once_with_its_side() {
        let mut ways =
            [way(2, 0, Verdict::Whole, 0), way(2, 1, Verdict::Whole, 0), way(3, 0, Verdict::Whole, 0)];
        ways[0].1.clock_off_ms = Some(89_700);
        ways[1].1.clock_off_ms = Some(89_800);
        ways[2].1.clock_off_ms = Some(-7_000);
        let said: Vec<String> = clocks(&view(), &ways).into_iter().map(|problem| problem.what).collect();
        assert_eq!(
            said,
            [
                "the clock of node n2 is 90 s ahead of this node's",
                "the clock of node n3 is 7 s behind this node's",
            ]
        );
    }
}
