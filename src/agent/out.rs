//! Why this node belongs to no cluster any more: kept until it belongs to one again, for whoever asks what happened.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::session::Session;
use crate::api::types::OutAnswer;
use crate::clock::{now_ms, utc};
use crate::cluster::Refusal;
use crate::model::NodeName;
use crate::state::{State, StateError};

const OUT: &str = "agent/out";

/// Why this node is out of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// What it was called there.
    name: NodeName,
    /// The cluster's id.
    cluster: String,
    /// When it came to know of it, in milliseconds since 1970.
    at_ms: u64,
    /// What happened.
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Why {
    /// `node rm`, which the manager carries out.
    Removed {
        /// The manager, where it is known.
        manager: Option<NodeName>,
    },
    /// It said that it goes; this is a copy of what it was.
    Left,
    /// The same node runs elsewhere, and goes on there. What this one was is kept.
    Aside {
        /// Where, as far as it is known.
        there: Option<SocketAddr>,
        /// Why that one goes on.
        because: String,
    },
}

impl Out {
    /// Why `session`, whose cluster says that this node is out, has ended.
    pub async fn of(session: &Session, name: NodeName) -> Self {
        let manager = session.cluster.manager().await.ok().flatten().and_then(|(_, name)| name);
        let why = match session.cluster.why_out().await {
            Ok(Some(Refusal::Left)) => Why::Left,
            Ok(Some(Refusal::RunsTwice { there, because })) => {
                Why::Aside { there, because: because.to_owned() }
            }
            _ => Why::Removed { manager },
        };
        Self { name, cluster: session.cluster.id().to_owned(), at_ms: now_ms(), why }
    }

    /// What is remembered.
    pub fn load(state: &State) -> Result<Option<Self>, StateError> {
        state.get(OUT)
    }

    /// Remembers it.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        state.put(OUT, self)
    }

    /// Forgets it: this node belongs to a cluster again, or was told to forget.
    pub fn forget(state: &State) -> Result<(), StateError> {
        state.delete(OUT)
    }

    /// Whether what this node was is kept, since it may go on as that again.
    pub fn is_aside(&self) -> bool {
        matches!(self.why, Why::Aside { .. })
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.why {
            Why::Removed { .. } => {
                "run `lanmesh join` with a token of the cluster to come back as a new node, or `lanmesh leave` to forget this"
            }
            Why::Aside { .. } => {
                "run `lanmesh leave` here, then `lanmesh join` with a token, to make this machine a node of its own; or stop the \
                 other for good and run `lanmesh reclaim` here"
            }
            Why::Left => {
                "run `lanmesh join` with a token of the cluster: what left cannot go on, nor can a copy of it"
            }
        }
    }

    /// As the socket tells it.
    pub fn answer(&self) -> OutAnswer {
        let reason = match self.why {
            Why::Removed { .. } => "removed",
            Why::Left => "left",
            Why::Aside { .. } => "aside",
        };
        OutAnswer {
            reason: reason.to_owned(),
            text: self.to_string(),
            hint: self.hint().to_owned(),
            at_ms: self.at_ms,
        }
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cluster, at_ms, why } = self;
        let at = utc(*at_ms);
        match why {
            Why::Removed { manager: Some(manager) } => write!(
                f,
                "this node was removed: somebody ran `lanmesh node rm {name}` at {manager}, the manager of cluster \
                 {cluster}, and it was told so at {at}"
            ),
            Why::Removed { manager: None } => write!(
                f,
                "this node was removed: somebody ran `lanmesh node rm {name}` in cluster {cluster}, and it was told so at {at}"
            ),
            Why::Aside { there, because } => {
                let there = there.map_or_else(|| "elsewhere".to_owned(), |there| format!("at {there}"));
                write!(
                    f,
                    "node {name} of cluster {cluster} runs {there} too, from a copy of the same data directory; that one goes \
                     on, since {because}, and this one stepped aside at {at}"
                )
            }
            Why::Left => write!(
                f,
                "node {name} had left cluster {cluster}, and this is a copy of what it was then: the others refused it at {at}"
            ),
        }
    }
}
