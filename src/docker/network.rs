//! Networks and endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use lanmesh_docker::book::{EndpointEntry, NetworkEntry};
use lanmesh_docker::options::{IpamOptions, NetworkWish, allocated};
use lanmesh_docker::protocol::{
    Allocated, CreateEndpoint, CreateNetwork, Created, CreatedInterface, DeleteNetwork, InterfaceName, Join,
    Joined, OfEndpoint, Scope, StaticRoute,
};
use lanmesh_docker::tokens::usual;

use super::driver::{Answer, Driver, Nothing, ifname, is_conflict};
use crate::api::ranges::Ranges;
use crate::api::types::{EndpointAnswer, LabelsRequest, NetworkAnswer, NetworkRequest};
use crate::model::NetworkName;

/// What begins the label of a node that created a network for Docker; Docker's id of the network follows.
const MADE: &str = "docker.network/";
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
            return fits(&there, wish);
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
        let me = self.me().await?.name;
        let labels = BTreeMap::from([(format!("{MADE}{id}"), network.map(ToString::to_string))]);
        self.agent.set_labels(&me, &LabelsRequest { labels }).await.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// The swarm has the network no more.
    pub(super) async fn free_network(&self, call: DeleteNetwork) -> Answer<Nothing> {
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

    /// Removes a network that was created for Docker, unless somebody else uses it by now.
    async fn remove(&self, id: &str) -> Answer<Nothing> {
        self.book().drop_network(id);
        let label = format!("{MADE}{id}");
        let nodes = self.agent.nodes().await.map_err(|error| error.to_string())?;
        for node in nodes {
            let Some(network) = node.labels.get(&label) else { continue };
            if let Ok(network) = network.parse::<NetworkName>() {
                match self.agent.remove_network(&network).await {
                    Ok(_) => {}
                    Err(error) if is_conflict(&error) => {
                        tracing::warn!(%network, %error, "the network stays: others use it");
                    }
                    Err(error) => return Err(error.to_string()),
                }
            }
            let labels = BTreeMap::from([(label.clone(), None)]);
            self.agent
                .set_labels(&node.name, &LabelsRequest { labels })
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(Nothing {})
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
        let endpoint = self.endpoint_at(&network, address).await?.ok_or_else(|| {
            format!("nothing was attached for {address} in network {network}: create the container anew")
        })?;
        let entry = EndpointEntry { network, name: endpoint.name.clone(), address };
        self.book().note_endpoint(&call.endpoint_id, entry);
        let address_ipv6 = endpoint.addresses.iter().find(|address| address.is_ipv6()).copied();
        let interface = CreatedInterface { address_ipv6, mac_address: Some(endpoint.mac.to_string()) };
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
        let provisional = self.book().take_provisional(&network, &entry.name);
        let name = match provisional {
            true => self.rename(&call, &entry).await?,
            false => entry.name.clone(),
        };
        let spec = self.expect(&network).await?;
        let gateway =
            |v6: bool| spec.gateways.iter().copied().find(|gateway| routes && gateway.is_ipv6() == v6);
        let destination = TO_ALL.parse().map_err(|error| format!("{error}"))?;
        Ok(Joined {
            interface_name: InterfaceName { src_name: ifname(&network, &name), dst_prefix: "eth" },
            gateway: gateway(false),
            gateway_ipv6: gateway(true),
            static_routes: vec![StaticRoute { destination, route_type: 1 }],
            disable_gateway_service: routes,
        })
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

    /// Attaches an endpoint under the name of its container, which is known by now, at the addresses that it has.
    async fn rename(&self, call: &Join, entry: &EndpointEntry) -> Answer<crate::model::EndpointName> {
        let there = self.engine.network(&call.network_id).await.map_err(|error| error.to_string())?;
        let Some(occupant) = there.occupant(&call.endpoint_id) else { return Ok(entry.name.clone()) };
        let containers = self.engine.containers().await.map_err(|error| error.to_string())?;
        let Some(container) = containers.iter().find(|container| container.name() == occupant.name) else {
            return Ok(entry.name.clone());
        };
        let is_it = |name: &str, id: &str| id == call.network_id || name == there.name;
        let aliases = container.membership(is_it).map(|there| there.aliases.clone()).unwrap_or_default();
        let identity = container.identity(&aliases).map_err(|error| error.to_string())?;
        if identity.name == entry.name {
            return Ok(identity.name);
        }
        let Some(old): Option<EndpointAnswer> = self.endpoint_at(&entry.network, entry.address).await? else {
            return Ok(entry.name.clone());
        };
        let addresses = old.addresses.iter().map(IpNetwork::ip).collect();
        self.detach(&entry.network, &old.name).await?;
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
