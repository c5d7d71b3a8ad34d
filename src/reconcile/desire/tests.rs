//! Clusters written down as values, and what one of their nodes should have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::model::{EndpointName, NodeIndex, NodeName, Placement, testing};

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
        state: NodeState::Alive,
    }
}

fn spec() -> NetworkSpec {
    testing::network(NETWORK)
}

fn endpoint(name: &str, last: u8, claim: u64) -> Endpoint {
    let address: IpNetwork = format!("10.10.0.{last}/24").parse().expect("an address");
    Endpoint {
        name: EndpointName::new(name).expect("a name"),
        service: None,
        slot: None,
        aliases: Vec::new(),
        addresses: vec![address],
        mac: Mac::of_endpoint(address.ip()),
        services: Vec::new(),
        claim,
    }
}

fn local(endpoint: Endpoint) -> LocalEndpoint {
    LocalEndpoint {
        network: NETWORK,
        endpoint,
        placement: Placement::Netns(PathBuf::from("/run/netns/c")),
        namespace: None,
        ifname: "eth0".to_owned(),
        asked: Vec::new(),
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
        conflict: false,
        endpoints: by_node.into_iter().map(|(node, endpoints)| (node, Arc::new(endpoints))).collect(),
    };
    ClusterView {
        me: id(1),
        nodes: Arc::new(nodes.into_iter().map(|node| (node.id, node)).collect()),
        networks: BTreeMap::from([(NETWORK, network)]),
    }
}

fn wish_of(view: &ClusterView, local: &[LocalEndpoint]) -> Wish {
    wish_without(view, local, &BTreeSet::new())
}

fn wish_without(view: &ClusterView, local: &[LocalEndpoint], gone: &BTreeSet<NodeId>) -> Wish {
    let silent = &BTreeSet::new();
    let situation = Situation { view, gone, silent, cluster: "c", vxlan_port: 4789, selective: true };
    wish(situation, local.iter())
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 10, 0, last])
}

#[test]
fn endpoints_elsewhere_are_reached_through_their_node_and_broadcast_goes_only_where_there_are_some() {
    let nodes = vec![node(1), node(2), node(3)];
    let view = view(nodes, &[(2, endpoint("b", 20, 1)), (2, endpoint("c", 21, 1))]);
    let wish = wish_of(&view, &[local(endpoint("a", 10, 1))]);
    let network = &wish.desired.networks[&NETWORK];
    assert_eq!(network.remotes[&Mac::of_endpoint(ip(20))], IpAddr::from([192, 0, 2, 2]));
    assert_eq!(network.remotes.len(), 2);
    assert_eq!(network.neighbours.keys().copied().collect::<Vec<_>>(), [ip(10), ip(20), ip(21)]);
    assert_eq!(network.flood, BTreeSet::from([IpAddr::from([192, 0, 2, 2])]));
    assert_eq!(network.gateways, ["10.10.0.1/24".parse().expect("an address")]);
    assert_eq!(network.ports.len(), 1);
    assert!(wish.displaced.is_empty() && wish.problems.is_empty());
}

#[test]
fn a_network_without_an_endpoint_of_this_node_is_not_on_this_node() {
    let view = view(vec![node(1), node(2)], &[(2, endpoint("b", 20, 1))]);
    assert!(wish_of(&view, &[]).desired.networks.is_empty());
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
    assert!(in_grace.desired.networks[&NETWORK].remotes.contains_key(&Mac::of_endpoint(ip(20))));
    assert!(!in_grace.desired.networks[&NETWORK].remotes.contains_key(&Mac::of_endpoint(ip(30))));
    let after = wish_without(&view, &here, &BTreeSet::from([id(2)]));
    assert!(after.desired.networks[&NETWORK].remotes.is_empty());
    assert!(after.desired.networks[&NETWORK].flood.is_empty());
}

