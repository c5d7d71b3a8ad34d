//! Addresses as people type them for `--advertise` and for a manager: the port may be left out.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A text that is not an address with or without a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not IP, IP:PORT, or it is an address that nobody can reach.
    #[error(
        "{0:?} is not an address to advertise: write it as 192.0.2.1, 192.0.2.1:7979 or [2001:db8::1]:7979"
    )]
    Advertise(String),
    /// An address that only this machine, or nobody, reaches under it.
    #[error(
        "no other node can reach {0}: {1}; give an address of this node on the network that the nodes share"
    )]
    Unreachable(IpAddr, &'static str),
    /// Not HOST or HOST:PORT.
    #[error(
        "{0:?} is not a manager's address: write it as HOST or HOST:PORT, an IPv6 address with a port in []"
    )]
    Manager(String),
}

/// Where other nodes reach a node: an IP address, and a port where it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertiseAddr {
    /// The address; never one that no other machine can reach.
    pub ip: IpAddr,
    /// The port, where it was given; never 0.
    pub port: Option<u16>,
}

impl AdvertiseAddr {
    /// The whole address, with `port` where none was given.
    pub fn with_default_port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

impl FromStr for AdvertiseAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (ip, port) = written(text).ok_or_else(|| AddressError::Advertise(text.to_owned()))?;
        match unreachable(ip) {
            Some(why) => Err(AddressError::Unreachable(ip, why)),
            None => Ok(Self { ip, port }),
        }
    }
}

/// An address with or without a port, which is not 0.
fn written(text: &str) -> Option<(IpAddr, Option<u16>)> {
    match text.parse::<SocketAddr>() {
        Ok(address) => (address.port() != 0).then_some((address.ip(), Some(address.port()))),
        Err(_) => Some((text.parse::<IpAddr>().ok()?, None)),
    }
}

/// Why nobody else can reach this address; `None` where somebody may.
fn unreachable(ip: IpAddr) -> Option<&'static str> {
    const UNSPECIFIED: &str = "it stands for any address";
    const LOOPBACK: &str = "it is the loopback of each machine";
    const GROUP: &str = "it is a multicast group";
    match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Some(UNSPECIFIED),
        IpAddr::V4(ip) if ip.is_loopback() => Some(LOOPBACK),
        IpAddr::V4(ip) if ip.is_multicast() => Some(GROUP),
        IpAddr::V4(ip) if ip.octets()[0] >= 240 => Some("it is reserved, or the broadcast address"),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(UNSPECIFIED),
        IpAddr::V6(ip) if ip.is_loopback() => Some(LOOPBACK),
        IpAddr::V6(ip) if ip.is_multicast() => Some(GROUP),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            Some("it is link-local, and means nothing without an interface of the other node's")
        }
        // ::ffff:192.0.2.1 is never in a packet.
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("it is an IPv4 address in IPv6: write that"),
        _ => None,
    }
}

impl fmt::Display for AdvertiseAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// Where a manager listens: a host name or an IP address, and a port where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerAddr {
    /// A host name or an address, without brackets.
    pub host: String,
    /// The port, where it was given; never 0.
    pub port: Option<u16>,
}

impl ManagerAddr {
    /// What a resolver takes, with `port` where none was given.
    pub fn with_default_port(&self, port: u16) -> (String, u16) {
        (self.host.clone(), self.port.unwrap_or(port))
    }
}

impl FromStr for ManagerAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError::Manager(text.to_owned());
        // Another agent of the same machine is a manager too.
        if let Some((ip, port)) = written(text) {
            let nobody = ip.is_unspecified() || ip.is_multicast();
            return if nobody { Err(error()) } else { Ok(Self { host: ip.to_string(), port }) };
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => {
                let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(error)?;
                (host, Some(port))
            }
            None => (text, None),
        };
        // All digits and dots: a mistyped IPv4 address, for which a resolver would be asked in vain.
        let mistyped = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if host.len() > 253 || mistyped || !host.bytes().all(good) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ManagerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

crate::model::as_text!(AdvertiseAddr, ManagerAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_with_and_without_its_port() {
        for text in ["192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80"] {
            assert_eq!(text.parse::<AdvertiseAddr>().expect(text).to_string(), text);
            assert_eq!(text.parse::<ManagerAddr>().expect(text).to_string(), text);
        }
        for text in ["manager-1.example", "manager:7979", "127.0.0.1:7979", "::1"] {
            assert_eq!(text.parse::<ManagerAddr>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn an_address_nobody_can_reach_or_resolve_is_refused() {
        for text in [
            "",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "192.0.2.1:0",
            "host",
            "192.0.2.1:70000",
            "127.0.0.1",
            "127.0.0.1:7979",
            "0.1.2.3",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:192.0.2.1",
        ] {
            assert!(text.parse::<AdvertiseAddr>().is_err(), "{text}");
        }
        for text in ["", ":80", "host:", "host:x", "192.0.2.256", "a b", "host:1:2"] {
            assert!(text.parse::<ManagerAddr>().is_err(), "{text}");
        }
    }
}
