//! Several subnets at once: an address of each, or of none.

use std::net::IpAddr;

use proptest::prelude::*;

use lanmesh_ipam::{
    AddressRequest, AllocError, Grant, Memory, NetworkAllocator, NetworkConfig, NetworkPlan, Origin, Owner,
    PlanError, Pool, Request, Share,
};

use crate::shape::{address, ask, shape};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("is well-formed")
}

fn nowhere(_: IpAddr) -> bool {
    false
}

/// Blocks of 4: node 0 has .2 to .5 and ::2 to ::5.
fn plan() -> NetworkPlan {
    let pool = |range: &str| Pool { service: "web".into(), range: range.parse().expect("is well-formed") };
    let config = NetworkConfig {
        subnets: vec![
            "10.0.0.0/24".parse().expect("is well-formed"),
            "fd00::/64".parse().expect("is well-formed"),
        ],
        pools: vec![pool("10.0.0.64-10.0.0.67"), pool("fd00::40-fd00::42")],
        block_size: Some(4),
        ..NetworkConfig::default()
    };
    NetworkPlan::new(config.split().expect("belongs together")).expect("fits")
}

fn subnets(texts: &[&str]) -> Result<NetworkPlan, PlanError> {
    let subnets = texts.iter().map(|text| text.parse().expect("is well-formed")).collect();
    NetworkPlan::new(NetworkConfig { subnets, ..NetworkConfig::default() }.split()?)
}

fn ips(grants: &[Grant]) -> Vec<IpAddr> {
    grants.iter().map(|grant| grant.address.ip()).collect()
}

fn asked<'a>(key: &'a str, addresses: &'a [IpAddr]) -> AddressRequest<'a> {
    AddressRequest { key, addresses, ..AddressRequest::default() }
}

#[test]
fn subnets_of_one_network_do_not_overlap() {
    for pair in [["10.0.0.0/16", "10.0.9.0/24"], ["10.0.9.0/24", "10.0.0.0/16"], ["fd00::/64", "fd00::/64"]] {
        assert!(matches!(subnets(&pair), Err(PlanError::SubnetsOverlap { .. })), "{pair:?}");
    }
    assert!(subnets(&["10.0.0.0/24", "10.0.1.0/24", "2000::/3"]).is_ok());
    assert_eq!(NetworkPlan::new([]), Err(PlanError::NoSubnet));
}

#[test]
fn every_address_is_looked_up_in_its_subnet() {
    let plan = plan();
    assert_eq!(plan.gateways().collect::<Vec<_>>(), [ip("10.0.0.1"), ip("fd00::1")]);
    assert_eq!(plan.owner(ip("fd00::1")), Owner::Gateway);
    assert_eq!(plan.owner(ip("10.0.0.6")), Owner::Block(1));
    assert_eq!(plan.owner(ip("10.0.1.6")), Owner::Outside);
    assert_eq!(plan.blocks(), plan.subnets()[0].blocks());
}

#[test]
fn an_asked_address_counts_in_its_subnet_and_the_others_follow_the_rules() {
    let mut node = NetworkAllocator::new(plan(), 0);
    let grants = node.allocate(&asked("a", &[ip("fd00::4")]), nowhere).expect("is free");
    assert_eq!(grants.iter().map(|grant| grant.origin).collect::<Vec<_>>(), [Origin::Block, Origin::Asked]);
    let both = [ip("fd00::3"), ip("10.0.0.4")];
    let grants = node.allocate(&asked("b", &both), nowhere).expect("are free");
    assert_eq!(ips(&grants), [both[1], both[0]], "in the order of the subnets");
}

#[test]
fn asked_addresses_must_have_a_subnet_each() {
    let mut node = NetworkAllocator::new(plan(), 0);
    let error = node.allocate(&asked("a", &[ip("10.9.0.1")]), nowhere).expect_err("is outside").to_string();
    assert!(error.contains("10.9.0.1 is outside 10.0.0.0/24 and fd00::/64"), "{error}");
    let error = node.allocate(&asked("a", &[ip("10.0.0.3"), ip("10.0.0.4")]), nowhere).expect_err("are two");
    assert!(matches!(error, AllocError::AskedTwice { .. }), "{error}");
}

#[test]
fn if_one_subnet_refuses_none_gives_and_the_memory_stays() {
    let mut node = NetworkAllocator::new(plan(), 0);
    let first = ips(&node.allocate(&asked("a", &[]), nowhere).expect("fits"));
    for address in &first {
        assert!(node.release(*address).is_some());
    }
    let memory = node.memory();
    let no_v6 = |address: IpAddr| address.is_ipv6();
    let error = node.allocate(&asked("a", &[]), no_v6).expect_err("has no IPv6");
    assert!(matches!(&error, AllocError::BlockFull { elsewhere: 4, .. }), "{error}");
    assert_eq!(node.memory(), memory);
    assert!(node.subnets().iter().all(|subnet| subnet.held().count() == 0));
    assert_eq!(ips(&node.allocate(&asked("a", &[]), nowhere).expect("fits")), first);
}

