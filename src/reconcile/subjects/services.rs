//! What sends this node's endpoints to the services of their networks. Each is a client of its own, in its own namespace.
//!
//! What leads where is worked out once for a network and shared by its clients; when an endpoint somewhere comes, goes or
//! drains, each client gets a step for the routes of that service, and nothing is looked at for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use super::Setup;
use crate::kernel::{ClientKey, ClientPlace, Kernel, KernelError, KernelEvent};
use crate::local::LocalEndpoint;
use crate::model::{EndpointName, NetworkId, Placement};
use crate::plan::{
    Balance, DesiredServices, ObservedRoute, ObservedServices, ServiceStep, interface_rules, plan_services,
};
use crate::reconcile::desire::{World, balances, renewed};
use crate::reconcile::subject::{Changes, Failed, Subject, Todo, Turn};

type Balances = Arc<BTreeMap<IpAddr, Arc<Balance>>>;

/// The routes of services.
#[derive(Debug, Default)]
pub struct Services {
    networks: BTreeMap<NetworkId, Balances>,
    clients: BTreeMap<ClientKey, Client>,
    settled: bool,
}

#[derive(Debug, PartialEq)]
struct Client {
    name: EndpointName,
    place: ClientPlace,
    want: DesiredServices,
    /// Where those routes lead that are kept, as far as it is known.
    chosen: BTreeMap<IpAddr, IpAddr>,
    /// Whether all that it has was made since this agent started: then nothing leads to somebody who is not known yet.
    ours: bool,
}

impl Services {
    /// Nothing is wanted yet.
    pub fn new(_setup: &Setup) -> Self {
        Self::default()
    }
}

impl Client {
    fn new(record: &LocalEndpoint, balances: &Balances) -> Self {
        let place = ClientPlace { placement: record.placement.clone(), namespace: record.namespace };
        let want = DesiredServices {
            ifname: ifname(record).cloned(),
            client: record.endpoint.addresses.iter().map(IpNetwork::ip).collect(),
            balances: balances.clone(),
        };
        let name = record.endpoint.name.clone();
        Self { name, place, want, chosen: BTreeMap::new(), ours: false }
    }

    /// The steps from the routes as they were brought about to those that are wanted now.
    fn change(&mut self, balances: &Balances) -> Vec<ServiceStep> {
        let before = std::mem::replace(&mut self.want.balances, balances.clone());
        let addresses: BTreeSet<IpAddr> = before.keys().chain(balances.keys()).copied().collect();
        let mut steps = Vec::new();
        for address in addresses {
            let (was, is) = (before.get(&address), balances.get(&address));
            if was.zip(is).is_some_and(|(was, is)| Arc::ptr_eq(was, is)) {
                continue;
            }
            let had =
                was.map(|was| was.route(&self.want.client, self.chosen.get(&address).copied()).observed());
            steps.extend(self.want.step(address, had.as_ref()));
        }
        self.remember(&steps);
        steps
    }

    fn remember(&mut self, steps: &[ServiceStep]) {
        for step in steps {
            match step {
                ServiceStep::Make { routes, .. } => {
                    let chosen = |(address, route): (&IpAddr, &crate::plan::Route)| {
                        Some((*address, route.observed().chosen?))
                    };
                    self.chosen = routes.iter().filter_map(chosen).collect();
                    self.ours = true;
                }
                ServiceStep::Put(address, route) => match route.observed().chosen {
                    Some(chosen) => drop(self.chosen.insert(*address, chosen)),
                    None => drop(self.chosen.remove(address)),
                },
                ServiceStep::Remove(address) => drop(self.chosen.remove(address)),
                ServiceStep::Delete => self.chosen.clear(),
            }
        }
    }
}

#[async_trait]
impl Subject for Services {
    type Key = ClientKey;
    type Observed = Option<ObservedServices>;
    type Step = ServiceStep;

    const NAME: &'static str = "services";

    async fn list(kernel: &dyn Kernel) -> Result<BTreeSet<ClientKey>, KernelError> {
        kernel.service_clients().await
    }

    async fn observe(kernel: &dyn Kernel, key: ClientKey) -> Result<Self::Observed, KernelError> {
        kernel.observe_services(key).await
    }

    async fn carry_out(kernel: &dyn Kernel, key: ClientKey, steps: Vec<ServiceStep>) -> Failed<ServiceStep> {
        kernel.apply_services(key, steps).await
    }

    fn removal(_: ClientKey, have: &Self::Observed) -> Vec<ServiceStep> {
        plan_services(None, have.as_ref())
    }

    fn concerned(&self, event: &KernelEvent) -> BTreeSet<ClientKey> {
        // Those in the node's own namespace. In a container's nobody listens: a socket there would keep it when all else has left it.
        let on_node = |client: &Client| client.place.placement == Placement::Host;
        let theirs = self.clients.iter().filter(|(_, client)| on_node(client)).map(|(key, _)| *key);
        match event {
            KernelEvent::RulesChanged { network: None } => theirs.collect(),
            _ => BTreeSet::new(),
        }
    }

