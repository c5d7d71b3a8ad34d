//! Addresses worked out by hand: if one of these changes, every network in the field changes its addresses.
//!
//! Hashes come from a second implementation of the hash in another language. With `%` for the remainder:
//! cc-1 % 16 = 12, % 256 = 252, % 65536 = 35068; cc-2 % 16 = 8; web-1 % 16 = tool % 16 = 4, web-1 % 10 = 2;
//! build-1 % 16 = 10; db % 256 = 209.

use lanmesh_ipam::{
    AddressRequest, Allocator, NetworkConfig, NetworkPlan, Pool, Request, SubnetConfig, SubnetPlan, foretell,
};

fn plain(subnet: &str) -> SubnetPlan {
    SubnetPlan::new(&SubnetConfig {
        subnet: subnet.parse().expect("is well-formed"),
        gateway: None,
        pools: Vec::new(),
        reserved: Vec::new(),
        block_size: None,
    })
    .expect(subnet)
}

fn foretold(plan: &SubnetPlan, index: u32, request: &Request<'_>) -> String {
    foretell(plan, index, request).expect("fits").address.to_string()
}

fn key(key: &str) -> Request<'_> {
    Request { key, ..Request::default() }
}

#[test]
fn a_plain_slash_24_has_fifteen_blocks_of_sixteen() {
    let plan = plain("10.10.0.0/24");
    for (index, block) in
        [(0, "10.10.0.2-10.10.0.17"), (1, "10.10.0.18-10.10.0.33"), (14, "10.10.0.226-10.10.0.241")]
    {
        assert_eq!(plan.block(index).expect("fits").to_string(), block);
    }
    for (index, name, address) in [
        (0, "cc-1", "10.10.0.14/24"),
        (1, "cc-1", "10.10.0.30/24"),
        (2, "cc-2", "10.10.0.42/24"),
        (0, "build-1", "10.10.0.12/24"),
        (14, "build-1", "10.10.0.236/24"),
    ] {
        assert_eq!(foretold(&plan, index, &key(name)), address, "{name} on {index}");
    }
}

#[test]
fn of_two_keys_with_one_place_the_later_gets_the_next() {
    let mut node = Allocator::new(plain("10.10.0.0/24"), 0);
    let mut get = |name| node.allocate(&key(name), |_| false).expect("fits").address.to_string();
    assert_eq!(get("web-1"), "10.10.0.6/24");
    assert_eq!(get("tool"), "10.10.0.7/24");
}

#[test]
fn a_slash_64_gives_each_node_sixteen_bits() {
    let plan = plain("fd00:10::/64");
    // 35068 = 0x88fc, and two addresses come before block 0.
    assert_eq!(foretold(&plan, 0, &key("cc-1")), "fd00:10::88fe/64");
    assert_eq!(foretold(&plan, 1, &key("cc-1")), "fd00:10::1:88fe/64");
    assert_eq!(foretold(&plan, 0x1_0000, &key("cc-1")), "fd00:10::1:0:88fe/64");
}

#[test]
fn pools_and_reservations_shift_the_blocks_behind_them() {
    let plan = SubnetPlan::new(&SubnetConfig {
        subnet: "10.20.0.0/16".parse().expect("is well-formed"),
        gateway: None,
        pools: vec![Pool {
            service: "web".into(),
            range: "10.20.0.10-10.20.0.19".parse().expect("is well-formed"),
        }],
        reserved: vec!["10.20.0.0/29".parse().expect("is well-formed")],
        block_size: None,
    })
    .expect("fits");
    // Left are .8, .9, and everything from .20 on: ordinal n is offset n + 18 from n = 2.
    assert_eq!(plan.block(0).expect("fits").to_string(), "10.20.0.8-10.20.0.9, 10.20.0.20-10.20.1.17");
    assert_eq!(foretold(&plan, 0, &key("cc-1")), "10.20.1.14/16");
    // 256 + 209 + 18 = 483 = 256 + 227
    assert_eq!(foretold(&plan, 1, &key("db")), "10.20.1.227/16");
    let web = |key, slot| Request { key, service: Some("web"), slot, address: None };
    assert_eq!(foretold(&plan, 3, &web("web.3", Some(3))), "10.20.0.13/16");
    assert_eq!(foretold(&plan, 3, &web("web-1", None)), "10.20.0.12/16");
}

#[test]
fn a_dual_stack_endpoint_gets_one_address_of_each() {
    let config = NetworkConfig {
        subnets: vec![
            "10.10.0.0/24".parse().expect("is well-formed"),
            "fd00:10::/64".parse().expect("is well-formed"),
        ],
        ..NetworkConfig::default()
    };
    let plan = NetworkPlan::new(config.split().expect("belongs together")).expect("fits");
    let request = AddressRequest { key: "cc-1", ..AddressRequest::default() };
    let grants = plan.foretell(1, &request).expect("fits");
    let addresses: Vec<_> = grants.iter().map(|grant| grant.address.to_string()).collect();
    assert_eq!(addresses, ["10.10.0.30/24", "fd00:10::1:88fe/64"]);
}
