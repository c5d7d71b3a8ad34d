//! What holds for every plan and every history.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lanmesh_ipam::{AllocError, Grant, Origin, Owner, foretell};
use proptest::prelude::*;

use crate::model::Model;
use crate::node::{Node, Outcome};
use crate::shape::{Ask, KEYS, Op, SERVICES, Shape, ask, op, shape};

/// Requests of pools and asked addresses, each at most once, so that none stands in another's way.
fn fixed_places(shape: &Shape, v6: bool, asks: &[Ask]) -> Vec<(Ask, IpAddr)> {
    let plan = shape.plan(v6);
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    for ask in asks {
        let pooled = ask.slot.is_some() && ask.service.is_some_and(|service| plan.pool(service).is_some());
        if ask.offset.is_none() && !pooled {
            continue;
        }
        if let Ok(grant) = foretell(&plan, 0, &ask.request(v6))
            && seen.insert(grant.address.ip())
        {
            places.push((ask.clone(), grant.address.ip()));
        }
    }
    places
}

fn granted(outcome: Outcome) -> Option<Grant> {
    match outcome {
        Outcome::Granted(grant) => Some(grant),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn two_nodes_that_know_nothing_of_each_other_never_hand_out_the_same_address_of_a_block(
        shape in shape(), v6: bool, ops in prop::collection::vec((0_u32..4, op()), 1..80)
    ) {
        let mut nodes: Vec<Node> = (0..4).map(|index| Node::new(shape.plan(v6), index)).collect();
        let mut first: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for (index, op) in ops {
            // A hold says what is so; it is not handing out.
            if matches!(op, Op::Hold(..)) {
                continue;
            }
            let Some(grant) = granted(nodes[index as usize].apply(&op)) else { continue };
            let address = grant.address.ip();
            if grant.origin == Origin::Block || matches!(shape.plan(v6).owner(address), Owner::Block(_)) {
                prop_assert_eq!(*first.entry(address).or_insert(index), index, "{} twice", address);
            }
        }
    }

    #[test]
    fn nodes_that_know_of_each_other_share_nothing_but_a_slot_that_moves(
        shape in shape(), v6: bool, asks in prop::collection::vec((0_usize..4, ask()), 1..80)
    ) {
        let mut nodes: Vec<Node> = (0..4).map(|index| Node::new(shape.plan(v6), index)).collect();
        let mut used: BTreeSet<IpAddr> = BTreeSet::new();
        for (index, ask) in asks {
            nodes[index].elsewhere = nodes
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .flat_map(|(_, node)| node.held().into_iter().map(|(address, _)| address))
                .collect();
            let Ok(grant) = nodes[index].allocate(&ask.request(v6)) else { continue };
            let moves = matches!(grant.origin, Origin::Pool { .. }) && ask.slot.is_some();
            prop_assert!(used.insert(grant.address.ip()) || moves, "{} twice", grant.address);
        }
    }

    #[test]
    fn nobody_gets_an_address_that_is_not_for_endpoints_or_is_another_nodes(
        shape in shape(), v6: bool, index in 0_u32..4, ops in prop::collection::vec(op(), 1..60)
    ) {
        let (plan, model) = (shape.plan(v6), Model::new(&shape, v6, index as usize));
        let mut node = Node::new(plan.clone(), index);
        for op in ops {
            let Some(grant) = granted(node.apply(&op)) else { continue };
            let Op::Allocate(ask) = &op else { unreachable!("only an allocation grants") };
            let address = grant.address.ip();
            prop_assert!(plan.subnet().contains(address));
            prop_assert_eq!(grant.address.prefix(), plan.subnet().prefix());
            prop_assert!(!model.forbidden.contains(&address), "{} is forbidden", address);
            prop_assert!(model.block_of(address).is_none_or(|block| block == index as usize));
            if let Owner::Pool(pool) = plan.owner(address) {
                prop_assert_eq!(ask.service, Some(pool.service.as_str()));
            }
            let slot = matches!(grant.origin, Origin::Pool { .. });
            prop_assert!(slot || !node.elsewhere.contains(&address));
        }
    }

    #[test]
    fn every_address_has_exactly_the_owner_that_counting_gives(shape in shape(), v6: bool) {
        let (plan, model) = (shape.plan(v6), Model::new(&shape, v6, 0));
        let mut in_blocks = BTreeMap::<u32, usize>::new();
        for address in (0..shape.size()).map(|offset| crate::shape::address(v6, offset)) {
            let owner = plan.owner(address);
            if let Owner::Block(index) = owner {
                prop_assert_eq!(model.block_of(address), Some(index as usize));
                let block = plan.block(index).expect("it owns an address");
                prop_assert!(block.ranges.iter().any(|range| range.contains(address)));
                *in_blocks.entry(index).or_default() += 1;
            } else {
                prop_assert_eq!(model.block_of(address), None);
                prop_assert_ne!(owner, Owner::Outside);
            }
        }
        prop_assert_eq!(in_blocks.len() as u64, plan.blocks());
        prop_assert!(in_blocks.values().all(|size| *size as u64 == plan.block_size()));
    }

    #[test]
    fn the_same_history_gives_the_same_on_every_machine_and_a_restart_changes_nothing(
        shape in shape(), v6: bool, index in 0_u32..4,
        ops in prop::collection::vec(op(), 1..60), restarts: u64
    ) {
        let (mut one, mut other) = (Node::new(shape.plan(v6), index), Node::new(shape.plan(v6), index));
        for (i, op) in ops.iter().enumerate() {
            prop_assert_eq!(one.apply(op), other.apply(op));
            if restarts >> (i % 64) & 1 == 1 {
                other.restart();
            }
        }
    }

    #[test]
    fn asked_addresses_and_slots_do_not_depend_on_the_order_of_arrival(
        (shape, places, order) in (shape(), any::<bool>(), prop::collection::vec(ask(), 1..60))
            .prop_flat_map(|(shape, v6, asks)| {
                let places = fixed_places(&shape, v6, &asks);
                let order = Just((0..places.len()).collect::<Vec<_>>()).prop_shuffle();
                (Just((shape, v6)), Just(places), order)
            })
    ) {
        let (shape, v6) = shape;
        let mut node = Node::new(shape.plan(v6), 0);
        for at in order {
            let (ask, expected) = &places[at];
            let grant = node.allocate(&ask.request(v6)).expect("stands in nobody's way");
            prop_assert_eq!(grant.address.ip(), *expected);
        }
    }

    #[test]
    fn keys_with_places_of_their_own_do_not_depend_on_the_order_of_arrival(
        shape in shape(), v6: bool, index in 0_u32..4,
        keys in Just(KEYS.to_vec()).prop_shuffle(),
    ) {
        let plan = shape.plan(v6);
        let mut seen = BTreeSet::new();
        let mut node = Node::new(plan.clone(), index);
        // Of the keys that hash to one place, the first in the order of the alphabet.
        let mut alone: Vec<&'static str> = KEYS.to_vec();
        alone.retain(|key| {
            foretell(&plan, index, &Ask::key(key).request(v6)).is_ok_and(|grant| seen.insert(grant.address.ip()))
        });
        for key in keys.into_iter().filter(|key| alone.contains(key)) {
            let ask = Ask::key(key);
            prop_assert_eq!(node.allocate(&ask.request(v6)), foretell(&plan, index, &ask.request(v6)));
        }
    }

    #[test]
    fn an_empty_node_gives_what_was_foretold(shape in shape(), v6: bool, index in 0_u32..4, ask in ask()) {
        let plan = shape.plan(v6);
        let foretold = foretell(&plan, index, &ask.request(v6));
        prop_assert_eq!(Node::new(plan, index).allocate(&ask.request(v6)), foretold);
    }

    #[test]
    fn a_block_hands_out_each_of_its_addresses_once_and_then_says_that_it_is_full(
        shape in shape(), v6: bool, index in 0_u32..4, taken in prop::collection::vec(0_u128..256, 0..8)
    ) {
        let plan = shape.plan(v6);
        let mut node = Node::new(plan.clone(), index);
        let Ok(block) = plan.block(index) else {
            let refused = node.allocate(&Ask::key("a").request(v6));
            let expected = matches!(refused, Err(AllocError::NoBlock { .. }));
            prop_assert!(expected, "{:?}", refused);
            return Ok(());
        };
        node.elsewhere = taken.iter().map(|offset| crate::shape::address(v6, *offset)).collect();
        let lost = node.elsewhere.iter().filter(|a| plan.owner(**a) == Owner::Block(index)).count() as u64;
        let mut got = BTreeSet::new();
        for key in KEYS.iter().cycle().take((plan.block_size() - lost) as usize) {
            let grant = node.allocate(&Ask::key(key).request(v6)).expect("has room");
            prop_assert!(got.insert(grant.address.ip()));
        }
        let full = node.allocate(&Ask::key("a").request(v6));
        let (size, here) = (plan.block_size(), plan.block_size() - lost);
        let (subnet, lent, borrowed) = (plan.subnet(), 0, 0);
        let expected = AllocError::BlockFull { block, subnet, here, elsewhere: lost, lent, size, borrowed };
        prop_assert_eq!(full, Err(expected));
    }

    #[test]
    fn what_is_freed_is_not_lost_and_comes_back_to_its_key(
        shape in shape(), v6: bool, index in 0_u32..4, seed in any::<prop::sample::Index>(), restart: bool
    ) {
        let plan = shape.plan(v6);
        prop_assume!(plan.block(index).is_ok());
        let keys: Vec<String> = (0..plan.block_size()).map(|n| format!("k{n}")).collect();
        let mut node = Node::new(plan.clone(), index);
        let place = |node: &mut Node, key: &str| {
            let request = lanmesh_ipam::Request { key, ..Default::default() };
            node.allocate(&request).map(|grant| grant.address.ip())
        };
        let before: BTreeMap<&str, IpAddr> =
            keys.iter().map(|key| (key.as_str(), place(&mut node, key).expect("has room"))).collect();
        for address in before.values() {
            prop_assert!(node.allocator.release(*address).is_some());
            prop_assert!(node.allocator.release(*address).is_none());
        }
        if restart {
            node.restart();
        }
        // From anywhere in the list: the order of return does not matter.
        let start = seed.index(keys.len());
        for key in keys[start..].iter().chain(&keys[..start]) {
            prop_assert_eq!(place(&mut node, key).ok(), before.get(key.as_str()).copied());
        }
        prop_assert!(place(&mut node, "one more").is_err());
    }

    #[test]
    fn a_freed_address_goes_to_someone_else_only_when_no_other_was_never_used(
        shape in shape(), v6: bool, index in 0_u32..4
    ) {
        let plan = shape.plan(v6);
        prop_assume!(plan.block(index).is_ok());
        let mut node = Node::new(plan.clone(), index);
        let mut order = Vec::new();
        // Each key comes and goes at once: every address is used before the first is used again.
        for n in 0..plan.block_size() * 2 {
            let key = format!("k{n}");
            let request = lanmesh_ipam::Request { key: &key, ..Default::default() };
            let address = node.allocate(&request).expect("is empty").address.ip();
            node.allocator.release(address);
            order.push(address);
        }
        let (first, second) = order.split_at(plan.block_size() as usize);
        prop_assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), first.len());
        prop_assert_eq!(first, second, "the longest freed comes first");
    }

    #[test]
    fn a_full_pool_says_so(shape in shape(), v6: bool, index in 0_u32..4) {
        let plan = shape.plan(v6);
        for service in SERVICES {
            let Some(pool) = plan.pool(service) else { continue };
            let mut node = Node::new(plan.clone(), index);
            let ask = Ask { service: Some(service), ..Ask::key("a") };
            let mut slots = BTreeSet::new();
            let full = loop {
                match node.allocate(&ask.request(v6)) {
                    Ok(Grant { origin: Origin::Pool { slot }, .. }) => prop_assert!(slots.insert(slot)),
                    other => break other,
                }
            };
            let (service, size) = (service.to_owned(), slots.len() as u64);
            prop_assert_eq!(slots.last().map(|slot| u64::from(*slot) + 1), Some(size));
            prop_assert_eq!(full, Err(AllocError::PoolFull { service, pool: pool.range.to_string(), size }));
        }
    }
}
