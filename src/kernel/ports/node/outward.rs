//! The rules on the node for what endpoints send outside. It comes through the gate as from what stands for the node, is copied
//! out as if the node had sent it, and gets the address of the interface that it leaves by; nothing is remembered of it
//! here. Its answers are known by their port, unless a connection of the node's own has that, and go through the gate.

use super::super::super::nft::{
    self, Base, Compare, NF_ACCEPT, NF_DROP, NF_INET_PRE_ROUTING, NFT_MSG_NEWSETELEM, NFT_SET_MAP, bytes,
    compare, expression, layer_4, masked_with, number, set_mark, verdict,
};
use super::super::super::raw::{attribute, nested};
use super::super::super::routing::octets;
use super::super::doors::Gate;
use super::super::exits::Exits;
use super::super::expr::{
    TYPE_IFNAME, Which, came_by, copy_to, is_elsewhere, is_local, leaves_by, load, state_of_connection,
    writes,
};
use super::super::network::stands_for_the_node;
use super::super::stands::{ANSWER_V4, ANSWER_V6, PING_V4, PING_V6};
use super::{ABOUT, BACK, Content, GATES, OUT, padded, to_gate, unreachable};
use crate::model::OutwardPorts;

/// The address of each interface that leads outside.
const SOURCES: &[u8] = b"sources\0";
const ANSWERS: &[u8] = b"answers\0";
const TOLD: &[u8] = b"told\0";
/// Behind the connection tracking (NF_IP_PRI_CONNTRACK is -200), before everything that goes by it.
const TRACKED: i32 = -190;
/// What is given to packets that may be cut, until they have left: a copy may not be.
const MAY_BE_CUT: u32 = 0x6c6d_6375;
const REGISTER: u32 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

