//! Names below `.local`, and what they stand for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;
use lanmesh_model::zeroconf::{fold, is_host, is_label, is_service_type};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// `_services._dns-sd._udp.local` (RFC 6763 section 9).
    Types,
    /// `_distcc._tcp.local`.
    Kind(String),
    /// `_x._sub._distcc._tcp.local` (RFC 6763 section 7.1).
    Subtype(String, String),
    /// `Instance._distcc._tcp.local`.
    Instance(String, String),
    /// `host.local`.
    Host(String),
    /// Anything else below `.local`.
    Other,
    /// Not below `.local`.
    Outside,
}

/// What `name` stands for.
pub fn meaning(name: &Name) -> Meaning {
    let labels: Option<Vec<&str>> = name.iter().map(|label| std::str::from_utf8(label).ok()).collect();
    let below = match labels.as_deref() {
        Some([rest @ .., last]) if last.eq_ignore_ascii_case("local") => rest,
        // What is no text has no place in a registry that people read.
        Some(_) => return Meaning::Outside,
        None => return Meaning::Other,
    };
    let kind = |service: &str, protocol: &str| {
        let kind = fold(&format!("{service}.{protocol}"));
        is_service_type(&kind).then_some(kind)
    };
    let is = |label: &str, what: &str| label.eq_ignore_ascii_case(what);
    match below {
        [a, b, c] if is(a, "_services") && is(b, "_dns-sd") && is(c, "_udp") => Meaning::Types,
        [service, protocol] if service.starts_with('_') => {
            kind(service, protocol).map_or(Meaning::Other, Meaning::Kind)
        }
        [subtype, sub, service, protocol] if is(sub, "_sub") && is_label(subtype) => {
            kind(service, protocol).map_or(Meaning::Other, |kind| Meaning::Subtype((*subtype).into(), kind))
        }
        [instance, service, protocol] if is_label(instance) && service.starts_with('_') => {
            kind(service, protocol).map_or(Meaning::Other, |kind| Meaning::Instance((*instance).into(), kind))
        }
        labels if labels.iter().all(|label| !label.contains('.')) && is_host(&labels.join(".")) => {
            Meaning::Host(labels.join("."))
        }
        _ => Meaning::Other,
    }
}

fn below_local<'a>(labels: impl Iterator<Item = &'a str>) -> Option<Name> {
    Name::from_labels(labels.chain(["local"]).map(str::as_bytes)).ok().filter(|name| name.len() <= 255)
}

/// `_services._dns-sd._udp.local`.
pub fn types() -> Option<Name> {
    below_local(["_services", "_dns-sd", "_udp"].into_iter())
}

/// `kind.local`.
pub fn kind(kind: &str) -> Option<Name> {
    below_local(kind.split('.'))
}

/// `subtype._sub.kind.local`.
pub fn subtype(subtype: &str, kind: &str) -> Option<Name> {
    below_local([subtype, "_sub"].into_iter().chain(kind.split('.')))
}

/// `instance.kind.local`.
pub fn instance(instance: &str, kind: &str) -> Option<Name> {
    below_local([instance].into_iter().chain(kind.split('.')))
}

/// `host.local`.
pub fn host(host: &str) -> Option<Name> {
    below_local(host.split('.'))
}

/// The name of these labels.
pub fn labels(labels: &[Vec<u8>]) -> Option<Name> {
    Name::from_labels(labels.iter().map(Vec::as_slice)).ok().filter(|name| name.len() <= 255)
}

/// The labels of a name.
pub fn to_labels(name: &Name) -> Vec<Vec<u8>> {
    name.iter().map(<[u8]>::to_vec).collect()
}

