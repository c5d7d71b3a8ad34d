//! An endpoint of a node, in a network.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ipnetwork::IpNetwork;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, pack_both, unpack_both, unpack_key};
use crate::model::{Endpoint, EndpointName, NetworkSpec, limits};

/// An endpoint, by its name.
pub(in crate::cluster) struct EndpointKind;

impl FactKind for EndpointKind {
    const KIND: Kind = Kind(2);
    const NAME: &'static str = "endpoint";
    const LIMITS: Limits = Limits { value: 64 << 10, entries: 65_536, bytes: 3 << 20 };
    type About = About;
    type Key = EndpointName;
    type Value = Endpoint;
    type Shelf = Arc<BTreeMap<EndpointName, Endpoint>>;

    fn pack_key(name: &EndpointName) -> Bytes {
        pack(&String::of(name))
    }

    fn read_key(bytes: &[u8]) -> Option<EndpointName> {
        unpack_key::<String>(bytes)?.present()
    }

    fn pack(endpoint: &Endpoint) -> Bytes {
        pack_both(&v2::Endpoint::of(endpoint), &v2::EndpointMore::of(endpoint))
    }

    fn read(name: &EndpointName, bytes: &[u8]) -> Option<Endpoint> {
        let (endpoint, more) = unpack_both::<v2::Endpoint, v2::EndpointMore>(bytes)?;
        endpoint.present(more, name.clone())
    }

    fn check(about: &About, _: &EndpointName, endpoint: &Endpoint) -> Result<(), &'static str> {
        let network = about.network()?;
        let [first, ..] = endpoint.mac.0;
        [
            (endpoint.aliases.len() <= limits::ALIASES, "it has too many aliases"),
            (endpoint.services.len() <= limits::ADVERTISED, "too many services are announced for it"),
            (endpoint.services.iter().all(|service| service.check().is_ok()), "a service of it is none"),
            ((1..=limits::ADDRESSES).contains(&endpoint.addresses.len()), "it has no address, or too many"),
            (endpoint.addresses.iter().all(|at| is_inside(network, at)), "an address is not of its network"),
            (first & 1 == 0 && endpoint.mac.0 != [0; 6], "its MAC is not that of an interface"),
        ]
        .into_iter()
        .find(|(sound, _)| !sound)
        .map_or(Ok(()), |(_, why)| Err(why))
    }

    /// Without the addresses that are not of the network: those of a subnet that was added may be heard of before the
    /// subnet is, and nothing else of the endpoint is any worse for that.
    fn believe(about: &About, name: &EndpointName, mut endpoint: Endpoint) -> Result<Endpoint, &'static str> {
        let network = about.network()?;
        endpoint.addresses.truncate(limits::ADDRESSES);
        endpoint.addresses.retain(|address| is_inside(network, address));
        Self::check(about, name, &endpoint).map(|()| endpoint)
    }
}

/// Whether an endpoint of a network can have an address: in one of its subnets, with that one's prefix, and neither the
/// gateway's nor one that means all hosts or none.
fn is_inside(network: &NetworkSpec, address: &IpNetwork) -> bool {
    let ip = address.ip();
    let of = |subnet: &&IpNetwork| subnet.contains(ip) && subnet.prefix() == address.prefix();
    let Some(subnet) = network.subnets.iter().find(of) else { return false };
    let all_or_none = match subnet {
        IpNetwork::V4(v4) => v4.prefix() < 31 && (ip == v4.broadcast() || ip == v4.network()),
        IpNetwork::V6(v6) => v6.prefix() < 127 && ip == v6.network(),
    };
    !all_or_none && !network.gateways.contains(&ip)
}
