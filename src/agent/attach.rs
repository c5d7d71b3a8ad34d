//! Attaching an endpoint and detaching it.
//!
//! Owns the order of an attach, so that a failure at any point leaves nothing behind: everything is checked, then
//! the addresses are chosen, then the interface is made while the record is written, then the record is kept, then the others are told.
//! An agent that dies meanwhile finds the record, and makes the rest: nobody was answered that it is not so.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use lanmesh_ipam::Grant;

use super::find::{elsewhere, find_network, network_named};
use super::others::{ByNode, together};
use super::place::{Place, fits_the_host};
use super::published::sees_node;
use super::session::Session;
use super::taking::{self, Claimed, Holder, NoLease};
use super::{also, answers, networks, outward};
use crate::api::ApiError;
use crate::api::types::{AttachAnswer, AttachRequest, ServiceRequest};
use crate::clock::now_ms;
use crate::cluster::ClusterError;
use crate::local::LocalEndpoint;
use crate::model::{
    AdvertisedService, Also, ClusterView, Endpoint, EndpointKey, EndpointName, Mac, NetworkId, NetworkName,
    NetworkSpec, Placement, Publication, PublishMode, PublishSource, ServiceName,
};
use crate::namespace::NamespaceId;
use crate::reconcile::{Lost, Work, members, network_mtu};

impl Session {
    /// Attaches, all or nothing. The same again gives the same answer.
    pub async fn attach(
        &self,
        network: &NetworkName,
        name: EndpointName,
        request: AttachRequest,
    ) -> Result<AttachAnswer, ApiError> {
        // Before anything is held or asked: a path of somebody else's may not answer.
        let place = self.place(&request).await?;
        let view = self.view();
        let id = network_named(&view, network)?.spec.id;
        let spec = &network_named(&view, network)?.spec;
        let wanted = Wanted::new(spec, request, place)?;
        let mut borrows = self.borrowing.begin();
        loop {
            match self.attempt(network, id, &name, &wanted).await? {
                Attempt::Done(answer) => return Ok(*answer),
                // Somebody has to be asked: that holds nobody up, and what was known before may be so no more.
                Attempt::NoRoom { subnet, why } => borrows.borrow(id, subnet, &why).await?,
            }
        }
    }

