//! From what this node knows to what the socket answers. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::api::types::{
    AttachAnswer, AttachRequest, Check, CheckState, DesiredDocument, DoctorAnswer, EndpointAnswer,
    EndpointState, GroupAnswer, MemberAnswer, NetworkRequest, NodeAnswer, NodeCounts, NodeMesh, PathsAnswer,
    ServiceAddressRequest, ServiceRequest, TrafficAnswer,
};
use crate::cluster::{Members, NetworkGroups, Stats};
use crate::dns::{self, search_domain};
use crate::health::Problem;
use crate::kernel::{Capability, PortDrops};
use crate::local::LocalEndpoint;
use crate::mesh::mesh_address;
use crate::model::{
    ClusterView, Endpoint, EndpointName, Group, GroupMember, NetworkId, NetworkSpec, NetworkView, Node,
    NodeId, NodeName, NodeState, Placement, PublishMode, PublishSource, ServiceSpec, Traffic,
};
use crate::multicast::Tally;
use crate::privileges;
use crate::reconcile::MeshPath;

/// What attaching gave.
pub fn attached(spec: &NetworkSpec, record: &LocalEndpoint, mtu: u32) -> AttachAnswer {
    AttachAnswer {
        name: record.endpoint.name.clone(),
        network: spec.name.clone(),
        addresses: record.endpoint.addresses.clone(),
        mac: record.endpoint.mac,
        ifname: record.ifname.clone(),
        gateway: spec.gateways[0],
        gateways: spec.gateways.clone(),
        dns: spec.gateways.clone(),
        search: vec![search_domain(&spec.name)],
        mtu,
    }
}

/// How many are named of those that something is said of.
const NAMED: usize = 10;

