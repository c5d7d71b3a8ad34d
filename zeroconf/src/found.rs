//! From the records of an endpoint to services, hosts and other records, and back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, PTR, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::cache::Cache;
use super::codec::data_bytes;
use super::names::{self, Meaning, meaning};
use lanmesh_model::zeroconf::{
    ADDRESSES_MAX, RECORD_MAX, RECORDS_MAX, SUBTYPES_MAX, fold, fold_labels, is_carried, is_txt,
};
use lanmesh_model::{Found, SeenHost, SeenRecords, SeenService, ZeroconfFact};

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

/// Whether a record is of a type that is carried, whatever it says; others are not taken up.
pub fn is_useful(record: &Record) -> bool {
    is_carried(record.record_type().into())
}

/// Whether a record is small enough.
pub fn fits(record: &Record) -> bool {
    match &record.data {
        RData::TXT(txt) => is_txt(&strings(txt)),
        data => !record.name.is_root() && data_bytes(data).len() <= RECORD_MAX,
    }
}

fn strings(txt: &TXT) -> Vec<Vec<u8>> {
    let strings: Vec<_> = txt.txt_data.iter().map(|text| text.to_vec()).collect();
    // One empty string is how an empty record is written (RFC 6763 section 6.1).
    if strings.iter().all(Vec::is_empty) { Vec::new() } else { strings }
}

