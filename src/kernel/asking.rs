//! Asking an endpoint of this node for its own address, as its neighbours do: by ARP (RFC 826) or neighbour discovery (RFC 4861), from
//! the network's bridge, in a frame that goes to its port alone.
//!
//! What answers is the kernel of the container, whatever firewall there is in it. An ARP request without an address of its sender
//! leaves no trace there; of a solicitation the container remembers the bridge's link-local address, which is the same on every node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::links::BRIDGE;
use super::packets::{HEADER, PacketSocket};
use super::{KernelError, Linux};
use crate::model::{Mac, NetworkId};

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// Ethernet and IPv4, six and four octets; then whether it asks or answers.
const ARP_ASKS: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const ARP_ANSWERS: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Where the message of ICMPv6 begins in a frame: behind a header of IPv6 without extensions, as RFC 4861 has it.
const ICMP_AT: usize = HEADER + 40;
/// How often it is asked, and how long is waited each time.
const TIMES: usize = 3;
const WAIT: Duration = Duration::from_millis(200);
/// What the socket may hold that was not read yet, in bytes.
const RECEIVE_BUFFER: usize = 1 << 17;

impl Linux {
    /// Whether the endpoint with this MAC at a port of this node answers for `address`; it is asked three times within 600 ms. `bridge`
    /// is the MAC of the network's bridge.
    ///
    /// # Errors
    /// The network is not there, or there can be no such socket.
    pub async fn answers(
        &self,
        network: NetworkId,
        bridge: Mac,
        mac: Mac,
        address: IpAddr,
    ) -> Result<bool, KernelError> {
        let netns = self.inner.dir.netns(network)?;
        let ether_type = if address.is_ipv4() { ETH_P_ARP } else { ETH_P_IPV6 };
        let socket =
            PacketSocket::open(&netns, BRIDGE, ether_type, None, RECEIVE_BUFFER, "asking endpoints").await?;
        let failed =
            |source| KernelError::Refused { what: "ask an endpoint for its address".to_owned(), source };
        let question = question(bridge, mac, address);
        let mut buffer = [0; 1500];
        for _ in 0..TIMES {
            socket.send(&question).map_err(failed)?;
            let deadline = Instant::now() + WAIT;
            while let Ok(received) = timeout_at(deadline, socket.socket.recv(&mut buffer)).await {
                let length = received.map_err(failed)?;
                if buffer.get(..length).is_some_and(|frame| is_answer(frame, mac, address)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// The frame that asks whoever has `mac` for `address`.
fn question(bridge: Mac, mac: Mac, address: IpAddr) -> Vec<u8> {
    let mut frame = [mac.0, bridge.0].concat();
    match address {
        IpAddr::V4(v4) => {
            frame.extend(ETH_P_ARP.to_be_bytes());
            frame.extend(ARP_ASKS);
            frame.extend(bridge.0);
            frame.extend(Ipv4Addr::UNSPECIFIED.octets());
            frame.extend([0; 6]);
            frame.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            let from = bridge.link_local().ip();
            let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(v6.octets());
            // Source link-layer address, one unit of eight octets (section 4.6.1).
            message.extend([1, 1]);
            message.extend(bridge.0);
            let sum = checksum(from, v6, &message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            frame.extend(ETH_P_IPV6.to_be_bytes());
            frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
            frame.extend(from.octets());
            frame.extend(v6.octets());
            frame.extend(message);
        }
    }
    frame
}

/// The checksum of a message of ICMPv6 (RFC 4443 section 2.3), in which its own field is zero.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let bytes = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, ICMPV6], message].concat();
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Whether a frame says that `mac` has `address`.
fn is_answer(frame: &[u8], mac: Mac, address: IpAddr) -> bool {
    let is_at = |at: usize, bytes: &[u8]| frame.get(at..at + bytes.len()) == Some(bytes);
    if !is_at(6, &mac.0) {
        return false;
    }
    match address {
        IpAddr::V4(v4) => {
            is_at(12, &ETH_P_ARP.to_be_bytes())
                && is_at(HEADER, &ARP_ANSWERS)
                && is_at(HEADER + 8, &mac.0)
                && is_at(HEADER + 14, &v4.octets())
        }
        IpAddr::V6(v6) => {
            is_at(12, &ETH_P_IPV6.to_be_bytes())
                && is_at(HEADER + 6, &[ICMPV6])
                && is_at(ICMP_AT, &[ADVERTISEMENT])
                && is_at(ICMP_AT + 8, &v6.octets())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIDGE: Mac = Mac([0x0a, 1, 2, 3, 4, 5]);
    const ONE: Mac = Mac([2, 0x4c, 10, 0, 0, 9]);

    #[test]
    fn an_arp_request_names_no_sender_and_goes_to_one_port() {
        let frame = question(BRIDGE, ONE, [10, 0, 0, 9].into());
        assert_eq!(frame.len(), 42);
        assert_eq!((&frame[..6], &frame[6..12]), (&ONE.0[..], &BRIDGE.0[..]));
        assert_eq!((&frame[28..32], &frame[38..]), (&[0; 4][..], &[10, 0, 0, 9][..]));
    }

    #[test]
    fn a_solicitation_has_the_checksum_that_its_receiver_finds() {
        let address: Ipv6Addr = "fd00::9".parse().unwrap();
        let frame = question(BRIDGE, ONE, address.into());
        assert_eq!(frame.len(), ICMP_AT + 32);
        let from = BRIDGE.link_local().ip();
        // Over a message with its checksum in place, the sum is all ones.
        assert_eq!(checksum(from, address, &frame[ICMP_AT..]), 0);
    }

    #[test]
    fn only_what_the_endpoint_itself_says_of_that_address_is_an_answer() {
        let v4: IpAddr = [10, 0, 0, 9].into();
        let mut frame = [&BRIDGE.0[..], &ONE.0, &ETH_P_ARP.to_be_bytes(), &ARP_ANSWERS, &ONE.0].concat();
        frame.extend([10, 0, 0, 9]);
        assert!(is_answer(&frame, ONE, v4));
        assert!(!is_answer(&frame, BRIDGE, v4) && !is_answer(&frame, ONE, [10, 0, 0, 8].into()));
        assert!(!is_answer(&question(BRIDGE, ONE, v4), ONE, v4), "a question is none");
        let v6: Ipv6Addr = "fd00::9".parse().unwrap();
        let mut frame = question(ONE, BRIDGE, v6.into());
        frame[ICMP_AT] = ADVERTISEMENT;
        assert!(is_answer(&frame, ONE, v6.into()));
        for length in 0..ICMP_AT + 24 {
            assert!(!is_answer(&frame[..length], ONE, v6.into()), "{length} bytes");
        }
    }
}
