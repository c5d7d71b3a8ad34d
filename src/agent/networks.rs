//! Creating and removing networks: from what a person asks for to a spec that every node can work with.

use ipnetwork::IpNetwork;
use lanmesh_ipam::SubnetPlan;

use super::answers;
use super::attach::find_network;
use super::session::Session;
use crate::api::ApiError;
use crate::api::types::{NetworkAnswer, NetworkRequest};
use crate::clock::now_ms;
use crate::model::{ClusterView, DnsOptions, Encryption, NetworkId, NetworkName, NetworkSpec, Node, Vni};
use crate::plan::overlay_mtu;

impl Session {
    /// Creates a network, or finds that it is there just so.
    pub async fn create_network(
        &self,
        name: NetworkName,
        request: NetworkRequest,
    ) -> Result<NetworkAnswer, ApiError> {
        let view = self.view();
        let spec = spec(&view, name, request)?;
        let spec = self.cluster.create_network(spec).await?;
        let view = self.view();
        let network = view
            .networks
            .get(&spec.id)
            .ok_or_else(|| ApiError::conflict(format!("network {} was deleted meanwhile", spec.name)))?;
        Ok(answers::network(network, self.namespace(spec.id)))
    }

    /// Deletes a network everywhere; false when it is not there.
    pub async fn remove_network(&self, name: &NetworkName) -> Result<bool, ApiError> {
        let work = self.reconciler.work().await;
        let view = self.view();
        let Some(network) = find_network(&view, name) else { return Ok(false) };
        let id = network.spec.id;
        let users: Vec<&str> = view
            .nodes
            .values()
            .filter(|node| node.state.is_up() && has_endpoints(&view, node, id))
            .map(|node| node.name.as_str())
            .collect();
        if !users.is_empty() || work.local.endpoints.of_network(id).next().is_some() {
            return Err(ApiError::conflict(format!(
                "network {name} has endpoints on {}",
                if users.is_empty() { "this node".to_owned() } else { users.join(", ") }
            ))
            .hint("detach them first: `lanmesh endpoint ls` shows them"));
        }
        Ok(self.cluster.delete_network(id).await?)
    }
}

fn has_endpoints(view: &ClusterView, node: &Node, network: NetworkId) -> bool {
    node.id != view.me && node.networks.contains(&network)
}

/// The names that a network cannot have: the DNS needs them for those of the nodes.
const NODES: [&str; 2] = ["nodes", "mesh"];

/// Checks a request as a whole and completes it: gateways, id, VNI.
fn spec(view: &ClusterView, name: NetworkName, request: NetworkRequest) -> Result<NetworkSpec, ApiError> {
    if let Some(taken) = NODES.into_iter().find(|taken| name.as_str().eq_ignore_ascii_case(taken)) {
        return Err(ApiError::bad_field("name", format!("{taken}.lanmesh. holds the names of the nodes"))
            .hint("give the network another name"));
    }
    let plan = request.address_plan()?;
    let pools = request.to_ipam().pools;
    let subnets: Vec<IpNetwork> = plan.subnets().iter().map(SubnetPlan::subnet).collect();
    // One that is there stays, whatever became of the underlay since.
    if view.network_named(&name).is_none() {
        fits_underlay(view, &subnets, request.mtu, request.encrypt)?;
    }
    let id = NetworkId::random();
    let taken = |vni| view.networks.values().any(|network| network.spec.vni == vni);
    Ok(NetworkSpec {
        id,
        name,
        vni: Vni::pick(&id, taken).ok_or_else(|| ApiError::conflict("every VNI is taken"))?,
        gateways: plan.gateways().collect(),
        subnets,
        pools,
        reserved: request.reserve,
        block_size: request.block_size,
        mtu: request.mtu,
        multicast: request.multicast,
        broadcast: request.broadcast,
        zeroconf: request.zeroconf,
        encrypt: request.encrypt,
        spoofing: request.spoofing,
        dns: DnsOptions { forward: request.dns_forward, ttl: request.dns_ttl },
        created_ms: now_ms(),
    })
}

fn inside(encrypt: Encryption) -> &'static str {
    match encrypt {
        Encryption::None => "VXLAN",
        Encryption::Wireguard => "WireGuard and VXLAN",
    }
}

/// The underlay of this node must leave enough for the network's protocols, and for the MTU that is asked for.
///
/// The other nodes are not looked at: one with a small underlay cannot attach, and hurts nobody else.
pub fn fits_underlay(
    view: &ClusterView,
    subnets: &[IpNetwork],
    asked: Option<u32>,
    encrypt: Encryption,
) -> Result<(), ApiError> {
    let ipv6 = subnets.iter().any(IpNetwork::is_ipv6);
    let underlay = view.myself().map(|node| (node.vtep, node.underlay_mtu));
    let derived = overlay_mtu(underlay, ipv6, encrypt == Encryption::Wireguard)?;
    match (asked, derived) {
        (Some(asked), Some(most)) if asked > most => Err(ApiError::bad_field(
            "mtu",
            format!(
                "{asked} is more than the {most} that this node's underlay leaves inside {}",
                inside(encrypt)
            ),
        )
        .hint("leave it out, and it is derived")),
        _ => Ok(()),
    }
}
