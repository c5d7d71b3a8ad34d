//! What this node knows of the cluster, in numbers: nodes, networks, endpoints, services, and the ways to the others.

use std::collections::BTreeMap;

use super::super::answers;
use super::super::session::Session;
use crate::api::types::{PathsAnswer, ProblemAnswer};
use crate::health::{Verdict, Way, WayKey};
use crate::metrics::{Collect, Page};
use crate::model::{ClusterView, NetworkId, ServiceName};

/// What is told of it.
pub struct OfCluster<'a> {
    view: &'a ClusterView,
    networks: &'a BTreeMap<NetworkId, String>,
    manager: bool,
    /// This node's endpoints in each network.
    endpoints: BTreeMap<NetworkId, usize>,
    paths: PathsAnswer,
    ways: Vec<(WayKey, Way)>,
    problems: Vec<ProblemAnswer>,
}

impl<'a> OfCluster<'a> {
    /// As it is now.
    pub async fn new(
        session: &Session,
        view: &'a ClusterView,
        networks: &'a BTreeMap<NetworkId, String>,
    ) -> Self {
        let mut endpoints = BTreeMap::new();
        for key in session.reconciler.records().keys() {
            *endpoints.entry(key.network).or_default() += 1;
        }
        Self {
            view,
            networks,
            manager: session.manager_known().await == Some(view.me),
            endpoints,
            paths: session.paths(),
            ways: session.health.ways(),
            problems: session.all_problems(view),
        }
    }
}

impl Collect for OfCluster<'_> {
    fn collect(&self, page: &mut Page) {
        page.gauge("lanmesh_problems", "What is wrong, as the status lists it.").value(self.problems.len());
        let counts = answers::counts(self.view);
        let mut nodes = page.gauge("lanmesh_nodes", "Nodes of the cluster, this one included.");
        for (state, count) in [
            ("alive", counts.alive),
            ("suspect", counts.suspect),
            ("dead", counts.dead),
            ("left", counts.left),
        ] {
            nodes.sample(&[("state", state)], count);
        }
        page.gauge("lanmesh_manager", "Whether this node hands out indexes.").value(u8::from(self.manager));
        page.gauge("lanmesh_networks", "Networks of the cluster.").value(self.view.networks.len());

        let mut endpoints = page.gauge("lanmesh_endpoints", "Endpoints of this node.");
        for (network, count) in &self.endpoints {
            if let Some(name) = self.networks.get(network) {
                endpoints.sample(&[("network", name)], count);
            }
        }
        let mut services = page.gauge("lanmesh_services", "Services that have an address.");
        for (network, name) in self.networks {
            let count = self.view.services_of(*network).count();
            if count > 0 {
                services.sample(&[("network", name)], count);
            }
        }
        let help = "Endpoints of a service that has an address, on nodes that answer; only of networks of this node.";
        let mut of_services = page.gauge("lanmesh_service_endpoints", help);
        for (network, name) in self.networks {
            for (service, states) in self.service_endpoints(*network) {
                for (state, count) in ["up", "draining"].into_iter().zip(states) {
                    let labels = [("network", name.as_str()), ("service", &service), ("state", state)];
                    of_services.sample(&labels, count);
                }
            }
        }

        let paths = self.paths;
        let mut tried = page.gauge("lanmesh_paths", "Ways to other nodes, one for each node and network.");
        let down = paths.tried - paths.well - paths.unknown;
        for (state, count) in [("well", paths.well), ("unknown", paths.unknown), ("wrong", down)] {
            tried.sample(&[("state", state)], count);
        }
        let help = "Whether whole packets pass to a node and back; absent until that was tried.";
        let mut well = page.gauge("lanmesh_path_well", help);
        for (key, way) in &self.ways {
            let node = self.view.nodes.get(&key.peer).filter(|_| way.verdict != Verdict::Untried);
            if let Some((node, network)) = node.zip(self.networks.get(&key.network)) {
                let labels = [("network", network.as_str()), ("node", node.name.as_str())];
                well.sample(&labels, u8::from(way.verdict == Verdict::Whole));
            }
        }
    }
}

impl OfCluster<'_> {
    /// How many endpoints of each service with an address take connections, and how many are drained.
    fn service_endpoints(&self, id: NetworkId) -> BTreeMap<String, [usize; 2]> {
        let mut found: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        let Some(network) = self.view.networks.get(&id) else { return found };
        if !self.endpoints.contains_key(&id) {
            return found;
        }
        found.extend(self.view.services_of(id).map(|(name, _)| (name.to_string(), [0, 0])));
        for (node, endpoints) in network.endpoints.iter().filter(|(node, _)| self.view.is_up(node)) {
            let draining = network.draining.get(node);
            for endpoint in endpoints.values() {
                let service = endpoint.service.as_ref().map(ServiceName::as_str);
                let Some(states) = service.and_then(|service| found.get_mut(service)) else { continue };
                let is_draining = draining.is_some_and(|names| names.contains(&endpoint.name));
                states[usize::from(is_draining)] += 1;
            }
        }
        found
    }
}
