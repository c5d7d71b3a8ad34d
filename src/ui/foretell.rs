//! The addresses that the plan foretells, beside those that there are: computed, as `lanmesh ipam plan` does it.

use std::collections::BTreeMap;

use lanmesh_ipam::{AddressRequest, NetworkPlan, Origin, endpoint_key};
use serde_json::{Value, json};

use crate::api::types::{EndpointAnswer, NetworkAnswer, NodeAnswer};
use crate::model::{EndpointName, NetworkName, NodeName, ServiceName};

/// So many networks are computed for; a cluster has fewer.
const NETWORKS_MAX: usize = 1024;

/// The plans of the networks, and the nodes' places in them.
pub struct Plans<'a> {
    plans: BTreeMap<&'a NetworkName, NetworkPlan>,
    indexes: BTreeMap<&'a NodeName, u32>,
}

impl<'a> Plans<'a> {
    /// Those of these networks and nodes.
    pub fn new(networks: &'a [NetworkAnswer], nodes: &'a [NodeAnswer]) -> Self {
        let plan = |network: &'a NetworkAnswer| {
            Some((&network.name, network.to_ipam().split().and_then(NetworkPlan::new).ok()?))
        };
        // Of two with one name the older has it, and no endpoint is in the other by that name.
        let ours = networks.iter().filter(|network| !network.conflict);
        Self {
            plans: ours.take(NETWORKS_MAX).filter_map(plan).collect(),
            indexes: nodes.iter().map(|node| (&node.name, node.index.0)).collect(),
        }
    }

    /// What an endpoint would get if nobody had anything yet, and by which rule.
    pub fn of(&self, endpoint: &EndpointAnswer) -> Option<Value> {
        let plan = self.plans.get(&endpoint.network)?;
        let index = *self.indexes.get(&endpoint.node)?;
        let service = endpoint.service.as_ref().map(ServiceName::as_str);
        let name = EndpointName::as_str(&endpoint.name);
        let key = endpoint_key(name, service, endpoint.slot);
        let request = AddressRequest { key: &key, service, slot: endpoint.slot, addresses: &[] };
        let grants = plan.foretell(index, &request).ok()?;
        let by = match grants.first()?.origin {
            Origin::Pool { .. } => "pool",
            _ => "block",
        };
        let addresses: Vec<String> = grants.iter().map(|grant| grant.address.to_string()).collect();
        Some(json!({"addresses": addresses, "by": by}))
    }

    /// The addresses of each node's block in a network, of those nodes that have one.
    pub fn blocks(&self, network: &NetworkName) -> BTreeMap<String, Vec<String>> {
        let Some(plan) = self.plans.get(network) else { return BTreeMap::new() };
        let of_node = |(name, index): (&&NodeName, &u32)| {
            let blocks = plan.subnets().iter().filter_map(|subnet| subnet.block(*index).ok());
            let ranges: Vec<_> =
                blocks.flat_map(|block| block.ranges).map(|range| range.to_string()).collect();
            (!ranges.is_empty()).then(|| (name.to_string(), ranges))
        };
        self.indexes.iter().filter_map(of_node).collect()
    }
}
