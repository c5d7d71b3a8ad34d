//! Clusters written down as values, and what one of their nodes should have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::model::{
    Endpoint, Group, Mac, NetworkOptions, NetworkView, NodeIndex, NodeName, Placement, PublishMode,
    PublishSource, testing,
};

mod floating;

const NETWORK: NetworkId = NetworkId::from_bytes([9; 8]);

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn node(n: u8) -> Node {
    Node {
        id: id(n),
        name: NodeName::new(format!("n{n}")).expect("a name"),
        index: NodeIndex(u32::from(n)),
        address: format!("192.0.2.{n}:7979").parse().expect("an address"),
        vtep: IpAddr::from([192, 0, 2, n]),
        underlay_mtu: 1500,
        networks: BTreeSet::from([NETWORK]),
        mesh: Vec::new(),
        labels: Default::default(),
        state: NodeState::Alive,
    }
}

fn spec() -> NetworkSpec {
    testing::network(NETWORK)
}

fn endpoint(name: &str, last: u8, claim: u64) -> Endpoint {
    let address = format!("10.10.0.{last}/24").parse().expect("an address");
    Endpoint { claim, ..testing::endpoint(name, [address]) }
}

fn local(endpoint: Endpoint) -> LocalEndpoint {
    LocalEndpoint {
        network: NETWORK,
        endpoint,
        placement: Placement::Netns(PathBuf::from("/run/netns/c")),
        namespace: None,
        ifname: "eth0".to_owned(),
        asked: Vec::new(),
        draining: false,
        also: Default::default(),
        publish: Vec::new(),
        publish_mode: PublishMode::default(),
        publish_source: PublishSource::default(),
        outward: None,
        owner: None,
    }
}

/// Node 1's view of a cluster whose node `n` has these endpoints.
fn view(nodes: Vec<Node>, endpoints: &[(u8, Endpoint)]) -> ClusterView {
    let mut by_node: BTreeMap<NodeId, BTreeMap<EndpointName, Endpoint>> = BTreeMap::new();
    for (n, endpoint) in endpoints {
        by_node.entry(id(*n)).or_default().insert(endpoint.name.clone(), endpoint.clone());
    }
    let network = NetworkView {
        spec: Arc::new(spec()),
        groups: BTreeMap::new(),
        zeroconf: BTreeMap::new(),
        draining: BTreeMap::new(),
        also: BTreeMap::new(),
        floating: BTreeMap::new(),
        conflict: false,
        heard: Default::default(),
        endpoints: by_node.into_iter().map(|(node, endpoints)| (node, Arc::new(endpoints))).collect(),
    };
    ClusterView {
        me: id(1),
        nodes: Arc::new(nodes.into_iter().map(|node| (node.id, node)).collect()),
        networks: BTreeMap::from([(NETWORK, network)]),
        services: Arc::default(),
        loans: Arc::default(),
        mesh_ports: Arc::default(),
    }
}

/// What one node should have, worked out at once.
#[derive(Debug, Default)]
struct Wish {
    desired: BTreeMap<NetworkId, DesiredNetwork>,
    displaced: BTreeSet<EndpointName>,
    problems: Vec<String>,
}

fn world<'a>(
    view: &'a ClusterView,
    local: &'a [LocalEndpoint],
    gone: &'a BTreeSet<NodeId>,
    silent: &'a BTreeSet<NodeId>,
) -> World<'a> {
    World {
        view,
        local: World::by_network(local.iter()),
        everywhere: view.everywhere(),
        gone,
        silent,
        cluster: "c",
        secret: None,
        vxlan_port: 4789,
        wireguard_port: 51840,
        outward_ports: OutwardPorts { first: 61_000, last: 65_535 },
        can_select: true,
        can_guard: true,
        settled: true,
        now: Duration::ZERO,
        published: Default::default(),
    }
}

fn wish_of(view: &ClusterView, local: &[LocalEndpoint]) -> Wish {
    wish_without(view, local, &BTreeSet::new())
}

fn wish_without(view: &ClusterView, local: &[LocalEndpoint], gone: &BTreeSet<NodeId>) -> Wish {
    let silent = BTreeSet::new();
    let world = world(view, local, gone, &silent);
    let mut wish = Wish::default();
    for id in world.local.keys() {
        let network = &view.networks[id];
        let mut state = NetworkState::new(network);
        state.follow(&world, network);
        wish.displaced.extend(state.displaced(&world).into_iter().map(|(name, _)| name));
        wish.problems.extend(state.problem.clone());
        wish.desired.extend(state.desired().map(|desired| (*id, desired.clone())));
    }
    wish
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 10, 0, last])
}

