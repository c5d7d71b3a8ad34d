//! What one node knows of the whole cluster at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{
    Also, Endpoint, EndpointKey, EndpointName, Floating, FloatingKey, Floatings, Group, Loan, LoanNumber,
    Loans, Mac, MeshPorts, NetworkId, NetworkName, NetworkSpec, Node, NodeId, NodeName, NodeState,
    PublishMode, ServiceName, ServiceSpec, ZeroconfFact, ZeroconfKey,
};

/// A network as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// Its spec.
    pub spec: Arc<NetworkSpec>,
    /// An older network owns the name, so this one takes no new endpoints.
    pub conflict: bool,
    /// The nodes whose word on what they have in it is known here, be it that they have nothing.
    pub heard: BTreeSet<NodeId>,
    /// Its endpoints on each node, this one included. Only of networks this node takes part in.
    pub endpoints: BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>>,
    /// The groups that are joined on each node, this one included, like the endpoints.
    pub groups: BTreeMap<NodeId, Arc<BTreeSet<Group>>>,
    /// What mDNS brought to light on each node, this one included, like the endpoints.
    pub zeroconf: BTreeMap<NodeId, Arc<BTreeMap<ZeroconfKey, ZeroconfFact>>>,
    /// The endpoints on each node that take no new connections of their services, this one included, like the endpoints.
    pub draining: BTreeMap<NodeId, Arc<BTreeSet<EndpointName>>>,
    /// What each node's endpoints may have beside their own addresses and MACs, this one included, like the endpoints. Those
    /// that may have nothing are left out.
    pub also: BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Also>>>,
    /// What each node says to be at its endpoints although it was not given to them, this one included, like the endpoints.
    pub floating: BTreeMap<NodeId, Arc<Floatings>>,
}

/// The services with addresses, of all networks.
pub type Services = BTreeMap<(NetworkId, ServiceName), ServiceSpec>;

/// The ports of every node that lead to single endpoints, by the node that has these.
pub type PortsOfEndpoints = BTreeMap<NodeId, Arc<BTreeMap<EndpointKey, MeshPorts>>>;

/// What one node knows of the whole cluster at one moment. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Who the observer is.
    pub me: NodeId,
    /// Every node that was ever given an index and not removed, this one included.
    pub nodes: Arc<BTreeMap<NodeId, Node>>,
    /// Every network that was created and not deleted.
    pub networks: BTreeMap<NetworkId, NetworkView>,
    /// Every service that has an address.
    pub services: Arc<Services>,
    /// What each node says that it lent.
    pub loans: Arc<Loans>,
    /// The ports of every node that lead to endpoints of one by itself, this one included.
    pub mesh_ports: Arc<PortsOfEndpoints>,
}

impl ClusterView {
    /// The observer's own entry.
    pub fn myself(&self) -> Option<&Node> {
        self.nodes.get(&self.me)
    }

