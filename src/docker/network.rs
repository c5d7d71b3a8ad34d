//! Networks and endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use lanmesh_docker::book::{AttachedEntry, EndpointEntry, NetworkEntry};
use lanmesh_docker::container::Identity;
use lanmesh_docker::engine::{Container, Network};
use lanmesh_docker::options::{IpamOptions, NetworkWish, allocated};
use lanmesh_docker::protocol::{
    Allocated, CreateEndpoint, CreateNetwork, Created, CreatedInterface, DeleteNetwork, InterfaceName, Join,
    Joined, OfEndpoint, Scope, StaticRoute,
};
use lanmesh_docker::tokens::usual;

use super::driver::{Answer, Driver, Key, Nothing, Ours, ifname, is_conflict};
use crate::api::ranges::Ranges;
use crate::api::types::{LabelsRequest, NetworkAnswer, NetworkRequest};
use crate::model::{EndpointName, NetworkName, NodeName};

/// What begins the label of a node that created a network for Docker; Docker's id of the network follows.
const MADE: &str = "docker.network/";
/// What begins the label of a node that sees to it that such a network goes after its last endpoints; the id it had follows.
const FREED: &str = "docker.freed/";
/// How often that is tried, every other second: containers that are stopped have gone by then.
const TRIES: u32 = 300;
/// What goes to all, and has to leave by the endpoint's interface and not by the default route.
const TO_ALL: &str = "224.0.0.0/4";

impl Driver {
    /// A swarm's leader has a new network, or is a new leader.
    pub(super) async fn allocate_network(&self, call: CreateNetwork) -> Answer<Allocated> {
        let given = call.given();
        let wish = NetworkWish::read(&given).map_err(|error| error.to_string())?;
        let name = self.name_of(&call, &wish).await?;
        self.ensure(&name, &call, &wish).await?;
        self.book()
            .note_network(&call.network_id, NetworkEntry { network: name.clone(), routes: wish.routes });
        Ok(Allocated { options: allocated(&given, &name) })
    }

    /// A node has a container in the network for the first time; without a swarm, the network is new.
    pub(super) async fn create_network(&self, call: CreateNetwork) -> Answer<Nothing> {
        let wish = NetworkWish::read(&call.given()).map_err(|error| error.to_string())?;
        let name = self.name_of(&call, &wish).await?;
        if wish.allocated {
            self.expect(&name).await?;
        } else {
            self.ensure(&name, &call, &wish).await?;
        }
        self.book().note_network(&call.network_id, NetworkEntry { network: name, routes: wish.routes });
        Ok(Nothing {})
    }

    /// Which network is meant: as `--opt` says, or as the pool says that was asked for, or as Docker has it.
    async fn name_of(&self, call: &CreateNetwork, wish: &NetworkWish) -> Answer<NetworkName> {
        if let Some(name) = &wish.network {
            return Ok(name.clone());
        }
        let subnets = call.ipv4_data.iter().filter_map(|data| data.pool.parse().ok());
        if let Some(name) = subnets.into_iter().find_map(|subnet| self.book().pool_of(subnet)) {
            return Ok(name);
        }
        let there = self.engine.network(&call.network_id).await.map_err(|error| error.to_string())?;
        let options = there.ipam.options.into_iter().map(|(k, v)| (k, v.into())).collect();
        IpamOptions::read(&options).map(|options| options.network).map_err(|error| error.to_string())
    }

    /// Sees to it that the network exists, and is as was asked for.
    async fn ensure(&self, name: &NetworkName, call: &CreateNetwork, wish: &NetworkWish) -> Answer<()> {
        if let Some(there) = self.find(name).await? {
            fits(&there, wish)?;
            if !self.keep_freed(name).await? {
                return Ok(());
            }
            self.note_made(&call.network_id, Some(name)).await?;
            // It may have gone in this very moment: then it is made anew.
            if self.find(name).await?.is_some() {
                return Ok(());
            }
        }
        let pools = call.ipv4_data.iter();
        let subnets: Vec<IpNetwork> = pools
            .map(|data| data.pool.parse().map_err(|error| format!("the subnet {}: {error}", data.pool)))
            .collect::<Result<_, String>>()?;
        if subnets.is_empty() {
            return Err("the network has no pool of this driver: give --ipam-driver with the same name as --driver, and \
                        --ipam-opt network=NAME"
                .to_owned());
        }
        let mut reserve = wish.reserve.clone();
        if self.scope == Scope::Global {
            let tokens = self.book().tokens_of(subnets[0]).or(wish.tokens).or_else(|| usual(subnets[0]));
            reserve.extend(tokens);
        }
        let gateways = call.ipv4_data.iter().filter_map(|data| data.gateway);
        let request = NetworkRequest {
            gateways: gateways.chain(wish.gateways.iter().copied()).collect(),
            subnets: subnets.into_iter().chain(wish.subnets.iter().copied()).collect(),
            pools: wish
                .pools
                .iter()
                .map(|(service, ranges)| (service.clone(), Ranges(ranges.clone())))
                .collect(),
            reserve,
            block_size: wish.block_size,
            ..NetworkRequest::default()
        }
        .with(wish.options);
        // First: a network without a note is one that somebody else created, and stays.
        self.note_made(&call.network_id, Some(name)).await?;
        if let Err(error) = self.agent.create_network(name, &request).await {
            self.note_made(&call.network_id, None).await?;
            return Err(error.to_string());
        }
        Ok(())
    }

