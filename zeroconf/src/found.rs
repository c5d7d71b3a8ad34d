//! From the records of an endpoint to services, hosts and other records, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, PTR, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;

use super::cache::Cache;
use super::codec::data_bytes;
use super::names::{self, Meaning, meaning};
use lanmesh_model::zeroconf::{ADDRESSES_MAX, RECORD_MAX, RECORDS_MAX, SUBTYPES_MAX, fold, is_txt};
use lanmesh_model::{Found, RecordKind, SeenHost, SeenRecords, SeenService};

/// How long a record that names a host holds, in seconds, and how long others do (RFC 6762 section 10).
pub const HOST_TTL: u32 = 120;
/// See [`HOST_TTL`].
pub const OTHER_TTL: u32 = 4500;

/// The addresses of an address record.
pub fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

/// Whether a record says something that can be used; others are not taken up.
pub fn is_useful(record: &Record) -> bool {
    match (meaning(&record.name), &record.data) {
        (Meaning::Types, RData::PTR(to)) => matches!(meaning(to), Meaning::Kind(_)),
        (Meaning::Kind(kind) | Meaning::Subtype(_, kind), RData::PTR(to)) => {
            matches!(meaning(to), Meaning::Instance(_, of) if of == kind)
        }
        (Meaning::Instance(..), RData::SRV(srv)) => matches!(meaning(&srv.target), Meaning::Host(_)),
        (Meaning::Instance(..), RData::TXT(txt)) => is_txt(&strings(txt)),
        (Meaning::Host(_), RData::A(_) | RData::AAAA(_)) => true,
        (Meaning::Host(_), RData::CNAME(to)) => matches!(meaning(to), Meaning::Host(_)),
        (Meaning::Host(_), data @ RData::HINFO(_)) => data_bytes(data).len() <= RECORD_MAX,
        _ => false,
    }
}

fn strings(txt: &TXT) -> Vec<Vec<u8>> {
    let strings: Vec<_> = txt.txt_data.iter().map(|text| text.to_vec()).collect();
    // One empty string is how an empty record is written (RFC 6763 section 6.1).
    if strings.iter().all(Vec::is_empty) { Vec::new() } else { strings }
}

/// What the records of an endpoint amount to. A service counts once its type, its host and the host's addresses are
/// known.
pub fn of(cache: &Cache) -> Vec<Found> {
    let mut hosts: BTreeMap<String, SeenHost> = BTreeMap::new();
    let mut offered: BTreeSet<(String, String)> = BTreeSet::new();
    let mut subtypes: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut instances: BTreeMap<&Name, (String, String)> = BTreeMap::new();
    let mut others: BTreeMap<(Vec<String>, RecordKind), SeenRecords> = BTreeMap::new();
    for record in cache.records() {
        match (meaning(&record.name), &record.data) {
            (Meaning::Host(name), RData::A(_) | RData::AAAA(_)) => {
                let host =
                    hosts.entry(fold(&name)).or_insert_with(|| SeenHost { name, addresses: BTreeSet::new() });
                if host.addresses.len() < ADDRESSES_MAX {
                    host.addresses.extend(address(&record.data));
                }
            }
            (Meaning::Kind(_), RData::PTR(to)) => {
                if let Meaning::Instance(instance, kind) = meaning(to) {
                    offered.insert((fold(&instance), kind));
                }
            }
            (Meaning::Subtype(subtype, _), RData::PTR(to)) => {
                if let Meaning::Instance(instance, kind) = meaning(to) {
                    let all = subtypes.entry((fold(&instance), kind)).or_default();
                    if all.len() < SUBTYPES_MAX {
                        all.insert(subtype);
                    }
                }
            }
            (Meaning::Instance(instance, kind), RData::SRV(_)) => {
                instances.insert(&record.name, (instance, kind));
            }
            _ => {}
        }
        if let (Some(kind), Some(labels)) = (other_kind(record), names::to_labels(&record.name)) {
            let folded = labels.iter().map(|label| fold(label)).collect();
            let records = others.entry((folded, kind)).or_insert_with(|| SeenRecords {
                labels,
                kind,
                data: BTreeSet::new(),
            });
            if records.data.len() < RECORDS_MAX {
                records.data.insert(data_bytes(&record.data));
            }
        }
    }
    let mut found = Vec::new();
    for (name, (instance, kind)) in &instances {
        let key = (fold(instance), kind.clone());
        // A TXT record of a name that has a SRV record is the service's.
        others.remove(&(
            std::iter::once(key.0.clone()).chain(kind.split('.').map(str::to_owned)).collect(),
            RecordKind::Txt,
        ));
        let srv = cache.of(name).filter_map(|r| if let RData::SRV(srv) = &r.data { Some(srv) } else { None });
        let txt = cache.of(name).filter_map(|r| if let RData::TXT(txt) = &r.data { Some(txt) } else { None });
        let Some(srv) = srv.last().filter(|_| offered.contains(&key)) else { continue };
        let Meaning::Host(host) = meaning(&srv.target) else { continue };
        if !hosts.contains_key(&fold(&host)) {
            continue;
        }
        found.push(Found::Service(SeenService {
            instance: instance.clone(),
            kind: kind.clone(),
            subtypes: subtypes.remove(&key).unwrap_or_default(),
            host,
            port: srv.port,
            priority: srv.priority,
            weight: srv.weight,
            txt: txt.last().map(strings).unwrap_or_default(),
        }));
    }
    // An alias is of use where its host is.
    others.retain(|(_, kind), records| *kind != RecordKind::Cname || records.data.len() == 1);
    found.extend(hosts.into_values().map(Found::Host));
    found.extend(others.into_values().map(Found::Records));
    found
}

