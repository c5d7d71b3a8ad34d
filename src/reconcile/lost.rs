//! Why an endpoint of this node is no more, though nobody detached it: as a value, and as a sentence for whoever had it.

use std::fmt;

use crate::clock::utc;
use crate::model::{Contested, EndpointName};

/// Why an endpoint is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Its namespace cannot be entered any more.
    ContainerGone,
    /// Its network was deleted.
    NetworkGone,
    /// Another endpoint has what it claims.
    Outranked(Outranked),
}

/// Another endpoint has the higher claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outranked {
    /// On what.
    pub what: Contested,
    /// Which.
    pub by: EndpointName,
    /// The name of the node that has it.
    pub node: String,
    /// When it was attached to take this over, in milliseconds since 1970 by that node's clock; `None` where that was
    /// not what it was attached for, and the two came about on nodes that did not hear each other.
    pub took_ms: Option<u64>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContainerGone => f.write_str("its container is gone"),
            Self::NetworkGone => f.write_str("its network was deleted"),
            Self::Outranked(Outranked { what, by, node, took_ms: Some(ms) }) => {
                write!(f, "{what} was taken over by endpoint {by} on node {node} at {}", utc(*ms))
            }
            Self::Outranked(Outranked { what, by, node, took_ms: None }) => write!(
                f,
                "endpoint {by} on node {node} has {what} too: both were attached while the two nodes did not hear each \
                 other, and of two such the higher claim keeps it"
            ),
        }
    }
}
