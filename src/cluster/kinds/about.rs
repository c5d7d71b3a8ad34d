//! What the soundness of a fact depends on besides itself: whose it is, and in which network it is said.

use std::sync::Arc;

use crate::cluster::facts::Scope;
use crate::model::{NetworkSpec, NodeId};

/// Whose a document is, and what it is about.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct About {
    /// Its writer.
    pub writer: NodeId,
    /// Which of its documents.
    pub scope: Scope,
    /// The network, of a document in one: as it is now.
    pub network: Option<Arc<NetworkSpec>>,
}

impl PartialEq for About {
    fn eq(&self, other: &Self) -> bool {
        // The specs of one network that are alike for soundness are those with equal subnets, and the same of them set apart.
        let parts = |about: &Self| {
            let parts = |spec: &NetworkSpec| {
                (spec.subnets.clone(), spec.gateways.clone(), spec.options.node_addresses)
            };
            about.network.as_deref().map(parts)
        };
        (self.writer, self.scope) == (other.writer, other.scope) && parts(self) == parts(other)
    }
}

impl About {
    /// The network, where the document is one in a network.
    pub fn network(&self) -> Result<&NetworkSpec, &'static str> {
        self.network.as_deref().ok_or("it is said outside of a network")
    }

    /// That the document is the one for everybody.
    pub fn everybody(&self) -> Result<(), &'static str> {
        if self.scope == Scope::Node { Ok(()) } else { Err("it is said in a network and not to everybody") }
    }
}