impl Content<'_> {
    /// The map of addresses, before what asks it.
    pub(super) fn sources(&mut self, exits: &Exits) {
        let (kind, length) = (self.kind.address_type, self.kind.length);
        let made = [
            self.table.clone(),
            attribute(2, SOURCES),
            number(3, NFT_SET_MAP),
            number(4, TYPE_IFNAME),
            number(5, 16),
            number(6, kind),
            number(7, length),
            number(10, 5),
        ];
        self.changes.push(self.kind.family.make(nft::NFT_MSG_NEWSET, &made.concat()));
        let elements = exits.of(self.kind.ipv6).map(|(name, address)| {
            let key = nested(1, &[attribute(1, &padded(name))]);
            let value = nested(2, &[attribute(1, &octets(address))]);
            nested(1, &[key, value])
        });
        for elements in elements.collect::<Vec<_>>().chunks(500) {
            let message = [self.table.clone(), attribute(2, SOURCES), nested(3, elements)].concat();
            self.changes.push(self.kind.family.make(NFT_MSG_NEWSETELEM, &message));
        }
    }

    fn stands(&self) -> Vec<u8> {
        octets(stands_for_the_node(self.kind.ipv6))
    }

    /// From a gate to a single host elsewhere; nothing for the node itself.
    pub(super) fn outward(&mut self) {
        let (source, destination, length) = (self.kind.source, self.kind.destination, self.kind.length);
        let stands = self.stands();
        let theirs = || {
            let mut rule = vec![came_by(), nft::is_in(GATES), bytes(Base::Network, source, length)];
            rule.push(compare(Compare::Equal, &stands));
            rule
        };
        if !self.kind.ipv6 {
            let mut cut = theirs();
            cut.extend([
                bytes(Base::Network, 6, 2),
                masked_with([0x40, 0]),
                compare(Compare::Equal, &[0, 0]),
            ]);
            cut.extend([load(REGISTER, &MAY_BE_CUT.to_ne_bytes()), set_mark()]);
            self.rule(BACK, &cut);
        }
        let mut copied = theirs();
        copied.extend(is_elsewhere(Which::Destination));
        copied.extend(copy_to(destination, length));
        copied.push(verdict(NF_DROP));
        self.rule(BACK, &copied);
        let mut rest = theirs();
        rest.push(verdict(NF_DROP));
        self.rule(BACK, &rest);
    }

    /// What was copied out bears an address of the node, by the interface that it leaves by; by others nothing leaves.
    pub(super) fn outward_leaves(&mut self) {
        let (source, length, ipv6) = (self.kind.source, self.kind.length, self.kind.ipv6);
        let stands = self.stands();
        let theirs = || vec![bytes(Base::Network, source, length), compare(Compare::Equal, &stands)];
        let address = || {
            let found = [attribute(1, SOURCES), number(2, REGISTER), number(3, REGISTER)];
            [leaves_by(), expression(b"lookup\0", &found)]
        };
        if !ipv6 {
            let mut cut = theirs();
            cut.extend([nft::mark(), compare(Compare::Equal, &MAY_BE_CUT.to_ne_bytes())]);
            cut.extend([bytes(Base::Network, 6, 2), masked_with([0xbf, 0xff])]);
            cut.push(writes(Base::Network, 6, 2, Some(10), false));
            cut.extend([load(REGISTER, &[0; 4]), set_mark()]);
            self.rule(OUT, &cut);
        }
        // What is told about an answer has that in it, as it was when it came: to the node's address.
        let at = ABOUT + self.kind.destination;
        for is_error in unreachable(ipv6) {
            let mut told = theirs();
            told.extend(is_error);
            told.extend(address());
            told.push(writes(Base::Transport, at, length, Some(self.sum_of_told()), false));
            self.rule(OUT, &told);
        }
        let mut leaves = theirs();
        leaves.extend(address());
        leaves.push(self.writes_address(source));
        self.rule(OUT, &leaves);
        let mut rest = theirs();
        rest.push(verdict(NF_DROP));
        self.rule(OUT, &rest);
    }

    /// Answers, and what routers tell about what was sent.
    pub(super) fn outward_answers(&mut self, ports: &[(OutwardPorts, &Gate)]) {
        self.chain(TOLD, None);
        self.chain(ANSWERS, Some((NF_INET_PRE_ROUTING, TRACKED)));
        let (ipv6, destination) = (self.kind.ipv6, self.kind.destination);
        let (icmp, answer, ping) = if ipv6 { (58, ANSWER_V6, PING_V6) } else { (1, ANSWER_V4, PING_V4) };
        // What the node itself, or somebody by its translation, has a connection for.
        const KNOWN: u32 = 1 << 1 | 1 << 2;
        let known = [
            state_of_connection(),
            masked_with(KNOWN.to_ne_bytes()),
            compare(Compare::Unequal, &[0; 4]),
            verdict(NF_ACCEPT),
        ];
        self.rule(ANSWERS, &known);
        let mut told = vec![layer_4(), compare(Compare::Equal, &[icmp])];
        told.extend(is_local(Which::Destination));
        told.push(nft::goto(TOLD));
        self.rule(ANSWERS, &told);
        // Who begins a connection does not answer.
        let begins = [
            layer_4(),
            compare(Compare::Equal, &[TCP]),
            bytes(Base::Transport, 13, 1),
            masked_with([0x12]),
            compare(Compare::Equal, &[0x02]),
            verdict(NF_ACCEPT),
        ];
        self.rule(ANSWERS, &begins);
        let stands = self.stands();
        for (ports, gate) in ports {
            let within = |offset: u32| {
                let loaded = || bytes(Base::Transport, offset, 2);
                [
                    loaded(),
                    compare(Compare::AtLeast, &ports.first.to_be_bytes()),
                    loaded(),
                    compare(Compare::AtMost, &ports.last.to_be_bytes()),
                ]
            };
            let through = |content: &Self| {
                [load(REGISTER, &stands), content.writes_address(destination), nft::goto(&to_gate(gate))]
            };
            for protocol in [TCP, UDP] {
                let mut answers = vec![layer_4(), compare(Compare::Equal, &[protocol])];
                answers.extend(within(2));
                answers.extend(is_local(Which::Destination));
                answers.extend(through(self));
                self.rule(ANSWERS, &answers);
            }
            let mut pinged = vec![bytes(Base::Transport, 0, 1), compare(Compare::Equal, &[answer])];
            pinged.extend(within(4));
            pinged.extend(through(self));
            self.rule(TOLD, &pinged);
            // An error has the packet that it is about behind its eight bytes (RFC 792, RFC 4443).
            let (errors, protocol, sender, ports): (&[u8], u32, u32, u32) =
                if ipv6 { (&[1, 2, 3], 8 + 6, 8 + 8, 8 + 40) } else { (&[3, 11], 8 + 9, 8 + 12, 8 + 20) };
            for (error, of) in errors.iter().flat_map(|error| [TCP, UDP, icmp].map(|of| (*error, of))) {
                let mut told = vec![bytes(Base::Transport, 0, 1), compare(Compare::Equal, &[error])];
                if !ipv6 {
                    // Without options.
                    told.extend([bytes(Base::Transport, 8, 1), compare(Compare::Equal, &[0x45])]);
                }
                told.extend([bytes(Base::Transport, protocol, 1), compare(Compare::Equal, &[of])]);
                if of == icmp {
                    told.extend([bytes(Base::Transport, ports, 1), compare(Compare::Equal, &[ping])]);
                    told.extend(within(ports + 4));
                } else {
                    told.extend(within(ports));
                }
                told.push(load(REGISTER, &stands));
                told.push(writes(Base::Transport, sender, self.kind.length, Some(self.sum_of_told()), false));
                told.extend(through(self));
                self.rule(TOLD, &told);
            }
        }
    }
}
