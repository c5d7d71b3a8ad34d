//! Where an endpoint's interface may go: somebody else's namespace, or the node itself where that does no harm.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use super::answers;
use super::session::Session;
use crate::api::ApiError;
use crate::api::types::AttachRequest;
use crate::kernel::{HostRoute, Linux, OwnNamespace};
use crate::model::{ClusterView, NetworkSpec, Placement};
use crate::namespace::{Namespace, NamespaceId};
use crate::reconcile::Work;

/// Where an endpoint's interface is to go, looked at.
pub struct Place {
    /// As it was asked for.
    pub placement: Placement,
    /// Which namespace that is now; `None` for the node's own.
    pub namespace: Option<NamespaceId>,
}

impl Session {
    /// Looks at where a request wants its interface. Whatever the path leads to, it is not waited for; to be called
    /// while nothing is held.
    pub async fn place(&self, request: &AttachRequest) -> Result<Place, ApiError> {
        let placement = request.placement()?;
        let (Placement::Netns(path) | Placement::Offered(Some(path))) = &placement else {
            return Ok(Place { placement, namespace: None });
        };
        let id = Namespace::open_aside(path).await?.id;
        let kernel = self.kernel().clone();
        let own = tokio::task::spawn_blocking(move || kernel.own_namespace(&id)).await;
        let own = own.map_err(|error| ApiError::internal(error.to_string()))??;
        match own {
            None => Ok(Place { placement, namespace: Some(id) }),
            Some(own) => Err(no_container(own, &self.view()).at("netns")),
        }
    }
}

fn no_container(own: OwnNamespace, view: &ClusterView) -> ApiError {
    match own {
        OwnNamespace::Node => ApiError::conflict(
            "this is the node's own network namespace, and no container's",
        )
        .hint("give --host to attach the node itself, or a process that has a network namespace of its own"),
        OwnNamespace::Mesh => {
            ApiError::conflict("this is the namespace of the WireGuard mesh, and no container's")
                .hint("give the container's own namespace")
        }
        OwnNamespace::Network(id) => {
            let name =
                view.networks.get(&id).map_or_else(|| id.to_string(), |found| found.spec.name.to_string());
            ApiError::conflict(format!("this is the namespace of network {name} itself, and no container's"))
                .hint("give the container's own namespace")
        }
    }
}

/// An interface in the node's own namespace brings a route to the subnet: it must lead neither the underlay astray, nor
/// what the node reaches by itself, nor another network.
pub async fn fits_the_host(
    kernel: &Linux,
    work: &Work,
    view: &ClusterView,
    spec: &NetworkSpec,
) -> Result<(), ApiError> {
    not_over_the_underlay(view, spec)?;
    let of_the_node = || work.local.endpoints.iter().filter(|record| record.placement == Placement::Host);
    for record in of_the_node().filter(|record| record.network != spec.id) {
        let Some(other) = view.networks.get(&record.network).map(|found| &found.spec) else { continue };
        if let Some((subnet, theirs)) = overlap(&spec.subnets, other.subnets.iter().copied()) {
            return Err(ApiError::conflict(format!(
                "this node is {} in network {} already, whose subnet {theirs} overlaps {subnet}: it could not tell them \
                 apart",
                record.endpoint.name, other.name
            ))
            .at("host")
            .hint("detach that one first, or attach containers only"));
        }
    }
    let ours: BTreeSet<String> = of_the_node().map(|record| record.ifname.clone()).collect();
    match over_a_route(&spec.subnets, &kernel.host_routes(&ours).await?) {
        None => Ok(()),
        Some(told) => Err(ApiError::conflict(told)
            .at("host")
            .hint("attach containers only, or create the network with another subnet")),
    }
}

/// A sentence about a route of the node that one of these subnets would cover, or be a part of.
pub fn over_a_route(subnets: &[IpNetwork], routes: &[HostRoute]) -> Option<String> {
    routes.iter().find_map(|route| {
        let (subnet, theirs) = overlap(subnets, [route.subnet])?;
        let to = if route.device.is_empty() { String::new() } else { format!(" to {}", route.device) };
        Some(format!("the subnet {subnet} overlaps {theirs}, for which this node has a route{to} of its own"))
    })
}

fn overlap(
    subnets: &[IpNetwork],
    others: impl IntoIterator<Item = IpNetwork>,
) -> Option<(IpNetwork, IpNetwork)> {
    others.into_iter().find_map(|other| {
        let overlaps =
            |subnet: &&IpNetwork| subnet.contains(other.network()) || other.contains(subnet.network());
        subnets.iter().find(overlaps).map(|subnet| (*subnet, other))
    })
}

/// Sentences about nodes whose address on the underlay lies in one of these subnets, one for each subnet.
pub fn over_the_underlay(view: &ClusterView, subnets: &[IpNetwork]) -> Vec<String> {
    let told = |subnet: &IpNetwork| {
        let there = view.nodes.values().filter(|node| subnet.contains(node.vtep));
        let there: Vec<String> = there.map(|node| format!("{} ({})", node.name, node.vtep)).collect();
        (!there.is_empty()).then(|| {
            format!(
                "the subnet {subnet} has addresses that nodes have on the underlay: {}. By these the network's endpoints \
                 do not reach the nodes, and no node can be attached itself (--host); containers can",
                answers::some_of(there)
            )
        })
    };
    subnets.iter().filter_map(told).collect()
}

fn not_over_the_underlay(view: &ClusterView, spec: &NetworkSpec) -> Result<(), ApiError> {
    let astray = view.nodes.values().find_map(|node| {
        let subnet = spec.subnets.iter().find(|subnet| subnet.contains(node.vtep))?;
        Some((node, subnet))
    });
    match astray {
        None => Ok(()),
        Some((node, subnet)) => Err(ApiError::conflict(format!(
            "the underlay address {} of node {} lies in the network's subnet {subnet}, so a route to it on this \
             node would cut the node off",
            node.vtep, node.name
        ))
        .at("host")
        .hint("attach containers only, or create the network with another subnet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_in_the_way_whichever_of_the_two_is_larger() {
        let net = |text: &str| text.parse::<IpNetwork>().expect("a subnet");
        let routes = |text: &str| [HostRoute { subnet: net(text), device: "eth1".to_owned() }];
        for (subnet, route, in_the_way) in [
            ("10.1.0.0/24", "10.1.0.0/24", true),
            ("10.1.0.0/24", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.1.2.3/32", true),
            ("10.1.0.0/24", "10.1.1.0/24", false),
            ("fd00::/64", "10.0.0.0/8", false),
            ("fd00:1::/64", "fd00::/16", true),
        ] {
            let told = over_a_route(&[net(subnet)], &routes(route));
            assert_eq!(told.is_some(), in_the_way, "{subnet} {route}: {told:?}");
            assert!(told.is_none_or(|told| told.contains("eth1") && told.contains(route)));
        }
    }
}
