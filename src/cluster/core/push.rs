//! What is sent at once when something changes, and the summary that follows it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Core, FAN_OUT, Output};
use crate::cluster::facts::{Delta, Scope};
use crate::cluster::ledger::Claim;
use crate::cluster::version::Protocols;
use crate::cluster::wire::{self, Datagram};
use crate::model::NodeId;

/// How many of those that were sent a change get a summary soon after, so that a lost one is missed at once.
const ECHOES: usize = 4 * FAN_OUT;

impl Core {
    /// Seals a message and sends it; one that does not fit a datagram is not sent.
    pub(super) fn send(&mut self, to: SocketAddr, message: &Datagram, now: Duration) {
        let Some(body) = wire::encode_datagram(message) else { return };
        let version = self.version_at(to);
        if let Some(sealed) = self.keyring.seal(version, self.facts.incarnation(), &body, now) {
            self.stats.datagrams_out += 1;
            self.stats.bytes_out += sealed.len() as u64;
            self.out.push_back(Output::Datagram(to, sealed));
        }
    }

    /// The version that is spoken with whoever listens at an address: what was heard from it last, or what it says of
    /// itself; with somebody unknown the lowest, which most can read.
    fn version_at(&self, to: SocketAddr) -> u8 {
        let Protocols { lowest, highest } = self.protocols;
        if lowest == highest {
            return highest;
        }
        let listens = |node: &NodeId| self.address(*node) == Some(to);
        let node = self.ledger.nodes().map(|admission| admission.node).find(listens);
        let heard = node.and_then(|node| self.spoken.get(&node).copied());
        let said = || {
            let (lowest, highest) = self.said(node?)?.protocols;
            (highest > 0).then_some(Protocols { lowest, highest })
        };
        heard.or_else(said).and_then(|theirs| self.protocols.with(theirs).ok()).unwrap_or(lowest)
    }

    /// Sends changes of this node's documents to whom they concern, at once.
    pub(super) fn push(&mut self, delta: Delta, now: Duration) {
        let scope = delta.scope;
        let mut message = Datagram::Facts(vec![delta]);
        if wire::encode_datagram(&message).is_none() {
            // Too large: they see that they lack something, and come for it.
            message = Datagram::Summary(self.summary_for_datagram());
        }
        for node in self.up() {
            let concerned = match scope {
                Scope::Node => true,
                Scope::Network(network) => {
                    self.node_fact(node).is_some_and(|fact| fact.networks.contains(&network))
                }
            };
            if concerned && let Some(address) = self.address(node) {
                self.send(address, &message, now);
                self.echo_to(node, now);
            }
        }
    }

    /// Sends cluster-wide facts to everybody, at once.
    pub(super) fn push_claims(&mut self, claims: &[Claim], now: Duration) {
        let mut messages: Vec<Datagram> =
            claims.iter().map(|claim| Datagram::Claims(vec![wire::Claim::of(claim)])).collect();
        for message in &mut messages {
            if wire::encode_datagram(message).is_none() {
                *message = Datagram::Summary(self.summary_for_datagram());
            }
        }
        let addresses: Vec<SocketAddr> =
            self.up().into_iter().filter_map(|node| self.address(node)).collect();
        for address in addresses {
            for message in &messages {
                self.send(address, message, now);
            }
        }
    }

    /// A change was sent to `node`, or it seems to know something else: compare with it soon.
    pub(super) fn echo_to(&mut self, node: NodeId, now: Duration) {
        let (_, nodes) = self.echo.get_or_insert_with(|| (now + self.timing.detect / 8, BTreeSet::new()));
        if nodes.len() < ECHOES {
            nodes.insert(node);
        }
    }

    /// Sends a summary to some of those that were sent changes lately.
    pub(super) fn send_echo(&mut self, now: Duration) {
        if self.echo.as_ref().is_none_or(|(due, _)| now < *due) {
            return;
        }
        let Some((_, nodes)) = self.echo.take() else { return };
        let message = Datagram::Summary(self.summary_for_datagram());
        for node in nodes {
            if let Some(address) = self.address(node) {
                self.send(address, &message, now);
            }
        }
    }
}
