//! What mDNS counted in each network, for whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::{Collect, Page};
use crate::model::{NetworkId, NetworkName};
use crate::zeroconf::{Counters, Discard, Uncarried};

/// What the engines of all networks have counted.
#[derive(Debug, Clone, Default)]
pub struct MdnsCounts(Arc<Mutex<BTreeMap<NetworkId, (NetworkName, Counters)>>>);

impl MdnsCounts {
    /// Counts from nothing for a network.
    pub fn begin(&self, network: NetworkId, name: &NetworkName) {
        self.lock().insert(network, (name.clone(), Counters::default()));
    }

    /// What its engine has counted so far.
    pub fn set(&self, network: NetworkId, now: Counters) {
        if let Some((_, counters)) = self.lock().get_mut(&network) {
            *counters = now;
        }
    }

    /// Forgets a network.
    pub fn end(&self, network: NetworkId) {
        self.lock().remove(&network);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NetworkId, (NetworkName, Counters)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By network.
    pub fn counted(&self) -> BTreeMap<NetworkId, Counters> {
        self.lock().iter().map(|(network, (_, counters))| (*network, counters.clone())).collect()
    }

    /// By network, and by the name of what was counted.
    pub fn by_network(&self) -> BTreeMap<NetworkName, BTreeMap<String, u64>> {
        self.lock().values().map(|(name, counters)| (name.clone(), by_name(counters))).collect()
    }
}

impl Collect for MdnsCounts {
    fn collect(&self, page: &mut Page) {
        // Of two networks with one name, which a cut may leave, one is told.
        let counted: BTreeMap<NetworkName, Counters> = self.lock().values().cloned().collect();
        let mut packets =
            page.counter("lanmesh_mdns_packets_total", "Packets of mDNS that the agent took and sent.");
        for (network, counters) in &counted {
            packets.sample(&[("network", network.as_str()), ("direction", "received")], counters.received);
            packets.sample(&[("network", network.as_str()), ("direction", "sent")], counters.sent);
        }
        let mut messages =
            page.counter("lanmesh_mdns_messages_total", "Messages of mDNS of endpoints that were looked at.");
        for (network, counters) in &counted {
            messages.sample(&[("network", network.as_str()), ("kind", "query")], counters.queries);
            messages.sample(&[("network", network.as_str()), ("kind", "response")], counters.responses);
        }
        let help = "Packets and records of mDNS that were dropped, by why.";
        let mut dropped = page.counter("lanmesh_mdns_dropped_total", help);
        for (network, counters) in &counted {
            for (why, count) in &counters.discarded {
                let reason = reason(*why);
                dropped.sample(&[("network", network.as_str()), ("reason", &reason)], count);
            }
        }
        let help = "What was not said since somebody else had: answers (suppressed) and questions (unasked).";
        let mut spared = page.counter("lanmesh_mdns_spared_total", help);
        for (network, counters) in &counted {
            spared.sample(&[("network", network.as_str()), ("kind", "suppressed")], counters.suppressed);
            spared.sample(&[("network", network.as_str()), ("kind", "unasked")], counters.unasked);
        }
        let help =
            "Records that were doubted, names that were defended, had to be changed, or were another's.";
        let mut conflicts = page.counter("lanmesh_mdns_conflicts_total", help);
        for (network, counters) in &counted {
            for (kind, count) in [
                ("doubted", counters.doubted),
                ("defended", counters.conflicts),
                ("renamed", counters.renamed),
                ("contested", counters.contested),
            ] {
                conflicts.sample(&[("network", network.as_str()), ("kind", kind)], count);
            }
        }
    }
}

/// Why something was dropped, in the words of the counters.
pub fn reason(why: Discard) -> String {
    why.as_str().replace('-', "_")
}

fn by_name(counters: &Counters) -> BTreeMap<String, u64> {
    let Counters {
        received,
        queries,
        responses,
        discarded,
        sent,
        suppressed,
        unasked,
        doubted,
        conflicts,
        renamed,
        contested,
        uncarried,
    } = counters;
    let plain = [
        ("received", received),
        ("queries", queries),
        ("responses", responses),
        ("sent", sent),
        ("suppressed", suppressed),
        ("unasked", unasked),
        ("doubted", doubted),
        ("conflicts", conflicts),
        ("renamed", renamed),
        ("contested", contested),
    ];
    let plain = plain.into_iter().map(|(name, count)| (name.to_owned(), *count));
    let dropped = discarded.iter().map(|(why, count)| (format!("dropped_{}", reason(*why)), *count));
    let uncarried = uncarried.iter().map(|(what, count)| {
        let Uncarried { endpoint, name, kind } = what;
        (format!("uncarried {endpoint} {name} {kind}"), count)
    });
    plain.chain(dropped).chain(uncarried).collect()
}
