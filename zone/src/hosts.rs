//! The endpoints that have names, by number: their names one behind the other, and their addresses likewise.
//!
//! A network may have a hundred thousand of them, and an allocation for each name and each address is more than these.

use std::net::IpAddr;
use std::ops::Range;

/// The hosts of a network.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    ends: Vec<End>,
    names: String,
    addresses: Vec<IpAddr>,
}

/// Where what belongs to a host ends; it begins where that of the one before it does.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    name: u32,
    addresses: u32,
}

impl Hosts {
    /// Adds one, whose number is how many there were.
    pub fn push(&mut self, name: &str, addresses: impl Iterator<Item = IpAddr>) {
        self.names.push_str(name);
        self.addresses.extend(addresses);
        self.ends.push(End { name: self.names.len() as u32, addresses: self.addresses.len() as u32 });
    }

    /// Gives back what was taken for more of them.
    pub fn shrink(&mut self) {
        self.ends.shrink_to_fit();
        self.names.shrink_to_fit();
        self.addresses.shrink_to_fit();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The name of one, in its own case.
    pub fn name(&self, host: u32) -> Option<&str> {
        self.names.get(self.range(host, |end| end.name)?)
    }

    /// The addresses of one; none if it is not there.
    pub fn addresses(&self, host: u32) -> &[IpAddr] {
        let range = self.range(host, |end| end.addresses);
        range.and_then(|range| self.addresses.get(range)).unwrap_or_default()
    }

    fn range(&self, host: u32, of: impl Fn(&End) -> u32) -> Option<Range<usize>> {
        let host = host as usize;
        let begin = host.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, &of);
        Some(begin as usize..of(self.ends.get(host)?) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_name_and_addresses() {
        let mut hosts = Hosts::default();
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        hosts.push("One", [address(1), address(2)].into_iter());
        hosts.push("none", [].into_iter());
        hosts.push("three", [address(3)].into_iter());
        hosts.shrink();
        let found: Vec<_> = (0..4).map(|host| (hosts.name(host), hosts.addresses(host).to_vec())).collect();
        let expected = [
            (Some("One"), vec![address(1), address(2)]),
            (Some("none"), vec![]),
            (Some("three"), vec![address(3)]),
            (None, vec![]),
        ];
        assert_eq!((found.as_slice(), hosts.len()), (&expected[..], 3));
    }
}
