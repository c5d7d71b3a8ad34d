//! The rule against what each member asked for, over few groups, senders and nodes, so that they meet.

use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;

use super::*;
use lanmesh_model::GroupAddr;

fn group() -> impl Strategy<Value = Group> {
    let address = prop::sample::select(vec!["239.1.1.1", "239.1.1.2", "224.0.0.251", "ff02::fb", "ff02::1"]);
    (address, option::of(1..4_u8)).prop_map(|(address, source)| {
        let address: GroupAddr = address.parse().unwrap();
        let source = source.map(|n| match address.ip() {
            IpAddr::V4(_) => IpAddr::from([10, 0, 0, n]),
            IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n.into()]),
        });
        Group::new(address, source).unwrap()
    })
}

fn groups() -> impl Strategy<Value = BTreeSet<Group>> {
    btree_set(group(), 0..4)
}

fn vtep() -> impl Strategy<Value = IpAddr> {
    (1..5_u8).prop_map(|n| IpAddr::from([192, 0, 2, n]))
}

/// What the kernel does with a datagram: the sender's entry, else the group's, else everywhere (`None`).
fn sent(entries: &BTreeMap<Group, Receivers>, to: GroupAddr, from: IpAddr) -> Option<Receivers> {
    let exact = Group::new(to, Some(from)).unwrap();
    entries.get(&exact).or_else(|| entries.get(&Group::any_source(to))).cloned()
}

proptest! {
    #[test]
    fn a_datagram_goes_to_exactly_the_nodes_with_a_member_that_wants_it_from_its_sender(
        members in btree_map(vtep(), groups(), 0..4), local in groups(), to in group(), n in 1..5_u8,
    ) {
        let to = to.address();
        let from = match to.ip() {
            IpAddr::V4(_) => IpAddr::from([10, 0, 0, n]),
            IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n.into()]),
        };
        let entries = entries(members.iter().map(|(vtep, groups)| (*vtep, groups)), &local);
        let wants = |groups: &BTreeSet<Group>| {
            groups.iter().any(|g| g.address() == to && g.source().is_none_or(|source| source == from))
        };
        let anybody = members.values().chain([&local]).flatten().any(|group| group.address() == to);
        let expected: Receivers =
            members.iter().filter(|(_, groups)| wants(groups)).map(|(vtep, _)| *vtep).collect();
        prop_assert_eq!(sent(&entries, to, from), (anybody && to.is_selective()).then_some(expected));
    }
}

#[test]
fn a_group_that_nobody_has_joined_has_no_entry_and_one_joined_only_here_goes_nowhere() {
    let group = Group::any_source("239.1.1.1".parse().unwrap());
    assert_eq!(entries([], &BTreeSet::new()), BTreeMap::new());
    assert_eq!(entries([], &[group].into()), [(group, Receivers::new())].into());
}

#[test]
fn what_every_host_hears_anyway_is_not_published() {
    let local = ["239.1.1.1", "224.0.0.251", "ff02::1:ff00:17", "ff02::fb"]
        .map(|address| GroupMember { group: Group::any_source(address.parse().unwrap()), endpoint: None });
    let published: Vec<_> = to_publish(&local).iter().map(Group::to_string).collect();
    assert_eq!(published, ["239.1.1.1", "ff02::fb"]);
}
