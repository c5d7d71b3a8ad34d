//! Blocks that are lent, by nodes that crash and are cut off, over a network that loses, repeats and delays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lanmesh_ipam::{
    AddrRange, Allocator, Borrower, Memory, Origin, Request, Share, SubnetConfig, SubnetPlan, unowned, wanted,
};
use proptest::prelude::*;

fn plan(subnet: &str, block_size: Option<u64>) -> SubnetPlan {
    let subnet = subnet.parse().expect("is a subnet");
    let (gateway, pools, reserved) = (None, Vec::new(), Vec::new());
    SubnetPlan::new(&SubnetConfig { subnet, gateway, pools, reserved, block_size }).expect("fits")
}

#[derive(Debug, Clone)]
enum Message {
    Ask {
        from: usize,
        to: usize,
        number: u64,
        wanted: u64,
    },
    Answer {
        from: usize,
        to: usize,
        number: u64,
        range: Option<AddrRange>,
    },
    Return {
        from: usize,
        to: usize,
        number: u64,
    },
    Narrow {
        from: usize,
        to: usize,
        number: u64,
        range: AddrRange,
    },
    /// What a lender says of its loans to a node, as a fact: only newer ones count.
    Said {
        from: usize,
        to: usize,
        version: u64,
        numbers: Vec<u64>,
    },
}

/// A node: all but what `borrower` waits for survives a crash.
struct Node {
    borrower: Borrower<(usize, AddrRange)>,
    loans: BTreeMap<u64, (usize, AddrRange)>,
    version: u64,
    endpoints: BTreeMap<IpAddr, String>,
    heard: BTreeMap<usize, u64>,
}

/// Nodes whose indexes are their places; the first keeps the blocks that are no node's.
struct World {
    plan: SubnetPlan,
    nodes: Vec<Node>,
    wire: Vec<Message>,
    numbers: u64,
}

impl World {
    fn new(plan: SubnetPlan, nodes: usize) -> Self {
        let node = || Node {
            borrower: Borrower::new(BTreeMap::new()),
            loans: BTreeMap::new(),
            version: 0,
            endpoints: BTreeMap::new(),
            heard: BTreeMap::new(),
        };
        Self { plan, nodes: (0..nodes).map(|_| node()).collect(), wire: Vec::new(), numbers: 0 }
    }

    fn share(&self, n: usize) -> Share {
        let node = &self.nodes[n];
        Share {
            lent: node.loans.values().map(|(_, range)| *range).collect(),
            borrowed: node.borrower.has().values().map(|(_, range)| *range).collect(),
        }
    }

    fn allocator(&self, n: usize) -> Allocator {
        let share = self.share(n);
        let mut allocator = Allocator::with_memory(self.plan.clone(), n as u32, &share, &Memory::default());
        for (address, key) in &self.nodes[n].endpoints {
            allocator.hold(*address, key).expect("was given to it");
        }
        allocator
    }

    /// Whether the node got an address. Nobody is asked what others use: the loans alone keep them apart.
    fn attach(&mut self, n: usize, key: &str) -> bool {
        let mut allocator = self.allocator(n);
        let Ok(grant) = allocator.allocate(&Request { key, ..Request::default() }, |_| false) else {
            return false;
        };
        self.nodes[n].endpoints.insert(grant.address.ip(), key.to_owned());
        true
    }

    fn ask(&mut self, n: usize, lender: usize) {
        self.numbers += 1;
        let number = self.numbers;
        let wanted = wanted(self.nodes[n].endpoints.len() as u64);
        self.nodes[n].borrower.asks(number);
        self.wire.push(Message::Ask { from: n, to: lender, number, wanted });
    }

