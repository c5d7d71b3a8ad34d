//! Which ports of this node lead to which of its endpoints, and who has which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::services::{Serving, serving, standing};
use super::{World, members, network_mtu, outward};
use crate::kernel::ClientPlace;
use crate::local::LocalEndpoint;
use crate::mesh;
use crate::model::{
    ClusterView, Endpoint, EndpointName, Mac, NetworkId, NetworkName, NetworkSpec, NodeId, NodeState,
    Placement, Publication, PublishMode, PublishSource, ServiceName, Transport,
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

impl Publisher {
    /// Whether what it publishes leads to this endpoint, if it is of the same network.
    pub fn is_of(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Endpoint(_, name) => *name == endpoint.name,
            Self::Service(_, name) => endpoint.service.as_ref() == Some(name),
        }
    }
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
    /// Of which network.
    pub network: NetworkId,
    /// Which ports.
    pub ports: &'a [Publication],
    /// Those of this node that they lead to.
    endpoints: Vec<&'a LocalEndpoint>,
    /// Every node has them.
    pub everywhere: bool,
    /// To which of other nodes they lead too.
    elsewhere: Elsewhere<'a>,
    /// Whom they see.
    source: PublishSource,
}

/// Which endpoints of other nodes.
#[derive(Debug, Clone, Copy)]
enum Elsewhere<'a> {
    None,
    /// Those of a service.
    Of(&'a ServiceName),
    /// One alone.
    Alone(NodeId, &'a EndpointName),
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
                everywhere: record.publish_mode == PublishMode::Mesh,
                elsewhere: Elsewhere::None,
                source: record.publish_source,
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
                everywhere,
                elsewhere: if everywhere { Elsewhere::Of(name) } else { Elsewhere::None },
                source: service.publish_source,
            });
        }
    }
    // An endpoint was told of a conflict when it was attached; a service may get its endpoints when nobody looks.
    found.sort_by(|one, other| (&one.by, one.network).cmp(&(&other.by, other.network)));
    // Nor does an endpoint of another node know who has a port here.
    for (node, key, ports) in view.ports_of_endpoints().filter(|(node, ..)| *node != view.me) {
        let Some(spec) = view.networks.get(&key.network).map(|network| &network.spec) else { continue };
        found.push(Offer {
            by: Publisher::Endpoint(spec.name.clone(), key.name.clone()),
            network: key.network,
            ports: &ports.ports,
            endpoints: Vec::new(),
            everywhere: true,
            elsewhere: Elsewhere::Alone(node, &key.name),
            source: ports.source,
        });
    }
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
        let of_doors: BTreeSet<&NetworkId> = self.doors.values().collect();
        let mtus = of_doors.into_iter().filter_map(|network| Some(self.networks.get(network)?.mtu));
        let largest = mtus.max().unwrap_or(0);
        DesiredDoors { doors: self.doors.clone(), outward: self.outward.clone(), largest }
    }
}

