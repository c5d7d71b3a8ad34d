//! Services that are advertised, and the names by which they are browsed for (RFC 6763).

use std::collections::HashSet;

use super::index::Index;
use super::key::key;
use super::offer::{LABEL_MAX, Offer};
use super::{Entry, Instance};

/// The domains that a browser asks a domain for (RFC 6763 section 11): browse, the default for it, and legacy browse.
const BROWSE: [&str; 3] = ["b", "db", "lb"];

/// All offers of a network. Two nodes settle between them who has a name; until they have, the later one gets a number, as a
/// host that meets its own name on the link gives itself one.
pub(super) fn of(index: &Index, instances: &[Instance]) -> Vec<Offer> {
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

/// `name (number)`, cut at a character so that it fits a label.
fn numbered(name: &str, number: u32) -> Box<[u8]> {
    let suffix = format!(" ({number})");
    let mut end = name.len().min(LABEL_MAX - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end]).into_bytes().into_boxed_slice()
}
