//! Reports of IGMPv3 (RFC 3376 section 4.2) and MLDv2 (RFC 3810 section 5.2), by which a router of multicast is told which groups
//! are joined on other nodes: those that hosts send stay on their node.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::discovery::checksum;
use super::{KernelError, Linux};
use crate::model::{Group, Mac, NetworkId};
use crate::plan::PortName;

/// How many groups are in one report: it fits into the smallest MTU of IPv6.
const AT_ONCE: usize = 50;
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
const IGMP_REPORT: u8 = 0x22;
const MLD_REPORT: u8 = 143;
/// Where reports go (RFC 3376 section 4.2.14, RFC 3810 section 5.2.14).
const IGMP_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// What a record says: from the sources that are named, from all but those.
const IS_INCLUDE: u8 = 1;
const IS_EXCLUDE: u8 = 2;
const TO_INCLUDE: u8 = 3;
const BLOCK_OLD: u8 = 6;

/// From whom reports come: an address of the network, and the MAC of its bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reporter {
    /// The gateway of a subnet of IPv4, if there is one: routers take reports only from those on their link.
    pub v4: Option<Ipv4Addr>,
    /// The bridge's MAC, from which its link-local address follows.
    pub mac: Mac,
}

impl Linux {
    /// Tells one endpoint, which routes multicast, that these groups are joined on other nodes, and those are no more.
    ///
    /// # Errors
    /// The network or the endpoint's interface is not there.
    pub async fn report(
        &self,
        network: NetworkId,
        port: &PortName,
        from: Reporter,
        joined: &BTreeSet<Group>,
        left: &BTreeSet<Group>,
    ) -> Result<(), KernelError> {
        self.send_by(network, port, frames(from, joined, left)).await
    }
}

/// The frames that say so.
fn frames(from: Reporter, joined: &BTreeSet<Group>, left: &BTreeSet<Group>) -> Vec<Vec<u8>> {
    let joined =
        joined.iter().map(|group| (group, if group.source().is_some() { IS_INCLUDE } else { IS_EXCLUDE }));
    let left =
        left.iter().map(|group| (group, if group.source().is_some() { BLOCK_OLD } else { TO_INCLUDE }));
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (group, kind) in joined.chain(left) {
        let records = if group.address().ip().is_ipv4() { &mut v4 } else { &mut v6 };
        records.push(record(group, kind));
    }
    let igmp = from
        .v4
        .into_iter()
        .flat_map(|source| v4.chunks(AT_ONCE).map(move |records| igmp(from.mac, source, records)));
    igmp.chain(v6.chunks(AT_ONCE).map(|records| mld(from.mac, records))).collect()
}

/// A record of a group: kind, no auxiliary data, how many sources, the group, the sources.
fn record(group: &Group, kind: u8) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let sources = u8::from(group.source().is_some());
    let mut record = vec![kind, 0, 0, sources];
    record.extend(octets(group.address().ip()));
    record.extend(group.source().into_iter().flat_map(octets));
    record
}

/// A report: kind, checksum and how many records, which are at different places in the two.
fn report(kind: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[kind, 0, 0, 0, 0, 0][..], &count, &records.concat()].concat()
}

fn igmp(mac: Mac, source: Ipv4Addr, records: &[Vec<u8>]) -> Vec<u8> {
    let mut message = report(IGMP_REPORT, records);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // With the router alert (RFC 2113), to nobody beyond the link.
    let length = u16::try_from(24 + message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = vec![0x46, 0xc0, length[0], length[1], 0, 0, 0, 0, 1, IGMP, 0, 0];
    header.extend(source.octets());
    header.extend(IGMP_ROUTERS.octets());
    header.extend([0x94, 4, 0, 0]);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let [_, a, b, c] = IGMP_ROUTERS.octets();
    [&[1, 0, 0x5e, a, b, c][..], &mac.0, &[8, 0], &header, &message].concat()
}

fn mld(mac: Mac, records: &[Vec<u8>]) -> Vec<u8> {
    let source = mac.link_local().ip();
    let mut message = report(MLD_REPORT, records);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let over = [&source.octets()[..], &MLD_ROUTERS.octets(), &[0, 0], &length, &[0, 0, 0, ICMPV6], &message];
    let sum = checksum(&over.concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // Hop-by-hop options: the router alert (RFC 2711), and padding.
    let options = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let length = u16::try_from(options.len() + message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let header = [&[0x60, 0, 0, 0][..], &length, &[0, 1], &source.octets(), &MLD_ROUTERS.octets()].concat();
    let [.., a, b, c, d] = MLD_ROUTERS.octets();
    [&[0x33, 0x33, a, b, c, d][..], &mac.0, &[0x86, 0xdd], &header, &options, &message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Reporter = Reporter { v4: Some(Ipv4Addr::new(10, 0, 0, 1)), mac: Mac([0x0a, 1, 2, 3, 4, 5]) };

    fn group(address: &str, source: Option<&str>) -> Group {
        Group::new(address.parse().unwrap(), source.map(|source| source.parse().unwrap())).unwrap()
    }

    #[test]
    fn reports_have_right_checksums_and_all_groups() {
        let joined = BTreeSet::from([
            group("239.1.1.1", None),
            group("239.1.1.2", Some("10.0.0.9")),
            group("ff05::1", None),
        ]);
        let left = BTreeSet::from([group("239.1.1.3", None)]);
        let [igmp, mld] = <[_; 2]>::try_from(frames(FROM, &joined, &left)).unwrap();
        assert_eq!((checksum(&igmp[14..38]), checksum(&igmp[38..])), (0, 0));
        assert_eq!(igmp.len(), 38 + 8 + 8 + 12 + 8);
        assert_eq!(igmp[46..54], [IS_EXCLUDE, 0, 0, 0, 239, 1, 1, 1]);
        assert_eq!(igmp[54..66], [IS_INCLUDE, 0, 0, 1, 239, 1, 1, 2, 10, 0, 0, 9]);
        assert_eq!(igmp[66..], [TO_INCLUDE, 0, 0, 0, 239, 1, 1, 3]);
        let message = &mld[62..];
        let length = (message.len() as u16).to_be_bytes();
        let over = [&mld[22..54], &[0, 0], &length, &[0, 0, 0, ICMPV6], message].concat();
        assert_eq!((checksum(&over), message.len()), (0, 8 + 20));
    }

    #[test]
    fn many_groups_are_several_reports_and_without_ipv4_there_are_none_of_it() {
        let joined: BTreeSet<Group> = (0..120).map(|n| group(&format!("239.1.2.{n}"), None)).collect();
        let frames_of = |from| frames(from, &joined, &BTreeSet::new());
        assert_eq!(frames_of(FROM).len(), 3);
        assert!(frames_of(FROM).iter().all(|frame| frame.len() < 1280));
        assert!(frames_of(Reporter { v4: None, ..FROM }).is_empty());
    }
}
