//! Small subnets and requests for property tests: few addresses, few keys, so that collisions happen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, Pool, Request, SubnetConfig, SubnetPlan};
use proptest::prelude::*;

pub const KEYS: [&str; 6] = ["a", "b", "c", "web.0", "web.1", "db.0"];
pub const SERVICES: [&str; 2] = ["web", "db"];

/// The address at `offset` in the subnet that every shape of this family lies in.
pub fn address(v6: bool, offset: u128) -> IpAddr {
    if v6 {
        Ipv6Addr::from(0xfd00_u128 << 112 | (0x1_0000 + offset)).into()
    } else {
        Ipv4Addr::from(0x0a0a_0000 + u32::try_from(offset).expect("is small")).into()
    }
}

pub fn range(v6: bool, (first, last): (u128, u128)) -> AddrRange {
    AddrRange::new(address(v6, first), address(v6, last)).expect("is in order")
}

/// A subnet in offsets, for either family.
#[derive(Debug, Clone)]
pub struct Shape {
    pub bits: u8,
    pub gateway: Option<u128>,
    pub pools: Vec<(u128, u128)>,
    pub reserved: Vec<(u128, u128)>,
    pub block_size: Option<u64>,
}

impl Shape {
    pub fn size(&self) -> u128 {
        1 << self.bits
    }

    /// The config in one family, without those parts that a plan refuses.
    pub fn config(&self, v6: bool) -> SubnetConfig {
        let prefix = if v6 { 128 } else { 32 } - self.bits;
        let mut config = SubnetConfig {
            subnet: IpNetwork::new(address(v6, 0), prefix).expect("is a prefix"),
            gateway: None,
            pools: Vec::new(),
            reserved: self.reserved.iter().map(|span| range(v6, *span)).collect(),
            block_size: None,
        };
        let mut add = |change: &dyn Fn(&mut SubnetConfig)| {
            let mut changed = config.clone();
            change(&mut changed);
            if SubnetPlan::new(&changed).is_ok() {
                config = changed;
            }
        };
        add(&|config| config.gateway = self.gateway.map(|offset| address(v6, offset)));
        for (service, span) in SERVICES.iter().zip(&self.pools) {
            let pool = Pool { service: (*service).to_owned(), range: range(v6, *span) };
            add(&|config| config.pools.push(pool.clone()));
        }
        add(&|config| config.block_size = self.block_size);
        config
    }

    pub fn plan(&self, v6: bool) -> SubnetPlan {
        SubnetPlan::new(&self.config(v6)).expect("refused parts are left out")
    }
}

/// Subnets of 4 to 256 addresses: /24 to /30, /120 to /126.
pub fn shape() -> impl Strategy<Value = Shape> {
    (2_u8..=8).prop_flat_map(|bits| {
        let top = (1_u128 << bits) - 1;
        let span = move |most: u128| (0..=top, 0..most).prop_map(move |(low, len)| (low, top.min(low + len)));
        (
            prop::option::of(0..=top),
            prop::collection::vec(span(6), 0..=2),
            prop::collection::vec(span(4), 0..=2),
            prop::option::of(1_u64..=8),
        )
            .prop_map(move |(gateway, pools, reserved, block_size)| Shape {
                bits,
                gateway,
                pools,
                reserved,
                block_size,
            })
    })
}

/// A request, with the asked address as an offset.
#[derive(Debug, Clone)]
pub struct Ask {
    pub key: &'static str,
    pub service: Option<&'static str>,
    pub slot: Option<u32>,
    pub offset: Option<u128>,
}

impl Ask {
    pub fn key(key: &'static str) -> Self {
        Self { key, service: None, slot: None, offset: None }
    }

    pub fn request(&self, v6: bool) -> Request<'_> {
        let asked = self.offset.map(|offset| address(v6, offset));
        Request { key: self.key, service: self.service, slot: self.slot, address: asked }
    }
}

pub fn ask() -> impl Strategy<Value = Ask> {
    (
        prop::sample::select(KEYS.as_slice()),
        prop::option::weighted(0.4, prop::sample::select(SERVICES.as_slice())),
        prop::option::weighted(0.5, 0_u32..7),
        // Sometimes beyond the largest shape.
        prop::option::weighted(0.3, 0_u128..300),
    )
        .prop_map(|(key, service, slot, offset)| Ask { key, service, slot, offset })
}

/// What may happen to a node.
#[derive(Debug, Clone)]
pub enum Op {
    Allocate(Ask),
    /// Releases the n-th address in use, modulo their number.
    Release(usize),
    /// Releases an address, in use or not.
    ReleaseAt(u128),
    Hold(u128, &'static str),
    /// Another node takes an address, or lets go of it.
    Elsewhere(u128),
    /// The memory is written and read, what is in use is held again.
    Restart,
}

pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => ask().prop_map(Op::Allocate),
        6 => prop::sample::select(KEYS.as_slice()).prop_map(|key| Op::Allocate(Ask::key(key))),
        8 => any::<usize>().prop_map(Op::Release),
        1 => (0_u128..260).prop_map(Op::ReleaseAt),
        1 => (0_u128..260, prop::sample::select(KEYS.as_slice())).prop_map(|(offset, key)| Op::Hold(offset, key)),
        3 => (0_u128..40).prop_map(Op::Elsewhere),
        1 => Just(Op::Restart),
    ]
}
