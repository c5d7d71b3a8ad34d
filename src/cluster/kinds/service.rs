//! A service with an address of its own.

use std::sync::Arc;

use bytes::Bytes;

use super::FactKind;
use crate::cluster::facts::{Kind, Limits};
use crate::cluster::v2::{self, Stands, pack, pack_all, unpack_all, unpack_key};
use crate::model::{NetworkId, PORT_MAPS_MAX, Publication, ServiceName, ServiceSpec, Services, limits};

/// A service, by network and name.
pub(in crate::cluster) struct ServiceKind;

impl FactKind for ServiceKind {
    const KIND: Kind = Kind(3);
    const NAME: &'static str = "service";
    const LIMITS: Limits = Limits { value: 4 << 10, entries: 16_384, bytes: 4 << 20 };
    type About = ();
    type Key = (NetworkId, ServiceName);
    type Value = ServiceSpec;
    type Shelf = Arc<Services>;

    fn pack_key(key: &Self::Key) -> Bytes {
        pack(&v2::ServiceKey::of(key))
    }

    fn read_key(bytes: &[u8]) -> Option<Self::Key> {
        unpack_key::<v2::ServiceKey>(bytes)?.present()
    }

    fn pack(spec: &ServiceSpec) -> Bytes {
        pack_all(&v2::Service::of(spec), &v2::ServiceMore::of(spec), &v2::ServiceSeen::of(spec))
    }

    fn read(_: &Self::Key, bytes: &[u8]) -> Option<ServiceSpec> {
        let (service, more, seen) = unpack_all::<v2::Service, v2::ServiceMore, v2::ServiceSeen>(bytes)?;
        Some(seen.add_to(more.add_to(service.present()?)))
    }

    fn check((): &(), _: &Self::Key, spec: &ServiceSpec) -> Result<(), &'static str> {
        let ports: std::collections::BTreeSet<u16> = spec.ports.iter().map(|map| map.port).collect();
        Publication::check_all(&spec.publish)?;
        [
            ((1..=limits::ADDRESSES).contains(&spec.addresses.len()), "it has no address, or too many"),
            (spec.ports.len() <= PORT_MAPS_MAX, "it has too many ports"),
            (ports.len() == spec.ports.len(), "it has a port twice"),
        ]
        .into_iter()
        .find(|(sound, _)| !sound)
        .map_or(Ok(()), |(_, why)| Err(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PortMap;

    #[test]
    fn a_service_has_an_address_and_each_port_once() {
        let key = (NetworkId::from_bytes([1; 8]), "web".parse().unwrap());
        let check = |spec: &ServiceSpec| ServiceKind::check(&(), &key, spec);
        let mut spec = ServiceSpec { addresses: vec![[10, 0, 0, 250].into()], ..ServiceSpec::default() };
        assert_eq!(check(&spec), Ok(()));
        spec.ports = vec![PortMap { port: 80, to: 8080 }, PortMap { port: 80, to: 81 }];
        assert_eq!(check(&spec), Err("it has a port twice"));
        spec.ports = (1..=65).map(|port| PortMap { port, to: 1 }).collect();
        assert_eq!(check(&spec), Err("it has too many ports"));
        spec.ports.clear();
        let published = |texts: &[&str]| ServiceSpec {
            publish: texts.iter().map(|text| text.parse().unwrap()).collect(),
            ..spec.clone()
        };
        assert_eq!(check(&published(&["80:8080", "192.0.2.1:81:81", "192.0.2.2:81:81"])), Ok(()));
        assert_eq!(check(&published(&["80:8080", "192.0.2.1:80:81"])), Err("it publishes a port twice"));
        let many: Vec<String> = (1..=65).map(|port| format!("{port}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(check(&published(&many)), Err("it publishes too many ports"));
        assert_eq!(check(&ServiceSpec::default()), Err("it has no address, or too many"));
    }
}
