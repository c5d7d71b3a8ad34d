//! The node, endpoints and groups.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Stands;
use crate::cluster::kinds::NodeFact;
use crate::model::{
    AdvertisedService, Endpoint as PresentEndpoint, EndpointName, Group as PresentGroup, GroupAddr, Mac,
    MeshEpoch, MeshKey as PresentMeshKey, NetworkId, NodeIndex, PublicKey,
};

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Node {
    name: String,
    index: u32,
    address: SocketAddr,
    vtep: IpAddr,
    underlay_mtu: u32,
    networks: Vec<[u8; 8]>,
    mesh: Vec<MeshKey>,
    /// The lowest and the highest version of the protocol that it speaks.
    protocols: (u8, u8),
    /// What it is: `kernel`, `os`, `arch`, `version` and the like, with what each is.
    traits: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MeshKey {
    number: u32,
    tag: u32,
    public: [u8; 32],
    port: u16,
    sending: bool,
}

/// An endpoint; its name is the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Endpoint {
    service: Option<String>,
    slot: Option<u32>,
    aliases: Vec<String>,
    addresses: Vec<(IpAddr, u8)>,
    mac: [u8; 6],
    services: Vec<Service>,
    claim: u64,
}

/// What stands behind an [`Endpoint`]; a node that knows nothing of it says nothing there.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct EndpointMore {
    took_ms: Option<u64>,
}

impl EndpointMore {
    pub fn of(endpoint: &PresentEndpoint) -> Self {
        Self { took_ms: endpoint.took_ms }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Service {
    instance: Option<String>,
    kind: String,
    subtypes: Vec<String>,
    port: u16,
    txt: Vec<(String, Option<String>)>,
}

/// A multicast group, which is a key that has no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Group {
    address: IpAddr,
    source: Option<IpAddr>,
}

impl Stands<NodeFact> for Node {
    fn of(fact: &NodeFact) -> Self {
        let NodeFact { name, index, address, vtep, underlay_mtu, networks, mesh, protocols, traits } = fact;
        Self {
            name: name.to_string(),
            index: index.0,
            address: *address,
            vtep: *vtep,
            underlay_mtu: *underlay_mtu,
            networks: networks.iter().map(|id| *id.as_bytes()).collect(),
            mesh: mesh.iter().map(MeshKey::of).collect(),
            protocols: *protocols,
            traits: traits.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }

    fn present(self) -> Option<NodeFact> {
        Some(NodeFact {
            name: self.name.parse().ok()?,
            index: NodeIndex(self.index),
            address: self.address,
            vtep: self.vtep,
            underlay_mtu: self.underlay_mtu,
            networks: self.networks.into_iter().map(NetworkId::from_bytes).collect(),
            mesh: self.mesh.into_iter().map(MeshKey::present).collect(),
            protocols: self.protocols,
            traits: self.traits.into_iter().collect(),
        })
    }
}

impl MeshKey {
    fn of(key: &PresentMeshKey) -> Self {
        let PresentMeshKey { epoch: MeshEpoch { number, tag }, public, port, sending } = *key;
        Self { number, tag, public: *public.as_bytes(), port, sending }
    }

    fn present(self) -> PresentMeshKey {
        let Self { number, tag, public, port, sending } = self;
        PresentMeshKey {
            epoch: MeshEpoch { number, tag },
            public: PublicKey::from_bytes(public),
            port,
            sending,
        }
    }
}

impl Stands<EndpointName> for String {
    fn of(name: &EndpointName) -> Self {
        name.to_string()
    }

    fn present(self) -> Option<EndpointName> {
        self.parse().ok()
    }
}

/// An endpoint without its name, which is the key.
impl Endpoint {
    pub fn of(endpoint: &PresentEndpoint) -> Self {
        let PresentEndpoint { name, service, slot, aliases, addresses, mac, services, claim, took_ms } =
            endpoint;
        // The name is the key, and when it was taken over stands behind.
        let _ = (name, took_ms);
        Self {
            service: service.as_ref().map(ToString::to_string),
            slot: *slot,
            aliases: aliases.iter().map(ToString::to_string).collect(),
            addresses: addresses.iter().map(|net| (net.ip(), net.prefix())).collect(),
            mac: mac.0,
            services: services.iter().map(Service::of).collect(),
            claim: *claim,
        }
    }

    pub fn present(self, more: EndpointMore, name: EndpointName) -> Option<PresentEndpoint> {
        let network = |(ip, prefix): (IpAddr, u8)| IpNetwork::new(ip, prefix).ok();
        Some(PresentEndpoint {
            name,
            service: self.service.map(|service| service.parse()).transpose().ok()?,
            slot: self.slot,
            aliases: self.aliases.iter().map(|alias| alias.parse().ok()).collect::<Option<_>>()?,
            addresses: self.addresses.into_iter().map(network).collect::<Option<_>>()?,
            mac: Mac(self.mac),
            services: self.services.into_iter().map(Service::present).collect(),
            claim: self.claim,
            took_ms: more.took_ms,
        })
    }
}

impl Service {
    fn of(service: &AdvertisedService) -> Self {
        let AdvertisedService { instance, kind, subtypes, port, txt } = service;
        Self {
            instance: instance.clone(),
            kind: kind.clone(),
            subtypes: subtypes.iter().cloned().collect(),
            port: *port,
            txt: txt.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }

    fn present(self) -> AdvertisedService {
        let Self { instance, kind, subtypes, port, txt } = self;
        let (subtypes, txt) = (subtypes.into_iter().collect(), txt.into_iter().collect());
        AdvertisedService { instance, kind, subtypes, port, txt }
    }
}

impl Stands<PresentGroup> for Group {
    fn of(group: &PresentGroup) -> Self {
        Self { address: group.address().ip(), source: group.source() }
    }

    fn present(self) -> Option<PresentGroup> {
        PresentGroup::new(GroupAddr::try_from(self.address).ok()?, self.source).ok()
    }
}
