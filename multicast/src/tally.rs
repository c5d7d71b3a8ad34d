//! How much of what was sent to each group went to which node.
//!
//! The kernel counts a packet once, before it is copied for the nodes that get it. Who these are changes when entries
//! do; so what was counted up to then is credited to those of before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Receivers;
use lanmesh_model::{Group, GroupAddr, GroupTraffic, Traffic};

/// What was counted of a network's groups, from when this node's agent began to look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    last: GroupTraffic,
    groups: BTreeMap<GroupAddr, GroupTally>,
}

/// What was counted of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupTally {
    /// What this node's endpoints sent, each packet once.
    pub sent: Traffic,
    /// Where that went, by VTEP.
    pub to: BTreeMap<IpAddr, Traffic>,
    /// What came from other nodes.
    pub received: Traffic,
}

impl Tally {
    /// Takes up what the kernel has counted so far. Since the last call groups went where `entries` say, and those
    /// that have none to all of `others`, the VTEPs of the network.
    pub fn take(
        &mut self,
        counted: GroupTraffic,
        entries: &BTreeMap<Group, Receivers>,
        others: &BTreeSet<IpAddr>,
    ) {
        for (group, traffic) in &counted.sent {
            let more = traffic.since(self.last.sent.get(group).copied().unwrap_or_default());
            if more == Traffic::default() {
                continue;
            }
            let tally = self.groups.entry(*group).or_default();
            tally.sent += more;
            for vtep in entries.get(&Group::any_source(*group)).unwrap_or(others) {
                *tally.to.entry(*vtep).or_default() += more;
            }
        }
        for (group, traffic) in &counted.received {
            let more = traffic.since(self.last.received.get(group).copied().unwrap_or_default());
            if more != Traffic::default() {
                self.groups.entry(*group).or_default().received += more;
            }
        }
        // What the kernel has forgotten and nobody wants any more would stay for ever.
        let wanted: BTreeSet<GroupAddr> = entries.keys().map(Group::address).collect();
        self.groups.retain(|group, _| {
            counted.sent.contains_key(group) || counted.received.contains_key(group) || wanted.contains(group)
        });
        self.last = counted;
    }

    /// Every group of which something was counted.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupAddr, &GroupTally)> {
        self.groups.iter()
    }

    /// What was counted of a group; `None`: nothing.
    pub fn of(&self, group: GroupAddr) -> Option<&GroupTally> {
        self.groups.get(&group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "239.1.1.1";

    fn vteps(last: &[u8]) -> BTreeSet<IpAddr> {
        last.iter().map(|n| IpAddr::from([192, 0, 2, *n])).collect()
    }

    fn counted(sent: u64, received: u64) -> GroupTraffic {
        let group = GROUP.parse().unwrap();
        let of = |packets| BTreeMap::from([(group, Traffic { packets, bytes: packets * 100 })]);
        GroupTraffic { sent: of(sent), received: of(received) }
    }

    fn entry(receivers: &[u8]) -> BTreeMap<Group, Receivers> {
        BTreeMap::from([(Group::any_source(GROUP.parse().unwrap()), vteps(receivers))])
    }

    fn packets(tally: &Tally) -> (u64, Vec<u64>, u64) {
        let group = tally.of(GROUP.parse().unwrap()).cloned().unwrap_or_default();
        let to = (1..4).map(|n| group.to.get(&IpAddr::from([192, 0, 2, n])).map_or(0, |to| to.packets));
        (group.sent.packets, to.collect(), group.received.packets)
    }

    #[test]
    fn packets_are_credited_to_those_who_got_them_when_they_were_sent() {
        let mut tally = Tally::default();
        let others = vteps(&[1, 2, 3]);
        tally.take(counted(5, 0), &BTreeMap::new(), &others);
        assert_eq!(packets(&tally), (5, vec![5, 5, 5], 0), "a group without an entry goes to all");
        tally.take(counted(12, 9), &entry(&[2]), &others);
        assert_eq!(packets(&tally), (12, vec![5, 12, 5], 9));
        tally.take(counted(13, 9), &entry(&[]), &others);
        assert_eq!(packets(&tally), (13, vec![5, 12, 5], 9), "an entry that leads nowhere");
        // The kernel began to count anew.
        tally.take(counted(4, 3), &entry(&[1]), &others);
        assert_eq!(packets(&tally), (17, vec![9, 12, 5], 12));
    }

    #[test]
    fn what_is_counted_no_more_is_kept_as_long_as_somebody_wants_it() {
        let mut tally = Tally::default();
        tally.take(counted(5, 0), &entry(&[1]), &vteps(&[1]));
        tally.take(GroupTraffic::default(), &entry(&[1]), &vteps(&[1]));
        assert_eq!(packets(&tally).0, 5);
        tally.take(GroupTraffic::default(), &BTreeMap::new(), &vteps(&[1]));
        assert_eq!(tally.of(GROUP.parse().unwrap()), None);
    }
}
