//! The bodies of Docker's plugin protocol: `NetworkDriver`, `IpamDriver` and `Plugin.Activate`.
//!
//! Field names are Docker's. What lanmesh has no use for is not read; what Docker leaves out or gives as `null` is empty.
//! Sources: moby, `libnetwork/drivers/remote/api`, `libnetwork/ipams/remote/api`, and recorded calls of 20.10 and 26.1.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// Options as Docker passes them on: texts as a rule, but some of its own are numbers, lists or maps.
pub type Options = BTreeMap<String, serde_json::Value>;

/// The option under which a node finds what `docker network create --opt` said.
pub const GENERIC: &str = "com.docker.network.generic";
/// What an address is asked for, among the options of [`RequestAddress`].
pub const ADDRESS_TYPE: &str = "RequestAddressType";
/// The value of [`ADDRESS_TYPE`] for a pool's gateway.
pub const GATEWAY: &str = "com.docker.network.gateway";

/// Go's nil maps, lists and texts are `null`.
fn nullable<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// An address, with or without the length of its prefix; an empty text is none.
fn address<'de, D: Deserializer<'de>>(d: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(d)?.unwrap_or_default();
    let text = text.split('/').next().unwrap_or_default();
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}

/// `/Plugin.Activate`: what the plugin is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Activation {
    /// The interfaces that it has.
    pub implements: [&'static str; 2],
}

/// What every driver of lanmesh is.
pub const ACTIVATION: Activation = Activation { implements: ["NetworkDriver", "IpamDriver"] };

/// Why something was not done. Docker shows it where it can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Failure {
    /// What is wrong and what to do.
    pub err: String,
}

/// Where Docker keeps a network, and who sees that it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// In the swarm: its leader allocates.
    Global,
    /// On one node: no swarm has to be there.
    Local,
}

/// `/NetworkDriver.GetCapabilities`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkCapabilities {
    /// Where its networks are kept.
    pub scope: Scope,
    /// How far they reach: to other nodes, always.
    pub connectivity_scope: Scope,
}

/// `/IpamDriver.GetCapabilities`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamCapabilities {
    /// Whether an address can only be given to who has a MAC: no, the MAC follows from the address.
    #[serde(rename = "RequiresMACAddress")]
    pub requires_mac_address: bool,
    /// Whether Docker is to ask again for everything after a restart: no, the agent remembers.
    pub requires_request_replay: bool,
}

/// `/IpamDriver.GetDefaultAddressSpaces`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressSpaces {
    /// Of a node.
    pub local_default_address_space: &'static str,
    /// Of a swarm.
    pub global_default_address_space: &'static str,
}

/// `/IpamDriver.RequestPool`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestPool {
    /// In which space.
    #[serde(deserialize_with = "nullable")]
    pub address_space: String,
    /// `--subnet`; empty where it was not given.
    #[serde(deserialize_with = "nullable")]
    pub pool: String,
    /// `--ip-range`.
    #[serde(deserialize_with = "nullable")]
    pub sub_pool: String,
    /// `--ipam-opt`, and some of Docker's own.
    #[serde(deserialize_with = "nullable")]
    pub options: Options,
    /// Whether an IPv6 pool is wanted.
    #[serde(rename = "V6")]
    pub v6: bool,
}

/// The answer to [`RequestPool`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pool {
    /// Under which id it is asked for addresses.
    #[serde(rename = "PoolID")]
    pub pool_id: String,
    /// Its subnet.
    pub pool: IpNetwork,
    /// Nothing more to say.
    pub data: BTreeMap<String, String>,
}

/// `/IpamDriver.ReleasePool`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReleasePool {
    /// Which.
    #[serde(rename = "PoolID", deserialize_with = "nullable")]
    pub pool_id: String,
}

/// `/IpamDriver.RequestAddress`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestAddress {
    /// From which pool.
    #[serde(rename = "PoolID", deserialize_with = "nullable")]
    pub pool_id: String,
    /// The address that is wanted: on a node of a swarm the one that the leader gave out.
    #[serde(deserialize_with = "address")]
    pub address: Option<IpAddr>,
    /// For what, and `--ipam-opt`.
    #[serde(deserialize_with = "nullable")]
    pub options: Options,
}

impl RequestAddress {
    /// Whether it is asked for the pool's gateway.
    pub fn is_for_the_gateway(&self) -> bool {
        self.options.get(ADDRESS_TYPE).and_then(serde_json::Value::as_str) == Some(GATEWAY)
    }
}

