//! From what the cluster knows and what this node has to what the kernel should have. Pure.
//!
//! Owns: which remote endpoints are programmed and where to, who wins an address that two claim, the MTU of a
//! network, and for how long a dead node's entries stay. Does not own the steps that lead there (`plan`).

mod underlay;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::local::LocalEndpoint;
use crate::mesh::mesh_address;
use crate::model::{
    BroadcastMode, Claims, ClusterView, Encryption, Endpoint, EndpointKey, Mac, MulticastMode, NetworkId,
    NetworkSpec, NetworkView, Node, NodeId, NodeState, SpoofingMode, ZeroconfMode,
};
use crate::multicast;
use crate::plan::{
    Desired, DesiredNetwork, DesiredPort, MtuError, Observed, ObservedNetwork, mesh_vtep, overlay_mtu,
};

pub use underlay::{needs_mesh, underlay_guard};

/// What this node should have in its kernel, and what stands in the way.
#[derive(Debug, Default)]
pub struct Wish {
    /// The networks and everything in them.
    pub desired: Desired,
    /// Endpoints of this node whose address or name a newer claim took, or whose network is gone.
    pub displaced: BTreeSet<EndpointKey>,
    /// What cannot be as it should, for people.
    pub problems: Vec<String>,
}

/// What this node knows of the others, and how it is set.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What the cluster knows.
    pub view: &'a ClusterView,
    /// The nodes that have been dead for longer than the grace period.
    pub gone: &'a BTreeSet<NodeId>,
    /// The dead nodes whose machines do not answer either: nothing that goes to many goes there.
    pub silent: &'a BTreeSet<NodeId>,
    /// The cluster's id.
    pub cluster: &'a str,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// Whether the kernel can send a group to its members only.
    pub selective: bool,
}

/// Works out what this node should have for its endpoints `local`.
pub fn wish<'a>(situation: Situation<'_>, local: impl Iterator<Item = &'a LocalEndpoint>) -> Wish {
    let mut wish = Wish::default();
    let Situation { view, gone, .. } = situation;
    let Some(me) = view.myself() else { return wish };
    let mut by_network: BTreeMap<NetworkId, Vec<&LocalEndpoint>> = BTreeMap::new();
    for record in local {
        by_network.entry(record.network).or_default().push(record);
    }
    for (id, records) in by_network {
        let Some(network) = view.networks.get(&id) else {
            wish.displaced.extend(records.iter().map(|record| record.key()));
            continue;
        };
        let claims = claims_of(view, network, &records);
        let (losers, winners): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| !claims.win(view.me, &record.endpoint));
        wish.displaced.extend(losers.into_iter().map(LocalEndpoint::key));
        if winners.is_empty() {
            continue;
        }
        let mtu = match network_mtu(&network.spec, members(view, id, gone)) {
            Ok(mtu) => mtu,
            Err(error) => {
                let mtu = error.needed;
                wish.problems.push(format!("network {}: {error}", network.spec.name));
                mtu
            }
        };
        let desired = desired_network(situation, me, network, &winners, &claims, mtu);
        wish.desired.networks.insert(id, desired);
    }
    wish
}

/// The MTU inside a network, in bytes: what its spec says, else what its members' underlays leave.
///
/// # Errors
/// An underlay is too small for the network's protocols.
pub fn network_mtu<'a>(spec: &NetworkSpec, members: impl Iterator<Item = &'a Node>) -> Result<u32, MtuError> {
    let ipv6 = spec.subnets.iter().any(IpNetwork::is_ipv6);
    let members = members.map(|node| (node.vtep, node.underlay_mtu));
    let derived = overlay_mtu(members, ipv6, spec.encrypt == Encryption::Wireguard)?;
    Ok(match (spec.mtu, derived) {
        (Some(given), _) => given,
        (None, Some(derived)) => derived,
        // Nobody is there whose underlay is known: what Ethernet leaves (1500 less 50, or less 130).
        (None, None) if spec.encrypt == Encryption::Wireguard => 1370,
        (None, None) => 1450,
    })
}

/// The nodes that take part in a network and count: this one, those that answer, and those in their grace.
pub fn members<'a>(
    view: &'a ClusterView,
    network: NetworkId,
    gone: &'a BTreeSet<NodeId>,
) -> impl Iterator<Item = &'a Node> {
    view.nodes
        .values()
        .filter(move |node| node.id == view.me || (node.networks.contains(&network) && counts(node, gone)))
}

fn counts(node: &Node, gone: &BTreeSet<NodeId>) -> bool {
    node.state != NodeState::Left && !gone.contains(&node.id)
}

/// Leaves alone what is there for other nodes in `desired`: while this node has not yet heard from everybody, an
/// entry it knows nothing of is not wrong.
pub fn keep_what_is_there(desired: &mut Desired, observed: &Observed, cluster: &str, view: &ClusterView) {
    for (id, network) in &mut desired.networks {
        let Some(observed) = observed.networks.get(id) else { continue };
        for (mac, vtep) in &observed.remotes {
            if let Some(vtep) = vtep
                && !network.ports.values().any(|port| port.mac == *mac)
            {
                network.remotes.entry(*mac).or_insert(*vtep);
            }
        }
        for (address, mac) in &observed.neighbours {
            network.neighbours.entry(*address).or_insert(*mac);
        }
        network.flood.extend(&observed.flood);
        let unheard = unheard(view, *id).map(|node| match view.networks.get(id) {
            Some(known) => vtep(cluster, &known.spec, node),
            None => node.vtep,
        });
        keep_groups(network, observed, &unheard.collect());
    }
}

/// Where a node's VXLAN packets of a network come from and go to.
pub fn vtep(cluster: &str, spec: &NetworkSpec, node: &Node) -> IpAddr {
    match spec.encrypt {
        Encryption::None => node.vtep,
        Encryption::Wireguard => mesh_vtep(mesh_address(cluster, node.index)).into(),
    }
}

