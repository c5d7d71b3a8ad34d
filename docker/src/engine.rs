//! What is read of Docker's own API: containers, networks, tasks and services, as far as it matters here.
//!
//! Source: Docker Engine API 1.41, which both 20.10 and 26.1 speak: `GET /containers/json`, `/networks`, `/tasks`, `/services`,
//! `/info`, `/nodes`, `/events`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

fn nullable<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// A container in the list of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Its names, with a slash before each.
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// Its labels, and those that Docker gives it.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// `created`, `running`, `exited` and so on.
    #[serde(deserialize_with = "nullable")]
    pub state: String,
    /// Its networks.
    #[serde(deserialize_with = "nullable")]
    pub network_settings: NetworkSettings,
}

/// Where a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Where its namespace is; only in the answer about a single container.
    #[serde(deserialize_with = "nullable")]
    pub sandbox_key: String,
    /// By the network's name.
    #[serde(deserialize_with = "nullable")]
    pub networks: BTreeMap<String, Membership>,
}

/// A container's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Membership {
    /// What was asked for: `--ip`, or in a swarm what its leader gave out.
    #[serde(rename = "IPAMConfig", deserialize_with = "nullable")]
    pub ipam_config: IpamConfig,
    /// `--network-alias`.
    #[serde(deserialize_with = "nullable")]
    pub aliases: Vec<String>,
    /// The network's id; empty where the container was never started in it.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// The endpoint's id; empty until it has been made.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// Its address; empty until it has one.
    #[serde(rename = "IPAddress", deserialize_with = "nullable")]
    pub ip_address: String,
}

/// The address that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// Of IPv4.
    #[serde(rename = "IPv4Address", deserialize_with = "nullable")]
    pub ipv4_address: String,
}

/// The answer about a single container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Inspected {
    /// Where it is.
    #[serde(deserialize_with = "nullable")]
    pub network_settings: NetworkSettings,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `--opt`, or what the leader made of it.
    #[serde(deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
    /// Its addresses.
    #[serde(rename = "IPAM", deserialize_with = "nullable")]
    pub ipam: Ipam,
    /// Who is in it on this node: by container id, or `ep-ENDPOINT` while it is being made. Only in the answer about it alone.
    #[serde(deserialize_with = "nullable")]
    pub containers: BTreeMap<String, Occupant>,
}

/// Where a network's addresses come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `--ipam-driver`.
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
    /// `--ipam-opt`.
    #[serde(deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
}

/// Who is in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Occupant {
    /// The container's name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Docker's id of the endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// Its address, with the length of the prefix.
    #[serde(rename = "IPv4Address", deserialize_with = "nullable")]
    pub ipv4_address: String,
}

impl Network {
    /// Who has the endpoint with this id of Docker's.
    pub fn occupant(&self, endpoint: &str) -> Option<&Occupant> {
        self.containers
            .get(&format!("ep-{endpoint}"))
            .or_else(|| self.containers.values().find(|there| there.endpoint_id == endpoint))
    }
}

/// A task of a swarm, of which the leader knows all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    /// Its networks.
    #[serde(deserialize_with = "nullable")]
    pub networks_attachments: Vec<Attachment>,
}

/// A task's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Attachment {
    /// What it was given.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<String>,
}

/// A service of a swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// When it was created, as RFC 3339 has it, in UTC.
    #[serde(deserialize_with = "nullable")]
    pub created_at: String,
    /// What it is to be.
    #[serde(deserialize_with = "nullable")]
    pub spec: ServiceSpec,
    /// Where it is reached.
    #[serde(deserialize_with = "nullable")]
    pub endpoint: ServiceEndpoint,
}

impl Service {
    /// What sorts services by age. Docker leaves out the zeros at the end of a second's digits.
    pub fn age(&self) -> (&str, &str) {
        (self.created_at.trim_end_matches('Z'), &self.id)
    }
}

/// What a service is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceSpec {
    /// Its name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// What its tasks are to be.
    #[serde(deserialize_with = "nullable")]
    pub task_template: TaskTemplate,
}

/// What a service's tasks are to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskTemplate {
    /// Their containers.
    #[serde(deserialize_with = "nullable")]
    pub container_spec: ContainerSpec,
}

/// What a task's container is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSpec {
    /// Its labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// Where a service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceEndpoint {
    /// Its virtual addresses, one of each network.
    #[serde(rename = "VirtualIPs", deserialize_with = "nullable")]
    pub virtual_ips: Vec<VirtualIp>,
}

/// A virtual address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VirtualIp {
    /// Docker's id of the network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// With the length of the prefix.
    #[serde(deserialize_with = "nullable")]
    pub addr: String,
}

impl VirtualIp {
    /// The address alone; `None` while there is none.
    pub fn address(&self) -> Option<IpAddr> {
        self.addr.split('/').next()?.parse().ok()
    }
}

/// The addresses that a swarm has given out, in whichever network.
pub fn given_out<'a>(tasks: &'a [Task], services: &'a [Service]) -> impl Iterator<Item = IpAddr> + 'a {
    let of_tasks =
        tasks.iter().flat_map(|task| &task.networks_attachments).flat_map(|there| &there.addresses);
    let of_services = services.iter().flat_map(|service| &service.endpoint.virtual_ips);
    let of_tasks = of_tasks.filter_map(|text| text.split('/').next()?.parse().ok());
    of_tasks.chain(of_services.filter_map(VirtualIp::address))
}

/// What `GET /info` says of the swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Docker's version.
    #[serde(deserialize_with = "nullable")]
    pub server_version: String,
    /// What Docker calls the machine.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// This node's part in the swarm.
    #[serde(deserialize_with = "nullable")]
    pub swarm: Swarm,
}

/// A node's part in a swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    /// Its id there.
    #[serde(rename = "NodeID", deserialize_with = "nullable")]
    pub node_id: String,
    /// `active` where it is in one.
    #[serde(deserialize_with = "nullable")]
    pub local_node_state: String,
    /// Whether it is a manager.
    #[serde(deserialize_with = "nullable")]
    pub control_available: bool,
    /// The swarm, which managers alone know.
    #[serde(deserialize_with = "nullable")]
    pub cluster: SwarmCluster,
}

/// A swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SwarmCluster {
    /// Its id.
    #[serde(rename = "ID", deserialize_with = "nullable")]
    pub id: String,
}

/// A node of a swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmNode {
    /// What it is as a manager.
    #[serde(deserialize_with = "nullable")]
    pub manager_status: ManagerStatus,
}

/// What a node is as a manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManagerStatus {
    /// Whether it leads.
    #[serde(deserialize_with = "nullable")]
    pub leader: bool,
}

/// Something has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Event {
    /// To what kind of thing: `container`, `service` and so on.
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub kind: String,
    /// What: `start`, `create` and so on.
    #[serde(deserialize_with = "nullable")]
    pub action: String,
}
