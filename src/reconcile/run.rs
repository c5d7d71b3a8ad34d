//! Carries the schedule out: hears what happens, and makes the passes when they are due.

use std::net::IpAddr;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::Reconciler;
use super::schedule::{Event, Schedule, Task};
use super::underlay::vteps;
use crate::kernel::KernelEvent;
use crate::model::ClusterView;

impl Reconciler {
    /// Keeps at it until `stop`. Subscribes to the kernel before the first pass, so that nothing falls between.
    pub async fn run(self, stop: CancellationToken) {
        let mut events = self.subscribe().await;
        let mut views = self.0.peers.view();
        let mut silent = self.0.silent.subscribe();
        let mut secrets = self.0.peers.mesh_secret();
        let mut schedule = Schedule::new(self.now());
        let mut known = vteps(&views.borrow());
        loop {
            let due = self.0.started + schedule.due();
            let event = tokio::select! {
                () = stop.cancelled() => return,
                // Whoever changes these is gone only when all of this is about to be stopped.
                changed = changed(&mut views) => {
                    if !changed {
                        return;
                    }
                    news(&views.borrow_and_update(), &mut known)
                }
                changed = changed(&mut silent) => if changed { Event::World } else { return },
                changed = changed(&mut secrets) => if changed { Event::World } else { return },
                () = self.0.behind.notified() => Event::World,
                event = events.recv() => match event {
                    Some(event) => Event::Kernel(event),
                    None => {
                        // The connection broke.
                        events = self.subscribe().await;
                        Event::Deaf
                    }
                },
                () = sleep_until(due.into()) => {
                    while let Some(task) = schedule.take(self.now()) {
                        if let Some(event) = self.carry_out(task).await {
                            schedule.event(event, self.now());
                        }
                    }
                    continue;
                }
            };
            schedule.event(event, self.now());
        }
    }

    async fn carry_out(&self, task: Task) -> Option<Event> {
        match task {
            Task::FollowUnderlay => self.follow_underlay().await,
            Task::Pass { full, heard } => return Some(Event::Passed(self.pass_due(full, &heard).await)),
        }
        None
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

/// What it is that the cluster knows something else: whether there are other nodes than were `known`, or elsewhere.
fn news(view: &ClusterView, known: &mut Vec<IpAddr>) -> Event {
    let now = vteps(view);
    if now == *known {
        return Event::World;
    }
    *known = now;
    Event::Nodes
}

async fn changed<T>(watched: &mut watch::Receiver<T>) -> bool {
    watched.changed().await.is_ok()
}
