//! Values that several rooms' tests start from.

use crate::{NetworkId, NetworkName, NetworkSpec, Vni};

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
