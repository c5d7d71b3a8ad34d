//! Sends the endpoints of this node to the services of their networks: a table of nf_tables in each one's own network
//! namespace, `table`; and what becomes of connections that a change does not keep, `flows`.
//!
//! Which namespaces there is a table in is noted in the run directory before it is made: a namespace of somebody else's
//! cannot be found otherwise, and nothing of ours is to be left in it.

pub(super) mod flows;
pub(super) mod rules;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use lanmesh_ipam::stable_hash;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::netns::Netns;
use super::{KernelError, Linux, notes};
use crate::model::{EndpointKey, EndpointName, NetworkId, Placement};
use crate::namespace::NamespaceId;
use crate::plan::{ObservedServices, ServiceStep};
use flows::Kept;
use table::Table;

/// An endpoint of this node as a client of services: its network, and a hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey {
    /// The network.
    pub network: NetworkId,
    name: u64,
}

impl ClientKey {
    /// Of an endpoint.
    pub fn of(network: NetworkId, name: &EndpointName) -> Self {
        Self { network, name: stable_hash(name.as_str().as_bytes()) }
    }
}

impl From<&EndpointKey> for ClientKey {
    fn from(key: &EndpointKey) -> Self {
        Self::of(key.network, &key.name)
    }
}

/// Where a client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPlace {
    /// Its namespace, as whoever attached it named it.
    pub placement: Placement,
    /// Which one that meant; `None` for the node's own.
    pub namespace: Option<NamespaceId>,
}

impl ClientPlace {
    /// A number that is another one where the place is.
    pub fn number(&self) -> u64 {
        let Self { placement, namespace } = self;
        stable_hash(format!("{placement:?} {namespace:?}").as_bytes())
    }
}

impl Linux {
    /// The clients that there may be a table for.
    pub async fn service_clients(&self) -> Result<BTreeSet<ClientKey>, KernelError> {
        let directory = self.clients_directory();
        let listed = match std::fs::read_dir(&directory) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(source) => return Err(KernelError::File { what: "read", path: directory, source }),
        };
        let key = |name: &str| {
            let (network, name) = name.split_once('-')?;
            Some(ClientKey { network: network.parse().ok()?, name: u64::from_str_radix(name, 16).ok()? })
        };
        let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| key(&name)).collect())
    }

    /// What sends a client to services; `None` where there is nothing, or its namespace is gone.
    pub async fn observe_services(&self, key: ClientKey) -> Result<Option<ObservedServices>, KernelError> {
        let Some(place) = self.client_place(key) else { return Ok(None) };
        let Some(netns) = self.client_namespace(&place).await? else {
            // Its table went with it.
            self.forget_client(key);
            return Ok(None);
        };
        let table = self.table_of(key);
        let found = netns.run(move || table.find()).await?;
        found.map_err(|source| KernelError::Refused {
            what: "look at the routes of services".to_owned(),
            source,
        })
    }

    /// Notes where a client is, before a table is made for it.
    pub async fn place_client(&self, key: ClientKey, place: &ClientPlace) -> Result<(), KernelError> {
        if self.client_place(key).as_ref() == Some(place) {
            return Ok(());
        }
        notes::put(&self.client_path(key), place)
    }

    /// Makes steps for a client, in their order, and ends the connections that they do not keep; those that failed, and why.
    pub async fn apply_services(
        &self,
        key: ClientKey,
        steps: Vec<ServiceStep>,
    ) -> Vec<(ServiceStep, KernelError)> {
        let opened = match self.client_place(key) {
            Some(place) => self.client_namespace(&place).await,
            None => Ok(None),
        };
        let broken = |error: KernelError, steps: Vec<ServiceStep>| {
            let what = error.to_string();
            steps.into_iter().map(|step| (step, KernelError::Broken { what: what.clone() })).collect()
        };
        let netns = match opened {
            Ok(Some(netns)) => netns,
            // Nothing is to be done where nobody is.
            Ok(None) => {
                self.forget_client(key);
                return Vec::new();
            }
            Err(error) => return broken(error, steps),
        };
        let table = self.table_of(key);
        let all = steps.clone();
        let failed = match netns.run(move || carry_out(&table, all)).await {
            Ok(failed) => failed,
            Err(error) => return broken(error, steps),
        };
        if failed.is_empty() && steps.last() == Some(&ServiceStep::Delete) {
            self.forget_client(key);
        }
        failed
    }

    fn table_of(&self, key: ClientKey) -> Table {
        let ClientKey { network, name } = key;
        let dir = self.inner.run_dir.as_os_str().as_encoded_bytes();
        let whose = [dir, format!(" {network} {name:x}").as_bytes()].concat();
        Table(format!("lanmesh-services-{:016x}", stable_hash(&whose)))
    }

    fn clients_directory(&self) -> PathBuf {
        self.inner.run_dir.join("services")
    }

    fn client_path(&self, key: ClientKey) -> PathBuf {
        self.clients_directory().join(format!("{}-{:016x}", key.network, key.name))
    }

    fn client_place(&self, key: ClientKey) -> Option<ClientPlace> {
        notes::read(&self.client_path(key))
    }

    fn forget_client(&self, key: ClientKey) {
        // What is left of it is found to be of nobody, and tried again.
        let _ = notes::remove(&self.client_path(key));
        let _ = std::fs::remove_dir(self.clients_directory());
    }

    /// A client's namespace; `None` where it is gone, or another one has its path.
    pub(in crate::kernel) async fn client_namespace(
        &self,
        place: &ClientPlace,
    ) -> Result<Option<Netns>, KernelError> {
        match &place.placement {
            Placement::Host => Ok(Some(self.inner.own.clone())),
            // One that nobody has said where it was taken sends nothing that could be known here.
            Placement::Offered(None) | Placement::Held => Ok(None),
            Placement::Netns(path) | Placement::Offered(Some(path)) => {
                Netns::meant(path, place.namespace.as_ref()).await
            }
        }
    }
}

