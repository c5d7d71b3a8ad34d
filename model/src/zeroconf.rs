//! What multicast DNS brought to light in a network: DNS-SD services, hosts, and other records.
//!
//! These are facts of one writer in one network. Each is said by the node that has the endpoint it comes from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::EndpointName;

/// The longest label, in bytes (RFC 1035 section 2.3.4).
pub const LABEL_MAX: usize = 63;
/// The most bytes of a TXT record, with a length byte for each of its strings. Half of what one packet to a group
/// carries; RFC 6763 section 6.2 advises 1300 at most.
pub const TXT_MAX: usize = 2048;
/// The most subtypes of a service.
pub const SUBTYPES_MAX: usize = 32;
/// The most addresses of a host.
pub const ADDRESSES_MAX: usize = 16;
/// The most bytes of one record that is neither a service's nor a host's.
pub const RECORD_MAX: usize = TXT_MAX;
/// The most records of one type and name that are nobody else's, of those that are neither a service's nor a host's.
pub const RECORDS_MAX: usize = 16;
/// The longest name, in bytes, with a length byte for each label and one at its end (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 255;
/// The longest host name below `.local`, in bytes.
const HOST_MAX: usize = 240;

/// A DNS-SD service instance (RFC 6763 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenService {
    /// What people call it: one label, any text without control characters.
    pub instance: String,
    /// The type in lower case, `_name._tcp` or `_name._udp`.
    pub kind: String,
    /// The labels before `_sub` by which it can be browsed for (RFC 6763 section 7.1).
    pub subtypes: BTreeSet<String>,
    /// The host it runs on, without `.local`.
    pub host: String,
    /// The port.
    pub port: u16,
    /// RFC 2782.
    pub priority: u16,
    /// RFC 2782.
    pub weight: u16,
    /// The strings of its TXT record, at most 255 bytes each; none where there is no such record.
    pub txt: Vec<Vec<u8>>,
}

/// A host and the addresses it announces, all of them the endpoint's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenHost {
    /// The name without `.local`.
    pub name: String,
    /// At least one.
    pub addresses: BTreeSet<IpAddr>,
}

/// Records that are in no service and no host, whatever they are: those of one name and type that nobody else may have,
/// or one that others may have too (RFC 6762 section 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenRecords {
    /// The labels of the name, as they were sent. The last is `local` as a rule.
    pub name: Vec<Vec<u8>>,
    /// The number of the type (RFC 1035 section 3.2.2).
    pub kind: u16,
    /// Whether nobody else may have records of this name and type: the cache-flush bit (RFC 6762 section 10.2).
    pub unique: bool,
    /// How long they hold, in seconds.
    pub ttl: u32,
    /// The data of each, without compression; exactly one where others may have such records too.
    pub data: BTreeSet<Vec<u8>>,
}

/// What a zeroconf fact is about. Names are folded to lower case (ASCII alone, RFC 6762 section 16).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ZeroconfKey {
    /// An instance of a type.
    Service {
        /// The type.
        kind: String,
        /// The instance.
        instance: String,
    },
    /// A host, without `.local`.
    Host(String),
    /// Other records.
    Records {
        /// The labels of the name.
        name: Vec<Vec<u8>>,
        /// The number of the type.
        kind: u16,
        /// The data, where others may have such records too: then that is what tells them apart.
        shared: Option<Vec<u8>>,
    },
}

/// What is said about it, and of which of the writer's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ZeroconfFact {
    /// The endpoint it was heard from, or for which it is announced.
    pub endpoint: EndpointName,
    /// Whether it was declared when the endpoint was attached; else it was heard.
    pub declared: bool,
    /// What there is.
    pub found: Found,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Found {
    /// A service.
    Service(SeenService),
    /// A host.
    Host(SeenHost),
    /// Other records.
    Records(SeenRecords),
}

/// A name in the form in which names are compared: ASCII in lower case, all else as it is.
pub fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The labels of a name in that form.
pub fn fold_labels(name: &[Vec<u8>]) -> Vec<Vec<u8>> {
    name.iter().map(|label| label.to_ascii_lowercase()).collect()
}

/// Whether `text` can be one label that people may read: RFC 6763 section 4.1.1.
pub fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether `text` is a type of services: `_name._tcp` or `_name._udp`, with a name as RFC 6335 section 5.1 wants
/// it, except that it may be longer than 15 characters and hold `_`, as some in the wild are.
pub fn is_service_type(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.strip_suffix("._tcp")
        .or_else(|| text.strip_suffix("._udp"))
        .and_then(|label| label.strip_prefix('_'))
        .is_some_and(|name| (1..LABEL_MAX).contains(&name.len()) && name.bytes().all(inner))
}

/// Whether `text` is a host name without `.local`: labels with dots between them, none of them with a dot, a
/// backslash or a control character in it.
pub fn is_host(text: &str) -> bool {
    text.len() <= HOST_MAX && text.split('.').all(|label| is_label(label) && !label.contains('\\'))
}

/// Whether records of a type are carried: all but what is said of a packet or to a server (RFC 6895 section 3.1), and denials,
/// which whoever answers makes himself.
pub fn is_carried(kind: u16) -> bool {
    const OPT: u16 = 41;
    const NSEC: u16 = 47;
    !matches!(kind, 0 | OPT | NSEC | 128..=255)
}

