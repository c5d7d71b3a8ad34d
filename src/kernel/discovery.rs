//! ARP (RFC 826) and neighbour discovery (RFC 4861): what a frame says of an address, and the frames that ask for one or say
//! where it is. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::Mac;

pub(super) const ETH_P_ARP: u16 = 0x0806;
pub(super) const ETH_P_IPV6: u16 = 0x86dd;
const ARP_REQUEST: u16 = 1;
const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Nobody but a host on the link sends it (RFC 4861 section 7.1).
const HOP_LIMIT: u8 = 255;
/// Of an advertisement: it answers a question, and it holds against what was known before.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// Options: the MAC of whoever asks, and of what is asked for.
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a frame says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The address.
    pub address: IpAddr,
    /// The MAC that it is said to have.
    pub mac: Mac,
    /// How that is said.
    pub how: How,
}

/// How an address is said to be somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// To all, unasked: gratuitous ARP (RFC 5227 section 1.1), an unsolicited advertisement (RFC 4861 section 7.2.6).
    Announced,
    /// Somebody wants to have it and asks whether another has: an ARP probe (RFC 5227 section 2.1.1), after which it is announced;
    /// duplicate detection (RFC 4862 section 5.4), after which it mostly is not.
    Tried,
    /// In passing: as the sender of a question, or in an answer.
    Used,
}

impl Said {
    /// What a frame from `sender` says, which has this EtherType and `packet` behind its header; `None` where that is
    /// nothing, or makes no sense.
    pub fn read(sender: Mac, ethertype: u16, packet: &[u8]) -> Option<Self> {
        let said = match ethertype {
            ETH_P_ARP => read_arp(packet),
            ETH_P_IPV6 => read_discovery(sender, packet),
            _ => None,
        }?;
        (!said.address.is_unspecified()).then_some(said)
    }
}

fn read_arp(packet: &[u8]) -> Option<Said> {
    // Of IPv4 over Ethernet.
    packet.starts_with(&[0, 1, 8, 0, 6, 4]).then_some(())?;
    let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let mac = Mac(*packet.get(8..)?.first_chunk()?);
    let (sender, target) = (address(14)?, address(24)?);
    let (address, how) = match sender {
        Ipv4Addr::UNSPECIFIED => (target, How::Tried),
        _ if sender == target => (sender, How::Announced),
        _ => (sender, How::Used),
    };
    Some(Said { address: address.into(), mac, how })
}

fn read_discovery(sender: Mac, packet: &[u8]) -> Option<Said> {
    let (header, message) = packet.split_at_checked(IPV6_HEADER)?;
    if header[6] != ICMPV6 || header[7] != HOP_LIMIT {
        return None;
    }
    let source = Ipv6Addr::from(*header.get(8..)?.first_chunk::<16>()?);
    let target = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
    let option = |kind| option(message.get(24..)?, kind);
    let said = |address: Ipv6Addr, kind, how| {
        Some(Said { address: address.into(), mac: option(kind).unwrap_or(sender), how })
    };
    match message[0] {
        ADVERTISEMENT if message[4] & SOLICITED != 0 => said(target, TARGET_MAC, How::Used),
        ADVERTISEMENT => said(target, TARGET_MAC, How::Announced),
        SOLICITATION if source.is_unspecified() => said(target, SOURCE_MAC, How::Tried),
        SOLICITATION => said(source, SOURCE_MAC, How::Used),
        _ => None,
    }
}

/// The MAC in the first option of this kind. Lengths are in eight bytes.
fn option(mut rest: &[u8], wanted: u8) -> Option<Mac> {
    loop {
        let (kind, length) = (*rest.first()?, usize::from(*rest.get(1)?) * 8);
        if length == 0 {
            return None;
        }
        if kind == wanted {
            return Some(Mac(*rest.get(2..)?.first_chunk()?));
        }
        rest = rest.get(length..)?;
    }
}

/// A frame that says to all that an address is at a MAC.
pub(super) fn announcement(address: IpAddr, mac: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => arp(Mac([0xff; 6]), mac, v4, v4),
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = ALL_NODES.octets();
            let message = discovery((v6, ALL_NODES), ADVERTISEMENT, OVERRIDE, v6, (TARGET_MAC, mac));
            ethernet(Mac([0x33, 0x33, a, b, c, d]), mac, ETH_P_IPV6, &message)
        }
    }
}