    /// What a node lends to another, as the first does of the blocks of nobody.
    fn lend(&mut self, lender: usize, to: usize, number: u64, wanted: u64) -> Option<AddrRange> {
        let loans = &self.nodes[lender].loans;
        if let Some((borrower, range)) = loans.get(&number) {
            return (*borrower == to).then_some(*range);
        }
        let busy: Vec<AddrRange> = loans.values().map(|(_, range)| *range).collect();
        let is_owned = |index| (index as usize) < self.nodes.len();
        let of_nobody = (lender == 0).then(|| unowned(&self.plan, is_owned, &busy, wanted)).flatten();
        let own = || (lender != to).then(|| self.allocator(lender).spare(wanted, [])).flatten();
        let range = of_nobody.or_else(own)?;
        let node = &mut self.nodes[lender];
        node.loans.insert(number, (to, range));
        node.version += 1;
        Some(range)
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask { from, to, number, wanted } => {
                let range = self.lend(to, from, number, wanted);
                self.wire.push(Message::Answer { from: to, to: from, number, range });
            }
            Message::Answer { from, to, number, range } => match range {
                Some(range) => drop(self.nodes[to].borrower.takes(number, (from, range))),
                None if self.nodes[to].borrower.is_asking(number) => self.nodes[to].borrower.gives_up(),
                None => {}
            },
            Message::Return { from, to, number } => {
                let node = &mut self.nodes[to];
                if node.loans.get(&number).is_some_and(|(borrower, _)| *borrower == from) {
                    node.loans.remove(&number);
                    node.version += 1;
                }
            }
            Message::Narrow { from, to, number, range } => {
                let node = &mut self.nodes[to];
                if let Some((borrower, lent)) = node.loans.get_mut(&number)
                    && *borrower == from
                    && let Some(narrower) = lent.intersection(&range)
                {
                    *lent = narrower;
                    node.version += 1;
                }
            }
            Message::Said { from, to, version, numbers } => {
                let node = &mut self.nodes[to];
                if node.heard.get(&from).is_some_and(|heard| *heard > version) {
                    return;
                }
                node.heard.insert(from, version);
                let strays: Vec<u64> = node.borrower.strays(numbers.into_iter()).collect();
                let back = strays.into_iter().map(|number| Message::Return { from: to, to: from, number });
                self.wire.extend(back);
            }
        }
    }

    /// Every lender says what it lent.
    fn say(&mut self, from: usize, to: usize) {
        let Node { loans, version, .. } = &self.nodes[from];
        let numbers = loans.iter().filter(|(_, (borrower, _))| *borrower == to).map(|(number, _)| *number);
        self.wire.push(Message::Said { from, to, version: *version, numbers: numbers.collect() });
    }

    /// What has no endpoint in it goes back.
    fn give_back(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let is_empty = |range: &AddrRange| !node.endpoints.keys().any(|address| range.contains(*address));
        let empty = node.borrower.has().iter().filter(|(_, (_, range))| is_empty(range));
        for number in empty.map(|(number, _)| *number).collect::<Vec<_>>() {
            if let Some((lender, _)) = node.borrower.drops(number) {
                self.wire.push(Message::Return { from: n, to: lender, number });
            }
        }
    }

    /// What is not between two addresses in use goes back.
    fn narrow(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        for (number, (lender, range)) in node.borrower.has().clone() {
            let used: Vec<IpAddr> =
                node.endpoints.keys().copied().filter(|address| range.contains(*address)).collect();
            let (Some(first), Some(last)) = (used.first(), used.last()) else { continue };
            let range = AddrRange::new(*first, *last).expect("are in order");
            node.borrower.narrows(number, (lender, range));
            self.wire.push(Message::Narrow { from: n, to: lender, number, range });
        }
    }

    fn crash(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.borrower = Borrower::new(node.borrower.has().clone());
    }

    /// What each node may give to its endpoints.
    fn usable(&self, n: usize) -> Vec<IpAddr> {
        let mut allocator = self.allocator(n);
        let mut all: Vec<IpAddr> = allocator.held().map(|(address, _)| address).collect();
        while let Ok(grant) = allocator.allocate(&Request { key: "any", ..Request::default() }, |_| false) {
            all.push(grant.address.ip());
        }
        all
    }

    /// The addresses that two nodes have.
    fn twice(&self) -> Vec<IpAddr> {
        let mut seen = BTreeSet::new();
        (0..self.nodes.len()).flat_map(|n| self.usable(n)).filter(|address| !seen.insert(*address)).collect()
    }

    /// Attaches, and asks the lenders one after another where there is no room; whether it came to an address.
    fn attach_somehow(&mut self, n: usize, key: &str) -> bool {
        loop {
            if self.attach(n, key) {
                return true;
            }
            let mut lenders: Vec<usize> = (1..self.nodes.len()).filter(|lender| *lender != n).collect();
            // As an agent does: whoever has most is asked first, but for the one with the blocks of nobody.
            let load = |lender: &usize| self.nodes[*lender].endpoints.len() + self.nodes[*lender].loans.len();
            lenders.sort_by_key(load);
            let lent = [0].into_iter().chain(lenders).any(|lender| {
                self.ask(n, lender);
                while let Some(message) = self.wire.pop() {
                    self.deliver(message);
                }
                self.nodes[n].borrower.has().contains_key(&self.numbers)
            });
            if !lent {
                return false;
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Attach(usize),
    Detach(usize, usize),
    Ask(usize, usize),
    Deliver(usize),
    /// It is delivered, and will be once more.
    Repeat(usize),
    Lose(usize),
    Say(usize, usize),
    GiveBack(usize),
    Narrow(usize),
    GiveUp(usize),
    Crash(usize),
}

const NODES: usize = 4;

fn op() -> impl Strategy<Value = Op> {
    let node = || 0..NODES;
    let nth = || 0_usize..1000;
    prop_oneof![
        6 => node().prop_map(Op::Attach),
        4 => (node(), nth()).prop_map(|(n, nth)| Op::Detach(n, nth)),
        6 => (node(), node()).prop_map(|(n, lender)| Op::Ask(n, lender)),
        12 => nth().prop_map(Op::Deliver),
        2 => nth().prop_map(Op::Repeat),
        2 => nth().prop_map(Op::Lose),
        4 => (node(), node()).prop_map(|(from, to)| Op::Say(from, to)),
        3 => node().prop_map(Op::GiveBack),
        3 => node().prop_map(Op::Narrow),
        1 => node().prop_map(Op::GiveUp),
        1 => node().prop_map(Op::Crash),
    ]
}

proptest! {
    #[test]
    fn no_address_has_two_nodes_whatever_is_lost_late_or_twice_and_what_is_empty_goes_back(
        block_size in 1_u64..6, ops in prop::collection::vec(op(), 1..120)
    ) {
        let mut world = World::new(plan("10.0.0.0/27", Some(block_size)), NODES);
        for op in &ops {
            let at = |nth: usize, len: usize| (len > 0).then(|| nth % len);
            match *op {
                Op::Attach(n) => drop(world.attach(n, &format!("k{n}"))),
                Op::Detach(n, nth) => {
                    let endpoints = &mut world.nodes[n].endpoints;
                    if let Some(address) = endpoints.keys().nth(nth % endpoints.len().max(1)).copied() {
                        endpoints.remove(&address);
                    }
                }
                Op::Ask(n, lender) => world.ask(n, lender),
                Op::Deliver(nth) => {
                    if let Some(at) = at(nth, world.wire.len()) {
                        let message = world.wire.swap_remove(at);
                        world.deliver(message);
                    }
                }
                Op::Repeat(nth) => {
                    if let Some(at) = at(nth, world.wire.len()) {
                        world.deliver(world.wire[at].clone());
                    }
                }
                Op::Lose(nth) => {
                    if let Some(at) = at(nth, world.wire.len()) {
                        world.wire.swap_remove(at);
                    }
                }
                Op::Say(from, to) => world.say(from, to),
                Op::GiveBack(n) => world.give_back(n),
                Op::Narrow(n) => world.narrow(n),
                Op::GiveUp(n) => world.nodes[n].borrower.gives_up(),
                Op::Crash(n) => world.crash(n),
            }
            prop_assert_eq!(world.twice(), Vec::<IpAddr>::new(), "after {:?}", op);
        }
        // All endpoints go, and the network works again.
        for n in 0..NODES {
            world.nodes[n].endpoints.clear();
            world.nodes[n].borrower.gives_up();
            world.give_back(n);
        }
        for _ in 0..3 {
            while !world.wire.is_empty() {
                let message = world.wire.remove(0);
                world.deliver(message);
            }
            for (from, to) in (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to))) {
                world.say(from, to);
            }
        }
        for node in &world.nodes {
            prop_assert!(node.loans.is_empty() && node.borrower.has().is_empty(), "{:?}", node.loans);
        }
    }

    #[test]
    fn what_is_lent_of_a_block_is_nobodys_there_and_the_rest_is_as_foretold(
        block_size in 1_u64..9, wanted in 1_u64..9, keys in prop::collection::vec("[a-f]", 0..4)
    ) {
        let plan = plan("fd00::/123", Some(block_size));
        let mut lender = Allocator::new(plan.clone(), 0);
        for key in &keys {
            drop(lender.allocate(&Request { key, ..Request::default() }, |_| false));
        }
        let Some(range) = lender.spare(wanted, []) else {
            prop_assert_eq!(lender.held().count() as u64, block_size);
            return Ok(());
        };
        prop_assert!(lender.held().all(|(address, _)| !range.contains(address)));
        let (first, last) = (range.first(), range.last());
        let count = |ip: IpAddr| match ip { IpAddr::V6(ip) => u128::from(ip), IpAddr::V4(_) => 0 };
        let lent = count(last) - count(first) + 1;
        let free = u128::from(block_size) - lender.held().count() as u128;
        prop_assert!(lent <= u128::from(wanted) && lent <= free.div_ceil(2));
        let share = Share { lent: vec![range], borrowed: Vec::new() };
        let mut after = Allocator::with_memory(plan, 0, &share, &Memory::default());
        for (address, key) in lender.held() {
            after.hold(address, key).expect("is its own");
        }
        let mut given = 0;
        while let Ok(grant) = after.allocate(&Request { key: "more", ..Request::default() }, |_| false) {
            prop_assert!(!range.contains(grant.address.ip()));
            given += 1;
        }
        prop_assert_eq!(given, free - lent);
        let asked = Request { key: "asks", address: Some(first), ..Request::default() };
        prop_assert!(after.allocate(&asked, |_| false).is_err());
    }
}

