//! The services that a node's facts amount to, as people browse for them. Most are facts of their own; others are put together from
//! records that say it in another way: a target beyond `.local` or without a domain, no SRV record at all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::EndpointName;
use super::zeroconf::{
    Found, SUBTYPES_MAX, SeenRecords, SeenService, ZeroconfFact, ZeroconfKey, fold, fold_labels, is_label,
    is_service_type,
};

const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// A service as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedService<'a> {
    /// The endpoint that it is of.
    pub endpoint: &'a EndpointName,
    /// Whether it was declared when the endpoint was attached.
    pub declared: bool,
    /// What it is. Its host is a name below `.local`, one with a dot at its end where it is not below `.local`, or empty where
    /// nothing says which.
    pub service: Cow<'a, SeenService>,
    /// What its host announces; none where the host is not the endpoint's.
    pub addresses: BTreeSet<IpAddr>,
}

/// The services in the facts of one node.
pub fn listed(facts: &BTreeMap<ZeroconfKey, ZeroconfFact>) -> Vec<ListedService<'_>> {
    let mut all = Vec::new();
    let mut records = Vec::new();
    for fact in facts.values() {
        match &fact.found {
            Found::Service(service) => {
                let host = facts.get(&ZeroconfKey::Host(fold(&service.host)));
                let addresses = match host.map(|fact| &fact.found) {
                    Some(Found::Host(host)) => host.addresses.clone(),
                    _ => BTreeSet::new(),
                };
                let service = Cow::Borrowed(service);
                all.push(ListedService {
                    endpoint: &fact.endpoint,
                    declared: fact.declared,
                    service,
                    addresses,
                });
            }
            Found::Records(found) => records.push((fact, found)),
            Found::Host(_) => {}
        }
    }
    if !records.is_empty() {
        let known = |instance: &str, kind: &str| facts.contains_key(&ZeroconfKey::service(instance, kind));
        all.extend(put_together(&records).filter(|one| !known(&one.service.instance, &one.service.kind)));
    }
    all
}

/// A name in the form in which names are compared.
type Folded = Vec<Vec<u8>>;

/// What an endpoint says of a name.
#[derive(Default)]
struct Said<'a> {
    srv: Option<&'a [u8]>,
    txt: Option<&'a [u8]>,
    subtypes: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// The instance and its type, where something points at it as such.
    instance: Option<(String, String)>,
}

fn put_together<'a>(
    records: &[(&'a ZeroconfFact, &'a SeenRecords)],
) -> impl Iterator<Item = ListedService<'a>> {
    let mut said: BTreeMap<(&EndpointName, Folded), Said<'_>> = BTreeMap::new();
    for (fact, found) in records {
        let of = |name: &[Vec<u8>]| (&fact.endpoint, fold_labels(name));
        for data in &found.data {
            match found.kind {
                SRV => said.entry(of(&found.name)).or_default().srv = Some(data),
                TXT => said.entry(of(&found.name)).or_default().txt = Some(data),
                A | AAAA => said.entry(of(&found.name)).or_default().addresses.extend(address(data)),
                PTR => {
                    let Some((pointed, subtype)) = pointed(&found.name, data) else { continue };
                    let said = said.entry(of(&pointed.name)).or_default();
                    match subtype {
                        Some(_) if said.subtypes.len() >= SUBTYPES_MAX => {}
                        Some(subtype) => drop(said.subtypes.insert(subtype)),
                        None => said.instance = Some((pointed.instance, pointed.kind)),
                    }
                }
                _ => {}
            }
        }
    }
    let service = |((endpoint, _), said): (&(&'a EndpointName, Folded), &Said<'_>)| {
        let (instance, kind) = said.instance.clone()?;
        let (number, target) = match said.srv {
            Some(srv) => (srv.first_chunk::<6>()?, labels(srv.get(6..)?)?),
            None => (&[0; 6], Vec::new()),
        };
        let [priority, weight, port] = [0, 2, 4].map(|at| u16::from_be_bytes([number[at], number[at + 1]]));
        let service = SeenService {
            instance,
            kind,
            subtypes: said.subtypes.clone(),
            host: shown(&target),
            port,
            priority,
            weight,
            txt: said.txt.and_then(strings).unwrap_or_default(),
        };
        Some((*endpoint, service, fold_labels(&target)))
    };
    let found: Vec<_> = said.iter().filter_map(service).collect();
    found.into_iter().map(move |(endpoint, service, target)| ListedService {
        endpoint,
        declared: false,
        service: Cow::Owned(service),
        addresses: said.get(&(endpoint, target)).map(|said| said.addresses.clone()).unwrap_or_default(),
    })
}

/// An instance that a type or a subtype points at.
struct Pointed {
    name: Vec<Vec<u8>>,
    instance: String,
    kind: String,
}

/// What a PTR record of the type, or of a subtype, `name` points at, and which subtype that is (RFC 6763 sections 4.1 and 7.1).
fn pointed(name: &[Vec<u8>], data: &[u8]) -> Option<(Pointed, Option<String>)> {
    let (subtype, kind) = match name {
        [service, protocol, local] => (None, [service, protocol, local]),
        [subtype, sub, service, protocol, local] if sub.eq_ignore_ascii_case(b"_sub") => {
            (Some(text(subtype)?), [service, protocol, local])
        }
        _ => return None,
    };
    let to = labels(data)?;
    let (instance, rest) = to.split_first()?;
    let same = |(a, b): (&Vec<u8>, &&Vec<u8>)| a.eq_ignore_ascii_case(b);
    if rest.len() != kind.len()
        || !rest.iter().zip(&kind).all(same)
        || !kind[2].eq_ignore_ascii_case(b"local")
    {
        return None;
    }
    let instance = text(instance)?;
    let kind = fold(&format!("{}.{}", text(kind[0])?, text(kind[1])?));
    is_service_type(&kind).then_some((Pointed { name: to, instance, kind }, subtype))
}

