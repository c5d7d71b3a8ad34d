//! A network: what creates one, and what is said of one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::ranges::Ranges;
use crate::model::{
    NetworkId, NetworkName, NetworkOptions, NetworkSpec, NodeName, OptionValue, ServiceName, Vni,
    network_options,
};

fn is_left_out<T: OptionValue>(value: &T) -> bool {
    value.text().is_none()
}

/// Addresses of a network that one node has lent to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LentAnswer {
    /// Which; what is set apart in between belongs to nobody.
    pub range: AddrRange,
    /// The node that lent them: whose block they are in, or the manager where they are in no node's.
    pub from: NodeName,
    /// The node that has them.
    pub to: NodeName,
}

/// The two types, with a field for each option of the model's table.
macro_rules! with_options {
    ({} $(
        #[doc = $about:literal]
        $name:ident: $kind:ty = $when:ident $(in $limits:expr)?;
    )+) => {
        /// `PUT /v1/networks/{name}`: the spec of a network.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct NetworkRequest {
            /// At least one subnet; host bits must be zero and no two may overlap.
            pub subnets: Vec<IpNetwork>,
            /// Gateways that are not the first address of their subnet; at most one for each subnet, in any order.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub gateways: Vec<IpAddr>,
            /// Addresses set apart for the slots of a service: service to range, or to one range of each subnet.
            #[serde(
                default,
                deserialize_with = "super::unique::values",
                skip_serializing_if = "BTreeMap::is_empty"
            )]
            #[schema(schema_with = crate::api::schema::pools)]
            pub pools: BTreeMap<ServiceName, Ranges>,
            /// Ranges that are never handed out.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub reserve: Vec<AddrRange>,
            /// Addresses for each node; by default a function of the subnet's size.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub block_size: Option<u64>,
            $(
                #[doc = $about]
                #[serde(default, skip_serializing_if = "is_left_out")]
                #[schema(schema_with = crate::api::schema::option::<$kind>)]
                pub $name: $kind,
            )+
        }

        /// A network.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub struct NetworkAnswer {
            /// What may go wrong with it on the node that answers; only in the answer to its creation.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub warnings: Vec<String>,
            /// Its name.
            pub name: NetworkName,
            /// Its id.
            pub id: NetworkId,
            /// Its number on the wire. Whoever knows it can write into a plain network from the underlay: told to those
            /// only who may write.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub vni: Option<Vni>,
            /// Its subnets.
            pub subnets: Vec<IpNetwork>,
            /// The gateway of the first subnet.
            pub gateway: IpAddr,
            /// The gateway of each subnet, in the order of `subnets`.
            pub gateways: Vec<IpAddr>,
            /// Service to ranges, at most one of each subnet.
            pub pools: BTreeMap<ServiceName, Ranges>,
            /// Ranges that are never handed out.
            pub reserve: Vec<AddrRange>,
            /// Addresses for each node, where it was given.
            pub block_size: Option<u64>,
            $(
                #[doc = $about]
                #[schema(schema_with = crate::api::schema::option::<$kind>)]
                pub $name: $kind,
            )+
            /// When it was created, in milliseconds since 1970 by the creator's clock.
            pub created_ms: u64,
            /// An older network owns the name: this one takes no new endpoints.
            pub conflict: bool,
            /// What nodes have lent of their addresses, and the manager of those that are no node's; lowest first.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub lent: Vec<LentAnswer>,
            /// The path of its namespace on this node, where the node has it.
            pub netns: Option<PathBuf>,
        }

        impl NetworkRequest {
            /// Its options.
            pub fn options(&self) -> NetworkOptions {
                NetworkOptions { $($name: self.$name),+ }
            }

            /// The request that makes a network like this one.
            pub fn from_answer(network: &NetworkAnswer) -> Self {
                Self {
                    subnets: network.subnets.clone(),
                    gateways: network.gateways.clone(),
                    pools: network.pools.clone(),
                    reserve: network.reserve.clone(),
                    block_size: network.block_size,
                    $($name: network.$name,)+
                }
            }

            /// With these options.
            pub fn with(self, options: NetworkOptions) -> Self {
                Self { $($name: options.$name,)+ ..self }
            }
        }

        impl NetworkAnswer {
            /// What there is to say of a network. An option that was left to others stays so: what came of it is for
            /// those to say who know it.
            pub fn new(spec: &NetworkSpec, conflict: bool, netns: Option<PathBuf>) -> Self {
                let NetworkRequest { subnets, gateways, pools, reserve, block_size, $($name),+ } =
                    NetworkRequest::from(spec);
                Self {
                    warnings: Vec::new(),
                    name: spec.name.clone(),
                    id: spec.id,
                    vni: Some(spec.vni),
                    subnets,
                    gateway: spec.gateways[0],
                    gateways,
                    pools,
                    reserve,
                    block_size,
                    $($name,)+
                    created_ms: spec.created_ms,
                    conflict,
                    lent: Vec::new(),
                    netns,
                }
            }
        }
    };
}

network_options!(with_options! {});

/// The request that makes a network like this one.
impl From<&NetworkSpec> for NetworkRequest {
    fn from(spec: &NetworkSpec) -> Self {
        let mut pools: BTreeMap<ServiceName, Ranges> = BTreeMap::new();
        for pool in &spec.pools {
            // Every pool came in through a request, under a service's name.
            if let Ok(service) = ServiceName::new(pool.service.clone()) {
                pools.entry(service).or_default().0.push(pool.range);
            }
        }
        Self {
            subnets: spec.subnets.clone(),
            gateways: spec.gateways.clone(),
            pools,
            reserve: spec.reserved.clone(),
            block_size: spec.block_size,
            ..Self::default()
        }
        .with(spec.options)
    }
}
