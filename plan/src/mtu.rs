//! The MTU inside an overlay, from the MTUs of the underlays it crosses.

use std::net::IpAddr;

use lanmesh_mesh::{mesh_mtu, mesh_overhead};

/// The smallest MTU that IPv6 works with (RFC 8200 section 5).
const IPV6_MIN: u32 = 1280;
/// The smallest packet that every IPv4 host takes (RFC 791 section 3.1).
const IPV4_MIN: u32 = 576;

/// The underlay of a node is too small for the network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the underlay MTU of {vtep} is {underlay}, which leaves {overlay} bytes inside {inside}, and {family} needs \
     {needed}: raise the underlay's MTU there to at least {want}{or}",
    inside = if *encrypted { "WireGuard and VXLAN" } else { "VXLAN" },
    want = needed + encapsulation_overhead(*vtep, *encrypted),
    or = if *family == "IPv6" { ", or create the network without an IPv6 subnet" } else { "" },
)]
pub struct MtuError {
    /// The node with the smallest underlay, by its VTEP.
    pub vtep: IpAddr,
    /// The MTU of its underlay, in bytes.
    pub underlay: u32,
    /// Whether the network's VXLAN goes through the mesh.
    pub encrypted: bool,
    /// What is left inside, in bytes.
    pub overlay: u32,
    /// What the network's subnets need, in bytes.
    pub needed: u32,
    /// Which protocol needs it.
    pub family: &'static str,
}

/// What VXLAN takes over IPv4: the outer IP header (20), UDP (8), VXLAN (8) and the inner Ethernet header (14).
/// RFC 7348 section 5.
const OVER_IPV4: u32 = 50;
/// The same over IPv6, whose header has 40 bytes.
const OVER_IPV6: u32 = 70;

/// The bytes that VXLAN takes from each packet of this underlay; where it is encrypted, which is over IPv6, with
/// those of the tunnel.
pub fn encapsulation_overhead(vtep: IpAddr, encrypted: bool) -> u32 {
    match (encrypted, vtep) {
        (true, _) => mesh_overhead(vtep) + OVER_IPV6,
        (false, IpAddr::V4(_)) => OVER_IPV4,
        (false, IpAddr::V6(_)) => OVER_IPV6,
    }
}

/// The MTU of an overlay between `members` (the VTEP and the underlay MTU of each): the smallest underlay,
/// less its encapsulation. `None` if there are no members.
///
/// `ipv6` says whether one of the network's subnets is IPv6, `encrypted` whether it goes through the mesh.
///
/// # Errors
/// What is left is less than the network's protocols need.
pub fn overlay_mtu(
    members: impl IntoIterator<Item = (IpAddr, u32)>,
    ipv6: bool,
    encrypted: bool,
) -> Result<Option<u32>, MtuError> {
    let inside = |(vtep, underlay): (IpAddr, u32)| {
        let left = match encrypted {
            true => mesh_mtu(vtep, underlay).saturating_sub(OVER_IPV6),
            false => underlay.saturating_sub(encapsulation_overhead(vtep, false)),
        };
        (left, underlay, vtep)
    };
    let Some((overlay, underlay, vtep)) = members.into_iter().map(inside).min() else {
        return Ok(None);
    };
    let (needed, family) = match (ipv6, encrypted) {
        (true, _) => (IPV6_MIN, "IPv6"),
        // The mesh itself is IPv6.
        (false, true) => (IPV6_MIN - OVER_IPV6, "the mesh"),
        (false, false) => (IPV4_MIN, "IPv4"),
    };
    if overlay < needed {
        return Err(MtuError { vtep, underlay, encrypted, overlay, needed, family });
    }
    Ok(Some(overlay))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn v6() -> IpAddr {
        "2001:db8::1".parse().expect("an address")
    }

    #[test]
    fn the_smallest_member_decides_and_the_family_of_its_underlay_counts() {
        assert_eq!(overlay_mtu([], true, false), Ok(None));
        assert_eq!(overlay_mtu([(v4(1), 1500)], true, false), Ok(Some(1450)));
        assert_eq!(overlay_mtu([(v4(1), 9000), (v4(2), 1400)], true, false), Ok(Some(1350)));
        assert_eq!(overlay_mtu([(v4(1), 1500), (v6(), 1500)], true, false), Ok(Some(1430)));
    }

    #[test]
    fn an_encrypted_network_pays_for_the_tunnel_too_and_the_tunnel_has_a_largest_packet() {
        assert_eq!(overlay_mtu([(v4(1), 1500)], true, true), Ok(Some(1370)));
        assert_eq!(overlay_mtu([(v4(1), 1500), (v6(), 1500)], true, true), Ok(Some(1350)));
        assert_eq!(overlay_mtu([(v4(1), 9000)], true, true), Ok(Some(3994)));
        // The mesh is IPv6, whatever is inside.
        assert_eq!(overlay_mtu([(v4(1), 1340)], false, true), Ok(Some(1210)));
        let error = overlay_mtu([(v4(1), 1339)], false, true).expect_err("is too small").to_string();
        for part in ["WireGuard and VXLAN", "the mesh needs 1210", "at least 1340"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn an_underlay_too_small_for_ipv6_is_refused_with_the_numbers_and_the_way_out() {
        assert_eq!(overlay_mtu([(v4(2), 1330)], true, false), Ok(Some(1280)));
        let error = overlay_mtu([(v4(1), 1500), (v4(2), 1329)], true, false).expect_err("is too small");
        let text = error.to_string();
        for part in ["192.0.2.2", "1329", "1279", "1280", "1330", "without an IPv6 subnet"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(overlay_mtu([(v4(2), 1329)], false, false), Ok(Some(1279)));
    }

    #[test]
    fn an_underlay_smaller_than_the_encapsulation_is_refused_and_does_not_wrap_around() {
        let error = overlay_mtu([(v6(), 40)], false, false).expect_err("is too small");
        assert_eq!((error.overlay, error.needed), (0, 576));
        assert!(error.to_string().contains("at least 646"), "{error}");
        assert!(!error.to_string().contains("IPv6 subnet"), "{error}");
    }
}