fn other_kind(record: &Record) -> Option<RecordKind> {
    match &record.data {
        RData::CNAME(_) => Some(RecordKind::Cname),
        RData::HINFO(_) => Some(RecordKind::Hinfo),
        // The one type that is known to have a TXT record and nothing else.
        RData::TXT(_) => match meaning(&record.name) {
            Meaning::Instance(_, kind) if kind == "_device-info._tcp" => Some(RecordKind::Txt),
            _ => None,
        },
        _ => None,
    }
}

/// What is missing to make services of the records of an endpoint.
pub fn missing(cache: &Cache) -> BTreeSet<(Name, u16)> {
    let mut missing = BTreeSet::new();
    let lacks = |name: &Name, kinds: &[RecordType]| !cache.of(name).any(|r| kinds.contains(&r.record_type()));
    for record in cache.records() {
        match (&record.data, meaning(&record.name)) {
            (RData::PTR(to), Meaning::Types) if lacks(to, &[RecordType::PTR]) => {
                missing.insert((to.0.clone(), RecordType::PTR.into()));
            }
            (RData::PTR(to), Meaning::Kind(_) | Meaning::Subtype(..)) => {
                for kind in [RecordType::SRV, RecordType::TXT].into_iter().filter(|kind| lacks(to, &[*kind]))
                {
                    missing.insert((to.0.clone(), kind.into()));
                }
            }
            (RData::SRV(srv), _) if lacks(&srv.target, &[RecordType::A, RecordType::AAAA]) => {
                for kind in [RecordType::A, RecordType::AAAA] {
                    missing.insert((srv.target.clone(), kind.into()));
                }
            }
            _ => {}
        }
    }
    missing
}

/// A record as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// With its whole time to live, and the cache-flush bit where nobody else has records of its name and type.
    pub record: Record,
    /// Whether it is announced; else it is only answered.
    pub announced: bool,
}

fn told(name: Option<Name>, ttl: u32, unique: bool, data: RData) -> Option<Told> {
    let mut record = Record::from_rdata(name?, ttl, data);
    record.mdns_cache_flush = unique;
    Some(Told { record, announced: true })
}

/// The records of what was found.
pub fn records(found: &Found) -> Vec<Told> {
    match found {
        Found::Service(service) => service_records(service),
        Found::Host(host) => host_records(host),
        Found::Records(records) => other_records(records),
    }
}

fn service_records(service: &SeenService) -> Vec<Told> {
    let SeenService { instance, kind, .. } = service;
    let (Some(name), Some(target)) = (names::instance(instance, kind), names::host(&service.host)) else {
        return Vec::new();
    };
    let pointer = |owner, to: &Name| told(owner, OTHER_TTL, false, RData::PTR(PTR(to.clone())));
    let srv = SRV::new(service.priority, service.weight, service.port, target);
    let txt: Vec<&[u8]> =
        if service.txt.is_empty() { vec![&[]] } else { service.txt.iter().map(Vec::as_slice).collect() };
    let mut records = vec![
        pointer(names::kind(kind), &name),
        told(Some(name.clone()), HOST_TTL, true, RData::SRV(srv)),
        told(Some(name.clone()), OTHER_TTL, true, RData::TXT(TXT::from_bytes(txt))),
    ];
    records.extend(service.subtypes.iter().map(|subtype| pointer(names::subtype(subtype, kind), &name)));
    records.extend(names::kind(kind).map(|kind| pointer(names::types(), &kind)));
    records.into_iter().flatten().collect()
}

