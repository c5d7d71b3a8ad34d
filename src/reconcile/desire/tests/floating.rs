//! What is said to be at endpoints beside what they were given.

use super::*;
use crate::model::{Also, Floating, FloatingKey, Floatings, GroupAddr, SpoofingMode};
use crate::plan::Action;

const VIRTUAL: Mac = Mac([0, 0, 0x5e, 0, 1, 0x33]);

fn vtep(n: u8) -> IpAddr {
    [192, 0, 2, n].into()
}

/// Node 1's view: `a` is on itself, `b` on node 2 and `c` on node 3.
fn scene(spoofing: SpoofingMode) -> ClusterView {
    let mut scene = view(
        vec![node(1), node(2), node(3)],
        &[(1, endpoint("a", 10, 1)), (2, endpoint("b", 20, 1)), (3, endpoint("c", 30, 1))],
    );
    let network = scene.networks.get_mut(&NETWORK).unwrap();
    Arc::make_mut(&mut network.spec).options.spoofing = spoofing;
    scene
}

/// Node `n` says that these are at its endpoint, each as of a move.
fn say(view: &mut ClusterView, n: u8, all: &[(FloatingKey, Mac, u64)]) {
    let floating = |(key, mac, sequence): &(FloatingKey, Mac, u64)| {
        (*key, Floating { endpoint: "b".parse().unwrap(), mac: *mac, sequence: *sequence })
    };
    let said: Floatings = all.iter().map(floating).collect();
    view.networks.get_mut(&NETWORK).unwrap().floating.insert(id(n), Arc::new(said));
}

/// What follows, and what was desired before it, for a node that follows one view after the other.
struct Course {
    state: NetworkState,
    local: [LocalEndpoint; 1],
}

impl Course {
    fn begin(view: &ClusterView) -> Self {
        let local = [local(endpoint("a", 10, 1))];
        let mut course = Self { state: NetworkState::new(&view.networks[&NETWORK]), local };
        course.follow(view, &BTreeSet::new());
        course
    }

    fn follow(&mut self, view: &ClusterView, gone: &BTreeSet<NodeId>) -> Vec<Action> {
        let silent = BTreeSet::new();
        let world = world(view, &self.local, gone, &silent);
        match self.state.follow(&world, &view.networks[&NETWORK]) {
            Difference::Steps(steps) => steps,
            Difference::None | Difference::More => Vec::new(),
        }
    }

    fn desired(&self) -> &DesiredNetwork {
        self.state.desired().unwrap()
    }
}

fn address(last: u8) -> FloatingKey {
    FloatingKey::Address(ip(last))
}

#[test]
fn the_newest_word_is_right_and_every_move_is_announced_to_the_endpoints_here() {
    let mut view = scene(SpoofingMode::Allow);
    let mut course = Course::begin(&view);
    let [b, c] = [20, 30].map(|last| Mac::of_endpoint(ip(last)));
    say(&mut view, 2, &[(address(200), b, 1)]);
    let steps = course.follow(&view, &BTreeSet::new());
    let announced = |mac| Action::Announce { address: ip(200), mac };
    assert_eq!(steps, [Action::PutNeighbour { address: ip(200), mac: b }, announced(b)]);
    // The same number from a node with a higher id, then a higher number from the other.
    say(&mut view, 3, &[(address(200), c, 1)]);
    assert!(course.follow(&view, &BTreeSet::new()).contains(&announced(c)));
    say(&mut view, 2, &[(address(200), b, 2)]);
    assert!(course.follow(&view, &BTreeSet::new()).contains(&announced(b)));
    assert_eq!(course.desired().neighbours[&ip(200)], b);
    // Whose node is gone has nothing any more: then the one before is right again, and at last nobody.
    assert!(course.follow(&view, &BTreeSet::from([id(2)])).contains(&announced(c)));
    view.networks.get_mut(&NETWORK).unwrap().floating.clear();
    let steps = course.follow(&view, &BTreeSet::from([id(2)]));
    assert_eq!(steps, [Action::DeleteNeighbour(ip(200))]);
}

