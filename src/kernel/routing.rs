//! Rules, routes and neighbours of a namespace (linux/fib_rules.h, linux/rtnetlink.h, linux/neighbour.h), as far as they are
//! ours: all carry our number. Everything blocks.

use std::io;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use super::links::ROUTE_PROTOCOL;
use super::raw::{self, Message, attribute, nested, within};
use crate::model::Mac;

pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_NEWRULE: u16 = 32;
pub(super) const RTM_DELRULE: u16 = 33;
pub(super) const RTM_GETRULE: u16 = 34;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
pub(super) const RTN_UNICAST: u8 = 1;
pub(super) const RTN_LOCAL: u8 = 2;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTNH_F_ONLINK: u32 = 4;
pub(super) const FR_ACT_TO_TBL: u8 = 1;
/// The table of the usual routes.
pub(super) const RT_TABLE_MAIN: u32 = 254;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_METRICS: u16 = 8;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RTAX_MTU: u16 = 2;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
pub(super) const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
pub(super) const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const UDP: u8 = 17;

/// The octets of an address.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address that octets are.
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => octets.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        16 => octets.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

/// Every interface leads to these: which one is meant, they do not say (RFC 4291, section 2.5.6).
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// AF_INET and AF_INET6.
fn family(ipv6: bool) -> u8 {
    if ipv6 { 10 } else { 2 }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn word(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_ne_bytes())
}

/// The number in an attribute.
pub(super) fn read_word(bytes: &[u8], kind: u16) -> Option<u32> {
    within(bytes, kind)?.first_chunk().map(|value| u32::from_ne_bytes(*value))
}

/// A rule of ours that leads to a table of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// Of which family of addresses.
    pub ipv6: bool,
    /// For what is from this address; `None`: from anybody.
    pub from: Option<IpAddr>,
    /// For what has this mark, in the bits of the second; `None`: whatever it has.
    pub mark: Option<(u32, u32)>,
    /// For what is sent by UDP from this port; `None`: for all.
    pub udp: Option<u16>,
    /// The table.
    pub table: u32,
    /// Its place among the rules. Of the kernel's own that of the main table is 32766.
    pub priority: u32,
}

impl Rule {
    fn message(&self, kind: u16, flags: u16) -> Message {
        let Self { ipv6, from, mark, udp, table, priority } = *self;
        // struct fib_rule_hdr: family, lengths of the prefixes, tos, table, two that are free, action, flags.
        let mut body = vec![family(ipv6), 0, from.map_or(0, bits), 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        body.extend(from.into_iter().flat_map(|from| attribute(FRA_SRC, &octets(from))));
        if let Some((mark, mask)) = mark {
            body.extend(word(FRA_FWMARK, mark));
            body.extend(word(FRA_FWMASK, mask));
        }
        if let Some(port) = udp {
            body.extend(attribute(FRA_IP_PROTO, &[UDP]));
            body.extend(attribute(FRA_SPORT_RANGE, &[port.to_ne_bytes(), port.to_ne_bytes()].concat()));
        }
        body.extend(word(FRA_TABLE, table));
        body.extend(word(FRA_PRIORITY, priority));
        body.extend(attribute(FRA_PROTOCOL, &[ROUTE_PROTOCOL]));
        Message { kind, flags, body }
    }

    /// Makes it; one that is there is no error.
    pub fn put(&self) -> io::Result<()> {
        settle(&self.message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL), &[Errno::EEXIST])
    }

    /// Removes it; one that is gone is no error.
    pub fn delete(&self) -> io::Result<()> {
        settle(&self.message(RTM_DELRULE, 0), &[Errno::ENOENT, Errno::EAFNOSUPPORT])
    }

    fn read(body: &[u8]) -> Option<Self> {
        let rest = body.get(12..)?;
        if within(rest, FRA_PROTOCOL)? != [ROUTE_PROTOCOL] {
            return None;
        }
        Some(Self {
            ipv6: *body.first()? == family(true),
            from: within(rest, FRA_SRC).and_then(address),
            mark: read_word(rest, FRA_FWMARK)
                .map(|mark| (mark, read_word(rest, FRA_FWMASK).unwrap_or(u32::MAX))),
            udp: within(rest, FRA_SPORT_RANGE)
                .and_then(|range| range.first_chunk())
                .map(|port| u16::from_ne_bytes(*port)),
            table: read_word(rest, FRA_TABLE)?,
            priority: read_word(rest, FRA_PRIORITY).unwrap_or(0),
        })
    }
}

