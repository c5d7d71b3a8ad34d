//! What may be changed of what is there: settings of a network, labels of a node; and what a node carries for others.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::unique;
use crate::api::ranges::Ranges;
use crate::model::{NodeName, ServiceName};

/// `PUT /v1/networks/{name}/settings`: what is to be other than it is. What is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsRequest {
    /// Options by name, as a person writes them; `auto` for a number that is left to others again.
    #[serde(default, deserialize_with = "unique::values", skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Pools by service: a range, or one of each subnet; none to take the service's pool away.
    #[serde(default, deserialize_with = "unique::values", skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = crate::api::schema::pools)]
    pub pools: BTreeMap<ServiceName, Ranges>,
    /// Ranges that are not handed out any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserve: Vec<AddrRange>,
    /// Reserved ranges that may be handed out again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<AddrRange>,
    /// Subnets that the network is to have as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_subnets: Vec<IpNetwork>,
    /// Gateways of these that are not their first addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
}

/// `PUT /v1/nodes/{node}/labels`: what is to be said of a node. What is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsRequest {
    /// By name; null to take one back.
    #[serde(deserialize_with = "unique::values")]
    pub labels: BTreeMap<String, Option<String>>,
}

/// What a node carries of one kind and of one writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CarriedAnswer {
    /// `node` (what a node says to all), `record` (what all write together), `ledger`, or a network's name or id.
    pub place: String,
    /// The kind's number.
    pub kind: u16,
    /// What people call it; none where this release does not know it.
    pub name: Option<String>,
    /// Who wrote it; none of the ledger, and of nodes that are not known any more.
    pub writer: Option<NodeName>,
    /// How many there are.
    pub entries: usize,
    /// How many bytes their keys and values take.
    pub bytes: usize,
}
