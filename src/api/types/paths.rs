//! Whether frames pass to the other nodes, and whatever is wrong.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{NetworkName, NodeName};

/// Whether frames pass to a node and back, in the networks that it and this one have endpoints in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// Packets of full size do.
    Ok,
    /// Not in all networks, or smaller packets only.
    Degraded,
    /// None do, or one way only.
    Down,
}

/// The ways to the other nodes, one for each node and network that both have endpoints in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathsAnswer {
    /// How many there are.
    pub tried: usize,
    /// How many carry packets of full size, both ways.
    pub well: usize,
    /// Of how many it is not known yet.
    pub unknown: usize,
}

/// How the ways from one node to the others are, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePathsAnswer {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Why it does not say; absent where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    /// One for each other node and network in which both have endpoints.
    pub paths: Vec<PathAnswer>,
}

/// How one way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WayWord {
    /// It is not known yet.
    Untried,
    /// Packets of full size pass both ways.
    Whole,
    /// Smaller ones only.
    Small,
    /// What the node sends does not arrive, and what the other one sends does.
    Unheard,
    /// Nothing comes from the other one.
    Silent,
}

/// A way from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathAnswer {
    /// To which node.
    #[schema(value_type = String)]
    pub to: NodeName,
    /// In which network.
    #[schema(value_type = String)]
    pub network: NetworkName,
    /// How it is.
    pub state: WayWord,
    /// Whether it leads through the WireGuard mesh.
    pub encrypted: bool,
    /// The largest packet that should pass, in bytes.
    pub mtu: u16,
    /// The largest that does, where it is smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carries: Option<u16>,
    /// Since when it is so, in milliseconds since 1970 by the clock of the node that answers.
    pub since_ms: u64,
    /// When something came from the other node, likewise; absent where nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// How many probes were sent in the last rounds.
    pub sent: u32,
    /// How many of them were not answered.
    pub lost: u32,
    /// What is wrong, and what to do; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemAnswer>,
}

/// That something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeAnswer {
    /// Counts the notices of one answer, from 1.
    pub number: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemAnswer {
    /// What.
    pub what: String,
    /// What to do; empty where nothing is known.
    pub hint: String,
    /// Since when it is known, in milliseconds since 1970; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}
