//! Which ports of this node lead to which of its endpoints, and who has which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{World, members, network_mtu};
use crate::local::LocalEndpoint;
use crate::model::{
    ClusterView, EndpointName, NetworkId, NetworkName, NetworkSpec, Placement, Publication, ServiceName,
    Transport,
};
use crate::plan::{DesiredDoors, DesiredPorts, Door, Forward, Way, way_table};

/// Who publishes ports: an endpoint by itself, or a service with its endpoints on this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Publisher {
    /// An endpoint.
    Endpoint(NetworkName, EndpointName),
    /// A service.
    Service(NetworkName, ServiceName),
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(network, name) => write!(f, "endpoint {name} of network {network}"),
            Self::Service(network, name) => write!(f, "service {name} of network {network}"),
        }
    }
}

/// What somebody publishes on this node.
#[derive(Debug)]
pub struct Offer<'a> {
    /// Who.
    pub by: Publisher,
    network: NetworkId,
    /// Which ports.
    pub ports: &'a [Publication],
    endpoints: Vec<&'a LocalEndpoint>,
}

/// Whatever is published on a node with these endpoints. Who comes first has a port that two want.
pub fn offers<'a>(
    view: &'a ClusterView,
    local: &BTreeMap<NetworkId, BTreeMap<&'a EndpointName, &'a LocalEndpoint>>,
) -> Vec<Offer<'a>> {
    let mut found = Vec::new();
    for (network, records) in local {
        let Some(spec) = view.networks.get(network).map(|network| &network.spec) else { continue };
        // The node itself has its ports anyway.
        let containers = || records.values().copied().filter(|record| record.placement != Placement::Host);
        for record in containers().filter(|record| !record.publish.is_empty()) {
            found.push(Offer {
                by: Publisher::Endpoint(spec.name.clone(), record.endpoint.name.clone()),
                network: *network,
                ports: &record.publish,
                endpoints: vec![record],
            });
        }
        for (name, service) in view.services_of(*network).filter(|(_, service)| !service.publish.is_empty()) {
            let of_it = |record: &&LocalEndpoint| record.endpoint.service.as_ref() == Some(name);
            let endpoints: Vec<_> = containers().filter(of_it).collect();
            if !endpoints.is_empty() {
                found.push(Offer {
                    by: Publisher::Service(spec.name.clone(), name.clone()),
                    network: *network,
                    ports: &service.publish,
                    endpoints,
                });
            }
        }
    }
    // An endpoint was told of a conflict when it was attached; a service may get its endpoints when nobody looks.
    found.sort_by(|one, other| (&one.by, one.network).cmp(&(&other.by, other.network)));
    found
}

/// What is published on this node.
#[derive(Debug, Default)]
pub struct Published {
    /// In each network.
    pub networks: BTreeMap<NetworkId, DesiredPorts>,
    /// On the node.
    pub doors: BTreeMap<Door, NetworkId>,
    /// What is not, since somebody else has the port.
    pub problems: Vec<String>,
}

impl Published {
    /// The doors, as a kernel is to have them.
    pub fn doors(&self) -> DesiredDoors {
        DesiredDoors { doors: self.doors.clone() }
    }
}

/// What should be published on this node. `place` is a number of where an endpoint is.
pub fn published(world: &World<'_>, place: impl Fn(&LocalEndpoint) -> u64) -> Published {
    let mut published = Published::default();
    let mut taken: Vec<(Publication, Publisher)> = Vec::new();
    for Offer { by, network, ports, endpoints } in offers(world.view, &world.local) {
        let Some(spec) = world.view.networks.get(&network).map(|network| &network.spec) else { continue };
        // Where a network cannot be it is said elsewhere.
        let Ok(mtu) = network_mtu(spec, members(world.view, network, world.gone)) else { continue };
        for port in ports {
            if let Some((_, holder)) = taken.iter().find(|(other, _)| other.overlaps(port)) {
                let place = port.place();
                published
                    .problems
                    .push(format!("{by} is not reached at port {place} of this node: {holder} has it"));
                continue;
            }
            taken.push((*port, by.clone()));
            let families = [false, true].into_iter().filter(|ipv6| suits(port, *ipv6));
            for ipv6 in families {
                let of = |records: &mut dyn Iterator<Item = &&LocalEndpoint>| -> BTreeSet<IpAddr> {
                    let all = records.flat_map(|record| record.endpoint.addresses.iter().map(IpNetwork::ip));
                    all.filter(|address| address.is_ipv6() == ipv6).collect()
                };
                let keeps = of(&mut endpoints.iter());
                if keeps.is_empty() {
                    continue;
                }
                let to = of(&mut endpoints.iter().filter(|record| !record.draining));
                let ports = published.networks.entry(network).or_insert_with(|| DesiredPorts {
                    mtu,
                    forwards: BTreeSet::new(),
                    keeps: BTreeSet::new(),
                    ways: BTreeMap::new(),
                });
                ports.forwards.insert(Forward { publication: *port, ipv6, to });
                ports.keeps.extend(keeps);
                // One that was offered is nowhere yet.
                for record in endpoints.iter().filter(|record| record.placement != Placement::Offered(None)) {
                    let new = || way(record, spec, place(record));
                    let way = ports.ways.entry(record.endpoint.name.clone()).or_insert_with(new);
                    way.udp.extend((port.transport == Transport::Udp).then_some(port.to));
                }
                published.doors.insert(Door::of(port, ipv6), network);
            }
        }
    }
    published
}

fn suits(port: &Publication, ipv6: bool) -> bool {
    port.address.is_none_or(|address| address.is_ipv6() == ipv6)
}

fn way(record: &LocalEndpoint, spec: &NetworkSpec, place: u64) -> Way {
    let first = |ipv6: bool| spec.gateways.iter().copied().find(|gateway| gateway.is_ipv6() == ipv6);
    let sources: BTreeSet<IpAddr> = record.endpoint.addresses.iter().map(IpNetwork::ip).collect();
    let has = |gateway: &IpAddr| sources.iter().any(|source| source.is_ipv6() == gateway.is_ipv6());
    let gateways = [first(false), first(true)].into_iter().flatten().filter(has).collect();
    let subnets = record.endpoint.addresses.iter();
    let subnets = subnets.filter_map(|own| IpNetwork::new(own.network(), own.prefix()).ok()).collect();
    let (ifname, table) = (record.ifname.clone(), way_table(spec.id));
    Way { ifname, place, table, sources, udp: BTreeSet::new(), subnets, gateways }
}