#[test]
fn endpoints_elsewhere_are_reached_through_their_node_and_broadcast_goes_only_where_there_are_some() {
    let nodes = vec![node(1), node(2), node(3)];
    let view = view(nodes, &[(2, endpoint("b", 20, 1)), (2, endpoint("c", 21, 1))]);
    let wish = wish_of(&view, &[local(endpoint("a", 10, 1))]);
    let network = &wish.desired[&NETWORK];
    assert_eq!(network.remotes[&Mac::of_endpoint(ip(20))], IpAddr::from([192, 0, 2, 2]));
    // Each other node can be asked whether what is sent there arrives.
    for n in [2, 3] {
        assert_eq!(network.remotes[&Mac::of_probe(NodeIndex(n.into()))], IpAddr::from([192, 0, 2, n]));
    }
    assert_eq!((network.remotes.len(), network.probe), (4, Mac::of_probe(NodeIndex(1))));
    assert_eq!(network.neighbours.keys().copied().collect::<Vec<_>>(), [ip(10), ip(20), ip(21)]);
    assert_eq!(network.flood, BTreeSet::from([IpAddr::from([192, 0, 2, 2])]));
    assert_eq!(network.gateways, ["10.10.0.1/24".parse().expect("an address")]);
    assert_eq!(network.ports.len(), 1);
    assert!(wish.displaced.is_empty() && wish.problems.is_empty());
}

#[test]
fn a_network_without_an_endpoint_of_this_node_is_not_on_this_node() {
    let view = view(vec![node(1), node(2)], &[(2, endpoint("b", 20, 1))]);
    assert!(wish_of(&view, &[]).desired.is_empty());
}

#[test]
fn the_entries_of_a_dead_node_stay_until_its_grace_is_over_and_those_of_one_that_left_do_not() {
    let others = [(2, endpoint("b", 20, 1)), (3, endpoint("c", 30, 1))];
    let mut nodes = vec![node(1), node(2), node(3)];
    nodes[1].state = NodeState::Dead;
    nodes[2].state = NodeState::Left;
    let view = view(nodes, &others);
    let here = [local(endpoint("a", 10, 1))];
    let in_grace = wish_of(&view, &here);
    assert!(in_grace.desired[&NETWORK].remotes.contains_key(&Mac::of_endpoint(ip(20))));
    assert!(!in_grace.desired[&NETWORK].remotes.contains_key(&Mac::of_endpoint(ip(30))));
    let after = wish_without(&view, &here, &BTreeSet::from([id(2)]));
    assert!(after.desired[&NETWORK].remotes.is_empty());
    assert!(after.desired[&NETWORK].flood.is_empty());
}

#[test]
fn of_two_claims_on_one_address_the_newer_one_is_programmed_and_the_older_endpoint_goes() {
    let view =
        view(vec![node(1), node(2), node(3)], &[(2, endpoint("old", 20, 3)), (3, endpoint("new", 20, 4))]);
    let wish = wish_of(&view, &[local(endpoint("a", 10, 1))]);
    let network = &wish.desired[&NETWORK];
    assert_eq!(network.remotes[&Mac::of_endpoint(ip(20))], IpAddr::from([192, 0, 2, 3]));
    assert!(wish.displaced.is_empty());

    let mine = [local(endpoint("a", 10, 1)), local(endpoint("mine", 20, 3))];
    let wish = wish_of(&view, &mine);
    assert_eq!(wish.displaced, BTreeSet::from([mine[1].endpoint.name.clone()]));
    assert_eq!(wish.desired[&NETWORK].ports.len(), 1);
}

#[test]
fn between_equal_claims_every_node_sees_the_same_winner() {
    let ours = endpoint("x", 20, 1);
    let view = view(vec![node(1), node(2)], &[(2, endpoint("y", 20, 1))]);
    let wish = wish_of(&view, &[local(ours)]);
    // Node 2 has the higher id.
    assert_eq!(wish.displaced.len(), 1);
    assert!(wish.desired.is_empty());
}

#[test]
fn the_smallest_underlay_of_the_members_decides_the_mtu_and_a_spec_may_say_less() {
    let mut nodes = vec![node(1), node(2), node(3)];
    nodes[1].underlay_mtu = 1400;
    nodes[2].underlay_mtu = 1000;
    nodes[2].networks.clear();
    let mut view = view(nodes, &[(2, endpoint("b", 20, 1))]);
    let here = [local(endpoint("a", 10, 1))];
    assert_eq!(wish_of(&view, &here).desired[&NETWORK].mtu, 1350);
    let network = view.networks.get_mut(&NETWORK).expect("is there");
    network.spec =
        Arc::new(NetworkSpec { options: NetworkOptions { mtu: Some(1200), ..Default::default() }, ..spec() });
    let wish = wish_of(&view, &here);
    assert_eq!(wish.desired[&NETWORK].mtu, 1200);
    assert_eq!(wish.desired[&NETWORK].ports.values().next().expect("one").mtu, 1200);
}

