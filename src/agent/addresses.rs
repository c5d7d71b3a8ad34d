//! Services with addresses of their own: which address one gets, and what is said of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, NetworkPlan};

use super::answers;
use super::find::{elsewhere, find_network, network_named};
use super::others::{ByNode, together};
use super::published::sees_node;
use super::session::Session;
use crate::api::ApiError;
use crate::api::types::{EndpointAnswer, ServiceAddressAnswer, ServiceAddressRequest, ServiceEndpointAnswer};
use crate::model::{
    ClusterView, EndpointKey, EndpointName, NetworkId, NetworkName, NetworkSpec, NetworkView, ServiceName,
    ServiceSpec,
};

impl Session {
    /// Gives a service an address, or changes what it is; the same again gives the same answer.
    ///
    /// # Errors
    /// There is no such network, or an address is somebody else's: whose is said.
    pub async fn set_service(
        &self,
        network: &NetworkName,
        name: ServiceName,
        request: ServiceAddressRequest,
    ) -> Result<ServiceAddressAnswer, ApiError> {
        self.write_service(network, &name, request).await?;
        self.bring_about().await;
        self.service(network, &name).await
    }

    /// Keeps a service's addresses, and tells the others.
    async fn write_service(
        &self,
        network: &NetworkName,
        name: &ServiceName,
        request: ServiceAddressRequest,
    ) -> Result<(), ApiError> {
        self.is_believed()?;
        let id = network_named(&self.view(), network)?.spec.id;
        // Before anything is promised it is known what the others have.
        let answered = self.ask_others(id).await?;
        let view = self.view();
        let found = view.networks.get(&id).ok_or_else(|| ApiError::no_network(network))?;
        let mut endpoints = together(&view, id, &answered);
        endpoints.extend(found.endpoints.get(&view.me).map(|own| (view.me, own.clone())));
        let addresses = addresses(&view, &found.spec, name, &request.addresses, &endpoints)?;
        sees_node(&view, &found.spec, &request.publish, request.publish_source)?;
        let published = (&request.publish[..], request.publish_mode);
        self.may_publish_service(&view, &found.spec, name, &endpoints, published).await?;
        let ServiceAddressRequest { addresses: _, ports, affinity, publish, publish_mode, publish_source } =
            request;
        let spec = ServiceSpec { addresses, ports, affinity, publish, publish_mode, publish_source };
        self.cluster.set_service(id, name.clone(), Some(spec)).await?;
        Ok(())
    }

    /// Gives a service of a network, all of whose services have addresses, one where it has none yet; whether it did. The
    /// kernel is brought to it by whoever asks.
    pub async fn give_address(&self, spec: &NetworkSpec, service: &ServiceName) -> bool {
        let wanted = spec.options.service_addresses.is_some();
        if !wanted || self.view().services.contains_key(&(spec.id, service.clone())) {
            return false;
        }
        let given = self.write_service(&spec.name, service, ServiceAddressRequest::default()).await;
        if let Err(error) = &given {
            tracing::warn!(network = %spec.name, %service, %error, "the service gets no address");
        }
        given.is_ok()
    }

    /// Gives every service of a network an address that its endpoints name and that has none.
    pub async fn give_addresses(&self, network: NetworkId) {
        let view = self.view();
        let Some(spec) = view.networks.get(&network).map(|network| network.spec.clone()) else { return };
        let Ok(endpoints) = self.cluster.fetch_endpoints(network).await else { return };
        let all = endpoints.values().flat_map(|endpoints| endpoints.values());
        let services: BTreeSet<ServiceName> = all.filter_map(|endpoint| endpoint.service.clone()).collect();
        for service in services {
            self.give_address(&spec, &service).await;
        }
    }

    /// Takes a service's address away; false when it had none.
    pub async fn remove_service(&self, network: &NetworkName, name: &ServiceName) -> Result<bool, ApiError> {
        let view = self.view();
        let Some(network) = find_network(&view, network) else { return Ok(false) };
        let id = network.spec.id;
        if !view.services.contains_key(&(id, name.clone())) {
            return Ok(false);
        }
        self.is_believed()?;
        self.cluster.set_service(id, name.clone(), None).await?;
        self.bring_about().await;
        Ok(true)
    }

    /// The services that have addresses, of one network or of all, by network and name.
    pub async fn service_addresses(
        &self,
        network: Option<&NetworkName>,
    ) -> Result<Vec<ServiceAddressAnswer>, ApiError> {
        let view = self.view();
        let networks: Vec<_> = match network {
            Some(name) => vec![network_named(&view, name)?],
            None => view.networks.values().collect(),
        };
        let mut services = Vec::new();
        for network in networks {
            if view.services_of(network.spec.id).next().is_none() {
                continue;
            }
            services.extend(described(&view, network, &self.endpoints_of(network).await));
        }
        services.sort_by(|a, b| (&a.network, &a.name).cmp(&(&b.network, &b.name)));
        Ok(services)
    }

    /// One of them.
    pub async fn service(
        &self,
        network: &NetworkName,
        name: &ServiceName,
    ) -> Result<ServiceAddressAnswer, ApiError> {
        let all = self.service_addresses(Some(network)).await?;
        all.into_iter().find(|service| service.name == *name).ok_or_else(|| {
            ApiError::not_found(format!("service {name} of network {network} has no address"))
                .hint(format!("`lanmesh service create {network} {name}` gives it one"))
        })
    }