#[test]
fn forty_nodes_have_five_endpoints_each_in_a_subnet_with_fifteen_blocks() {
    // In the order of the nodes, from the last to the first, and an endpoint on each in turn.
    let orders: [Vec<usize>; 3] = [
        (0..200).map(|n| n / 5).collect(),
        (0..200).rev().map(|n| n / 5).collect(),
        (0..200).map(|n| n % 40).collect(),
    ];
    for order in orders {
        let mut world = World::new(plan("10.0.0.0/24", None), 40);
        for (nth, n) in order.iter().enumerate() {
            assert!(world.attach_somehow(*n, &format!("e{nth}")), "endpoint {nth} on node {n}");
        }
        assert_eq!(world.twice(), Vec::<IpAddr>::new());
        let all: BTreeSet<&IpAddr> = world.nodes.iter().flat_map(|node| node.endpoints.keys()).collect();
        assert_eq!(all.len(), 200);
    }
}

#[test]
fn twenty_nodes_use_a_subnet_to_the_last_address_of_its_blocks() {
    let mut world = World::new(plan("10.0.0.0/24", None), 20);
    let mut refused = 0;
    for nth in 0..240 {
        let (n, key) = (nth % 20, format!("e{nth}"));
        while !world.attach_somehow(n, &key) {
            // What lies idle has gone back by the time at which it is tried again.
            refused += 1;
            assert!(refused < 240, "endpoint {nth}");
            for idle in 0..20 {
                world.give_back(idle);
                world.narrow(idle);
            }
            while let Some(message) = world.wire.pop() {
                world.deliver(message);
            }
        }
    }
    assert_eq!(world.twice(), Vec::<IpAddr>::new());
    assert_eq!(world.nodes.iter().map(|node| node.endpoints.len()).sum::<usize>(), 15 * 16);
}

