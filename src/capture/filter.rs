//! Which frames somebody wants: a small part of what pcap-filter(7) has, with its words and its precedence.
//!
//! ```text
//! filter    = and { "or" and }
//! and       = not { ["and"] not }
//! not       = "not" not | "(" filter ")" | primitive
//! primitive = "arp" | "ip" | "ip6" | "icmp" | "icmp6" | "igmp" | "tcp" | "udp" | "broadcast" | "multicast"
//!           | ["src" | "dst"] ("host" ADDRESS | "net" SUBNET | "port" NUMBER) | "ether" "host" MAC
//! ```
//!
//! A filter is applied to each frame in the agent: nothing of it gets into the kernel.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use super::parts::{ARP, IPV4, IPV6, Parts, TCP, UDP};
use crate::model::Mac;

/// The longest filter, in bytes, and how deep parentheses and `not` may go.
const TEXT_MAX: usize = 1024;
const DEPTH_MAX: usize = 32;
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;

/// Which frames somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: String,
    /// `None`: all.
    wants: Option<Term>,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; a filter is made of arp, ip, ip6, icmp, icmp6, igmp, tcp, udp, broadcast, multicast, [src|dst] host ADDRESS, [src|dst] net \
         SUBNET, [src|dst] port NUMBER, ether host MAC, with and, or, not and parentheses"
)]
pub struct FilterError(String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Any(Vec<Term>),
    All(Vec<Term>),
    Not(Box<Term>),
    EtherType(u16),
    Protocol(u8),
    Network(Side, IpNetwork),
    Port(Side, u16),
    Mac(Mac),
    Broadcast,
    Multicast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    Either,
}

impl Side {
    fn has<T: Copy>(self, both: Option<(T, T)>, is_it: impl Fn(T) -> bool) -> bool {
        both.is_some_and(|(from, to)| match self {
            Self::Source => is_it(from),
            Self::Destination => is_it(to),
            Self::Either => is_it(from) || is_it(to),
        })
    }
}

impl Term {
    fn wants(&self, parts: &Parts) -> bool {
        match self {
            Self::Any(terms) => terms.iter().any(|term| term.wants(parts)),
            Self::All(terms) => terms.iter().all(|term| term.wants(parts)),
            Self::Not(term) => !term.wants(parts),
            Self::EtherType(kind) => parts.ether_type == *kind,
            Self::Protocol(protocol) => parts.protocol == Some(*protocol),
            Self::Network(side, network) => side.has(parts.addresses, |address| network.contains(address)),
            Self::Port(side, port) => side.has(parts.ports, |found| found == *port),
            Self::Mac(mac) => Side::Either.has(parts.macs, |found| found == *mac),
            Self::Broadcast => parts.macs.is_some_and(|(to, _)| to.0 == [0xff; 6]),
            // The lowest bit of the first octet (IEEE 802.3).
            Self::Multicast => parts.macs.is_some_and(|(to, _)| to.0[0] & 1 == 1),
        }
    }
}

impl Filter {
    /// Whether it wants this frame.
    pub fn wants(&self, frame: &[u8]) -> bool {
        self.wants.as_ref().is_none_or(|term| term.wants(&Parts::of(frame)))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > TEXT_MAX {
            return Err(FilterError(format!("a filter has at most {TEXT_MAX} bytes")));
        }
        let spaced = text.replace('(', " ( ").replace(')', " ) ").to_ascii_lowercase();
        let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
        let mut parser = Parser { words: &words };
        let wants = if words.is_empty() { None } else { Some(parser.any(0)?) };
        match parser.words.first() {
            None => Ok(Self { text: words.join(" "), wants }),
            Some(word) => Err(FilterError(format!("nothing can be made of {word:?}"))),
        }
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_it = self.words.first() == Some(&word);
        if is_it {
            self.next();
        }
        is_it
    }

