//! What this node dropped, for its own page and for other nodes that ask.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::answers;
use super::super::mdns_counts::{MdnsCounts, reason};
use super::advice;
use super::counted::{Counted, Counting, at_port};
use crate::cluster::{Cluster, DropsRequest, ToldDrop, ToldDrops};
use crate::dns::Dns;
use crate::kernel::{Dropped, PortDrops};
use crate::model::{EndpointName, NetworkId};
use crate::plan::PortName;
use crate::reconcile::{Reconciler, Records};
use crate::zeroconf::Counters;

/// How long it may take to find out what is new.
const PATIENCE: Duration = Duration::from_secs(1);

/// Finds it out.
#[derive(Clone)]
pub struct DropsHere {
    /// Who counts what came of the other nodes.
    pub cluster: Cluster,
    /// Who asks the kernel.
    pub counting: Counting,
    /// Whose endpoints there are.
    pub reconciler: Reconciler,
    /// Who counts questions.
    pub dns: Dns,
    /// What counted mDNS.
    pub mdns: MdnsCounts,
}

impl DropsHere {
    /// All of it: sums first, those of which there are none too, then what came from each endpoint, the most first.
    pub async fn find(&self) -> ToldDrops {
        let (counted, age) = self.counting.within(PATIENCE).await;
        let sums = answers::counters(&self.cluster.stats(), &self.dns.counters(), counted.by_name());
        let mdns = self.mdns.counted();
        let mut of_endpoints = of_ports(&counted, &self.reconciler.records());
        of_endpoints.extend(mdns.iter().flat_map(|(network, counters)| uncarried(*network, counters)));
        of_endpoints.sort_by_key(|drop| Reverse(drop.count));
        let of_node = of_node(sums);
        let of_mdns = mdns.iter().flat_map(|(network, counters)| of_mdns(*network, counters));
        ToldDrops { age, drops: of_node.chain(of_mdns).chain(of_endpoints).collect() }
    }

    /// Tells other nodes that ask, until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let Some(mut requests) = self.cluster.drops_requests() else { return };
        let serve = async {
            while let Some(DropsRequest { answer }) = requests.recv().await {
                // Whoever asked may wait no longer.
                let _ = answer.send(self.find().await);
            }
        };
        stop.run_until_cancelled(serve).await;
    }
}

fn of_node(sums: BTreeMap<String, u64>) -> impl Iterator<Item = ToldDrop> {
    let drops = sums.into_iter().filter(|(name, _)| advice::of(name).is_some());
    drops.map(|(reason, count)| ToldDrop { reason, network: None, endpoint: None, count })
}

/// Those of which there are some: there are as many kinds in each network.
fn of_mdns(network: NetworkId, counters: &Counters) -> impl Iterator<Item = ToldDrop> {
    let discarded =
        counters.discarded.iter().map(|(why, count)| (format!("mdns_dropped_{}", reason(*why)), *count));
    let uncarried = counters.uncarried.iter().map(|(_, count)| count).sum();
    let others = [("mdns_contested", counters.contested), ("mdns_uncarried", uncarried)];
    let others = others.map(|(name, count)| (name.to_owned(), count));
    let some = discarded.chain(others).filter(|(_, count)| *count > 0);
    some.map(move |(reason, count)| ToldDrop { reason, network: Some(network), endpoint: None, count })
}

fn uncarried(network: NetworkId, counters: &Counters) -> Vec<ToldDrop> {
    let mut of_endpoints: BTreeMap<&EndpointName, u64> = BTreeMap::new();
    for (what, count) in counters.uncarried.iter() {
        *of_endpoints.entry(&what.endpoint).or_default() += count;
    }
    let told = |(name, count)| of_endpoint("mdns_uncarried".to_owned(), network, name, count);
    of_endpoints.into_iter().map(told).collect()
}

fn of_ports(counted: &Counted, records: &Records) -> Vec<ToldDrop> {
    let mut told = Vec::new();
    for key in records.keys() {
        let (network, name) = (key.network, &key.name);
        let Some(Dropped { frames, queries }) = counted.dropped.get(&network) else { continue };
        let port = PortName::of(name);
        let frames = frames.get(&port).into_iter().flat_map(PortDrops::some);
        told.extend(frames.map(|(kind, count)| of_endpoint(at_port(kind), network, name, count)));
        let queries = queries.get(&port).copied().filter(|count| *count > 0);
        told.extend(
            queries.map(|count| of_endpoint("dns_limited_in_kernel".to_owned(), network, name, count)),
        );
    }
    told
}

fn of_endpoint(reason: String, network: NetworkId, name: &EndpointName, count: u64) -> ToldDrop {
    ToldDrop { reason, network: Some(network), endpoint: Some(name.clone()), count }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Stats;
    use crate::dns;
    use crate::kernel::DropKind;
    use crate::zeroconf::Discard;

    /// What is counted and is no drop.
    const OTHERS: [&str; 17] = [
        "bytes_in",
        "bytes_out",
        "datagrams_in",
        "datagrams_out",
        "dns_cached",
        "dns_forwarded",
        "dns_nxdomain",
        "dns_tcp",
        "dns_truncated",
        "dns_udp",
        "dns_zone",
        "joins",
        "members",
        "rejoins",
        "stream_bytes",
        "syncs",
        "syncs_served",
    ];

    #[test]
    fn of_all_that_is_counted_it_is_settled_whether_it_is_a_drop_and_each_drop_has_an_advice() {
        let all =
            answers::counters(&Stats::default(), &dns::Counters::default(), Counted::default().by_name());
        let others: Vec<&str> =
            all.keys().map(String::as_str).filter(|name| advice::of(name).is_none()).collect();
        assert_eq!(others, OTHERS);
        let whole = Counters { discarded: Discard::ALL.map(|why| (why, 1)).into(), ..Counters::default() };
        for drop in of_mdns(NetworkId::from_bytes([1; 8]), &whole) {
            assert!(advice::of(&drop.reason).is_some(), "{}", drop.reason);
        }
        assert!(DropKind::ALL.into_iter().all(|kind| advice::of(&at_port(kind)).is_some()));
    }
}
