//! When a group that was joined gets its entry.

use super::*;
use crate::model::{Mac, Vni};

const NET: NetworkId = NetworkId::from_bytes([7; 8]);

fn desired(groups: &[&str]) -> Desired {
    let group = |text: &&str| Group::any_source(text.parse().expect("a group"));
    let network = DesiredNetwork {
        id: NET,
        name: "net".to_owned(),
        vni: Vni::pick(&NET, |_| false).expect("is free"),
        port: 4789,
        local: [192, 0, 2, 1].into(),
        encrypted: false,
        mtu: 1450,
        mac: Mac::of_bridge(&NET),
        gateways: Vec::new(),
        multicast: MulticastMode::Snoop,
        broadcast: true,
        mdns: true,
        remotes: BTreeMap::new(),
        neighbours: BTreeMap::new(),
        flood: BTreeSet::new(),
        groups: groups.iter().map(|text| (group(text), BTreeSet::new())).collect(),
        ports: BTreeMap::new(),
    };
    Desired { networks: [(NET, network)].into() }
}

/// What is left of `groups` when they are held back at `now`.
fn left(fresh: &mut FreshGroups, groups: &[&str], applied: &[&str], now: Instant) -> Vec<String> {
    let mut desired = desired(groups);
    fresh.hold_back(&mut desired, &self::desired(applied).networks, now);
    desired.networks[&NET].groups.keys().map(Group::to_string).collect()
}

#[test]
fn a_group_gets_its_entry_some_time_after_the_first_join_and_keeps_it_until_the_last_leave() {
    let (mut fresh, begin) = (FreshGroups::default(), Instant::now());
    let (one, two) = ("239.1.1.1", "239.1.1.2");
    assert!(left(&mut fresh, &[one], &[], begin).is_empty());
    assert_eq!(fresh.next(), Some(begin + HOLD));
    let half = begin + HOLD / 2;
    assert!(left(&mut fresh, &[one, two], &[], half).is_empty());
    assert_eq!(left(&mut fresh, &[one, two], &[], begin + HOLD), [one]);
    assert_eq!(fresh.next(), Some(half + HOLD));
    // Left, and joined again: it begins anew.
    assert!(left(&mut fresh, &[], &[one], begin + HOLD).is_empty());
    assert!(left(&mut fresh, &[one], &[], begin + 2 * HOLD).is_empty());
}

#[test]
fn an_entry_that_is_there_is_not_taken_away() {
    let (mut fresh, begin) = (FreshGroups::default(), Instant::now());
    assert_eq!(left(&mut fresh, &["239.1.1.1"], &["239.1.1.1"], begin), ["239.1.1.1"]);
    assert_eq!(fresh.next(), None);
}