#[test]
fn a_service_without_a_slot_gets_one_slot_that_is_free_in_every_pool() {
    let mut node = NetworkAllocator::new(plan(), 0);
    let request = AddressRequest { key: "x", service: Some("web"), ..AddressRequest::default() };
    node.hold(ip("10.0.0.64"), "one").expect("is free");
    node.hold(ip("fd00::42"), "two").expect("is free");
    // Of the slots 0 to 2, which both pools have, 0 and 2 are taken in one of them.
    let grants = node.allocate(&request, nowhere).expect("slot 1 is free");
    assert!(grants.iter().all(|grant| grant.origin == Origin::Pool { slot: 1 }), "{grants:?}");
    assert_eq!(ips(&grants), [ip("10.0.0.65"), ip("fd00::41")]);
    let error = node.allocate(&request, nowhere).expect_err("no slot is left").to_string();
    assert!(error.contains("10.0.0.64-10.0.0.67 and fd00::40-fd00::42"), "{error}");
}

#[test]
fn hold_release_and_memory_reach_every_subnet() {
    let mut node = NetworkAllocator::new(plan(), 0);
    for address in ["10.0.0.2", "fd00::3"] {
        node.hold(ip(address), "a").expect("is free");
        assert_eq!(node.release(ip(address)).expect("is of the block").address, ip(address));
    }
    assert!(matches!(node.hold(ip("10.9.0.1"), "a"), Err(AllocError::Outside { .. })));
    assert_eq!(node.release(ip("10.9.0.1")), None);
    let json = serde_json::to_string(&node.memory()).expect("serializes");
    let memory: Memory = serde_json::from_str(&json).expect("parses");
    let mut again = NetworkAllocator::with_memory(plan(), 0, &Share::default(), &memory);
    assert_eq!(again.memory(), node.memory());
    let grants = again.allocate(&asked("a", &[]), nowhere).expect("fits");
    assert_eq!(ips(&grants), [ip("10.0.0.2"), ip("fd00::3")]);
}

#[test]
fn foretelling_leaves_no_trace_and_comes_true() {
    let plan = plan();
    let request = asked("a", &[]);
    let foretold = plan.foretell(2, &request);
    assert_eq!(plan.foretell(2, &request), foretold);
    assert_eq!(NetworkAllocator::new(plan, 2).allocate(&request, nowhere), foretold);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_network_gives_what_its_subnets_give_or_changes_nothing(
        (first, second) in (shape(), shape()), index in 0_u32..4, asks in prop::collection::vec((ask(), 0_u8..4), 1..60)
    ) {
        let plan = NetworkPlan::new([first.config(false), second.config(true)]).expect("are apart");
        let mut node = NetworkAllocator::new(plan, index);
        let mut apart = node.subnets().to_vec();
        for (ask, which) in asks {
            let on = |bit: u8, v6: bool| {
                ask.offset.filter(|offset| which & bit != 0 && *offset < 4).map(|offset| address(v6, offset))
            };
            let wanted = [on(1, false), on(2, true)];
            let addresses: Vec<IpAddr> = wanted.iter().flatten().copied().collect();
            // One slot for two pools is a rule of the network; it has a test of its own.
            let slot = Some(ask.slot.unwrap_or(0));
            let request = AddressRequest { key: ask.key, service: ask.service, slot, addresses: &addresses };
            let mut tried = apart.clone();
            let mut grants = Ok(Vec::new());
            for (subnet, address) in tried.iter_mut().zip(wanted) {
                let request = Request { key: ask.key, service: ask.service, slot, address };
                grants = grants.and_then(|mut grants: Vec<Grant>| {
                    grants.push(subnet.allocate(&request, nowhere)?);
                    Ok(grants)
                });
            }
            if grants.is_ok() {
                apart = tried;
            }
            prop_assert_eq!(node.allocate(&request, nowhere), grants);
            for (subnet, apart) in node.subnets().iter().zip(&apart) {
                prop_assert!(subnet.held().eq(apart.held()));
                prop_assert_eq!(subnet.memory(), apart.memory());
            }
            // Something goes again now and then, so that there is a memory.
            let first = apart[0].held().next().map(|(address, _)| address);
            if let Some(address) = first.filter(|_| which == 3) {
                prop_assert_eq!(node.release(address), apart[0].release(address));
            }
        }
    }
}