    /// Attaches, unless this node has no address left.
    async fn attempt(
        &self,
        network: &NetworkName,
        id: NetworkId,
        name: &EndpointName,
        wanted: &Wanted,
    ) -> Result<Attempt, ApiError> {
        let view = self.view();
        let spec = &view.networks.get(&id).ok_or_else(|| ApiError::no_network(network))?.spec;
        let key = EndpointKey { network: id, name: name.clone() };
        let settled = |there: &&Arc<LocalEndpoint>| !wanted.tells_of(there) && wanted.same_as(there).is_ok();
        if let Some(existing) = self.reconciler.records().get(&key).filter(settled) {
            return Ok(already(&view, spec, existing).into());
        }
        self.takes_new_endpoints(&view, id).await?;
        // All that others are asked is asked before anybody else has to wait for it.
        let answered = self.ask_others(id).await?;
        let mut work = self.reconciler.work().await;
        // What was known before the asking may be so no more.
        let view = self.view();
        let network = view.networks.get(&id).ok_or_else(|| ApiError::no_network(network))?;
        let spec = &network.spec;
        if let Some(existing) = work.local.endpoints.get(&key) {
            match wanted.same_as(existing) {
                Ok(()) if wanted.tells_of(existing) => {
                    let record = wanted.clone().taken(existing.clone());
                    self.reconciler.change(&mut work, &record).await?;
                    self.reconciler.catch_up(&mut work).await;
                    return Ok(already(&view, spec, &record).into());
                }
                Ok(()) => return Ok(already(&view, spec, existing).into()),
                Err(error) if wanted.if_present => return Err(error),
                // Its container may have gone a moment ago, and the next one of that name is here already.
                Err(error) => {
                    if !self.reconciler.lose_if_gone(&mut work, &key).await && !wanted.take {
                        return Err(error);
                    }
                }
            }
        }
        if wanted.if_present {
            return Err(ApiError::not_found(format!(
                "no endpoint {name} is attached to network {}",
                spec.name
            )));
        }
        if wanted.placement == Placement::Host {
            fits_the_host(self.kernel(), &work, &view, spec).await?;
        }
        sees_node(&view, spec, &wanted.publish, wanted.publish_source)?;
        self.may_publish(
            &work,
            &view,
            spec,
            (name, wanted.service.as_ref(), &wanted.placement),
            (&wanted.publish, wanted.publish_mode, wanted.holds_ports),
        )
        .await?;
        let share = match wanted.default_route {
            true => Some(outward::share(&work.local.endpoints, id)?),
            false => None,
        };
        let mtu = network_mtu(spec, members(&view, id, &BTreeSet::new()))?;
        let others = together(&view, id, &answered);
        let own = work.local.endpoints.of_network(id).map(|record| &record.endpoint);
        also::is_free(&view, spec, own.filter(|own| own.name != *name), &others, &wanted.also)?;
        let claimed = self.claim(&mut work, &view, spec, &others, &wanted.claimed(name)).await;
        let (grants, took) = match claimed {
            Ok(claimed) => claimed,
            Err(NoLease::Exhausted { subnet, why }) => return Ok(Attempt::NoRoom { subnet, why }),
            Err(NoLease::Refused(error)) => return Err(error),
        };
        // Above any that is known: an address of theirs may be what is granted, and a claim costs nothing.
        let highest = others.values().flat_map(|own| own.values()).map(|other| other.claim).max();
        let took_ms = (!took.is_empty()).then(now_ms);
        let claim = (highest.unwrap_or(0) + 1, took_ms);
        let record = wanted.clone().into_record(spec, name.clone(), &grants, claim, share);
        // The disk takes about as long as the kernel.
        let ahead = work.local.insert_ahead(&record);
        let up = self.reconciler.bring_up(&mut work, &record).await;
        // What came of it `keep` finds.
        let _ = ahead.await;
        if let Err(error) = up {
            take_back(&mut work, &record);
            return Err(error.into());
        }
        if let Err(error) = self.reconciler.keep(&mut work, &record).await {
            take_back(&mut work, &record);
            self.reconciler.catch_up(&mut work).await;
            return Err(error.into());
        }
        for Holder { what, node, name } in &took {
            let node = answers::node_name(&view, node);
            tracing::info!(network = %spec.name, endpoint = %record.endpoint.name, %what, from = %name, %node, "takes over");
        }
        tracing::info!(network = %spec.name, endpoint = %record.endpoint.name, address = %record.endpoint.addresses[0], "attached");
        let answer = answers::attached(spec, &record, mtu);
        drop(work);
        if let Some(service) = &record.endpoint.service
            && self.give_address(spec, service).await
        {
            self.bring_about().await;
        }
        Ok(answer.into())
    }

    /// The addresses of a new endpoint, and from whom it takes something over. What an endpoint of this node loses by
    /// that is lost when this returns; one of another node loses it when it hears of the claim.
    async fn claim(
        &self,
        work: &mut Work,
        view: &ClusterView,
        spec: &NetworkSpec,
        others: &ByNode,
        claimed: &Claimed<'_>,
    ) -> Result<(Vec<Grant>, Vec<Holder>), NoLease> {
        let me = view.myself().ok_or_else(|| ApiError::from(ClusterError::Stopped))?;
        taking::is_no_service(view, spec, claimed.asked)?;
        let own = work.local.endpoints.of_network(spec.id).map(|record| &record.endpoint);
        taking::names_are_free(view, own, others, claimed)?;
        let own = work.local.endpoints.of_network(spec.id).map(|record| &record.endpoint);
        let mut losers = claimed.holders_here(view.me, own);
        let mut holders = claimed.holders(view, others);
        if let Some(holder) = losers.first().or(holders.first()).filter(|_| !claimed.take) {
            return Err(holder.refuse(view).into());
        }
        if let Some(grants) = taking::lease(work, view, spec, me.index, others, claimed, &mut losers)? {
            holders.extend(taking::overlapping(view, others, &grants, &holders));
            return Ok((grants, holders));
        }
        for loser in &losers {
            let key = EndpointKey { network: spec.id, name: loser.name.clone() };
            let why = Lost::Outranked(loser.outranked(view, claimed.name, now_ms()));
            self.reconciler.lose(work, &key, why).await;
        }
        let grants = taking::lease(work, view, spec, me.index, others, claimed, &mut Vec::new())?;
        let grants = grants.unwrap_or_default();
        holders.extend(taking::overlapping(view, others, &grants, &holders));
        holders.append(&mut losers);
        Ok((grants, holders))
    }

