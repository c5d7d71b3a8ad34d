//! Tests of the plan of one subnet.

use super::*;

fn config(subnet: &str) -> SubnetConfig {
    SubnetConfig {
        subnet: subnet.parse().unwrap(),
        gateway: None,
        pools: Vec::new(),
        reserved: Vec::new(),
        block_size: None,
    }
}

fn pool(service: &str, range: &str) -> Pool {
    Pool { service: service.to_owned(), range: range.parse().unwrap() }
}

fn plan(subnet: &str) -> SubnetPlan {
    SubnetPlan::new(&config(subnet)).expect(subnet)
}

fn refused(config: &SubnetConfig) -> String {
    SubnetPlan::new(config).expect_err("is refused").to_string()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_gateway_is_the_first_address_that_is_not_set_apart() {
    for (subnet, gateway) in [
        ("10.0.0.77/24", "10.0.0.1"),
        ("10.0.0.4/30", "10.0.0.5"),
        ("10.0.0.4/31", "10.0.0.4"),
        ("fd00::/64", "fd00::1"),
        ("fd00::/126", "fd00::1"),
        ("fd00::2/127", "fd00::2"),
        ("0.0.0.0/0", "0.0.0.1"),
        ("::/0", "::1"),
    ] {
        assert_eq!(plan(subnet).gateway(), ip(gateway), "{subnet}");
    }
}

#[test]
fn the_default_block_size_follows_what_is_left_for_blocks() {
    for (subnet, size, blocks) in [
        ("10.0.0.0/31", 1, 1),
        ("10.0.0.0/30", 1, 1),
        ("10.0.0.0/29", 4, 1),
        ("10.0.0.0/28", 4, 3),
        ("10.0.0.0/24", 16, 15),
        ("10.0.0.0/20", 64, 63),
        ("10.0.0.0/16", 256, 255),
        ("10.0.0.0/8", 4096, 4095),
        ("fd00::/126", 2, 1),
        ("fd00::/112", 256, 255),
        ("fd00::/96", 65_536, 65_535),
        ("fd00::/64", 65_536, 1 << 32),
        ("::/0", 65_536, 1 << 32),
    ] {
        let plan = plan(subnet);
        assert_eq!((plan.block_size(), plan.blocks()), (size, blocks), "{subnet}");
    }
    // 53 addresses are left, which 6 bits number.
    let crowded =
        SubnetConfig { reserved: vec!["10.0.0.2-10.0.0.201".parse().unwrap()], ..config("10.0.0.0/24") };
    assert_eq!(SubnetPlan::new(&crowded).expect("fits").block_size(), 8);
}

#[test]
fn a_plan_may_leave_nothing_for_blocks() {
    let pools = vec![pool("web", "10.0.0.2-10.0.0.6")];
    let plan = SubnetPlan::new(&SubnetConfig { pools, ..config("10.0.0.0/29") }).expect("is all pool");
    assert_eq!((plan.dynamic(), plan.blocks()), (0, 0));
    let error = plan.block(0).expect_err("has none").to_string();
    assert!(error.contains("0 nodes fit"), "{error}");
}

#[test]
fn blocks_skip_what_is_set_apart_and_the_rest_belongs_to_nobody() {
    let plan = SubnetPlan::new(&SubnetConfig {
        gateway: Some(ip("10.0.0.6")),
        pools: vec![pool("web", "10.0.0.3-10.0.0.4")],
        reserved: vec!["10.0.0.11".parse().unwrap(), "10.0.0.11-10.0.0.12".parse().unwrap()],
        block_size: Some(4),
        ..config("10.0.0.0/28")
    })
    .expect("fits");
    assert_eq!(plan.block(0).unwrap().to_string(), "10.0.0.1-10.0.0.2, 10.0.0.5, 10.0.0.7");
    assert_eq!(plan.block(1).unwrap().to_string(), "10.0.0.8-10.0.0.10, 10.0.0.13");
    assert_eq!((plan.dynamic(), plan.blocks()), (9, 2));
    let web = &plan.pools()[0];
    let reserved = |i: usize| Owner::Reserved(plan.reserved()[i]);
    for (address, owner) in [
        ("9.255.255.255", Owner::Outside),
        ("10.0.0.0", Owner::Network),
        ("10.0.0.2", Owner::Block(0)),
        ("10.0.0.3", Owner::Pool(web)),
        ("10.0.0.6", Owner::Gateway),
        ("10.0.0.11", reserved(0)),
        ("10.0.0.12", reserved(1)),
        ("10.0.0.13", Owner::Block(1)),
        ("10.0.0.14", Owner::Rest),
        ("10.0.0.15", Owner::Broadcast),
        ("10.0.0.16", Owner::Outside),
        ("::10.0.0.2", Owner::Outside),
    ] {
        assert_eq!(plan.owner(ip(address)), owner, "{address}");
    }
}

#[test]
fn the_last_block_of_a_large_subnet_costs_no_more_than_the_first() {
    let plan = plan("fd00::/64");
    assert_eq!(plan.block(0).unwrap().to_string(), "fd00::2-fd00::1:1");
    assert_eq!(plan.block(u32::MAX).unwrap().to_string(), "fd00::ffff:ffff:2-fd00::1:0:0:1");
    assert_eq!(plan.owner(ip("fd00::1:0:0:1")), Owner::Block(u32::MAX));
    assert_eq!(plan.owner(ip("fd00::1:0:0:2")), Owner::Rest);
    assert_eq!(plan.owner(ip("fd00::ffff:ffff:ffff:ffff")), Owner::Rest);
}

#[test]
fn a_node_without_a_block_is_told_how_many_fit_and_what_to_change() {
    let error = plan("10.0.0.0/24").block(15).expect_err("is the sixteenth").to_string();
    for part in ["index 15", "10.0.0.0/24", "15 nodes fit", "16 addresses each", "--block-size"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_subnet_of_one_address_is_too_small() {
    assert!(refused(&config("10.0.0.1/32")).contains("/31"));
    assert!(refused(&config("fd00::1/128")).contains("/127"));
}

#[test]
fn a_gateway_must_be_an_address_that_can_be_had() {
    let with = |subnet, gateway| SubnetConfig { gateway: Some(ip(gateway)), ..config(subnet) };
    for (subnet, gateway, part) in [
        ("10.0.0.0/24", "10.0.1.1", "the gateway 10.0.1.1 is outside 10.0.0.0/24"),
        ("10.0.0.0/24", "fd00::1", "the gateway fd00::1 is outside"),
        ("10.0.0.0/24", "10.0.0.0", "the network address 10.0.0.0"),
        ("10.0.0.0/24", "10.0.0.255", "the broadcast address 10.0.0.255"),
        ("fd00::/64", "fd00::", "the subnet-router anycast address fd00::"),
    ] {
        let error = refused(&with(subnet, gateway));
        assert!(error.contains(part) && error.contains("choose"), "{error}");
    }
    // IPv6 has no broadcast.
    assert!(SubnetPlan::new(&with("fd00::/126", "fd00::3")).is_ok());
}

#[test]
fn pools_and_reservations_lie_in_the_subnet_and_pools_apart_from_everything() {
    let with = |pools: &[(&str, &str)], reserved: &[&str]| SubnetConfig {
        pools: pools.iter().map(|(service, range)| pool(service, range)).collect(),
        reserved: reserved.iter().map(|range| range.parse().unwrap()).collect(),
        ..config("10.0.0.0/24")
    };
    for (config, part) in [
        (with(&[("a", "10.0.0.250-10.0.1.3")], &[]), "the pool a=10.0.0.250-10.0.1.3 is outside 10.0.0.0/24"),
        (with(&[], &["10.0.1.3"]), "the reservation 10.0.1.3 is outside"),
        (with(&[("a", "fd00::1")], &[]), "outside"),
        (with(&[("a", "10.0.0.0/28")], &[]), "takes the network address 10.0.0.0"),
        (with(&[("a", "10.0.0.240/28")], &[]), "takes the broadcast address 10.0.0.255"),
        (with(&[("a", "10.0.0.1-10.0.0.9")], &[]), "overlaps the gateway 10.0.0.1"),
        (with(&[("a", "10.0.0.8/29"), ("b", "10.0.0.15-10.0.0.20")], &[]), "overlaps the pool a="),
        (with(&[("a", "10.0.0.8/29")], &["10.0.0.2", "10.0.0.10"]), "overlaps the reservation 10.0.0.10"),
        (with(&[("a", "10.0.0.8/29"), ("a", "10.0.0.16/29")], &[]), "the service a has two pools"),
    ] {
        let error = refused(&config);
        assert!(error.contains(part), "{error}");
    }
    // Reservations only ever take away, so they may overlap anything but a pool.
    assert!(SubnetPlan::new(&with(&[], &["10.0.0.0/28", "10.0.0.8-10.0.0.40", "10.0.0.255"])).is_ok());
}

#[test]
fn a_block_size_is_at_least_one_and_at_most_what_is_left() {
    let with = |subnet, size| SubnetConfig { block_size: Some(size), ..config(subnet) };
    assert!(refused(&with("10.0.0.0/24", 0)).contains("block size of 0"));
    assert!(SubnetPlan::new(&with("10.0.0.0/24", 253)).is_ok());
    let error = refused(&with("10.0.0.0/24", 254));
    assert!(error.contains("254") && error.contains("253 addresses"), "{error}");
    assert!(SubnetPlan::new(&with("fd00::/64", MAX_BLOCK_SIZE)).is_ok());
    let error = refused(&with("fd00::/64", MAX_BLOCK_SIZE + 1));
    assert!(error.contains("at most 1048576"), "{error}");
}
