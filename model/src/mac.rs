//! MAC addresses, all of them computed: whoever knows an address or a network knows its MAC.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::Ipv6Network;
use lanmesh_ipam::stable_hash;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{NetworkId, NodeIndex};

/// A 48-bit MAC address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// A text that is not six octets in hexadecimal, separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: write it as 02:4c:0a:0a:00:11")]
pub struct MacParseError(String);

// First octets with the "locally administered" bit (IEEE 802c), a different one for each kind, so that no
// two kinds can ever collide.
const ENDPOINT_V4: [u8; 2] = [0x02, 0x4c];
const ENDPOINT_V6: u8 = 0x06;
const BRIDGE: u8 = 0x0a;
const NODE: [u8; 3] = [0x02, 0x6c, 0x6e];
const PROBE: [u8; 3] = [0x02, 0x6c, 0x70];

impl Mac {
    /// The MAC of the endpoint whose first address is `address`.
    ///
    /// For IPv4 the four octets of the address are its last four, so within a network it is unique. For
    /// IPv6 they are 40 bits of a hash: among 10,000 endpoints two are equal once in about 20,000 networks.
    pub fn of_endpoint(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self([ENDPOINT_V4[0], ENDPOINT_V4[1], a, b, c, d])
            }
            IpAddr::V6(v6) => Self::hashed(ENDPOINT_V6, &v6.octets()),
        }
    }

    /// The MAC of a network's bridge, the same on every node, so that the gateway is the same everywhere.
    pub fn of_bridge(network: &NetworkId) -> Self {
        Self::hashed(BRIDGE, network.as_bytes())
    }

    /// The MAC of a node itself, the same in every network: what a node hands on to another bears it. Indices that are equal
    /// in their last 24 bits have the same.
    pub fn of_node(index: NodeIndex) -> Self {
        Self::indexed(NODE, index)
    }

    /// The MAC at which a node hears, in every network, whether what others send there arrives; see [`Self::of_node`] for
    /// which are equal.
    pub fn of_probe(index: NodeIndex) -> Self {
        Self::indexed(PROBE, index)
    }

    fn indexed(first: [u8; 3], index: NodeIndex) -> Self {
        let ([a, b, c], [_, d, e, g]) = (first, index.0.to_be_bytes());
        Self([a, b, c, d, e, g])
    }

    /// What all of [`Self::of_node`] begin with.
    pub const NODES: [u8; 3] = NODE;

    /// What all of [`Self::of_probe`] begin with.
    pub const PROBES: [u8; 3] = PROBE;

    /// The link-local address that an interface with this MAC has, with the length of its prefix (RFC 4291
    /// appendix A).
    pub fn link_local(&self) -> Ipv6Network {
        let [a, b, c, d, e, g] = self.0;
        let half = |high, low| u16::from_be_bytes([high, low]);
        let address =
            Ipv6Addr::new(0xfe80, 0, 0, 0, half(a ^ 2, b), half(c, 0xff), half(0xfe, d), half(e, g));
        // 64 is a length that every IPv6 prefix can have.
        Ipv6Network::new(address, 64).unwrap_or_else(|_| Ipv6Network::from(address))
    }

    fn hashed(first: u8, of: &[u8]) -> Self {
        let [_, _, _, a, b, c, d, e] = stable_hash(of).to_be_bytes();
        Self([first, a, b, c, d, e])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = MacParseError;

    fn from_str(text: &str) -> Result<Self, MacParseError> {
        let error = || MacParseError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(error)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 6]>::deserialize(d).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_can_be_read_off_its_mac() {
        let mac = Mac::of_endpoint("10.10.0.17".parse().expect("an address"));
        assert_eq!(mac.to_string(), "02:4c:0a:0a:00:11");
        assert_eq!("02:4c:0a:0a:00:11".parse(), Ok(mac));
    }

    #[test]
    fn every_kind_of_mac_is_unicast_locally_administered_and_apart_from_the_others() {
        let v6 = Mac::of_endpoint("fd00::1".parse().expect("an address"));
        let bridge = Mac::of_bridge(&NetworkId::from_bytes([7; 8]));
        for mac in [v6, bridge] {
            assert_eq!(mac.0[0] & 0b11, 0b10);
        }
        assert_ne!(v6.0[0], bridge.0[0]);
    }

    #[test]
    fn malformed_text_is_no_mac() {
        for text in ["", "02:4c:0a:0a:00", "02:4c:0a:0a:00:11:22", "2:4c:0a:0a:00:11", "02-4c-0a-0a-00-11"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_link_local_address_is_made_as_rfc_4291_says() {
        let mac: Mac = "34:56:78:9a:bc:de".parse().expect("a MAC");
        assert_eq!(mac.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde/64");
    }
}
