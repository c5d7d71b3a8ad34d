//! What may change on a living network: from what a person asks for to settings that every node can work with; and what
//! this node carries for others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use tokio::time::timeout;

use super::answers;
use super::find::network_named;
use super::networks::{fits_underlay, has_blocks, has_room_for_nodes};
use super::session::Session;
use crate::api::ApiError;
use crate::api::types::{CarriedAnswer, NetworkAnswer, NetworkRequest, SettingsRequest};
use crate::cluster::{Carried, MAX_AHEAD, NetworkEndpoints};
use crate::model::{
    AddedSubnet, AddressPlan, ClusterView, Endpoint, NetworkName, NetworkSpec, PLAN, Setting,
};

/// How often a change is worked out anew because somebody else changed the network meanwhile.
const ATTEMPTS: usize = 64;
/// How long it takes at most until what was changed is seen.
const SOON: Duration = Duration::from_secs(1);

impl Session {
    /// Changes settings of a network everywhere; all of them or none.
    ///
    /// # Errors
    /// There is no such network, a setting does not fit it, endpoints stand in the way, or others change it all the time.
    pub async fn set_network(
        &self,
        name: &NetworkName,
        request: SettingsRequest,
    ) -> Result<NetworkAnswer, ApiError> {
        self.is_believed()?;
        let mut views = self.cluster.view();
        for _ in 0..ATTEMPTS {
            let view = views.borrow_and_update().clone();
            let spec = network_named(&view, name)?.spec.clone();
            let changed = Changed::of(&spec, &request)?;
            self.check_change(&view, &spec, &changed).await?;
            let services = changed.services;
            let settings = self.settings_of(&spec, changed, &request).await?;
            if self.cluster.set_network(spec.clone(), settings).await? {
                return self.changed(name, &spec, services).await;
            }
            // Somebody else was first, which is to be seen in a moment.
            let _ = timeout(SOON, views.changed()).await;
        }
        Err(ApiError::conflict(format!("network {name} is being changed by others all the time"))
            .hint("try again"))
    }

    /// Whether what is written now by this node's clock is taken by the others.
    pub fn is_believed(&self) -> Result<(), ApiError> {
        let Some((ahead, other)) = self.health.clock_ahead().filter(|(ahead, _)| *ahead > MAX_AHEAD) else {
            return Ok(());
        };
        let other = answers::node_name(&self.view(), &other);
        Err(ApiError::conflict(format!(
            "this node's clock is {} s ahead of that of node {other}, and what it writes would be taken by nobody",
            ahead.as_secs()
        ))
        .hint("set the clock first (`timedatectl`), or write it on another node"))
    }

    /// Whether everybody could work with it.
    async fn check_change(
        &self,
        view: &ClusterView,
        before: &NetworkSpec,
        changed: &Changed,
    ) -> Result<(), ApiError> {
        let after = &changed.spec;
        if after.options.mtu.is_some() && after.options.mtu != before.options.mtu {
            fits_underlay(view, &after.subnets, after.options.mtu, after.options.encrypt)?;
        }
        has_blocks(view, before, after)?;
        if changed.nodes {
            has_room_for_nodes(view, after)?;
            services_in_the_way(view, after)?;
        }
        if changed.plan || changed.services || changed.nodes {
            let endpoints = self.cluster.fetch_endpoints(before.id).await?;
            in_the_way(view, before, after, &endpoints)?;
        }
        Ok(())
    }

    /// The settings that make it so.
    async fn settings_of(
        &self,
        before: &NetworkSpec,
        changed: Changed,
        request: &SettingsRequest,
    ) -> Result<BTreeMap<String, Setting>, ApiError> {
        let options = request.options.iter();
        let mut settings: BTreeMap<String, Setting> =
            options.map(|(name, text)| (name.clone(), Setting::Option(text.clone()))).collect();
        if changed.plan {
            let known = self.cluster.network_settings(before.id).await?;
            settings.insert(PLAN.to_owned(), changed.into_plan(before, known.get(PLAN)));
        }
        Ok(settings)
    }

    /// Brings about what follows from a change, and tells what the network is now.
    async fn changed(
        &self,
        name: &NetworkName,
        before: &NetworkSpec,
        services: bool,
    ) -> Result<NetworkAnswer, ApiError> {
        if services {
            self.give_addresses(before.id).await;
        }
        self.bring_about().await;
        let view = self.view();
        let network = view.networks.get(&before.id).ok_or_else(|| ApiError::no_network(name))?;
        let added = network.spec.subnets.iter().filter(|subnet| !before.subnets.contains(subnet));
        let added: Vec<IpNetwork> = added.copied().collect();
        let mut answer = self.network_answer(&view, network);
        answer.warnings = self.warnings(&view, &added).await;
        Ok(answer)
    }

    /// What this node carries, of which kinds and writers.
    pub async fn carried(&self) -> Result<Vec<CarriedAnswer>, ApiError> {
        let view = self.view();
        let writer = |id| view.nodes.get(&id).map(|node| node.name.clone());
        let place = |place: String| {
            let network = view.networks.values().find(|network| network.spec.id.to_string() == place);
            network.map_or(place, |network| network.spec.name.to_string())
        };
        let answer = |carried: Carried| {
            let Carried { place: at, kind, name, writer: by, entries, bytes } = carried;
            CarriedAnswer { place: place(at), kind, name, writer: by.and_then(writer), entries, bytes }
        };
        Ok(self.cluster.carried().await?.into_iter().map(answer).collect())
    }
}

/// A network as it would be.
struct Changed {
    spec: NetworkSpec,
    /// Whether its plan of addresses is another one.
    plan: bool,
    /// Whether its services get their addresses elsewhere.
    services: bool,
    /// Whether its nodes do.
    nodes: bool,
}

