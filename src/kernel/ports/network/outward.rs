//! The rules in a network's namespace for endpoints that reach what is outside: marked so that they leave through the gate,
//! translated once to what stands for the node beyond it, and nothing but that.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::super::nft::{
    self, Base, Compare, Expression, NF_ACCEPT, Refusal, bytes, compare, expression, layer_4, masked_with,
    number, set_mark, verdict,
};
use super::super::super::raw::attribute;
use super::super::super::routing::octets;
use super::super::super::services::rules::INET;
use super::super::expr::{self, from_link, is_answer, is_of, load, to_link};
use super::super::gate::MARK;
use super::super::stands::{OUTWARD_V4, OUTWARD_V6, PING_V4, PING_V6};
use super::Content;
use crate::plan::Outward;

const OUTSIDE: &[u8] = b"outside\0";
const REGISTER: u32 = 1;
const SECOND: u32 = 2;
const THIRD: u32 = 3;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Addresses that no router hands on (RFC 3927); those of IPv6 the kernel itself does not.
const LINK_LOCAL: ([u8; 4], [u8; 4]) = ([0xff, 0xff, 0, 0], [169, 254, 0, 0]);

/// What stands for the node beyond the gate.
pub(in super::super) fn stands_for_the_node(ipv6: bool) -> IpAddr {
    if ipv6 { OUTWARD_V6.into() } else { OUTWARD_V4.into() }
}

fn set(ipv6: bool) -> &'static [u8] {
    if ipv6 { b"outward6\0" } else { b"outward4\0" }
}

impl Content {
    /// The sets of who may, and the chain of what may pass, which others lead to. Of families that lead nowhere nothing: what is
    /// sent there is told so at once.
    pub(super) fn outward_sets(&mut self, outward: &Outward, families: [bool; 2]) {
        for (id, ipv6) in present(families).enumerate() {
            let (kind, length) = if ipv6 { (8, 16) } else { (7, 4) };
            let id = u32::try_from(id).unwrap_or(0) + 1000;
            let from = outward.from.iter().filter(|from| from.is_ipv6() == ipv6).map(|from| octets(*from));
            self.changes.extend(INET.make_set(&super::table(), set(ipv6), (kind, length), id, from));
        }
        self.plain_chain(OUTSIDE);
        self.outside(outward);
    }

    /// What of it may leave. The rest is told that nobody lets it.
    fn outside(&mut self, outward: &Outward) {
        for (transport, port) in &outward.closed {
            let mut closed = vec![layer_4(), compare(Compare::Equal, &[transport.number()])];
            closed.extend([bytes(Base::Transport, 2, 2), compare(Compare::Equal, &port.to_be_bytes())]);
            closed.push(nft::refuse(Refusal::Prohibited));
            self.rule(OUTSIDE, &closed);
        }
        let mut near = Vec::from(is_of(false));
        near.extend([
            bytes(Base::Network, 16, 4),
            masked_with(LINK_LOCAL.0),
            compare(Compare::Equal, &LINK_LOCAL.1),
        ]);
        near.push(nft::refuse(Refusal::Prohibited));
        self.rule(OUTSIDE, &near);
        for protocol in [6, 17] {
            self.rule(OUTSIDE, &[layer_4(), compare(Compare::Equal, &[protocol]), verdict(NF_ACCEPT)]);
        }
        for (protocol, ping) in [(ICMP, PING_V4), (ICMPV6, PING_V6)] {
            let mut pings = vec![layer_4(), compare(Compare::Equal, &[protocol])];
            pings.extend([
                bytes(Base::Transport, 0, 1),
                compare(Compare::Equal, &[ping]),
                verdict(NF_ACCEPT),
            ]);
            self.rule(OUTSIDE, &pings);
        }
        // What is told about something that came in.
        let mut told = Vec::from(is_seen_as_another());
        told.extend(is_related());
        told.push(verdict(NF_ACCEPT));
        self.rule(OUTSIDE, &told);
        self.rule(OUTSIDE, &[nft::refuse(Refusal::Prohibited)]);
    }