    fn follow(&mut self, world: &World<'_>) -> Changes<Self> {
        let mut changes = Changes::<Self>::new();
        // Before everybody was heard, who is not known may be there all the same: what leads to him stays. All is looked at
        // once that is so.
        let looks = world.settled && !self.settled;
        self.settled = world.settled;
        let mut networks = BTreeMap::new();
        for network in world.local.keys() {
            let before = self.networks.remove(network).unwrap_or_default();
            let now = renewed(&before, balances(world.view, *network));
            let same = before.len() == now.len()
                && before.iter().zip(&now).all(|((a, was), (b, is))| a == b && Arc::ptr_eq(was, is));
            networks.insert(*network, if same { before } else { Arc::new(now) });
        }
        self.networks = networks;
        let mut clients = BTreeMap::new();
        for (network, records) in &world.local {
            // Who is led nowhere is no client; one that was is looked at below.
            let Some(balances) = self.networks.get(network).filter(|balances| !balances.is_empty()) else {
                continue;
            };
            for record in records.values() {
                let key = ClientKey::from(&record.key());
                let mut client = match self.clients.remove(&key) {
                    Some(there) if there.is_of(record) => there,
                    _ => {
                        changes.insert(key, Todo::Look);
                        clients.insert(key, Client::new(record, balances));
                        continue;
                    }
                };
                if !Arc::ptr_eq(&client.want.balances, balances) {
                    let steps = client.change(balances);
                    if !(self.settled || client.ours) {
                        changes.insert(key, Todo::Look);
                    } else if !steps.is_empty() {
                        changes.insert(key, Todo::Steps(steps));
                    }
                } else if looks {
                    changes.insert(key, Todo::Look);
                }
                clients.insert(key, client);
            }
        }
        let gone = std::mem::replace(&mut self.clients, clients);
        changes.extend(gone.into_keys().map(|key| (key, Todo::Look)));
        changes
    }

    fn learn(&mut self, key: ClientKey, have: &Self::Observed) -> bool {
        let Some(client) = self.clients.get_mut(&key) else { return false };
        match have {
            Some(have) => {
                let chosen = |(address, route): (&IpAddr, &ObservedRoute)| Some((*address, route.chosen?));
                client.chosen = have.routes.iter().filter_map(chosen).collect();
            }
            None => client.ours = true,
        }
        false
    }

    fn wanted(&self) -> BTreeSet<ClientKey> {
        self.clients.keys().copied().collect()
    }

    fn turns(&self, key: ClientKey) -> &'static [Turn] {
        // Before its interface goes.
        if self.goes(key) { &[Turn::Clear] } else { &[Turn::Make] }
    }

    fn plan(&self, key: ClientKey, have: &Self::Observed, _turn: Turn) -> Vec<ServiceStep> {
        let client = self.clients.get(&key);
        let mut steps = plan_services(client.map(|client| &client.want), have.as_ref());
        let fits = |have: &ObservedServices| {
            client.is_some_and(|client| have.rules == interface_rules(client.want.ifname.as_deref()))
        };
        let older = client.is_some_and(|client| !client.ours);
        if !self.settled && older && have.as_ref().is_some_and(fits) {
            let known =
                |address: &IpAddr| have.as_ref().is_some_and(|have| have.routes.contains_key(address));
            steps.retain(|step| matches!(step, ServiceStep::Put(address, _) if !known(address)));
        }
        steps
    }

    async fn before(
        &mut self,
        kernel: &dyn Kernel,
        key: ClientKey,
        steps: &[ServiceStep],
    ) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(&key).filter(|_| !steps.is_empty()) else { return Ok(()) };
        client.remember(steps);
        kernel.place_client(key, &client.place).await.map_err(|error| error.to_string())
    }

    fn whose(&self, key: ClientKey) -> Option<String> {
        Some(match self.clients.get(&key) {
            Some(Client { name, .. }) => format!("{} endpoint {name}:", key.network),
            // Of one that went no more is known.
            None => key.network.to_string(),
        })
    }

    fn undoes(_step: &ServiceStep) -> bool {
        // A container's rules are in its own hands, and go with it.
        false
    }
}

/// What its interface is called.
fn ifname(record: &LocalEndpoint) -> Option<&String> {
    match record.placement {
        // Who takes it gives it another name.
        Placement::Offered(_) | Placement::Held => None,
        Placement::Netns(_) | Placement::Host => Some(&record.ifname),
    }
}

impl Client {
    /// Whether this is the endpoint's client, in the same place, whatever leads where.
    fn is_of(&self, record: &LocalEndpoint) -> bool {
        let addresses = record.endpoint.addresses.iter().map(IpNetwork::ip);
        (&self.place.placement, self.place.namespace) == (&record.placement, record.namespace)
            && self.want.ifname.as_ref() == ifname(record)
            && self.want.client.iter().copied().eq(addresses)
    }
}
