//! Whether frames pass to the other nodes, and whatever is wrong.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
