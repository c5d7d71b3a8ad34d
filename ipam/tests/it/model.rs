//! The allocator against a naive one: lists of addresses, walked from one end to the other.

use std::net::IpAddr;

use lanmesh_ipam::{Origin, Request, SubnetConfig, stable_hash};
use proptest::prelude::*;

use crate::node::{Node, Outcome};
use crate::shape::{Op, Shape, address, op, shape};

/// The rules again, without a thought for speed.
pub struct Model {
    config: SubnetConfig,
    /// Every address of the subnet.
    all: Vec<IpAddr>,
    /// Those that no endpoint may ever have.
    pub forbidden: Vec<IpAddr>,
    /// Those of blocks and of the rest.
    dynamic: Vec<IpAddr>,
    block_size: usize,
    index: usize,
    held: Vec<(IpAddr, String)>,
    freed: Vec<(IpAddr, String)>,
    elsewhere: Vec<IpAddr>,
}

impl Model {
    pub fn new(shape: &Shape, v6: bool, index: usize) -> Self {
        let config = shape.config(v6);
        let all: Vec<IpAddr> = (0..shape.size()).map(|offset| address(v6, offset)).collect();
        let mut forbidden = vec![all[0]];
        if !v6 {
            forbidden.push(all[all.len() - 1]);
        }
        forbidden.push(config.gateway.unwrap_or(all[1]));
        forbidden.extend(all.iter().filter(|a| config.reserved.iter().any(|range| range.contains(**a))));
        let pooled = |a: &IpAddr| config.pools.iter().any(|pool| pool.range.contains(*a));
        let dynamic = all.iter().copied().filter(|a| !forbidden.contains(a) && !pooled(a)).collect();
        let block_size = shape.plan(v6).block_size() as usize;
        let (held, freed, elsewhere) = (Vec::new(), Vec::new(), Vec::new());
        Self { config, all, forbidden, dynamic, block_size, index, held, freed, elsewhere }
    }

    /// The node index whose block an address is in.
    pub fn block_of(&self, address: IpAddr) -> Option<usize> {
        self.dynamic.chunks_exact(self.block_size).position(|block| block.contains(&address))
    }

    fn is_free(&self, address: IpAddr) -> bool {
        self.held.iter().all(|(held, _)| *held != address) && !self.elsewhere.contains(&address)
    }

    fn allocate(&mut self, request: &Request<'_>) -> Option<(IpAddr, Origin)> {
        let (address, origin) = self.choose(request)?;
        self.held.push((address, request.key.to_owned()));
        self.freed.retain(|(freed, _)| *freed != address);
        Some((address, origin))
    }

    fn choose(&self, request: &Request<'_>) -> Option<(IpAddr, Origin)> {
        let hash = stable_hash(request.key.as_bytes()) as usize;
        if let Some(asked) = request.address {
            let pool = self.config.pools.iter().find(|pool| pool.range.contains(asked));
            let ours = pool.is_none_or(|pool| Some(pool.service.as_str()) == request.service)
                && self.block_of(asked).is_none_or(|block| block == self.index);
            let good = self.all.contains(&asked) && !self.forbidden.contains(&asked) && ours;
            return (good && self.is_free(asked)).then_some((asked, Origin::Asked));
        }
        if let Some(pool) =
            self.config.pools.iter().find(|pool| Some(pool.service.as_str()) == request.service)
        {
            let slots: Vec<IpAddr> = self.all.iter().copied().filter(|a| pool.range.contains(*a)).collect();
            let slot = match request.slot {
                Some(slot) => slot as usize,
                None => {
                    let start = hash % slots.len();
                    (start..slots.len()).chain(0..start).find(|slot| self.is_free(slots[*slot]))?
                }
            };
            let address = *slots.get(slot)?;
            let free = self.held.iter().all(|(held, _)| *held != address);
            return free.then_some((address, Origin::Pool { slot: slot as u32 }));
        }
        let block = self.dynamic.chunks_exact(self.block_size).nth(self.index)?;
        let start = hash % block.len();
        let own = self.freed.iter().rev().filter(|(_, key)| key == request.key).map(|(address, _)| *address);
        let never = (0..block.len())
            .map(|i| block[(start + i) % block.len()])
            .filter(|address| self.freed.iter().all(|(freed, _)| freed != address));
        let oldest = self.freed.iter().map(|(address, _)| *address);
        own.chain(never).chain(oldest).find(|address| self.is_free(*address)).map(|a| (a, Origin::Block))
    }

    fn hold(&mut self, address: IpAddr, key: &str) -> bool {
        if let Some((_, holder)) = self.held.iter().find(|(held, _)| *held == address) {
            return holder == key;
        }
        if !self.all.contains(&address) {
            return false;
        }
        self.held.push((address, key.to_owned()));
        self.freed.retain(|(freed, _)| *freed != address);
        true
    }

    fn release(&mut self, address: IpAddr) {
        let Some(at) = self.held.iter().position(|(held, _)| *held == address) else { return };
        let entry = self.held.remove(at);
        if self.block_of(address) == Some(self.index) {
            self.freed.push(entry);
        }
    }

    /// Whether it does the same as the node did.
    fn follows(&mut self, op: &Op, v6: bool, outcome: &Outcome) -> bool {
        match op {
            Op::Allocate(ask) => {
                let expected = match outcome {
                    Outcome::Granted(grant) => Some((grant.address.ip(), grant.origin)),
                    _ => None,
                };
                self.allocate(&ask.request(v6)) == expected
            }
            Op::Hold(offset, key) => self.hold(address(v6, *offset), key) == (*outcome == Outcome::Done),
            Op::Release(n) => {
                self.held.sort();
                if let Some((address, _)) = self.held.get(n % self.held.len().max(1)) {
                    self.release(*address);
                }
                true
            }
            Op::ReleaseAt(offset) => {
                self.release(address(v6, *offset));
                true
            }
            Op::Elsewhere(offset) => {
                let address = address(v6, *offset);
                match self.elsewhere.iter().position(|taken| *taken == address) {
                    Some(at) => drop(self.elsewhere.remove(at)),
                    None => self.elsewhere.push(address),
                }
                true
            }
            Op::Restart => true,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_allocator_does_what_a_naive_one_does(
        shape in shape(), v6: bool, index in 0_u32..4, ops in prop::collection::vec(op(), 1..80)
    ) {
        let mut node = Node::new(shape.plan(v6), index);
        let mut model = Model::new(&shape, v6, index as usize);
        for op in &ops {
            let before = (node.held(), node.allocator.memory());
            let outcome = node.apply(op);
            prop_assert!(model.follows(op, v6, &outcome), "{:?} gave {:?}", op, outcome);
            if let Outcome::Refused(error) = &outcome {
                prop_assert_eq!((node.held(), node.allocator.memory()), before, "{} changed something", error);
            }
            model.held.sort();
            prop_assert_eq!(&node.held(), &model.held);
            let memory = node.allocator.memory().freed;
            let freed: Vec<_> = memory.into_iter().map(|freed| (freed.address, freed.key)).collect();
            prop_assert_eq!(&freed, &model.freed);
            prop_assert!(freed.len() <= model.block_size);
        }
    }
}