/// The answer to [`RequestAddress`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Address {
    /// It, with the length of the pool's prefix.
    pub address: IpNetwork,
    /// Nothing more to say.
    pub data: BTreeMap<String, String>,
}

/// `/IpamDriver.ReleaseAddress`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReleaseAddress {
    /// Of which pool.
    #[serde(rename = "PoolID", deserialize_with = "nullable")]
    pub pool_id: String,
    /// Which.
    #[serde(deserialize_with = "address")]
    pub address: Option<IpAddr>,
}

/// A pool that a network uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamData {
    /// Its subnet.
    #[serde(deserialize_with = "nullable")]
    pub pool: String,
    /// Its gateway.
    #[serde(deserialize_with = "address")]
    pub gateway: Option<IpAddr>,
}

/// `/NetworkDriver.AllocateNetwork` (a swarm's leader) and `/NetworkDriver.CreateNetwork` (each node).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateNetwork {
    /// Docker's id of it.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// On the leader what `--opt` said; on a node Docker's own, with what the leader answered under [`GENERIC`].
    #[serde(deserialize_with = "nullable")]
    pub options: Options,
    /// Its pools of IPv4.
    #[serde(rename = "IPv4Data", deserialize_with = "nullable")]
    pub ipv4_data: Vec<IpamData>,
    /// Its pools of IPv6.
    #[serde(rename = "IPv6Data", deserialize_with = "nullable")]
    pub ipv6_data: Vec<IpamData>,
}

impl CreateNetwork {
    /// What `--opt` said, or the leader made of it.
    pub fn given(&self) -> Options {
        match self.options.get(GENERIC) {
            Some(serde_json::Value::Object(given)) => given.clone().into_iter().collect(),
            Some(_) => Options::new(),
            None => self.options.clone(),
        }
    }
}

/// The answer to `AllocateNetwork`: what every node gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Allocated {
    /// Texts.
    pub options: BTreeMap<String, String>,
}

/// `/NetworkDriver.FreeNetwork` and `/NetworkDriver.DeleteNetwork`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteNetwork {
    /// Docker's id of it.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
}

/// An interface: what is known of it, and what is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Interface {
    /// Its address.
    #[serde(deserialize_with = "address")]
    pub address: Option<IpAddr>,
    /// Its address of IPv6.
    #[serde(rename = "AddressIPv6", deserialize_with = "address")]
    pub address_ipv6: Option<IpAddr>,
    /// `--mac-address`; empty where it was not given.
    #[serde(deserialize_with = "nullable")]
    pub mac_address: String,
}

/// `/NetworkDriver.CreateEndpoint`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateEndpoint {
    /// Docker's id of the network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// Docker's id of the endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// What is known of its interface.
    #[serde(deserialize_with = "nullable")]
    pub interface: Interface,
}

/// The answer to [`CreateEndpoint`]: what was not known. What was known may not be repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    /// Of the interface.
    pub interface: CreatedInterface,
}

/// What Docker did not know of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreatedInterface {
    /// Its address of IPv6, with the length of its prefix.
    #[serde(rename = "AddressIPv6", skip_serializing_if = "Option::is_none")]
    pub address_ipv6: Option<IpNetwork>,
    /// Its MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
}

/// `/NetworkDriver.Join`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Join {
    /// Docker's id of the network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// Docker's id of the endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// Where the container's namespace is, or will be.
    #[serde(deserialize_with = "nullable")]
    pub sandbox_key: String,
}

/// `/NetworkDriver.Leave`, `/NetworkDriver.DeleteEndpoint` and what else is about an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OfEndpoint {
    /// Docker's id of the network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// Docker's id of the endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
}

/// The answer to [`Join`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Joined {
    /// Which interface Docker is to move, and what it is to be called.
    pub interface_name: InterfaceName,
    /// The default route; without it Docker adds an interface of its own that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The same of IPv6.
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "Option::is_none")]
    pub gateway_ipv6: Option<IpAddr>,
    /// Further routes.
    pub static_routes: Vec<StaticRoute>,
    /// Whether Docker is to add no interface of its own.
    pub disable_gateway_service: bool,
}

/// An interface that is to be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    /// What it is called in the node's namespace.
    pub src_name: String,
    /// What its name in the container begins with; Docker appends a number.
    pub dst_prefix: &'static str,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StaticRoute {
    /// To where.
    pub destination: IpNetwork,
    /// 1: everything there is a neighbour on the interface.
    pub route_type: u8,
}

/// The answer to `EndpointOperInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OperInfo {
    /// What people may want to know.
    pub value: BTreeMap<String, String>,
}
