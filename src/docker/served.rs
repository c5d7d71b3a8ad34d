//! What the leader of a swarm has done of the addresses of its services.

use std::collections::BTreeSet;
use std::time::Duration;

use lanmesh_docker::engine::Swarm;
use lanmesh_docker::vip::Addresses;
use tokio::time::Instant;

/// How long what a manager is in its swarm is taken to be so: Docker runs two programs to tell it, some 80 ms, in the middle of
/// what it does. A manager that is none any more is not answered what a manager is.
const SURE: Duration = Duration::from_secs(60);

/// What was done; nothing on a node that does not lead.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// What was noted: a label may go with the node that had it.
    pub noted: Addresses,
    told: BTreeSet<String>,
    place: Option<(Instant, Swarm)>,
}

/// Whether a node may lead its swarm.
pub(super) fn is_manager(place: &Swarm) -> bool {
    place.control_available && !place.cluster.id.is_empty()
}

impl Served {
    /// What this node is as a manager of its swarm, if that is known.
    pub fn place(&self, now: Instant) -> Option<&Swarm> {
        self.place.as_ref().filter(|(since, _)| now.duration_since(*since) < SURE).map(|(_, place)| place)
    }

    /// Docker said what this node is: a manager, or what is to be asked anew each time.
    pub fn placed(&mut self, place: &Swarm, now: Instant) {
        self.place = is_manager(place).then(|| (now, place.clone()));
    }

    /// What was thought of this node does not hold.
    pub fn displaced(&mut self) {
        self.place = None;
    }

    /// Another leads.
    pub fn ends(&mut self) {
        *self = Self { place: self.place.take(), ..Self::default() };
    }

    /// Says once why an address is not real.
    pub fn tell(&mut self, failed: impl Iterator<Item = String>) {
        let failed: BTreeSet<String> = failed.collect();
        for why in failed.difference(&self.told) {
            tracing::warn!(why, "Docker's address of a service leads nowhere");
        }
        self.told = failed;
    }
}

#[cfg(test)]
mod tests {
    use lanmesh_docker::engine::SwarmCluster;

    use super::*;

    fn place(manager: bool) -> Swarm {
        let id = if manager { "swarm" } else { "" };
        Swarm {
            node_id: "node".to_owned(),
            control_available: manager,
            cluster: SwarmCluster { id: id.to_owned() },
            ..Swarm::default()
        }
    }

    #[test]
    fn what_a_manager_is_holds_for_a_while_and_what_a_worker_is_is_asked_each_time() {
        let (mut served, now) = (Served::default(), Instant::now());
        served.placed(&place(false), now);
        assert_eq!(served.place(now), None);
        served.placed(&place(true), now);
        served.ends();
        assert_eq!(served.place(now), Some(&place(true)), "that another leads makes it no worker");
        assert_eq!(served.place(now + SURE), None);
        served.placed(&place(true), now);
        served.displaced();
        assert_eq!(served.place(now), None);
    }
}