#[test]
fn an_underlay_that_is_too_small_is_a_problem_that_is_told_and_the_network_goes_on() {
    let mut nodes = vec![node(1), node(2)];
    nodes[1].underlay_mtu = 500;
    let view = view(nodes, &[(2, endpoint("b", 20, 1))]);
    let wish = wish_of(&view, &[local(endpoint("a", 10, 1))]);
    assert_eq!(wish.problems.len(), 1);
    assert!(wish.problems[0].contains("192.0.2.2"), "{}", wish.problems[0]);
    assert_eq!(wish.desired[&NETWORK].mtu, 576);
}

#[test]
fn a_node_that_has_not_been_heard_of_keeps_what_is_there_from_being_removed() {
    let lone = view(vec![node(1), node(2)], &[]);
    assert!(!is_settled(&lone));
    let here = [local(endpoint("a", 10, 1))];
    let mut network = wish_of(&lone, &here).desired.remove(&NETWORK).expect("is there");
    let mut there = ObservedNetwork::default();
    there.remotes.insert(Mac::of_endpoint(ip(20)), Some(IpAddr::from([192, 0, 2, 2])));
    there.remotes.insert(Mac::of_endpoint(ip(10)), Some(IpAddr::from([192, 0, 2, 2])));
    there.neighbours.insert(ip(20), Mac::of_endpoint(ip(20)));
    there.flood.insert(IpAddr::from([192, 0, 2, 2]));
    keep_what_is_there(&mut network, &there, &BTreeSet::from([IpAddr::from([192, 0, 2, 2])]));
    // What is now on this node itself is not kept as something remote.
    let probe = Mac::of_probe(NodeIndex(2));
    assert_eq!(network.remotes.keys().copied().collect::<Vec<_>>(), [Mac::of_endpoint(ip(20)), probe]);
    assert_eq!((network.neighbours.len(), network.flood.len()), (2, 1));
    assert!(is_settled(&view(vec![node(1), node(2)], &[(2, endpoint("b", 20, 1))])));
}

#[test]
fn a_group_gets_its_entry_some_time_after_the_first_join_and_keeps_it_until_the_last_leave() {
    let mut view = view(vec![node(1), node(2)], &[(2, endpoint("b", 20, 1))]);
    let here = [local(endpoint("a", 10, 1))];
    let (gone, silent) = (BTreeSet::new(), BTreeSet::new());
    let mut state = NetworkState::new(&view.networks[&NETWORK]);
    let mut follow = |groups: &[&str], now: Duration| {
        let joined = groups.iter().map(|text| Group::any_source(text.parse().expect("a group")));
        let network = view.networks.get_mut(&NETWORK).expect("is there");
        network.groups.insert(id(2), Arc::new(joined.collect()));
        let world = World { now, ..world(&view, &here, &gone, &silent) };
        let difference = state.follow(&world, &view.networks[&NETWORK]);
        let steps = match difference {
            Difference::Steps(steps) => steps.iter().map(ToString::to_string).collect(),
            Difference::None | Difference::More => Vec::new(),
        };
        let groups = state.desired().expect("is wanted").groups.keys().map(Group::to_string);
        (groups.collect::<Vec<_>>(), steps, state.next)
    };
    let (one, two) = ("239.1.1.1", "239.1.1.2");
    let hold = network::HOLD;
    assert_eq!(follow(&[one], Duration::ZERO), (vec![], vec![], Some(hold)));
    assert_eq!(follow(&[one, two], hold / 2), (vec![], vec![], Some(hold)));
    let added = vec![format!("add group {one} to 192.0.2.2")];
    assert_eq!(follow(&[one, two], hold), (vec![one.to_owned()], added, Some(hold / 2 + hold)));
    // Left, and joined again: it begins anew.
    assert_eq!(follow(&[], hold).1, [format!("delete group {one} to 192.0.2.2")]);
    assert_eq!(follow(&[one], 2 * hold).0, Vec::<String>::new());
}

