//! Makes the virtual addresses of a swarm's services real: each becomes the address of a service of lanmesh.
//!
//! A swarm's leader alone does it. What it finds out anew each time is all that it needs: which services there are (Docker), which
//! addresses were made for them (labels of nodes, `lanmesh_docker::vip`), and which there are (the agent). So a new leader goes on
//! where the old one was stopped, and an event that was lost or repeated changes nothing.

use std::sync::Arc;
use std::time::Duration;

use lanmesh_docker::vip::{self, Addresses};
use tokio::time::Instant;

use super::driver::{Answer, Driver, addresses_of, networks_of_ours};
use super::engine::plain;
use super::news::Pace;
use super::served::{Served, is_manager};
use crate::api::types::{NodeAnswer, ServiceAddressAnswer, ServiceAddressRequest};

/// How often it is looked at without news.
const EVERY: Duration = Duration::from_secs(45);

/// Looks for as long as it is not stopped.
pub(super) async fn run(driver: Arc<Driver>) {
    let mut pace = Pace::new(EVERY);
    loop {
        pace.turn(&driver.news.services).await;
        if let Err(error) = driver.serve_vips().await {
            // What is not known changes nothing.
            tracing::debug!(error, "cannot look for the addresses of the swarm's services");
        }
    }
}

impl Driver {
    /// Brings the addresses of services to what the swarm has, if this node leads it.
    pub(super) async fn serve_vips(&self) -> Answer<()> {
        let mut served = self.served.lock().await;
        let Some(swarm) = self.led(&mut served).await? else {
            // Another leader goes on from here.
            served.ends();
            return Ok(());
        };
        // In this order: a network goes after its services.
        let services = self.engine.services().await.map_err(|error| error.to_string())?;
        let networks = self.engine.networks().await.map_err(|error| error.to_string())?;
        let ours = networks_of_ours(&networks);
        let wanted = vip::wanted(&services, |id| ours.get(id));
        let nodes = self.agent.nodes().await.map_err(|error| error.to_string())?;
        let mut noted = served.noted.clone();
        noted.extend(nodes.iter().flat_map(|node| vip::noted(&swarm, &node.labels)));
        if wanted.addresses.is_empty() && noted.is_empty() {
            served.tell(wanted.refused.into_values());
            return Ok(());
        }
        let there = self.agent.service_addresses(None).await.map_err(|error| error.to_string())?;
        let plan = vip::plan(&wanted.addresses, &noted, &addresses_of(&there));
        let mut failed: Vec<String> =
            wanted.refused.into_values().chain(plan.left.values().cloned()).collect();
        for (network, service) in &plan.remove {
            tracing::info!(%network, %service, "Docker has no such service, or gave it another address: its address goes");
            self.agent.remove_service(network, service).await.map_err(|error| error.to_string())?;
        }
        self.note_vips(&nodes, &swarm, &plan.notes).await?;
        served.noted.clone_from(&plan.notes);
        for ((network, service), address) in &plan.set {
            // What was said of it by hand stays, but for the address.
            let before = there.iter().find(|there| there.network == *network && there.name == *service);
            let kept = |before: &ServiceAddressAnswer| ServiceAddressRequest {
                addresses: Vec::new(),
                ports: before.ports.clone(),
                affinity: before.affinity,
                publish: before.publish.clone(),
                publish_mode: before.publish_mode,
                publish_source: before.publish_source,
            };
            let kept = before.map(kept).unwrap_or_default();
            let request = ServiceAddressRequest { addresses: vec![*address], ..kept };
            match self.agent.set_service(network, service, &request).await {
                Ok(_) => {
                    tracing::info!(%network, %service, %address, "Docker's address of the service is real");
                }
                Err(error) => failed.push(format!(
                    "service {service} of network {network} cannot have Docker's {address}: {error}"
                )),
            }
        }
        served.tell(failed.into_iter());
        Ok(())
    }

    /// The swarm that this node leads, by its id, if it leads one.
    async fn led(&self, served: &mut Served) -> Answer<Option<String>> {
        let place = match served.place(Instant::now()) {
            Some(place) => place.clone(),
            None => {
                let place = self.engine.place().await.map_err(|error| error.to_string())?;
                served.placed(&place, Instant::now());
                place
            }
        };
        if !is_manager(&place) {
            return Ok(None);
        }
        let leads = self.engine.leads(&place.node_id).await;
        if leads.is_err() {
            served.displaced();
        }
        leads.map(|leads| leads.then(|| plain(&place.cluster.id))).map_err(|error| error.to_string())
    }

    /// Notes, for whoever leads next, which addresses were made: on this node, and on no other.
    async fn note_vips(&self, nodes: &[NodeAnswer], swarm: &str, notes: &Addresses) -> Answer<()> {
        let wanted = vip::labels(swarm, notes);
        // This node's first: what two nodes note is there twice, what none notes is lost.
        let (mine, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node.me);
        for node in mine {
            let stale =
                node.labels.keys().filter(|label| vip::is_note(swarm, label) && !wanted.contains_key(*label));
            let new = wanted.iter().filter(|(label, text)| node.labels.get(*label) != Some(text));
            let labels = stale.map(|label| (label.clone(), None));
            let labels = labels.chain(new.map(|(label, text)| (label.clone(), Some(text.clone())))).collect();
            self.label(&node.name, labels).await?;
        }
        for node in others {
            let stale = node.labels.keys().filter(|label| vip::is_note(swarm, label));
            self.label(&node.name, stale.map(|label| (label.clone(), None)).collect()).await?;
        }
        Ok(())
    }
}
