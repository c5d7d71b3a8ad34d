//! What a node that starts again finds in its kernel of the time before, and goes by until it has heard from the others.

use std::collections::BTreeSet;

use crate::kernel::{Kernel, KernelError};
use crate::model::NetworkId;

/// The networks in which this node handed on to others what came for published ports: every node took part there, for what
/// others said that this one does not know yet.
pub async fn handing_on(kernel: &dyn Kernel) -> Result<BTreeSet<NetworkId>, KernelError> {
    let mut found = BTreeSet::new();
    for network in kernel.port_networks().await? {
        let ports = kernel.observe_ports(network).await?;
        if ports.is_some_and(|ports| ports.gate.is_some() && ports.relay.is_some()) {
            found.insert(network);
        }
    }
    Ok(found)
}