    /// An error where a network, or this node in it, takes no new endpoints.
    async fn takes_new_endpoints(&self, view: &ClusterView, id: NetworkId) -> Result<(), ApiError> {
        let Some(network) = view.networks.get(&id) else { return Ok(()) };
        let spec = &network.spec;
        network_mtu(spec, members(view, id, &BTreeSet::new()))?;
        networks::fits_underlay(view, &spec.subnets, spec.options.mtu, spec.options.encrypt)
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
        Ok(())
    }

    /// Detaches; false when it is not there. Another node's endpoint is refused.
    pub async fn detach(&self, network: &NetworkName, name: EndpointName) -> Result<bool, ApiError> {
        let mut work = self.reconciler.work().await;
        let view = self.view();
        let Some(network) = find_network(&view, network) else { return Ok(false) };
        let key = EndpointKey { network: network.spec.id, name };
        if !self.reconciler.forget(&mut work, &key).await? {
            return match view.endpoint(&key.network, &key.name) {
                Some((node, _)) if *node != view.me => {
                    Err(elsewhere(&view, node, &key.name).hint("detach it there"))
                }
                _ => Ok(false),
            };
        }
        self.reconciler.catch_up(&mut work).await;
        tracing::info!(network = %network.spec.name, endpoint = %key.name, "detached");
        Ok(true)
    }

    /// Waits until this node's kernel has what it knows now: whoever was answered that it is so can use it here.
    pub async fn bring_about(&self) {
        let mut work = self.reconciler.work().await;
        self.reconciler.catch_up(&mut work).await;
    }

    /// What this node knows now.
    pub fn view(&self) -> Arc<ClusterView> {
        self.cluster.view().borrow().clone()
    }
}

/// What was kept of an endpoint that could not be attached goes.
fn take_back(work: &mut Work, record: &LocalEndpoint) {
    if let Err(error) = work.local.take_back(record) {
        tracing::warn!(%error, endpoint = %record.endpoint.name, "what was begun may be there again after a restart: detach it then");
    }
}

/// The answer for an endpoint that is there. An underlay that shrank since takes nothing away: its interface has what
/// the protocols need at least.
fn already(view: &ClusterView, spec: &NetworkSpec, existing: &LocalEndpoint) -> AttachAnswer {
    let mtu = network_mtu(spec, members(view, spec.id, &BTreeSet::new()));
    answers::attached(spec, existing, mtu.unwrap_or_else(|error| error.needed))
}

/// What came of an attempt to attach.
enum Attempt {
    Done(Box<AttachAnswer>),
    /// This node has no address left in a subnet. Nothing was changed.
    NoRoom {
        subnet: IpNetwork,
        why: String,
    },
}

impl From<AttachAnswer> for Attempt {
    fn from(answer: AttachAnswer) -> Self {
        Self::Done(Box::new(answer))
    }
}

/// A request, checked and completed.
#[derive(Clone)]
struct Wanted {
    placement: Placement,
    namespace: Option<NamespaceId>,
    ifname: String,
    service: Option<ServiceName>,
    slot: Option<u32>,
    asked: Vec<IpAddr>,
    aliases: Vec<EndpointName>,
    services: Vec<AdvertisedService>,
    take: bool,
    publish: Vec<Publication>,
    publish_mode: PublishMode,
    publish_source: PublishSource,
    holds_ports: bool,
    if_present: bool,
    also: Also,
    default_route: bool,
    owner: Option<String>,
}

impl Wanted {
    fn new(spec: &NetworkSpec, request: AttachRequest, place: Place) -> Result<Self, ApiError> {
        let Place { placement, namespace } = place;
        let services = request.advertise.iter().map(ServiceRequest::to_model).collect::<Result<_, _>>()?;
        let ifname = request.ifname_in(&spec.name);
        let also = also::may_float(spec, &request)?;
        Ok(Self {
            placement,
            namespace,
            ifname,
            service: request.service,
            slot: request.slot,
            asked: request.addresses,
            aliases: request.aliases,
            services,
            take: request.take,
            publish: request.publish,
            publish_mode: request.publish_mode,
            publish_source: request.publish_source,
            holds_ports: request.holds_ports,
            if_present: request.if_present,
            also,
            default_route: request.default_route,
            owner: request.owner,
        })
    }

