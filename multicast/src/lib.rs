//! From who is a member of which group to what a node's VXLAN device must hold.
//!
//! Owns: which memberships are worth telling the others, the rule by which a datagram reaches the nodes that have a
//! member and no others, and how much went to whom. Pure. Does not own: how memberships are seen and entries written
//! (`kernel`), how they travel (`cluster`), or when any of it happens (`reconcile`).

mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lanmesh_model::{EndpointName, Group, GroupMember};

pub use tally::{GroupTally, Tally};

/// Where datagrams for a group go beyond this node. None: nowhere, because its only members are here, or because
/// it is wanted only from senders that have entries of their own.
pub type Receivers = BTreeSet<IpAddr>;

/// What of this node's memberships the others have to know.
pub fn to_publish<'a>(local: impl IntoIterator<Item = &'a GroupMember>) -> BTreeSet<Group> {
    local
        .into_iter()
        .map(|membership| membership.group)
        .filter(|group| group.address().is_selective())
        .collect()
}

/// Which endpoints are members of those groups, for others who ask.
pub fn by_endpoint<'a>(
    local: impl IntoIterator<Item = &'a GroupMember>,
) -> BTreeMap<Group, BTreeSet<EndpointName>> {
    let mut members: BTreeMap<Group, BTreeSet<EndpointName>> = BTreeMap::new();
    for GroupMember { group, endpoint } in local {
        if let Some(endpoint) = endpoint.as_ref().filter(|_| group.address().is_selective()) {
            members.entry(*group).or_default().insert(endpoint.clone());
        }
    }
    members
}

/// The entries that this node's VXLAN device must hold.
///
/// `members` are the groups joined on each other node, by its VTEP; `local` are those joined here. A group that
/// nobody has joined has no entry, and goes to the whole network: so the first datagram after the first join
/// is not lost while the news of the join travels. A group that is joined has one for anybody's datagrams, and
/// one for each sender that some member named: for such a sender only its own entry counts, so those who hear
/// anybody are in it too.
pub fn entries<'a>(
    members: impl IntoIterator<Item = (IpAddr, &'a BTreeSet<Group>)>,
    local: &BTreeSet<Group>,
) -> BTreeMap<Group, Receivers> {
    let mut entries: BTreeMap<Group, Receivers> = BTreeMap::new();
    let selective = |group: &&Group| group.address().is_selective();
    for group in local.iter().filter(selective) {
        entries.entry(Group::any_source(group.address())).or_default();
        entries.entry(*group).or_default();
    }
    for (vtep, groups) in members {
        for group in groups.iter().filter(selective) {
            entries.entry(Group::any_source(group.address())).or_default();
            entries.entry(*group).or_default().insert(vtep);
        }
    }
    let anybody: BTreeMap<Group, Receivers> =
        entries.iter().filter(|(group, _)| group.source().is_none()).map(|(g, r)| (*g, r.clone())).collect();
    for (group, receivers) in entries.iter_mut().filter(|(group, _)| group.source().is_some()) {
        receivers.extend(anybody.get(&Group::any_source(group.address())).into_iter().flatten());
    }
    // A sender that is wanted nowhere else needs no entry: that for anybody leads nowhere too.
    entries.retain(|group, receivers| group.source().is_none() || !receivers.is_empty());
    entries
}

#[cfg(test)]
mod tests;
