//! Attaching an endpoint and detaching it.
//!
//! Owns the order of an attach, so that a failure at any point leaves nothing behind: everything is checked, then
//! the addresses are chosen, then the interface is made, then the record is kept, then the others are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use lanmesh_ipam::{Grant, NetworkRequest, endpoint_key};

use super::session::Session;
use super::{answers, networks};
use crate::api::ApiError;
use crate::api::types::{AttachAnswer, AttachRequest, ServiceRequest};
use crate::cluster::ClusterError;
use crate::local::{LocalEndpoint, NamespaceId};
use crate::model::{
    AdvertisedService, ClusterView, Endpoint, EndpointKey, EndpointName, Mac, NetworkId, NetworkName,
    NetworkSpec, NetworkView, NodeId, Placement, ServiceName,
};
use crate::reconcile::{Work, members, network_mtu};

/// The endpoints of a network, by the node that has them.
type ByNode = BTreeMap<NodeId, Arc<BTreeMap<EndpointName, Endpoint>>>;

impl Session {
    /// Attaches, all or nothing. The same again gives the same answer.
    pub async fn attach(
        &self,
        network: &NetworkName,
        name: EndpointName,
        request: AttachRequest,
    ) -> Result<AttachAnswer, ApiError> {
        let mut work = self.reconciler.work().await;
        let view = self.view();
        let network = network_named(&view, network)?;
        let spec = &network.spec;
        let key = EndpointKey { network: spec.id, name: name.clone() };
        let wanted = Wanted::new(&view, spec, request)?;
        let mtu = network_mtu(spec, members(&view, spec.id, &BTreeSet::new()));
        if let Some(existing) = work.local.endpoints.get(&key) {
            match wanted.same_as(existing) {
                // An underlay that shrank since takes nothing away: the interface has what the protocols need at least.
                Ok(()) => {
                    return Ok(answers::attached(spec, existing, mtu.unwrap_or_else(|error| error.needed)));
                }
                // Its container may have gone a moment ago, and the next one of that name is here already.
                Err(error) if !self.reconciler.lose_if_gone(&mut work, &key).await => return Err(error),
                Err(_) => {}
            }
        }
        let mtu = mtu?;
        networks::fits_underlay(&view, &spec.subnets, spec.mtu, spec.encrypt)
            .map_err(|error| error.at("network"))?;
        if network.conflict {
            return Err(ApiError::conflict(format!(
                "an older network owns the name {}, so this one takes no new endpoints",
                spec.name
            ))
            .hint("detach what is in it, remove it by its id, and create it under another name"));
        }
        if let Some((other, index)) = self.cluster.overruled_by().await? {
            return Err(ApiError::conflict(format!(
                "index {index} or this node's name was given to {other} too, while the cluster was cut, so this node \
                 takes no new endpoints"
            ))
            .hint("run `lanmesh leave` on it and let it join again"));
        }
        let others = self.others(&view, network).await?;
        let claim = claim(&view, &others, &name, &wanted)?;
        let grants = lease(&mut work, &view, spec, &others, &name, &wanted)?;
        let record = wanted.into_record(spec, name, &grants, claim);
        if let Err(error) = self.reconciler.bring_up(&mut work, &record).await {
            work.local.leases.give_back(spec.id, &record.endpoint.addresses);
            return Err(error.into());
        }
        let kept = self.keep(&mut work, &record).await;
        if let Err(error) = kept {
            work.local.leases.give_back(spec.id, &record.endpoint.addresses);
            self.reconciler.take_down(&mut work, spec.id).await;
            return Err(error);
        }
        tracing::info!(network = %spec.name, endpoint = %record.endpoint.name, address = %record.endpoint.addresses[0], "attached");
        Ok(answers::attached(spec, &record, mtu))
    }

    /// Detaches; false when it is not there. Another node's endpoint is refused.
    pub async fn detach(&self, network: &NetworkName, name: EndpointName) -> Result<bool, ApiError> {
        let mut work = self.reconciler.work().await;
        let view = self.view();
        let Some(network) = find_network(&view, network) else { return Ok(false) };
        let key = EndpointKey { network: network.spec.id, name };
        if !self.reconciler.forget(&mut work, &key).await? {
            return match view.endpoint(&key.network, &key.name) {
                Some((id, _)) if *id != view.me => {
                    let node = answers::node_name(&view, id);
                    Err(ApiError::conflict(format!("endpoint {} is on node {node}", key.name))
                        .hint("detach it there"))
                }
                _ => Ok(false),
            };
        }
        self.reconciler.take_down(&mut work, key.network).await;
        tracing::info!(network = %network.spec.name, endpoint = %key.name, "detached");
        Ok(true)
    }

