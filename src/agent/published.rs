//! Who may publish a port of this node: nobody where somebody else has it, or where a program listens.

use std::collections::BTreeSet;

use super::answers;
use super::others::ByNode;
use super::session::Session;
use crate::api::ApiError;
use crate::model::{
    ClusterView, EndpointName, MeshPorts, NetworkId, NetworkSpec, NodeId, Placement, Publication,
    PublishMode, PublishSource, ServiceName, ServiceSpec,
};
use crate::reconcile::{Publisher, Work, World, is_the_clusters, offers};

impl Session {
    /// An error where an endpoint that is to be attached here, or its service with it, would publish what it cannot.
    pub async fn may_publish(
        &self,
        work: &Work,
        view: &ClusterView,
        spec: &NetworkSpec,
        endpoint: (&EndpointName, Option<&ServiceName>, &Placement),
        (ports, mode, held): (&[Publication], PublishMode, bool),
    ) -> Result<(), ApiError> {
        let (name, service, placement) = endpoint;
        let own = Publisher::Endpoint(spec.name.clone(), name.clone());
        for (i, port) in ports.iter().enumerate() {
            let at = |error: ApiError| error.at(format!("publish[{i}]"));
            if let Some(address) = port.address
                && mode == PublishMode::Local
                && !self.kernel().has_address(address).await?
            {
                return Err(at(ApiError::conflict(format!(
                    "this node has no address {address} to publish at"
                ))
                .hint("give one that it has, or none for all of them")));
            }
            fits(spec, port).map_err(at)?;
            self.is_not_the_clusters(view, port).map_err(at)?;
            if mode == PublishMode::Mesh {
                is_no_services(view, port).map_err(at)?;
            }
            if held {
                self.is_nobodys(work, view, &own, port).map_err(at)?;
            } else {
                self.is_free(work, view, &own, port).await.map_err(at)?;
            }
        }
        // The node itself is none of those that a service's port leads to.
        let Some(service) = service.filter(|_| *placement != Placement::Host) else { return Ok(()) };
        let Some(published) = view.services.get(&(spec.id, service.clone())) else { return Ok(()) };
        let by = Publisher::Service(spec.name.clone(), service.clone());
        for port in &published.publish {
            if let Some(twice) = ports.iter().find(|other| other.overlaps(port)) {
                return Err(
                    ApiError::conflict(format!("{by} has port {} already", twice.place())).at("publish")
                );
            }
            self.is_free(work, view, &by, port).await.map_err(|error| error.at("service"))?;
        }
        Ok(())
    }

    /// An error where a service cannot publish this, as far as this node knows.
    pub async fn may_publish_service(
        &self,
        view: &ClusterView,
        spec: &NetworkSpec,
        name: &ServiceName,
        endpoints: &ByNode,
        (ports, mode): (&[Publication], PublishMode),
    ) -> Result<(), ApiError> {
        let by = Publisher::Service(spec.name.clone(), name.clone());
        let nodes = nodes_of(
            endpoints.iter().flat_map(|(node, endpoints)| {
                endpoints.values().map(move |endpoint| (node, endpoint.service.as_ref()))
            }),
            name,
        );
        let everywhere = |mode: PublishMode| mode == PublishMode::Mesh;
        let work = self.reconciler.work().await;
        for (i, port) in ports.iter().enumerate() {
            let at = |error: ApiError| error.at(format!("publish[{i}]"));
            fits(spec, port).map_err(at)?;
            self.is_not_the_clusters(view, port).map_err(at)?;
            is_no_endpoints(view, port).map_err(at)?;
            if everywhere(mode) || nodes.contains(&view.me) {
                self.is_free(&work, view, &by, port).await.map_err(at)?;
            }
            // Where a node has endpoints of both, the second would never be reached.
            for ((network, other), service) in view.services.iter() {
                let same = (network, other) == (&spec.id, name);
                if same || !service.publish.iter().any(|other| other.overlaps(port)) {
                    continue;
                }
                if everywhere(mode) || everywhere(service.publish_mode) {
                    if let Some(network) = view.networks.get(network) {
                        let holder = Publisher::Service(network.spec.name.clone(), other.clone());
                        let whose = if everywhere(service.publish_mode) { "every node" } else { "nodes" };
                        return Err(at(taken(&holder, port, whose)));
                    }
                } else if let Some((node, holder)) = shared(view, *network, other, &nodes) {
                    let node = answers::node_name(view, &node);
                    return Err(at(taken(
                        &holder,
                        port,
                        &format!("node {node}, which has endpoints of both"),
                    )));
                }
            }
        }
        Ok(())
    }

    /// An error where nodes are reached at the port by each other: whichever of them it would be published on.
    fn is_not_the_clusters(&self, view: &ClusterView, port: &Publication) -> Result<(), ApiError> {
        if !is_the_clusters(view, (self.vxlan_port(), self.wireguard_port()), port) {
            return Ok(());
        }
        Err(ApiError::conflict(format!("the cluster itself needs port {} of its nodes", port.place()))
            .hint("publish at another port"))
    }

    /// An error where another publisher has the port; otherwise whether this one has it already.
    fn is_nobodys(
        &self,
        work: &Work,
        view: &ClusterView,
        by: &Publisher,
        port: &Publication,
    ) -> Result<bool, ApiError> {
        let local = World::by_network(work.local.endpoints.iter());
        let others = offers(view, &local);
        let overlaps = |ports: &[Publication]| ports.iter().any(|other| other.overlaps(port));
        if let Some(holder) = others.iter().find(|offer| offer.by != *by && overlaps(offer.ports)) {
            return Err(taken(&holder.by, port, if holder.everywhere { "every node" } else { "this node" }));
        }
        Ok(others.iter().any(|offer| offer.by == *by && offer.ports.contains(port)))
    }

