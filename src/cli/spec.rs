//! The flags that say how a network's addresses are laid out, shared by `network create` and `ipam plan`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use lanmesh_ipam::AddrRange;

use crate::api::ranges::Ranges;
use crate::api::types::NetworkRequest;
use crate::model::ServiceName;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct LayoutArgs {
    /// Addresses set apart for the slots of a service, like web=10.10.0.32/28; one range of each subnet
    #[arg(long = "pool", value_name = "SERVICE=RANGE")]
    pools: Vec<PoolArg>,
    /// Addresses that are never handed out, like 10.10.0.5-10.10.0.9
    #[arg(long, value_name = "RANGE")]
    reserve: Vec<AddrRange>,
    /// A gateway that is not the first address of its subnet
    #[arg(long = "gateway", value_name = "IP")]
    gateways: Vec<IpAddr>,
    /// Addresses for each node, a power of two [default: 16, in a small subnet fewer]
    #[arg(long, value_name = "N")]
    block_size: Option<u64>,
}

#[derive(Debug, Clone)]
struct PoolArg {
    service: ServiceName,
    range: AddrRange,
}

impl FromStr for PoolArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, range) = text.split_once('=').ok_or("write it as SERVICE=RANGE")?;
        let service = service.parse().map_err(|error: crate::model::NameError| error.to_string())?;
        let range = range.parse().map_err(|error: lanmesh_ipam::RangeError| error.to_string())?;
        Ok(Self { service, range })
    }
}

impl LayoutArgs {
    /// The request for a network with these subnets and this layout.
    pub(super) fn request(self, subnets: Vec<IpNetwork>) -> NetworkRequest {
        let mut pools: BTreeMap<ServiceName, Ranges> = BTreeMap::new();
        for PoolArg { service, range } in self.pools {
            pools.entry(service).or_default().0.push(range);
        }
        NetworkRequest {
            subnets,
            gateways: self.gateways,
            pools,
            reserve: self.reserve,
            block_size: self.block_size,
            ..NetworkRequest::default()
        }
    }
}
