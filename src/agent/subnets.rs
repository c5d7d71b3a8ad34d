//! Endpoints that are there when the subnets of their network become others: each has one address of each of them.
//!
//! Owns: whose addresses are not these, and when they are looked for. Does not own: which address (`local`), the interface (`reconcile`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::borrowing::Borrowing;
use crate::cluster::Cluster;
use crate::local::LeaseError;
use crate::model::{ClusterView, Endpoint, EndpointKey, NetworkSpec};
use crate::reconcile::Reconciler;

/// Gives this node's endpoints an address of each subnet that their network has, until it is stopped.
pub async fn follow(reconciler: Reconciler, cluster: Cluster, borrowing: Borrowing, stop: CancellationToken) {
    let mut views = cluster.view();
    // Who could not be given one, of which subnets, and when: not tried again before these are others, or a while later.
    let mut without: BTreeMap<EndpointKey, (Vec<IpNetwork>, Instant)> = BTreeMap::new();
    loop {
        let view = views.borrow_and_update().clone();
        for network in view.networks.values() {
            let spec = &network.spec;
            let records = reconciler.records();
            let tried = |key: &EndpointKey| without.get(key).is_some_and(|(of, _)| *of == spec.subnets);
            let of_network = records.iter().filter(|(key, _)| key.network == spec.id);
            let mut lacking: Vec<EndpointKey> = of_network
                .filter(|(key, record)| !has_one_of_each(spec, &record.endpoint) && !tried(key))
                .map(|(key, _)| key.clone())
                .collect();
            let now = Instant::now();
            let failed = |key: EndpointKey| (key, (spec.subnets.clone(), now));
            while !lacking.is_empty() {
                let view = cluster.view().borrow().clone();
                let left = complete(&reconciler, &view, spec, lacking).await;
                without.extend(left.failed.into_iter().map(failed));
                lacking = left.keys;
                let Some((subnet, why)) = left.exhausted else { break };
                if let Err(error) = borrowing.begin().borrow(spec.id, subnet, &why).await {
                    tracing::warn!(network = %spec.name, %error, "no address in an added subnet");
                    without.extend(lacking.into_iter().map(failed));
                    break;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
            () = sleep(AGAIN), if !without.is_empty() => {}
        }
        without.retain(|_, (_, at)| at.elapsed() < AGAIN);
    }
}

/// How long after it could not be done it is tried again.
const AGAIN: Duration = Duration::from_secs(20);

fn has_one_of_each(spec: &NetworkSpec, endpoint: &Endpoint) -> bool {
    let has = |subnet: &IpNetwork| endpoint.addresses.iter().any(|address| subnet.contains(address.ip()));
    endpoint.addresses.len() == spec.subnets.len() && spec.subnets.iter().all(has)
}

/// Who still lacks an address.
#[derive(Default)]
struct Left {
    /// Those for which there is none.
    failed: Vec<EndpointKey>,
    /// Those for which this node has none left, and could borrow.
    keys: Vec<EndpointKey>,
    /// In which subnet it has none left, and a sentence that says so.
    exhausted: Option<(IpNetwork, String)>,
}

/// Gives endpoints what they lack.
async fn complete(
    reconciler: &Reconciler,
    view: &Arc<ClusterView>,
    spec: &NetworkSpec,
    lacking: Vec<EndpointKey>,
) -> Left {
    let mut left = Left::default();
    let Some(me) = view.myself() else { return left };
    let endpoints = view.networks.get(&spec.id).map(|network| &network.endpoints);
    let others = endpoints.into_iter().flatten().filter(|(node, _)| **node != view.me);
    let addresses = others.flat_map(|(_, endpoints)| endpoints.values()).flat_map(|other| &other.addresses);
    let taken: BTreeSet<IpAddr> = addresses.map(IpNetwork::ip).collect();
    let mut work = reconciler.work().await;
    for key in lacking {
        let Some(mut record) = work.local.endpoints.get(&key).cloned() else { continue };
        let opened = work.local.open_leases(spec, me.index, view);
        let given = opened
            .and_then(|()| work.local.leases.complete(spec, &record.endpoint, |ip| taken.contains(&ip)));
        let given = match given {
            Ok(given) => given,
            Err(error) => {
                let exhausted = if let LeaseError::Full(full) = &error { full.exhausted() } else { None };
                if exhausted.is_some() {
                    left.exhausted = exhausted;
                    left.keys.push(key);
                } else {
                    tracing::warn!(network = %spec.name, endpoint = %key.name, %error, "no address in an added subnet");
                    left.failed.push(key);
                }
                continue;
            }
        };
        record.endpoint.addresses = given;
        if let Err(error) = reconciler.change(&mut work, &record).await {
            tracing::warn!(network = %spec.name, endpoint = %key.name, %error, "no address in an added subnet");
            left.failed.push(key);
        }
    }
    reconciler.catch_up(&mut work).await;
    left
}