/// Whether `txt` are the strings of a TXT record that is carried.
pub fn is_txt(txt: &[Vec<u8>]) -> bool {
    txt.iter().all(|text| text.len() <= 255)
        && txt.iter().map(|text| text.len() + 1).sum::<usize>() <= TXT_MAX
}

impl SeenService {
    /// What a fact about it is filed under.
    pub fn key(&self) -> ZeroconfKey {
        ZeroconfKey::service(&self.instance, &self.kind)
    }

    fn is_sound(&self) -> bool {
        is_label(&self.instance)
            && is_service_type(&self.kind)
            && self.kind == fold(&self.kind)
            && self.subtypes.len() <= SUBTYPES_MAX
            && self.subtypes.iter().all(|subtype| is_label(subtype))
            && is_host(&self.host)
            && is_txt(&self.txt)
    }
}

impl SeenHost {
    /// What a fact about it is filed under.
    pub fn key(&self) -> ZeroconfKey {
        ZeroconfKey::Host(fold(&self.name))
    }

    fn is_sound(&self) -> bool {
        let unicast = |a: &IpAddr| !(a.is_multicast() || a.is_unspecified() || a.is_loopback());
        is_host(&self.name)
            && (1..=ADDRESSES_MAX).contains(&self.addresses.len())
            && self.addresses.iter().all(unicast)
    }
}

impl SeenRecords {
    /// What a fact about them is filed under.
    pub fn key(&self) -> ZeroconfKey {
        ZeroconfKey::Records {
            name: fold_labels(&self.name),
            kind: self.kind,
            shared: self.data.first().filter(|_| !self.unique).cloned(),
        }
    }

    fn is_sound(&self) -> bool {
        let most = if self.unique { RECORDS_MAX } else { 1 };
        !self.name.is_empty()
            && self.name.iter().all(|label| (1..=LABEL_MAX).contains(&label.len()))
            && self.name.iter().map(|label| label.len() + 1).sum::<usize>() < NAME_MAX
            && is_carried(self.kind)
            && (1..=most).contains(&self.data.len())
            && self.data.iter().all(|data| data.len() <= RECORD_MAX)
    }
}

impl ZeroconfKey {
    /// The key of the service `instance` of type `kind`.
    pub fn service(instance: &str, kind: &str) -> Self {
        Self::Service { kind: fold(kind), instance: fold(instance) }
    }
}

impl Found {
    /// What a fact about it is filed under.
    pub fn key(&self) -> ZeroconfKey {
        match self {
            Self::Service(service) => service.key(),
            Self::Host(host) => host.key(),
            Self::Records(records) => records.key(),
        }
    }
}

impl ZeroconfFact {
    /// Whether it is about `key`, and small and well formed enough to be kept: what comes from another node is
    /// checked with this.
    pub fn is_sound(&self, key: &ZeroconfKey) -> bool {
        let sound = match &self.found {
            Found::Service(service) => service.is_sound(),
            Found::Host(host) => host.is_sound(),
            Found::Records(records) => records.is_sound(),
        };
        sound && self.found.key() == *key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> SeenService {
        SeenService {
            instance: "distcc@Cc1".into(),
            kind: "_distcc._tcp".into(),
            subtypes: BTreeSet::from(["_x86".into()]),
            host: "cc1".into(),
            port: 3632,
            priority: 0,
            weight: 0,
            txt: vec![b"txtvers=1".to_vec()],
        }
    }

    fn fact(found: Found) -> ZeroconfFact {
        ZeroconfFact { endpoint: EndpointName::new("cc1").unwrap(), declared: false, found }
    }

    #[test]
    fn a_fact_is_sound_under_its_own_key_alone() {
        let good = fact(Found::Service(service()));
        assert!(good.is_sound(&ZeroconfKey::service("DISTCC@cc1", "_distcc._tcp")));
        assert!(!good.is_sound(&ZeroconfKey::service("distcc@cc2", "_distcc._tcp")));
        assert!(!good.is_sound(&ZeroconfKey::Host("cc1".into())));
        let bytes = postcard::to_stdvec(&good).unwrap();
        assert_eq!(postcard::from_bytes::<ZeroconfFact>(&bytes).unwrap(), good);
    }

    #[test]
    fn what_is_too_big_or_unreadable_is_not_sound() {
        let bad: [fn(&mut SeenService); 9] = [
            |s| s.instance = "x".repeat(64),
            |s| s.instance = "a\nb".into(),
            |s| s.instance.clear(),
            |s| s.kind = "_distcc._sctp".into(),
            |s| s.kind = "_Distcc._tcp".into(),
            |s| s.host = "a..b".into(),
            |s| s.host = "a\\.b".into(),
            |s| s.txt = vec![vec![0; 256]],
            |s| s.txt = vec![vec![0; 255]; 9],
        ];
        for (i, spoil) in bad.iter().enumerate() {
            let mut service = service();
            spoil(&mut service);
            let key = service.key();
            assert!(!fact(Found::Service(service)).is_sound(&key), "{i}");
        }
        let host = |addresses: &[&str]| SeenHost {
            name: "a.b".into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        for (addresses, sound) in
            [(&["10.0.0.1", "fe80::1"][..], true), (&[], false), (&["224.0.0.1"], false), (&["::1"], false)]
        {
            let host = host(addresses);
            let key = host.key();
            assert_eq!(fact(Found::Host(host)).is_sound(&key), sound, "{addresses:?}");
        }
    }
}