/// The first of these, and how many more there are.
pub fn some_of(all: impl IntoIterator<Item = String>) -> String {
    let mut all = all.into_iter();
    let named: Vec<String> = all.by_ref().take(NAMED).collect();
    match all.count() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// A text with the names of networks in the place of their ids.
pub fn named(view: &ClusterView, text: &str) -> String {
    let name = |text: String, (id, network): (&NetworkId, &NetworkView)| {
        called(&text, &id.to_string(), network.spec.name.as_str())
    };
    view.networks.iter().fold(text.to_owned(), name)
}

/// A text with a network's name in the place of its id. What a step is about stands before it.
fn called(text: &str, id: &str, name: &str) -> String {
    let mut parts = text.split(id);
    let mut said = parts.next().unwrap_or_default().to_owned();
    for rest in parts {
        // The word may be there already, and then it is a sentence about the network.
        let alone = said.ends_with("network ");
        said.truncate(said.strip_suffix("network ").unwrap_or(&said).len());
        let begins = !alone && (said.is_empty() || said.ends_with("; ") || said.ends_with(": "));
        let colon = if begins && rest.starts_with(' ') { ":" } else { "" };
        said.push_str(&format!("network {name}{colon}{rest}"));
    }
    said
}

/// A node's name, or the beginning of its id while that is not known.
pub fn node_name(view: &ClusterView, id: &NodeId) -> String {
    view.nodes.get(id).map_or_else(|| id.short(), |node| node.name.to_string())
}

/// A node; `manager` is who hands out indexes.
pub fn node(view: &ClusterView, node: &Node, manager: Option<NodeId>) -> NodeAnswer {
    // One that left took its endpoints with it, whatever it published last.
    let networks = node.networks.iter().filter(|_| node.state != NodeState::Left);
    let networks: Vec<_> = networks.filter_map(|id| view.networks.get(id)).collect();
    let own =
        networks.iter().map(|network| (network.spec.name.clone(), network.spec.node_addresses(node.index)));
    let own_addresses = own.filter(|(_, own)| !own.is_empty()).collect();
    NodeAnswer {
        name: node.name.clone(),
        id: node.id,
        index: node.index,
        address: node.address,
        state: node.state,
        me: node.id == view.me,
        manager: Some(node.id) == manager,
        vtep: node.vtep,
        underlay_mtu: node.underlay_mtu,
        networks: networks.iter().map(|network| network.spec.name.clone()).collect(),
        labels: node.labels.clone(),
        path: None,
        reason: None,
        mesh: None,
        own_addresses,
    }
}

/// A node's place in the mesh of the cluster with this id; `None` where it has none.
pub fn mesh(cluster: &str, node: &Node, path: Option<&MeshPath>) -> Option<NodeMesh> {
    // What it sends with is the newest it has.
    let key = node.mesh.iter().max_by_key(|key| key.epoch)?;
    Some(NodeMesh {
        address: mesh_address(cluster, node.index),
        public_key: key.public.to_string(),
        mtu: path.map(|path| path.mtu),
        carries: path.map(|path| path.carries),
    })
}

/// How many nodes are in each state.
pub fn counts(view: &ClusterView) -> NodeCounts {
    let mut counts = NodeCounts::default();
    for node in view.nodes.values() {
        match node.state {
            NodeState::Alive => counts.alive += 1,
            NodeState::Suspect => counts.suspect += 1,
            NodeState::Dead => counts.dead += 1,
            NodeState::Left => counts.left += 1,
        }
    }
    counts
}

/// What the parts counted, by name: the cluster's as they are, the name servers' behind `dns_`, and the `kernel`'s.
pub fn counters(
    cluster: &Stats,
    dns: &dns::Counters,
    kernel: BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let dns = by_name(dns).into_iter().map(|(name, count)| (format!("dns_{name}"), count));
    by_name(cluster).into_iter().chain(dns).chain(kernel).collect()
}

/// What was dropped at an endpoint's port, by the names of the kinds; those that nothing was dropped of are left out.
pub fn port_drops(drops: &PortDrops) -> BTreeMap<String, u64> {
    drops.some().map(|(kind, count)| (kind.name().to_owned(), count)).collect()
}

fn by_name(counters: &impl Serialize) -> BTreeMap<String, u64> {
    // A flat struct of numbers: it is a map of numbers by construction.
    let value = serde_json::to_value(counters).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}

fn is_draining(view: &ClusterView, network: &NetworkSpec, at: &NodeId, endpoint: &Endpoint) -> bool {
    let network = view.networks.get(&network.id);
    let draining = network.and_then(|network| network.draining.get(at));
    draining.is_some_and(|names| names.contains(&endpoint.name))
}

/// An endpoint of the node `at`.
pub fn endpoint(
    view: &ClusterView,
    network: &NetworkSpec,
    at: &NodeId,
    endpoint: &Endpoint,
) -> Option<EndpointAnswer> {
    let node = view.nodes.get(at)?;
    let state = match node.state {
        NodeState::Alive if is_draining(view, network, at, endpoint) => EndpointState::Draining,
        NodeState::Alive => EndpointState::Up,
        NodeState::Suspect => EndpointState::Suspect,
        NodeState::Dead | NodeState::Left => EndpointState::Down,
    };
    let also = view.networks.get(&network.id).and_then(|network| network.also.get(at)?.get(&endpoint.name));
    let also = also.cloned().unwrap_or_default();
    Some(EndpointAnswer {
        name: endpoint.name.clone(),
        network: network.name.clone(),
        service: endpoint.service.clone(),
        slot: endpoint.slot,
        aliases: endpoint.aliases.clone(),
        addresses: endpoint.addresses.clone(),
        mac: endpoint.mac,
        node: node.name.clone(),
        state,
        names_lost: BTreeMap::new(),
        spoofed: None,
        dropped: BTreeMap::new(),
        queries_dropped: None,
        publish: Vec::new(),
        publish_mode: PublishMode::default(),
        publish_source: PublishSource::default(),
        also_addresses: also.addresses.into_iter().collect(),
        also_macs: also.macs.into_iter().collect(),
        floating: view
            .floating_at(&network.id, at, &endpoint.name)
            .into_iter()
            .map(|(address, _)| address)
            .collect(),
        multicast_router: also.routes,
        default_route: false,
        owner: None,
    })
}

/// The groups that are `joined` on the nodes of a network that answer; those `here` with their endpoints, and those
/// elsewhere with what `there` says. `tally` says what was sent and came, by the `vtep` of a node in that network.
pub fn groups(
    view: &ClusterView,
    network: &NetworkSpec,
    joined: &NetworkGroups,
    here: &BTreeSet<GroupMember>,
    there: &BTreeMap<NodeId, Members>,
    tally: Option<&Tally>,
    vtep: impl Fn(&Node) -> IpAddr,
) -> Vec<GroupAnswer> {
    /// A member's node with its VTEP, unless it is this one, and its endpoint.
    type Member = (NodeName, Option<EndpointName>, Option<IpAddr>);
    let mut found: BTreeMap<Group, BTreeSet<Member>> = BTreeMap::new();
    for membership in here.iter().filter(|membership| membership.group.address().is_selective()) {
        let Some(node) = view.myself() else { continue };
        let member = (node.name.clone(), membership.endpoint.clone(), None);
        found.entry(membership.group).or_default().insert(member);
    }
    for (id, groups) in joined.iter().filter(|(id, _)| **id != view.me) {
        let Some(node) = view.nodes.get(id).filter(|_| view.is_up(id)) else { continue };
        for group in groups.iter() {
            let endpoints = there.get(id).and_then(|members| members.get(group)).into_iter().flatten();
            let mut endpoints: Vec<_> = endpoints.cloned().map(Some).collect();
            if endpoints.is_empty() {
                endpoints.push(None);
            }
            let members = found.entry(*group).or_default();
            members.extend(endpoints.into_iter().map(|name| (node.name.clone(), name, Some(vtep(node)))));
        }
    }
    let answer = |(group, members): (Group, BTreeSet<Member>)| {
        let counted = tally.map(|tally| tally.of(group.address()).cloned().unwrap_or_default());
        let sent_to = |vtep| {
            let counted = counted.as_ref().filter(|_| group.source().is_none())?;
            Some(traffic(counted.to.get(&vtep?).copied().unwrap_or_default()))
        };
        let member = |(node, endpoint, vtep)| MemberAnswer { node, endpoint, sent: sent_to(vtep) };
        GroupAnswer {
            network: network.name.clone(),
            group: group.address(),
            source: group.source(),
            members: members.into_iter().map(member).collect(),
            sent: counted.as_ref().map(|counted| traffic(counted.sent)),
            received: counted.as_ref().map(|counted| traffic(counted.received)),
        }
    };
    found.into_iter().map(answer).collect()
}

fn traffic(counted: Traffic) -> TrafficAnswer {
    TrafficAnswer { packets: counted.packets, bytes: counted.bytes }
}

/// What this node has been asked for.
pub fn desired<'a>(view: &ClusterView, local: impl Iterator<Item = &'a LocalEndpoint>) -> DesiredDocument {
    let mut document = DesiredDocument::default();
    for record in local {
        let Some(network) = view.networks.get(&record.network) else { continue };
        let name = &network.spec.name;
        document.networks.entry(name.clone()).or_insert_with(|| NetworkRequest::from(&*network.spec));
        let endpoints = document.endpoints.entry(name.clone()).or_default();
        endpoints.insert(record.endpoint.name.clone(), attach_request(record));
    }
    for ((network, name), service) in view.services.iter() {
        let Some(network) = view.networks.get(network).map(|network| &network.spec.name) else { continue };
        if document.networks.contains_key(network) {
            let ServiceSpec { addresses, ports, affinity, publish, publish_mode, publish_source } =
                service.clone();
            let request =
                ServiceAddressRequest { addresses, ports, affinity, publish, publish_mode, publish_source };
            document.services.entry(network.clone()).or_default().insert(name.clone(), request);
        }
    }
    document
}

