//! What mDNS brought to light.
//!
//! The last form of a key and of a thing came after the others: nodes that do not know it carry such facts and do not believe
//! them. So what the form before it can say is said in that one.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Stands;
use crate::model::{Found, SeenHost, SeenRecords, SeenService, ZeroconfFact, ZeroconfKey};

/// What something that mDNS brought to light is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) enum SeenKey {
    Service {
        kind: String,
        instance: String,
    },
    Host(String),
    /// Below `.local`, of one of [`TEXT_KINDS`], and nobody else's.
    Records(Vec<String>, u16),
    AnyRecords {
        name: Vec<Vec<u8>>,
        kind: u16,
        shared: Option<Vec<u8>>,
    },
}

/// What mDNS brought to light, and of which endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster) struct Seen {
    endpoint: String,
    /// Whether it was declared when the endpoint was attached; else it was heard.
    declared: bool,
    found: SeenThing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum SeenThing {
    Service {
        instance: String,
        kind: String,
        subtypes: Vec<String>,
        host: String,
        port: u16,
        priority: u16,
        weight: u16,
        txt: Vec<Vec<u8>>,
    },
    Host {
        name: String,
        addresses: Vec<IpAddr>,
    },
    /// Those of a [`SeenKey::Records`] that hold for as long as RFC 6762 section 10 advises.
    Records {
        labels: Vec<String>,
        /// The type's number in DNS.
        kind: u16,
        data: Vec<Vec<u8>>,
    },
    AnyRecords {
        name: Vec<Vec<u8>>,
        kind: u16,
        unique: bool,
        /// In seconds.
        ttl: u32,
        data: Vec<Vec<u8>>,
    },
}

/// The types of which a [`SeenKey::Records`] can be, with the seconds that its records hold: CNAME, HINFO and TXT (RFC 1035
/// section 3.2.2).
const TEXT_KINDS: [(u16, u32); 3] = [(5, 120), (13, 120), (16, 4500)];

fn ttl_of(kind: u16) -> Option<u32> {
    TEXT_KINDS.iter().find(|(number, _)| *number == kind).map(|(_, ttl)| *ttl)
}

/// The labels below `.local` of a name that is nothing but text.
fn text_below_local(name: &[Vec<u8>]) -> Option<Vec<String>> {
    let (last, below) = name.split_last()?;
    let text = |label: &Vec<u8>| String::from_utf8(label.clone()).ok();
    below.iter().map(text).collect::<Option<Vec<_>>>().filter(|_| last.eq_ignore_ascii_case(b"local"))
}

fn below_local(labels: Vec<String>) -> Vec<Vec<u8>> {
    labels.into_iter().map(String::into_bytes).chain([b"local".to_vec()]).collect()
}

impl Stands<ZeroconfKey> for SeenKey {
    fn of(key: &ZeroconfKey) -> Self {
        match key {
            ZeroconfKey::Service { kind, instance } => {
                Self::Service { kind: kind.clone(), instance: instance.clone() }
            }
            ZeroconfKey::Host(name) => Self::Host(name.clone()),
            ZeroconfKey::Records { name, kind, shared } => {
                let labels = text_below_local(name).filter(|_| shared.is_none() && ttl_of(*kind).is_some());
                match labels {
                    Some(labels) => Self::Records(labels, *kind),
                    None => Self::AnyRecords { name: name.clone(), kind: *kind, shared: shared.clone() },
                }
            }
        }
    }

    fn present(self) -> Option<ZeroconfKey> {
        let key = match self.clone() {
            Self::Service { kind, instance } => ZeroconfKey::Service { kind, instance },
            Self::Host(name) => ZeroconfKey::Host(name),
            Self::Records(labels, kind) => {
                ZeroconfKey::Records { name: below_local(labels), kind, shared: None }
            }
            Self::AnyRecords { name, kind, shared } => ZeroconfKey::Records { name, kind, shared },
        };
        // One thing has one key.
        (Self::of(&key) == self).then_some(key)
    }
}

impl Stands<ZeroconfFact> for Seen {
    fn of(fact: &ZeroconfFact) -> Self {
        let found = match &fact.found {
            Found::Service(service) => {
                let SeenService { instance, kind, subtypes, host, port, priority, weight, txt } = service;
                SeenThing::Service {
                    instance: instance.clone(),
                    kind: kind.clone(),
                    subtypes: subtypes.iter().cloned().collect(),
                    host: host.clone(),
                    port: *port,
                    priority: *priority,
                    weight: *weight,
                    txt: txt.clone(),
                }
            }
            Found::Host(SeenHost { name, addresses }) => {
                SeenThing::Host { name: name.clone(), addresses: addresses.iter().copied().collect() }
            }
            Found::Records(SeenRecords { name, kind, unique, ttl, data }) => {
                let labels = text_below_local(name).filter(|_| *unique && ttl_of(*kind) == Some(*ttl));
                let (kind, data) = (*kind, data.iter().cloned().collect());
                match labels {
                    Some(labels) => SeenThing::Records { labels, kind, data },
                    None => {
                        SeenThing::AnyRecords { name: name.clone(), kind, unique: *unique, ttl: *ttl, data }
                    }
                }
            }
        };
        Self { endpoint: fact.endpoint.to_string(), declared: fact.declared, found }
    }

    fn present(self) -> Option<ZeroconfFact> {
        let found = match self.found {
            SeenThing::Service { instance, kind, subtypes, host, port, priority, weight, txt } => {
                let subtypes = subtypes.into_iter().collect();
                Found::Service(SeenService { instance, kind, subtypes, host, port, priority, weight, txt })
            }
            SeenThing::Host { name, addresses } => {
                Found::Host(SeenHost { name, addresses: addresses.into_iter().collect() })
            }
            SeenThing::Records { labels, kind, data } => {
                let (name, ttl, data) = (below_local(labels), ttl_of(kind)?, data.into_iter().collect());
                Found::Records(SeenRecords { name, kind, unique: true, ttl, data })
            }
            SeenThing::AnyRecords { name, kind, unique, ttl, data } => {
                let data = data.into_iter().collect();
                Found::Records(SeenRecords { name, kind, unique, ttl, data })
            }
        };
        Some(ZeroconfFact { endpoint: self.endpoint.parse().ok()?, declared: self.declared, found })
    }
}
