//! Pools and addresses.
//!
//! A swarm's leader gets tokens (`lanmesh_docker::tokens`). On the node of the container the address is that of an endpoint,
//! which is attached when it is asked for: so the agent, which alone knows what is free, holds it from then on, and what it
//! offers waits for Docker to take it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnetwork::IpNetwork;
use lanmesh_docker::book::AttachedEntry;
use lanmesh_docker::container::{Asker, Identity, Slot, by_token, only_one};
use lanmesh_docker::engine::{Container, given_out};
use lanmesh_docker::options::IpamOptions;
use lanmesh_docker::pool::{PoolId, Space};
use lanmesh_docker::protocol::{
    Address, Pool, ReleaseAddress, ReleasePool, RequestAddress, RequestPool, Scope,
};
use lanmesh_docker::tokens::{Tokens, usual};

use super::driver::{Answer, Driver, HOLDER, Nothing, entry_of, ifname};
use crate::api::types::{AttachAnswer, AttachRequest, NetworkAnswer, ServiceRequest};
use crate::model::{EndpointName, NetworkName};

/// How long a task or service may have its token before the swarm shows it.
const UNSEEN: Duration = Duration::from_secs(60);
/// How many pools' tokens are kept in mind.
const MAX_POOLS: usize = 1024;

impl Driver {
    /// A pool: a subnet of a network of ours, or of one that is about to be created.
    pub(super) async fn request_pool(&self, call: RequestPool) -> Answer<Pool> {
        if call.v6 || call.pool.contains(':') {
            return Err("IPv6 of a network of lanmesh does not come through Docker: leave out --ipv6, and give --opt \
                        subnet=PREFIX to a new one"
                .to_owned());
        }
        if !call.sub_pool.is_empty() {
            return Err(
                "--ip-range means nothing here: each node has a block of the subnet, as `lanmesh ipam plan` \
                        tells"
                    .to_owned(),
            );
        }
        let space = call.address_space.parse::<Space>().map_err(|error| error.to_string())?;
        let options = IpamOptions::read(&call.options).map_err(|error| error.to_string())?;
        let there = self.find(&options.network).await?;
        let subnet = match (&there, call.pool.as_str()) {
            (Some(network), "") => {
                network.subnets.iter().find(|subnet| subnet.is_ipv4()).copied().ok_or_else(|| {
                    format!("network {} has no subnet of IPv4, which Docker needs", network.name)
                })?
            }
            (None, "") => {
                return Err(format!(
                    "there is no network {} yet: give --subnet to create it",
                    options.network
                ));
            }
            (_, given) => given.parse::<IpNetwork>().map_err(|error| format!("--subnet {given}: {error}"))?,
        };
        if let Some(network) = there.filter(|network| !network.subnets.contains(&subnet)) {
            let theirs: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
            return Err(format!(
                "network {} is there, with {} and not {subnet}: leave out --subnet to take it as it is",
                network.name,
                theirs.join(" and ")
            ));
        }
        let pool = PoolId { space, network: options.network, subnet, tokens: options.tokens };
        self.book().note_pool(pool.clone());
        Ok(Pool { pool_id: pool.to_string(), pool: subnet, data: BTreeMap::new() })
    }

    /// A gateway, a token, or a container's address.
    pub(super) async fn request_address(&self, call: RequestAddress) -> Answer<Address> {
        let pool: PoolId = call.pool_id.parse().map_err(|error| format!("{error}"))?;
        let address = if call.is_for_the_gateway() {
            self.gateway(&pool, call.address).await?
        } else {
            match pool.space {
                Space::Global => self.token(&pool, call.address).await?,
                Space::Local => self.container_address(&pool, call.address).await?,
            }
        };
        let address = IpNetwork::new(address, pool.subnet.prefix()).map_err(|error| error.to_string())?;
        Ok(Address { address, data: BTreeMap::new() })
    }

    async fn gateway(&self, pool: &PoolId, asked: Option<IpAddr>) -> Answer<IpAddr> {
        let there = self.find(&pool.network).await?;
        let its = there.and_then(|network| gateway_of(&network, pool.subnet));
        match (its, asked) {
            (Some(its), Some(asked)) if its != asked => {
                Err(format!("the gateway of network {} is {its}: leave out --gateway", pool.network))
            }
            (Some(address), _) | (None, Some(address)) => Ok(address),
            (None, None) => {
                let first = pool.subnet.iter().nth(1);
                first.ok_or_else(|| format!("the subnet {} has no room for a gateway", pool.subnet))
            }
        }
    }

