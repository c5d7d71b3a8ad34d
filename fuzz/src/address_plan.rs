//! A network's address plan: of every spec that is accepted, the addresses are as promised.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lanmesh_ipam::{
    AddrRange, Grant, NetworkAllocator, NetworkConfig, NetworkPlan, AddressRequest, Owner, Pool,
};

/// Two nodes of one network never hand out one address, and none that is reserved or the gateway's; what is given
/// back is given again; the same request gives the same address.
pub fn run(input: &[u8]) {
    let Ok(config) = serde_json::from_slice::<NetworkConfig>(input) else { return };
    let Ok(plan) = config.split().and_then(NetworkPlan::new) else { return };
    let asked = config.reserved.iter().map(AddrRange::first).take(1).collect::<Vec<_>>();
    let service = config.pools.first().map(|pool| pool.service.clone());
    let requests = [
        AddressRequest { key: "name/a", service: None, slot: None, addresses: &[] },
        AddressRequest { key: "name/b", service: None, slot: None, addresses: &asked },
        AddressRequest { key: "slot", service: service.as_deref(), slot: Some(0), addresses: &[] },
    ];
    let gateways: BTreeSet<IpAddr> = plan.gateways().collect();
    let mut blocks: BTreeSet<IpAddr> = BTreeSet::new();
    for index in [0, 1, 7, u32::MAX] {
        let mut node = NetworkAllocator::new(plan.clone(), index);
        for request in &requests {
            let before = node.clone().allocate(request, |_| false);
            let Ok(grants) = node.allocate(request, |_| false) else { continue };
            assert_eq!(before.as_ref(), Ok(&grants), "the same request, another address");
            check(&plan, &grants, &gateways);
            if request.addresses.is_empty() && request.service.is_none() {
                for grant in &grants {
                    assert!(blocks.insert(grant.address.ip()), "{} of two nodes", grant.address);
                    assert!(
                        matches!(plan.owner(grant.address.ip()), Owner::Block(block) if block == index),
                        "{} is not in the block of {index}",
                        grant.address
                    );
                }
            }
        }
        let held: Vec<IpAddr> =
            node.subnets().iter().flat_map(|subnet| subnet.held().map(|(ip, _)| ip)).collect();
        for address in held {
            node.release(address);
        }
        assert!(node.subnets().iter().all(|subnet| subnet.held().count() == 0));
    }
}

fn check(plan: &NetworkPlan, grants: &[Grant], gateways: &BTreeSet<IpAddr>) {
    assert_eq!(grants.len(), plan.subnets().len(), "an address of each subnet");
    for (grant, subnet) in grants.iter().zip(plan.subnets()) {
        let ip = grant.address.ip();
        assert!(subnet.subnet().contains(ip), "{ip} is outside");
        assert_eq!(grant.address.prefix(), subnet.subnet().prefix());
        assert!(!gateways.contains(&ip), "{ip} is the gateway");
    }
}

/// Specs of both families with everything in them.
pub fn seeds() -> Vec<Vec<u8>> {
    let range = |text: &str| text.parse::<AddrRange>().expect("a range");
    let subnet = |text: &str| text.parse().expect("a subnet");
    let config = |subnets: &[&str]| NetworkConfig {
        subnets: subnets.iter().copied().map(subnet).collect(),
        ..NetworkConfig::default()
    };
    let full = NetworkConfig {
        gateways: vec![[10, 10, 0, 9].into()],
        pools: vec![Pool { service: "web".to_owned(), range: range("10.10.0.32-10.10.0.47") }],
        reserved: vec![range("10.10.0.200/29"), range("fd00::20-fd00::2f")],
        block_size: Some(8),
        ..config(&["10.10.0.0/24", "fd00::/64"])
    };
    let configs = [full, config(&["10.0.0.0/8"]), config(&["10.0.0.0/30"]), config(&["fd00::/126", "10.1.0.0/16"])];
    configs.iter().map(|config| serde_json::to_vec(config).expect("plain values")).collect()
}
