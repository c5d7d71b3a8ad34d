//! When a pass is made: at the start, when the cluster or the kernel changes, every so often, and again after a
//! failure.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Reconciler, Scope, is_settled};
use crate::kernel::{KernelError, KernelEvent};
use crate::model::EndpointKey;

/// How often everything is looked at although nothing was heard.
const PERIOD: Duration = Duration::from_secs(30);
/// How long changes are gathered before a pass: facts come in bursts.
const GATHER: Duration = Duration::from_millis(3);
/// How long the kernel's own news are gathered: each of our passes makes some.
const GATHER_KERNEL: Duration = Duration::from_millis(200);
/// The first wait after a failure; doubled up to `PERIOD`.
const RETRY: Duration = Duration::from_millis(500);
/// How long entries that nobody vouches for stay after a start, at most.
const SETTLE: Duration = Duration::from_secs(30);

impl Reconciler {
    /// Keeps at it until `stop`. Subscribes to the kernel before the first pass, so that nothing falls between.
    pub async fn run(self, stop: CancellationToken) {
        let mut events = self.subscribe().await;
        let mut views = self.0.cluster.view();
        let mut next_full = Instant::now();
        let mut next_partial: Option<Instant> = None;
        let mut dirty = BTreeSet::new();
        let mut retry = RETRY;
        loop {
            let wake = next_partial.map_or(next_full, |at| at.min(next_full));
            tokio::select! {
                () = stop.cancelled() => return,
                changed = views.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    next_partial.get_or_insert(Instant::now() + GATHER);
                    continue;
                }
                event = events.recv() => {
                    match event {
                        Some(KernelEvent::PortGone { network, name }) => {
                            self.port_gone(EndpointKey { network, name }).await;
                            dirty.insert(network);
                            next_partial.get_or_insert(Instant::now() + GATHER);
                        }
                        Some(KernelEvent::LinkChanged { network }) => {
                            dirty.insert(network);
                            next_partial.get_or_insert(Instant::now() + GATHER_KERNEL);
                        }
                        Some(KernelEvent::UnderlayChanged { mtu }) => self.underlay_changed(mtu).await,
                        Some(KernelEvent::Lost) => next_full = Instant::now(),
                        None => {
                            // The connection broke: what happened since is seen by a full pass.
                            events = self.subscribe().await;
                            next_full = Instant::now() + RETRY;
                        }
                    }
                    continue;
                }
                () = sleep_until(wake) => {}
            }
            let full = Instant::now() >= next_full;
            next_partial = None;
            let scope = if full { Scope::Everything } else { Scope::Changed(std::mem::take(&mut dirty)) };
            let (well, again) = self.one(scope).await;
            if full {
                dirty.clear();
                next_full = Instant::now() + PERIOD;
            }
            if let Some(again) = again {
                next_full = next_full.min(again);
            }
            if well {
                retry = RETRY;
            } else {
                next_full = next_full.min(Instant::now() + retry);
                retry = (retry * 2).min(PERIOD);
            }
        }
    }

    /// One pass: whether all went well, and when a full one is due at the latest.
    async fn one(&self, scope: Scope) -> (bool, Option<Instant>) {
        let mut work = self.work().await;
        let was_settled = work.settled;
        self.settle(&mut work);
        let scope = if work.settled && !was_settled { Scope::Everything } else { scope };
        if scope == Scope::Everything {
            self.lose_vanished(&mut work).await;
            let view = self.view();
            if let Err(error) = work.local.retain_networks(|id| view.networks.contains_key(&id)) {
                tracing::warn!(%error, "cannot forget the leases of networks that are gone");
            }
        }
        let well = match self.pass(&mut work, scope, None).await {
            Ok(failed) => failed.is_empty(),
            Err(error) => {
                tracing::warn!(%error, "cannot see what is in the kernel; it is tried again");
                false
            }
        };
        let mut again = work.next_grace(self.0.settings.grace).map(Instant::from_std);
        if !work.settled {
            let soon = Instant::now() + self.0.settings.detect / 2;
            again = Some(again.map_or(soon, |again| again.min(soon)));
        }
        (well, again)
    }

    /// Notes when everybody has been heard. Until then entries for unknown endpoints stay: after a restart the
    /// kernel knows more than the agent.
    fn settle(&self, work: &mut super::Work) {
        let age = work.started.elapsed();
        let heard = age >= 2 * self.0.settings.detect && is_settled(&self.view());
        work.settled |= heard || age >= SETTLE;
    }

    /// Drops the endpoints whose interface and namespace are both gone although no event said so.
    async fn lose_vanished(&self, work: &mut super::Work) {
        let suspects: Vec<EndpointKey> = work
            .local
            .endpoints
            .iter()
            .filter(|record| !record.has_its_namespace())
            .map(super::LocalEndpoint::key)
            .collect();
        for key in suspects {
            if !self.has_port(&key).await.unwrap_or(true) {
                self.lose(work, &key, GONE).await;
            }
        }
    }

    async fn port_gone(&self, key: EndpointKey) {
        let mut work = self.work().await;
        let Some(record) = work.local.endpoints.get(&key) else { return };
        // The event may be of an earlier interface of the same name; and where only the interface was removed,
        // the next pass makes it again.
        if record.has_its_namespace() || self.has_port(&key).await.unwrap_or(true) {
            return;
        }
        self.lose(&mut work, &key, GONE).await;
    }

    async fn has_port(&self, key: &EndpointKey) -> Result<bool, KernelError> {
        let network = self.0.kernel.observe_network(key.network).await?;
        Ok(network.is_some_and(|network| network.ports.contains_key(&key.name)))
    }

    async fn underlay_changed(&self, mtu: u32) {
        let view = self.view();
        let Some(me) = view.myself() else { return };
        if let Err(error) = self.0.cluster.set_self(me.vtep, mtu).await {
            tracing::warn!(%error, "cannot publish the underlay's new MTU");
        }
    }

    async fn subscribe(&self) -> mpsc::Receiver<KernelEvent> {
        match self.0.kernel.events().await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "cannot follow the kernel; it is looked at every so often instead");
                // A sender that is never dropped: the loop must not spin.
                let (sender, receiver) = mpsc::channel(1);
                tokio::spawn(async move { sender.closed().await });
                receiver
            }
        }
    }
}

const GONE: &str = "its container is gone";
