//! A service with an address of its own, and where a network's services get theirs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use lanmesh_ipam::AddrRange;

use crate::OptionValue;
use crate::words::words;
use crate::{Publication, PublishMode, PublishSource};

words! {
    /// Which endpoint of a service a client is sent to.
    pub enum Affinity {
        /// Any, for each connection anew.
        None = "none",
        /// The same for all that one client sends, as long as it is there.
        Source = "source",
    }
}

/// A service with an address of its own: what is sent to it reaches one of the endpoints that carry the service's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceSpec {
    /// One address of each subnet, in the order of the network's subnets when it was made.
    pub addresses: Vec<IpAddr>,
    /// Ports that the endpoints listen on under another number.
    pub ports: Vec<PortMap>,
    /// Which endpoint a client is sent to.
    pub affinity: Affinity,
    /// Ports of nodes that lead to its endpoints.
    pub publish: Vec<Publication>,
    /// Of which nodes.
    pub publish_mode: PublishMode,
    /// Whom the endpoints see.
    pub publish_source: PublishSource,
}

/// The most ports of a service that are mapped.
pub const PORT_MAPS_MAX: usize = 64;

/// A port of a service, TCP's and UDP's, and the one that its endpoints listen on instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMap {
    /// What clients connect to; not 0.
    pub port: u16,
    /// Where it goes; not 0.
    pub to: u16,
}

/// A text does not say two ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not two ports: write it as 80:8080, the service's first")]
pub struct PortMapError {
    text: String,
}

impl FromStr for PortMap {
    type Err = PortMapError;

    fn from_str(text: &str) -> Result<Self, PortMapError> {
        let error = || PortMapError { text: text.chars().take(80).collect() };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(error);
        let (outside, inside) = text.split_once(':').ok_or_else(error)?;
        Ok(Self { port: port(outside)?, to: port(inside)? })
    }
}

impl fmt::Display for PortMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.port, self.to)
    }
}

/// Where the services of a network, or its nodes, get their addresses: a range, or one of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRanges {
    first: AddrRange,
    second: Option<AddrRange>,
}

impl AddressRanges {
    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = AddrRange> {
        [Some(self.first), self.second].into_iter().flatten()
    }
}

impl FromStr for AddressRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = |text: &str| text.trim().parse::<AddrRange>().map_err(|error| error.to_string());
        let (first, second) = match text.split_once(',') {
            Some((first, second)) => (range(first)?, Some(range(second)?)),
            None => (range(text)?, None),
        };
        match second {
            Some(second) if second.first().is_ipv4() == first.first().is_ipv4() => {
                Err(format!("{first} and {second} are of one family: give one range of each"))
            }
            _ => Ok(Self { first, second }),
        }
    }
}

impl fmt::Display for AddressRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.second.map_or(Ok(()), |second| write!(f, ",{second}"))
    }
}

impl OptionValue for Option<AddressRanges> {
    const VALUE: &'static str = "RANGE";

    fn choices() -> Vec<crate::Choice> {
        Vec::new()
    }

    fn text(&self) -> Option<String> {
        self.map(|ranges| ranges.to_string())
    }

    fn read(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(None) } else { text.parse().map(Some) }
    }
}

crate::as_text!(PortMap, AddressRanges);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_written_as_they_are_read() {
        for text in ["80:8080", "1:65535"] {
            assert_eq!(text.parse::<PortMap>().unwrap().to_string(), text);
        }
        for text in ["80", "80:", "0:1", "1:0", "80:65536", "a:b", ""] {
            assert!(text.parse::<PortMap>().unwrap_err().to_string().contains("80:8080"), "{text}");
        }
        for text in ["10.0.0.5-10.0.0.9", "fd00::1-fd00::9,10.0.0.8"] {
            assert_eq!(text.parse::<AddressRanges>().unwrap().to_string(), text);
        }
        let error = "10.0.0.5,10.0.0.6".parse::<AddressRanges>().unwrap_err();
        assert!(error.contains("one range of each"), "{error}");
        assert!("10.0.0.5,".parse::<AddressRanges>().is_err());
    }
}