#[test]
fn one_of_three_nodes_has_all_that_the_others_do_not_use() {
    let mut world = World::new(plan("10.0.0.0/24", None), 3);
    for (n, name) in [(0, "a"), (2, "b")] {
        assert!(world.attach(n, name));
    }
    let attached = (0..300).take_while(|nth| world.attach_somehow(1, &format!("e{nth}"))).count();
    assert_eq!(attached, 15 * 16 - 2, "to the last address of the last block");
    assert!(world.nodes[1].borrower.has().len() < 40, "by few loans");
    assert_eq!(world.twice(), Vec::<IpAddr>::new());
}

#[test]
fn what_a_key_had_in_a_borrowed_part_it_gets_again_and_a_new_one_gets_of_the_block_first() {
    let plan = plan("10.0.0.0/24", Some(2));
    let borrowed = "10.0.0.20-10.0.0.23".parse().expect("is a range");
    let share = Share { lent: Vec::new(), borrowed: vec![borrowed] };
    let mut node = Allocator::with_share(plan.clone(), 0, &share);
    let get = |node: &mut Allocator, key: &str| {
        let grant = node.allocate(&Request { key, ..Request::default() }, |_| false).expect("has room");
        (grant.address.ip(), grant.origin)
    };
    let own = [get(&mut node, "a"), get(&mut node, "b")];
    assert!(own.iter().all(|(address, origin)| *origin == Origin::Block && !borrowed.contains(*address)));
    let third = get(&mut node, "c");
    assert!(third.1 == Origin::Borrowed && borrowed.contains(third.0));
    node.release(third.0).expect("is remembered");
    node.release(own[0].0);
    assert_eq!(get(&mut node, "c"), third, "what it had, wherever that was");
    assert_eq!(get(&mut node, "d").1, Origin::Block);
    // Once the part is gone nothing is remembered of it.
    node.release(third.0);
    let memory = node.memory();
    assert!(memory.freed.iter().any(|freed| freed.address == third.0));
    let without = Allocator::with_memory(plan, 0, &Share::default(), &memory);
    assert!(without.memory().freed.iter().all(|freed| freed.address != third.0));
}