    /// Whether a node answers. The observer itself does, whatever the others' membership has made of it.
    pub fn is_up(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| node.id == self.me || node.state.is_up())
    }

    /// The nodes that answer, the observer among them.
    pub fn up(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.id == self.me || node.state.is_up())
    }

    /// The nodes that answer but for the observer.
    pub fn others_up(&self) -> impl Iterator<Item = &Node> {
        self.up().filter(|node| node.id != self.me)
    }

    /// Which node's word counts of where an address or a MAC is that was given to no endpoint, and what it says.
    pub fn floating(&self, network: &NetworkId, key: &FloatingKey) -> Option<(NodeId, &Floating)> {
        let counts = |node: &NodeId| self.nodes.get(node).is_some_and(|node| node.state != NodeState::Left);
        let said = self.networks.get(network)?.floating.iter().filter(|(node, _)| counts(node));
        let said = said.filter_map(|(node, said)| Some((*node, said.get(key)?)));
        said.max_by_key(|(node, floating)| floating.rank(*node))
    }

    /// The addresses, with their MACs, that are at an endpoint of a node although they were not given to it.
    pub fn floating_at(&self, network: &NetworkId, node: &NodeId, name: &EndpointName) -> Vec<(IpAddr, Mac)> {
        let said = self.networks.get(network).and_then(|network| network.floating.get(node));
        let its =
            said.into_iter().flat_map(|said| said.iter()).filter(|(_, floating)| floating.endpoint == *name);
        its.filter_map(|(key, floating)| match key {
            FloatingKey::Address(address) => Some((*address, floating.mac, self.floating(network, key)?.0)),
            FloatingKey::Mac(_) => None,
        })
        .filter(|(_, _, right)| right == node)
        .map(|(address, mac, _)| (address, mac))
        .collect()
    }

    /// The node with this name.
    pub fn node_named(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.values().find(|node| node.name == *name)
    }

    /// The network that owns this name.
    pub fn network_named(&self, name: &NetworkName) -> Option<&NetworkView> {
        self.networks.values().find(|network| !network.conflict && network.spec.name == *name)
    }

    /// The endpoint with this name in a network, and the node that has it.
    pub fn endpoint(&self, network: &NetworkId, name: &EndpointName) -> Option<(&NodeId, &Endpoint)> {
        let network = self.networks.get(network)?;
        network.endpoints.iter().find_map(|(node, endpoints)| Some((node, endpoints.get(name)?)))
    }

    /// The services of a network that have addresses, by name.
    pub fn services_of(&self, network: NetworkId) -> impl Iterator<Item = (&ServiceName, &ServiceSpec)> {
        let from = self.services.iter().skip_while(move |((of, _), _)| *of < network);
        from.take_while(move |((of, _), _)| *of == network).map(|((_, name), spec)| (name, spec))
    }

    /// The loans of a network, with their lenders.
    pub fn loans_of(&self, network: NetworkId) -> impl Iterator<Item = (NodeId, LoanNumber, &Loan)> {
        let each = self
            .loans
            .iter()
            .flat_map(|(lender, loans)| loans.iter().map(move |(number, loan)| (*lender, *number, loan)));
        each.filter(move |(_, _, loan)| loan.network == network)
    }

    /// The networks in which every node takes part, since ports of all nodes lead there.
    pub fn everywhere(&self) -> BTreeSet<NetworkId> {
        self.everywhere_without(None)
    }

    /// The same if one endpoint of the observer's were not there.
    pub fn everywhere_without(&self, gone: Option<&EndpointKey>) -> BTreeSet<NetworkId> {
        let everywhere =
            |spec: &ServiceSpec| spec.publish_mode == PublishMode::Mesh && !spec.publish.is_empty();
        let found =
            self.services.iter().filter(|(_, spec)| everywhere(spec)).map(|((network, _), _)| *network);
        let ports = self.ports_of_endpoints().filter(|(node, key, _)| *node != self.me || gone != Some(*key));
        let found = found.chain(ports.map(|(_, key, _)| key.network));
        found.filter(|network| self.networks.contains_key(network)).collect()
    }

    /// The ports of every node that lead to single endpoints, with these and the nodes that have them; not of nodes that left.
    pub fn ports_of_endpoints(&self) -> impl Iterator<Item = (NodeId, &EndpointKey, &MeshPorts)> {
        let counts = |node: &NodeId| self.nodes.get(node).is_some_and(|node| node.state != NodeState::Left);
        let of = self.mesh_ports.iter().filter(move |(node, _)| counts(node));
        of.flat_map(|(node, ports)| ports.iter().map(move |(key, ports)| (*node, key, ports)))
    }

    /// The services of a network, by the address that each has by right: where two sides of a cut gave one address to two
    /// services, that of the first name has it. Only addresses of its subnets, and not those of gateways and nodes.
    pub fn service_addresses(&self, network: NetworkId) -> BTreeMap<IpAddr, (&ServiceName, &ServiceSpec)> {
        let mut held = BTreeMap::new();
        let Some(spec) = self.networks.get(&network).map(|network| &network.spec) else { return held };
        for (name, service) in self.services_of(network) {
            for address in &service.addresses {
                let inside = spec.subnets.iter().any(|subnet| subnet.contains(*address));
                if inside && !spec.gateways.contains(address) && !spec.is_for_nodes(*address) {
                    held.entry(*address).or_insert((name, service));
                }
            }
        }
        held
    }

    /// The nodes that answer and take part in a network, and whose endpoints there are not known here (yet): while there
    /// are some, [`NetworkView::endpoints`] is not all that there is. A node takes part as long as it has endpoints.
    pub fn unheard(&self, network: NetworkId) -> impl Iterator<Item = &Node> {
        let network_view = self.networks.get(&network);
        let heard = move |id: &NodeId| {
            network_view.is_some_and(|view| view.heard.contains(id) || view.endpoints.contains_key(id))
        };
        self.others_up()
            .filter(move |node| node.networks.contains(&network))
            .filter(move |node| !heard(&node.id))
    }
}