/// A frame that asks whoever has a MAC whether it has an address too, and is to be answered to `from`.
pub(super) fn question(address: IpAddr, mac: Mac, from: Mac) -> Vec<u8> {
    match address {
        // From no address, as a probe is (RFC 5227 section 2.1.1): nobody's cache changes by it.
        IpAddr::V4(v4) => arp(mac, from, Ipv4Addr::UNSPECIFIED, v4),
        IpAddr::V6(v6) => {
            let ends = (from.link_local().ip(), v6);
            ethernet(mac, from, ETH_P_IPV6, &discovery(ends, SOLICITATION, 0, v6, (SOURCE_MAC, from)))
        }
    }
}

fn ethernet(to: Mac, from: Mac, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.to_be_bytes(), packet].concat()
}

fn arp(to: Mac, from: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(ARP_REQUEST.to_be_bytes());
    packet.extend(from.0);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(to, from, ETH_P_ARP, &packet)
}

fn discovery(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    (option, mac): (u8, Mac),
) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([option, 1]);
    message.extend(mac.0);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    // The pseudo-header of RFC 8200 section 8.1.
    let over = [&source.octets()[..], &destination.octets(), &[0, 0], &length, &[0, 0, 0, ICMPV6], &message];
    let sum = checksum(&over.concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length);
    packet.extend([ICMPV6, HOP_LIMIT]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    packet
}

/// The checksum of RFC 1071, of an even number of bytes.
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const BRIDGE: Mac = Mac([0x0a, 1, 2, 3, 4, 5]);

    fn read(frame: &[u8]) -> Option<Said> {
        let (header, packet) = frame.split_at(14);
        let sender = Mac(*header[6..].first_chunk().unwrap());
        Said::read(sender, u16::from_be_bytes([header[12], header[13]]), packet)
    }

    #[test]
    fn what_is_announced_reads_back_and_what_is_cut_off_says_nothing() {
        for text in ["10.0.0.200", "fd00::200"] {
            let address = text.parse().unwrap();
            let frame = announcement(address, MAC);
            assert_eq!(read(&frame), Some(Said { address, mac: MAC, how: How::Announced }));
            for end in 14..frame.len() {
                // Without its option an advertisement still has its sender.
                assert!(read(&frame[..end]).is_none_or(|said| said.mac == MAC), "{end}");
            }
            // The checksum over all is zero where it is right.
            if address.is_ipv6() {
                let (source, rest) = (&frame[22..54], &frame[54..]);
                let over = [source, &[0, 0, 0, rest.len() as u8, 0, 0, 0, ICMPV6], rest].concat();
                assert_eq!(checksum(&over), 0);
            }
        }
    }

    #[test]
    fn a_question_does_not_say_that_who_is_asked_has_it() {
        let address = [10, 0, 0, 200].into();
        let probed = read(&question(address, MAC, BRIDGE));
        assert_eq!(probed, Some(Said { address, mac: BRIDGE, how: How::Tried }));
        let asked = read(&question("fd00::200".parse().unwrap(), MAC, BRIDGE)).unwrap();
        assert_eq!((asked.address, asked.how), (BRIDGE.link_local().ip().into(), How::Used));
    }

    #[test]
    fn duplicate_detection_and_answers_are_told_apart_from_announcements() {
        let target: Ipv6Addr = "fd00::200".parse().unwrap();
        let tried = discovery((Ipv6Addr::UNSPECIFIED, ALL_NODES), SOLICITATION, 0, target, (14, MAC));
        let said = Said::read(MAC, ETH_P_IPV6, &tried).unwrap();
        assert_eq!((said.address, said.mac, said.how), (target.into(), MAC, How::Tried));
        let answer = discovery((target, ALL_NODES), ADVERTISEMENT, SOLICITED, target, (TARGET_MAC, MAC));
        assert_eq!(Said::read(BRIDGE, ETH_P_IPV6, &answer).unwrap().how, How::Used);
        assert_eq!(Said::read(BRIDGE, ETH_P_IPV6, &answer).unwrap().mac, MAC);
        let mut from_afar = answer.clone();
        from_afar[7] = 64;
        assert_eq!(Said::read(BRIDGE, ETH_P_IPV6, &from_afar), None);
        let mut endless = answer;
        endless[IPV6_HEADER + 25] = 0;
        assert_eq!(Said::read(BRIDGE, ETH_P_IPV6, &endless).unwrap().mac, BRIDGE);
    }
}
