//! `GET /v1/trace`: what stands in the way between two ends.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{GroupAddr, Weight};

/// What is to be traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceQuery {
    /// One end: an endpoint or a node, by its name or an address of its; or `outside`, of a published port.
    pub from: String,
    /// The other: an endpoint, a service, a node, a group's address, or `broadcast`.
    pub to: String,
    /// The group that is sent to, where `to` is one of its members.
    pub group: Option<GroupAddr>,
    /// The TCP or UDP port that it is for; from outside the node's.
    pub port: Option<NonZeroU16>,
}

/// What stands in the way between two ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceAnswer {
    /// What the path begins at, in words.
    pub from: String,
    /// What it ends at.
    pub to: String,
    /// Nothing is wrong.
    pub ok: bool,
    /// What was found on the way, in the order in which frames pass it.
    pub hops: Vec<HopAnswer>,
    /// What is wrong and to be mended first; null where nothing is.
    pub problem: Option<TraceProblem>,
}

/// A part of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HopAnswer {
    /// The node that says it; empty where none was asked.
    pub node: String,
    /// Which part, in a word: attached, guard, service, bridge, neighbour, fdb, mdb, flood, vxlan, underlay guard, wireguard, mesh
    /// route, underlay, probe, member, reach, port, machine, and such as say that something was not found.
    pub part: String,
    /// What was found there.
    pub found: String,
    /// What of it is wrong.
    pub wrong: Vec<WrongAnswer>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WrongAnswer {
    /// What.
    pub what: String,
    /// What mends it.
    pub hint: String,
    /// `cause`: it keeps frames from passing; `symptom`: they do not pass, and this says where they get lost; `vague`: they do not
    /// pass; `aside`: they may pass all the same.
    #[schema(schema_with = crate::api::schema::weight)]
    pub weight: Weight,
}

/// What is to be mended first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceProblem {
    /// What is wrong.
    pub what: String,
    /// What mends it.
    pub hint: String,
}
