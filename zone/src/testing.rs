//! A cluster to test with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::{Instance, Zone};
use lanmesh_model::{
    AdvertisedService, ClusterView, Endpoint, Found, NetworkId, NetworkName, NetworkSpec, NetworkView, Node,
    NodeId, NodeIndex, NodeState, SeenService, Vni, ZeroconfFact, ZeroconfKey, testing,
};

/// The network of [`Lab`].
pub const NETWORK: NetworkId = NetworkId::from_bytes([1; 8]);

/// Three nodes, of which the first observes, and one network.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The network's name.
    pub name: NetworkName,
    /// Service instances beyond what the endpoints advertise.
    pub instances: Vec<Instance>,
    subnets: Vec<IpNetwork>,
    states: BTreeMap<NodeId, NodeState>,
    endpoints: BTreeMap<NodeId, Vec<Endpoint>>,
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

impl Lab {
    /// A network with these subnets, the first address of each being its gateway.
    pub fn new(subnets: &[&str]) -> Self {
        Self {
            name: "buildnet".parse().expect("a name"),
            instances: Vec::new(),
            subnets: subnets.iter().map(|subnet| subnet.parse().expect("a subnet")).collect(),
            states: (1..=3).map(|number| (node(number), NodeState::Alive)).collect(),
            endpoints: BTreeMap::new(),
        }
    }

    /// Adds an endpoint of node `number`.
    pub fn endpoint(&mut self, number: u8, name: &str, addresses: &[&str], set: impl FnOnce(&mut Endpoint)) {
        let addresses = addresses.iter().map(|a| IpNetwork::from(a.parse::<IpAddr>().expect("an address")));
        let mut endpoint = testing::endpoint(name, addresses);
        set(&mut endpoint);
        self.endpoints.entry(node(number)).or_default().push(endpoint);
    }

    /// Sets what membership says of node `number`.
    pub fn set_state(&mut self, number: u8, state: NodeState) {
        self.states.insert(node(number), state);
    }

    /// The gateways.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.subnets
            .iter()
            .map(|subnet| match subnet.network() {
                IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() + 1)),
                IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() + 1).into()),
            })
            .collect()
    }

    /// What the first node knows.
    pub fn view(&self) -> ClusterView {
        self.clone().into_view()
    }

    /// The same, without a copy of it.
    pub fn into_view(self) -> ClusterView {
        let gateways = self.gateways();
        let nodes = self.states.iter().map(|(id, state)| {
            let number = id.as_bytes()[0];
            let address = IpAddr::from([192, 0, 2, number]);
            let node = Node {
                id: *id,
                name: format!("n{number}").parse().expect("a name"),
                index: NodeIndex(u32::from(number)),
                address: (address, 7946).into(),
                vtep: address,
                underlay_mtu: 1500,
                networks: BTreeSet::from([NETWORK]),
                mesh: Vec::new(),
                labels: Default::default(),
                state: *state,
            };
            (*id, node)
        });
        let spec = NetworkSpec {
            id: NETWORK,
            name: self.name,
            vni: Vni::pick(&NETWORK, |_| false).expect("one is free"),
            subnets: self.subnets,
            gateways,
            pools: Vec::new(),
            reserved: Vec::new(),
            block_size: None,
            options: Default::default(),
            created_ms: 0,
        };
        let declared = |endpoint: &Endpoint| -> Vec<(ZeroconfKey, ZeroconfFact)> {
            let fact = |service: &AdvertisedService| {
                let found = Found::Service(SeenService {
                    instance: service.instance_of(&endpoint.name),
                    kind: service.kind.clone(),
                    subtypes: service.subtypes.clone(),
                    host: endpoint.name.to_string(),
                    port: service.port,
                    priority: 0,
                    weight: 0,
                    txt: service.strings(),
                });
                (found.key(), ZeroconfFact { endpoint: endpoint.name.clone(), declared: true, found })
            };
            endpoint.services.iter().map(fact).collect()
        };
        let zeroconf = self
            .endpoints
            .iter()
            .map(|(id, endpoints)| (*id, Arc::new(endpoints.iter().flat_map(declared).collect())));
        let zeroconf = zeroconf.collect();
        let endpoints = self.endpoints.into_iter().map(|(id, endpoints)| {
            let named = endpoints.into_iter().map(|endpoint| (endpoint.name.clone(), endpoint));
            (id, Arc::new(named.collect()))
        });
        let network = NetworkView {
            spec: Arc::new(spec),
            conflict: false,
            heard: Default::default(),
            endpoints: endpoints.collect(),
            groups: BTreeMap::new(),
            zeroconf,
            draining: BTreeMap::new(),
            also: BTreeMap::new(),
            floating: BTreeMap::new(),
        };
        ClusterView {
            me: node(1),
            nodes: Arc::new(nodes.collect()),
            networks: BTreeMap::from([(NETWORK, network)]),
            services: Arc::default(),
            loans: Arc::default(),
            mesh_ports: Arc::default(),
        }
    }

    /// Its zone, with a TTL of 5 s.
    pub fn zone(&self) -> Zone {
        Zone::with(&self.view(), NETWORK, 5, &self.instances).expect("the network is there")
    }
}