    /// What this node knows now.
    pub fn view(&self) -> Arc<ClusterView> {
        self.cluster.view().borrow().clone()
    }

    /// What the other nodes have in the network. A node that has none there yet must ask.
    async fn others(&self, view: &ClusterView, network: &NetworkView) -> Result<ByNode, ApiError> {
        let id = network.spec.id;
        let takes_part = view.myself().is_some_and(|me| me.networks.contains(&id));
        let somebody = || {
            view.nodes
                .values()
                .any(|node| node.id != view.me && node.state.is_up() && node.networks.contains(&id))
        };
        let mut endpoints = if takes_part || !somebody() {
            network.endpoints.clone()
        } else {
            match self.cluster.fetch_endpoints(id).await {
                Ok(endpoints) => endpoints,
                // All that have it are just going: what is in a block is free all the same.
                Err(ClusterError::NoAnswer { .. }) => network.endpoints.clone(),
                Err(error) => return Err(error.into()),
            }
        };
        endpoints.remove(&view.me);
        Ok(endpoints)
    }

    async fn keep(&self, work: &mut Work, record: &LocalEndpoint) -> Result<(), ApiError> {
        work.local.insert(record.clone())?;
        if let Err(error) = self.cluster.put_endpoint(record.network, record.endpoint.clone()).await {
            work.local.remove(&record.key())?;
            return Err(error.into());
        }
        Ok(())
    }
}

/// The network that owns the name, or else the one with this id: how one that lost its name is meant.
pub fn find_network<'a>(view: &'a ClusterView, name: &NetworkName) -> Option<&'a NetworkView> {
    view.network_named(name)
        .or_else(|| name.as_str().parse().ok().and_then(|id: NetworkId| view.networks.get(&id)))
}

/// The same, or an error that says that there is none.
pub fn network_named<'a>(view: &'a ClusterView, name: &NetworkName) -> Result<&'a NetworkView, ApiError> {
    find_network(view, name).ok_or_else(|| {
        ApiError::not_found(format!("no network is named {name}"))
            .hint("`lanmesh network ls` shows those that exist")
    })
}

/// A request, checked and completed.
struct Wanted {
    placement: Placement,
    namespace: Option<NamespaceId>,
    ifname: String,
    service: Option<ServiceName>,
    slot: Option<u32>,
    asked: Vec<IpAddr>,
    aliases: Vec<EndpointName>,
    services: Vec<AdvertisedService>,
}

impl Wanted {
    fn new(view: &ClusterView, spec: &NetworkSpec, request: AttachRequest) -> Result<Self, ApiError> {
        let placement = request.placement()?;
        let namespace = match &placement {
            Placement::Netns(path) => Some(namespace_of(path)?),
            Placement::Host => {
                not_over_the_underlay(view, spec)?;
                None
            }
        };
        let services = request.advertise.iter().map(ServiceRequest::to_model).collect::<Result<_, _>>()?;
        let ifname = request.ifname_in(&spec.name);
        Ok(Self {
            placement,
            namespace,
            ifname,
            service: request.service,
            slot: request.slot,
            asked: request.addresses,
            aliases: request.aliases,
            services,
        })
    }

    /// An error that says in what the endpoint that is there differs.
    fn same_as(&self, existing: &LocalEndpoint) -> Result<(), ApiError> {
        let Endpoint { name, service, slot, aliases, addresses, services, .. } = &existing.endpoint;
        let asked_for_others =
            !self.asked.iter().all(|asked| addresses.iter().any(|address| address.ip() == *asked));
        let differs = [
            ("netns", self.namespace != existing.namespace),
            ("ifname", self.ifname != existing.ifname),
            ("service", self.service != *service),
            ("slot", self.slot != *slot),
            ("addresses", asked_for_others),
            ("aliases", self.aliases != *aliases),
            ("advertise", self.services != *services),
        ];
        match differs.into_iter().find(|(_, differs)| *differs) {
            None => Ok(()),
            Some((field, _)) => {
                Err(ApiError::conflict(format!("endpoint {name} is attached already, with another {field}"))
                    .at(field)
                    .hint(format!("detach {name} first, or use another name")))
            }
        }
    }

