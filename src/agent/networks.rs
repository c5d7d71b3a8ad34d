//! Creating and removing networks: from what a person asks for to a spec that every node can work with.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{NetworkPlan, SubnetPlan};

use super::find::find_network;
use super::place::{over_a_route, over_the_underlay};
use super::session::Session;
use crate::api::ApiError;
use crate::api::types::{LentAnswer, NetworkAnswer, NetworkRequest};
use crate::clock::now_ms;
use crate::model::{
    ClusterView, Encryption, NetworkId, NetworkName, NetworkSpec, NetworkView, Node, NodeState, Placement,
    Vni,
};
use crate::plan::overlay_mtu;
use crate::reconcile::{members, network_mtu};

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
        let mut answer = self.network_answer(&view, network);
        answer.warnings = self.warnings(&view, &spec.subnets).await;
        Ok(answer)
    }

    /// What may go wrong with a network of these subnets, though it can be there: that some node reaches something else by
    /// the same addresses.
    pub async fn warnings(&self, view: &ClusterView, subnets: &[IpNetwork]) -> Vec<String> {
        let ours: BTreeSet<String> = {
            let work = self.reconciler.work().await;
            let host = work.local.endpoints.iter().filter(|record| record.placement == Placement::Host);
            host.map(|record| record.ifname.clone()).collect()
        };
        let mut warnings = over_the_underlay(view, subnets);
        match self.kernel().host_routes(&ours).await {
            Ok(routes) => warnings.extend(over_a_route(subnets, &routes).map(|told| {
                let node = view.myself().map(|me| format!(" ({})", me.name)).unwrap_or_default();
                format!("{told}: this node{node} itself cannot be attached (--host), containers can")
            })),
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether the network's subnets are reached otherwise");
            }
        }
        warnings
    }

    /// What there is to say of a network here: where its namespace is, and the MTU inside as its members' underlays are now.
    pub fn network_answer(&self, view: &ClusterView, network: &NetworkView) -> NetworkAnswer {
        let NetworkView { spec, conflict, .. } = network;
        let mtu = network_mtu(spec, members(view, spec.id, &BTreeSet::new())).ok();
        let lent = lent(view, spec);
        NetworkAnswer { mtu, lent, ..NetworkAnswer::new(spec, *conflict, self.namespace(spec.id)) }
    }

    /// Deletes a network everywhere; false when it is not there.
    pub async fn remove_network(&self, name: &NetworkName) -> Result<bool, ApiError> {
        let view = self.view();
        let Some(network) = find_network(&view, name) else { return Ok(false) };
        let id = network.spec.id;
        let users = self.users_elsewhere(&view, id).await;
        let work = self.reconciler.work().await;
        if !users.is_empty() || work.local.endpoints.of_network(id).next().is_some() {
            return Err(ApiError::conflict(format!(
                "network {name} has endpoints on {}",
                if users.is_empty() { "this node".to_owned() } else { users.join(", ") }
            ))
            .hint("detach them first: `lanmesh endpoint ls` shows them"));
        }
        Ok(self.cluster.delete_network(id).await?)
    }

    /// The names of the other nodes that have endpoints in a network.
    async fn users_elsewhere(&self, view: &ClusterView, id: NetworkId) -> Vec<String> {
        let taking_part: Vec<&Node> = view.others_up().filter(|node| node.networks.contains(&id)).collect();
        if taking_part.is_empty() {
            return Vec::new();
        }
        // A node takes part without any where a service has ports of every node. Where somebody does not say, all of them count.
        let told = self.cluster.fetch_endpoints(id).await.ok();
        let has_some = |node: &&&Node| {
            let of_node = told.as_ref().map(|told| told.get(&node.id).is_some_and(|of| !of.is_empty()));
            of_node.unwrap_or(true)
        };
        taking_part.iter().filter(has_some).map(|node| node.name.to_string()).collect()
    }
}

/// What is lent in a network, between nodes that are known here.
fn lent(view: &ClusterView, spec: &NetworkSpec) -> Vec<LentAnswer> {
    let name = |id| view.nodes.get(&id).map(|node| node.name.clone());
    let loans = view.loans_of(spec.id);
    let mut lent: Vec<LentAnswer> = loans
        .filter_map(|(lender, _, loan)| {
            Some(LentAnswer { range: loan.range, from: name(lender)?, to: name(loan.to)? })
        })
        .collect();
    lent.sort_by_key(|lent| lent.range.first());
    lent
}

