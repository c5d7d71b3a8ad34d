//! Ports of every node that lead to one endpoint of the writer's node.
//!
//! Said to everybody and not in the network: it is what has every node take part there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{About, FactKind};
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, unpack, unpack_key};
use crate::model::{EndpointKey, MeshPorts, Publication};

/// The ports, by the endpoint's network and name.
pub(in crate::cluster) struct PortsKind;

impl FactKind for PortsKind {
    const KIND: Kind = Kind(9);
    const NAME: &'static str = "ports";
    const LIMITS: Limits = Limits { value: 4 << 10, entries: 4_096, bytes: 256 << 10 };
    type About = About;
    type Key = EndpointKey;
    type Value = MeshPorts;
    type Shelf = Arc<BTreeMap<EndpointKey, MeshPorts>>;

    fn pack_key(key: &EndpointKey) -> Bytes {
        pack(&v2::MeshPortsKey::of(key))
    }

    fn read_key(bytes: &[u8]) -> Option<EndpointKey> {
        unpack_key::<v2::MeshPortsKey>(bytes)?.present()
    }

    fn pack(ports: &MeshPorts) -> Bytes {
        pack(&v2::MeshPorts::of(ports))
    }

    fn read(_: &EndpointKey, bytes: &[u8]) -> Option<MeshPorts> {
        unpack::<v2::MeshPorts>(bytes)?.present()
    }

    fn check(about: &About, _: &EndpointKey, ports: &MeshPorts) -> Result<(), &'static str> {
        about.everybody()?;
        if ports.ports.is_empty() {
            return Err("it publishes nothing");
        }
        Publication::check_all(&ports.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::facts::Scope;
    use crate::model::{NetworkId, NodeId, PublishSource};

    #[test]
    fn an_endpoint_has_each_port_once_and_some() {
        let key = EndpointKey { network: NetworkId::from_bytes([1; 8]), name: "a".parse().unwrap() };
        let check = |texts: &[&str]| {
            let ports = texts.iter().map(|text| text.parse().unwrap()).collect();
            let about = About { writer: NodeId::from_bytes([1; 16]), scope: Scope::Node, network: None };
            PortsKind::check(&about, &key, &MeshPorts { ports, source: PublishSource::Node })
        };
        assert_eq!(check(&["80:8080", "80:8080/udp", "192.0.2.1:81:81"]), Ok(()));
        assert_eq!(check(&["80:8080", "192.0.2.1:80:81"]), Err("it publishes a port twice"));
        assert_eq!(check(&[]), Err("it publishes nothing"));
        let many: Vec<String> = (1..=65).map(|port| format!("{port}:1")).collect();
        assert_eq!(
            check(&many.iter().map(String::as_str).collect::<Vec<_>>()),
            Err("it publishes too many ports")
        );
    }
}
