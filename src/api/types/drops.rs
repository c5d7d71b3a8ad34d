//! What was dropped, by why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{EndpointName, NetworkName, NodeName};

/// What one node dropped since its agent began, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeDropsAnswer {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Why it does not say; absent where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    /// How old what its kernel counted is, in milliseconds.
    pub age_ms: u64,
    /// What it dropped. What has an endpoint is a part of the sum that has none.
    pub drops: Vec<DropAnswer>,
}

/// How often something was dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropAnswer {
    /// Why, as the counters of the status have it; of mDNS with `mdns_` before it.
    pub reason: String,
    /// In which network; absent where it is of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub network: Option<NetworkName>,
    /// What came from which endpoint; absent where it is a sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub endpoint: Option<EndpointName>,
    /// How often.
    pub count: u64,
    /// What it means, and what to do; absent at the parts of a sum, and where the node is of a later release than the one that is
    /// asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}
