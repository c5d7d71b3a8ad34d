//! Reverse names: addresses as names below `in-addr.arpa.` (RFC 1035 section 3.5) and `ip6.arpa.` (RFC 3596
//! section 2.5), and which of them belong to a subnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::key::{Lower, labels};

const V4: &[u8] = b"\x07in-addr\x04arpa";
const V6: &[u8] = b"\x03ip6\x04arpa";

/// A name below one of the reverse domains: the beginning of an address, and perhaps labels that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reverse<'a> {
    /// The address with zeros in place of the bits that the name does not give.
    pub address: IpAddr,
    /// How many bits it gives.
    pub bits: u8,
    /// What stands to the left of the address: labels in wire format.
    pub rest: &'a [u8],
}

/// How much of a reverse domain a subnet covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Covered {
    /// The bits of the name that its SOA has.
    pub apex: u8,
}

/// Bits of an address, and bits of a label.
fn shape(address: IpAddr) -> (u8, u8) {
    if address.is_ipv4() { (32, 8) } else { (128, 4) }
}

impl<'a> Reverse<'a> {
    pub fn parse(name: &'a Lower) -> Option<Self> {
        let (head, empty) = match (name.under(V4), name.under(V6)) {
            (Some(head), _) => (head, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            (_, Some(head)) => (head, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            _ => return None,
        };
        let (width, step) = shape(empty);
        let all: Vec<&[u8]> = labels(head).collect();
        let (mut value, mut bits, mut left) = (0_u128, 0, head.len());
        for label in all.iter().rev() {
            let Some(part) = parse_label(label, step).filter(|_| bits < width) else { break };
            bits += step;
            value |= u128::from(part) << (width - bits);
            left -= 1 + label.len();
        }
        Some(Self { address: address(value, empty), bits, rest: &head[..left] })
    }

    /// Whether it is the whole of an address.
    pub fn is_complete(&self) -> bool {
        self.bits == shape(self.address).0
    }

    /// The first and the last address that begin like this.
    pub fn range(&self) -> (IpAddr, IpAddr) {
        let width = shape(self.address).0;
        let rest = if self.bits == 0 { u128::MAX } else { (1_u128 << (width - self.bits)) - 1 };
        let last = value(self.address) | rest & (u128::MAX >> (128 - width));
        (self.address, address(last, self.address))
    }

    /// Whether the name belongs to `subnet`.
    ///
    /// The zones of a subnet begin at the first label boundary that lies within it: a /22 has four, for a /24
    /// each. A subnet that is smaller than the last label has the names of its addresses alone, and its SOA
    /// stands where the zone of the last label does; the other addresses there are not ours.
    pub fn covered(&self, subnet: &IpNetwork) -> Option<Covered> {
        if subnet.is_ipv4() != self.address.is_ipv4() {
            return None;
        }
        let (width, step) = shape(self.address);
        let apex = subnet.prefix().div_ceil(step).saturating_mul(step).min(width - step);
        if self.bits < apex {
            return None;
        }
        let inside = if self.bits >= subnet.prefix() {
            subnet.contains(self.address)
        } else {
            let (first, last) = self.range();
            self.rest.is_empty() && first <= subnet.network() && subnet.network() <= last
        };
        inside.then_some(Covered { apex })
    }

    /// How many labels a name with `bits` bits of this kind of address has.
    pub fn labels(&self, bits: u8) -> usize {
        usize::from(bits / shape(self.address).1) + 2
    }
}

/// A decimal octet or a hexadecimal digit, written as it has to be: `01` is no octet.
fn parse_label(label: &[u8], step: u8) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    if step == 8 {
        let part: u8 = text.parse().ok()?;
        (part.to_string() == text).then_some(part)
    } else {
        (label.len() == 1).then(|| u8::from_str_radix(text, 16).ok()).flatten()
    }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address with this value, of the kind of `like`.
fn address(value: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(value as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(value)),
    }
}