/// What the records of an endpoint amount to: services, once their type, host and the host's addresses are known; hosts with
/// those addresses that are the endpoint's own; and everything else as it is.
pub fn of(cache: &Cache, is_own: impl Fn(&IpAddr) -> bool) -> Vec<Found> {
    let mut hosts: BTreeMap<String, SeenHost> = BTreeMap::new();
    let mut offered: BTreeSet<(String, String)> = BTreeSet::new();
    let mut subtypes: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut instances: BTreeMap<&Name, (String, String)> = BTreeMap::new();
    for record in cache.records() {
        match (meaning(&record.name), &record.data) {
            (Meaning::Host(name), RData::A(_) | RData::AAAA(_)) => {
                let host =
                    hosts.entry(fold(&name)).or_insert_with(|| SeenHost { name, addresses: BTreeSet::new() });
                if host.addresses.len() < ADDRESSES_MAX {
                    host.addresses.extend(address(&record.data).filter(&is_own));
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
    }
    hosts.retain(|_, host| !host.addresses.is_empty());
    let mut found = Vec::new();
    for (name, (instance, kind)) in &instances {
        let key = (fold(instance), kind.clone());
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
    found.extend(hosts.into_values().map(Found::Host));
    found.extend(others(cache, &found));
    found
}

/// The records that do not follow from what was found. Names are told apart by case, so that a browser sees them as they were
/// sent.
fn others(cache: &Cache, found: &[Found]) -> Vec<Found> {
    let written = |record: &Record| (names::to_labels(&record.name), data_bytes(&record.data));
    let follows: HashSet<_> = found.iter().flat_map(records).map(|record| written(&record)).collect();
    let mut unique: BTreeMap<(Vec<Vec<u8>>, u16), SeenRecords> = BTreeMap::new();
    let mut shared = Vec::new();
    for record in cache.records() {
        let (name, data) = written(record);
        let kind = u16::from(record.record_type());
        let here = SeenRecords {
            kind,
            unique: record.mdns_cache_flush,
            ttl: record.ttl.min(OTHER_TTL),
            data: BTreeSet::from([data.clone()]),
            name: name.clone(),
        };
        if follows.contains(&(name, data.clone())) {
            continue;
        }
        if !here.unique {
            shared.push(Found::Records(here));
            continue;
        }
        let there = unique.entry((fold_labels(&here.name), kind)).or_insert(here);
        if there.data.len() < RECORDS_MAX {
            there.data.insert(data);
        }
    }
    shared.extend(unique.into_values().map(Found::Records));
    shared
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
            // Nobody here is asked for names that are not of this link.
            (RData::SRV(srv), _) if meaning(&srv.target) == Meaning::Outside => {}
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

/// The records that this agent answers for, where it does: with the reverse names of the hosts that it has made itself.
pub fn answered(fact: &ZeroconfFact) -> Vec<Told> {
    let told = |announced| move |record| Told { record, announced };
    let mut answered: Vec<Told> = records(&fact.found).into_iter().map(told(true)).collect();
    if let Found::Host(host) = &fact.found
        && fact.declared
    {
        answered.extend(reverse_names(host).into_iter().map(told(false)));
    }
    answered
}

fn record(name: Option<Name>, ttl: u32, unique: bool, data: RData) -> Option<Record> {
    let mut record = Record::from_rdata(name?, ttl, data);
    record.mdns_cache_flush = unique;
    Some(record)
}

/// The records of what was found, as they are announced.
pub fn records(found: &Found) -> Vec<Record> {
    match found {
        Found::Service(service) => service_records(service),
        Found::Host(host) => host_records(host),
        Found::Records(records) => other_records(records),
    }
}

fn service_records(service: &SeenService) -> Vec<Record> {
    let SeenService { instance, kind, .. } = service;
    let (Some(name), Some(target)) = (names::instance(instance, kind), names::host(&service.host)) else {
        return Vec::new();
    };
    let pointer = |owner, to: &Name| record(owner, OTHER_TTL, false, RData::PTR(PTR(to.clone())));
    let srv = SRV::new(service.priority, service.weight, service.port, target);
    let txt: Vec<&[u8]> =
        if service.txt.is_empty() { vec![&[]] } else { service.txt.iter().map(Vec::as_slice).collect() };
    let mut records = vec![
        pointer(names::kind(kind), &name),
        record(Some(name.clone()), HOST_TTL, true, RData::SRV(srv)),
        record(Some(name.clone()), OTHER_TTL, true, RData::TXT(TXT::from_bytes(txt))),
    ];
    records.extend(service.subtypes.iter().map(|subtype| pointer(names::subtype(subtype, kind), &name)));
    records.extend(names::kind(kind).map(|kind| pointer(names::types(), &kind)));
    records.into_iter().flatten().collect()
}

fn host_records(host: &SeenHost) -> Vec<Record> {
    let Some(name) = names::host(&host.name) else { return Vec::new() };
    let addresses = host.addresses.iter().map(|address| match address {
        IpAddr::V4(v4) => RData::A(A(*v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
    });
    addresses.filter_map(|data| record(Some(name.clone()), HOST_TTL, true, data)).collect()
}

fn reverse_names(host: &SeenHost) -> Vec<Record> {
    let Some(name) = names::host(&host.name) else { return Vec::new() };
    let back = |address: &IpAddr| {
        record(Some(names::reverse(*address)), HOST_TTL, true, RData::PTR(PTR(name.clone())))
    };
    host.addresses.iter().filter_map(back).collect()
}

fn other_records(records: &SeenRecords) -> Vec<Record> {
    let SeenRecords { name, kind, unique, ttl, data } = records;
    let Some(name) = names::labels(name) else { return Vec::new() };
    let read = |bytes: &Vec<u8>| lanmesh_message::data(RecordType::from(*kind), bytes);
    let ttl = (*ttl).clamp(1, OTHER_TTL);
    data.iter().filter_map(read).filter_map(|data| record(Some(name.clone()), ttl, *unique, data)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn learned(found: &[Found]) -> Cache {
        let mut cache = Cache::default();
        for record in found.iter().flat_map(records) {
            assert!(is_useful(&record), "{}", record);
            cache.learn(Duration::ZERO, &record, 0.0).unwrap();
        }
        cache
    }

    fn other(name: &str, kind: u16, unique: bool, data: &[u8]) -> Found {
        let name = name.split('.').map(|label| label.as_bytes().to_vec()).collect();
        Found::Records(SeenRecords { name, kind, unique, ttl: 100, data: BTreeSet::from([data.to_vec()]) })
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
            other("cc1.local", 13, true, b"\x06X86_64\x05LINUX"),
            other("cc1._device-info._tcp.local", 16, true, b"\x0dmodel=MacPro6"),
            other("www.local", 5, true, b"\x03cc1\x05local\x00"),
            other("out.local", 5, true, b"\x03www\x07example\x03org\x00"),
            other("b._dns-sd._udp.local", 12, false, b"\x05local\x00"),
            other("9.0.0.10.in-addr.arpa", 12, true, b"\x03cc1\x05local\x00"),
            other("Bare", 1, true, &[10, 0, 0, 1]),
            other("self._X._tcp.local", 33, true, b"\0\0\0\0\0\x50\x04self\x02_X\x04_tcp\x05local\x00"),
            other("self._X._tcp.local", 1, true, &[10, 0, 0, 1]),
            other("unknown.local", 0xff00, false, b"anything"),
        ]
    }

    #[test]
    fn what_is_found_becomes_records_and_is_found_in_them_again() {
        let things = things();
        let cache = learned(&things);
        let again = of(&cache, |_| true);
        assert_eq!(again.len(), things.len());
        assert!(things.iter().all(|thing| again.contains(thing)), "{again:#?}");
        assert!(missing(&cache).is_empty());
    }

    #[test]
    fn what_is_missing_of_a_service_is_asked_for() {
        let things = things();
        let full = records(&things[0]);
        let mut cache = Cache::default();
        let mut steps = Vec::new();
        // The type alone, then its pointer, then SRV, then TXT.
        for i in [4, 0, 1, 2] {
            cache.learn(Duration::ZERO, &full[i], 0.0).unwrap();
            assert!(!of(&cache, |_| true).iter().any(|found| matches!(found, Found::Service(_))));
            let kinds = missing(&cache).into_iter().map(|(_, kind)| RecordType::from(kind).to_string());
            steps.push(kinds.collect::<Vec<_>>().join(" "));
        }
        assert_eq!(steps, ["PTR", "TXT SRV", "TXT A AAAA", "A AAAA"]);
        for record in records(&things[1]) {
            cache.learn(Duration::ZERO, &record, 0.0).unwrap();
        }
        assert!(missing(&cache).is_empty() && of(&cache, |_| true).len() == 2);
    }
}
