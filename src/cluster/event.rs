//! What happened in the cluster, one thing at a time, and how much of what was counted.

use std::net::SocketAddr;

use serde::Serialize;

use super::Apart;
use crate::model::{EndpointName, NetworkId, NetworkName, NodeId, NodeName};

/// Something that changed, as this node came to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ClusterEvent {
    /// A node was let into the cluster.
    NodeJoined {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
    },
    /// A node answers (again).
    NodeAlive {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
    },
    /// A node has not answered lately.
    NodeSuspect {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// How long ago it was last heard, whatever it said, in milliseconds; `None` where it never was since the start.
        heard_ms: Option<u64>,
    },
    /// A node was given up.
    NodeDead {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// How long ago it was last heard, whatever it said, in milliseconds; `None` where it never was since the start.
        heard_ms: Option<u64>,
    },
    /// A node said that it goes.
    NodeLeft {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
    },
    /// A node was shut out.
    NodeRemoved {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
    },
    /// Another node is the manager now.
    ManagerChanged {
        /// Who.
        node: NodeId,
        /// Its name, where it is known.
        name: Option<NodeName>,
    },
    /// Two nodes were let in under one id: somebody is where he does not belong.
    NodeAdmittedTwice {
        /// The id.
        node: NodeId,
        /// The name of the one.
        name: NodeName,
        /// The name of the other.
        other: NodeName,
    },
    /// This node runs twice: there is a copy of its machine.
    RunsTwice {
        /// Where this one is.
        here: SocketAddr,
        /// Where the other is, as far as it is known.
        there: Option<SocketAddr>,
        /// When the other began, in milliseconds since 1970 by its clock; 0 where that is not known.
        since_ms: u64,
        /// Whether this one goes on; else the other does.
        goes_on: bool,
        /// Why.
        because: &'static str,
    },
    /// A node publishes more than a node may: nothing of the document is believed.
    NodeSaysTooMuch {
        /// Who.
        node: NodeId,
        /// Its name, where it is known.
        name: Option<NodeName>,
    },
    /// Somebody speaks no version of the protocol that this node does.
    SpeaksOtherwise {
        /// Where it sends from.
        from: SocketAddr,
        /// What each of the two speaks.
        apart: Apart,
    },
    /// A network was created.
    NetworkCreated {
        /// Which.
        network: NetworkId,
        /// Its name.
        name: NetworkName,
    },
    /// A network was deleted.
    NetworkDeleted {
        /// Which.
        network: NetworkId,
        /// Its name.
        name: NetworkName,
    },
    /// An endpoint is new, in a network this node takes part in.
    EndpointAdded {
        /// The network.
        network: NetworkId,
        /// The node that has it.
        node: NodeId,
        /// Its name.
        name: EndpointName,
    },
    /// An endpoint is not what it was.
    EndpointChanged {
        /// The network.
        network: NetworkId,
        /// The node that has it.
        node: NodeId,
        /// Its name.
        name: EndpointName,
    },
    /// An endpoint is gone.
    EndpointRemoved {
        /// The network.
        network: NetworkId,
        /// The node that had it.
        node: NodeId,
        /// Its name.
        name: EndpointName,
    },
}

/// Counters since the start, but for `members`. All of them only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Datagrams that were received.
    pub datagrams_in: u64,
    /// Their bytes, sealed.
    pub bytes_in: u64,
    /// Datagrams that were sent.
    pub datagrams_out: u64,
    /// Their bytes, sealed.
    pub bytes_out: u64,
    /// Dropped: shorter than a sealed datagram can be, or of another format.
    pub dropped_malformed: u64,
    /// Dropped: of a version of the protocol that is not spoken here.
    pub dropped_version: u64,
    /// Dropped: sealed with a key that is not known here.
    pub dropped_unknown_key: u64,
    /// Dropped: does not open with the key it names.
    pub dropped_tampered: u64,
    /// Dropped: seen before, or sealed too long ago.
    pub dropped_replayed: u64,
    /// Dropped: from a node that was removed or never let in, or with content that makes no sense.
    pub dropped_refused: u64,
    /// Documents and records that were not taken because their writers publish more than they may.
    pub dropped_excess: u64,
    /// Facts of others that are carried and not believed: unsound.
    pub facts_unsound: u64,
    /// Exchanges over streams that this node began and finished.
    pub syncs: u64,
    /// Exchanges over streams that this node began and that failed.
    pub syncs_failed: u64,
    /// Exchanges over streams that others began and finished.
    pub syncs_served: u64,
    /// Streams that were refused: no valid certificate, too many at once, or a broken message.
    pub streams_refused: u64,
    /// Bytes that streams carried, both ways, without TLS.
    pub stream_bytes: u64,
    /// Nodes that were let in by this one.
    pub joins: u64,
    /// Nodes that were refused by this one.
    pub joins_refused: u64,
    /// Times that this node found itself declared dead, and came back.
    pub rejoins: u64,
    /// Members that are alive or suspect now, without this node.
    pub members: u64,
}
