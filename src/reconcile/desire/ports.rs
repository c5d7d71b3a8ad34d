//! Which ports of this node lead to which of its endpoints, and who has which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::services::{Serving, serving};
use super::{World, members, network_mtu, outward};
use crate::kernel::ClientPlace;
use crate::local::LocalEndpoint;
use crate::model::{
    ClusterView, Endpoint, EndpointName, Mac, NetworkId, NetworkName, NetworkSpec, NodeId, Placement,
    Publication, PublishMode, ServiceName, Transport,
};
use crate::plan::{DesiredDoors, DesiredPorts, Door, Forward, OutwardDoors, Relay, Way, way_table};

/// Who publishes ports: an endpoint by itself, or a service with its endpoints on this node or on all.
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
    /// Those of this node that they lead to.
    endpoints: Vec<&'a LocalEndpoint>,
    /// They lead to the endpoints of this service on other nodes too.
    everywhere: Option<&'a ServiceName>,
}

/// Whatever is published on a node with these endpoints. Who comes first has a port that two want.
pub fn offers<'a>(
    view: &'a ClusterView,
    local: &BTreeMap<NetworkId, BTreeMap<&'a EndpointName, &'a LocalEndpoint>>,
) -> Vec<Offer<'a>> {
    let mut found = Vec::new();
    let of =
        |network: &NetworkId| local.get(network).into_iter().flat_map(|records| records.values().copied());
    let is_container = |record: &&LocalEndpoint| record.placement != Placement::Host;
    for network in local.keys() {
        let Some(spec) = view.networks.get(network).map(|network| &network.spec) else { continue };
        // The node itself has its ports anyway.
        for record in of(network).filter(is_container).filter(|record| !record.publish.is_empty()) {
            found.push(Offer {
                by: Publisher::Endpoint(spec.name.clone(), record.endpoint.name.clone()),
                network: *network,
                ports: &record.publish,
                endpoints: vec![record],
                everywhere: None,
            });
        }
    }
    for ((network, name), service) in view.services.iter().filter(|(_, service)| !service.publish.is_empty())
    {
        let Some(spec) = view.networks.get(network).map(|network| &network.spec) else { continue };
        let everywhere = service.publish_mode == PublishMode::Mesh;
        let of_it = |record: &&LocalEndpoint| record.endpoint.service.as_ref() == Some(name);
        let counts = |record: &&LocalEndpoint| everywhere || is_container(record);
        let endpoints: Vec<_> = of(network).filter(of_it).filter(counts).collect();
        if everywhere || !endpoints.is_empty() {
            found.push(Offer {
                by: Publisher::Service(spec.name.clone(), name.clone()),
                network: *network,
                ports: &service.publish,
                endpoints,
                everywhere: everywhere.then_some(name),
            });
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
    /// And what answers those who reach what is outside.
    pub outward: OutwardDoors,
    /// What is not, since somebody else has the port.
    pub problems: Vec<String>,
}

impl Published {
    /// The doors, as a kernel is to have them.
    pub fn doors(&self) -> DesiredDoors {
        DesiredDoors { doors: self.doors.clone(), outward: self.outward.clone() }
    }
}

/// What should be published on this node.
pub fn published(world: &World<'_>) -> Published {
    let mut published = Published::default();
    let mut taken: Vec<(Publication, Publisher)> = Vec::new();
    let offers = offers(world.view, &world.local);
    let mut elsewhere: BTreeMap<NetworkId, BTreeMap<&ServiceName, Serving<'_>>> = BTreeMap::new();
    for network in offers.iter().filter(|offer| offer.everywhere.is_some()).map(|offer| offer.network) {
        elsewhere.entry(network).or_insert_with(|| serving(world.view, network, |_| true));
    }
    for Offer { by, network, ports, endpoints, everywhere } in offers {
        let Some(spec) = world.view.networks.get(&network).map(|network| &network.spec) else { continue };
        // Where a network cannot be it is said elsewhere.
        let Ok(mtu) = network_mtu(spec, members(world.view, network, world.gone)) else { continue };
        let elsewhere = everywhere.and_then(|service| elsewhere.get(&network)?.get(service));
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
                let targets = Targets::of(&endpoints, elsewhere, world.view.me, ipv6);
                if targets.keeps.is_empty() {
                    continue;
                }
                let ports = published.networks.entry(network).or_insert_with(|| DesiredPorts::new(mtu));
                ports.forwards.insert(Forward { publication: *port, ipv6, to: targets.to });
                ports.keeps.extend(targets.keeps);
                ports.masked.extend(targets.host);
                ports.relay = ports.relay.or(everywhere.and_then(|_| relay(world.view, network)));
                // One that was offered is nowhere yet, and the node has its own ways.
                let has_way = |record: &&&LocalEndpoint| {
                    !matches!(record.placement, Placement::Offered(None) | Placement::Host)
                };
                for record in endpoints.iter().filter(has_way) {
                    let new = || way(record, spec);
                    let way = ports.ways.entry(record.endpoint.name.clone()).or_insert_with(new);
                    way.udp.extend((port.transport == Transport::Udp).then_some(port.to));
                }
                published.doors.insert(Door::of(port, ipv6), network);
            }
        }
    }
    for (network, (mtu, outward)) in outward::outward(world) {
        published.outward.insert(network, outward.ports);
        published.networks.entry(network).or_insert_with(|| DesiredPorts::new(mtu)).outward = Some(outward);
    }
    published
}