#[test]
fn of_two_claims_on_one_address_the_newer_one_is_programmed_and_the_older_endpoint_goes() {
    let view =
        view(vec![node(1), node(2), node(3)], &[(2, endpoint("old", 20, 3)), (3, endpoint("new", 20, 4))]);
    let wish = wish_of(&view, &[local(endpoint("a", 10, 1))]);
    let network = &wish.desired.networks[&NETWORK];
    assert_eq!(network.remotes[&Mac::of_endpoint(ip(20))], IpAddr::from([192, 0, 2, 3]));
    assert!(wish.displaced.is_empty());

    let mine = [local(endpoint("a", 10, 1)), local(endpoint("mine", 20, 3))];
    let wish = wish_of(&view, &mine);
    assert_eq!(wish.displaced, BTreeSet::from([mine[1].key()]));
    assert_eq!(wish.desired.networks[&NETWORK].ports.len(), 1);
}

#[test]
fn between_equal_claims_every_node_sees_the_same_winner() {
    let ours = endpoint("x", 20, 1);
    let view = view(vec![node(1), node(2)], &[(2, endpoint("y", 20, 1))]);
    let wish = wish_of(&view, &[local(ours)]);
    // Node 2 has the higher id.
    assert_eq!(wish.displaced.len(), 1);
    assert!(wish.desired.networks.is_empty());
}

#[test]
fn an_endpoint_whose_network_was_deleted_goes() {
    let mut view = view(vec![node(1)], &[]);
    view.networks.clear();
    let wish = wish_of(&view, &[local(endpoint("a", 10, 1))]);
    assert_eq!(wish.displaced.len(), 1);
}

#[test]
fn the_smallest_underlay_of_the_members_decides_the_mtu_and_a_spec_may_say_less() {
    let mut nodes = vec![node(1), node(2), node(3)];
    nodes[1].underlay_mtu = 1400;
    nodes[2].underlay_mtu = 1000;
    nodes[2].networks.clear();
    let mut view = view(nodes, &[(2, endpoint("b", 20, 1))]);
    let here = [local(endpoint("a", 10, 1))];
    assert_eq!(wish_of(&view, &here).desired.networks[&NETWORK].mtu, 1350);
    let network = view.networks.get_mut(&NETWORK).expect("is there");
    network.spec = Arc::new(NetworkSpec { mtu: Some(1200), ..spec() });
    let wish = wish_of(&view, &here);
    assert_eq!(wish.desired.networks[&NETWORK].mtu, 1200);
    assert_eq!(wish.desired.networks[&NETWORK].ports.values().next().expect("one").mtu, 1200);
}

#[test]
fn an_underlay_that_is_too_small_is_a_problem_that_is_told_and_the_network_goes_on() {
    let mut nodes = vec![node(1), node(2)];
    nodes[1].underlay_mtu = 500;
    let view = view(nodes, &[(2, endpoint("b", 20, 1))]);
    let wish = wish_of(&view, &[local(endpoint("a", 10, 1))]);
    assert_eq!(wish.problems.len(), 1);
    assert!(wish.problems[0].contains("192.0.2.2"), "{}", wish.problems[0]);
    assert_eq!(wish.desired.networks[&NETWORK].mtu, 576);
}

#[test]
fn a_node_that_has_not_been_heard_of_keeps_what_is_there_from_being_removed() {
    let lone = view(vec![node(1), node(2)], &[]);
    assert!(!is_settled(&lone));
    let here = [local(endpoint("a", 10, 1))];
    let mut desired = wish_of(&lone, &here).desired;
    let mut observed = Observed::default();
    let there = observed.networks.entry(NETWORK).or_default();
    there.remotes.insert(Mac::of_endpoint(ip(20)), Some(IpAddr::from([192, 0, 2, 2])));
    there.remotes.insert(Mac::of_endpoint(ip(10)), Some(IpAddr::from([192, 0, 2, 2])));
    there.neighbours.insert(ip(20), Mac::of_endpoint(ip(20)));
    there.flood.insert(IpAddr::from([192, 0, 2, 2]));
    keep_what_is_there(&mut desired, &observed, "c", &view(vec![node(1), node(2)], &[]));
    let network = &desired.networks[&NETWORK];
    // What is now on this node itself is not kept as something remote.
    assert_eq!(network.remotes.keys().copied().collect::<Vec<_>>(), [Mac::of_endpoint(ip(20))]);
    assert_eq!((network.neighbours.len(), network.flood.len()), (2, 1));
    assert!(is_settled(&view(vec![node(1), node(2)], &[(2, endpoint("b", 20, 1))])));
}
