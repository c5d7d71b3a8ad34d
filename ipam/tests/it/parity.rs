//! IPv4 and IPv6 differ in nothing but the broadcast address.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::node::{Node, Outcome};
use crate::shape::{address, op, shape};

fn offset(v6: bool, of: IpAddr) -> u128 {
    let number = |address| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    number(of) - number(address(v6, 0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn both_families_give_the_same_offsets(
        shape in shape(), index in 0_u32..4, ops in prop::collection::vec(op(), 1..60)
    ) {
        let mut shape = shape;
        // The broadcast address of the one is kept out of the other.
        let top = shape.size() - 1;
        shape.reserved.push((top, top));
        shape.gateway = shape.gateway.filter(|gateway| *gateway != top);
        let [v4, v6] = [false, true].map(|v6| shape.plan(v6));
        prop_assert_eq!((v4.block_size(), v4.blocks()), (v6.block_size(), v6.blocks()));
        let (mut v4, mut v6) = (Node::new(v4, index), Node::new(v6, index));
        for op in &ops {
            match (v4.apply(op), v6.apply(op)) {
                (Outcome::Granted(v4), Outcome::Granted(v6)) => {
                    prop_assert_eq!(offset(false, v4.address.ip()), offset(true, v6.address.ip()));
                    prop_assert_eq!(v4.origin, v6.origin);
                }
                (Outcome::Refused(_), Outcome::Refused(_)) | (Outcome::Done, Outcome::Done) => {}
                (v4, v6) => prop_assert!(false, "{:?}: {:?} and {:?}", op, v4, v6),
            }
        }
    }
}
