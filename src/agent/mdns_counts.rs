//! What mDNS counted in each network, for whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{NetworkId, NetworkName};
use crate::zeroconf::{Counters, Uncarried};

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

    /// By network, and by the name of what was counted.
    pub fn by_network(&self) -> BTreeMap<NetworkName, BTreeMap<String, u64>> {
        self.lock().values().map(|(name, counters)| (name.clone(), by_name(counters))).collect()
    }
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
    let dropped =
        discarded.iter().map(|(why, count)| (format!("dropped_{}", why.as_str().replace('-', "_")), *count));
    let uncarried = uncarried.iter().map(|(what, count)| {
        let Uncarried { endpoint, name, kind } = what;
        (format!("uncarried {endpoint} {name} {kind}"), count)
    });
    plain.chain(dropped).chain(uncarried).collect()
}