/// Where a port leads over one family of addresses.
struct Targets {
    /// New connections.
    to: BTreeSet<IpAddr>,
    /// Those that are there.
    keeps: BTreeSet<IpAddr>,
    /// Those of them that are this node itself.
    host: BTreeSet<IpAddr>,
}

impl Targets {
    fn of(own: &[&LocalEndpoint], elsewhere: Option<&Serving<'_>>, me: NodeId, ipv6: bool) -> Self {
        let of = |endpoint: &Endpoint| -> Vec<IpAddr> {
            let all = endpoint.addresses.iter().map(IpNetwork::ip);
            all.filter(|address| address.is_ipv6() == ipv6).collect()
        };
        let here = |keep: fn(&LocalEndpoint) -> bool| {
            own.iter().filter(move |record| keep(record)).flat_map(|record| of(&record.endpoint))
        };
        let mut to: BTreeSet<IpAddr> = here(|record| !record.draining).collect();
        let mut keeps: BTreeSet<IpAddr> = here(|_| true).collect();
        let host = here(|record| record.placement == Placement::Host).collect();
        if let Some(Serving { live, draining }) = elsewhere {
            let there = |(node, endpoint): &(NodeId, &Endpoint)| {
                if *node == me { Vec::new() } else { of(endpoint) }
            };
            to.extend(live.iter().flat_map(there));
            keeps.extend(live.iter().chain(draining).flat_map(there));
        }
        Self { to, keeps, host }
    }
}

fn relay(view: &ClusterView, network: NetworkId) -> Option<Relay> {
    let node = Mac::of_node(view.myself()?.index);
    Some(Relay { node, bridge: Mac::of_bridge(&network) })
}

fn suits(port: &Publication, ipv6: bool) -> bool {
    port.address.is_none_or(|address| address.is_ipv6() == ipv6)
}

/// Where an endpoint is.
pub fn place(record: &LocalEndpoint) -> ClientPlace {
    ClientPlace { placement: record.placement.clone(), namespace: record.namespace }
}

fn way(record: &LocalEndpoint, spec: &NetworkSpec) -> Way {
    let sources: BTreeSet<IpAddr> = record.endpoint.addresses.iter().map(IpNetwork::ip).collect();
    let gateways = outward::gateways(record, spec).into_iter().collect();
    let subnets = record.endpoint.addresses.iter();
    let subnets = subnets.filter_map(|own| IpNetwork::new(own.network(), own.prefix()).ok()).collect();
    let (ifname, place, table) = (record.ifname.clone(), place(record).number(), way_table(spec.id));
    Way { ifname, place, table, sources, udp: BTreeSet::new(), subnets, gateways }
}