/// The address that is looked up under a name; see [`reverse`].
pub fn reversed(name: &Name) -> Option<IpAddr> {
    let digits = |radix: u32, from: &[&[u8]]| -> Option<Vec<u8>> {
        let digit = |label: &&[u8]| u8::from_str_radix(std::str::from_utf8(label).ok()?, radix).ok();
        from.iter().rev().map(digit).collect()
    };
    let labels: Vec<&[u8]> = name.iter().collect();
    let (below, [tree, arpa]) = labels.split_last_chunk()?;
    if !arpa.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    if tree.eq_ignore_ascii_case(b"in-addr") {
        return Some(<[u8; 4]>::try_from(digits(10, below)?).ok()?.into());
    }
    if !tree.eq_ignore_ascii_case(b"ip6") || below.iter().any(|label| label.len() != 1) {
        return None;
    }
    let nibbles = digits(16, below)?;
    let bytes: Vec<u8> = nibbles.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect();
    Some(<[u8; 16]>::try_from(bytes).ok().filter(|_| nibbles.len() == 32)?.into())
}

/// The name under which an address is looked up (RFC 1035 section 3.5, RFC 3596 section 2.5).
pub fn reverse(address: IpAddr) -> Name {
    Name::from(address)
}

/// `name` with `suffix` and a number, cut at a character so that it fits a label.
fn numbered(name: &str, suffix: &str) -> String {
    let mut end = name.len().min(lanmesh_model::zeroconf::LABEL_MAX - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

/// What an instance is called at the `number`th attempt: `name`, `name (2)`, … (RFC 6763 appendix D).
pub fn instance_attempt(name: &str, number: u32) -> String {
    if number < 2 { name.to_owned() } else { numbered(name, &format!(" ({number})")) }
}

/// What a host is called at the `number`th attempt: `name`, `name-2`, … (RFC 6762 section 9).
pub fn host_attempt(name: &str, number: u32) -> String {
    if number < 2 { name.to_owned() } else { numbered(name, &format!("-{number}")) }
}

/// Whether an address is usable on its link alone.
pub fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::is_link_local(v4),
        IpAddr::V6(v6) => Ipv6Addr::is_unicast_link_local(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_the_meaning_it_was_made_with() {
        let instance_name = instance("K\u{fc}che. 2", "_x._tcp").unwrap();
        for (name, means) in [
            (types().unwrap(), Meaning::Types),
            (kind("_x._tcp").unwrap(), Meaning::Kind("_x._tcp".into())),
            (subtype("_a.b", "_x._tcp").unwrap(), Meaning::Subtype("_a.b".into(), "_x._tcp".into())),
            (instance_name, Meaning::Instance("K\u{fc}che. 2".into(), "_x._tcp".into())),
            (instance("A", "_X._TCP").unwrap(), Meaning::Instance("A".into(), "_x._tcp".into())),
            (host("a").unwrap(), Meaning::Host("a".into())),
            (host("a.b").unwrap(), Meaning::Host("a.b".into())),
            (reverse([10, 0, 0, 1].into()), Meaning::Outside),
            (kind("_x._sctp").unwrap(), Meaning::Other),
        ] {
            assert_eq!(meaning(&name), means, "{name}");
        }
        let binary = Name::from_labels([&b"\xff"[..], b"local"]).unwrap();
        assert_eq!(meaning(&binary), Meaning::Other);
        let dotted = Name::from_labels([&b"a.b"[..], b"local"]).unwrap();
        assert_eq!(meaning(&dotted), Meaning::Other);
    }

    #[test]
    fn an_address_is_looked_up_under_its_own_name_alone() {
        for text in ["10.82.0.254", "fd00::1:a", "0.0.0.0", "::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(reversed(&reverse(address)), Some(address));
        }
        for text in [
            "1.0.10.in-addr.arpa",
            "300.0.0.10.in-addr.arpa",
            "a.ip6.arpa",
            "a.local",
            "arpa",
            "x.1.0.0.10.in-addr.arpa",
        ] {
            let name = Name::from_labels(text.split('.').map(str::as_bytes)).unwrap();
            assert_eq!(reversed(&name), None, "{text}");
        }
    }

    #[test]
    fn further_attempts_are_numbered_and_fit_a_label() {
        assert_eq!((1..4).map(|n| host_attempt("a", n)).collect::<Vec<_>>(), ["a", "a-2", "a-3"]);
        assert_eq!(instance_attempt("Build farm", 2), "Build farm (2)");
        let long = "\u{fc}".repeat(31);
        assert!(is_label(&instance_attempt(&long, 4_294_967_295)));
    }
}