    /// Notes, for every node to see, that the network was created for Docker, or no longer.
    async fn note_made(&self, id: &str, network: Option<&NetworkName>) -> Answer<()> {
        let labels = BTreeMap::from([(format!("{MADE}{id}"), network.map(ToString::to_string))]);
        self.label(&self.me().await?.name, labels).await
    }

    /// The swarm has the network no more.
    pub(super) async fn free_network(&self, call: DeleteNetwork) -> Answer<Nothing> {
        // Its services went before it: their addresses, which nobody would find afterwards.
        if let Err(error) = self.serve_vips().await {
            tracing::debug!(error, "cannot look for the addresses of the swarm's services");
        }
        self.remove(&call.network_id).await
    }

    /// This node needs the network no more; without a swarm, nobody does.
    pub(super) async fn delete_network(&self, call: DeleteNetwork) -> Answer<Nothing> {
        match self.scope {
            Scope::Global => {
                self.book().drop_network(&call.network_id);
                Ok(Nothing {})
            }
            Scope::Local => self.remove(&call.network_id).await,
        }
    }

    /// Removes a network that was created for Docker, unless somebody uses it: then it goes when nobody does any more.
    async fn remove(&self, id: &str) -> Answer<Nothing> {
        self.book().drop_network(id);
        let label = format!("{MADE}{id}");
        let nodes = self.agent.nodes().await.map_err(|error| error.to_string())?;
        for node in nodes {
            let Some(text) = node.labels.get(&label) else { continue };
            if let Ok(network) = text.parse::<NetworkName>()
                && !self.removed(&network).await?
            {
                // A swarm forgets a network while the last of its containers are still being stopped.
                tracing::info!(%network, "endpoints are left in it: it goes after them");
                let labels = BTreeMap::from([(format!("{FREED}{id}"), Some(text.clone()))]);
                self.label(&self.me().await?.name, labels).await?;
                self.news.freed.notify_one();
            }
            self.label(&node.name, BTreeMap::from([(label.clone(), None)])).await?;
        }
        Ok(Nothing {})
    }

