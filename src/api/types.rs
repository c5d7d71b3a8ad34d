//! What goes over the socket: the JSON requests and answers of `/v1`.
//!
//! Owns their field names, which others rely on, and what of them can be read without knowing the cluster.
//! Does not own: routes, permissions, or what the agent does with a request. Requests refuse unknown fields;
//! answers may gain some, so whoever reads them must skip what it does not know.

mod capture;
mod desired;
mod drops;
mod endpoint;
mod network;
mod paths;
mod service_address;
mod services;
mod settings;
mod trace;
mod unique;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::capture::{CapturePart, CaptureQuery};
pub use self::desired::{DesiredAction, DesiredAnswer, DesiredDocument, DesiredItem};
pub use self::drops::{DropAnswer, NodeDropsAnswer};
pub use self::endpoint::{AttachAnswer, AttachRequest, EndpointAnswer};
pub use self::network::{LentAnswer, NetworkAnswer, NetworkRequest};
pub use self::paths::{
    ChangeAnswer, NodePathsAnswer, PathAnswer, PathState, PathsAnswer, ProblemAnswer, WayWord,
};
pub use self::service_address::{
    DrainRequest, ServiceAddressAnswer, ServiceAddressRequest, ServiceEndpointAnswer,
};
pub use self::services::{ServiceAnswer, ServiceFilter, ServiceFilterError};
pub use self::settings::{CarriedAnswer, LabelsRequest, SettingsRequest};
pub use self::trace::{HopAnswer, TraceAnswer, TraceProblem, TraceQuery, WrongAnswer};
pub(super) use self::unique::Object;
use super::address::{AdvertiseAddr, ManagerAddr};
use crate::model::{EndpointName, GroupAddr, NetworkName, NodeId, NodeIndex, NodeName, NodeState};

/// Which agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionAnswer {
    /// The agent's version.
    pub version: String,
    /// The version of this interface, the first part of every path.
    pub api: String,
}

/// How far an agent has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It belongs to no cluster: `init` or `join` comes next.
    NoCluster,
    /// It belongs to one and has not yet brought its kernel to what is desired.
    Starting,
    /// Its kernel is as desired.
    Ready,
    /// Something that is desired could not be done; `reconcile.errors` says what.
    Degraded,
}

/// The cluster this node belongs to, and this node in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterAnswer {
    /// The cluster's id.
    pub id: String,
    /// This node's name.
    pub name: NodeName,
    /// This node's id.
    pub node_id: NodeId,
    /// This node's place in the address plans.
    pub index: NodeIndex,
    /// Where this node listens for the others.
    pub address: SocketAddr,
    /// Whether this node hands out indexes.
    pub manager: bool,
}

/// Why a node is out of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutAnswer {
    /// `removed`, `left` (the others refuse a copy of a node that left) or `aside` (the same node runs elsewhere).
    pub reason: String,
    /// What happened, who did it and when, in a sentence.
    pub text: String,
    /// What to do.
    pub hint: String,
    /// When the node came to know of it, in milliseconds since 1970.
    pub at_ms: u64,
}

/// How many nodes there are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCounts {
    /// They answer.
    pub alive: usize,
    /// They have not answered lately.
    pub suspect: usize,
    /// They were given up.
    pub dead: usize,
    /// They said that they go.
    pub left: usize,
}

