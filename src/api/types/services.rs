//! The DNS-SD services of a network.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{EndpointName, NetworkName, NodeName, fold, is_label, is_service_type};

/// A DNS-SD service of an endpoint (RFC 6763), heard by mDNS or declared when the endpoint was attached. Only of nodes
/// that answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceAnswer {
    /// The network's name.
    pub network: NetworkName,
    /// What people call it.
    pub instance: String,
    /// The type, `_name._tcp` or `_name._udp`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The subtypes by which it can be browsed for.
    pub subtypes: Vec<String>,
    /// The host it runs on, as mDNS knows it: without `.local`; a name that is not below `.local` has a dot at its end. Empty where
    /// the service has no SRV record.
    pub host: String,
    /// Where it is reached: the host's addresses in the network's subnets, or else all that it announces.
    pub addresses: Vec<IpAddr>,
    /// The port it listens on.
    pub port: u16,
    /// RFC 2782.
    pub priority: u16,
    /// RFC 2782.
    pub weight: u16,
    /// The strings of its TXT record, `key=value` as a rule; what is not UTF-8 in them is replaced.
    pub txt: Vec<String>,
    /// The node that it is on.
    pub node: NodeName,
    /// The endpoint that it is of.
    pub endpoint: EndpointName,
    /// Whether it was declared when the endpoint was attached; else the endpoint itself announces it.
    pub declared: bool,
}

impl ServiceAnswer {
    /// The value of a key of its TXT record; the first one counts, in whatever case (RFC 6763 section 6.4).
    pub fn txt_value(&self, key: &str) -> Option<&str> {
        let pairs = self.txt.iter().filter_map(|text| text.split_once('='));
        pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }
}

/// Which services are meant: those of a type, or of a subtype of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFilter {
    subtype: Option<String>,
    kind: String,
}

/// A text that is no type of services.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no type of services: write it as '_distcc._tcp', or '_subtype._sub._distcc._tcp'")]
pub struct ServiceFilterError(String);

impl ServiceFilter {
    /// Whether a service of this type with these subtypes is meant.
    pub fn meets<'a>(&self, kind: &str, subtypes: impl IntoIterator<Item = &'a String>) -> bool {
        self.kind == fold(kind)
            && self
                .subtype
                .as_ref()
                .is_none_or(|wanted| subtypes.into_iter().any(|subtype| subtype.eq_ignore_ascii_case(wanted)))
    }
}

impl FromStr for ServiceFilter {
    type Err = ServiceFilterError;

    fn from_str(text: &str) -> Result<Self, ServiceFilterError> {
        let error = || ServiceFilterError(text.to_owned());
        // As DNS tools print it, too.
        let name = text.strip_suffix('.').unwrap_or(text);
        let name = name.strip_suffix(".local").unwrap_or(name);
        let (subtype, kind) = match name.split_once("._sub.") {
            Some((subtype, kind)) => (Some(subtype.to_owned()), kind),
            None => (None, name),
        };
        if !is_service_type(&fold(kind)) || subtype.as_deref().is_some_and(|subtype| !is_label(subtype)) {
            return Err(error());
        }
        Ok(Self { subtype, kind: fold(kind) })
    }
}

impl std::fmt::Display for ServiceFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(subtype) = &self.subtype {
            write!(f, "{subtype}._sub.")?;
        }
        f.write_str(&self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_met_whatever_its_case_and_a_subtype_only_by_those_that_have_it() {
        let all: ServiceFilter = "_Distcc._tcp.local.".parse().unwrap();
        assert!(all.meets("_distcc._tcp", &[]));
        assert!(!all.meets("_distcc._udp", &[]));
        let some: ServiceFilter = "_12.2--x86_64._sub._distcc._tcp".parse().unwrap();
        assert_eq!(some.to_string(), "_12.2--x86_64._sub._distcc._tcp");
        assert!(some.meets("_distcc._tcp", &["_a".to_owned(), "_12.2--X86_64".to_owned()]));
        assert!(!some.meets("_distcc._tcp", &["_a".to_owned()]));
        for text in ["", "distcc", "_distcc", "_distcc._sctp", "._sub._distcc._tcp", "_a._b._tcp"] {
            assert!(text.parse::<ServiceFilter>().is_err(), "{text}");
        }
    }
}