/// The rules of ours that lead to a table.
pub(super) fn rules(table: u32) -> io::Result<Vec<Rule>> {
    let mut found = Vec::new();
    for ipv6 in [false, true] {
        let question = Message { kind: RTM_GETRULE, flags: 0, body: header(ipv6) };
        let listed = dump(&question, RTM_NEWRULE)?;
        found.extend(listed.iter().filter_map(|body| Rule::read(body)).filter(|rule| rule.table == table));
    }
    Ok(found)
}

/// A route of ours: to a subnet, or, without one, to all that there is no other for in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    /// Of which family of addresses.
    pub ipv6: bool,
    /// Where it leads to.
    pub to: Option<IpNetwork>,
    /// By way of this address.
    pub gateway: Option<IpAddr>,
    /// That address is beyond the link, whatever the other routes say.
    pub onlink: bool,
    /// By this link.
    pub link: u32,
    /// The table.
    pub table: u32,
    /// How large packets may be.
    pub mtu: Option<u32>,
    /// Of two with one destination the lower is taken.
    pub metric: Option<u32>,
}

impl Route {
    fn message(&self, kind: u16, flags: u16) -> Message {
        let Self { ipv6, to, gateway, onlink, link, table, mtu, metric } = *self;
        let scope = if gateway.is_none() && !ipv6 { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
        // struct rtmsg: family, lengths of the prefixes, tos, table, protocol, scope, type, flags.
        let mut body =
            vec![family(ipv6), to.map_or(0, |to| to.prefix()), 0, 0, 0, ROUTE_PROTOCOL, scope, RTN_UNICAST];
        body.extend(if onlink { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
        body.extend(to.into_iter().flat_map(|to| attribute(RTA_DST, &octets(to.ip()))));
        body.extend(gateway.into_iter().flat_map(|gateway| attribute(RTA_GATEWAY, &octets(gateway))));
        body.extend(word(RTA_OIF, link));
        body.extend(word(RTA_TABLE, table));
        body.extend(metric.into_iter().flat_map(|metric| word(RTA_PRIORITY, metric)));
        body.extend(mtu.into_iter().flat_map(|mtu| nested(RTA_METRICS, &[word(RTAX_MTU, mtu)])));
        Message { kind, flags, body }
    }

    /// Makes it, or puts it in the place of the one that is there.
    pub fn put(&self) -> io::Result<()> {
        settle(&self.message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE), &[])
    }

    /// Removes it; one that is gone is no error.
    pub fn delete(&self) -> io::Result<()> {
        settle(&self.message(RTM_DELROUTE, 0), &[Errno::ESRCH, Errno::ENODEV])
    }

    fn read(body: &[u8]) -> Option<Self> {
        let rest = body.get(12..)?;
        if *body.get(5)? != ROUTE_PROTOCOL {
            return None;
        }
        let flags = body.get(8..)?.first_chunk().map_or(0, |flags| u32::from_ne_bytes(*flags));
        let metrics = within(rest, RTA_METRICS);
        Some(Self {
            ipv6: *body.first()? == family(true),
            to: within(rest, RTA_DST).and_then(address).and_then(|to| IpNetwork::new(to, body[1]).ok()),
            gateway: within(rest, RTA_GATEWAY).and_then(address),
            onlink: flags & RTNH_F_ONLINK != 0,
            link: read_word(rest, RTA_OIF)?,
            table: read_word(rest, RTA_TABLE)?,
            mtu: metrics.and_then(|metrics| read_word(metrics, RTAX_MTU)),
            metric: read_word(rest, RTA_PRIORITY),
        })
    }
}

/// The routes of ours in a table.
pub(super) fn routes(table: u32) -> io::Result<Vec<Route>> {
    let mut found = Vec::new();
    for ipv6 in [false, true] {
        // Of what others have there may be hundreds of thousands. In struct rtmsg the protocol is the sixth byte.
        let mut body = header(ipv6);
        body[5] = ROUTE_PROTOCOL;
        body.extend(word(RTA_TABLE, table));
        let question = Message { kind: RTM_GETROUTE, flags: 0, body };
        let listed = match raw::dump_chosen(NETLINK_ROUTE, &question, &[RTM_NEWROUTE]) {
            // There is no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => of_family(listed)?,
        };
        let ours = listed.iter().filter_map(|body| Route::read(body));
        found.extend(ours.filter(|route| route.table == table));
    }
    Ok(found)
}

/// Notes for good which MAC an address beyond a link has.
pub(super) fn put_neighbour(link: u32, to: IpAddr, mac: Mac) -> io::Result<()> {
    const NUD_PERMANENT: u16 = 0x80;
    const NDA_DST: u16 = 1;
    const NDA_LLADDR: u16 = 2;
    // struct ndmsg: family, padding, link, state, flags, type.
    let mut body = vec![family(to.is_ipv6()), 0, 0, 0];
    body.extend(link.to_ne_bytes());
    body.extend(NUD_PERMANENT.to_ne_bytes());
    body.extend([0, 0]);
    body.extend(attribute(NDA_DST, &octets(to)));
    body.extend(attribute(NDA_LLADDR, &mac.0));
    settle(&Message { kind: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, body }, &[])
}

/// The addresses of all links but one and the loopback that are good beyond their link.
pub(super) fn other_addresses(link: u32) -> io::Result<Vec<IpAddr>> {
    const RTM_NEWADDR: u16 = 20;
    const RTM_GETADDR: u16 = 22;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let listed = dump(&Message { kind: RTM_GETADDR, flags: 0, body: header(false) }, RTM_NEWADDR)?;
    let wide = dump(&Message { kind: RTM_GETADDR, flags: 0, body: header(true) }, RTM_NEWADDR)?;
    // struct ifaddrmsg: family, length of the prefix, flags, scope, link.
    let read = |body: &Vec<u8>| {
        let index = body.get(4..)?.first_chunk().map(|index| u32::from_ne_bytes(*index))?;
        let rest = body.get(8..)?;
        let own = within(rest, IFA_LOCAL).or_else(|| within(rest, IFA_ADDRESS)).and_then(address)?;
        (index != link && *body.get(3)? == RT_SCOPE_UNIVERSE).then_some(own)
    };
    Ok(listed.iter().chain(&wide).filter_map(read).collect())
}

/// What a question for the rules or the routes of one family begins with.
pub(super) fn header(ipv6: bool) -> Vec<u8> {
    let mut header = vec![family(ipv6)];
    header.resize(12, 0);
    header
}

fn dump(question: &Message, answer: u16) -> io::Result<Vec<Vec<u8>>> {
    of_family(raw::dump(NETLINK_ROUTE, question, &[answer]))
}

/// What was listed of one family of addresses: a kernel without it has nothing of it.
pub(super) fn of_family<T: Default>(listed: io::Result<T>) -> io::Result<T> {
    match listed {
        Err(error) if error.raw_os_error().map(Errno::from_raw) == Some(Errno::EAFNOSUPPORT) => {
            Ok(T::default())
        }
        listed => listed,
    }
}

/// The table that a route is in or a rule leads to, by its header of twelve bytes or what is behind that.
pub(super) fn table_of(message: &[u8]) -> Option<u32> {
    // RTA_TABLE and FRA_TABLE are one number.
    read_word(message.get(12..)?, RTA_TABLE).or_else(|| message.get(4).copied().map(u32::from))
}

fn settle(message: &Message, fine: &[Errno]) -> io::Result<()> {
    match raw::ask(NETLINK_ROUTE, message)? {
        Some(errno) if !fine.contains(&errno) => Err(errno.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_routes_are_read_as_they_are_written_and_broken_ones_are_none() {
        let from = Some("10.0.0.1".parse().unwrap());
        for rule in [
            Rule { ipv6: false, from, mark: None, udp: Some(53), table: 7, priority: 9 },
            Rule { ipv6: true, from: None, mark: Some((5, 7)), udp: None, table: 1 << 30, priority: 40_000 },
        ] {
            let body = rule.message(RTM_NEWRULE, 0).body;
            assert_eq!(Rule::read(&body), Some(rule));
            for end in 0..body.len() {
                let _ = Rule::read(&body[..end]);
            }
        }
        let gateway = Some("fe80::1".parse().unwrap());
        for route in [
            Route {
                ipv6: true,
                to: None,
                gateway,
                onlink: true,
                link: 3,
                table: 7,
                mtu: Some(1450),
                metric: None,
            },
            Route {
                ipv6: false,
                to: Some("10.0.0.0/24".parse().unwrap()),
                gateway: None,
                onlink: false,
                link: 3,
                table: 254,
                mtu: None,
                metric: Some(8),
            },
        ] {
            let body = route.message(RTM_NEWROUTE, 0).body;
            assert_eq!(Route::read(&body), Some(route));
            for end in 0..body.len() {
                let _ = Route::read(&body[..end]);
            }
        }
        assert_eq!(Rule::read(&[0; 12]), None);
        assert_eq!(Route::read(&[0; 12]), None);
    }
}
