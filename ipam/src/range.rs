//! A range of addresses of one family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddrRange {
    first: IpAddr,
    last: IpAddr,
}

/// A text that is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a range of addresses ({why}): write it as 10.0.0.5-10.0.0.9, 10.0.0.0/28 or 10.0.0.5"
)]
pub struct RangeError {
    text: String,
    why: &'static str,
}

impl AddrRange {
    /// The addresses from `first` to `last`; an error if they are of two families or in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        let error = |why| RangeError { text: format!("{first}-{last}"), why };
        if first.is_ipv4() != last.is_ipv4() {
            return Err(error("two families"));
        }
        if first > last {
            return Err(error("the first address is above the last"));
        }
        Ok(Self { first, last })
    }

    /// The same for ends that are known to be of one family and in order.
    pub(crate) fn between(first: IpAddr, last: IpAddr) -> Self {
        Self { first, last }
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        // IPv4 sorts below IPv6, so an address of the other family is never in between.
        self.first <= address && address <= self.last
    }

    /// What two ranges have in common.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.first.is_ipv4() == other.first.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.last
    }
}

impl FromStr for AddrRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let error = |why| RangeError { text: text.to_owned(), why };
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| error("no address"));
        let (first, last) = if let Some((first, last)) = text.split_once('-') {
            (address(first)?, address(last)?)
        } else if text.contains('/') {
            let net: IpNetwork = text.trim().parse().map_err(|_| error("no subnet"))?;
            (net.network(), net.broadcast())
        } else {
            (address(text)?, address(text)?)
        };
        Self::new(first, last).map_err(|e| error(e.why))
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl Serialize for AddrRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddrRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_written_as_two_addresses_a_subnet_or_one_address() {
        for (text, first, last, shown) in [
            ("10.0.0.5-10.0.0.9", "10.0.0.5", "10.0.0.9", "10.0.0.5-10.0.0.9"),
            ("10.0.0.5 - 10.0.0.9", "10.0.0.5", "10.0.0.9", "10.0.0.5-10.0.0.9"),
            ("10.0.0.18/28", "10.0.0.16", "10.0.0.31", "10.0.0.16-10.0.0.31"),
            ("10.0.0.5", "10.0.0.5", "10.0.0.5", "10.0.0.5"),
            ("fd00::1-fd00::a", "fd00::1", "fd00::a", "fd00::1-fd00::a"),
        ] {
            let range: AddrRange = text.parse().expect(text);
            assert_eq!((range.first(), range.last()), (first.parse().unwrap(), last.parse().unwrap()));
            assert_eq!(range.to_string(), shown);
            let json = serde_json::to_string(&range).expect("serializes");
            assert_eq!(serde_json::from_str::<AddrRange>(&json).expect(&json), range);
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "no address"),
            ("10.0.0.5-", "no address"),
            ("10.0.0.0/33", "no subnet"),
            ("10.0.0.9-10.0.0.5", "above"),
            ("10.0.0.5-fd00::1", "two families"),
        ] {
            let error = text.parse::<AddrRange>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_of_the_other_family_is_in_no_range() {
        let all: AddrRange = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.255.255.255".parse().unwrap()));
        assert!(!all.contains("::".parse().unwrap()));
        let low: AddrRange = "::/1".parse().unwrap();
        assert!(!low.contains("10.0.0.1".parse().unwrap()));
    }
}
