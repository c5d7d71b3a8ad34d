//! The sentences about the entries by which a node finds the other end: neighbour, FDB, MDB, and the list of those that all goes to.

use std::net::IpAddr;

use super::sight::{BY_ITSELF, Sight};
use crate::model::{Cast, Group, GroupAddr, GroupMember, Hop, Mac, MulticastMode, Weight};
use crate::plan::{DesiredNetwork, ObservedNetwork};

/// The entries that lead to the other end: for one endpoint, for a group, for all.
pub fn hops(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork) -> Vec<Hop> {
    let mut hops = Vec::new();
    if sight.other.endpoint.is_some() {
        hops.push(neighbour(sight, want, have));
    }
    // Where the device is gone, so is all that it knew: that is no fault of its own.
    let gone = have.vxlan.is_none();
    if !gone {
        hops.push(fdb(sight, want, have));
    }
    // What comes in was sent by the other node's lists.
    if sight.errand.inward {
        if let Cast::Group(group) = sight.errand.cast {
            hops.push(member(sight, group));
        }
        return hops;
    }
    match sight.errand.cast {
        _ if gone => {}
        Cast::One | Cast::Service | Cast::Published => {}
        Cast::Group(group) => hops.push(mdb(sight, want, have, group)),
        Cast::All => hops.push(broadcast(sight, want, have)),
    }
    hops
}

fn neighbour(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork) -> Hop {
    let Some((mac, addresses)) = &sight.other.endpoint else { return Hop::new("neighbour", "") };
    let own = addresses.iter().map(|address| (address.ip(), *mac));
    let all: Vec<_> = own.chain(sight.other.floating.iter().copied()).collect();
    let found = all.iter().map(|(address, _)| match have.neighbours.get(address) {
        Some(mac) => format!("{address} is {mac}"),
        None => format!("{address} unknown"),
    });
    let mut hop = Hop::new("neighbour", found.collect::<Vec<_>>().join(", "));
    for (address, mac) in all {
        let asked = format!("node {} answers its endpoints that ask for {address}", sight.node);
        match (want.neighbours.get(&address), have.neighbours.get(&address)) {
            (Some(_), None) => hop.wrong(
                Weight::Cause,
                format!(
                    "node {} does not know the MAC of {address}: the neighbour entry of br0 is missing",
                    sight.node
                ),
                BY_ITSELF,
            ),
            (Some(wanted), Some(there)) if wanted != there => {
                hop.wrong(
                    Weight::Cause,
                    format!("{asked} with the MAC {there}, and it is {wanted}"),
                    BY_ITSELF,
                );
            }
            (Some(wanted), _) if *wanted != mac => hop.wrong(
                Weight::Cause,
                format!("{asked} with {wanted}: another endpoint has the higher claim on that address"),
                "`lanmesh whois` says who has it: give one of the two another address",
            ),
            (None, _) => hop.wrong(
                Weight::Cause,
                format!("node {} has not heard of the endpoint with {address}", sight.node),
                format!("`lanmesh status` on {} says what keeps it from the others", sight.node),
            ),
            _ => {}
        }
    }
    hop
}

fn at(vtep: Option<&Option<IpAddr>>) -> String {
    match vtep {
        Some(Some(vtep)) => format!("at {vtep}"),
        Some(None) => "half an entry".to_owned(),
        None => "none".to_owned(),
    }
}

fn fdb(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork) -> Hop {
    let other = sight.other;
    let endpoint = other.endpoint.as_ref().map(|(mac, _)| *mac);
    let shown = endpoint.unwrap_or(other.probe);
    let mut hop = Hop::new("fdb", format!("{shown} {}", at(have.remotes.get(&shown))));
    let mut look = |mac: Mac, of: String, weight: Weight| {
        let (wanted, there) = (want.remotes.get(&mac), have.remotes.get(&mac));
        match (wanted, there) {
            (None, _) => {}
            (Some(_), None | Some(None)) => hop.wrong(
                weight,
                format!("the FDB of node {} has no entry for {of} ({mac})", sight.node),
                BY_ITSELF,
            ),
            (Some(wanted), Some(Some(there))) if wanted != there => hop.wrong(
                weight,
                format!(
                    "the FDB of node {} sends frames for {of} ({mac}) to {there}, and node {} is at {wanted}",
                    sight.node, other.node
                ),
                BY_ITSELF,
            ),
            _ => {}
        }
    };
    if let Some(mac) = endpoint {
        look(mac, "the endpoint".to_owned(), Weight::Cause);
    }
    for (address, mac) in other.floating.iter().filter(|(_, mac)| Some(*mac) != endpoint) {
        look(*mac, format!("what has {address} now"), Weight::Cause);
    }
    look(other.probe, format!("probes of node {}", other.node), Weight::Cause);
    hop
}

