//! What the leader of a swarm has done of the addresses of its services.

use std::collections::BTreeSet;

use lanmesh_docker::vip::Addresses;

/// What was done; nothing on a node that does not lead.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// What was noted: a label may go with the node that had it.
    pub noted: Addresses,
    told: BTreeSet<String>,
}

impl Served {
    /// Says once why an address is not real.
    pub fn tell(&mut self, failed: impl Iterator<Item = String>) {
        let failed: BTreeSet<String> = failed.collect();
        for why in failed.difference(&self.told) {
            tracing::warn!(why, "Docker's address of a service leads nowhere");
        }
        self.told = failed;
    }
}