fn attach_request(record: &LocalEndpoint) -> AttachRequest {
    let netns = match &record.placement {
        Placement::Netns(path) => Some(path.clone()),
        Placement::Host | Placement::Held => None,
        Placement::Offered(taken) => taken.clone(),
    };
    let advertise = record.endpoint.services.iter().cloned().map(ServiceRequest::from);
    AttachRequest {
        host: record.placement == Placement::Host,
        offer: matches!(record.placement, Placement::Offered(_)),
        hold: record.placement == Placement::Held,
        netns,
        ifname: (record.placement != Placement::Held).then(|| record.ifname.clone()),
        service: record.endpoint.service.clone(),
        slot: record.endpoint.slot,
        addresses: record.asked.clone(),
        aliases: record.endpoint.aliases.clone(),
        advertise: advertise.collect(),
        take: false,
        holds_ports: false,
        if_present: false,
        publish: record.publish.clone(),
        publish_mode: record.publish_mode,
        publish_source: record.publish_source,
        also_addresses: record.also.addresses.iter().copied().collect(),
        also_macs: record.also.macs.iter().copied().collect(),
        multicast_router: record.also.routes,
        default_route: record.outward.is_some(),
        owner: record.owner.clone(),
    }
}

/// What the agent itself may do.
fn privileges() -> Check {
    let lacking = privileges::lacking();
    Check {
        name: "the agent's capabilities".to_owned(),
        // Without those that are required it does not start.
        state: if lacking.is_none() { CheckState::Ok } else { CheckState::Fallback },
        found: lacking.map_or_else(|| privileges::held().join(", "), |lacking| format!("lacks {lacking}")),
        instead: privileges::lacking().map(|_| "what needs it fails: start the agent with it".to_owned()),
    }
}

