//! The connections of a client that a changed route does not keep: forgotten by the connection tracking of its namespace,
//! and its TCP sockets told.
//!
//! A datagram that follows is a new connection, and goes to an endpoint that is there. Of TCP it would be one in the middle,
//! which the next endpoint refuses; so that one that waits does not wait for ever, its socket is ended (SOCK_DESTROY, where
//! the kernel has it).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_SOCK_DIAG};

use super::super::raw::{self, Message, attribute, within};
use super::rules::{address, octets};
use super::table::behind_header;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_NEW: u16 = 0;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const TCP: u8 = 6;
/// How many are ended with one call: the kernel answers each, and its answers have to find room.
const AT_ONCE: usize = 64;
/// The most that is read in one namespace: some 300,000 connections, more than the kernel's own limit lets there be.
const READ_MAX: usize = 128 << 20;

/// For each address of a service, where connections may lead.
pub(super) type Kept = BTreeMap<IpAddr, BTreeSet<IpAddr>>;

struct Flow {
    /// The attribute with the tuple as the client sees it, without its header.
    tuple: Vec<u8>,
    client: IpAddr,
    service: IpAddr,
    /// Of TCP: the client's port, and the service's.
    ports: Option<([u8; 2], [u8; 2])>,
}

/// Ends the connections of the calling thread's namespace to addresses of `kept` that lead elsewhere than there; how many.
/// Blocks.
pub(super) fn end_others(kept: &Kept) -> io::Result<usize> {
    let families = [false, true].into_iter().filter(|ipv6| kept.keys().any(|to| to.is_ipv6() == *ipv6));
    end(families, &|Ends { asked, answers, .. }| {
        kept.get(asked).is_some_and(|keeps| !keeps.contains(answers))
    })
}

/// Forgets the connections through the calling thread's namespace whose destination was translated to another than `keeps`, and
/// those whose client was translated to one of `stands` and is none of `senders`. Blocks.
pub(in crate::kernel) fn end_translated(
    keeps: &BTreeSet<IpAddr>,
    senders: &BTreeSet<IpAddr>,
    stands: [IpAddr; 2],
) -> io::Result<usize> {
    end([false, true], &|Ends { client, asked, answers, seen }| {
        (asked != answers && !keeps.contains(answers)) || (stands.contains(seen) && !senders.contains(client))
    })
}

/// Between whom a connection is, as each side sees the other.
struct Ends {
    /// Who began it,
    client: IpAddr,
    /// and whom he asked.
    asked: IpAddr,
    /// Who answers,
    answers: IpAddr,
    /// and whom he sees.
    seen: IpAddr,
}

/// Ends those for which `ends` says so.
fn end(families: impl IntoIterator<Item = bool>, ends: &dyn Fn(&Ends) -> bool) -> io::Result<usize> {
    let mut ended = 0;
    for ipv6 in families {
        let mut flows = Vec::new();
        let mut note = |message: &[u8]| flows.extend(to_be_ended(message, ends));
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
        let question = Message { kind, flags: 0, body: header(ipv6) };
        let answers = [NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW];
        raw::each_of(NETLINK_NETFILTER, &question, &answers, READ_MAX, &mut note)?;
        ended += flows.len();
        for flows in flows.chunks(AT_ONCE) {
            // One that is over meanwhile is no matter.
            raw::exchange(
                NETLINK_NETFILTER,
                &flows.iter().map(|flow| forget(flow, ipv6)).collect::<Vec<_>>(),
            )?;
            let sockets: Vec<Vec<u8>> = flows.iter().filter_map(|flow| end_socket(flow, ipv6)).collect();
            if !sockets.is_empty() {
                raw::exchange(NETLINK_SOCK_DIAG, &sockets)?;
            }
        }
    }
    Ok(ended)
}

/// struct nfgenmsg: family, version, resource.
fn header(ipv6: bool) -> Vec<u8> {
    vec![family(ipv6), 0, 0, 0]
}

/// AF_INET and AF_INET6.
fn family(ipv6: bool) -> u8 {
    if ipv6 { 10 } else { 2 }
}

fn to_be_ended(message: &[u8], ends: &dyn Fn(&Ends) -> bool) -> Option<Flow> {
    let tuple = |wanted| behind_header(message).find(|(kind, _)| *kind == wanted).map(|(_, tuple)| tuple);
    let (orig, reply) = (tuple(CTA_TUPLE_ORIG)?, tuple(CTA_TUPLE_REPLY)?);
    let (client, service) = source_and_destination(orig)?;
    let (answers, seen) = source_and_destination(reply)?;
    if !ends(&Ends { client, asked: service, answers, seen }) {
        return None;
    }
    let proto = within(orig, 2)?;
    let port = |kind| within(proto, kind)?.first_chunk::<2>().copied();
    let ports = (within(proto, 1) == Some(&[TCP][..])).then(|| Some((port(2)?, port(3)?))).flatten();
    Some(Flow { tuple: orig.to_vec(), client, service, ports })
}

/// Source and destination of a tuple.
fn source_and_destination(tuple: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let ip = within(tuple, 1)?;
    let end = |v4, v6| within(ip, v4).or_else(|| within(ip, v6)).and_then(address);
    Some((end(1, 3)?, end(2, 4)?))
}

fn forget(flow: &Flow, ipv6: bool) -> Vec<u8> {
    let body = [header(ipv6), attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, &flow.tuple)].concat();
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    Message { kind, flags: 0, body }.bytes(NLM_F_REQUEST | NLM_F_ACK, 0)
}

/// Ends a client's socket, which has the service's address and not the endpoint's (struct inet_diag_req_v2 of
/// linux/inet_diag.h).
fn end_socket(flow: &Flow, ipv6: bool) -> Option<Vec<u8>> {
    const SOCK_DESTROY: u16 = 21;
    const ALL_STATES: u32 = u32::MAX;
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    let (source, destination) = flow.ports?;
    let wide = |address| {
        let mut octets = octets(address);
        octets.resize(16, 0);
        octets
    };
    let mut body = vec![family(ipv6), TCP, 0, 0];
    body.extend(ALL_STATES.to_ne_bytes());
    body.extend(source);
    body.extend(destination);
    body.extend(wide(flow.client));
    body.extend(wide(flow.service));
    body.extend([0; 4]);
    body.extend(NO_COOKIE);
    Some(Message { kind: SOCK_DESTROY, flags: 0, body }.bytes(NLM_F_REQUEST | NLM_F_ACK, 0))
}