/// What should be published on this node.
pub fn published(world: &World<'_>) -> Published {
    let mut published = Published::default();
    let mut taken: Vec<(Publication, Publisher)> = Vec::new();
    let offers = offers(world.view, &world.local);
    let mut serves: BTreeMap<NetworkId, BTreeMap<&ServiceName, Serving<'_>>> = BTreeMap::new();
    let mut stands: BTreeMap<NetworkId, BTreeMap<(NodeId, &EndpointName), Serving<'_>>> = BTreeMap::new();
    for offer in &offers {
        let network = offer.network;
        match offer.elsewhere {
            Elsewhere::None => {}
            Elsewhere::Of(_) => {
                serves.entry(network).or_insert_with(|| serving(world.view, network, |_| true));
            }
            Elsewhere::Alone(..) => {
                stands.entry(network).or_insert_with(|| each_alone(world.view, network));
            }
        }
    }
    for Offer { by, network, ports, endpoints, everywhere, elsewhere, source } in offers {
        let Some(spec) = world.view.networks.get(&network).map(|network| &network.spec) else { continue };
        // Where a network cannot be it is said elsewhere.
        let Ok(mtu) = network_mtu(spec, members(world.view, network, world.gone)) else { continue };
        let elsewhere = match elsewhere {
            Elsewhere::None => None,
            Elsewhere::Of(service) => serves.get(&network).and_then(|serving| serving.get(service)),
            Elsewhere::Alone(node, name) => stands.get(&network).and_then(|alone| alone.get(&(node, name))),
        };
        let own = match source {
            PublishSource::Client => Vec::new(),
            PublishSource::Node => {
                world.view.myself().map(|me| spec.node_addresses(me.index)).unwrap_or_default()
            }
        };
        for port in ports {
            // Another node may have other ports, or an older release that lets this be asked for.
            if is_the_clusters(world.view, (world.vxlan_port, world.wireguard_port), port) {
                let place = port.place();
                published.problems.push(format!(
                    "{by} is not reached at port {place} of this node: the cluster itself needs it"
                ));
                continue;
            }
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
                let seen_as = match source {
                    PublishSource::Client => None,
                    PublishSource::Node => own.iter().copied().find(|own| own.is_ipv6() == ipv6),
                };
                if source == PublishSource::Node && seen_as.is_none() {
                    published.problems.push(nobody(&by, port, ipv6, spec));
                    continue;
                }
                let ports = published.networks.entry(network).or_insert_with(|| DesiredPorts::new(mtu));
                ports.forwards.insert(Forward { publication: *port, ipv6, to: targets.to, seen_as });
                ports.keeps.extend(targets.keeps);
                ports.masked.extend(targets.host);
                ports.relay = ports.relay.or(relay(world.view, network).filter(|_| everywhere));
                // One that was offered is nowhere yet, the node has its own ways, and to the node's address everybody has.
                let has_way = |record: &&&LocalEndpoint| {
                    seen_as.is_none()
                        && record.placement.is_somewhere()
                        && record.placement != Placement::Host
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
    for network in world.networks() {
        let Some(spec) = world.view.networks.get(&network).map(|network| &network.spec) else { continue };
        let Ok(mtu) = network_mtu(spec, members(world.view, network, world.gone)) else { continue };
        if spec.options.node_addresses.is_some() {
            let ports = published.networks.entry(network).or_insert_with(|| DesiredPorts::new(mtu));
            ports.relay = relay(world.view, network);
        }
    }
    for (network, (mtu, outward)) in outward::outward(world) {
        published.outward.insert(network, outward.ports);
        published.networks.entry(network).or_insert_with(|| DesiredPorts::new(mtu)).outward = Some(outward);
    }
    published
}

/// Whether the nodes are reached at this port by each other, given the ports of VXLAN and the first of WireGuard.
pub fn is_the_clusters(view: &ClusterView, (vxlan, wireguard): (u16, u16), port: &Publication) -> bool {
    let mut nodes = view.nodes.values().filter(|node| node.state != NodeState::Left);
    let by_udp = port.port == vxlan || mesh::ports(wireguard).contains(&port.port);
    (port.transport == Transport::Udp && by_udp) || nodes.any(|node| node.address.port() == port.port)
}

/// What is to be said where endpoints are to see the node, and it has no address that they could.
fn nobody(by: &Publisher, port: &Publication, ipv6: bool, spec: &NetworkSpec) -> String {
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    format!(
        "{by} is not reached at port {} of this node over {family}, since its endpoints are to see the node's own address in network {name} \
         and it has none: set a range with a place for every node with `lanmesh network set {name} --node-addresses RANGE`",
        port.place(),
        name = spec.name
    )
}

/// Each endpoint of a network that stands, by itself.
fn each_alone(view: &ClusterView, network: NetworkId) -> BTreeMap<(NodeId, &EndpointName), Serving<'_>> {
    let mut alone: BTreeMap<(NodeId, &EndpointName), Serving<'_>> = BTreeMap::new();
    for (node, endpoint, draining) in standing(view, network) {
        alone.entry((node, &endpoint.name)).or_default().add(node, endpoint, draining);
    }
    alone
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
