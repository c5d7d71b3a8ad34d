//! What of a frame a filter may ask about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::Mac;

const VLAN: u16 = 0x8100;
pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
/// Extension headers of IPv6 that have their length in their second octet (RFC 8200 section 4).
const EXTENSIONS: [u8; 3] = [0, 43, 60];
/// How many of them are looked behind.
const EXTENSIONS_MAX: usize = 8;

/// What is known of a frame. What is cut off is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Whom it is for, and from whom: MACs.
    pub macs: Option<(Mac, Mac)>,
    /// What it carries, behind the tag of a VLAN.
    pub ether_type: u16,
    /// Sender and receiver of IP, or of what ARP says.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// The protocol above IP.
    pub protocol: Option<u8>,
    /// The ports of TCP or UDP, of the sender and of the receiver.
    pub ports: Option<(u16, u16)>,
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn mac(bytes: &[u8], at: usize) -> Option<Mac> {
    Some(Mac(*bytes.get(at..)?.first_chunk()?))
}

fn v4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?).into())
}

fn v6(bytes: &[u8], at: usize) -> Option<IpAddr> {
    Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?).into())
}

impl Parts {
    /// Of a frame of Ethernet.
    pub fn of(frame: &[u8]) -> Self {
        let mut parts = Self { macs: mac(frame, 0).zip(mac(frame, 6)), ..Self::default() };
        let Some(mut kind) = half(frame, 12) else { return parts };
        let mut at = 14;
        if kind == VLAN {
            let Some(inner) = half(frame, 16) else { return parts };
            (kind, at) = (inner, 18);
        }
        parts.ether_type = kind;
        let payload = frame.get(at..).unwrap_or_default();
        match kind {
            IPV4 => parts.ipv4(payload),
            IPV6 => parts.ipv6(payload),
            // The addresses of Ethernet and IPv4 (RFC 826).
            ARP => parts.addresses = v4(payload, 14).zip(v4(payload, 24)),
            _ => {}
        }
        parts
    }

    fn ipv4(&mut self, packet: &[u8]) {
        self.addresses = v4(packet, 12).zip(v4(packet, 16));
        self.protocol = packet.get(9).copied();
        let length = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
        let is_first = half(packet, 6).is_some_and(|fragment| fragment & 0x1fff == 0);
        if is_first {
            self.above(packet.get(length..).unwrap_or_default());
        }
    }

    fn ipv6(&mut self, packet: &[u8]) {
        self.addresses = v6(packet, 8).zip(v6(packet, 24));
        let (mut next, mut at) = (packet.get(6).copied(), 40);
        for _ in 0..EXTENSIONS_MAX {
            let Some(kind) = next else { break };
            if kind == FRAGMENT {
                let is_first = half(packet, at + 2).is_some_and(|fragment| fragment & 0xfff8 == 0);
                next = packet.get(at).copied();
                at += 8;
                if !is_first {
                    self.protocol = next;
                    return;
                }
            } else if EXTENSIONS.contains(&kind) {
                next = packet.get(at).copied();
                at += packet.get(at + 1).map_or(8, |length| (usize::from(*length) + 1) * 8);
            } else {
                break;
            }
        }
        self.protocol = next;
        self.above(packet.get(at..).unwrap_or_default());
    }

    fn above(&mut self, segment: &[u8]) {
        if matches!(self.protocol, Some(TCP | UDP)) {
            self.ports = half(segment, 0).zip(half(segment, 2));
        }
    }
}
