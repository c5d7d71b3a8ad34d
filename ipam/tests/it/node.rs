//! A node to play with: an allocator, and what the other nodes are said to use.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lanmesh_ipam::{AllocError, Allocator, Grant, Memory, Request, Share, SubnetPlan};

use crate::shape::{Op, address};

#[derive(Debug, Clone)]
pub struct Node {
    pub allocator: Allocator,
    pub elsewhere: BTreeSet<IpAddr>,
    pub v6: bool,
}

/// What came of one operation, as far as it can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Granted(Grant),
    Refused(AllocError),
    Done,
}

impl Node {
    pub fn new(plan: SubnetPlan, index: u32) -> Self {
        let v6 = plan.subnet().is_ipv6();
        Self { allocator: Allocator::new(plan, index), elsewhere: BTreeSet::new(), v6 }
    }

    pub fn allocate(&mut self, request: &Request<'_>) -> Result<Grant, AllocError> {
        self.allocator.allocate(request, |address| self.elsewhere.contains(&address))
    }

    pub fn held(&self) -> Vec<(IpAddr, String)> {
        self.allocator.held().map(|(address, key)| (address, key.to_owned())).collect()
    }

    /// The agent stops and starts: only the memory as JSON and the addresses in use survive.
    pub fn restart(&mut self) {
        let json = serde_json::to_string(&self.allocator.memory()).expect("serializes");
        let memory: Memory = serde_json::from_str(&json).expect("parses");
        let plan = self.allocator.plan().clone();
        let mut allocator = Allocator::with_memory(plan, self.allocator.index(), &Share::default(), &memory);
        for (address, key) in self.held() {
            allocator.hold(address, &key).expect("was in use");
        }
        self.allocator = allocator;
    }

    pub fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Allocate(ask) => match self.allocate(&ask.request(self.v6)) {
                Ok(grant) => return Outcome::Granted(grant),
                Err(error) => return Outcome::Refused(error),
            },
            Op::Release(n) => {
                let held = self.held();
                if let Some((address, _)) = held.get(n % held.len().max(1)) {
                    self.allocator.release(*address);
                }
            }
            Op::ReleaseAt(offset) => drop(self.allocator.release(address(self.v6, *offset))),
            Op::Hold(offset, key) => {
                if let Err(error) = self.allocator.hold(address(self.v6, *offset), key) {
                    return Outcome::Refused(error);
                }
            }
            Op::Elsewhere(offset) => {
                let address = address(self.v6, *offset);
                if !self.elsewhere.remove(&address) {
                    self.elsewhere.insert(address);
                }
            }
            Op::Restart => self.restart(),
        }
        Outcome::Done
    }
}