#[test]
fn where_a_network_in_use_begins_to_snoop_no_group_has_an_entry_before_all_members_were_asked() {
    let mut view = view(vec![node(1), node(2)], &[(2, endpoint("b", 20, 1))]);
    let here = [local(endpoint("a", 10, 1))];
    let (gone, silent) = (BTreeSet::new(), BTreeSet::new());
    let mut state = NetworkState::new(&view.networks[&NETWORK]);
    let mut follow = |mode: MulticastMode, now: Duration| {
        let network = view.networks.get_mut(&NETWORK).expect("is there");
        Arc::make_mut(&mut network.spec).options.multicast = mode;
        let group = Group::any_source("239.1.1.1".parse().expect("a group"));
        network.groups.insert(id(2), Arc::new([group].into()));
        let world = World { now, ..world(&view, &here, &gone, &silent) };
        state.follow(&world, &view.networks[&NETWORK]);
        state.desired().expect("is wanted").groups.len()
    };
    let (hold, learn) = (network::HOLD, network::LEARN);
    assert_eq!(follow(MulticastMode::Snoop, Duration::ZERO), 0);
    assert_eq!(follow(MulticastMode::Snoop, hold), 1, "one that snoops from the beginning has nobody to ask");
    assert_eq!(follow(MulticastMode::Flood, 2 * hold), 0);
    assert_eq!(follow(MulticastMode::Snoop, 3 * hold), 0);
    assert_eq!(follow(MulticastMode::Snoop, 5 * hold), 0);
    assert_eq!(follow(MulticastMode::Snoop, 3 * hold + learn), 1);
}

mod properties {
    //! Whatever changes one after the other, what is desired is what it would be if it were all new, and the steps lead
    //! there from what it was.

    use proptest::prelude::*;
    use proptest::sample;

    use super::*;
    use crate::model::Claims;
    use crate::plan::{Desired, Observed, Op, plan};

    /// Something that changes in the world of node 1.
    #[derive(Debug, Clone)]
    enum Change {
        Put(u8, u8, u8, u8, u64),
        Take(u8, u8),
        State(u8, NodeState),
        Gone(u8, bool),
        Silent(u8, bool),
        Move(u8, u8),
        Join(u8, u8),
    }

    fn change() -> impl Strategy<Value = Change> {
        let node = 1..5_u8;
        prop_oneof![
            6 => (node.clone(), 0..3_u8, 0..4_u8, 0..4_u8, 1..4_u64)
                .prop_map(|(node, name, address, mac, claim)| Change::Put(node, name, address, mac, claim)),
            3 => (node.clone(), 0..3_u8).prop_map(|(node, name)| Change::Take(node, name)),
            1 => (2..5_u8, sample::select(vec![NodeState::Alive, NodeState::Dead, NodeState::Left]))
                .prop_map(|(node, state)| Change::State(node, state)),
            1 => (2..5_u8, any::<bool>()).prop_map(|(node, gone)| Change::Gone(node, gone)),
            1 => (2..5_u8, any::<bool>()).prop_map(|(node, silent)| Change::Silent(node, silent)),
            1 => (2..5_u8, 2..5_u8).prop_map(|(node, to)| Change::Move(node, to)),
            1 => (1..5_u8, 0..3_u8).prop_map(|(node, group)| Change::Join(node, group)),
        ]
    }

    struct Town {
        view: ClusterView,
        local: Vec<LocalEndpoint>,
        gone: BTreeSet<NodeId>,
        silent: BTreeSet<NodeId>,
    }

    impl Town {
        fn change(&mut self, change: Change) {
            let network = self.view.networks.get_mut(&NETWORK).expect("is there");
            let named = |n: u8| format!("e{n}");
            let set = |set: &mut BTreeSet<NodeId>, node, there| match there {
                true => drop(set.insert(node)),
                false => drop(set.remove(&node)),
            };
            match change {
                Change::Put(node, name, address, mac, claim) => {
                    let mut made = endpoint(&named(name), address + 10, claim);
                    // As somebody might say it who makes it up.
                    made.mac = Mac([2, 0, 0, 0, 0, mac]);
                    if node == 1 {
                        self.local.retain(|record| record.endpoint.name != made.name);
                        self.local.push(local(made));
                    } else {
                        let own = network.endpoints.entry(id(node)).or_default();
                        Arc::make_mut(own).insert(made.name.clone(), made);
                    }
                }
                Change::Take(1, name) => {
                    self.local.retain(|record| record.endpoint.name.as_str() != named(name));
                }
                Change::Take(node, name) => {
                    if let Some(own) = network.endpoints.get_mut(&id(node)) {
                        Arc::make_mut(own).retain(|there, _| there.as_str() != named(name));
                        network.endpoints.retain(|_, own| !own.is_empty());
                    }
                }
                Change::State(node, state) => self.node(node).state = state,
                Change::Move(node, to) => self.node(node).vtep = IpAddr::from([192, 0, 2, to]),
                Change::Gone(node, gone) => set(&mut self.gone, id(node), gone),
                Change::Silent(node, silent) => set(&mut self.silent, id(node), silent),
                Change::Join(node, group) => {
                    let group: Group =
                        Group::any_source(format!("239.0.0.{group}").parse().expect("a group"));
                    let joined = Arc::make_mut(network.groups.entry(id(node)).or_default());
                    if !joined.remove(&group) {
                        joined.insert(group);
                    }
                }
            }
        }

