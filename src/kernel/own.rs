//! What of the node is its own: which namespaces are no container's, and what its routes already lead to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};

use super::links::ROUTE_PROTOCOL;
use super::session::Failure;
use super::{KernelError, Linux};
use crate::model::NetworkId;
use crate::namespace::NamespaceId;

/// A namespace that is no container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnNamespace {
    /// The node's own, where the underlay is.
    Node,
    /// That of the WireGuard mesh.
    Mesh,
    /// That of a network.
    Network(NetworkId),
}

/// A subnet that the node reaches by itself, without lanmesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    /// The subnet; never the default route.
    pub subnet: IpNetwork,
    /// The interface that it leads to, by its name; empty where it leads to none (an unreachable route).
    pub device: String,
}

impl Linux {
    /// Which of the node's own namespaces this is; `None` where it is somebody else's.
    ///
    /// Compared by what they are: how somebody got to it says nothing.
    ///
    /// # Errors
    /// The run directory cannot be read.
    pub fn own_namespace(&self, id: &NamespaceId) -> Result<Option<OwnNamespace>, KernelError> {
        let wanted = (id.device, id.inode);
        let is = |netns: super::netns::Netns| netns.identity().is_ok_and(|found| found == wanted);
        if is(self.inner.own.clone()) {
            return Ok(Some(OwnNamespace::Node));
        }
        let dir = &self.inner.dir;
        if dir.mesh_file().is_ok_and(is) {
            return Ok(Some(OwnNamespace::Mesh));
        }
        // One that goes meanwhile is nobody's.
        let found = dir.list()?.into_iter().find(|network| dir.netns(*network).is_ok_and(is));
        Ok(found.map(OwnNamespace::Network))
    }

    /// The subnets that the node reaches by itself: whatever its main and local tables have but default routes,
    /// broadcasts, and routes to interfaces of ours, which are the mesh's and those that are named.
    ///
    /// # Errors
    /// The kernel does not say.
    pub async fn host_routes(&self, ours: &BTreeSet<String>) -> Result<Vec<HostRoute>, KernelError> {
        let session = self.inner.own_session().await?;
        let failed = |failure: Failure| failure.doing("look at the node's routes");
        let links = session.links().await.map_err(failed)?;
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let routes = session.routes(message).await.map_err(failed)?;
            for route in routes {
                let Some(subnet) = subnet(&route) else { continue };
                let index = route.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                });
                let link = links.iter().find(|link| Some(link.index) == index);
                if link.is_some_and(|link| link.is_marked() || ours.contains(&link.name)) {
                    continue;
                }
                let device = link.map(|link| link.name.clone()).unwrap_or_default();
                found.push(HostRoute { subnet, device });
            }
        }
        Ok(found)
    }
}

/// Where a route leads to, if that is a subnet of its own.
fn subnet(route: &RouteMessage) -> Option<IpNetwork> {
    let kinds = [RouteType::Unicast, RouteType::Local, RouteType::Unreachable, RouteType::BlackHole];
    let ours = route.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
    if ours || !kinds.contains(&route.header.kind) || route.header.destination_prefix_length == 0 {
        return None;
    }
    let to = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(to)) => Some(IpAddr::V4(*to)),
        RouteAttribute::Destination(RouteAddress::Inet6(to)) => Some(IpAddr::V6(*to)),
        _ => None,
    })?;
    let multicast_or_link_local = match to {
        IpAddr::V4(to) => to.is_multicast(),
        IpAddr::V6(to) => to.is_multicast() || to.is_unicast_link_local(),
    };
    if multicast_or_link_local {
        return None;
    }
    IpNetwork::new(to, route.header.destination_prefix_length).ok()
}
