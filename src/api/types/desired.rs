//! The whole desired state of a node as one document, and what putting it came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AttachAnswer, AttachRequest, NetworkRequest, ServiceAddressRequest, unique};
use crate::api::error::ErrorDetail;
use crate::model::{EndpointName, NetworkName, ServiceName};

/// `PUT /v1/desired`, and what `GET` gives: everything that this node is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DesiredDocument {
    /// Networks that are to exist. One that is not named is left alone: other nodes may need it.
    #[serde(default, deserialize_with = "unique::objects")]
    pub networks: BTreeMap<NetworkName, NetworkRequest>,
    /// Services that are to have addresses, by network and name. One that is not named is left alone.
    #[serde(default, deserialize_with = "unique::objects_of", skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<NetworkName, BTreeMap<ServiceName, ServiceAddressRequest>>,
    /// This node's endpoints, by network and name. One that is not named is detached.
    #[serde(default, deserialize_with = "unique::objects_of")]
    pub endpoints: BTreeMap<NetworkName, BTreeMap<EndpointName, AttachRequest>>,
}

/// What was done about one thing of the desired state (in a dry run: what would be).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DesiredAction {
    /// It was as desired.
    Kept,
    /// The network was created, or the service given an address.
    Created,
    /// The endpoint was attached.
    Attached,
    /// The endpoint was another: it was detached and attached anew.
    Replaced,
    /// The endpoint is not named: it was detached.
    Detached,
}

/// One thing of the desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DesiredItem {
    /// The network.
    pub network: NetworkName,
    /// The service; absent when the item is the network itself or an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The endpoint; absent when the item is the network itself or a service.
    pub endpoint: Option<EndpointName>,
    /// What was done, or tried where there is an error.
    pub action: DesiredAction,
    /// What attaching gave.
    pub attachment: Option<AttachAnswer>,
    /// Why it could not be done.
    pub error: Option<ErrorDetail>,
}

/// What a `PUT /v1/desired` came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DesiredAnswer {
    /// Nothing was done, only looked at.
    pub dry_run: bool,
    /// How many items could not be done.
    pub failed: usize,
    /// Everything that is named, or was there and is not.
    pub items: Vec<DesiredItem>,
}