/// What the work of bringing the kernel to what is desired has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconcileAnswer {
    /// Full passes since the agent started.
    pub passes: u64,
    /// When the last one ended, in milliseconds since 1970.
    pub last_ms: Option<u64>,
    /// How many changes it made.
    pub last_changes: usize,
    /// What it could not do; empty when all is well.
    pub errors: Vec<String>,
}

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusAnswer {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// How far it has come.
    pub state: AgentState,
    /// The cluster it belongs to, if any.
    pub cluster: Option<ClusterAnswer>,
    /// Why it belongs to none any more; absent where it does, or nothing happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<OutAnswer>,
    /// The nodes of the cluster, by state.
    pub nodes: NodeCounts,
    /// Networks that are known.
    pub networks: usize,
    /// Endpoints of this node.
    pub endpoints: usize,
    /// The work on the kernel.
    pub reconcile: ReconcileAnswer,
    /// The ways to the other nodes.
    #[serde(default)]
    pub paths: PathsAnswer,
    /// Whatever is wrong, what `reconcile` could not do included; empty when all is well.
    #[serde(default)]
    pub problems: Vec<ProblemAnswer>,
    /// What was counted since the start, by name (datagrams that did not open, events lost and so on).
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// What mDNS counted in each network of this node since it has it: packets received and sent, and those dropped by
    /// reason.
    #[serde(default)]
    pub mdns: BTreeMap<NetworkName, BTreeMap<String, u64>>,
    /// Where the agent shows its page, IP:PORT; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub page: Option<SocketAddr>,
    /// How old what the kernel counted is, in milliseconds: where it hangs, status shows what it said last.
    #[serde(default)]
    pub age_ms: u64,
}

/// What a check of this machine found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is there.
    Ok,
    /// It is not there and another way is taken.
    Fallback,
    /// It is not there and something does not work without it.
    Missing,
}

/// One thing that was looked for on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was looked for.
    pub name: String,
    /// Whether it is there.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// Which way is taken instead, or what to do about it.
    pub instead: Option<String>,
}

/// What this kernel can do, and which way is taken instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorAnswer {
    /// Nothing is missing.
    pub ok: bool,
    /// What was looked for, in the order it matters.
    pub checks: Vec<Check>,
}

/// The dry run: what a full pass would change now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanAnswer {
    /// The plan as text, one operation in a line; empty when there is nothing to do.
    pub text: String,
    /// The same, one operation in an item, in the order they would be made.
    pub operations: Vec<String>,
}

/// `PUT /v1/cluster`: make a cluster with this node as its first and its manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// Where the other nodes reach this one: IP or IP:PORT; by default the address by which it would send elsewhere.
    #[serde(default)]
    pub advertise: Option<AdvertiseAddr>,
    /// This node's name; by default its host name.
    #[serde(default)]
    pub name: Option<NodeName>,
}

/// How others join: also what `GET /v1/token` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// The secret that admits a node.
    pub token: String,
    /// The command line to run, in any shell, on a node that is to join. Further options go to its end.
    pub join: String,
}

impl TokenAnswer {
    /// The answer of the manager at this address.
    ///
    /// `echo` is a part of the shell, so that the token is in no process's arguments.
    pub fn new(token: String, address: impl Display) -> Self {
        Self { join: format!("echo {token} | lanmesh join --token - {address}"), token }
    }
}

/// `PUT /v1/token`: replace the token. Naming the one that is replaced makes a repeated request harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The token that is to admit nobody any more; 409 when it is not the current one.
    pub replaces: String,
}

/// Which keys of the cluster are current: also what `GET /v1/keys` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeysAnswer {
    /// The number of the newest gossip key that this node has, and of the generation of the mesh's keys that follows
    /// from it. Every rotation counts one up.
    pub epoch: u32,
}

/// `PUT /v1/keys`: make new keys of the cluster and its mesh. Naming those that are replaced makes a repeated request
/// harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKeysRequest {
    /// The number of the keys that are to be used no more; 409 when they are not the current ones.
    pub replaces: u32,
}

/// `PUT /v1/cluster/here`: an empty object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReclaimRequest {}

/// `PUT /v1/configuration`: an empty object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {}

/// What a configuration that was read again says otherwise than before, by its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReloadAnswer {
    /// The file.
    pub file: String,
    /// These hold now.
    pub changed: Vec<String>,
    /// These hold from the next start of the agent on.
    pub restart: Vec<String>,
    /// These hold as the agent's environment says (`log`, where RUST_LOG is set), whatever is in the file.
    pub overruled: Vec<String>,
}

/// `PUT /v1/manager`: make this node the manager. It makes a new CA and a new token; nodes that are in stay in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverRequest {
    /// Also where the manager answers: it steps down.
    #[serde(default)]
    pub force: bool,
}