    async fn token(&self, pool: &PoolId, known: Option<IpAddr>) -> Answer<IpAddr> {
        let id = pool.to_string();
        // Asked before anybody else has to wait for it.
        let begun = self.tokens.lock().await.contains_key(&id);
        let begin = if begun { None } else { Some(self.begin_tokens(pool).await?) };
        let now = self.begun.elapsed();
        {
            let mut pools = self.tokens.lock().await;
            if let Some(begin) = begin
                && !pools.contains_key(&id)
            {
                if pools.len() >= MAX_POOLS {
                    pools.pop_first();
                }
                pools.insert(id.clone(), begin);
            }
            let tokens = of_pool(&mut pools, &id)?;
            // `--ip`, or what was given out before, as a new leader tells: which of both cannot be told.
            if let Some(known) = known {
                tokens.hold(known, now);
                return Ok(known);
            }
            // It may be that of a service, which the swarm will show in a moment.
            self.news.services.notify_one();
            if let Ok(token) = tokens.take(now) {
                return Ok(token);
            }
        }
        // Not all that ended has said so.
        let known = self.given_out().await?;
        let mut pools = self.tokens.lock().await;
        let tokens = of_pool(&mut pools, &id)?;
        tokens.give_back_lost(known, now.saturating_sub(UNSEEN));
        tokens.take(now).map_err(|error| error.to_string())
    }

