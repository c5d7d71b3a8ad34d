//! What an endpoint may have beside its own address and MAC: whether it may be that.

use std::net::IpAddr;

use super::answers;
use super::others::ByNode;
use crate::api::ApiError;
use crate::api::types::AttachRequest;
use crate::model::{Also, ClusterView, Endpoint, EndpointName, NetworkSpec, NodeId, limits};

/// That a network lets an endpoint have this beside its own.
///
/// # Errors
/// It is too much, the network's own, or no single host's.
pub fn may_float(spec: &NetworkSpec, request: &AttachRequest) -> Result<Also, ApiError> {
    let AttachRequest { also_addresses: addresses, also_macs: macs, multicast_router: routes, .. } = request;
    let too_many = |field: &str, max: usize| {
        Err(ApiError::bad_field(field, format!("an endpoint may have at most {max} of them")))
    };
    if addresses.len() > limits::ALSO_ADDRESSES {
        return too_many("also_addresses", limits::ALSO_ADDRESSES);
    }
    if macs.len() > limits::ALSO_MACS {
        return too_many("also_macs", limits::ALSO_MACS);
    }
    if let Some(address) = addresses.iter().find(|address| !spec.lets_float(**address)) {
        let text = format!(
            "{address} is a gateway's or a node's in network {}, or not the address of one host",
            spec.name
        );
        return Err(ApiError::bad_field("also_addresses", text).hint("name another address"));
    }
    if let Some(mac) = macs.iter().find(|mac| !spec.lets_float_mac(**mac)) {
        let text = format!("{mac} is the network's own, or not the MAC of one interface");
        return Err(ApiError::bad_field("also_macs", text).hint("name another, as VRRP's 00:00:5e:00:01:XX"));
    }
    let (addresses, macs) = (addresses.iter().copied().collect(), macs.iter().copied().collect());
    Ok(Also { addresses, macs, routes: *routes })
}

/// That nothing of it was given to an endpoint of a node that answers, or is a service's.
///
/// # Errors
/// It was.
pub fn is_free<'a>(
    view: &ClusterView,
    spec: &NetworkSpec,
    own: impl Iterator<Item = &'a Endpoint>,
    others: &'a ByNode,
    also: &Also,
) -> Result<(), ApiError> {
    let services = view.service_addresses(spec.id);
    if let Some((address, (service, _))) = also.addresses.iter().find_map(|a| services.get_key_value(a)) {
        let text = format!("service {service} has {address}");
        return Err(ApiError::conflict(text)
            .at("also_addresses")
            .hint("name an address that is no service's"));
    }
    let up = others.iter().filter(|(node, _)| view.is_up(node));
    let theirs = up.flat_map(|(node, endpoints)| endpoints.values().map(move |other| (*node, other)));
    let refuse = |field: &str, what: String, node: NodeId, holder: &EndpointName| {
        let node = answers::node_name(view, &node);
        let text = format!("{what} is endpoint {holder}'s own, on node {node}");
        Err(ApiError::conflict(text).at(field).hint(
            "name one that no endpoint has, and set it apart with `lanmesh network set NETWORK --reserve ADDR`",
        ))
    };
    for (node, other) in own.map(|own| (view.me, own)).chain(theirs) {
        let has = |address: &&IpAddr| other.addresses.iter().any(|its| its.ip() == **address);
        if let Some(address) = also.addresses.iter().find(has) {
            return refuse("also_addresses", address.to_string(), node, &other.name);
        }
        if also.macs.contains(&other.mac) {
            return refuse("also_macs", other.mac.to_string(), node, &other.name);
        }
    }
    Ok(())
}