fn nodes(vteps: &[String]) -> String {
    if vteps.is_empty() { "no other node".to_owned() } else { vteps.join(", ") }
}

/// Whether a group goes to the other node.
fn mdb(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork, address: GroupAddr) -> Hop {
    let group = Group::any_source(address);
    let (network, node, other) = (sight.network, sight.node, sight.other);
    if want.multicast == MulticastMode::Off {
        let mut hop = Hop::new("mdb", "multicast stays on its node");
        let what = format!("network {network} keeps multicast on its node (--multicast off)");
        hop.wrong(Weight::Cause, what, format!("`lanmesh network set {network} --multicast snoop`"));
        return hop;
    }
    let Some(wanted) = want.groups.get(&group).filter(|_| address.is_selective()) else {
        let mut hop = flood(sight, want, have, "mdb", &format!("group {}", address.ip()));
        hop.found = format!("no entry for {}: it goes where broadcast goes: {}", address.ip(), hop.found);
        return hop;
    };
    let nothing = Default::default();
    let there = have.groups.get(&group).unwrap_or(&nothing);
    let to: Vec<String> = there.iter().flatten().map(ToString::to_string).collect();
    let mut hop = Hop::new("mdb", format!("{} goes to {}", address.ip(), nodes(&to)));
    if !wanted.contains(&other.vtep) {
        let what = format!("node {node} knows of no member of {} on node {}", address.ip(), other.node);
        let hint = format!(
            "`lanmesh multicast ls {network}` shows who has joined: a program there has to join the group"
        );
        hop.wrong(Weight::Cause, what, hint);
    } else if !there.contains(&Some(other.vtep)) {
        let what = format!(
            "the MDB of node {node} does not send {} to node {}, which has a member",
            address.ip(),
            other.node
        );
        hop.wrong(Weight::Cause, what, BY_ITSELF);
    }
    let more: Vec<String> =
        there.iter().flatten().filter(|vtep| !wanted.contains(vtep)).map(ToString::to_string).collect();
    if !more.is_empty() {
        let what = format!(
            "the MDB of node {node} sends {} to {} too, where nobody has joined",
            address.ip(),
            more.join(", ")
        );
        hop.wrong(Weight::Aside, what, BY_ITSELF);
    }
    hop
}

/// Whether this end has joined a group.
fn member(sight: &Sight<'_>, group: GroupAddr) -> Hop {
    let Some(name) = &sight.errand.here else { return Hop::new("member", "") };
    let is_its =
        |member: &&GroupMember| member.group.address() == group && member.endpoint.as_ref() == Some(name);
    let joined = sight.members.iter().any(|member| is_its(&member));
    let mut hop = Hop::new(
        "member",
        if joined { format!("{name} has joined {}", group.ip()) } else { "none".to_owned() },
    );
    let asked = sight.want.is_some_and(|want| want.multicast == MulticastMode::Snoop) && group.is_selective();
    if asked && !joined {
        let what = format!("endpoint {name} has not joined {}", group.ip());
        let hint = "a program in it has to join the group on that interface: `ip maddress` in the container shows what is joined";
        hop.wrong(Weight::Cause, what, hint);
    }
    hop
}

fn broadcast(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork) -> Hop {
    if want.broadcast {
        return flood(sight, want, have, "flood", "broadcast");
    }
    let mut hop = Hop::new("flood", "broadcast stays on its node");
    let what = format!("network {} keeps broadcast on its node (--broadcast off)", sight.network);
    hop.wrong(Weight::Cause, what, format!("`lanmesh network set {} --broadcast on`", sight.network));
    hop
}

/// Whether what goes to all goes to the other node too.
fn flood(sight: &Sight<'_>, want: &DesiredNetwork, have: &ObservedNetwork, part: &str, what: &str) -> Hop {
    let (node, other) = (sight.node, sight.other);
    let to: Vec<String> = have.flood.iter().map(ToString::to_string).collect();
    let mut hop = Hop::new(part, nodes(&to));
    if !want.flood.contains(&other.vtep) {
        let text = format!(
            "node {node} sends {what} to node {} no more: it has no endpoint there, or its machine does not answer",
            other.node
        );
        hop.wrong(Weight::Cause, text, "`lanmesh node ls` says how it is");
    } else if !have.flood.contains(&other.vtep) {
        let text =
            format!("node {} is missing in the list of node {node} by which {what} goes to all", other.node);
        hop.wrong(Weight::Cause, text, BY_ITSELF);
    }
    hop
}