impl Changed {
    fn of(spec: &NetworkSpec, request: &SettingsRequest) -> Result<Self, ApiError> {
        let mut wanted = spec.clone();
        for (name, text) in &request.options {
            let set = Setting::Option(text.clone()).apply(name, &mut wanted);
            set.map_err(|error| ApiError::bad_field(format!("options.{name}"), error.to_string()))?;
        }
        for (service, ranges) in &request.pools {
            wanted.pools.retain(|pool| pool.service != service.as_str());
            let pool = |range: &AddrRange| lanmesh_ipam::Pool { service: service.to_string(), range: *range };
            wanted.pools.extend(ranges.0.iter().map(pool));
        }
        wanted.reserved.retain(|range| !request.release.contains(range));
        let new = request.reserve.iter().filter(|range| !spec.reserved.contains(range));
        wanted.reserved.extend(new);
        let new: Vec<IpNetwork> =
            request.add_subnets.iter().filter(|subnet| !spec.subnets.contains(subnet)).copied().collect();
        wanted.subnets.extend(&new);
        // The plan says what each subnet's gateway is, and whether all of it can be.
        let mut asked = NetworkRequest::from(&wanted);
        asked.gateways.extend(&request.gateways);
        let plan = asked.address_plan()?;
        wanted.gateways = plan.gateways().collect();
        let plan = (&wanted.subnets, &wanted.pools, &wanted.reserved)
            != (&spec.subnets, &spec.pools, &spec.reserved);
        let services = wanted.options.service_addresses != spec.options.service_addresses;
        let nodes = wanted.options.node_addresses != spec.options.node_addresses;
        Ok(Self { spec: wanted, plan, services, nodes })
    }

    /// The setting that makes the network this one; `known` is what it was set to before.
    fn into_plan(self, before: &NetworkSpec, known: Option<&Setting>) -> Setting {
        let mut added = match known {
            Some(Setting::Plan(plan)) => plan.added.clone(),
            _ => Vec::new(),
        };
        let with_gateways = self.spec.subnets.iter().zip(&self.spec.gateways);
        let new = with_gateways.filter(|(subnet, _)| !before.subnets.contains(subnet));
        added.extend(new.map(|(subnet, gateway)| AddedSubnet { subnet: *subnet, gateway: *gateway }));
        Setting::Plan(AddressPlan { added, pools: self.spec.pools, reserved: self.spec.reserved })
    }
}

/// That no service has an address that is to be a node's, nor may an endpoint have it beside its own.
fn services_in_the_way(view: &ClusterView, after: &NetworkSpec) -> Result<(), ApiError> {
    let services = view.services_of(after.id).flat_map(|(name, service)| {
        service.addresses.iter().map(move |address| (*address, format!("service {name}")))
    });
    let known = view.networks.get(&after.id).into_iter().flat_map(|network| network.also.values());
    let also = known.flat_map(|also| also.iter()).flat_map(|(name, also)| {
        also.addresses.iter().map(move |address| (*address, format!("endpoint {name} beside its own")))
    });
    let found: BTreeSet<String> = services
        .chain(also)
        .filter(|(address, _)| after.is_for_nodes(*address))
        .map(|(address, holder)| format!("{holder} ({address})"))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(ApiError::conflict(format!(
        "addresses of the range for nodes are in use: {}",
        answers::some_of(found)
    ))
    .at("options.node_addresses")
    .hint("choose another range"))
}

/// That no endpoint has an address which the changed network has another use for.
fn in_the_way(
    view: &ClusterView,
    before: &NetworkSpec,
    after: &NetworkSpec,
    endpoints: &NetworkEndpoints,
) -> Result<(), ApiError> {
    let kept = |ip: &IpAddr| {
        let new = after.reserved.iter().filter(|range| !before.reserved.contains(range)).copied();
        new.chain(after.service_ranges()).chain(after.node_ranges()).any(|range| range.contains(*ip))
    };
    let mut found = BTreeSet::new();
    for (node, endpoints) in endpoints {
        for endpoint in endpoints.values() {
            let ips = endpoint.addresses.iter().map(IpNetwork::ip);
            for ip in ips.filter(|ip| kept(ip) || is_anothers(before, after, endpoint, *ip)) {
                let node = answers::node_name(view, node);
                found.insert(format!("{} ({ip}, on {node})", endpoint.name));
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(ApiError::conflict(format!("endpoints stand in the way: {}", answers::some_of(found)))
        .hint("detach them first, or choose other ranges"))
}

/// Whether the pools of the changed network give an address of an endpoint to somebody else, or its slot another address.
fn is_anothers(before: &NetworkSpec, after: &NetworkSpec, endpoint: &Endpoint, ip: IpAddr) -> bool {
    let pool = |spec: &NetworkSpec| spec.pools.iter().find(|pool| pool.range.contains(ip)).cloned();
    let (was, is) = (pool(before), pool(after));
    if was == is {
        return false;
    }
    let own = |pool: &lanmesh_ipam::Pool| {
        let of_service = endpoint.service.as_ref().is_some_and(|own| own.as_str() == pool.service);
        let at = endpoint.slot.and_then(|slot| nth(pool.range, slot));
        of_service && at == Some(ip)
    };
    // One that had its place in a pool loses it with the pool; one that is in no pool has nothing to lose.
    match is {
        Some(pool) => !own(&pool),
        None => was.as_ref().is_some_and(own),
    }
}

fn nth(range: AddrRange, slot: u32) -> Option<IpAddr> {
    let at = match range.first() {
        IpAddr::V4(first) => IpAddr::V4(u32::from(first).checked_add(slot)?.into()),
        IpAddr::V6(first) => IpAddr::V6(u128::from(first).checked_add(slot.into())?.into()),
    };
    range.contains(at).then_some(at)
}
