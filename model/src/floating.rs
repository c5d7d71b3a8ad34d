//! Addresses and MACs that are at an endpoint although they were not given to it: those that it may have beside its own, and
//! those that it says are at it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{EndpointName, Mac, NetworkSpec, NodeId};

/// What an endpoint may have and be beside its own address and MAC. Several may have the same: it is at the one that said so
/// last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Also {
    /// Addresses, in a subnet of the network or not.
    pub addresses: BTreeSet<IpAddr>,
    /// MACs, as VRRP's virtual ones are (RFC 9568 section 7.3).
    pub macs: BTreeSet<Mac>,
    /// Whether it routes multicast between networks: it hears all that is sent to groups, and may send what others sent
    /// elsewhere.
    #[serde(default)]
    pub routes: bool,
}

impl Also {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        let Self { addresses, macs, routes } = self;
        addresses.is_empty() && macs.is_empty() && !routes
    }
}

/// Something that is at one endpoint now and may be at another next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FloatingKey {
    /// An address.
    Address(IpAddr),
    /// A MAC.
    Mac(Mac),
}

/// At which of its endpoints a node says that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floating {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// Of an address: the MAC that it has. Of a MAC: itself.
    pub mac: Mac,
    /// Counts its moves: of two nodes that say that it is at them the one with the higher number is right, and of two with one
    /// number that with the higher id (as in MAC mobility, RFC 7432 section 15).
    pub sequence: u64,
}

/// What a node says to be at its endpoints.
pub type Floatings = BTreeMap<FloatingKey, Floating>;

impl Floating {
    /// What decides between this, said by `node`, and what others say: the higher one is right.
    pub fn rank(&self, node: NodeId) -> (u64, NodeId) {
        (self.sequence, node)
    }
}

impl NetworkSpec {
    /// Whether an address may be at an endpoint that it was not given to: it is one host's, and neither a gateway's or a
    /// node's nor one that means a whole subnet.
    pub fn lets_float(&self, address: IpAddr) -> bool {
        let one_hosts = match address {
            IpAddr::V4(v4) => {
                v4 != Ipv4Addr::BROADCAST && !v4.is_multicast() && !v4.is_loopback() && v4.octets()[0] != 0
            }
            IpAddr::V6(v6) => {
                !v6.is_multicast()
                    && !v6.is_loopback()
                    && !v6.is_unspecified()
                    && v6.to_ipv4_mapped().is_none()
            }
        };
        let own = self.gateways.contains(&address) || self.is_for_nodes(address);
        let of_all = |subnet: &IpNetwork| match subnet {
            IpNetwork::V4(v4) => v4.prefix() < 31 && (address == v4.broadcast() || address == v4.network()),
            IpNetwork::V6(v6) => v6.prefix() < 127 && address == v6.network(),
        };
        one_hosts && !own && !self.subnets.iter().any(of_all)
    }

    /// Whether a MAC may be at an endpoint that it was not given to: it is one interface's, and none of the network itself.
    pub fn lets_float_mac(&self, mac: Mac) -> bool {
        let own = [Mac::NODES, Mac::PROBES].iter().any(|first| mac.0.starts_with(first));
        mac.0[0] & 1 == 0 && mac.0 != [0; 6] && !own && mac != Mac::of_bridge(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetworkId, testing};

    #[test]
    fn what_is_the_networks_or_many_hosts_does_not_float() {
        let mut spec = testing::network(NetworkId::from_bytes([1; 8]));
        spec.subnets = ["10.0.0.0/24", "fd00::/64"].map(|subnet| subnet.parse().unwrap()).into();
        spec.gateways = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        spec.options.node_addresses = Some("10.0.0.224-10.0.0.231,fd00::e0-fd00::ff".parse().unwrap());
        let floats = |text: &str| spec.lets_float(text.parse().unwrap());
        for text in ["10.0.0.200", "192.168.7.1", "fd00::200", "fe80::1", "2001:db8::1"] {
            assert!(floats(text), "{text}");
        }
        for text in [
            "10.0.0.1",
            "10.0.0.225",
            "fd00::e1",
            "10.0.0.0",
            "10.0.0.255",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.18",
            "127.0.0.1",
            "fd00::1",
            "fd00::",
            "::",
            "::1",
            "ff02::1",
            "::ffff:10.0.0.200",
        ] {
            assert!(!floats(text), "{text}");
        }
        let mac_floats = |mac: Mac| spec.lets_float_mac(mac);
        assert!(mac_floats("00:00:5e:00:01:33".parse().unwrap()));
        for mac in [
            Mac::of_bridge(&spec.id),
            Mac::of_node(crate::NodeIndex(1)),
            Mac::of_probe(crate::NodeIndex(1)),
            Mac([0; 6]),
            Mac([0xff; 6]),
        ] {
            assert!(!mac_floats(mac), "{mac}");
        }
    }
}
