//! What stands for the node beyond a gate, where the addresses of what endpoints send outside are translated.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Addresses that no kernel forwards anything from (RFC 1122 3.2.1.3, RFC 4291 2.5.6): without rules on the node nothing leaves.
pub(super) const OUTWARD_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
pub(super) const OUTWARD_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5);
/// Echo requests and replies (RFC 792, RFC 4443).
pub(super) const PING_V4: u8 = 8;
pub(super) const PING_V6: u8 = 128;
pub(super) const ANSWER_V4: u8 = 0;
pub(super) const ANSWER_V6: u8 = 129;

/// What stands for the loopback behind a gate, as a sender and as what was asked.
pub(super) const LOOPBACK_V4: (Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(169, 254, 0, 2), Ipv4Addr::new(169, 254, 0, 3));
pub(super) const LOOPBACK_V6: (Ipv6Addr, Ipv6Addr) = (
    Ipv6Addr::new(0xfd6c, 0x616e, 0x6d65, 0x7368, 0, 0, 0, 2),
    Ipv6Addr::new(0xfd6c, 0x616e, 0x6d65, 0x7368, 0, 0, 0, 3),
);