    /// Whether an endpoint of the same name elsewhere is what moves here.
    fn is_move_of(&self, other: &Endpoint) -> bool {
        self.service.is_some()
            && self.slot.is_some()
            && self.service == other.service
            && self.slot == other.slot
    }

    fn into_record(
        self,
        spec: &NetworkSpec,
        name: EndpointName,
        grants: &[Grant],
        claim: u64,
    ) -> LocalEndpoint {
        let addresses: Vec<_> = grants.iter().map(|grant| grant.address).collect();
        let first = addresses.first().map_or(IpAddr::from([0, 0, 0, 0]), ipnetwork::IpNetwork::ip);
        LocalEndpoint {
            network: spec.id,
            endpoint: Endpoint {
                name,
                service: self.service,
                slot: self.slot,
                aliases: self.aliases,
                mac: Mac::of_endpoint(first),
                addresses,
                services: self.services,
                claim,
            },
            placement: self.placement,
            namespace: self.namespace,
            ifname: self.ifname,
            asked: self.asked,
        }
    }
}

fn namespace_of(path: &Path) -> Result<NamespaceId, ApiError> {
    NamespaceId::of(path).map_err(|error| {
        ApiError::bad_field("netns", format!("there is no network namespace at {}: {error}", path.display()))
            .hint("is the container still running?")
    })
}

/// An interface in the node's own namespace brings a route to the subnet: it must not lead the underlay astray.
fn not_over_the_underlay(view: &ClusterView, spec: &NetworkSpec) -> Result<(), ApiError> {
    let astray = view.nodes.values().find_map(|node| {
        let subnet = spec.subnets.iter().find(|subnet| subnet.contains(node.vtep))?;
        Some((node, subnet))
    });
    match astray {
        None => Ok(()),
        Some((node, subnet)) => Err(ApiError::conflict(format!(
            "the underlay address {} of node {} lies in the network's subnet {subnet}, so a route to it on this \
             node would cut the node off",
            node.vtep, node.name
        ))
        .at("host")
        .hint("attach containers only, or create the network with another subnet")),
    }
}

/// The version of the new endpoint's claim: above that of any endpoint whose name or slot it takes over.
///
/// A name belongs to the endpoint of a node that answers, unless it is a slot of a service, which may move.
fn claim(view: &ClusterView, others: &ByNode, name: &EndpointName, wanted: &Wanted) -> Result<u64, ApiError> {
    let mut highest = 0;
    for (id, endpoints) in others {
        for endpoint in endpoints.values() {
            if endpoint.name == *name && is_up(view, id) && !wanted.is_move_of(endpoint) {
                let node = answers::node_name(view, id);
                return Err(ApiError::conflict(format!("endpoint {name} is on node {node}"))
                    .hint("detach it there first, or use another name"));
            }
            // Of any: an address of theirs may be what is granted, and a claim costs nothing.
            highest = highest.max(endpoint.claim);
        }
    }
    Ok(highest + 1)
}

fn lease(
    work: &mut Work,
    view: &ClusterView,
    spec: &NetworkSpec,
    others: &ByNode,
    name: &EndpointName,
    wanted: &Wanted,
) -> Result<Vec<Grant>, ApiError> {
    let Some(me) = view.myself() else { return Err(ClusterError::Stopped.into()) };
    let taken: BTreeSet<IpAddr> = others
        .iter()
        .filter(|(id, _)| is_up(view, id))
        .flat_map(|(_, endpoints)| endpoints.values())
        .flat_map(|endpoint| endpoint.addresses.iter().map(ipnetwork::IpNetwork::ip))
        .collect();
    work.local.open_leases(spec, me.index)?;
    let service = wanted.service.as_ref().map(ServiceName::as_str);
    let key = endpoint_key(name.as_str(), service, wanted.slot);
    let request = NetworkRequest { key: &key, service, slot: wanted.slot, addresses: &wanted.asked };
    Ok(work.local.leases.allocate(spec, &request, |address| taken.contains(&address))?)
}

fn is_up(view: &ClusterView, node: &NodeId) -> bool {
    view.nodes.get(node).is_some_and(|node| node.state.is_up())
}
