//! What of published ports is in the networks: the gate of each, what goes where, and the way back of each endpoint.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::Setup;
use crate::kernel::{ClientPlace, Kernel, KernelError, KernelEvent};
use crate::model::{EndpointName, NetworkId};
use crate::plan::{DesiredPorts, ObservedPorts, PortStep, plan_ports};
use crate::reconcile::desire::{Published, World, place};
use crate::reconcile::subject::{Changes, Failed, Subject, Todo, Turn};

/// Published ports, by network.
#[derive(Debug, Default)]
pub struct Ports {
    want: BTreeMap<NetworkId, DesiredPorts>,
    places: BTreeMap<(NetworkId, EndpointName), ClientPlace>,
    problems: Vec<String>,
    /// The networks in which somebody may be of whom nothing was heard yet: what leads to him stays.
    unheard: BTreeSet<NetworkId>,
}

impl Ports {
    /// Nothing is wanted yet.
    pub fn new(_setup: &Setup) -> Self {
        Self::default()
    }
}

#[async_trait]
impl Subject for Ports {
    type Key = NetworkId;
    type Observed = Option<ObservedPorts>;
    type Step = PortStep;

    const NAME: &'static str = "ports";

    async fn list(kernel: &dyn Kernel) -> Result<BTreeSet<NetworkId>, KernelError> {
        kernel.port_networks().await
    }

    async fn observe(kernel: &dyn Kernel, key: NetworkId) -> Result<Self::Observed, KernelError> {
        kernel.observe_ports(key).await
    }

    async fn carry_out(kernel: &dyn Kernel, key: NetworkId, steps: Vec<PortStep>) -> Failed<PortStep> {
        kernel.apply_ports(key, steps).await
    }

    fn removal(_: NetworkId, have: &Self::Observed) -> Vec<PortStep> {
        plan_ports(None, have.as_ref())
    }

    fn concerned(&self, event: &KernelEvent) -> BTreeSet<NetworkId> {
        let outward = || self.want.iter().filter(|(_, want)| want.outward.is_some()).map(|(key, _)| *key);
        match event {
            KernelEvent::RulesChanged { network } => network.iter().copied().collect(),
            // By its routes the node has ways outside, over one family of addresses or both.
            KernelEvent::RoutesChanged => outward().collect(),
            _ => BTreeSet::new(),
        }
    }

    fn follow(&mut self, world: &World<'_>) -> Changes<Self> {
        let Published { networks, problems, doors: _, outward: _ } = world.published();
        self.problems.clone_from(problems);
        let unheard = if world.settled { BTreeSet::new() } else { world.everywhere.clone() };
        let heard = std::mem::replace(&mut self.unheard, unheard);
        let heard: BTreeSet<NetworkId> = heard.difference(&self.unheard).copied().collect();
        let keys: BTreeSet<NetworkId> = self.want.keys().chain(networks.keys()).copied().collect();
        let differs = |key: &NetworkId| self.want.get(key) != networks.get(key);
        let changed = keys.into_iter().filter(differs);
        let changes = changed.chain(heard).map(|key| (key, Todo::Look)).collect();
        let records = world.local.values().flat_map(|records| records.values());
        self.places = records
            .filter(|record| {
                let wanted = networks.get(&record.network);
                wanted.is_some_and(|ports| ports.ways.contains_key(&record.endpoint.name))
            })
            .map(|record| ((record.network, record.endpoint.name.clone()), place(record)))
            .collect();
        self.want.clone_from(networks);
        changes
    }

    fn wanted(&self) -> BTreeSet<NetworkId> {
        self.want.keys().copied().collect()
    }

    fn turns(&self, key: NetworkId) -> &'static [Turn] {
        // Behind what leads there.
        if self.goes(key) { &[Turn::Clear] } else { &[Turn::Make] }
    }

    fn plan(&self, key: NetworkId, have: &Self::Observed, _turn: Turn) -> Vec<PortStep> {
        let mut steps = plan_ports(self.want.get(&key), have.as_ref());
        if self.unheard.contains(&key)
            && have.as_ref().is_some_and(|have| have.gate.is_some() && have.rules != 0)
        {
            let adds = |step: &PortStep| {
                matches!(step, PortStep::MakeGate { .. } | PortStep::PutWay(..) | PortStep::PutRelay(_))
            };
            steps.retain(adds);
        }
        steps
    }

    async fn before(
        &mut self,
        kernel: &dyn Kernel,
        key: NetworkId,
        steps: &[PortStep],
    ) -> Result<(), String> {
        for step in steps {
            if let PortStep::PutWay(name, _) = step
                && let Some(place) = self.places.get(&(key, name.clone()))
            {
                kernel.place_way(key, name, place).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }

    fn whose(&self, key: NetworkId) -> Option<String> {
        Some(key.to_string())
    }

    fn undoes(step: &PortStep) -> bool {
        // The way back is in a container's hands.
        matches!(step, PortStep::MakeGate { .. } | PortStep::PutRelay(_) | PortStep::Forward(_))
    }
}
