//! Values that several tests of this room start from.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record};

use super::{OwnEndpoint, RemoteNode};
use lanmesh_model::{Endpoint, EndpointName, Found, NodeId, SeenHost, SeenService, ZeroconfFact, testing};

pub fn name(text: &str) -> EndpointName {
    EndpointName::new(text).unwrap()
}

pub fn node(number: u8) -> NodeId {
    format!("{number:02x}").repeat(16).parse().unwrap()
}

pub fn address(last: u8) -> IpAddr {
    [10, 10, 0, last].into()
}

/// An endpoint at 10.10.0.`last`.
pub fn endpoint(called: &str, last: u8) -> Endpoint {
    testing::endpoint(called, [format!("10.10.0.{last}/24").parse().unwrap()])
}

pub fn local(called: &str, last: u8) -> OwnEndpoint {
    OwnEndpoint::from(&endpoint(called, last))
}

/// Another node with endpoints and facts.
pub fn remote(
    number: u8,
    endpoints: impl IntoIterator<Item = Endpoint>,
    facts: impl IntoIterator<Item = ZeroconfFact>,
) -> (NodeId, RemoteNode) {
    let endpoints = endpoints.into_iter().map(|endpoint| (endpoint.name.clone(), endpoint)).collect();
    let facts = facts.into_iter().map(|fact| (fact.found.key(), fact)).collect();
    (node(number), RemoteNode { endpoints: Arc::new(endpoints), facts: Arc::new(facts) })
}

pub fn host(endpoint: &str, called: &str, last: u8) -> ZeroconfFact {
    let host = SeenHost { name: called.into(), addresses: BTreeSet::from([address(last)]) };
    ZeroconfFact { endpoint: name(endpoint), declared: false, found: Found::Host(host) }
}

pub fn service(endpoint: &str, instance: &str, kind: &str, host: &str) -> ZeroconfFact {
    let service = SeenService {
        instance: instance.into(),
        kind: kind.into(),
        subtypes: BTreeSet::new(),
        host: host.into(),
        port: 1,
        priority: 0,
        weight: 0,
        txt: vec![b"k=v".to_vec()],
    };
    ZeroconfFact { endpoint: name(endpoint), declared: false, found: Found::Service(service) }
}

/// A name, of labels without dots.
pub fn name_of(text: &str) -> Name {
    Name::from_labels(text.split('.').map(str::as_bytes)).unwrap()
}

/// The `i`th of many pointers from one type.
pub fn pointer(i: usize) -> Record {
    let instance = name_of(&format!("instance number {i}._distcc._tcp.local"));
    Record::from_rdata(name_of("_distcc._tcp.local"), 4500, RData::PTR(PTR(instance)))
}
