//! A port of a node that leads to endpoints.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::words::words;

/// What a published port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The number of the protocol in IP.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

words! {
    /// Which nodes take what comes for a published port.
    pub enum PublishMode {
        /// Those that have endpoints, each for its own.
        Local = "local",
        /// Every node, for all endpoints.
        Mesh = "mesh",
    }
}

words! {
    /// Whom endpoints see that are asked by way of a published port.
    pub enum PublishSource {
        /// Who asks.
        Client = "client",
        /// The node that he asked, by its own address in the network: for endpoints whose routes are to be left alone.
        Node = "node",
    }
}

/// A port of a node: what is sent there reaches endpoints, at a port of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publication {
    /// The address of the node that it is published at; `None`: all of them.
    pub address: Option<IpAddr>,
    /// The node's port; not 0.
    pub port: u16,
    /// The endpoints'; not 0.
    pub to: u16,
    /// What it carries.
    pub transport: Transport,
}

/// The most ports that one endpoint or service publishes.
pub const PUBLICATIONS_MAX: usize = 64;

impl Publication {
    /// Whether one packet could be for both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let addresses = match (self.address, other.address) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        addresses && self.port == other.port && self.transport == other.transport
    }

    /// Where it is, without what is behind it.
    pub fn place(&self) -> Place<'_> {
        Place(self)
    }

    /// Whether it is a port at which anything can be published.
    ///
    /// # Errors
    /// The address is none that a node has for others, in a few words.
    pub fn check(&self) -> Result<(), &'static str> {
        let usable = match self.address {
            None => true,
            Some(IpAddr::V4(v4)) => !(v4.is_unspecified() || v4.is_multicast() || v4 == Ipv4Addr::BROADCAST),
            Some(IpAddr::V6(v6)) => {
                // A link-local one means another place on each link.
                !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local())
                    && v6.to_ipv4_mapped().is_none()
            }
        };
        if usable && self.port != 0 && self.to != 0 {
            Ok(())
        } else {
            Err("it is published at what is no address or port of a node")
        }
    }
}

/// Ports of every node that lead to one endpoint alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshPorts {
    /// Which.
    pub ports: Vec<Publication>,
    /// Whom the endpoint sees that is asked there.
    pub source: PublishSource,
}

impl Publication {
    /// Whether these can be published together.
    ///
    /// # Errors
    /// They cannot, in a few words.
    pub fn check_all(ports: &[Self]) -> Result<(), &'static str> {
        if ports.len() > PUBLICATIONS_MAX {
            return Err("it publishes too many ports");
        }
        if (0..ports.len()).any(|at| ports[..at].iter().any(|one| one.overlaps(&ports[at]))) {
            return Err("it publishes a port twice");
        }
        ports.iter().try_for_each(Self::check)
    }
}

/// A port of a node, with its address where it is one of them only.
pub struct Place<'a>(&'a Publication);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Publication { address, port, transport, .. } = self.0;
        match address {
            Some(IpAddr::V6(v6)) => write!(f, "[{v6}]:")?,
            Some(v4) => write!(f, "{v4}:")?,
            None => {}
        }
        write!(f, "{port}/{transport}")
    }
}

/// A text does not say where a port is published, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a published port: write it as 8080:80 (the node's first), 8080:80/udp, 192.0.2.1:8080:80 or \
     [2001:db8::1]:8080:80"
)]
pub struct PublicationError {
    text: String,
}

impl FromStr for Publication {
    type Err = PublicationError;

    fn from_str(text: &str) -> Result<Self, PublicationError> {
        read(text).ok_or_else(|| PublicationError { text: text.chars().take(80).collect() })
    }
}

fn read(text: &str) -> Option<Publication> {
    let (ports, transport) = match text.rsplit_once('/') {
        None => (text, Transport::Tcp),
        Some((ports, "tcp")) => (ports, Transport::Tcp),
        Some((ports, "udp")) => (ports, Transport::Udp),
        Some(_) => return None,
    };
    // Without signs and spaces, which a number of the standard library may have.
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (outside, to) = ports.rsplit_once(':')?;
    let (address, port) = match outside.rsplit_once(':') {
        None => (None, outside),
        Some((address, port)) => {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let address = match bare {
                Some(v6) => IpAddr::from(v6.parse::<Ipv6Addr>().ok()?),
                None => IpAddr::from(address.parse::<Ipv4Addr>().ok()?),
            };
            (Some(address), port)
        }
    };
    let publication = Publication { address, port: number(port)?, to: number(to)?, transport };
    publication.check().is_ok().then_some(publication)
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port, to, transport } = self;
        match address {
            Some(IpAddr::V6(v6)) => write!(f, "[{v6}]:")?,
            Some(v4) => write!(f, "{v4}:")?,
            None => {}
        }
        write!(f, "{port}:{to}/{transport}")
    }
}

crate::as_text!(Publication);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_port_is_written_as_it_is_read() {
        for (text, written, place) in [
            ("8080:80", "8080:80/tcp", "8080/tcp"),
            ("8080:80/udp", "8080:80/udp", "8080/udp"),
            ("192.0.2.1:1:65535", "192.0.2.1:1:65535/tcp", "192.0.2.1:1/tcp"),
            ("[2001:db8::1]:53:5353/udp", "[2001:db8::1]:53:5353/udp", "[2001:db8::1]:53/udp"),
        ] {
            let read: Publication = text.parse().unwrap();
            assert_eq!((read.to_string(), read.place().to_string()), (written.to_owned(), place.to_owned()));
            assert_eq!(written.parse(), Ok(read));
        }
        for text in [
            "",
            "80",
            "80:",
            ":80",
            "0:80",
            "80:0",
            "80:80/sctp",
            "80:65536",
            "+80:80",
            "::1:80:80",
            "[192.0.2.1]:80:80",
            "0.0.0.0:80:80",
            "[::]:80:80",
            "[fe80::1]:80:80",
            "[::ffff:192.0.2.1]:80:80",
            "255.255.255.255:80:80",
            "a:80:80",
            "1:2:3:4",
        ] {
            assert!(text.parse::<Publication>().unwrap_err().to_string().contains("8080:80"), "{text}");
        }
    }

    #[test]
    fn two_overlap_where_one_packet_could_be_for_both() {
        let overlap =
            |one: &str, other: &str| one.parse::<Publication>().unwrap().overlaps(&other.parse().unwrap());
        assert!(overlap("80:1", "80:2") && overlap("192.0.2.1:80:1", "80:1"));
        assert!(overlap("192.0.2.1:80:1", "192.0.2.1:80:2"));
        assert!(!overlap("192.0.2.1:80:1", "192.0.2.2:80:1") && !overlap("80:1", "81:1"));
        assert!(!overlap("80:1", "80:1/udp"));
    }
}