/// The nodes that answer and have endpoints in a network that have not been heard of yet.
fn unheard(view: &ClusterView, network: NetworkId) -> impl Iterator<Item = &Node> {
    let heard = view.networks.get(&network).map(|network| &network.endpoints);
    let others = view.nodes.values().filter(|node| node.id != view.me && node.state.is_up());
    others
        .filter(move |node| node.networks.contains(&network))
        .filter(move |node| !heard.is_some_and(|heard| heard.contains_key(&node.id)))
}

/// What a node has not said yet it may have joined: its receivers stay, and no group is kept from it.
fn keep_groups(network: &mut DesiredNetwork, observed: &ObservedNetwork, unheard: &BTreeSet<IpAddr>) {
    if network.multicast != MulticastMode::Snoop || unheard.is_empty() {
        return;
    }
    network.groups.retain(|group, _| observed.groups.contains_key(group));
    for (group, vteps) in &observed.groups {
        let kept = vteps.iter().flatten().filter(|vtep| unheard.contains(vtep));
        network.groups.entry(*group).or_default().extend(kept);
    }
}

/// The networks of this node in which a node that answers has endpoints that have not been heard of yet.
pub fn is_settled(view: &ClusterView) -> bool {
    let Some(me) = view.myself() else { return true };
    me.networks
        .iter()
        .filter(|id| view.networks.contains_key(id))
        .all(|id| unheard(view, *id).next().is_none())
}

/// The claims of everybody else as they were published, and of this node as its own records tell them.
fn claims_of<'a>(view: &'a ClusterView, network: &'a NetworkView, local: &[&'a LocalEndpoint]) -> Claims<'a> {
    let mut claims = Claims::default();
    for (node, endpoints) in &network.endpoints {
        if *node == view.me || view.nodes.get(node).is_none_or(|node| node.state == NodeState::Left) {
            continue;
        }
        endpoints.values().for_each(|endpoint| claims.add(*node, endpoint));
    }
    local.iter().for_each(|record| claims.add(view.me, &record.endpoint));
    claims
}

fn desired_network(
    Situation { view, gone, silent, cluster, vxlan_port, selective }: Situation<'_>,
    me: &Node,
    network: &NetworkView,
    local: &[&LocalEndpoint],
    claims: &Claims<'_>,
    mtu: u32,
) -> DesiredNetwork {
    let spec = &network.spec;
    let mut neighbours = BTreeMap::new();
    let mut remotes = BTreeMap::new();
    let mut flood = BTreeSet::new();
    for (id, endpoints) in &network.endpoints {
        let Some(node) = view.nodes.get(id).filter(|node| *id != view.me && counts(node, gone)) else {
            continue;
        };
        for endpoint in endpoints.values().filter(|endpoint| claims.win(*id, endpoint)) {
            remotes.insert(endpoint.mac, vtep(cluster, spec, node));
            neighbours.extend(addresses_of(endpoint));
            if !silent.contains(id) {
                flood.insert(vtep(cluster, spec, node));
            }
        }
    }
    for record in local {
        neighbours.extend(addresses_of(&record.endpoint));
    }
    let mut groups = BTreeMap::new();
    if selective && spec.multicast == MulticastMode::Snoop {
        let others = network.groups.iter().filter(|(id, _)| **id != view.me);
        let counting = others.filter_map(|(id, joined)| {
            let node = view.nodes.get(id).filter(|node| counts(node, gone) && !silent.contains(id))?;
            Some((vtep(cluster, spec, node), joined.as_ref()))
        });
        let here = network.groups.get(&view.me).map(AsRef::as_ref);
        groups = multicast::entries(counting, here.unwrap_or(&BTreeSet::new()));
    }
    let mdns = spec.zeroconf == ZeroconfMode::Transparent;
    if !mdns {
        // Each node's own bridge is a member; where nothing else keeps mDNS back, an entry would let it out.
        groups.retain(|group, _| !group.address().is_mdns());
    }
    DesiredNetwork {
        id: spec.id,
        name: spec.name.to_string(),
        vni: spec.vni,
        port: vxlan_port,
        local: vtep(cluster, spec, me),
        encrypted: spec.encrypt == Encryption::Wireguard,
        mtu,
        mac: Mac::of_bridge(&spec.id),
        gateways: gateways(spec),
        multicast: spec.multicast,
        broadcast: spec.broadcast == BroadcastMode::On,
        mdns,
        remotes,
        neighbours,
        flood,
        groups,
        ports: local.iter().map(|record| (record.endpoint.name.clone(), port(record, spec, mtu))).collect(),
    }
}

fn addresses_of(endpoint: &Endpoint) -> impl Iterator<Item = (IpAddr, Mac)> + '_ {
    endpoint.addresses.iter().map(|address| (address.ip(), endpoint.mac))
}

/// The interface of an endpoint of this node, in a network with this MTU.
pub fn port(record: &LocalEndpoint, spec: &NetworkSpec, mtu: u32) -> DesiredPort {
    DesiredPort {
        name: record.endpoint.name.clone(),
        placement: record.placement.clone(),
        ifname: record.ifname.clone(),
        mac: record.endpoint.mac,
        addresses: record.endpoint.addresses.clone(),
        mtu,
        guarded: spec.spoofing == SpoofingMode::Deny,
    }
}

fn gateways(spec: &NetworkSpec) -> Vec<IpNetwork> {
    spec.subnets
        .iter()
        .zip(&spec.gateways)
        .filter_map(|(subnet, gateway)| IpNetwork::new(*gateway, subnet.prefix()).ok())
        .collect()
}

#[cfg(test)]
mod tests;