    /// Whether the network is there no more; not while it has endpoints.
    async fn removed(&self, network: &NetworkName) -> Answer<bool> {
        match self.agent.remove_network(network).await {
            Ok(_) => Ok(true),
            Err(error) if is_conflict(&error) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Removes the networks that Docker has no more and that had endpoints then, where they have none by now. Those that it
    /// has asked about `TRIES` times stay: others use them. Whether some are left to be asked about.
    pub(super) async fn remove_freed(&self, asked: &mut BTreeMap<String, u32>) -> Answer<bool> {
        let nodes = self.agent.nodes().await.map_err(|error| error.to_string())?;
        let Some(me) = nodes.into_iter().find(|node| node.me) else { return Ok(false) };
        let freed = me.labels.iter().filter(|(label, _)| label.starts_with(FREED));
        let mut left = BTreeMap::new();
        for (label, text) in freed {
            let times = asked.get(label).map_or(1, |times| times.saturating_add(1));
            if let Ok(network) = text.parse::<NetworkName>()
                && !self.removed(&network).await?
            {
                if times < TRIES {
                    left.insert(label.clone(), times);
                    continue;
                }
                tracing::warn!(%network, "the network stays: others use it");
            }
            self.label(&me.name, BTreeMap::from([(label.clone(), None)])).await?;
        }
        *asked = left;
        Ok(!asked.is_empty())
    }

    /// A network that was to go after its endpoints is Docker's again under another id, and stays. Whether it was to go.
    async fn keep_freed(&self, network: &NetworkName) -> Answer<bool> {
        let nodes = self.agent.nodes().await.map_err(|error| error.to_string())?;
        let mut found = false;
        for node in nodes {
            let is_it =
                |(label, text): &(&String, &String)| label.starts_with(FREED) && *text == network.as_str();
            let labels: BTreeMap<_, _> =
                node.labels.iter().filter(is_it).map(|(label, _)| (label.clone(), None)).collect();
            found |= !labels.is_empty();
            self.label(&node.name, labels).await?;
        }
        Ok(found)
    }

    /// Sets labels of a node, or takes them away.
    pub(super) async fn label(
        &self,
        node: &NodeName,
        labels: BTreeMap<String, Option<String>>,
    ) -> Answer<()> {
        if !labels.is_empty() {
            let request = LabelsRequest { labels };
            self.agent.set_labels(node, &request).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Docker has made up its mind about an endpoint, which is attached already: says its MAC and its address of IPv6.
    pub(super) async fn create_endpoint(&self, call: CreateEndpoint) -> Answer<Created> {
        let network = self.network_of(&call.network_id).await?.network;
        let address = call
            .interface
            .address
            .ok_or("the endpoint has no address: the network's --ipam-driver is another")?;
        if !call.interface.mac_address.is_empty() {
            return Err("--mac-address means nothing here: the MAC follows from the address".to_owned());
        }
        if let Some(why) = self.book().refusal(&network, address) {
            return Err(why.clone());
        }
        // The address was asked for a moment ago. A plugin that was killed since finds it out again.
        let just_made = self.book().take_attached(&network, address);
        let AttachedEntry { name, mac, addresses } = match just_made {
            Some(entry) => entry,
            None => {
                let found = self.endpoint_at(&network, address).await?.ok_or_else(|| {
                    format!(
                        "nothing was attached for {address} in network {network}: create the container anew"
                    )
                })?;
                AttachedEntry { name: found.name, mac: found.mac, addresses: found.addresses }
            }
        };
        let entry = EndpointEntry { network, name, address };
        self.book().note_endpoint(&call.endpoint_id, entry);
        let address_ipv6 = addresses.into_iter().find(IpNetwork::is_ipv6);
        let interface = CreatedInterface { address_ipv6, mac_address: Some(mac.to_string()) };
        Ok(Created { interface })
    }

    /// Docker takes the interface that was offered.
    pub(super) async fn join(&self, call: Join) -> Answer<Joined> {
        let NetworkEntry { network, routes } = self.network_of(&call.network_id).await?;
        let known = self.book().endpoint(&call.endpoint_id).cloned();
        let entry = match known {
            Some(entry) => entry,
            None => self.entry_of(&call, &network).await?,
        };
        let ours = self.ours().await?;
        let held = ours.get(&(network.clone(), entry.name.clone())).is_some_and(|request| request.hold);
        let name = match self.provisional(&entry, held).await? {
            Some(addresses) => self.rename(&call, &entry, addresses, held).await?,
            None => entry.name.clone(),
        };
        let gateways = if routes { self.expect(&network).await?.gateways } else { Vec::new() };
        let gateway = |v6: bool| gateways.iter().copied().find(|gateway| gateway.is_ipv6() == v6);
        let multicast = self.takes_multicast(&call, &ours, &(network.clone(), name.clone())).await?;
        let destination = TO_ALL.parse().map_err(|error| format!("{error}"))?;
        let static_routes = multicast.then_some(StaticRoute { destination, route_type: 1 });
        Ok(Joined {
            interface_name: InterfaceName { src_name: ifname(&network, &name), dst_prefix: "eth" },
            gateway: gateway(false),
            gateway_ipv6: gateway(true),
            static_routes: static_routes.into_iter().collect(),
            disable_gateway_service: routes,
        })
    }

    /// Whether multicast leaves the container by this endpoint.
    ///
    /// One that starts in several networks is joined to them in no order: then it is the first by name, as Docker itself puts
    /// them. One that comes later leaves it where it is.
    async fn takes_multicast(&self, call: &Join, ours: &Ours, here: &Key) -> Answer<bool> {
        // Known to be in another network already: from before the plugin's start too.
        let namespace = Some(Path::new(&call.sandbox_key));
        let told_elsewhere =
            ours.iter().any(|(key, there)| key != here && there.netns.as_deref() == namespace);
        if told_elsewhere || !self.is_first(call).await? {
            return Ok(false);
        }
        Ok(self.book().take_multicast(&call.sandbox_key, &call.endpoint_id))
    }

    /// Whether no other network of ours that the container is in comes before this one by its name. So if it is not known.
    async fn is_first(&self, call: &Join) -> Answer<bool> {
        if !self.book().has_others(&call.network_id) {
            return Ok(true);
        }
        let Some((here, container)) = self.container_of(call).await? else { return Ok(true) };
        let names = self.learn_networks(std::slice::from_ref(&container)).await;
        let is_ours = |name: &str, id: &str| match names.get(name) {
            Some(ours) => ours.is_some(),
            None => self.book().network(id).is_some(),
        };
        Ok(first_of_ours(&container, is_ours).is_none_or(|first| first == here.name))
    }

    /// The network as Docker has it, and who is being joined to it.
    async fn container_of(&self, call: &Join) -> Answer<Option<(Network, Container)>> {
        let asked = tokio::try_join!(self.engine.network(&call.network_id), self.engine.containers());
        let (there, containers) = asked.map_err(|error| error.to_string())?;
        let Some(occupant) = there.occupant(&call.endpoint_id) else { return Ok(None) };
        let found = containers.into_iter().find(|container| container.name() == occupant.name);
        Ok(found.map(|container| (there, container)))
    }

    /// What a plugin that was killed since had noted of an endpoint.
    async fn entry_of(&self, call: &Join, network: &NetworkName) -> Answer<EndpointEntry> {
        let there = self.engine.network(&call.network_id).await.map_err(|error| error.to_string())?;
        let address = there
            .occupant(&call.endpoint_id)
            .and_then(|there| there.ipv4_address.split('/').next()?.parse().ok());
        let unknown = || "the endpoint is not known any more: start the container again".to_owned();
        let address: IpAddr = address.ok_or_else(unknown)?;
        let endpoint = self.endpoint_at(network, address).await?.ok_or_else(unknown)?;
        Ok(EndpointEntry { network: network.clone(), name: endpoint.name, address })
    }

    /// The addresses of an endpoint whose container was not known when they were asked for. A plugin that was killed since asks
    /// for those that are held.
    async fn provisional(&self, entry: &EndpointEntry, held: bool) -> Answer<Option<Vec<IpAddr>>> {
        let noted = self.book().take_provisional(&entry.network, &entry.name);
        if noted.is_some() || !held {
            return Ok(noted);
        }
        let there = self.endpoint_at(&entry.network, entry.address).await?;
        Ok(there.map(|there| there.addresses.iter().map(IpNetwork::ip).collect()))
    }

    /// Attaches an endpoint under the name of its container, which is known by now, at the addresses that it has.
    async fn rename(
        &self,
        call: &Join,
        entry: &EndpointEntry,
        addresses: Vec<IpAddr>,
        held: bool,
    ) -> Answer<EndpointName> {
        let identity = match self.container_of(call).await? {
            Some((there, container)) => {
                let is_it = |name: &str, id: &str| id == call.network_id || name == there.name;
                let its = container.membership(is_it);
                let aliases = its.map(|there| there.aliases.clone()).unwrap_or_default();
                container.identity(&aliases).map_err(|error| error.to_string())?
            }
            None => Identity::named(entry.name.clone()),
        };
        if identity.name == entry.name && !held {
            return Ok(identity.name);
        }
        self.detach(&entry.network, &entry.name).await?;
        let attached = self.attach(&entry.network, &identity, addresses).await?;
        let entry = EndpointEntry { name: attached.name.clone(), ..entry.clone() };
        self.book().note_endpoint(&call.endpoint_id, entry);
        Ok(attached.name)
    }

    /// Docker has the endpoint no more.
    pub(super) async fn delete_endpoint(&self, call: OfEndpoint) -> Answer<Nothing> {
        // Of one that is not known any more the address is given back next, and says which it was.
        let entry = self.book().drop_endpoint(&call.endpoint_id);
        if let Some(entry) = entry {
            self.detach(&entry.network, &entry.name).await?;
        }
        Ok(Nothing {})
    }
}

/// The network that the container is in and that is first by its name, of those that are ours by name and id.
pub(super) fn first_of_ours(container: &Container, is_ours: impl Fn(&str, &str) -> bool) -> Option<&str> {
    let mut networks = container.network_settings.networks.iter();
    networks.find(|(name, there)| is_ours(name, &there.network_id)).map(|(name, _)| name.as_str())
}

/// An error where a network that exists is not as was asked for.
fn fits(there: &NetworkAnswer, wish: &NetworkWish) -> Answer<()> {
    let name = &there.name;
    let has = NetworkRequest::from_answer(there);
    if let Some(option) = wish.differs_from(&has.options()).next() {
        let is = option.get(&has.options()).unwrap_or_else(|| "left to others".to_owned());
        return Err(format!(
            "network {name} is there, and its {} is {is}: leave the option out, or change it with `lanmesh network set`",
            option.flag()
        ));
    }
    for (service, ranges) in &wish.pools {
        if there.pools.get(service).map(|ranges| &ranges.0) != Some(ranges) {
            return Err(format!(
                "network {name} is there, with another pool for {service}: leave the option out, or change it with \
                 `lanmesh network set`"
            ));
        }
    }
    let subnets: BTreeSet<_> = there.subnets.iter().collect();
    if let Some(subnet) = wish.subnets.iter().find(|subnet| !subnets.contains(subnet)) {
        return Err(format!(
            "network {name} is there, without the subnet {subnet}: leave the option out, or add it with `lanmesh network \
             set --add-subnet`"
        ));
    }
    Ok(())
}