    /// What they send beyond the network leaves by the gate. What is in the network has a route there before.
    pub(super) fn outward_marks(&mut self, chain: &[u8], families: [bool; 2]) {
        for ipv6 in present(families) {
            let mut marked = Vec::from(from_link(self.ends.bridge));
            marked.extend(is_theirs(ipv6));
            marked.extend(expr::is_question());
            marked.extend([load(REGISTER, &MARK.to_ne_bytes()), set_mark()]);
            self.rule(chain, &marked);
        }
    }

    /// As whom they are seen beyond the gate.
    pub(super) fn outward_sources(&mut self, chain: &[u8], outward: &Outward, families: [bool; 2]) {
        for ipv6 in present(families) {
            let mut seen = Vec::from(to_link(self.ends.gate));
            seen.extend(is_theirs(ipv6));
            seen.push(load(REGISTER, &octets(stands_for_the_node(ipv6))));
            seen.push(load(SECOND, &outward.ports.first.to_be_bytes()));
            seen.push(load(THIRD, &outward.ports.last.to_be_bytes()));
            seen.push(sees_as(ipv6));
            self.rule(chain, &seen);
        }
    }

    /// What passes between the bridge and the gate for them.
    pub(super) fn outward_passes(&mut self, chain: &[u8], families: [bool; 2]) {
        for ipv6 in present(families) {
            let mut leaves = Vec::from(from_link(self.ends.bridge));
            leaves.extend(to_link(self.ends.gate));
            leaves.extend(is_theirs(ipv6));
            leaves.push(nft::goto(OUTSIDE));
            self.rule(chain, &leaves);
        }
        let mut answers = Vec::from(from_link(self.ends.gate));
        answers.extend(to_link(self.ends.bridge));
        answers.extend(is_seen_as_another());
        answers.extend(is_answer());
        answers.push(verdict(NF_ACCEPT));
        self.rule(chain, &answers);
    }
}

fn present(families: [bool; 2]) -> impl Iterator<Item = bool> {
    [false, true].into_iter().zip(families).filter(|(_, present)| *present).map(|(ipv6, _)| ipv6)
}

/// Goes on only with packets of a family from one of the endpoints that may.
fn is_theirs(ipv6: bool) -> Vec<Expression> {
    let (offset, length) = if ipv6 { (8, 16) } else { (12, 4) };
    let mut theirs = Vec::from(is_of(ipv6));
    theirs.push(bytes(Base::Network, offset, length));
    theirs.push(expression(b"lookup\0", &[attribute(1, set(ipv6)), number(2, REGISTER)]));
    theirs
}

/// Translates the sender to the address and to one of the ports, or ids, that were loaded.
fn sees_as(ipv6: bool) -> Expression {
    const NFT_NAT_SNAT: u32 = 0;
    let family = if ipv6 { 10 } else { 2 };
    let from = [
        number(1, NFT_NAT_SNAT),
        number(2, family),
        number(3, REGISTER),
        number(5, SECOND),
        number(6, THIRD),
    ];
    expression(b"nat\0", &from)
}

/// Goes on only with packets of connections whose sender was translated.
fn is_seen_as_another() -> [Expression; 3] {
    const NFT_CT_STATUS: u32 = 2;
    const IPS_SRC_NAT: u32 = 1 << 4;
    [
        expression(b"ct\0", &[number(1, REGISTER), number(2, NFT_CT_STATUS)]),
        masked_with(IPS_SRC_NAT.to_ne_bytes()),
        compare(Compare::Unequal, &[0; 4]),
    ]
}

/// Goes on only with what is told about a connection.
fn is_related() -> [Expression; 3] {
    const RELATED: u32 = 1 << 2;
    [expr::state_of_connection(), masked_with(RELATED.to_ne_bytes()), compare(Compare::Unequal, &[0; 4])]
}

/// Who is in the sets, for what ends the flows of those who are not.
pub(in super::super) fn senders(outward: Option<&Outward>) -> BTreeSet<IpAddr> {
    outward.map(|outward| outward.from.clone()).unwrap_or_default()
}
