//! When a pass is made: at the start, when the cluster or the kernel changes, every so often, and again after a
//! failure.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Reconciler, Scope, is_settled};
use crate::kernel::KernelEvent;

/// How often everything is looked at although nothing was heard.
const PERIOD: Duration = Duration::from_secs(30);
/// How long changes are gathered before a pass: facts come in bursts.
const GATHER: Duration = Duration::from_millis(3);
/// How long the kernel's own news are gathered: each of our passes makes some.
const GATHER_KERNEL: Duration = Duration::from_millis(200);
/// How long an address stays away that is put back at once, or changed by taking it away first.
const GATHER_ADDRESSES: Duration = Duration::from_millis(500);
/// The first wait after a failure; doubled up to `PERIOD`.
const RETRY: Duration = Duration::from_millis(500);
/// How long entries that nobody vouches for stay after a start, at most.
const SETTLE: Duration = Duration::from_secs(30);

impl Reconciler {
    /// Keeps at it until `stop`. Subscribes to the kernel before the first pass, so that nothing falls between.
    pub async fn run(self, stop: CancellationToken) {
        let mut events = self.subscribe().await;
        let mut views = self.0.cluster.view();
        let mut silent = self.0.silent.subscribe();
        let mut next_full = Instant::now();
        let mut next_partial: Option<Instant> = None;
        let mut secrets = self.0.cluster.mesh_secret();
        let mut dirty = BTreeSet::new();
        let mut mesh_dirty = false;
        let mut follow_at: Option<Instant> = None;
        let mut retry = RETRY;
        loop {
            let wake = next_partial.map_or(next_full, |at| at.min(next_full));
            tokio::select! {
                () = stop.cancelled() => return,
                changed = views.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    sooner(&mut next_partial, GATHER);
                    continue;
                }
                changed = silent.changed() => {
                    // The sender lives as long as this.
                    if changed.is_ok() {
                        sooner(&mut next_partial, GATHER);
                    }
                    continue;
                }
                changed = secrets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    sooner(&mut next_partial, GATHER);
                    continue;
                }
                event = events.recv() => {
                    match event {
                        // The pass finds out whether the container went too.
                        Some(KernelEvent::PortGone { network, .. }) => {
                            dirty.insert(network);
                            sooner(&mut next_partial, GATHER);
                        }
                        Some(KernelEvent::LinkChanged { network }) => {
                            dirty.insert(network);
                            sooner(&mut next_partial, GATHER_KERNEL);
                        }
                        Some(KernelEvent::MeshChanged) => {
                            mesh_dirty = true;
                            sooner(&mut next_partial, GATHER);
                        }
                        Some(KernelEvent::UnderlayChanged { mtu }) => self.underlay_changed(mtu).await,
                        Some(KernelEvent::AddressesChanged) => sooner(&mut follow_at, GATHER_ADDRESSES),
                        Some(KernelEvent::Lost) => next_full = Instant::now(),
                        None => {
                            // The connection broke: what happened since is seen by a full pass.
                            events = self.subscribe().await;
                            next_full = Instant::now() + RETRY;
                        }
                    }
                    continue;
                }
                () = sleep_until(follow_at.unwrap_or(wake)), if follow_at.is_some() => {
                    follow_at = None;
                    self.follow_underlay().await;
                    continue;
                }
                () = sleep_until(wake) => {}
            }
            let full = Instant::now() >= next_full;
            if full {
                self.follow_underlay().await;
            }
            let scope = if full { Scope::Everything } else { Scope::Changed(std::mem::take(&mut dirty)) };
            let (well, again, fresh) = self.one(scope, std::mem::take(&mut mesh_dirty)).await;
            next_partial = fresh;
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

    /// One pass: whether all went well, when a full one is due at the latest, and when one is over what changed.
    async fn one(&self, scope: Scope, mesh_dirty: bool) -> (bool, Option<Instant>, Option<Instant>) {
        let mut work = self.work().await;
        if mesh_dirty {
            work.mesh.look();
        }
        let was_settled = work.settled;
        self.settle(&mut work);
        let scope = if work.settled && !was_settled { Scope::Everything } else { scope };
        if scope == Scope::Everything {
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
        let soon = work.fresh.next().into_iter().chain(work.mesh.wake()).min();
        (well, again, soon.map(Instant::from_std))
    }

    /// Notes when everybody has been heard. Until then entries for unknown endpoints stay: after a restart the
    /// kernel knows more than the agent.
    fn settle(&self, work: &mut super::Work) {
        let age = work.started.elapsed();
        let heard = age >= 2 * self.0.settings.detect && is_settled(&self.view());
        work.settled |= heard || age >= SETTLE;
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

/// Makes the next pass come after `wait`, unless it is due before.
fn sooner(next: &mut Option<Instant>, wait: Duration) {
    let at = Instant::now() + wait;
    *next = Some(next.map_or(at, |next| next.min(at)));
}