    fn claimed<'a>(&'a self, name: &'a EndpointName) -> Claimed<'a> {
        Claimed {
            name,
            service: self.service.as_ref(),
            slot: self.slot,
            aliases: &self.aliases,
            asked: &self.asked,
            take: self.take,
        }
    }

    /// An error that says in what the endpoint that is there differs.
    fn same_as(&self, existing: &LocalEndpoint) -> Result<(), ApiError> {
        let Endpoint { name, service, slot, aliases, addresses, services, .. } = &existing.endpoint;
        let asked_for_others =
            !self.asked.iter().all(|asked| addresses.iter().any(|address| address.ip() == *asked));
        let differs = [
            ("netns", !self.same_place(existing)),
            ("ifname", self.ifname != existing.ifname),
            ("service", self.service != *service),
            ("slot", self.slot != *slot),
            ("addresses", asked_for_others),
            ("aliases", self.aliases != *aliases),
            ("advertise", self.services != *services),
            ("publish", self.publish != existing.publish),
            ("publish_mode", self.publish_mode != existing.publish_mode),
            ("publish_source", self.publish_source != existing.publish_source),
            ("also_addresses", self.also.addresses != existing.also.addresses),
            ("also_macs", self.also.macs != existing.also.macs),
            ("multicast_router", self.also.routes != existing.also.routes),
            ("default_route", self.default_route != existing.outward.is_some()),
            ("owner", self.owner != existing.owner),
        ];
        match differs.into_iter().find(|(_, differs)| *differs) {
            None => Ok(()),
            Some((field, _)) => {
                Err(ApiError::conflict(format!("endpoint {name} is attached already, with another {field}"))
                    .at(field)
                    .hint(format!(
                        "detach {name} first, use another name, or take it over with --take (\"take\": true)"
                    )))
            }
        }
    }

    fn same_place(&self, existing: &LocalEndpoint) -> bool {
        match (&self.placement, &existing.placement) {
            // What is not told now is as it was told before.
            (Placement::Offered(_), Placement::Offered(_)) | (Placement::Held, Placement::Held) => true,
            (Placement::Offered(_) | Placement::Held, _) | (_, Placement::Offered(_) | Placement::Held) => {
                false
            }
            _ => same_namespace(self.namespace, existing.namespace),
        }
    }

    /// Whether it says where the interface of the endpoint that is there has been taken, which was not known.
    fn tells_of(&self, existing: &LocalEndpoint) -> bool {
        matches!((&self.placement, &existing.placement), (Placement::Offered(Some(_)), Placement::Offered(_)))
            && (self.placement != existing.placement || !same_namespace(self.namespace, existing.namespace))
    }

    /// The endpoint that is there, taken to where this says.
    fn taken(self, existing: LocalEndpoint) -> LocalEndpoint {
        LocalEndpoint { placement: self.placement, namespace: self.namespace, ..existing }
    }

    fn into_record(
        self,
        spec: &NetworkSpec,
        name: EndpointName,
        grants: &[Grant],
        (claim, took_ms): (u64, Option<u64>),
        share: Option<u8>,
    ) -> LocalEndpoint {
        let addresses: Vec<_> = grants.iter().map(|grant| grant.address).collect();
        let first = addresses.first().map_or(IpAddr::from([0, 0, 0, 0]), IpNetwork::ip);
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
                took_ms,
            },
            placement: self.placement,
            namespace: self.namespace,
            ifname: self.ifname,
            asked: self.asked,
            draining: false,
            publish: self.publish,
            publish_mode: self.publish_mode,
            publish_source: self.publish_source,
            also: self.also,
            outward: share,
            owner: self.owner,
        }
    }
}

fn same_namespace(one: Option<NamespaceId>, other: Option<NamespaceId>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is(&other),
        (None, None) => true,
        _ => false,
    }
}