    fn any(&mut self, depth: usize) -> Result<Term, FilterError> {
        let mut terms = vec![self.all(depth)?];
        while self.takes("or") {
            terms.push(self.all(depth)?);
        }
        Ok(one_or(terms, Term::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Term, FilterError> {
        let mut terms = vec![self.not(depth)?];
        loop {
            let and = self.takes("and");
            if !and && self.words.first().is_none_or(|word| matches!(*word, "or" | ")")) {
                return Ok(one_or(terms, Term::All));
            }
            terms.push(self.not(depth)?);
        }
    }

    fn not(&mut self, depth: usize) -> Result<Term, FilterError> {
        if depth > DEPTH_MAX {
            return Err(FilterError(format!("a filter is at most {DEPTH_MAX} parentheses deep")));
        }
        if self.takes("not") {
            return Ok(Term::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.takes("(") {
            let inner = self.any(depth + 1)?;
            return if self.takes(")") {
                Ok(inner)
            } else {
                Err(FilterError("a parenthesis is not closed".to_owned()))
            };
        }
        self.primitive()
    }

    fn primitive(&mut self) -> Result<Term, FilterError> {
        let word = self.next().ok_or_else(|| FilterError("something is missing at the end".to_owned()))?;
        let protocol = match word {
            "icmp" => Some((IPV4, ICMP)),
            "igmp" => Some((IPV4, IGMP)),
            "icmp6" => Some((IPV6, ICMPV6)),
            _ => None,
        };
        if let Some((family, protocol)) = protocol {
            return Ok(Term::All(vec![Term::EtherType(family), Term::Protocol(protocol)]));
        }
        match word {
            "arp" => Ok(Term::EtherType(ARP)),
            "ip" => Ok(Term::EtherType(IPV4)),
            "ip6" => Ok(Term::EtherType(IPV6)),
            "tcp" => Ok(Term::Protocol(TCP)),
            "udp" => Ok(Term::Protocol(UDP)),
            "broadcast" => Ok(Term::Broadcast),
            "multicast" => Ok(Term::Multicast),
            "ether" if self.takes("host") => Ok(Term::Mac(self.value("a MAC")?)),
            "src" => self.of_side(Side::Source),
            "dst" => self.of_side(Side::Destination),
            "host" | "net" | "port" => self.about(word, Side::Either),
            other => Err(FilterError(format!("nothing can be made of {other:?}"))),
        }
    }

    fn of_side(&mut self, side: Side) -> Result<Term, FilterError> {
        let word = self.next().unwrap_or_default();
        self.about(word, side)
    }

    fn about(&mut self, word: &str, side: Side) -> Result<Term, FilterError> {
        match word {
            "host" => Ok(Term::Network(side, IpNetwork::from(self.value::<IpAddr>("an address")?))),
            "net" => Ok(Term::Network(side, self.value("a subnet")?)),
            "port" => Ok(Term::Port(side, self.value("a port")?)),
            other => {
                Err(FilterError(format!("src and dst go with host, net or port, and not with {other:?}")))
            }
        }
    }

    fn value<T: FromStr>(&mut self, what: &str) -> Result<T, FilterError> {
        let word = self.next().unwrap_or_default();
        word.parse().map_err(|_| FilterError(format!("{word:?} is not {what}")))
    }
}

fn one_or(mut terms: Vec<Term>, several: impl Fn(Vec<Term>) -> Term) -> Term {
    if terms.len() == 1 { terms.remove(0) } else { several(terms) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const TWO: Mac = Mac([2, 0, 0, 0, 0, 2]);

    /// UDP from 10.0.0.1 port 1000 to 10.0.0.2 port 53.
    fn udp() -> Vec<u8> {
        let mut frame = [&TWO.0[..], &ONE.0, &IPV4.to_be_bytes(), &[0x45]].concat();
        frame.resize(14 + 9, 0);
        frame.extend([UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(1000u16.to_be_bytes());
        frame.extend(53u16.to_be_bytes());
        frame
    }

    fn wants(filter: &str, frame: &[u8]) -> bool {
        filter.parse::<Filter>().unwrap_or_else(|error| panic!("{filter}: {error}")).wants(frame)
    }

    #[test]
    fn a_frame_is_wanted_by_what_is_in_it() {
        for (filter, expected) in [
            ("", true),
            ("ip", true),
            ("arp", false),
            ("udp port 53", true),
            ("udp and port 53", true),
            ("src port 53", false),
            ("dst port 53", true),
            ("tcp or udp", true),
            ("not udp", false),
            ("not not udp", true),
            ("host 10.0.0.1 and host 10.0.0.2", true),
            ("dst host 10.0.0.1", false),
            ("net 10.0.0.0/8", true),
            ("src net 10.1.0.0/16", false),
            ("ether host 02:00:00:00:00:01", true),
            ("broadcast or multicast", false),
            ("(arp or icmp) or (udp and not port 54)", true),
            ("arp or icmp and udp", false),
            ("icmp6 or ip6 or igmp", false),
        ] {
            assert_eq!(wants(filter, &udp()), expected, "{filter}");
        }
        // A later fragment has no ports.
        let mut later = udp();
        later[14 + 7] = 1;
        assert!(!wants("port 53", &later) && wants("udp", &later));
        // What a VLAN's tag is before is the same.
        let mut tagged = udp();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert!(wants("udp port 53 and host 10.0.0.2", &tagged));
        let mut arp = [&[0xff; 6][..], &ONE.0, &ARP.to_be_bytes()].concat();
        arp.resize(14 + 14, 0);
        arp.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        assert!(wants("arp and host 10.0.0.2 and broadcast and multicast", &arp) && !wants("ip", &arp));
    }

    #[test]
    fn ports_are_found_behind_extension_headers() {
        let mut frame = [&TWO.0[..], &ONE.0, &IPV6.to_be_bytes(), &[0x60, 0, 0, 0, 0, 0, 0, 64]].concat();
        frame.extend([0; 32]);
        // Hop-by-hop options, then a fragment that is the first, then TCP.
        frame.extend([44, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend([TCP, 0, 0, 1, 0, 0, 0, 0]);
        frame.extend([0, 80, 1, 0]);
        assert!(wants("tcp src port 80 and dst port 256", &frame));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_one() {
        let deep = "(".repeat(100);
        let long = "tcp ".repeat(300);
        for text in
            ["foo", "port x", "host", "(tcp", "tcp)", "src tcp", "and", "tcp or", "ether 1", &deep, &long]
        {
            let error = text.parse::<Filter>().expect_err(text).to_string();
            assert!(error.contains("[src|dst] host ADDRESS"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_and_no_text_is_too_much(frame in proptest::collection::vec(any::<u8>(), 0..200), text in "[ a-z0-9().]{0,60}") {
            for filter in ["udp port 53 or icmp6", text.as_str()] {
                if let Ok(filter) = filter.parse::<Filter>() {
                    filter.wants(&frame);
                }
            }
        }
    }
}
