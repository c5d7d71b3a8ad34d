//! What the guard of an endpoint's port drops, as an event: software that moves addresses by itself (keepalived, a DHCP client,
//! a router) would fail without a word.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::api::{EventKind, EventLog, EventObject};
use crate::cluster::Cluster;
use crate::kernel::{DropKind, Linux, PortDrops};
use crate::model::{EndpointKey, NetworkId, NetworkSpec, SpoofingMode};
use crate::plan::PortName;
use crate::reconcile::Reconciler;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);

/// What an endpoint may be allowed, if somebody means it.
const OF_ADDRESSES: [DropKind; 3] = [DropKind::Mac, DropKind::Address, DropKind::Neighbour];

/// Tells of each endpoint of this node once, when something of it is dropped for the first time, until `stop`.
pub async fn tell(
    log: EventLog,
    cluster: Cluster,
    reconciler: Reconciler,
    kernel: Linux,
    stop: CancellationToken,
) {
    let mut told: BTreeSet<EndpointKey> = BTreeSet::new();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        let records = reconciler.records();
        told.retain(|key| records.contains_key(key));
        let view = cluster.view().borrow().clone();
        let untold = || records.keys().filter(|key| !told.contains(*key));
        let may_not = |id: &NetworkId| {
            let network = view.networks.get(id);
            network.is_some_and(|network| network.spec.options.spoofing != SpoofingMode::Allow)
        };
        let networks: BTreeSet<_> = untold().map(|key| key.network).filter(may_not).collect();
        let mut found = Vec::new();
        for (id, dropped) in kernel.dropped(networks).await {
            let Some(network) = view.networks.get(&id) else { continue };
            let of_port = |key: &EndpointKey| {
                let drops = dropped.frames.get(&PortName::of(&key.name))?;
                Some((key.clone(), sentence(&network.spec, key, drops)?))
            };
            let of_network = untold().filter(|key| key.network == id);
            found.extend(of_network.filter_map(of_port).map(|(key, text)| (network, key, text)));
        }
        for (network, key, text) in found {
            tracing::warn!(network = %network.spec.name, endpoint = %key.name, "{text}");
            let object = EventObject {
                node: view.myself().map(|me| me.name.clone()),
                network: Some(network.spec.name.clone()),
                endpoint: Some(key.name.clone()),
            };
            log.publish(EventKind::Alarm, object, text);
            told.insert(key);
        }
    }
}

fn sentence(spec: &NetworkSpec, key: &EndpointKey, drops: &PortDrops) -> Option<String> {
    let of_addresses = OF_ADDRESSES.into_iter().filter_map(|kind| {
        let count = drops.of(kind);
        (count > 0).then(|| format!("{} {count}", kind.name()))
    });
    let counts: Vec<String> = of_addresses.collect();
    let (name, network) = (&key.name, &spec.name);
    (!counts.is_empty()).then(|| {
        format!(
            "endpoint {name} sends from addresses that it was not given, and that is dropped ({}): if it is meant to, \
             attach it anew with --also-address ADDR (and --also-mac MAC), or let all of the network do so with \
             `lanmesh network set {network} --spoofing allow`; `lanmesh endpoint ls {network}` counts it",
            counts.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    #[test]
    fn what_may_be_allowed_is_told_with_how_and_what_may_not_is_not() {
        let id = NetworkId::from_bytes([1; 8]);
        let spec = testing::network(id);
        let key = EndpointKey { network: id, name: "vrrp".parse().unwrap() };
        let drops: PortDrops =
            [(DropKind::Address, 3), (DropKind::Neighbour, 0), (DropKind::Lldp, 9)].into_iter().collect();
        let text = sentence(&spec, &key, &drops).unwrap();
        assert!(text.contains("endpoint vrrp") && text.contains("(address 3)"), "{text}");
        assert!(text.contains(&format!("network set {} --spoofing allow", spec.name)), "{text}");
        assert!(text.contains("--also-address ADDR"), "{text}");
        assert_eq!(sentence(&spec, &key, &[(DropKind::Lldp, 9)].into_iter().collect()), None);
    }
}
