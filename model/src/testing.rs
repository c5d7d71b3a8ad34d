//! Values that several rooms' tests start from.

use ipnetwork::IpNetwork;

use crate::{Endpoint, EndpointName, Mac, NetworkId, NetworkName, NetworkSpec, Vni};

/// A plain network `net` with the subnet 10.10.0.0/24.
pub fn network(id: NetworkId) -> NetworkSpec {
    NetworkSpec {
        id,
        name: NetworkName::new("net").expect("a name"),
        vni: Vni::pick(&id, |_| false).expect("is free"),
        subnets: vec!["10.10.0.0/24".parse().expect("a subnet")],
        gateways: vec![[10, 10, 0, 1].into()],
        pools: Vec::new(),
        reserved: Vec::new(),
        block_size: None,
        options: Default::default(),
        created_ms: 0,
    }
}

/// An endpoint of no service that has these addresses, at least one, and claims them for the first time.
pub fn endpoint(name: &str, addresses: impl IntoIterator<Item = IpNetwork>) -> Endpoint {
    let addresses: Vec<IpNetwork> = addresses.into_iter().collect();
    Endpoint {
        name: EndpointName::new(name).expect("a name"),
        service: None,
        slot: None,
        aliases: Vec::new(),
        mac: Mac::of_endpoint(addresses.first().expect("an address").ip()),
        addresses,
        services: Vec::new(),
        claim: 1,
        took_ms: None,
    }
}
