//! From what this node knows to what the socket answers. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::api::ranges::Ranges;
use crate::api::types::{
    AttachAnswer, AttachRequest, Check, CheckState, DesiredDocument, DoctorAnswer, EndpointAnswer,
    EndpointState, GroupAnswer, MemberAnswer, NetworkAnswer, NetworkRequest, NodeAnswer, NodeCounts,
    NodeMesh, ServiceRequest, TrafficAnswer,
};
use crate::cluster::{Members, NetworkGroups, Stats};
use crate::dns::{self, search_domain};
use crate::kernel::{Capability, Refused};
use crate::local::LocalEndpoint;
use crate::mesh::mesh_address;
use crate::model::{
    ClusterView, Endpoint, EndpointName, Group, Membership, NetworkSpec, NetworkView, Node, NodeId, NodeName,
    NodeState, Placement, ServiceName, Traffic,
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

/// A node's name, or the beginning of its id while that is not known.
pub fn node_name(view: &ClusterView, id: &NodeId) -> String {
    view.nodes.get(id).map_or_else(|| id.short(), |node| node.name.to_string())
}

/// A node; `manager` is who hands out indexes.
pub fn node(view: &ClusterView, node: &Node, manager: Option<NodeId>) -> NodeAnswer {
    // One that left took its endpoints with it, whatever it published last.
    let networks = node.networks.iter().filter(|_| node.state != NodeState::Left);
    let networks = networks.filter_map(|id| view.networks.get(id));
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
        networks: networks.map(|network| network.spec.name.clone()).collect(),
        mesh: None,
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

/// What the parts counted, by name: the cluster's as they are, the name servers' behind `dns_`, and what came from the
/// underlay and was `refused`.
pub fn counters(cluster: &Stats, dns: &dns::Counters, refused: Refused) -> BTreeMap<String, u64> {
    let dns = by_name(dns).into_iter().map(|(name, count)| (format!("dns_{name}"), count));
    let refused = [("underlay_vxlan_refused", refused.vxlan), ("underlay_mesh_refused", refused.mesh)];
    let refused = refused.map(|(name, count)| (name.to_owned(), count));
    by_name(cluster).into_iter().chain(dns).chain(refused).collect()
}

fn by_name(counters: &impl Serialize) -> BTreeMap<String, u64> {
    // A flat struct of numbers: it is a map of numbers by construction.
    let value = serde_json::to_value(counters).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}

/// A network, and where its namespace on this node is, if it has one.
pub fn network(network: &NetworkView, namespace: Option<PathBuf>) -> NetworkAnswer {
    let spec = &network.spec;
    let request = network_request(spec);
    NetworkAnswer {
        name: spec.name.clone(),
        id: spec.id,
        vni: spec.vni,
        subnets: request.subnets,
        gateway: spec.gateways[0],
        gateways: spec.gateways.clone(),
        pools: request.pools,
        reserve: request.reserve,
        block_size: spec.block_size,
        mtu: spec.mtu,
        multicast: spec.multicast,
        broadcast: spec.broadcast,
        zeroconf: spec.zeroconf,
        encrypt: spec.encrypt,
        spoofing: spec.spoofing,
        dns_forward: spec.dns.forward,
        dns_ttl: spec.dns.ttl,
        created_ms: spec.created_ms,
        conflict: network.conflict,
        netns: namespace,
    }
}

/// The request that makes a network like this one.
fn network_request(spec: &NetworkSpec) -> NetworkRequest {
    let mut pools: BTreeMap<ServiceName, Ranges> = BTreeMap::new();
    for pool in &spec.pools {
        // Every pool came in through a request, under a service's name.
        if let Ok(service) = ServiceName::new(pool.service.clone()) {
            pools.entry(service).or_default().0.push(pool.range);
        }
    }
    NetworkRequest {
        subnets: spec.subnets.clone(),
        gateways: spec.gateways.clone(),
        pools,
        reserve: spec.reserved.clone(),
        block_size: spec.block_size,
        mtu: spec.mtu,
        multicast: spec.multicast,
        broadcast: spec.broadcast,
        zeroconf: spec.zeroconf,
        encrypt: spec.encrypt,
        spoofing: spec.spoofing,
        dns_forward: spec.dns.forward,
        dns_ttl: spec.dns.ttl,
    }
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
        NodeState::Alive => EndpointState::Up,
        NodeState::Suspect => EndpointState::Suspect,
        NodeState::Dead | NodeState::Left => EndpointState::Down,
    };
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
        spoofed: None,
        queries_dropped: None,
    })
}

/// The groups that are `joined` on the nodes of a network that answer; those `here` with their endpoints, and those
/// elsewhere with what `there` says. `tally` says what was sent and came, by the `vtep` of a node in that network.
pub fn groups(
    view: &ClusterView,
    network: &NetworkSpec,
    joined: &NetworkGroups,
    here: &BTreeSet<Membership>,
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
        let Some(node) = view.nodes.get(id).filter(|node| node.state.is_up()) else { continue };
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
        document.networks.entry(name.clone()).or_insert_with(|| network_request(&network.spec));
        let endpoints = document.endpoints.entry(name.clone()).or_default();
        endpoints.insert(record.endpoint.name.clone(), attach_request(record));
    }
    document
}

fn attach_request(record: &LocalEndpoint) -> AttachRequest {
    let netns = match &record.placement {
        Placement::Netns(path) => Some(path.clone()),
        Placement::Host => None,
    };
    let advertise = record.endpoint.services.iter().cloned().map(ServiceRequest::from);
    AttachRequest {
        host: netns.is_none(),
        netns,
        ifname: Some(record.ifname.clone()),
        service: record.endpoint.service.clone(),
        slot: record.endpoint.slot,
        addresses: record.asked.clone(),
        aliases: record.endpoint.aliases.clone(),
        advertise: advertise.collect(),
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

/// What this machine can do.
pub fn doctor(capabilities: Vec<Capability>) -> DoctorAnswer {
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
    let checks: Vec<Check> =
        std::iter::once(privileges()).chain(capabilities.into_iter().map(check)).collect();
    DoctorAnswer { ok: checks.iter().all(|check| check.state != CheckState::Missing), checks }
}
