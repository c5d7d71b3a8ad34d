//! Which endpoints reach what is outside by way of this node, and what of that is there to be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{World, members, network_mtu};
use crate::local::LocalEndpoint;
use crate::model::{NetworkId, NetworkSpec, NodeState, Placement, Transport};
use crate::plan::Outward;

/// Who reaches what is outside, by network, with the network's MTU.
pub fn outward(world: &World<'_>) -> BTreeMap<NetworkId, (u32, Outward)> {
    let mut found = BTreeMap::new();
    for (network, records) in &world.local {
        let leads =
            |record: &&&LocalEndpoint| record.outward.is_some() && record.placement != Placement::Host;
        let records: Vec<&LocalEndpoint> = records.values().filter(leads).copied().collect();
        // All of a network have one.
        let share = records.first().and_then(|record| world.outward_ports.share(record.outward?));
        let Some((ports, spec)) = share.zip(world.view.networks.get(network).map(|network| &network.spec))
        else {
            continue;
        };
        // Where a network cannot be it is said elsewhere.
        let Ok(mtu) = network_mtu(spec, members(world.view, *network, world.gone)) else { continue };
        let from = records.iter().flat_map(|record| record.endpoint.addresses.iter().map(IpNetwork::ip));
        found.insert(*network, (mtu, Outward { from: from.collect(), ports, closed: closed(world) }));
    }
    found
}

/// What nodes take from each other's addresses: an endpoint is seen as from its node's.
fn closed(world: &World<'_>) -> BTreeSet<(Transport, u16)> {
    let nodes = world.view.nodes.values().filter(|node| node.state != NodeState::Left);
    let ports: BTreeSet<u16> = nodes.map(|node| node.address.port()).collect();
    let of_the_cluster = ports.into_iter().flat_map(|port| [(Transport::Tcp, port), (Transport::Udp, port)]);
    of_the_cluster.chain([(Transport::Udp, world.vxlan_port)]).collect()
}

/// The gateway of each family that an endpoint has an address of.
pub fn gateways(record: &LocalEndpoint, spec: &NetworkSpec) -> Vec<IpAddr> {
    let has = |gateway: &&IpAddr| {
        record.endpoint.addresses.iter().any(|address| address.is_ipv6() == gateway.is_ipv6())
    };
    let first = |ipv6: bool| spec.gateways.iter().filter(has).find(|gateway| gateway.is_ipv6() == ipv6);
    [first(false), first(true)].into_iter().flatten().copied().collect()
}
