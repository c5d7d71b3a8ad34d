//! An endpoint: one interface of one container (or of a node itself) in one network.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{EndpointName, Mac, NetworkId, ServiceName};

/// What names an endpoint among all: its network and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey {
    /// The network.
    pub network: NetworkId,
    /// The name within it.
    pub name: EndpointName,
}

/// Where an endpoint's interface goes. Known to its own node alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Into the network namespace that this path refers to (`/proc/PID/ns/net`, `/run/netns/NAME`).
    Netns(PathBuf),
    /// Into the node's own namespace.
    Host,
}

/// A DNS-SD service (RFC 6763) that is announced for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisedService {
    /// The type, `_name._tcp` or `_name._udp`.
    pub kind: String,
    /// The port it listens on.
    pub port: u16,
    /// The TXT record's keys and values.
    pub txt: BTreeMap<String, String>,
}

/// A text that does not describe an advertised service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an advertised service ({why}): write it as '_distcc._tcp:3632,jobs=4'")]
pub struct ServiceParseError {
    text: String,
    why: &'static str,
}

impl FromStr for AdvertisedService {
    type Err = ServiceParseError;

    fn from_str(text: &str) -> Result<Self, ServiceParseError> {
        let error = |why| ServiceParseError { text: text.to_owned(), why };
        let mut parts = text.split(',');
        let (kind, port) =
            parts.next().and_then(|head| head.rsplit_once(':')).ok_or_else(|| error("no port"))?;
        let label = kind
            .strip_suffix("._tcp")
            .or_else(|| kind.strip_suffix("._udp"))
            .ok_or_else(|| error("the type does not end in ._tcp or ._udp"))?;
        // RFC 6335 section 5.1: at most 15 characters after the underscore.
        let name = label.strip_prefix('_').ok_or_else(|| error("the type does not begin with _"))?;
        if name.is_empty() || name.len() > 15 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return Err(error("the type is not 1 to 15 letters, digits and '-'"));
        }
        let port =
            port.parse().ok().filter(|p| *p != 0).ok_or_else(|| error("the port is not 1 to 65535"))?;
        let mut txt = BTreeMap::new();
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if key.is_empty() {
                return Err(error("a TXT entry has no key"));
            }
            // RFC 6763 section 6.1: one string of a TXT record holds at most 255 bytes.
            if part.len() > 255 {
                return Err(error("a TXT entry is longer than 255 bytes"));
            }
            txt.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self { kind: kind.to_owned(), port, txt })
    }
}

impl fmt::Display for AdvertisedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.port)?;
        self.txt.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

/// An endpoint, as its own node publishes it and every node of the network knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name, unique in the network.
    pub name: EndpointName,
    /// The service it is a part of.
    pub service: Option<ServiceName>,
    /// Its number within the service.
    pub slot: Option<u32>,
    /// Further names.
    pub aliases: Vec<EndpointName>,
    /// One address of each subnet, with the subnet's prefix length, in the order of the network's subnets.
    pub addresses: Vec<IpNetwork>,
    /// The MAC its first address gives.
    pub mac: Mac,
    /// What is announced for it.
    pub services: Vec<AdvertisedService>,
    /// The version of its claim on its addresses: of two claims on one address the higher wins, and between
    /// equal ones that of the node with the higher id (as MAC mobility does, RFC 7432 section 15).
    pub claim: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_service_reads_back_as_it_is_written() {
        let text = "_distcc._tcp:3632,jobs=4,txtvers=1";
        let service: AdvertisedService = text.parse().expect("is well formed");
        assert_eq!((service.kind.as_str(), service.port), ("_distcc._tcp", 3632));
        assert_eq!(service.txt["jobs"], "4");
        assert_eq!(service.to_string(), text);
    }

    #[test]
    fn a_malformed_advertised_service_says_what_is_wrong_with_it() {
        for (text, why) in [
            ("_distcc._tcp", "no port"),
            ("distcc._tcp:1", "begin with _"),
            ("_distcc._sctp:1", "._tcp or ._udp"),
            ("_distcc._tcp:0", "1 to 65535"),
            ("_a-name-too-long-x._tcp:1", "1 to 15"),
            ("_distcc._tcp:1,=x", "no key"),
        ] {
            let error = text.parse::<AdvertisedService>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