fn host_records(host: &SeenHost) -> Vec<Told> {
    let Some(name) = names::host(&host.name) else { return Vec::new() };
    let addresses = host.addresses.iter().flat_map(|address| {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A(*v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
        };
        let back = RData::PTR(PTR(name.clone()));
        let back = told(Some(names::reverse(*address)), HOST_TTL, true, back);
        [told(Some(name.clone()), HOST_TTL, true, data), back.map(|back| Told { announced: false, ..back })]
    });
    addresses.flatten().collect()
}

fn other_records(records: &SeenRecords) -> Vec<Told> {
    let Some(name) = names::labels(&records.labels) else { return Vec::new() };
    let read = |bytes: &Vec<u8>| match records.kind {
        RecordKind::Cname => Some(RData::CNAME(CNAME(Name::from_bytes(bytes).ok()?))),
        RecordKind::Txt => Some(RData::TXT(TXT::from_bytes(character_strings(bytes)?))),
        RecordKind::Hinfo => match character_strings(bytes)?.as_slice() {
            [cpu, os] => Some(RData::HINFO(HINFO::from_bytes((*cpu).into(), (*os).into()))),
            _ => None,
        },
    };
    let ttl = if records.kind == RecordKind::Txt { OTHER_TTL } else { HOST_TTL };
    records
        .data
        .iter()
        .filter_map(read)
        .filter_map(|data| told(Some(name.clone()), ttl, true, data))
        .collect()
}

/// RFC 1035 section 3.3.
fn character_strings(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut strings = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*len))?;
        strings.push(string);
        bytes = rest;
    }
    Some(strings)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn learned(found: &[Found]) -> Cache {
        let mut cache = Cache::default();
        for told in found.iter().flat_map(records).filter(|told| told.announced) {
            assert!(is_useful(&told.record), "{}", told.record);
            cache.learn(Duration::ZERO, &told.record, 0.0).unwrap();
        }
        cache
    }

    fn things() -> Vec<Found> {
        vec![
            Found::Service(SeenService {
                instance: "Farm. 2".into(),
                kind: "_distcc._tcp".into(),
                subtypes: BTreeSet::from(["_gcc".into()]),
                host: "cc1".into(),
                port: 3632,
                priority: 1,
                weight: 2,
                txt: vec![b"a=1".to_vec(), b"b".to_vec()],
            }),
            Found::Host(SeenHost {
                name: "cc1".into(),
                addresses: ["10.0.0.1", "fe80::1"].map(|a| a.parse().unwrap()).into(),
            }),
            Found::Records(SeenRecords {
                labels: vec!["cc1".into()],
                kind: RecordKind::Hinfo,
                data: BTreeSet::from([b"\x06X86_64\x05LINUX".to_vec()]),
            }),
            Found::Records(SeenRecords {
                labels: vec!["cc1".into(), "_device-info".into(), "_tcp".into()],
                kind: RecordKind::Txt,
                data: BTreeSet::from([b"\x0dmodel=MacPro6".to_vec()]),
            }),
            Found::Records(SeenRecords {
                labels: vec!["www".into()],
                kind: RecordKind::Cname,
                data: BTreeSet::from([b"\x03cc1\x05local\x00".to_vec()]),
            }),
        ]
    }

    #[test]
    fn what_is_found_becomes_records_and_is_found_in_them_again() {
        let things = things();
        let cache = learned(&things);
        let again = of(&cache);
        assert_eq!(again.len(), things.len());
        assert!(things.iter().all(|thing| again.contains(thing)), "{again:#?}");
        assert!(missing(&cache).is_empty());
    }

    #[test]
    fn what_is_missing_of_a_service_is_asked_for() {
        let things = things();
        let full: Vec<_> = records(&things[0]).into_iter().map(|told| told.record).collect();
        let mut cache = Cache::default();
        let mut steps = Vec::new();
        // The type alone, then its pointer, then SRV, then TXT.
        for i in [4, 0, 1, 2] {
            cache.learn(Duration::ZERO, &full[i], 0.0).unwrap();
            assert!(of(&cache).is_empty());
            let kinds = missing(&cache).into_iter().map(|(_, kind)| RecordType::from(kind).to_string());
            steps.push(kinds.collect::<Vec<_>>().join(" "));
        }
        assert_eq!(steps, ["PTR", "TXT SRV", "TXT A AAAA", "A AAAA"]);
        for told in records(&things[1]).into_iter().filter(|told| told.announced) {
            cache.learn(Duration::ZERO, &told.record, 0.0).unwrap();
        }
        assert!(missing(&cache).is_empty() && of(&cache).len() == 2);
    }
}
