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
        // The specs of one network that are alike for soundness are those with equal subnets.
        let subnets =
            |about: &Self| about.network.as_ref().map(|spec| (spec.subnets.clone(), spec.gateways.clone()));
        (self.writer, self.scope) == (other.writer, other.scope) && subnets(self) == subnets(other)
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
