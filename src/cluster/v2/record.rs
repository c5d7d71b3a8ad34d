//! The first kinds of records: settings of networks, labels of nodes, services with addresses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Stands;
use super::claim::{pool, range, subnet};
use crate::model::{
    AddedSubnet, AddressPlan, Affinity, NetworkId, NodeId, PLAN, PortMap, Publication, PublishMode,
    PublishSource, ServiceName, ServiceSpec, Setting, Transport,
};

/// Which setting of which network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct SettingKey {
    network: [u8; 8],
    /// An option's name, or `plan`.
    name: String,
}

/// What a setting is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) enum SettingValue {
    /// Of an option: as a person writes it.
    Option(String),
    /// The subnets that were added, with their gateways, and all pools and reservations.
    Plan {
        subnets: Vec<(IpAddr, u8, IpAddr)>,
        pools: Vec<(String, IpAddr, IpAddr)>,
        reserved: Vec<(IpAddr, IpAddr)>,
    },
}

/// Which label of which node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct LabelKey {
    node: [u8; 16],
    label: String,
}

impl Stands<(NetworkId, String)> for SettingKey {
    fn of((network, name): &(NetworkId, String)) -> Self {
        Self { network: *network.as_bytes(), name: name.clone() }
    }

    fn present(self) -> Option<(NetworkId, String)> {
        Some((NetworkId::from_bytes(self.network), self.name))
    }
}

impl SettingValue {
    pub fn of(setting: &Setting) -> Self {
        match setting {
            Setting::Option(text) => Self::Option(text.clone()),
            Setting::Plan(AddressPlan { added, pools, reserved }) => Self::Plan {
                subnets: added.iter().map(|a| (a.subnet.ip(), a.subnet.prefix(), a.gateway)).collect(),
                pools: pools.iter().map(|p| (p.service.clone(), p.range.first(), p.range.last())).collect(),
                reserved: reserved.iter().map(|range| (range.first(), range.last())).collect(),
            },
        }
    }

    pub fn present(self, name: &str) -> Option<Setting> {
        match self {
            Self::Option(text) => (name != PLAN).then_some(Setting::Option(text)),
            Self::Plan { subnets, pools, reserved } if name == PLAN => {
                let added =
                    |(ip, prefix, gateway)| Some(AddedSubnet { subnet: subnet((ip, prefix))?, gateway });
                Some(Setting::Plan(AddressPlan {
                    added: subnets.into_iter().map(added).collect::<Option<_>>()?,
                    pools: pools.into_iter().map(pool).collect::<Option<_>>()?,
                    reserved: reserved.into_iter().map(range).collect::<Option<_>>()?,
                }))
            }
            Self::Plan { .. } => None,
        }
    }
}

impl Stands<(NodeId, String)> for LabelKey {
    fn of((node, label): &(NodeId, String)) -> Self {
        Self { node: *node.as_bytes(), label: label.clone() }
    }

    fn present(self) -> Option<(NodeId, String)> {
        Some((NodeId::from_bytes(self.node), self.label))
    }
}

/// A published port: the address, if it is one alone; the node's port, the endpoints', and whether it is UDP's.
pub(super) type Port = (Option<IpAddr>, u16, u16, bool);

pub(super) fn port(one: &Publication) -> Port {
    (one.address, one.port, one.to, one.transport == Transport::Udp)
}

pub(super) fn publication((address, port, to, udp): Port) -> Option<Publication> {
    let transport = if udp { Transport::Udp } else { Transport::Tcp };
    let publication = Publication { address, port, to, transport };
    publication.check().is_ok().then_some(publication)
}

/// Which service of which network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct ServiceKey {
    network: [u8; 8],
    name: String,
}

/// A service that has addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Service {
    addresses: Vec<IpAddr>,
    /// The service's port, and that of its endpoints.
    ports: Vec<(u16, u16)>,
    /// Whether a client is kept at one endpoint.
    keep: bool,
    /// Ports of nodes that lead to its endpoints.
    publish: Vec<Port>,
}

/// What was added to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct ServiceMore {
    /// Whether every node has these ports, and not only those with endpoints of it.
    everywhere: bool,
}

impl ServiceMore {
    pub fn of(spec: &ServiceSpec) -> Self {
        Self { everywhere: spec.publish_mode == PublishMode::Mesh }
    }

    pub fn add_to(self, spec: ServiceSpec) -> ServiceSpec {
        let publish_mode = if self.everywhere { PublishMode::Mesh } else { PublishMode::Local };
        ServiceSpec { publish_mode, ..spec }
    }
}

/// What was added later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct ServiceSeen {
    /// Whether endpoints see the node that was asked, and not who asks.
    as_node: bool,
}

impl ServiceSeen {
    pub fn of(spec: &ServiceSpec) -> Self {
        Self { as_node: spec.publish_source == PublishSource::Node }
    }

    pub fn add_to(self, spec: ServiceSpec) -> ServiceSpec {
        let publish_source = if self.as_node { PublishSource::Node } else { PublishSource::Client };
        ServiceSpec { publish_source, ..spec }
    }
}

impl Stands<(NetworkId, ServiceName)> for ServiceKey {
    fn of((network, name): &(NetworkId, ServiceName)) -> Self {
        Self { network: *network.as_bytes(), name: name.to_string() }
    }

    fn present(self) -> Option<(NetworkId, ServiceName)> {
        // One service has one key: a name in capitals is none.
        let name = ServiceName::new(self.name.clone()).ok().filter(|name| name.as_str() == self.name)?;
        Some((NetworkId::from_bytes(self.network), name))
    }
}

impl Stands<ServiceSpec> for Service {
    fn of(spec: &ServiceSpec) -> Self {
        let ServiceSpec { addresses, ports, affinity, publish, publish_mode: _, publish_source: _ } = spec;
        Self {
            addresses: addresses.clone(),
            ports: ports.iter().map(|map| (map.port, map.to)).collect(),
            keep: *affinity == Affinity::Source,
            publish: publish.iter().map(port).collect(),
        }
    }

    fn present(self) -> Option<ServiceSpec> {
        let map = |(port, to)| (port != 0 && to != 0).then_some(PortMap { port, to });
        Some(ServiceSpec {
            addresses: self.addresses,
            ports: self.ports.into_iter().map(map).collect::<Option<_>>()?,
            affinity: if self.keep { Affinity::Source } else { Affinity::None },
            publish: self.publish.into_iter().map(publication).collect::<Option<_>>()?,
            publish_mode: PublishMode::default(),
            publish_source: PublishSource::default(),
        })
    }
}