    /// The tokens of a pool, with those in use that a plugin that was here before gave out: Docker does not say again which.
    async fn begin_tokens(&self, pool: &PoolId) -> Answer<Tokens> {
        let range = pool.tokens.or_else(|| usual(pool.subnet)).ok_or_else(|| {
            format!("the subnet {} is too small for a swarm: it takes a /28 at least", pool.subnet)
        })?;
        let used = self.given_out().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "which tokens are in use is not known");
            Vec::new()
        });
        Ok(Tokens::new(range, used, seed()))
    }

    /// What the swarm's tasks and services have.
    async fn given_out(&self) -> Answer<Vec<IpAddr>> {
        let (tasks, services) = self.engine.swarm().await.map_err(|error| error.to_string())?;
        Ok(given_out(&tasks, &services).collect())
    }

    /// The swarm has no network with this pool any more. Of the tasks that were in it not all have given theirs back.
    pub(super) async fn release_pool(&self, call: ReleasePool) -> Answer<Nothing> {
        self.tokens.lock().await.remove(&call.pool_id);
        Ok(Nothing {})
    }

    async fn container_address(&self, pool: &PoolId, asked: Option<IpAddr>) -> Answer<IpAddr> {
        match (self.attach_container(pool, asked).await, asked) {
            (Ok(address), _) => Ok(address),
            // Of what is said here a swarm shows nothing, but of what is said when the endpoint is made.
            (Err(why), Some(token)) if self.scope == Scope::Global => {
                self.book().refuse(&pool.network, token, why);
                Ok(token)
            }
            (Err(why), _) => Err(why),
        }
    }

    async fn attach_container(&self, pool: &PoolId, asked: Option<IpAddr>) -> Answer<IpAddr> {
        let network = self.expect(&pool.network).await?;
        let containers = self.engine.containers().await.map_err(|error| error.to_string())?;
        let names = self.learn_networks(&containers).await;
        // Docker says the network's id only of containers that were in it before.
        let may_be = |name: &str, id: &str| {
            let by_name = || names.get(name).is_none_or(|known| known.as_ref() == Some(&pool.network));
            if id.is_empty() { by_name() } else { self.book().may_be(id, &pool.network) }
        };
        let by_address = asked.map_or(Asker::Unknown, |address| by_token(&containers, address, may_be));
        let (asker, certain) = match by_address {
            Asker::Known(..) => (by_address, true),
            Asker::Unknown => (only_one(&containers, may_be), false),
        };
        let (identity, is_task) = match &asker {
            Asker::Known(container, there) => {
                (container.identity(&there.aliases).map_err(|error| error.to_string())?, container.is_task())
            }
            Asker::Unknown => {
                let name = EndpointName::of_text(&format!("ep-{:08x}", seed()));
                (Identity::named(name), false)
            }
        };
        // What is no task has its address in Docker's list only if that was asked for. Else a token is known by its range.
        let is_token = |address: &IpAddr| {
            let tokens = pool.tokens.or_else(|| usual(pool.subnet));
            let in_range = tokens.is_some_and(|tokens| tokens.contains(*address));
            self.scope == Scope::Global && (is_task || (!certain && in_range))
        };
        let addresses: Vec<IpAddr> = asked.filter(|address| !is_token(address)).into_iter().collect();
        // Whose it is will be known when it is joined.
        let attached = match asker {
            Asker::Known(..) => self.attach(&network.name, &identity, addresses).await?,
            Asker::Unknown => self.hold(&network.name, &identity.name, addresses).await?,
        };
        {
            let mut book = self.book();
            if !certain {
                let addresses = attached.addresses.iter().map(IpNetwork::ip);
                book.note_provisional(&network.name, &attached.name, addresses);
            }
            if let Some(asked) = asked {
                book.forget_refusal(&pool.network, asked);
            }
        }
        let mut addresses = attached.addresses.iter().map(IpNetwork::ip);
        let address = addresses.find(|address| pool.subnet.contains(*address));
        let address =
            address.ok_or_else(|| format!("network {} has no subnet {}", network.name, pool.subnet))?;
        let entry = AttachedEntry { name: attached.name, mac: attached.mac, addresses: attached.addresses };
        let mut book = self.book();
        book.note_attached(&pool.network, address, entry);
        book.give(&pool.network, address);
        Ok(address)
    }

    /// Asks Docker for its networks where containers are in some that were not heard of: which of ours they are tells whose
    /// container asks. The answer is which of ours each is, by Docker's name of it; nothing where all are known by their ids.
    pub(super) async fn learn_networks(
        &self,
        containers: &[Container],
    ) -> BTreeMap<String, Option<NetworkName>> {
        let mut names = BTreeMap::new();
        let mut memberships =
            containers.iter().flat_map(|container| container.network_settings.networks.values());
        let unknown = memberships.any(|there| !self.book().knows(&there.network_id));
        if unknown && let Ok(networks) = self.engine.networks().await {
            let mut book = self.book();
            for network in networks {
                let entry = entry_of(&network);
                names.insert(network.name, entry.as_ref().map(|entry| entry.network.clone()));
                match entry {
                    Some(entry) => book.note_network(&network.id, entry),
                    None => book.note_foreign(&network.id),
                }
            }
        }
        names
    }

    /// Attaches a container's endpoint anew: whatever there was under its name is an old container's.
    pub(super) async fn attach(
        &self,
        network: &NetworkName,
        identity: &Identity,
        addresses: Vec<IpAddr>,
    ) -> Answer<AttachAnswer> {
        self.detach(network, &identity.name).await?;
        let (service, slot) = match &identity.service {
            Some((service, Some(Slot::Node))) => (Some(service.clone()), Some(self.me().await?.index.0)),
            Some((service, Some(Slot::Number(slot)))) => (Some(service.clone()), Some(*slot)),
            Some((service, None)) => (Some(service.clone()), None),
            None => (None, None),
        };
        let request = AttachRequest {
            offer: true,
            ifname: Some(ifname(network, &identity.name)),
            service,
            slot,
            addresses,
            aliases: identity.aliases.clone(),
            advertise: identity.advertise.iter().cloned().map(ServiceRequest::from).collect(),
            // The address of a slot is that of its newest task: where an update starts the new one first, or a node's tasks
            // are started elsewhere, the old one loses it.
            take: slot.is_some(),
            ..AttachRequest::default()
        }
        .with(identity.extras.clone());
        self.agent.attach(network, &identity.name, &request).await.map_err(|error| error.to_string())
    }

    /// Holds the addresses of an endpoint whose container is not known yet.
    async fn hold(
        &self,
        network: &NetworkName,
        name: &EndpointName,
        addresses: Vec<IpAddr>,
    ) -> Answer<AttachAnswer> {
        let request = AttachRequest {
            hold: true,
            addresses,
            owner: Some(HOLDER.to_owned()),
            ..AttachRequest::default()
        };
        self.agent.attach(network, name, &request).await.map_err(|error| error.to_string())
    }

    /// A token, or a container's address with its endpoint.
    pub(super) async fn release_address(&self, call: ReleaseAddress) -> Answer<Nothing> {
        // An address of IPv6, which never was in one of Docker's pools, goes with the endpoint.
        if call.pool_id.is_empty() {
            return Ok(Nothing {});
        }
        let pool: PoolId = call.pool_id.parse().map_err(|error| format!("{error}"))?;
        let Some(address) = call.address else { return Ok(Nothing {}) };
        match pool.space {
            Space::Global => {
                if let Some(tokens) = self.tokens.lock().await.get_mut(&call.pool_id) {
                    tokens.give_back(address);
                }
            }
            Space::Local => {
                let free = {
                    let mut book = self.book();
                    !book.forget_refusal(&pool.network, address) && book.give_back(&pool.network, address)
                };
                if free && let Some(endpoint) = self.endpoint_at(&pool.network, address).await? {
                    self.detach(&pool.network, &endpoint.name).await?;
                }
            }
        }
        Ok(Nothing {})
    }
}

fn of_pool<'a>(pools: &'a mut BTreeMap<String, Tokens>, id: &str) -> Answer<&'a mut Tokens> {
    pools.get_mut(id).ok_or_else(|| "the pool is gone: try again".to_owned())
}

/// The gateway of one subnet of a network.
pub(super) fn gateway_of(network: &NetworkAnswer, subnet: IpNetwork) -> Option<IpAddr> {
    network.gateways.iter().copied().find(|gateway| subnet.contains(*gateway))
}

/// A number that differs between processes and moments.
fn seed() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    std::process::id().rotate_left(16)
        ^ now.subsec_nanos()
        ^ u32::try_from(now.as_secs() & 0xffff_ffff).unwrap_or(0)
}