/// `PUT /v1/cluster/membership`: join a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The token that `init` gave.
    pub token: String,
    /// Where the manager listens: HOST or HOST:PORT.
    pub manager: ManagerAddr,
    /// Where the other nodes reach this one; by default the address this node reaches the manager from.
    #[serde(default)]
    pub advertise: Option<AdvertiseAddr>,
    /// This node's name; by default its host name.
    #[serde(default)]
    pub name: Option<NodeName>,
    /// The index to ask for; by default the lowest that is free.
    #[serde(default)]
    pub index: Option<NodeIndex>,
}

/// Whether a DELETE found something to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedAnswer {
    /// False when it was not there to begin with.
    pub removed: bool,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeAnswer {
    /// Its name.
    pub name: NodeName,
    /// Its id.
    pub id: NodeId,
    /// Its place in the address plans.
    pub index: NodeIndex,
    /// Where it listens for the cluster, IP:PORT.
    pub address: SocketAddr,
    /// Whether it answers.
    #[schema(schema_with = super::schema::node_state)]
    pub state: NodeState,
    /// It is the node that answers this request.
    pub me: bool,
    /// It hands out indexes.
    pub manager: bool,
    /// Where its VXLAN packets come from.
    pub vtep: IpAddr,
    /// The largest packet its underlay carries, in bytes.
    pub underlay_mtu: u32,
    /// The networks it takes part in.
    pub networks: Vec<NetworkName>,
    /// What it tells of itself (`kernel`, `os`, `arch`, `version`, `protocol`, `probes`), and what operators say of it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether frames pass to it and back; absent where nothing is known, because it and this node share no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathState>,
    /// Why they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its place in the WireGuard mesh, while the cluster has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<NodeMesh>,
    /// Its own addresses, by network, in those that it takes part in and that have a range for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub own_addresses: BTreeMap<NetworkName, Vec<IpAddr>>,
}

/// A node's place in the WireGuard mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeMesh {
    /// Its address, reachable from every node, and from those alone.
    pub address: Ipv6Addr,
    /// Its public key, in base64.
    pub public_key: String,
    /// The largest packet that should pass to it through its tunnel, by both underlays, in bytes; none for the node
    /// that answers, and until it was tried.
    pub mtu: Option<u32>,
    /// The largest that did when it was last tried, in bytes; 0 where nothing passed.
    pub carries: Option<u32>,
}

/// A DNS-SD service to announce for an endpoint (RFC 6763).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceRequest {
    /// What it is called; left out: as the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The type, `_name._tcp` or `_name._udp`.
    pub kind: String,
    /// Subtypes to browse for, such as `_printer`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub subtypes: BTreeSet<String>,
    /// The port it listens on.
    pub port: u16,
    /// The TXT record's keys and values; a key with `null` is written without `=`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub txt: BTreeMap<String, Option<String>>,
}

/// Whether an endpoint can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Its node answers.
    Up,
    /// The same, and it gets no new connections of its service.
    Draining,
    /// Its node has not answered lately.
    Suspect,
    /// Its node was given up or left.
    Down,
    /// A newer claim took its address.
    Displaced,
}

/// A multicast group that has members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupAnswer {
    /// The network's name.
    pub network: NetworkName,
    /// The group's address.
    pub group: GroupAddr,
    /// The only sender that these members want to hear; without it, anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Where it is joined, by node.
    pub members: Vec<MemberAnswer>,
    /// What endpoints of the node that is asked have sent to the group, each packet once, wherever it went. With a
    /// source: whoever sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<TrafficAnswer>,
    /// What came to the node that is asked from other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<TrafficAnswer>,
}

/// Packets of IP that were counted, since the agent of the node that is asked began to look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficAnswer {
    /// How many. A datagram in fragments is so many packets.
    pub packets: u64,
    /// What they took in bytes, their IP headers included.
    pub bytes: u64,
}

/// A member of a multicast group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberAnswer {
    /// The node that it is on.
    pub node: NodeName,
    /// Which endpoint it is. Each node knows its own; of a node that does not say so in time it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointName>,
    /// What went to its node from endpoints of the node that is asked; not told apart by source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<TrafficAnswer>,
}