    /// Has an endpoint of this node take no new connections of its service, or take them again.
    pub async fn drain(
        &self,
        network: &NetworkName,
        name: EndpointName,
        draining: bool,
    ) -> Result<(), ApiError> {
        let mut work = self.reconciler.work().await;
        let view = self.view();
        let found = network_named(&view, network)?;
        let key = EndpointKey { network: found.spec.id, name };
        let Some(mut record) = work.local.endpoints.get(&key).cloned() else {
            let name = &key.name;
            return Err(match view.endpoint(&key.network, name) {
                Some((node, _)) => elsewhere(&view, node, name).hint("drain it there"),
                None => ApiError::not_found(format!("network {network} has no endpoint named {name}"))
                    .hint(format!("`lanmesh endpoint ls {network}` shows those that exist")),
            });
        };
        record.draining = draining;
        Ok(self.reconciler.drain(&mut work, &record).await?)
    }
}

/// The addresses that a service gets: those that were asked for, those that it has, and for the rest computed ones.
fn addresses(
    view: &ClusterView,
    spec: &NetworkSpec,
    name: &ServiceName,
    asked: &[IpAddr],
    endpoints: &ByNode,
) -> Result<Vec<IpAddr>, ApiError> {
    let mut holders: BTreeMap<IpAddr, String> = BTreeMap::new();
    for (other, service) in view.services_of(spec.id).filter(|(other, _)| *other != name) {
        holders.extend(service.addresses.iter().map(|address| (*address, format!("service {other}"))));
    }
    for (node, endpoints) in endpoints {
        for endpoint in endpoints.values() {
            let holder = || format!("endpoint {} on node {}", endpoint.name, answers::node_name(view, node));
            holders.extend(endpoint.addresses.iter().map(|address| (address.ip(), holder())));
        }
    }
    if let Some((address, holder)) = asked.iter().find_map(|at| holders.get_key_value(at)) {
        return Err(ApiError::conflict(format!("{holder} has {address}"))
            .at("addresses")
            .hint("choose another"));
    }
    if let Some(address) = asked.iter().find(|asked| spec.is_for_nodes(**asked)) {
        let text = format!("{address} is set apart for the nodes of network {}", spec.name);
        return Err(ApiError::conflict(text).at("addresses").hint("choose another"));
    }
    let plan =
        NetworkPlan::new(spec.subnet_configs()).map_err(|error| ApiError::conflict(error.to_string()))?;
    let subnets: Vec<IpNetwork> = spec.subnets.clone();
    let subnet_of = |address: &IpAddr| subnets.iter().position(|subnet| subnet.contains(*address));
    let again: BTreeSet<Option<usize>> = asked.iter().map(subnet_of).collect();
    let ranges: Vec<AddrRange> = spec.service_ranges().collect();
    let mut wanted = asked.to_vec();
    // What it has it keeps, where it could still be given.
    let had = view.services.get(&(spec.id, name.clone())).map(|service| service.addresses.clone());
    wanted.extend(had.into_iter().flatten().filter(|address| {
        let place = subnet_of(address);
        place.is_some()
            && !again.contains(&place)
            && !holders.contains_key(address)
            && !spec.is_for_nodes(*address)
            && plan.service_addresses(name.as_str(), &ranges, &[*address], |_| false).is_ok()
    }));
    let taken = |at| holders.contains_key(&at) || spec.is_for_nodes(at);
    let given = plan.service_addresses(name.as_str(), &ranges, &wanted, taken);
    given.map_err(|error| ApiError::conflict(error.to_string()).at("addresses"))
}

fn described(view: &ClusterView, network: &NetworkView, endpoints: &ByNode) -> Vec<ServiceAddressAnswer> {
    let spec = &network.spec;
    let held = view.service_addresses(spec.id);
    let mut by_service: BTreeMap<ServiceName, Vec<ServiceEndpointAnswer>> = BTreeMap::new();
    for (node, endpoints) in endpoints {
        for endpoint in endpoints.values() {
            let Some(answer) = answers::endpoint(view, spec, node, endpoint) else { continue };
            let EndpointAnswer { name, node, addresses, state, service: Some(service), .. } = answer else {
                continue;
            };
            let addresses: Vec<IpAddr> = addresses.iter().map(IpNetwork::ip).collect();
            let address = addresses.first().copied();
            let answer = ServiceEndpointAnswer { name, node, address, addresses, state };
            by_service.entry(service).or_default().push(answer);
        }
    }
    let answer = |(name, service): (&ServiceName, &ServiceSpec)| {
        let own = |address: &IpAddr| held.get(address).is_some_and(|(holder, _)| *holder == name);
        let (addresses, lost) = service.addresses.iter().partition(|address| own(address));
        let mut endpoints = by_service.get(name).cloned().unwrap_or_default();
        endpoints.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
        ServiceAddressAnswer {
            name: name.clone(),
            network: spec.name.clone(),
            addresses,
            lost,
            endpoints,
            ports: service.ports.clone(),
            affinity: service.affinity,
            publish: service.publish.clone(),
            publish_mode: service.publish_mode,
            publish_source: service.publish_source,
        }
    };
    view.services_of(spec.id).map(answer).collect()
}