/// Makes steps in the calling thread's namespace; those that failed, and why. Blocks.
fn carry_out(table: &Table, steps: Vec<ServiceStep>) -> Vec<(ServiceStep, KernelError)> {
    let mut kept = Kept::new();
    let mut failed = Vec::new();
    for step in steps {
        let done = KernelError::of_answer(|| "change the table there".to_owned(), table.apply(&step));
        match (done, &step) {
            (Err(error), _) => failed.push((step, error)),
            (Ok(()), ServiceStep::Make { routes, .. }) => {
                kept.extend(routes.iter().map(|(address, route)| (*address, route.keeps.clone())));
            }
            (Ok(()), ServiceStep::Put(address, route)) => drop(kept.insert(*address, route.keeps.clone())),
            (Ok(()), ServiceStep::Remove(address)) => drop(kept.insert(*address, BTreeSet::new())),
            (Ok(()), ServiceStep::Delete) => {}
        }
    }
    if !kept.is_empty()
        && let Err(error) = flows::end_others(&kept)
    {
        // A kernel without the interface: what is broken shows when it is next used.
        tracing::warn!(%error, "connections to endpoints that are gone cannot be ended");
    }
    failed
}

/// Whether the calling thread's namespace, which is to be thrown away, can have such a table. Blocks.
pub(super) fn try_out() -> Result<(), String> {
    let routes = [("192.0.2.1", ["192.0.2.2", "192.0.2.3"]), ("2001:db8::1", ["2001:db8::2", "2001:db8::3"])];
    let parse = |text: &str| text.parse::<std::net::IpAddr>().map_err(|error| error.to_string());
    let mut all = std::collections::BTreeMap::new();
    for (address, to) in routes {
        let to = to.into_iter().map(parse).collect::<Result<BTreeSet<_>, _>>()?;
        let route = crate::plan::Route { keeps: to.clone(), to, ports: Vec::new(), sticky: false };
        all.insert(parse(address)?, route);
    }
    let step = ServiceStep::Make { ifname: Some("lo".to_owned()), routes: all };
    match Table("lanmesh-services-try".to_owned()).apply(&step) {
        Ok(None) => Ok(()),
        Ok(Some(errno)) => Err(Errno::desc(errno).to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