/// That each node that there is gets a block of each subnet that is added: without one nobody could be attached there any more.
pub fn has_blocks(view: &ClusterView, before: &NetworkSpec, after: &NetworkSpec) -> Result<(), ApiError> {
    let (Some(highest), Ok(plan)) = (highest(view), NetworkPlan::new(after.subnet_configs())) else {
        return Ok(());
    };
    let mut added = plan.subnets().iter().filter(|plan| !before.subnets.contains(&plan.subnet()));
    match added.find(|plan| plan.blocks() <= u64::from(highest.index.0)) {
        None => Ok(()),
        Some(small) => Err(ApiError::bad_field(
            "add_subnets",
            format!(
                "{} has room for {} nodes, with {} addresses each, and node {} has index {}",
                small.subnet(),
                small.blocks(),
                small.block_size(),
                highest.name,
                highest.index
            ),
        )
        .hint("add a larger subnet: each node has a block of each")),
    }
}

/// The node with the highest index, of those that did not leave.
fn highest(view: &ClusterView) -> Option<&Node> {
    view.nodes.values().filter(|node| node.state != NodeState::Left).max_by_key(|node| node.index)
}

/// That each node that there is gets an address of its own where some are set apart for nodes.
pub fn has_room_for_nodes(view: &ClusterView, spec: &NetworkSpec) -> Result<(), ApiError> {
    let ranges: Vec<_> = spec.node_ranges().collect();
    let (Some(highest), Ok(plan)) = (highest(view), NetworkPlan::new(spec.subnet_configs())) else {
        return Ok(());
    };
    let small =
        plan.node_places(&ranges).into_iter().find(|(_, places)| *places <= u128::from(highest.index.0));
    match small {
        None => Ok(()),
        Some((range, places)) => Err(ApiError::bad_field(
            "node_addresses",
            format!(
                "{range} has room for {places} nodes, and node {} has index {}",
                highest.name, highest.index
            ),
        )
        .hint("give a larger range: the first address is that of index 0")),
    }
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
    let (options, pools) = (request.options(), request.to_ipam().pools);
    let subnets: Vec<IpNetwork> = plan.subnets().iter().map(SubnetPlan::subnet).collect();
    // One that is there stays, whatever became of the underlay since.
    if view.network_named(&name).is_none() {
        fits_underlay(view, &subnets, request.mtu, request.encrypt)?;
    }
    let id = NetworkId::random();
    // From another number than its id, which everybody who may read knows: who knows the VNI of a plain network can write
    // into it from the underlay.
    let place = NetworkId::random();
    let taken = |vni| view.networks.values().any(|network| network.spec.vni == vni);
    let spec = NetworkSpec {
        id,
        name,
        vni: Vni::pick(&place, taken).ok_or_else(|| ApiError::conflict("every VNI is taken"))?,
        gateways: plan.gateways().collect(),
        subnets,
        pools,
        reserved: request.reserve,
        block_size: request.block_size,
        options,
        created_ms: now_ms(),
    };
    if view.network_named(&spec.name).is_none() {
        has_room_for_nodes(view, &spec)?;
    }
    Ok(spec)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::model::NodeId;

    #[test]
    fn a_vni_follows_from_nothing_that_whoever_may_read_sees() {
        let view = ClusterView {
            me: NodeId::from_bytes([1; 16]),
            nodes: Arc::default(),
            networks: BTreeMap::new(),
            services: Arc::default(),
            loans: Arc::default(),
            mesh_ports: Arc::default(),
        };
        let drawn = || {
            let request: NetworkRequest =
                serde_json::from_value(serde_json::json!({"subnets": ["10.0.0.0/24"]})).expect("a request");
            spec(&view, "net".parse().expect("a name"), request).expect("can be")
        };
        let drawn: Vec<NetworkSpec> = (0..64).map(|_| drawn()).collect();
        // Of 64 draws among 2^23 two are alike once in four thousand times.
        let apart: BTreeSet<u32> = drawn.iter().map(|spec| spec.vni.into()).collect();
        assert!(apart.len() >= 63, "{apart:?}");
        let from_id = drawn.iter().filter(|spec| Vni::pick(&spec.id, |_| false) == Some(spec.vni)).count();
        assert!(from_id <= 1, "the id is no secret");
    }
}
