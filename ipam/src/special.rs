//! Ranges of addresses with a meaning of their own, in which no interface can have an address that others reach.
//!
//! From the registries of special-purpose addresses (RFC 6890, RFC 8190) and the architecture of IPv6 (RFC 4291), those
//! that hosts do not take for unicast, or take for something else. What is only not for the internet (private and shared
//! addresses, those for documentation or benchmarks) is none of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// A range with a meaning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// The range.
    pub range: IpNetwork,
    /// What its addresses are, and where that is written.
    pub name: &'static str,
}

const V4: [([u8; 4], u8, &str); 7] = [
    ([0, 0, 0, 0], 8, "addresses of \"this network\", RFC 1122"),
    ([127, 0, 0, 0], 8, "loopback addresses, RFC 1122"),
    ([169, 254, 0, 0], 16, "link-local addresses, RFC 3927"),
    ([192, 0, 0, 0], 29, "addresses for the transition to IPv6, RFC 7335"),
    ([224, 0, 0, 0], 4, "multicast groups, RFC 5771"),
    ([255, 255, 255, 255], 32, "the limited broadcast, RFC 919"),
    ([240, 0, 0, 0], 4, "reserved addresses, RFC 1112"),
];

const V6: [([u16; 8], u8, &str); 8] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, "the unspecified address, RFC 4291"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "the loopback address, RFC 4291"),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, "IPv4-compatible addresses, RFC 4291"),
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped addresses, RFC 4291"),
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "IPv4 addresses in IPv6, RFC 6052"),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "addresses of which all is discarded, RFC 6666"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local addresses, RFC 4291"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast groups, RFC 4291"),
];

impl Special {
    /// The range that `subnet` has addresses of, if there is one; of several the one that comes first.
    pub fn within(subnet: &IpNetwork) -> Option<Self> {
        let overlaps = |special: &Self| {
            special.range.contains(subnet.network()) || subnet.contains(special.range.network())
        };
        match subnet {
            IpNetwork::V4(_) => V4.into_iter().map(Self::v4).find(overlaps),
            IpNetwork::V6(_) => V6.into_iter().map(Self::v6).find(overlaps),
        }
    }

    fn v4((address, prefix, name): ([u8; 4], u8, &'static str)) -> Self {
        let range = Ipv4Network::new_checked(Ipv4Addr::from(address), prefix);
        Self { range: range.expect("the table's prefix lengths are such").into(), name }
    }

    fn v6((address, prefix, name): ([u16; 8], u8, &'static str)) -> Self {
        let range = Ipv6Network::new_checked(Ipv6Addr::from(address), prefix);
        Self { range: range.expect("the table's prefix lengths are such").into(), name }
    }
}

/// The addresses of a whole family, if `subnet` is that.
pub(crate) fn whole_family(subnet: &IpNetwork) -> Option<&'static str> {
    (subnet.prefix() == 0).then(|| match subnet.ip() {
        IpAddr::V4(_) => "every address of IPv4",
        IpAddr::V6(_) => "every address of IPv6",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(subnet: &str) -> Option<&'static str> {
        Special::within(&subnet.parse().unwrap()).map(|special| special.name)
    }

    #[test]
    fn a_subnet_is_special_where_it_has_one_such_address_whichever_of_the_two_is_larger() {
        for (subnets, word) in [
            (["224.0.0.0/24", "239.255.0.0/16", "224.0.0.0/3"], "multicast"),
            (["127.0.0.0/8", "127.3.0.0/24", "126.0.0.0/7"], "loopback"),
            (["169.254.0.0/16", "169.254.7.0/30", "169.254.0.0/15"], "link-local"),
            (["0.0.0.0/8", "0.1.0.0/16", "0.0.0.0/1"], "this network"),
            (["255.255.255.0/24", "255.255.255.254/31", "240.0.0.0/4"], "limited broadcast"),
            (["::/127", "::/64", "::/1"], "unspecified"),
            (["240.0.0.0/24", "250.1.0.0/16", "240.0.0.0/5"], "reserved"),
            (["192.0.0.0/24", "192.0.0.0/29", "192.0.0.4/30"], "transition"),
            (["64:ff9b::/96", "64:ff9b::a00:0/104", "64:ff9b::/64"], "IPv4 addresses in IPv6"),
            (["100::/64", "100::1:0/112", "100::/16"], "discarded"),
            (["::2:0/112", "::7f00:0/104", "::2/127"], "IPv4-compatible"),
            (["::ffff:0:0/96", "::ffff:10.0.0.0/120", "::ffff:0:0/95"], "IPv4-mapped"),
            (["fe80::/10", "fe80::/64", "febf:1::/32"], "link-local"),
            (["ff00::/8", "ff05::/64", "ffff::/16"], "multicast"),
        ] {
            for subnet in subnets {
                let found = within(subnet);
                assert!(found.is_some_and(|name| name.contains(word)), "{subnet}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_only_not_for_the_internet_is_not_special() {
        for subnet in [
            "10.0.0.0/8",
            "100.64.0.0/10",
            "172.16.0.0/12",
            "192.0.2.0/24",
            "198.18.0.0/15",
            "223.255.255.0/24",
            "1.0.0.0/8",
            "128.0.0.0/16",
            "fc00::/7",
            "fec0::/64",
            "2001:db8::/32",
            "192.0.2.0/24",
            "64:ff9b:1::/48",
            "100:0:0:1::/64",
            "1::/16",
        ] {
            assert_eq!(within(subnet), None, "{subnet}");
        }
    }
}