#[test]
fn a_mac_that_nobody_was_given_leads_to_who_said_last_that_it_is_there_and_one_that_was_given_does_not_move()
{
    let mut view = scene(SpoofingMode::Allow);
    let mut course = Course::begin(&view);
    let mac = FloatingKey::Mac(VIRTUAL);
    say(&mut view, 2, &[(address(200), VIRTUAL, 1), (mac, VIRTUAL, 1)]);
    course.follow(&view, &BTreeSet::new());
    assert_eq!(course.desired().remotes[&VIRTUAL], vtep(2));
    say(&mut view, 3, &[(address(200), VIRTUAL, 2), (mac, VIRTUAL, 2)]);
    let steps = course.follow(&view, &BTreeSet::new());
    assert_eq!(steps, [Action::PutRemote { mac: VIRTUAL, vtep: vtep(3) }], "the caches here are right");
    // On this node: nothing leads away.
    say(&mut view, 1, &[(address(200), VIRTUAL, 3), (mac, VIRTUAL, 3)]);
    assert_eq!(course.follow(&view, &BTreeSet::new()), [Action::DeleteRemote(VIRTUAL)]);
    assert_eq!(course.desired().neighbours[&ip(200)], VIRTUAL);
    let given = Mac::of_endpoint(ip(20));
    say(&mut view, 3, &[(FloatingKey::Mac(given), given, 9)]);
    course.follow(&view, &BTreeSet::new());
    assert_eq!(course.desired().remotes[&given], vtep(2));
}

#[test]
fn a_given_address_moves_only_where_endpoints_may_send_from_any() {
    let c = Mac::of_endpoint(ip(30));
    let mut view = scene(SpoofingMode::Deny);
    let mut course = Course::begin(&view);
    say(&mut view, 3, &[(address(20), c, 5)]);
    course.follow(&view, &BTreeSet::new());
    assert_eq!(course.desired().neighbours[&ip(20)], Mac::of_endpoint(ip(20)));
    let network = view.networks.get_mut(&NETWORK).unwrap();
    Arc::make_mut(&mut network.spec).options.spoofing = SpoofingMode::Allow;
    course.follow(&view, &BTreeSet::new());
    assert_eq!(course.desired().neighbours[&ip(20)], c);
    view.networks.get_mut(&NETWORK).unwrap().floating.clear();
    let steps = course.follow(&view, &BTreeSet::new());
    let back = Action::Announce { address: ip(20), mac: Mac::of_endpoint(ip(20)) };
    assert!(steps.contains(&back), "{steps:?}");
}

#[test]
fn every_group_goes_to_a_node_that_has_a_router_of_multicast() {
    let mut view = scene(SpoofingMode::Deny);
    let group = |text: &str| Group::any_source(text.parse::<GroupAddr>().unwrap());
    let network = view.networks.get_mut(&NETWORK).unwrap();
    network.groups.insert(id(2), Arc::new([group("239.1.1.1")].into()));
    network.groups.insert(id(1), Arc::new([group("239.1.1.2")].into()));
    let router = Also { routes: true, ..Also::default() };
    network.also.insert(id(3), Arc::new([("c".parse().unwrap(), router)].into()));
    let here = [local(endpoint("a", 10, 1))];
    let silent = BTreeSet::new();
    let gone = BTreeSet::new();
    let mut state = NetworkState::new(&view.networks[&NETWORK]);
    for now in [Duration::ZERO, Duration::from_secs(1)] {
        let world = World { now, ..world(&view, &here, &gone, &silent) };
        state.follow(&world, &view.networks[&NETWORK]);
    }
    let groups = &state.desired().unwrap().groups;
    assert_eq!(groups[&group("239.1.1.1")], BTreeSet::from([vtep(2), vtep(3)]));
    assert_eq!(groups[&group("239.1.1.2")], BTreeSet::from([vtep(3)]));
}