fn text(label: &[u8]) -> Option<String> {
    std::str::from_utf8(label).ok().filter(|text| is_label(text)).map(str::to_owned)
}

/// A name as it is shown: below `.local` without that, elsewhere with a dot at its end.
fn shown(name: &[Vec<u8>]) -> String {
    let (labels, end) = match name.split_last() {
        Some((last, below)) if last.eq_ignore_ascii_case(b"local") && !below.is_empty() => (below, ""),
        Some(_) => (name, "."),
        None => (name, ""),
    };
    let labels: Vec<_> = labels.iter().map(|label| String::from_utf8_lossy(label)).collect();
    labels.join(".") + end
}

/// The labels of a name without compression, which has nothing behind it (RFC 1035 section 3.1).
fn labels(mut data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut labels = Vec::new();
    loop {
        let (length, rest) = data.split_first()?;
        if *length == 0 {
            return rest.is_empty().then_some(labels);
        }
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        labels.push(label.to_vec());
        data = rest;
    }
}

/// The strings of a TXT record; none where there is one empty string (RFC 6763 section 6.1).
fn strings(mut data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*length))?;
        strings.push(string.to_vec());
        data = rest;
    }
    Some(if strings.iter().all(Vec::is_empty) { Vec::new() } else { strings })
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(data).ok()?));
    v4().or_else(|| Some(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Vec<Vec<u8>> {
        text.split('.').map(|label| label.as_bytes().to_vec()).collect()
    }

    fn bytes(text: &str) -> Vec<u8> {
        let labels = name(text).into_iter().filter(|label| !label.is_empty());
        let mut bytes: Vec<u8> = labels.flat_map(|label| [vec![label.len() as u8], label].concat()).collect();
        bytes.push(0);
        bytes
    }

    fn srv(target: &str) -> Vec<u8> {
        [&[0, 1, 0, 2, 0x1f, 0x90][..], &bytes(target)].concat()
    }

    fn facts(records: &[(&str, u16, Vec<u8>)]) -> BTreeMap<ZeroconfKey, ZeroconfFact> {
        let fact = |(owner, kind, data): &(&str, u16, Vec<u8>)| {
            let found = Found::Records(SeenRecords {
                name: name(owner),
                kind: *kind,
                unique: *kind != PTR,
                ttl: 120,
                data: BTreeSet::from([data.clone()]),
            });
            let endpoint = EndpointName::new("e").unwrap();
            (found.key(), ZeroconfFact { endpoint, declared: false, found })
        };
        records.iter().map(fact).collect()
    }

    fn one(records: &[(&str, u16, Vec<u8>)]) -> (SeenService, Vec<IpAddr>) {
        let facts = facts(records);
        let all = listed(&facts);
        assert_eq!(all.len(), 1, "{all:?}");
        (all[0].service.clone().into_owned(), all[0].addresses.iter().copied().collect())
    }

    #[test]
    fn a_target_is_listed_as_it_is_with_the_addresses_that_its_endpoint_has() {
        let pointer = ("_X._tcp.local", PTR, bytes("My thing._X._tcp.local"));
        for (target, host) in [
            ("host.example.org", "host.example.org."),
            ("bare", "bare."),
            ("My thing._X._tcp.local", "My thing._X._tcp"),
            ("h.local", "h"),
        ] {
            let (service, addresses) = one(&[
                pointer.clone(),
                ("my thing._x._tcp.local", SRV, srv(target)),
                ("My thing._X._tcp.local", TXT, b"\x03a=1".to_vec()),
                ("_sub1._sub._x._tcp.local", PTR, bytes("My thing._x._tcp.local")),
                (target, A, vec![10, 0, 0, 1]),
            ]);
            assert_eq!((service.instance.as_str(), service.kind.as_str()), ("My thing", "_x._tcp"));
            assert_eq!((service.priority, service.weight, service.port), (1, 2, 8080));
            assert_eq!((service.host.as_str(), service.txt), (host, vec![b"a=1".to_vec()]));
            assert_eq!(service.subtypes, BTreeSet::from(["_sub1".to_owned()]));
            assert_eq!(addresses, [IpAddr::from([10, 0, 0, 1])]);
        }
    }

    #[test]
    fn a_service_without_a_srv_record_has_no_host_and_what_nothing_points_at_is_none() {
        let (service, addresses) = one(&[
            ("_p2p._udp.local", PTR, bytes("peer._p2p._udp.local")),
            ("peer._p2p._udp.local", TXT, b"\x0bdnsaddr=/ip".to_vec()),
        ]);
        assert_eq!((service.host.as_str(), service.port, addresses.len()), ("", 0, 0));
        assert_eq!(service.txt, [b"dnsaddr=/ip".to_vec()]);
        for alone in [
            ("lone._x._tcp.local", SRV, srv("h.local")),
            ("_x._tcp.local", PTR, bytes("elsewhere._y._tcp.local")),
            ("b._dns-sd._udp.local", PTR, bytes("example.org")),
            ("_x._tcp.local", PTR, b"\x05cut".to_vec()),
        ] {
            assert!(listed(&facts(std::slice::from_ref(&alone))).is_empty(), "{alone:?}");
        }
    }
}