    async fn is_free(
        &self,
        work: &Work,
        view: &ClusterView,
        by: &Publisher,
        port: &Publication,
    ) -> Result<(), ApiError> {
        // What it publishes already nothing else is reached at.
        if self.is_nobodys(work, view, by, port)? {
            return Ok(());
        }
        match self.kernel().listens(*port).await? {
            None => Ok(()),
            Some(listens) => Err(ApiError::conflict(format!(
                "{listens}, and would not be reached any more if {by} were published at port {} of this node",
                port.place()
            ))
            .hint(
                "end it, have it listen elsewhere, or publish at another port or at one address of the node",
            )),
        }
    }
}

fn taken(holder: &Publisher, port: &Publication, node: &str) -> ApiError {
    ApiError::conflict(format!("{holder} has port {} of {node}", port.place()))
        .hint("publish at another port, or both at one address of the node each")
}

/// An error where a service publishes a port that is to be every node's, wherever its endpoints are or come to be.
fn is_no_services(view: &ClusterView, port: &Publication) -> Result<(), ApiError> {
    let publishes = |service: &ServiceSpec| service.publish.iter().any(|other| other.overlaps(port));
    let mut holders = view.services.iter().filter(|(_, service)| publishes(service));
    match holders.find_map(|((network, name), _)| Some((view.networks.get(network)?, name))) {
        None => Ok(()),
        Some((network, name)) => {
            Err(taken(&Publisher::Service(network.spec.name.clone(), name.clone()), port, "nodes"))
        }
    }
}

/// An error where an endpoint has a port of every node.
fn is_no_endpoints(view: &ClusterView, port: &Publication) -> Result<(), ApiError> {
    let holds = |ports: &MeshPorts| ports.ports.iter().any(|other| other.overlaps(port));
    let mut holders = view.ports_of_endpoints().filter(|(_, _, ports)| holds(ports));
    match holders.find_map(|(_, key, _)| Some((view.networks.get(&key.network)?, key))) {
        None => Ok(()),
        Some((network, key)) => {
            let holder = Publisher::Endpoint(network.spec.name.clone(), key.name.clone());
            Err(taken(&holder, port, "every node"))
        }
    }
}

/// An error where endpoints are to see a node in the place of who asks, and this one has no address that they could.
pub fn sees_node(
    view: &ClusterView,
    spec: &NetworkSpec,
    ports: &[Publication],
    source: PublishSource,
) -> Result<(), ApiError> {
    if source == PublishSource::Client || ports.is_empty() {
        return Ok(());
    }
    let own = view.myself().map(|me| spec.node_addresses(me.index)).unwrap_or_default();
    let families = [false, true].map(|ipv6| own.iter().any(|own| own.is_ipv6() == ipv6));
    // At any address: over those families that the network has.
    let lacks = |port: &Publication, ipv6: bool| {
        let asked = port.address.is_none_or(|address| address.is_ipv6() == ipv6);
        let has = spec.subnets.iter().any(|subnet| subnet.is_ipv6() == ipv6);
        asked && has && !families[usize::from(ipv6)]
    };
    let lacking = |ipv6: bool| ports.iter().any(|port| lacks(port, ipv6));
    let Some(ipv6) = [false, true].into_iter().find(|ipv6| lacking(*ipv6)) else { return Ok(()) };
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    Err(ApiError::conflict(format!("this node has no {family} address of its own in network {}", spec.name))
        .at("publish_source")
        .hint(format!(
            "set a range with a place for every node with `lanmesh network set {} --node-addresses RANGE`",
            spec.name
        )))
}

/// An error where a network has no address to lead to.
fn fits(spec: &NetworkSpec, port: &Publication) -> Result<(), ApiError> {
    let Some(address) = port.address else { return Ok(()) };
    if spec.subnets.iter().any(|subnet| subnet.is_ipv6() == address.is_ipv6()) {
        return Ok(());
    }
    let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
    Err(ApiError::conflict(format!(
        "network {} has no {family} subnet, so nothing in it can be reached at {address}",
        spec.name
    ))
    .hint("publish at an address of the other family, or add a subnet with `lanmesh network set`"))
}

fn nodes_of<'a>(
    endpoints: impl Iterator<Item = (&'a NodeId, Option<&'a ServiceName>)>,
    name: &ServiceName,
) -> BTreeSet<NodeId> {
    endpoints.filter(|(_, service)| *service == Some(name)).map(|(node, _)| *node).collect()
}

/// The first of `nodes` that is known to have endpoints of a service.
fn shared(
    view: &ClusterView,
    network: NetworkId,
    name: &ServiceName,
    nodes: &BTreeSet<NodeId>,
) -> Option<(NodeId, Publisher)> {
    let network = view.networks.get(&network)?;
    let theirs = network.endpoints.iter().flat_map(|(node, endpoints)| {
        endpoints.values().map(move |endpoint| (node, endpoint.service.as_ref()))
    });
    let node = nodes_of(theirs, name).intersection(nodes).next().copied()?;
    Some((node, Publisher::Service(network.spec.name.clone(), name.clone())))
}