/// What is left of former agents.
fn former(leftovers: Vec<String>) -> Check {
    let nothing = leftovers.is_empty();
    Check {
        name: "nothing is left of former agents".to_owned(),
        state: if nothing { CheckState::Ok } else { CheckState::Fallback },
        found: if nothing { "nothing".to_owned() } else { leftovers.join(", ") },
        instead: (!nothing).then(|| "it may drop what others send: `lanmesh cleanup` removes it".to_owned()),
    }
}

/// Whether the node is in its cluster; `wrong` says why not, or what keeps it from the others, and what to do.
pub fn membership(wrong: Option<(String, String)>) -> Check {
    let (found, instead) = match wrong {
        None => ("nothing is wrong".to_owned(), None),
        Some((found, hint)) => (found, Some(hint)),
    };
    let state = if instead.is_some() { CheckState::Fallback } else { CheckState::Ok };
    Check { name: "this node's place in its cluster".to_owned(), state, found, instead }
}

/// Whether names from outside can be answered; `unresolved` says why not.
fn resolvers(unresolved: Option<String>) -> Check {
    let instead = "names from outside are not answered: write 'nameserver ADDRESS' there, or set resolv_conf";
    Check {
        name: "resolvers for names from outside".to_owned(),
        state: if unresolved.is_none() { CheckState::Ok } else { CheckState::Fallback },
        instead: unresolved.as_ref().map(|_| instead.to_owned()),
        found: unresolved.unwrap_or_else(|| "there are some".to_owned()),
    }
}

/// Whether frames pass to the other nodes, as far as it is tried.
pub fn paths(ways: PathsAnswer, problems: &[Problem]) -> Check {
    let (found, hints): (Vec<_>, Vec<_>) =
        problems.iter().map(|problem| (problem.what.clone(), problem.hint.clone())).unzip();
    let well = problems.is_empty();
    Check {
        name: "the ways to the other nodes".to_owned(),
        state: if well { CheckState::Ok } else { CheckState::Fallback },
        found: if well {
            format!("{} of {} carry whole packets", ways.well, ways.tried)
        } else {
            some_of(found)
        },
        instead: (!well).then(|| some_of(hints)),
    }
}

/// What this machine can do; `own` is what is said of this node's cluster.
pub fn doctor(
    own: Vec<Check>,
    capabilities: Vec<Capability>,
    leftovers: Vec<String>,
    unresolved: Option<String>,
) -> DoctorAnswer {
    let check = |capability: Capability| Check {
        state: match (capability.available, capability.required) {
            (true, _) => CheckState::Ok,
            (false, true) => CheckState::Missing,
            (false, false) => CheckState::Fallback,
        },
        name: capability.name.to_owned(),
        found: capability.detail,
        instead: (!capability.available).then(|| capability.instead.to_owned()),
    };
    let checks: Vec<Check> = std::iter::once(privileges())
        .chain(capabilities.into_iter().map(check))
        .chain(own)
        .chain([former(leftovers), resolvers(unresolved)])
        .collect();
    DoctorAnswer { ok: checks.iter().all(|check| check.state != CheckState::Missing), checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_called_by_its_name_once_and_stands_before_what_is_done_in_it() {
        for (text, said) in [
            ("9495 add port web", "network net: add port web"),
            (
                "nothing; 9495 add port web; 9495 delete port db",
                "nothing; network net: add port web; network net: delete port db",
            ),
            (
                "doors put 8080/tcp ipv4 to 9495 8081/tcp ipv4 to 9495",
                "doors put 8080/tcp ipv4 to network net 8081/tcp ipv4 to network net",
            ),
            ("there is no network 9495", "there is no network net"),
            ("network 9495 is not there", "network net is not there"),
            ("of no network", "of no network"),
        ] {
            assert_eq!(called(text, "9495", "net"), said);
        }
    }
}
