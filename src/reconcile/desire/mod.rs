//! From what the cluster knows and what this node has to what the kernel should have. Pure.
//!
//! Owns: which remote endpoints are programmed and where to, who wins an address that two claim, the MTU of a
//! network, and for how long a dead node's entries stay. It is kept up to date by what changes (`network`, `entries`),
//! so that an endpoint among ten thousand costs what it costs among ten. Does not own the steps that lead there from
//! what is seen in the kernel (`plan`).

mod entries;
mod floating;
mod network;
mod outward;
mod ports;
mod services;
mod underlay;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::local::LocalEndpoint;
use crate::mesh::{MeshSecret, mesh_address};
use crate::model::OutwardPorts;
use crate::model::{
    ClusterView, Encryption, EndpointName, MulticastMode, NetworkId, NetworkSpec, Node, NodeId, NodeState,
    SpoofingMode,
};
use crate::plan::{DesiredNetwork, DesiredPort, MtuError, ObservedNetwork, mesh_vtep, overlay_mtu};

pub use network::{Difference, NetworkState};
use ports::published;
pub use ports::{Offer, Published, Publisher, is_the_clusters, offers, place};
pub use services::{balances, renewed};
pub use underlay::{needs_mesh, underlay_guard};

/// What a pass goes by: what the cluster knows, what this node has, and how it is set.
#[derive(Debug)]
pub struct World<'a> {
    /// What the cluster knows.
    pub view: &'a ClusterView,
    /// The endpoints of this node.
    pub local: BTreeMap<NetworkId, BTreeMap<&'a EndpointName, &'a LocalEndpoint>>,
    /// The networks in which every node takes part, whatever it has there.
    pub everywhere: BTreeSet<NetworkId>,
    /// The nodes that have been dead for longer than the grace period.
    pub gone: &'a BTreeSet<NodeId>,
    /// The dead nodes whose machines do not answer either: nothing that goes to many goes there.
    pub silent: &'a BTreeSet<NodeId>,
    /// The cluster's id.
    pub cluster: &'a str,
    /// The newest secret of the mesh, where this node has one.
    pub secret: Option<MeshSecret>,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// The first UDP port of the WireGuard mesh.
    pub wireguard_port: u16,
    /// From which ports endpoints may be seen that reach what is outside.
    pub outward_ports: OutwardPorts,
    /// Whether the kernel can send a group to its members only.
    pub can_select: bool,
    /// Whether it can drop what strangers send from the underlay.
    pub can_guard: bool,
    /// Everybody who answers has been heard: what is not known of is wrong.
    pub settled: bool,
    /// The time since any fixed moment.
    pub now: Duration,
    /// What is published on this node, once somebody has asked.
    pub published: OnceCell<Published>,
}

impl<'a> World<'a> {
    /// What should be published on this node: worked out once.
    pub fn published(&self) -> &Published {
        self.published.get_or_init(|| published(self))
    }

    /// The networks that this node is to have.
    pub fn networks(&self) -> BTreeSet<NetworkId> {
        self.local.keys().chain(&self.everywhere).copied().collect()
    }

    /// Endpoints by the network they are in.
    pub fn by_network(
        records: impl Iterator<Item = &'a LocalEndpoint>,
    ) -> BTreeMap<NetworkId, BTreeMap<&'a EndpointName, &'a LocalEndpoint>> {
        let mut by_network: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for record in records {
            by_network.entry(record.network).or_default().insert(&record.endpoint.name, record);
        }
        by_network
    }
}

/// The MTU inside a network, in bytes: what its spec says, else what its members' underlays leave.
///
/// # Errors
/// An underlay is too small for the network's protocols.
pub fn network_mtu<'a>(spec: &NetworkSpec, members: impl Iterator<Item = &'a Node>) -> Result<u32, MtuError> {
    let ipv6 = spec.subnets.iter().any(IpNetwork::is_ipv6);
    let members = members.map(|node| (node.vtep, node.underlay_mtu));
    let derived = overlay_mtu(members, ipv6, spec.options.encrypt == Encryption::Wireguard)?;
    Ok(match (spec.options.mtu, derived) {
        (Some(given), _) => given,
        (None, Some(derived)) => derived,
        // Nobody is there whose underlay is known: what Ethernet leaves (1500 less 50, or less 130).
        (None, None) if spec.options.encrypt == Encryption::Wireguard => 1370,
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

/// Leaves alone what is there for other nodes in `network`: while this node has not yet heard from everybody, an entry
/// it knows nothing of is not wrong. `unheard` are the VTEPs of those that it has heard nothing of.
pub fn keep_what_is_there(
    network: &mut DesiredNetwork,
    observed: &ObservedNetwork,
    unheard: &BTreeSet<IpAddr>,
) {
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
    keep_groups(network, observed, unheard);
}

/// Where a node's VXLAN packets of a network come from and go to.
pub fn vtep(cluster: &str, spec: &NetworkSpec, node: &Node) -> IpAddr {
    match spec.options.encrypt {
        Encryption::None => node.vtep,
        Encryption::Wireguard => mesh_vtep(mesh_address(cluster, node.index)).into(),
    }
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

/// Whether everything is known of the networks of this node that those who answer have there.
pub fn is_settled(view: &ClusterView) -> bool {
    let Some(me) = view.myself() else { return true };
    me.networks
        .iter()
        .filter(|id| view.networks.contains_key(id))
        .all(|id| view.unheard(*id).next().is_none())
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
        guarded: spec.options.spoofing == SpoofingMode::Deny,
        also: record.also.clone(),
        gateways: if record.outward.is_some() { outward::gateways(record, spec) } else { Vec::new() },
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
