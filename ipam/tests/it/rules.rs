//! One rule, one test: which address is granted, which is refused, and what the refusal says.

use std::net::IpAddr;

use lanmesh_ipam::{
    AllocError, Allocator, Freed, Grant, Memory, Origin, Pool, Request, Share, SubnetConfig, SubnetPlan,
    endpoint_key,
};

/// Blocks of 8: node 0 has .2 and .3 and .8 to .13, node 1 has .14 to .21, and so on.
fn plan() -> SubnetPlan {
    SubnetPlan::new(&SubnetConfig {
        subnet: "10.0.0.0/24".parse().expect("is well-formed"),
        gateway: None,
        pools: vec![Pool {
            service: "web".into(),
            range: "10.0.0.4-10.0.0.6".parse().expect("is well-formed"),
        }],
        reserved: vec!["10.0.0.7".parse().expect("is well-formed")],
        block_size: Some(8),
    })
    .expect("fits")
}

fn node() -> Allocator {
    Allocator::new(plan(), 0)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("is well-formed")
}

fn nowhere(_: IpAddr) -> bool {
    false
}

fn key(key: &str) -> Request<'_> {
    Request { key, ..Request::default() }
}

fn asked<'a>(key: &'a str, address: &str) -> Request<'a> {
    Request { key, address: Some(ip(address)), ..Request::default() }
}

fn web(key: &str, slot: Option<u32>) -> Request<'_> {
    Request { key, service: Some("web"), slot, address: None }
}