        fn node(&mut self, n: u8) -> &mut Node {
            Arc::make_mut(&mut self.view.nodes).get_mut(&id(n)).expect("is there")
        }

        /// Who holds what, worked out from nothing.
        fn entries(&self) -> (BTreeMap<Mac, IpAddr>, BTreeMap<IpAddr, Mac>, BTreeSet<IpAddr>) {
            let network = &self.view.networks[&NETWORK];
            let others = network.endpoints.iter().filter_map(|(id, endpoints)| {
                let node = self.view.nodes.get(id).filter(|node| node.state != NodeState::Left)?;
                Some((node, endpoints))
            });
            let others: Vec<_> = others.collect();
            let mut claims = Claims::default();
            for (node, endpoints) in &others {
                endpoints.values().for_each(|endpoint| claims.add(node.id, endpoint));
            }
            self.local.iter().for_each(|record| claims.add(id(1), &record.endpoint));
            let (mut neighbours, mut flood) = (BTreeMap::new(), BTreeSet::new());
            let probed = members(&self.view, NETWORK, &self.gone).filter(|node| node.id != id(1));
            let mut remotes: BTreeMap<Mac, IpAddr> =
                probed.map(|node| (Mac::of_probe(node.index), node.vtep)).collect();
            let addresses =
                |endpoint: &Endpoint| endpoint.addresses.iter().map(IpNetwork::ip).collect::<Vec<_>>();
            for (node, endpoints) in others.iter().filter(|(node, _)| !self.gone.contains(&node.id)) {
                for endpoint in endpoints.values().filter(|endpoint| claims.win(node.id, endpoint)) {
                    remotes.insert(endpoint.mac, node.vtep);
                    neighbours.extend(addresses(endpoint).into_iter().map(|address| (address, endpoint.mac)));
                    if !self.silent.contains(&node.id) {
                        flood.insert(node.vtep);
                    }
                }
            }
            let mut own: Vec<&Endpoint> = self.local.iter().map(|record| &record.endpoint).collect();
            own.sort_by_key(|endpoint| endpoint.name.clone());
            for endpoint in own.into_iter().filter(|endpoint| claims.win(id(1), endpoint)) {
                neighbours.extend(addresses(endpoint).into_iter().map(|address| (address, endpoint.mac)));
            }
            (remotes, neighbours, flood)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(250))]

        #[test]
        fn what_changes_one_after_the_other_comes_to_what_it_would_be_at_once(
            changes in proptest::collection::vec(change(), 1..30),
        ) {
            let nodes = (1..5).map(node).collect();
            let local = vec![local(endpoint("mine", 40, 1))];
            let mut town = Town { view: view(nodes, &[]), local, gone: BTreeSet::new(), silent: BTreeSet::new() };
            let mut state = NetworkState::new(&town.view.networks[&NETWORK]);
            let mut kernel = Observed::default();
            let mut now = Duration::ZERO;
            for change in changes {
                town.change(change);
                now += network::HOLD;
                let Town { view, local, gone, silent } = &town;
                let world = World { now, ..world(view, local, gone, silent) };
                let difference = state.follow(&world, &view.networks[&NETWORK]);
                let desired = state.desired().cloned();
                if let Some(desired) = &desired {
                    let (remotes, neighbours, flood) = town.entries();
                    prop_assert_eq!((&desired.remotes, &desired.neighbours, &desired.flood), (&remotes, &neighbours, &flood));
                }
                let wanted = Desired { networks: desired.into_iter().map(|network| (NETWORK, network)).collect() };
                let steps = match difference {
                    Difference::None => Vec::new(),
                    Difference::Steps(steps) => steps.into_iter().map(|action| Op { network: NETWORK, action }).collect(),
                    Difference::More => plan(&wanted, &kernel).ops,
                };
                for op in &steps {
                    let did = kernel.carry_out(op);
                    prop_assert!(did.is_ok(), "{}: {:?}", op, did);
                }
                prop_assert_eq!(plan(&wanted, &kernel).to_string(), "");
            }
        }
    }
}
