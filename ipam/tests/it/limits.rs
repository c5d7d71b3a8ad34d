//! Subnets of any size with parts anywhere: planned or refused, never a panic, and nothing outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use lanmesh_ipam::{AddrRange, Owner, PlanError, Pool, Request, SubnetConfig, SubnetPlan, foretell};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Anywhere {
    v6: bool,
    base: u128,
    prefix: u8,
}

impl Anywhere {
    /// An address near an end of the subnet, inside or outside, or anywhere at all.
    fn address(&self, (place, far): (u8, u128)) -> IpAddr {
        let width = if self.v6 { 128 } else { 32 };
        let all = if self.v6 { u128::MAX } else { u128::from(u32::MAX) };
        let host = all.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        let first = self.base & all & !host;
        let near = u128::from(place % 16);
        let number = match place / 16 % 5 {
            0 => first.wrapping_add(near),
            1 => first.wrapping_sub(near),
            2 => (first | host).wrapping_add(near),
            3 => (first | host).wrapping_sub(near),
            _ => far,
        } & all;
        assert!(u32::from(self.prefix) <= width);
        if self.v6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
    }

    fn range(&self, (one, other): ((u8, u128), (u8, u128))) -> AddrRange {
        let (one, other) = (self.address(one), self.address(other));
        AddrRange::new(one.min(other), one.max(other)).expect("is in order")
    }
}

fn anywhere() -> impl Strategy<Value = Anywhere> {
    let base = prop_oneof![any::<u128>(), Just(0), Just(u128::MAX)];
    (any::<bool>(), base, 0_u8..=128).prop_map(|(v6, base, prefix)| Anywhere {
        v6,
        base,
        prefix: if v6 { prefix } else { prefix % 33 },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_config_is_planned_or_refused(
        anywhere in anywhere(),
        gateway in prop::option::of(any::<(u8, u128)>()),
        pool in prop::option::of(any::<((u8, u128), (u8, u128))>()),
        reserved in prop::collection::vec(any::<((u8, u128), (u8, u128))>(), 0..3),
        block_size in prop::option::of(prop_oneof![0_u64..300, any::<u64>()]),
        index in prop_oneof![0_u32..4, any::<u32>()],
        (slot, asked) in (any::<Option<u32>>(), any::<(u8, u128)>()),
    ) {
        let mut config = SubnetConfig {
            subnet: IpNetwork::new(anywhere.address((0, 0)), anywhere.prefix).expect("is a prefix"),
            gateway: gateway.map(|place| anywhere.address(place)),
            pools: pool.iter().map(|ends| Pool { service: "web".into(), range: anywhere.range(*ends) }).collect(),
            reserved: reserved.iter().map(|ends| anywhere.range(*ends)).collect(),
            block_size,
        };
        let plan = loop {
            match SubnetPlan::new(&config) {
                Ok(plan) => break plan,
                Err(PlanError::TooSmall { .. }) => return Ok(()),
                // Something has to go; with everything gone it is a plain subnet, which is never refused.
                Err(_) if config.block_size.take().is_some() || config.gateway.take().is_some() => {}
                Err(_) if config.reserved.pop().is_some() || config.pools.pop().is_some() => {}
                Err(error) => prop_assert!(false, "{} without a reason: {}", config.subnet, error),
            }
        };
        prop_assert_eq!(plan.owner(plan.gateway()), Owner::Gateway);
        if let Some(last) = u32::try_from(plan.blocks()).unwrap_or(u32::MAX).checked_sub(1) {
            let block = plan.block(last).expect("is the last");
            let ends = [block.ranges[0].first(), block.ranges[block.ranges.len() - 1].last()];
            prop_assert_eq!(ends.map(|end| plan.owner(end)), [Owner::Block(last); 2]);
        }
        let asked = anywhere.address(asked);
        for request in [
            Request { key: "a", ..Request::default() },
            Request { key: "a", service: Some("web"), slot, address: None },
            Request { key: "a", service: Some("web"), slot, address: Some(asked) },
        ] {
            if let Ok(grant) = foretell(&plan, index, &request) {
                let owner = plan.owner(grant.address.ip());
                let good = match owner {
                    Owner::Block(block) => block == index,
                    Owner::Pool(_) => request.service.is_some(),
                    Owner::Rest => request.address.is_some(),
                    _ => false,
                };
                prop_assert!(good, "{} is {:?}", grant.address, owner);
            }
        }
    }
}