fn refusal(result: Result<Grant, AllocError>, parts: &[&str]) {
    let error = result.expect_err("is refused").to_string();
    for part in parts {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

#[test]
fn an_asked_address_is_granted_in_the_own_block_and_behind_all_blocks() {
    let mut node = node();
    for address in ["10.0.0.9", "10.0.0.254"] {
        let grant = node.allocate(&asked("a", address), nowhere).expect(address);
        assert_eq!(grant.address.to_string(), format!("{address}/24"));
        assert_eq!(grant.origin, Origin::Asked);
    }
}

#[test]
fn an_asked_address_that_nobody_can_have_is_refused_by_what_it_is() {
    for (address, what) in [
        ("10.0.0.0", "the network address"),
        ("10.0.0.255", "the broadcast address"),
        ("10.0.0.1", "the gateway"),
        ("10.0.0.7", "the reservation 10.0.0.7"),
        ("10.0.1.1", "outside 10.0.0.0/24"),
        ("fd00::1", "outside 10.0.0.0/24"),
    ] {
        refusal(node().allocate(&asked("a", address), nowhere), &[address, what, "ask for"]);
    }
}

#[test]
fn an_asked_address_in_another_nodes_block_is_refused_with_that_block() {
    let parts = ["10.0.0.14", "10.0.0.14-10.0.0.21", "node index 1", "this node has index 0"];
    refusal(node().allocate(&asked("a", "10.0.0.14"), nowhere), &parts);
}

#[test]
fn an_asked_address_in_a_pool_is_for_its_service_alone() {
    refusal(node().allocate(&asked("a", "10.0.0.5"), nowhere), &["web=10.0.0.4-10.0.0.6", "--service web"]);
    let db = Request { service: Some("db"), ..asked("a", "10.0.0.5") };
    refusal(node().allocate(&db, nowhere), &["--service web"]);
    let web = Request { service: Some("web"), ..asked("a", "10.0.0.5") };
    assert_eq!(node().allocate(&web, nowhere).expect("is free").origin, Origin::Asked);
}

#[test]
fn an_asked_address_in_use_is_refused_with_who_has_it() {
    let mut node = node();
    node.allocate(&asked("a", "10.0.0.9"), nowhere).expect("is free");
    refusal(node.allocate(&asked("b", "10.0.0.9"), nowhere), &["10.0.0.9", "on this node by \"a\""]);
    refusal(node.allocate(&asked("a", "10.0.0.9"), nowhere), &["by \"a\""]);
    refusal(node.allocate(&asked("b", "10.0.0.10"), |_| true), &["10.0.0.10", "on another node"]);
}

#[test]
fn a_slot_counts_from_the_pools_first_address() {
    let mut node = node();
    for (slot, address) in [(0, "10.0.0.4/24"), (2, "10.0.0.6/24")] {
        let grant = node.allocate(&web("x", Some(slot)), nowhere).expect("is free");
        assert_eq!((grant.address.to_string().as_str(), grant.origin), (address, Origin::Pool { slot }));
    }
    refusal(
        node.allocate(&web("x", Some(3)), nowhere),
        &["slot 3", "10.0.0.4-10.0.0.6", "3 slots", "below 3"],
    );
    refusal(node.allocate(&web("y", Some(0)), nowhere), &["10.0.0.4", "by \"x\"", "slot"]);
}

#[test]
fn a_slot_moves_from_another_node_but_a_free_one_is_looked_for_where_nobody_is() {
    let taken = |address| address != ip("10.0.0.5");
    assert!(node().allocate(&web("web.0", Some(0)), taken).is_ok());
    for key in ["a", "b", "c", "d"] {
        let grant = node().allocate(&web(key, None), taken).expect("one is free");
        assert_eq!(grant.origin, Origin::Pool { slot: 1 });
    }
    refusal(node().allocate(&web("a", None), |_| true), &["web=10.0.0.4-10.0.0.6", "3 of 3", "--pool"]);
}

#[test]
fn a_service_without_a_pool_lives_in_the_block() {
    let db = Request { key: "db.7", service: Some("db"), slot: Some(7), address: None };
    assert_eq!(node().allocate(&db, nowhere).expect("fits").origin, Origin::Block);
}

#[test]
fn a_node_without_a_block_still_grants_slots_and_asked_addresses() {
    let mut node = Allocator::new(plan(), 99);
    assert!(node.allocate(&web("web.1", Some(1)), nowhere).is_ok());
    assert!(node.allocate(&asked("a", "10.0.0.254"), nowhere).is_ok());
    refusal(node.allocate(&key("a"), nowhere), &["index 99", "31 nodes fit", "8 addresses", "--block-size"]);
}

#[test]
fn a_key_gets_its_address_again_even_if_another_came_in_between() {
    let mut node = node();
    let first = node.allocate(&key("a"), nowhere).expect("fits");
    node.release(first.address.ip()).expect("was in use");
    let other = node.allocate(&key("b"), nowhere).expect("fits");
    assert_ne!(first.address, other.address);
    assert_eq!(node.allocate(&key("a"), nowhere), Ok(first));
}

#[test]
fn one_key_may_have_several_addresses_and_gets_the_last_freed_first() {
    let mut node = node();
    let [one, two] = [(); 2].map(|()| node.allocate(&key("a"), nowhere).expect("fits"));
    assert_ne!(one.address, two.address);
    node.release(two.address.ip());
    node.release(one.address.ip());
    assert_eq!(node.allocate(&key("a"), nowhere), Ok(one));
    assert_eq!(node.allocate(&key("a"), nowhere), Ok(two));
}

#[test]
fn a_full_block_says_how_full_and_what_to_change() {
    let mut node = node();
    let elsewhere = |address| address == ip("10.0.0.12") || address == ip("10.0.0.200");
    for n in 0..7 {
        node.allocate(&key(&format!("k{n}")), elsewhere).expect("has room");
    }
    let parts =
        ["10.0.0.2-10.0.0.3, 10.0.0.8-10.0.0.13", "index 0 is full", "7 of 8", "1 on others", "--block-size"];
    refusal(node.allocate(&key("more"), elsewhere), &parts);
}

#[test]
fn a_large_block_fills_to_its_last_address() {
    let config = SubnetConfig {
        subnet: "fd00::/64".parse().expect("is a subnet"),
        gateway: None,
        pools: Vec::new(),
        reserved: Vec::new(),
        block_size: None,
    };
    let mut node = Allocator::new(SubnetPlan::new(&config).expect("fits"), 5);
    // Few keys, so that most places are found by going on from the hash.
    for n in 0..65_536 {
        node.allocate(&key(&format!("k{}", n % 100)), nowhere).expect("has room");
    }
    assert_eq!(node.held().count(), 65_536, "each was granted once");
    let parts = ["fd00::5:2-fd00::6:1", "65536 of 65536", "0 on others"];
    refusal(node.allocate(&key("more"), nowhere), &parts);
}

#[test]
fn what_is_held_is_not_handed_out_and_keeps_its_key() {
    let mut node = node();
    for n in [2, 3, 8, 9, 10, 11, 12, 13] {
        node.hold(ip(&format!("10.0.0.{n}")), &format!("k{n}")).expect("is free");
    }
    assert!(matches!(node.allocate(&key("a"), nowhere), Err(AllocError::BlockFull { here: 8, .. })));
    node.hold(ip("10.0.0.9"), "k9").expect("is the same again");
    assert!(matches!(node.hold(ip("10.0.0.9"), "other"), Err(AllocError::InUse { .. })));
    assert!(matches!(node.hold(ip("10.9.0.9"), "a"), Err(AllocError::Outside { .. })));
    // Of another node's block: it was granted under another index, and is still in use.
    node.hold(ip("10.0.0.20"), "old").expect("is so");
    assert_eq!(node.held().count(), 9);
    let freed = node.release(ip("10.0.0.9")).expect("is of the block");
    assert_eq!((freed.key.as_str(), freed.address), ("k9", ip("10.0.0.9")));
    assert_eq!(node.release(ip("10.0.0.20")), None);
}

#[test]
fn a_memory_kept_entry_by_entry_is_the_same_as_one_kept_whole() {
    let mut node = node();
    let mut kept: Vec<Freed> = Vec::new();
    for (take, key_of) in
        [(true, "a"), (true, "b"), (false, "a"), (true, "c"), (false, "b"), (true, "a"), (false, "c")]
    {
        if take {
            let grant = node.allocate(&key(key_of), nowhere).expect("has room");
            kept.retain(|freed| freed.address != grant.address.ip());
        } else {
            let held = node.held().find(|(_, key)| *key == key_of).map(|(address, _)| address);
            kept.extend(node.release(held.expect("has one")));
        }
    }
    kept.reverse();
    let again = Allocator::with_memory(plan(), 0, &Share::default(), &Memory { freed: kept });
    assert_eq!(again.memory(), node.memory());
}

#[test]
fn a_memory_of_another_block_is_ignored() {
    let freed = |address, order| Freed { address: ip(address), key: "a".into(), order };
    let memory = Memory { freed: vec![freed("10.0.0.20", 0), freed("fd00::1", 1), freed("10.0.0.8", 2)] };
    let kept = Allocator::with_memory(plan(), 0, &Share::default(), &memory).memory();
    assert_eq!(kept.freed, [freed("10.0.0.8", 2)]);
}

#[test]
fn a_memory_is_plain_json() {
    let memory = Memory { freed: vec![Freed { address: ip("10.0.0.8"), key: "a".into(), order: 4 }] };
    let json = r#"[{"address":"10.0.0.8","key":"a","order":4}]"#;
    assert_eq!(serde_json::to_string(&memory).expect("serializes"), json);
    assert_eq!(serde_json::from_str::<Memory>(json).expect("parses"), memory);
}

#[test]
fn the_key_is_the_slot_of_a_service_or_else_the_name() {
    for (service, slot, key) in
        [(None, None, "x"), (Some("web"), Some(3), "web.3"), (Some("web"), None, "x"), (None, Some(3), "x")]
    {
        assert_eq!(endpoint_key("x", service, slot), key);
    }
}
