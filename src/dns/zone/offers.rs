//! Services that are advertised, and the names by which they are browsed for (RFC 6763).

use std::collections::HashSet;

use super::build::Index;
use super::key::key;
use super::{Entry, Instance};
use crate::model::{AdvertisedService, Endpoint};

/// The domains that a browser asks a domain for (RFC 6763 section 11): browse, the default for it, and legacy browse.
const BROWSE: [&str; 3] = ["b", "db", "lb"];
/// The longest label, in bytes (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;

/// A service instance with a host that has it.
#[derive(Debug)]
pub(super) struct Offer {
    /// The instance's label.
    pub instance: Box<[u8]>,
    /// The two labels of its type.
    pub kind: [Box<[u8]>; 2],
    pub subtypes: Vec<Box<[u8]>>,
    pub host: u32,
    pub port: u16,
    pub txt: Vec<Box<[u8]>>,
}

impl Offer {
    /// `None` where something does not fit into a name.
    fn new(instance: &Instance, host: u32) -> Option<Self> {
        let label = |text: &str| {
            (1..=LABEL_MAX).contains(&text.len()).then(|| text.as_bytes().to_vec().into_boxed_slice())
        };
        let (service, protocol) = instance.kind.split_once('.')?;
        Some(Self {
            instance: label(&instance.name)?,
            kind: [label(service)?, label(protocol).filter(|_| !protocol.contains('.'))?],
            subtypes: instance.subtypes.iter().filter_map(|subtype| label(subtype)).collect(),
            host,
            port: instance.port,
            txt: instance
                .txt
                .iter()
                .filter(|text| text.len() <= 255)
                .map(|text| text.clone().into_boxed_slice())
                .collect(),
        })
    }

    /// The labels of the instance's name below the network's domain.
    pub fn labels(&self) -> [&[u8]; 3] {
        [&self.instance, &self.kind[0], &self.kind[1]]
    }
}

/// All offers of a network: what its endpoints advertise, and `instances`. Of those that share a name the later
/// ones get a number, as a host that meets its own name on the link gives itself one.
pub(super) fn of(index: &Index, endpoints: &[&Endpoint], instances: &[Instance]) -> Vec<Offer> {
    let mut taken = HashSet::new();
    let mut offers = Vec::new();
    let mut offer = |instance: Instance| {
        // Only a host that has its name can be pointed at by it.
        let host = index.host_named(instance.endpoint.as_str())?;
        let mut made = Offer::new(&instance, host)?;
        for number in 2.. {
            if taken.insert(key(made.labels())) {
                break;
            }
            made.instance = numbered(&instance.name, number);
        }
        offers.push(made);
        Some(())
    };
    for endpoint in endpoints {
        for service in &endpoint.services {
            let _ = offer(advertised(endpoint, service));
        }
    }
    for instance in instances {
        let _ = offer(instance.clone());
    }
    offers
}

/// Makes `index.offers` known by name.
pub(super) fn add_names(index: &mut Index) {
    let names = &mut index.names;
    let mut types = Vec::new();
    for (number, offer) in index.offers.iter().enumerate() {
        let number = number as u32;
        let [service, protocol] = [&*offer.kind[0], &*offer.kind[1]];
        names.insert(key(offer.labels()), Entry::Instance(number));
        match names.entry(key([service, protocol])).or_insert_with(|| Entry::Type(Vec::new())) {
            Entry::Type(instances) => {
                if instances.is_empty() {
                    types.push(number);
                }
                instances.push(number);
            }
            _ => continue,
        }
        names.entry(key([protocol])).or_insert(Entry::Empty);
        for subtype in &offer.subtypes {
            names.entry(key([b"_sub", service, protocol])).or_insert(Entry::Empty);
            if let Entry::Subtype(instances) = names
                .entry(key([subtype, &b"_sub"[..], service, protocol]))
                .or_insert_with(|| Entry::Subtype(Vec::new()))
            {
                instances.push(number);
            }
        }
    }
    names.insert(key(["_services", "_dns-sd", "_udp"]), Entry::Types(types));
    for name in BROWSE {
        names.insert(key([name, "_dns-sd", "_udp"]), Entry::Domain);
    }
    names.entry(key(["_dns-sd", "_udp"])).or_insert(Entry::Empty);
    names.entry(key(["_udp"])).or_insert(Entry::Empty);
}

/// What is asked below the reverse name of a subnet's first address (RFC 6763 section 11): which domain to browse.
/// `rest` is what stands to the left of the address, in lower case.
pub(super) fn reverse_entry(rest: &[u8]) -> Option<Entry> {
    let tail = key(["_dns-sd", "_udp"]);
    if rest.is_empty() || *rest == *tail || *rest == *key(["_udp"]) {
        return Some(Entry::Empty);
    }
    BROWSE.iter().any(|name| *rest == *key([name, "_dns-sd", "_udp"])).then_some(Entry::Domain)
}

/// An endpoint's own advertisement: its instance is called as it is, unless it says otherwise.
fn advertised(endpoint: &Endpoint, service: &AdvertisedService) -> Instance {
    Instance {
        name: service.instance_of(&endpoint.name),
        kind: service.kind.clone(),
        subtypes: service.subtypes.iter().cloned().collect(),
        endpoint: endpoint.name.clone(),
        port: service.port,
        txt: service.strings(),
    }
}

/// `name (number)`, cut at a character so that it fits a label.
fn numbered(name: &str, number: u32) -> Box<[u8]> {
    let suffix = format!(" ({number})");
    let mut end = name.len().min(LABEL_MAX - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end]).into_bytes().into_boxed_slice()
}
